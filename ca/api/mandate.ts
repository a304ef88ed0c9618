import type { FastifyRequest } from 'fastify';
import type { DeskFunction, Mandate } from '../../core/model/desk.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { PolicyEvent } from '../../store/api/policy.ts';
import { wantedApprovals } from '../config/approvals.ts';
import type { Config } from '../config/config.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { findTown } from '../request/towns.ts';
import { type Caller, callerOf, checkDesk } from './caller.ts';
import { noteReading } from './readings.ts';

// In whose name a caller acts: for which desk, and on holders of which municipalities. The record checks it with what it writes; what only
// reads is checked here.

const everywhere = '*';

/** Worked out once for each list of municipalities: there are thousands, and each act asks. */
const mergers = new WeakMap<Config['municipalities'], Readonly<Record<string, string>>>();

/** Municipalities that were merged, with the code that they go on under. */
function mergedIn(config: Pick<Config, 'municipalities'>): Readonly<Record<string, string>> {
  const { municipalities } = config;
  const known = mergers.get(municipalities);
  if (known) return known;
  const merged = municipalities.filter(({ mergedInto }) => mergedInto !== undefined);
  const found = Object.fromEntries(merged.map(({ code }) => [code, findTown(config, code)?.code ?? code]));
  mergers.set(municipalities, found);
  return found;
}

/** The municipalities that a caller is bound to; null: the nation. */
const municipalitiesOf = ({ municipalities }: Caller): readonly string[] | null =>
  municipalities.includes(everywhere) ? null : municipalities;

/** What every mandate says. */
const shared = (
  ca: Pick<CertificateAuthority, 'config'>,
  caller: Caller,
): Pick<Mandate, 'approvalsWanted' | 'merged' | 'revocationsMax'> => ({
  merged: mergedIn(ca.config),
  approvalsWanted: caller.approval === null ? wantedApprovals(ca) : [],
  revocationsMax: revocationsAlone(ca, caller),
});

/** Acts by which a revoker may revoke in a day without a second person; null: any number. */
export function revocationsAlone(
  { config }: Pick<CertificateAuthority, 'config'>,
  { actor, approval, kind }: Caller,
): number | null {
  const isCounted =
    actor.role === 'revoker' && approval === null && wantedApprovals({ config }).includes('mass-revocation');
  return isCounted ? config.approvals.revocationsPerDay[kind] : null;
}

/** In whose name a caller acts at a desk. Throws `desk-not-allowed` where the client is not bound to it. */
export function mandateAt(
  { config }: Pick<CertificateAuthority, 'config'>,
  caller: Caller,
  { code, function: wanted }: { readonly code: string; readonly function: DeskFunction | null },
): Mandate {
  checkDesk(caller, code);
  const unrecorded = code === config.scheme.onlineDeskCode ? 'online' : 'counter';
  const otherwise = config.mode === 'production' ? null : unrecorded;
  // What issues is bound to desks, and they to municipalities.
  const municipalities = caller.actor.role === 'issuer' ? null : municipalitiesOf(caller);
  return { desk: { code, function: wanted, otherwise }, municipalities, ...shared({ config }, caller) };
}

/**
 * In whose name a caller acts that need not act for a desk: a client of one desk does for that, one of several names which. Throws
 * `bad-request` and `desk-not-allowed`.
 */
export function mandateOf(
  ca: Pick<CertificateAuthority, 'config'>,
  caller: Caller,
  { code, function: wanted }: { readonly code: string | undefined; readonly function: DeskFunction },
): Mandate {
  const [only, ...others] = caller.desks;
  const desk = code ?? (only === everywhere ? undefined : only);
  if (code === undefined && desk !== undefined && others.length > 0)
    throw new PkiError('bad-request', 'deskCode: this client acts for several desks; name one');
  if (desk !== undefined) return mandateAt(ca, caller, { code: desk, function: wanted });
  return { desk: null, municipalities: municipalitiesOf(caller), ...shared(ca, caller) };
}

/** Refuses with `desk-not-allowed` a client that is not the front-end of phones, or one that is suspended. */
export async function checkOnline(ca: CertificateAuthority, request: FastifyRequest): Promise<void> {
  const { onlineDeskCode: code } = ca.config.scheme;
  await ca.desks.check(mandateAt(ca, callerOf(request), { code, function: 'phone' }));
}

/** What issuing to a card for an event is at a desk. */
export function functionOfIssuance(rule: PolicyEvent | undefined): DeskFunction {
  if (!rule) return 'issue';
  if (rule.renewal) return 'renew';
  return rule.town === 'moves' ? 'move' : 'replace';
}

/** What reporting an event is at a desk: one that does no more than hold needs less. */
export function functionOfReport({ kinds, endsHoldsOf }: PolicyEvent): DeskFunction {
  if (endsHoldsOf.length > 0) return 'release';
  const cells = Object.values(kinds);
  return cells.includes('hold') && cells.every((cell) => cell === 'hold' || cell === 'none')
    ? 'lose'
    : 'report';
}

/** Refuses with `forbidden` a caller that may not do something for the nation. */
export async function refuseAllButNation(
  ca: Pick<CertificateAuthority, 'config' | 'desks' | 'clock'>,
  caller: Caller,
  wanted: DeskFunction,
): Promise<void> {
  if ((await reachBy(ca, caller, wanted)) !== null)
    throw new PkiError(
      'forbidden',
      'this concerns the nation, and the client is bound to municipalities or desks',
    );
}

/** Municipalities on whose holders a caller may do something; null: the nation's. Of a client's desks those count that may do it. */
async function reachBy(
  { config, desks, clock }: Pick<CertificateAuthority, 'config' | 'desks' | 'clock'>,
  caller: Caller,
  wanted: DeskFunction,
): Promise<readonly string[] | null> {
  const merged = mergedIn(config);
  const present = (codes: readonly string[]): readonly string[] => codes.map((code) => merged[code] ?? code);
  const own = municipalitiesOf(caller);
  const ofClient = own && present(own);
  if (caller.desks.length === 0 || caller.desks.includes(everywhere)) return ofClient;
  const nowMs = clock.wallMs();
  const known = await Promise.all(caller.desks.map((code) => desks.desk(code)));
  const open = known.flatMap((desk) => {
    if (!desk || desk.suspendedMs !== null || !desk.functions.includes(wanted)) return [];
    return desk.validFromMs <= nowMs && (desk.validToMs ?? Number.POSITIVE_INFINITY) > nowMs ? [desk] : [];
  });
  const isUnrecorded = config.mode === 'development' && known.every((desk) => desk === undefined);
  if (isUnrecorded || open.some(({ municipalities }) => municipalities.includes(everywhere))) return ofClient;
  const ofDesks = present(open.flatMap(({ municipalities }) => municipalities));
  return ofClient ? ofDesks.filter((code) => ofClient.includes(code)) : ofDesks;
}

/** Of what belongs to holders, that of those whom a caller may look up. What belongs to no holder is the nation's. */
export async function readableOf<Of extends { readonly holderId: string | null }>(
  ca: Pick<CertificateAuthority, 'config' | 'desks' | 'clock'>,
  caller: Caller,
  all: readonly Of[],
): Promise<readonly Of[]> {
  const reach = await reachBy(ca, caller, 'look-up');
  if (reach === null) return all;
  const merged = mergedIn(ca.config);
  const towns = await ca.desks.townsOf(all.flatMap(({ holderId }) => holderId ?? []));
  return all.filter(({ holderId }) => {
    const town = holderId === null ? undefined : towns.get(holderId);
    return town !== undefined && reach.includes(merged[town] ?? town);
  });
}

/** Whether a caller may look a holder up; it is noted that it does. */
export async function mayRead(
  ca: Pick<CertificateAuthority, 'config' | 'desks' | 'clock'>,
  caller: Caller,
  holderId: string | null,
): Promise<boolean> {
  const isReadable = (await readableOf(ca, caller, [{ holderId }])).length > 0;
  noteReading(caller, holderId, isReadable);
  return isReadable;
}
