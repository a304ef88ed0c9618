// The request in the path of a GET (RFC 6960 appendix A.1). Clients and what stands between them and us write it in more
// ways than one; all are read that can mean one request only.

const base64 = /^[A-Za-z0-9+/]+={0,2}$/;
/** Where a request may begin in a path that has folders before it. */
const beginningsMax = 8;

/**
 * The octets of the request; none where the path is not the base64 of one. Besides plain and percent-encoded base64 these are
 * read: base64url (RFC 4648 §5), a blank in the place of `+`, an encoding that was encoded again, without padding, and
 * slashes or folders before and slashes behind. A `//` that was made `/` is lost, and refused.
 */
export function requestInPath(url: string): Buffer {
  const path = (url.split('?', 1)[0] ?? '').replace(/^\/+/, '');
  const text = percentDecoded(path);
  if (text === undefined) return none;
  const octets = base64.test(text) ? Buffer.from(text, 'base64') : none;
  return isOneSequence(octets) ? octets : healed(text);
}

const none = Buffer.alloc(0);

function healed(text: string): Buffer {
  const again = text.includes('%') ? percentDecoded(text) : text;
  if (again === undefined) return none;
  const plain = again.replaceAll('-', '+').replaceAll('_', '/').replaceAll(' ', '+').replace(/^\/+/, '');
  for (const candidate of candidates(plain)) {
    // The tag of a SEQUENCE in base64.
    if (!candidate.startsWith('M')) continue;
    const octets = base64.test(candidate) ? Buffer.from(candidate, 'base64') : none;
    if (isOneSequence(octets)) return octets;
  }
  return none;
}

/** The whole, then what follows each folder; a slash is a digit of base64 too, so that each is tried with those behind it. */
function* candidates(text: string): Iterable<string> {
  let at = 0;
  for (let tried = 0; tried < beginningsMax; tried++) {
    const candidate = text.slice(at);
    yield candidate;
    const trimmed = candidate.replace(/\/+$/, '');
    for (let slashes = candidate.length - trimmed.length - 1; slashes >= 0; slashes--)
      if (slashes < beginningsMax) yield trimmed + '/'.repeat(slashes);
    const next = text.indexOf('/', at);
    if (next < 0) return;
    at = next + 1;
  }
}

function percentDecoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

/** Whether octets are one DER SEQUENCE and nothing else: what distinguishes a request from one with something around it. */
function isOneSequence(octets: Buffer): boolean {
  const first = octets[1] ?? 0;
  if (octets[0] !== 0x30) return false;
  if (first < 0x80) return octets.length === 2 + first;
  const count = first & 0x7f;
  if (count === 0 || count > 3 || octets.length < 2 + count) return false;
  return octets.length === 2 + count + octets.readUIntBE(2, count);
}
