import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import { type Bytes, fromHex } from '../../core/bytes.ts';
import type { ChangeCommand, Consequence, Target } from '../../core/certificate-store.ts';
import { DerError } from '../../core/der-reader.ts';
import { PkiError } from '../../core/errors.ts';
import type { CertificateKey } from '../../core/feed.ts';
import { parseInstant } from '../../core/instant.ts';
import type { RevocationReason, StatusChange } from '../../core/revocation.ts';
import type { CertificateAuthority } from '../issue.ts';
import { checkPublicKey } from '../key.ts';
import { ecPoint } from '../key-checks/ec-point.ts';
import { readPhoneRevocation } from '../phone-revocation.ts';
import { planBlockedKey, planCertificate, planEvent } from '../policy.ts';
import { answerOnce, IdempotencyHeaders, problems, replySealer } from './answer.ts';
import { callerOf, checkDesk, scopeOf } from './caller.ts';
import { changed, planHash } from './present.ts';
import {
  Authority,
  BlockKey,
  type BlockKeyBody,
  ChangeCertificate,
  type ChangeCertificateBody,
  Changed,
  ReportEvent,
  type ReportEventBody,
  RevokePhone,
  SerialNumber,
} from './schema.ts';

const config = { roles: ['revoker'] } as const;

export const revocationRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.post(
      '/events',
      {
        config,
        schema: {
          summary: 'Report a life event; everything that follows from it happens',
          headers: IdempotencyHeaders,
          body: ReportEvent,
          response: { 200: Changed, ...problems },
        },
      },
      async (request, reply) => {
        const target = eventTarget(request.body);
        const plan = planEvent(ca.config.policy, request.body.event, target, ca.clock.wallMs());
        return change(ca, request, reply, { target, plan });
      },
    );

    app.post(
      '/certificates/:authority/:serialNumber/changes',
      {
        config,
        schema: {
          summary: 'Revoke, hold or release one certificate, and what rests on it',
          headers: IdempotencyHeaders,
          params: Type.Object({ authority: Authority, serialNumber: SerialNumber }),
          body: ChangeCertificate,
          response: { 200: Changed, ...problems },
        },
      },
      async (request, reply) => {
        const key = certificateKey(ca, request.params);
        const nowMs = ca.clock.wallMs();
        const plan = planCertificate(ca.config.policy, key, statusChange(request.body, nowMs), nowMs);
        const target: Target = { type: 'certificate', key };
        return change(ca, request, reply, { target, plan });
      },
    );

    app.post(
      '/phone-revocations',
      {
        config: { roles: ['issuer'] },
        schema: {
          summary: 'Give a phone up with the phone alone: its signing key signs for it',
          headers: IdempotencyHeaders,
          body: RevokePhone,
          response: { 200: Changed, ...problems },
        },
      },
      async (request, reply) => {
        checkDesk(callerOf(request), ca.config.scheme.onlineDeskCode);
        const { actor } = callerOf(request);
        const scope = await scopeOf(ca, request, request.headers['idempotency-key']);
        const seal = await replySealer(ca, scope);
        return answerOnce(ca, reply, scope, async () => {
          const { signedRevocation } = request.body;
          const given = await readPhoneRevocation(ca, Buffer.from(signedRevocation, 'base64'));
          await ca.store.change({
            scope,
            actor,
            ...given,
            reply: (consequence) => seal(200, changed(ca.authorities, false, consequence)),
          });
        });
      },
    );

    app.post(
      '/blocked-keys',
      {
        config,
        schema: {
          summary: 'Block a public key for ever: it is not certified any more, and what it is in is revoked',
          headers: IdempotencyHeaders,
          body: BlockKey,
          response: { 200: Changed, ...problems },
        },
      },
      async (request, reply) => {
        const keyHash = blockedKey(request.body);
        const { actor } = callerOf(request);
        const scope = await scopeOf(ca, request, request.headers['idempotency-key']);
        const seal = await replySealer(ca, scope);
        return answerOnce(ca, reply, scope, () =>
          ca.store.blockKey({
            scope,
            actor,
            keyHash,
            plan: (key) => planBlockedKey(ca.config.policy, key, ca.clock.wallMs()),
            reply: (consequence) => seal(200, changed(ca.authorities, false, consequence)),
          }),
        );
      },
    );
  };

/** The story of revoking, from a parsed event to its answer; the policy has made the plan's function. */
async function change(
  ca: CertificateAuthority,
  request: FastifyRequest,
  reply: FastifyReply,
  { target, plan }: { target: Target; plan: ChangeCommand['plan'] },
): Promise<FastifyReply> {
  const { dryRun, planHash: wanted } = request.body as ReportEventBody | ChangeCertificateBody;
  const checked = (consequence: Consequence): Consequence => {
    if (wanted === undefined || planHash(consequence) === wanted) return consequence;
    throw new PkiError('plan-changed', 'planHash: what would be done is no longer what that plan says');
  };
  if (dryRun) {
    const consequence = checked(await ca.store.preview({ target, plan }));
    return reply.code(200).send(changed(ca.authorities, true, consequence));
  }
  const { actor } = callerOf(request);
  const scope = await scopeOf(ca, request, String(request.headers['idempotency-key']));
  const seal = await replySealer(ca, scope);
  return answerOnce(ca, reply, scope, () =>
    ca.store.change({
      scope,
      actor,
      target,
      plan,
      reply: (consequence) => seal(200, changed(ca.authorities, false, checked(consequence))),
    }),
  );
}

const keyTypes = ['rsa2048', 'p256', 'p384'] as const;

function blockedKey({ keyHash, publicKey }: BlockKeyBody): Bytes {
  if ((keyHash === undefined) === (publicKey === undefined))
    throw new PkiError('bad-request', 'exactly one of keyHash and publicKey is wanted');
  if (keyHash !== undefined) return fromHex(keyHash);
  try {
    // In the one form that requests have: another would be the hash of no key.
    return checkPublicKey(Buffer.from(publicKey ?? '', 'base64'), keyTypes, [ecPoint]).keyHash;
  } catch (error) {
    if (!(error instanceof DerError || error instanceof PkiError)) throw error;
    throw new PkiError('bad-request', `publicKey: ${error.message}`, { cause: error });
  }
}

function eventTarget({ holderId, cardId, deviceId }: ReportEventBody): Target {
  const named = [holderId, cardId, deviceId].filter((id) => id !== undefined);
  if (named.length !== 1)
    throw new PkiError('bad-request', 'exactly one of holderId, cardId and deviceId is wanted');
  if (holderId !== undefined) return { type: 'holder', holderId };
  return { type: 'medium', mediumId: cardId !== undefined ? `card:${cardId}` : `phone:${deviceId}` };
}

function statusChange(
  { action, reason, invalidityDate }: ChangeCertificateBody,
  nowMs: number,
): StatusChange {
  if (action !== 'revoke') {
    if (reason !== undefined || invalidityDate !== undefined) {
      throw new PkiError('bad-request', 'reason and invalidityDate belong to action revoke');
    }
    return { action, by: 'event' };
  }
  const invalidityMs =
    invalidityDate === undefined ? null : pastInstant(invalidityDate, 'invalidityDate', nowMs);
  if (invalidityMs !== null && reason !== 'keyCompromise') {
    throw new PkiError('bad-request', 'invalidityDate belongs to reason keyCompromise');
  }
  return { action, reason: (reason ?? 'unspecified') as RevocationReason, invalidityMs };
}

/** An instant of RFC 3339 that has been; `bad-request` names the member otherwise. */
function pastInstant(value: string, member: string, nowMs: number): number {
  const ms = parseInstant(value);
  if (ms === undefined) throw new PkiError('bad-request', `${member}: not an instant of RFC 3339`);
  if (ms > nowMs) throw new PkiError('bad-request', `${member}: lies in the future`);
  // Before there were such keys; and what is signed must be read back as it was meant.
  if (ms < 0) throw new PkiError('bad-request', `${member}: lies before 1970`);
  return ms;
}

/** The position behind an authority and a serial number as the API names them; `not-found` where there is none. */
export function certificateKey(
  ca: CertificateAuthority,
  { authority, serialNumber }: { authority: string; serialNumber: string },
): CertificateKey {
  // Viewers print the octet of the sign, where there is one.
  const octets = fromHex(serialNumber.replace(/^(00)+(?=.)/, ''));
  const key = ca.authorities.byName(authority).positionOf(octets);
  if (!key) throw new PkiError('not-found', 'no such certificate');
  return key;
}
