import { appendFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Logger } from 'pino';
import { suites, verifySignature } from '../../core/asn1/algorithms.ts';
import type { Signer, TokenMemory } from '../../core/crypto/signer.ts';
import { type Bytes, hex } from '../../core/runtime/bytes.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { RecordDatabase } from '../engine/database.ts';
import { incarnationOf } from '../rules/administration.ts';
import type { AuditHead } from './verify-audit.ts';

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

/**
 * Signs where this writer's chain has come to, now and then: shipped elsewhere, what lies before can then not be cut off. A
 * chain in which the checkpoint before is no more is not signed: it was rewritten, and a signature would say
 * that it is ours.
 */
export class CheckpointSigner {
  readonly #options: CheckpointOptions;
  #last: AuditHead | undefined;
  #isOpened = false;

  constructor(options: CheckpointOptions) {
    this.#options = options;
  }

  /** The checkpoint; undefined where there is nothing to sign, or where an alarm says why it is not signed. */
  async sign(): Promise<Checkpoint | undefined> {
    const { database, signer, file, memory, clock } = this.#options;
    const incarnation = await incarnationOf(database);
    if (!(await this.#isContinued(incarnation))) return undefined;
    const head = await headOf(database);
    if (!head) return undefined;
    const checkpoint = await makeCheckpoint(signer, head, { incarnation, atMs: clock.wallMs() });
    appendCheckpoint(file, checkpoint);
    await memory.remember(checkpointMemory(incarnation, head.writer), head.sequence);
    this.#last = head;
    return checkpoint;
  }

  async #isContinued(incarnation: string): Promise<boolean> {
    const { database, file, memory, signer, logger } = this.#options;
    const { writer } = database;
    if (!this.#isOpened) {
      const own = readCheckpoints(file, signer.publicKey).filter(
        (each) => each.incarnation === incarnation && each.writer === writer,
      );
      const remembered = await memory.recall(checkpointMemory(incarnation, writer));
      this.#last = own.at(-1);
      if ((this.#last?.sequence ?? 0) < remembered) {
        const act = 'put the file back from where checkpoints are kept; verify the audit chain';
        logger.error({ file, remembered, act }, 'ALARM: checkpoints are missing that the token remembers');
        return false;
      }
      this.#isOpened = true;
    }
    const last = this.#last;
    if (!last) return true;
    const [entry] = await database.read((reader) =>
      reader.find('audit', { writer, sequence: last.sequence }, { limit: 1 }),
    );
    if (entry && hex(entry.hash) === last.hash) return true;
    const act = 'stop the service, verify the audit chain, and restore a backup';
    logger.error(
      { ...last, act },
      'ALARM: the audit chain is not the one that was signed; it is signed no more',
    );
    return false;
  }
}

interface CheckpointOptions {
  readonly database: RecordDatabase;
  readonly signer: Signer<'audit'>;
  /** Where checkpoints are appended. */
  readonly file: string;
  readonly memory: TokenMemory;
  readonly clock: Clock;
  readonly logger: Logger;
}
