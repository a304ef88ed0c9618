import { fromHex } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { CertificateStore } from '../../store/api/certificate-store.ts';
import type { HolderStore } from '../../store/api/holder-store.ts';
import type { Authorities } from '../issue/authority.ts';
import { historyEntry, instant } from './present.ts';

/** When, and what, in words. */
export interface Line {
  readonly atMs: number;
  readonly text: string;
  /** The same for a program. */
  readonly value: object;
}

/**
 * What happened to one certificate, or to a holder and all certificates, a line each, in order: when, what, to which
 * certificate, why, and who did it. Of a holder also what was reported, and corrections.
 */
export async function timeline(
  { store, holders }: { readonly store: CertificateStore; readonly holders: HolderStore },
  authorities: Authorities,
  { holder, certificate }: { readonly holder?: string; readonly certificate?: string },
): Promise<readonly Line[]> {
  if ((holder === undefined) === (certificate === undefined))
    throw new PkiError('bad-request', 'either --holder or --certificate is wanted');
  const [authority = '', serialNumber = ''] = certificate?.split('/') ?? [];
  const key = certificate && authorities.byName(authority).positionOf(fromHex(serialNumber));
  const of = holder === undefined ? key : { holderId: holder };
  const entries = of ? await store.history(of) : [];
  const lines: Line[] = entries.map((entry) => {
    const value = historyEntry(authorities, entry);
    return { atMs: entry.atMs, text: certificateLine(value), value };
  });
  if (holder !== undefined) lines.push(...(await holderLines({ store, holders }, holder)));
  if (lines.length === 0) throw new PkiError('not-found', 'nothing is on record of that');
  return lines.sort((a, b) => a.atMs - b.atMs);
}

type By = { readonly role: string; readonly client: string; readonly requestId: string };
const by = ({ role, client, requestId }: By): string => `${role} ${client.slice(0, 16)} ${requestId}`;

function certificateLine(entry: ReturnType<typeof historyEntry>): string {
  const { serialNumber, change, reason, cause, actor } = entry;
  const from = cause.cascadedFrom ? ` from ${cause.cascadedFrom.serialNumber}` : '';
  const part = cause.partOf ? ` part of ${cause.partOf}` : '';
  const what = reason === null ? change : `${change} (${reason})`;
  return `${entry.authority}/${serialNumber}  ${what}  ${cause.event}${from}${part}  ${by(actor)}`;
}

/** What was reported of a holder, and corrections of it. */
async function holderLines(
  { store, holders }: { readonly store: CertificateStore; readonly holders: HolderStore },
  holderId: string,
): Promise<Line[]> {
  const { facts } = (await store.holder(holderId)) ?? {};
  const reported = (facts?.events ?? []).map(
    ({ event, mediumId, occurredMs, recordedMs, eventId, actor }) => ({
      atMs: recordedMs,
      value: { reported: event, mediumId, occurredAt: instant(occurredMs), eventId, actor },
      text: `reported  ${event}${mediumId === null ? '' : ` of ${mediumId}`}  occurred ${instant(occurredMs)}${eventId === null ? '' : `  id ${eventId}`}  ${by(actor)}`,
    }),
  );
  const corrections = (await holders.corrections(holderId)).flatMap((correction) => {
    const { correctionId, note, proposedMs, proposedBy, approvedMs, approvedBy } = correction;
    const proposed = {
      atMs: proposedMs,
      value: { correctionId, proposedBy, note },
      text: `correction ${correctionId}  proposed by ${proposedBy.slice(0, 16)}: ${note}`,
    };
    if (approvedMs === null) return [proposed];
    const text = `correction ${correctionId}  approved by ${approvedBy?.slice(0, 16)}`;
    return [proposed, { atMs: approvedMs, value: { correctionId, approvedBy }, text }];
  });
  return [...reported, ...corrections];
}
