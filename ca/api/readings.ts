import type { FastifyInstance, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import type { Target } from '../../core/model/plan.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { type Caller, callerOf } from './caller.ts';

// Reading is an act: who looks a holder up says for which purpose, may do so only so often in a day, and is on record before it is
// answered, also where there is no such holder. A dry run reads.

/** Where a caller says for which purpose it reads. */
const purposeHeader = 'warifu-purpose';

export const PurposeHeaders = Type.Object({
  [purposeHeader]: Type.Optional(
    Type.String({
      pattern: '^[a-z][a-z0-9-]{0,31}$',
      description:
        'for which purpose holders are looked up, one of `reading.purposes`; production requires it',
    }),
  ),
});

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Holders are looked up by it. */
    reads?: boolean;
  }
}

/** Holders that a request has looked up, and whether the caller may see each. */
const lookedUp = new WeakMap<Caller, Map<string | null, boolean>>();

/** Notes whom a caller looks up; null where it is no holder. */
export function noteReading(caller: Caller, holderId: string | null, isShown: boolean): void {
  const known = lookedUp.get(caller) ?? new Map<string | null, boolean>();
  known.set(holderId, isShown || known.get(holderId) === true);
  lookedUp.set(caller, known);
}

/** The same of the holder that a body names, where the answer tells something about that one. */
export function noteNamed({ caller, body }: FastifyRequest): void {
  const { holderId } = (body ?? {}) as { holderId?: unknown };
  if (caller !== null && typeof holderId === 'string') noteReading(caller, holderId, true);
}

/** The same of what an act that is only planned would be done to. */
export async function noteTarget(
  ca: Pick<CertificateAuthority, 'store'>,
  caller: Caller,
  target: Target,
): Promise<void> {
  noteReading(caller, (await ca.store.holderIdOf(target)) ?? null, true);
}

const isReading = ({ routeOptions, body }: FastifyRequest): boolean =>
  routeOptions.config.reads === true || (body as { dryRun?: unknown } | null | undefined)?.dryRun === true;

/** Whether a look-up has to name its purpose, and its number is limited. */
export const isPurposeRequired = ({ mode, reading }: CertificateAuthority['config']): boolean =>
  mode === 'production' || reading.use === 'required';

/** What an act shows of a holder while it waits for a second person, or is refused for a plan, is looked up, too. */
const isRecorded = (request: FastifyRequest): boolean =>
  isReading(request) || (request.caller !== null && lookedUp.has(request.caller));

/** The purpose that a request names; null where it names none that there is. */
export function purposeOf(
  { config }: Pick<CertificateAuthority, 'config'>,
  { headers }: FastifyRequest,
): string | null {
  const named = headers[purposeHeader];
  return typeof named === 'string' && config.reading.purposes.includes(named) ? named : null;
}

/** Refuses with `bad-request` a look-up without a purpose, where it has to name one, and one that names another. */
function checkPurpose(ca: Pick<CertificateAuthority, 'config'>, request: FastifyRequest): void {
  if (purposeOf(ca, request) !== null) return;
  const isMissing = request.headers[purposeHeader] === undefined;
  if (isMissing && !isPurposeRequired(ca.config)) return;
  throw new PkiError(
    'bad-request',
    `the header Warifu-Purpose ${isMissing ? 'is missing' : 'is of no purpose that there is'}: it names one of ${ca.config.reading.purposes.join(', ')}`,
  );
}

/** Has what is read be on record before it is answered, and refuses what is read too often, or for no purpose. */
export function recordReadings(app: FastifyInstance, ca: CertificateAuthority): void {
  app.addHook('preHandler', async (request) => {
    if (!isReading(request)) return;
    checkPurpose(ca, request);
    const { actor, kind } = callerOf(request);
    if (!isPurposeRequired(ca.config)) return;
    await ca.accesses.admit(actor.client, ca.config.reading.perDay[kind], ca.clock.wallMs());
  });
  app.addHook('preSerialization', async (request, reply, payload) => {
    if (reply.statusCode < 400 && isRecorded(request)) await record(ca, request, true);
    return payload;
  });
}

/** Refusals before anything is looked up: one who is refused so may ask without end. */
const refusedBefore: readonly unknown[] = ['rate-exceeded', 'overloaded', 'bad-request', 'forbidden'];

/** Puts on record what was looked up and is refused, which says nothing about a holder. */
export async function recordRefused(
  ca: CertificateAuthority,
  request: FastifyRequest,
  error: unknown,
): Promise<void> {
  // That there is such a holder, and what is not the plan.
  if (error instanceof PkiError && error.code === 'plan-changed') noteNamed(request);
  if (request.caller === null || !isRecorded(request)) return;
  const isBefore = error instanceof PkiError ? refusedBefore.includes(error.code) : true;
  if (isBefore && !lookedUp.has(request.caller)) return;
  await record(ca, request, false).catch((error: Error) =>
    request.log.error({ reason: error.message }, 'what was looked up in vain cannot be recorded'),
  );
}

async function record(ca: CertificateAuthority, request: FastifyRequest, isAnswered: boolean): Promise<void> {
  const caller = callerOf(request);
  const { actor, kind, desks, municipalities } = caller;
  const looked = lookedUp.get(caller) ?? new Map([[null, true]]);
  const { client, role } = actor;
  const by = { client, kind, role, actsFor: desks.length > 0 ? desks : municipalities };
  const purpose = purposeOf(ca, request);
  const route = `${request.method} ${request.routeOptions.url}`;
  const atMs = ca.clock.wallMs();
  await ca.accesses.note(
    [...looked].map(([holderId, isShown], i) => ({
      ...{ atMs, holderId, ...by, purpose, route, found: isAnswered && isShown, isFirst: i === 0 },
    })),
  );
}
