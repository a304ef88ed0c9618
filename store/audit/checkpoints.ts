import {
  appendFileSync,
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
} from 'node:fs';
import { dirname } from 'node:path';
import type { Logger } from 'pino';
import { suites, verifySignature } from '../../core/asn1/algorithms.ts';
import type { Signer, TokenMemory } from '../../core/crypto/signer.ts';
import { type Bytes, fromHex, hex } from '../../core/runtime/bytes.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { entryFault, genesis } from '../engine/audit-entry.ts';
import type { AuditKey } from '../engine/audit-key.ts';
import type { RecordDatabase } from '../engine/database.ts';
import { headFault } from '../engine/heads.ts';
import { incarnationOf } from '../rules/token-memory.ts';
import type { AuditHead } from './finding.ts';

/** A head of the audit chain, signed by a key in the CA token. */
export interface Checkpoint extends AuditHead {
  /** Of the record: a restored one has another, and a chain that goes on from its backup. */
  readonly incarnation: string;
  readonly at: string;
  /** Over `checkpointText`, base64. */
  readonly signature: string;
}

/** Checkpoints are signed by keys of this suite. */
export const auditSuite = 'p256-sha256';

const checkpointText = ({ incarnation, writer, sequence, hash, at }: Omit<Checkpoint, 'signature'>): Buffer =>
  Buffer.from(`warifu audit checkpoint\n${incarnation}\n${writer}\n${sequence}\n${hash}\n${at}\n`);

/** How far the token remembers that a writer's chain was signed. */
export const checkpointMemory = (incarnation: string, writer: string): string =>
  `checkpoint:${incarnation}:${writer}`;

/** Those in a file; none where there is no file. Throws `bad-request` for one that `publicKey` has not signed. */
export function readCheckpoints(file: string, publicKey: Bytes): Checkpoint[] {
  if (!existsSync(file)) return [];
  const lines = readFileSync(file, 'utf8').split('\n');
  const checkpoints = lines.filter((line) => line !== '').map((line) => JSON.parse(line) as Checkpoint);
  for (const checkpoint of checkpoints) {
    const signature = Buffer.from(checkpoint.signature, 'base64');
    if (!verifySignature(suites[auditSuite], publicKey, checkpointText(checkpoint), signature))
      throw new PkiError(
        'bad-request',
        `${file}: the checkpoint of ${checkpoint.at} is not signed by this CA`,
      );
  }
  return checkpoints;
}

/** Signs a head. */
export async function makeCheckpoint(
  signer: Signer<'audit'>,
  head: AuditHead,
  { incarnation, atMs }: { readonly incarnation: string; readonly atMs: number },
): Promise<Checkpoint> {
  const unsigned = { incarnation, ...head, at: new Date(atMs).toISOString() };
  const signature = Buffer.from(await signer.sign(checkpointText(unsigned))).toString('base64');
  return { ...unsigned, signature };
}

export function appendCheckpoint(file: string, checkpoint: Checkpoint): void {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  appendFileSync(file, `${JSON.stringify(checkpoint)}\n`, { mode: 0o600 });
}

/** Where this writer's chain stands now; undefined before its first entry. */
export async function headOf(database: RecordDatabase): Promise<AuditHead | undefined> {
  const { writer } = database;
  const [last] = await database.read((reader) =>
    reader.find('audit', { writer }, { descending: true, limit: 1 }),
  );
  return last && { writer, sequence: last.sequence, hash: hex(last.hash) };
}

/** Entries verified at a time: others read in between. */
const pageSize = 200;

/**
 * Signs the head of this writer's chain from time to time. Once the signature is shipped, entries before it cannot be cut off
 * undetected. The chain since the last checkpoint is verified first: the signature says that it is ours.
 */
export class CheckpointSigner {
  readonly #options: CheckpointOptions;
  #last: Checkpoint | undefined;
  #isOpened = false;
  #incarnation = '';
  /** Whether `#last` is in the file, or was. */
  #isInFile = false;
  #isMissed = false;

  constructor(options: CheckpointOptions) {
    this.#options = options;
  }

  /**
   * Compares the record with what was signed of it before: to be called before anything is written. Throws `record-unavailable`
   * where its chain is not the one that was signed; an alarm where checkpoints are missing.
   */
  async open(): Promise<void> {
    this.#incarnation = await incarnationOf(this.#options.database);
    if (!(await this.#openFile())) return;
    const { fault } = await this.#verifyTail();
    if (fault === undefined) return;
    this.#alarm(fault);
    throw new PkiError(
      'record-unavailable',
      `the record was altered: ${fault}; verify the audit chain, and restore a backup`,
    );
  }

  /** The checkpoint; undefined where there is nothing to sign, or where an alarm says why it is not signed. */
  async sign(): Promise<Checkpoint | undefined> {
    if (!(await this.#openFile()) || !this.isKept()) return undefined;
    const { head, fault } = await this.#verifyTail();
    if (fault === undefined) return head && this.#signHead(head);
    this.#alarm(fault);
    return undefined;
  }

  /** Signs where the chain stood by what this process wrote: of a record that was altered meanwhile, so that it is found later, too. */
  async signKnown(): Promise<void> {
    const { database } = this.#options;
    const known = database.knownHead;
    if (!known || known.sequence <= (this.#last?.sequence ?? 0)) return;
    await this.#signHead({ writer: database.writer, sequence: known.sequence, hash: hex(known.hash) });
  }

  async #signHead(head: AuditHead): Promise<Checkpoint> {
    const { signer, file, memory, clock } = this.#options;
    const incarnation = this.#incarnation;
    const checkpoint = await makeCheckpoint(signer, head, { incarnation, atMs: clock.wallMs() });
    appendCheckpoint(file, checkpoint);
    await memory.remember(checkpointMemory(incarnation, head.writer), head.sequence);
    this.#last = checkpoint;
    this.#isInFile = true;
    return checkpoint;
  }

  #alarm(fault: string): void {
    const act = 'stop the service, verify the audit chain, and restore a backup';
    this.#options.logger.error(
      { fault, act },
      'ALARM: the audit chain is not the one that was signed; it is signed no more',
    );
  }

  /** Whether the file still ends with the checkpoint that was signed last; an alarm, once, where it does not. */
  isKept(): boolean {
    const { file, logger } = this.#options;
    if (!this.#isInFile) return true;
    const isThere = existsSync(file) && endOf(file).includes(JSON.stringify(this.#last));
    if (this.#isMissed === isThere) {
      this.#isMissed = !isThere;
      if (!isThere) logger.error({ file, act: putBack }, 'ALARM: checkpoints are missing that were signed');
    }
    return isThere;
  }

  /** Reads the last checkpoint that was signed. True if none is missing. */
  async #openFile(): Promise<boolean> {
    if (this.#isOpened) return true;
    const incarnation = this.#incarnation;
    const { database, file, memory, signer, logger } = this.#options;
    const { writer } = database;
    const own = readCheckpoints(file, signer.publicKey).filter(
      (each) => each.incarnation === incarnation && each.writer === writer,
    );
    const remembered = await memory.recall(checkpointMemory(incarnation, writer));
    this.#last = own.at(-1);
    if ((this.#last?.sequence ?? 0) < remembered) {
      logger.error(
        { file, remembered, act: putBack },
        'ALARM: checkpoints are missing that the token remembers',
      );
      return false;
    }
    this.#isInFile = this.#last !== undefined;
    this.#isOpened = true;
    return true;
  }

  /** Goes from the checkpoint before to where the chain ends: what is wrong with it, else its head. */
  async #verifyTail(): Promise<{ head?: AuditHead; fault?: string }> {
    const { database, key } = this.#options;
    const { writer } = database;
    let last = this.#last && { sequence: this.#last.sequence, hash: fromHex(this.#last.hash) };
    for (let more = true; more; ) {
      const from = last;
      const { fault, page } = await database.read((reader) => ({
        fault: from && headFault(reader, writer, from),
        page: reader.find('audit', { writer }, { after: from?.sequence ?? 0, limit: pageSize }),
      }));
      if (fault !== undefined) return { fault };
      for (const entry of page) {
        // Of a record that was migrated the first entries are in another table, which the migration has verified.
        const before = last ?? (entry.sequence === 1 ? genesis : undefined);
        const wrong = before && entryFault(entry, before, key);
        if (wrong !== undefined) return { fault: `audit entry ${writer}/${entry.sequence}: ${wrong}` };
        last = entry;
      }
      more = page.length === pageSize;
    }
    return last ? { head: { writer, sequence: last.sequence, hash: hex(last.hash) } } : {};
  }
}

/** The last lines of a file: each is of some hundred octets. */
function endOf(file: string): string {
  const descriptor = openSync(file, 'r');
  try {
    const { size } = fstatSync(descriptor);
    const tail = Buffer.alloc(Math.min(size, 4096));
    readSync(descriptor, tail, 0, tail.length, size - tail.length);
    return tail.toString('utf8');
  } finally {
    closeSync(descriptor);
  }
}

const putBack = 'put the file back from where checkpoints are kept; verify the audit chain';

interface CheckpointOptions {
  readonly database: RecordDatabase;
  readonly signer: Signer<'audit'>;
  /** Where checkpoints are appended. */
  readonly file: string;
  readonly memory: TokenMemory;
  readonly key: AuditKey;
  readonly clock: Clock;
  readonly logger: Logger;
}
