import {
  closeSync,
  fdatasync,
  fdatasyncSync,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { SigningPurpose } from '../../core/crypto/signer.ts';
import { type Bytes, digest, hex } from '../../core/runtime/bytes.ts';
import { invariant, PkiError } from '../../core/runtime/errors.ts';

// The signer's own log: a line for each signature, on its way to disk before the signature exists.
//
//     SEQUENCE TIME PURPOSE KEY SUBJECT SHA-256 CHAIN
//
// CHAIN is the SHA-256 of the CHAIN before and the line without its own; of the first, of 64 zeros. Files follow each other, each begins
// where the one before it ended. A process that dies loses nothing of it; a loss of power may take lines of the last moments, whose
// certificates are on record.

/** Lines of one file, and octets of one line: subjects and keys are short. */
const [linesMax, lineMax] = [250_000, 1024];
const genesis = '0'.repeat(64);
const nameOf = (first: number): string => `signed-${String(first).padStart(12, '0')}.log`;

export interface LogEntry {
  readonly purpose: SigningPurpose;
  readonly key: string;
  readonly subject: string;
  /** SHA-256 of what is signed, or the digest that is; hex. */
  readonly digest: string;
}

export interface LoggedEntry extends LogEntry {
  readonly sequence: number;
}

/** A log that is not as it was written: says where. */
export class LogAltered extends PkiError {
  constructor(what: string) {
    super('record-unavailable', `the signer’s log is not as it was written: ${what}`);
  }
}

export class SigningLog {
  readonly #folder: string;
  #descriptor: number;
  #lines: number;
  #sequence: number;
  #chain: string;
  /** Half a line could not be taken back: nothing can follow it. */
  #isBroken = false;
  /** Entries of the last file, as it was found. */
  readonly found: readonly LoggedEntry[];

  /** Opens the log, and verifies its last file. Throws `LogAltered`. */
  constructor(folder: string, file = lastFile(folder)) {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    this.#folder = folder;
    const path = join(folder, file ?? nameOf(1));
    this.#descriptor = openSync(path, 'a+', 0o600);
    const text = readFileSync(path, 'utf8');
    const whole = wholeLines(text);
    if (whole.length < text.length) ftruncateSync(this.#descriptor, Buffer.byteLength(whole));
    const before = file === undefined ? genesis : chainBefore(folder, file);
    const walk = walkLines(whole, before, Number(/\d+/.exec(file ?? '1')?.[0]) - 1);
    this.found = walk.entries;
    this.#lines = walk.entries.length;
    this.#sequence = walk.sequence;
    this.#chain = walk.chain;
  }

  /** Signatures so far. */
  get sequence(): number {
    return this.#sequence;
  }

  /** Writes lines in one call; they survive this process from then on. */
  append(entries: readonly LogEntry[], atMs: number): LoggedEntry[] {
    if (this.#isBroken) throw cannotWrite();
    if (this.#lines >= linesMax) this.#nextFile();
    const time = new Date(atMs).toISOString();
    const logged = entries.map((entry, i) => ({ ...entry, sequence: this.#sequence + i + 1 }));
    let chain = this.#chain;
    const lines = logged.map(({ sequence, purpose, key, subject, digest: of }) => {
      const line = `${sequence} ${time} ${purpose} ${key} ${subject} ${of}`;
      invariant(line.length <= lineMax, 'a line of the log is short');
      chain = next(chain, line);
      return `${line} ${chain}\n`;
    });
    const octets = Buffer.from(lines.join(''));
    // Less than all of it is written where the disk is full: then none of it counts.
    const { size: start } = fstatSync(this.#descriptor);
    try {
      if (writeSync(this.#descriptor, octets) !== octets.length) throw new Error('the disk is full');
    } catch (error) {
      this.#isBroken = true;
      ftruncateSync(this.#descriptor, start);
      this.#isBroken = false;
      throw cannotWrite(error);
    }
    this.#chain = chain;
    this.#sequence += logged.length;
    this.#lines += logged.length;
    return logged;
  }

  #nextFile(): void {
    fdatasyncSync(this.#descriptor);
    const file = join(this.#folder, nameOf(this.#sequence + 1));
    const descriptor = openSync(file, 'a', 0o600);
    closeSync(this.#descriptor);
    this.#descriptor = descriptor;
    this.#lines = 0;
  }

  /** Brings what is written to disk. */
  async sync(): Promise<void> {
    await promisify(fdatasync)(this.#descriptor);
  }

  close(): void {
    fdatasyncSync(this.#descriptor);
    closeSync(this.#descriptor);
  }
}

const cannotWrite = (cause?: unknown): PkiError =>
  new PkiError('record-unavailable', 'the signer cannot write its log, and signs nothing', { cause });

/**
 * Verifies all files of a log, also while it is written; gives how many signatures it has, and each entry to `each`. Throws
 * `LogAltered`.
 */
export function verifySigningLog(
  folder: string,
  each: (entry: LoggedEntry) => void = () => undefined,
): number {
  let [chain, sequence] = [genesis, 0];
  for (const file of filesOf(folder)) {
    const walk = walkLines(wholeLines(readFileSync(join(folder, file), 'utf8')), chain, sequence);
    walk.entries.forEach(each);
    ({ chain, sequence } = walk);
  }
  return sequence;
}

/** What is still being written, or was when a process died, stands for no signature. */
const wholeLines = (text: string): string => text.slice(0, text.lastIndexOf('\n') + 1);

const filesOf = (folder: string): string[] =>
  readdirSync(folder)
    .filter((name) => /^signed-\d{12}\.log$/.test(name))
    .sort();

function lastFile(folder: string): string | undefined {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  return filesOf(folder).at(-1);
}

/** The chain with which the file before one ended. */
function chainBefore(folder: string, file: string): string {
  const files = filesOf(folder);
  const before = files[files.indexOf(file) - 1];
  if (before === undefined) {
    if (file !== nameOf(1)) throw new LogAltered(`what comes before ${file} is gone`);
    return genesis;
  }
  const line = readFileSync(join(folder, before), 'utf8').trimEnd().split('\n').at(-1) ?? '';
  return line.split(' ').at(-1) ?? '';
}

const next = (chain: string, line: string): string => hex(digest('sha256', Buffer.from(`${chain}${line}`)));

function walkLines(
  text: string,
  chainBefore: string,
  sequenceBefore: number,
): { readonly entries: LoggedEntry[]; readonly chain: string; readonly sequence: number } {
  let [chain, sequence] = [chainBefore, sequenceBefore];
  const entries: LoggedEntry[] = [];
  for (const line of text.split('\n')) {
    if (line === '') continue;
    const at = line.lastIndexOf(' ');
    chain = next(chain, line.slice(0, at));
    const [number, , purpose, key = '', subject = '', of = ''] = line.split(' ');
    sequence += 1;
    if (Number(number) !== sequence || line.slice(at + 1) !== chain) throw new LogAltered(`line ${sequence}`);
    entries.push({ sequence, purpose: purpose as SigningPurpose, key, subject, digest: of });
  }
  return { entries, chain, sequence };
}

/** SHA-256, hex, as the log names what is signed. */
export const loggedDigest = (form: 'digest' | 'message', octets: Bytes): string =>
  form === 'digest' ? hex(octets) : hex(digest('sha256', octets));
