import type { FastifyRequest } from 'fastify';
import { dateInJapan } from '../../core/model/calendar.ts';
import type { Slot } from '../../core/model/kinds.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { RecordedVerifier } from '../../store/api/verifier-store.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { callerOf } from './caller.ts';

/**
 * The verifier that a caller is, looked up each time, so that a suspension counts from the next request on. Throws `forbidden` where it is
 * none now.
 */
export async function verifierOf(
  ca: Pick<CertificateAuthority, 'clients' | 'verifiers' | 'clock'>,
  request: FastifyRequest,
): Promise<RecordedVerifier> {
  const client = await ca.clients.client(callerOf(request).fingerprint);
  const verifier = client && (await ca.verifiers.ofClient(client.name, ca.clock.wallMs()));
  if (!verifier)
    throw new PkiError(
      'forbidden',
      'this client is no verifier of the register, or one that may not ask now',
    );
  return verifier;
}

/** Refuses with `forbidden` a verifier of the other kind. */
export function checkKind({ kinds }: Pick<RecordedVerifier, 'kinds'>, slot: Slot | undefined): void {
  if (slot === undefined || !kinds.includes(slot))
    throw new PkiError('forbidden', `this verifier was notified for ${kinds.join(' and ')} certificates`);
}

/** Counts a question about holders; `rate-exceeded` beyond what the verifier may ask in a day. */
export function admitQuestion(
  { accesses, config, clock }: CertificateAuthority,
  { verifierId, questionsPerDay }: Pick<RecordedVerifier, 'verifierId' | 'questionsPerDay'>,
): Promise<void> {
  return accesses.admit(verifierId, questionsPerDay ?? config.verifiers.questionsPerDay, clock.wallMs());
}

/** Questions that were answered with nothing, by verifier: on which day in Japan, and how many. */
const inVain = new WeakMap<CertificateAuthority, Map<string, { readonly day: string; questions: number }>>();

/** Alarms, once a day, of a verifier that asks in vain again and again: it may be guessing. */
function watchForGuesses(ca: CertificateAuthority, { log }: FastifyRequest, verifierId: string): void {
  const known = inVain.get(ca) ?? new Map<string, { readonly day: string; questions: number }>();
  inVain.set(ca, known);
  const day = JSON.stringify(dateInJapan(ca.clock.wallMs()));
  const before = known.get(verifierId);
  const count = before?.day === day ? before : { day, questions: 0 };
  count.questions += 1;
  known.set(verifierId, count);
  if (count.questions === ca.config.verifiers.inVain)
    log.error(
      {
        verifierId,
        act: 'look at what it asks (accesses.db); suspend it: POST /v1/verifiers/{verifierId}/suspension',
      },
      'ALARM: a verifier asks in vain about many holders',
    );
}

/**
 * Puts on record what a verifier asked about a holder, before it is answered: the holder sees what was given. Who is given nothing again and
 * again is an alarm.
 */
export async function noteQuestion(
  ca: CertificateAuthority,
  request: FastifyRequest,
  asked: { readonly verifierId: string; readonly holderId: string | null; readonly found: boolean },
): Promise<void> {
  const { accesses, clock } = ca;
  const { method, routeOptions } = request;
  if (!asked.found) watchForGuesses(ca, request, asked.verifierId);
  const { verifierId: client, holderId, found } = asked;
  const by = { client, kind: 'verifier', role: 'verifier', actsFor: [], purpose: null };
  const route = `${method} ${routeOptions.url}`;
  await accesses.note([{ atMs: clock.wallMs(), holderId, ...by, route, found, isFirst: true }]);
}
