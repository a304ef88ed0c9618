import { PkiError } from './errors.ts';

// JSON that means one thing to every reader (RFC 7493): UTF-8, no member twice, no lone surrogate, no number beyond what
// all readers keep exact. Beyond that no NUL in a string: databases and loggers differ in what they make of it.

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** The value of a JSON text; `bad-request` names the member that is wrong, and never its content. */
export function parseStrictJson(octets: Uint8Array): unknown {
  let text: string;
  try {
    text = decoder.decode(octets);
  } catch (error) {
    throw new PkiError('bad-request', 'the body is not UTF-8', { cause: error });
  }
  let value: unknown;
  try {
    value = JSON.parse(text, checkMember);
  } catch (error) {
    if (error instanceof PkiError) throw error;
    // The parser's own message would quote the text, which is personal.
    throw new PkiError('bad-request', 'the body is not JSON');
  }
  const twice = repeatedMember(text);
  if (twice !== undefined) throw new PkiError('bad-request', `the member ${shown(twice)} is there twice`);
  return value;
}

const shown = (name: string): string =>
  /^[\x20-\x7e]{1,40}$/.test(name) ? name : 'with a name that is none here';

function checkMember(name: string, value: unknown): unknown {
  if (name === '__proto__') throw new PkiError('bad-request', 'a member is named __proto__');
  const wrong =
    typeof value === 'string'
      ? wrongText(value)
      : typeof value === 'number' && Math.abs(value) > Number.MAX_SAFE_INTEGER
        ? 'a number that is not kept exact'
        : undefined;
  if (wrong !== undefined)
    throw new PkiError('bad-request', `${name === '' ? 'the body' : shown(name)}: ${wrong}`);
  return value;
}

function wrongText(text: string): string | undefined {
  if (text.includes('\0')) return 'a text with a NUL';
  return text.isWellFormed() ? undefined : 'a text with half a character';
}

/** The name of a member that an object of a well-formed JSON text has twice; undefined where none has. */
function repeatedMember(text: string): string | undefined {
  const open: (Set<string> | null)[] = [];
  for (let at = 0; at < text.length; at++) {
    const character = text[at];
    if (character === '{') open.push(new Set());
    else if (character === '[') open.push(null);
    else if (character === '}' || character === ']') open.pop();
    else if (character === '"') {
      const end = endOfString(text, at);
      const members = open.at(-1);
      if (members && isName(text, end)) {
        const name = JSON.parse(text.slice(at, end)) as string;
        if (members.has(name)) return name;
        members.add(name);
      }
      at = end - 1;
    }
  }
  return undefined;
}

/** Where the string that begins there ends. */
function endOfString(text: string, start: number): number {
  for (let at = start + 1; ; at++) {
    if (text[at] === '\\') at++;
    else if (text[at] === '"') return at + 1;
  }
}

/** Whether what follows a string is the colon behind a name. */
function isName(text: string, from: number): boolean {
  let at = from;
  while (' \t\n\r'.includes(text[at] ?? ':')) {
    if (text[at] === undefined) return false;
    at++;
  }
  return text[at] === ':';
}
