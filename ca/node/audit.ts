import { existsSync } from 'node:fs';
import { suites } from '../../core/asn1/algorithms.ts';
import type { Signer } from '../../core/crypto/signer.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { Progress } from '../../core/runtime/progress.ts';
import type { PassProgress } from '../../store/audit/audit-pass.ts';
import {
  appendCheckpoint,
  auditSuite,
  type Checkpoint,
  checkpointMemory,
  headOf,
  makeCheckpoint,
  readCheckpoints,
} from '../../store/audit/checkpoints.ts';
import type { AuditFinding } from '../../store/audit/finding.ts';
import { openReader } from '../../store/audit/open-reader.ts';
import { PassFile } from '../../store/audit/pass-file.ts';
import { type AuditReport, type VerifiableRecord, verifyAudit } from '../../store/audit/verify-audit.ts';
import { AuditKey } from '../../store/engine/audit-key.ts';
import { incarnationOf } from '../../store/rules/token-memory.ts';
import { openSqlite } from '../../store/sqlite/sqlite.ts';
import { keyLabel } from './layout.ts';
import type { Node } from './node.ts';
import { signerFor } from './wiring.ts';

// The audit chain as its operators use it: verified whole, and signed at the end of a copy.

export const auditSigner = (node: Node): Promise<Signer<'audit'>> =>
  signerFor(node, keyLabel.audit, auditSuite, 'audit');

/** A copy of the record that was verified whole. */
export interface VerifiedCopy {
  readonly incarnation: string;
  /** How far its audit chain goes. */
  readonly auditSequence: number;
  readonly rowsVerified: number;
}

/**
 * Verifies a copied record, and signs a checkpoint over its audit chain: what is altered in the copy later does not go with it.
 * Throws `record-unavailable` where the record was altered before.
 */
export async function signCopy(
  node: Node,
  file: string,
  { checkpoints, bar }: { readonly checkpoints: string; readonly bar?: Progress | undefined },
): Promise<VerifiedCopy> {
  const { config, clock } = node;
  const copy = openSqlite({ file, writer: config.node, clock });
  try {
    const { finding, rows: rowsVerified } = await verifyAudit(
      copy,
      [],
      new AuditKey(node.auditKey),
      tellingOf(bar),
    );
    if (finding)
      throw new PkiError(
        'record-unavailable',
        `the record was altered, and with it the copy, which restore refuses: ${finding.type} ${finding.where}: ${finding.what}; keep the backups before it`,
      );
    const head = await headOf(copy);
    const incarnation = await incarnationOf(copy);
    if (!head) return { incarnation, auditSequence: 0, rowsVerified };
    const signer = await auditSigner(node);
    const checkpoint = await makeCheckpoint(signer, head, { incarnation, atMs: clock.wallMs() });
    appendCheckpoint(checkpoints, checkpoint);
    return { incarnation, auditSequence: head.sequence, rowsVerified };
  } finally {
    await copy.close();
  }
}

/** Checks the whole record against its audit chain, and the chain against signed checkpoints. */
export async function auditRecord(
  node: Node,
  { checkpoints: named, bar, isFromStart = false }: AuditOptions = {},
): Promise<AuditReport & { readonly checkpoints: number }> {
  if (named !== undefined && !existsSync(named))
    throw new PkiError('bad-request', `there is no file ${named}`);
  const file = named ?? node.layout.checkpoints;
  const { publicKey } = await node.caToken.findKeyPair(keyLabel.audit, suites[auditSuite]);
  const incarnation = await incarnationOf(node.database);
  // Before the file is read: the service appends to it first, and has the token remember then.
  const remembered = await node.caToken.memory().recall(checkpointMemory(incarnation, node.database.writer));
  // Of this record: the token has been asked at opening whether the incarnation is one it knows.
  const own = readCheckpoints(file, publicKey).filter((checkpoint) => checkpoint.incarnation === incarnation);
  const key = new AuditKey(node.auditKey);
  const kept = new PassFile(node.layout.verifyPass, 'verify', { key, clock: node.clock });
  if (isFromStart) kept.remove();
  using record = verifiable(node);
  const report = await verifyAudit(record, own, key, { ...tellingOf(bar), file: kept });
  const finding = report.finding ?? missingCheckpoints(node.database.writer, own, { remembered, file });
  return { ...report, finding, checkpoints: own.length };
}

/** The record of a node, over a connection of its own that only reads. */
function verifiable({ place, database }: Node): VerifiableRecord & Disposable {
  const reader = openReader(place(), () => undefined);
  return {
    readOnce: (body) => reader.readOnce(body),
    integrity: () => database.integrity(),
    [Symbol.dispose]: () => reader.close(),
  };
}

export interface AuditOptions {
  /** Signed checkpoints kept elsewhere. */
  readonly checkpoints?: string | undefined;
  readonly bar?: Progress | undefined;
  /** From the first entry on, also where an earlier run was interrupted. */
  readonly isFromStart?: boolean | undefined;
}

/** Tells of rows once it is known how many there are, and of entries before. */
export const tellingOf = (bar: Progress | undefined) => ({
  tell: ({ entries, rows, rowsInAll }: PassProgress): void =>
    rowsInAll === undefined ? bar?.of('audit entries')(entries, undefined) : bar?.of('rows')(rows, rowsInAll),
});

export const lastOf = (checkpoints: readonly Checkpoint[]): number =>
  checkpoints.reduce((last, { sequence }) => Math.max(last, sequence), 0);

/** A file of checkpoints that was removed or cut is a finding: the token remembers how far the chain was signed. */
function missingCheckpoints(
  writer: string,
  own: readonly Checkpoint[],
  { remembered, file }: { readonly remembered: number; readonly file: string },
): AuditFinding | undefined {
  const last = lastOf(own.filter((each) => each.writer === writer));
  if (last >= remembered) return undefined;
  const what = `it ends at ${last}, and the token remembers a checkpoint at ${remembered}`;
  return { type: 'checkpoint', where: file, what };
}
