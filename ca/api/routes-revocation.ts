import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import { DerError } from '../../core/asn1/der-reader.ts';
import { type CertificateId, keyOf } from '../../core/model/certificate-id.ts';
import type { HoldSource, RevocationReason, StatusChange } from '../../core/model/revocation.ts';
import { type Bytes, fromHex } from '../../core/runtime/bytes.ts';
import { invariant, PkiError } from '../../core/runtime/errors.ts';
import type { ReleaseRequest } from '../../store/api/plan-request.ts';
import { checkedPlan } from '../../store/rules/policy/plan-hash.ts';
import { wantedApprovals } from '../config/approvals.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { checkPublicKey } from '../request/key.ts';
import { ecPoint } from '../request/key-checks/ec-point.ts';
import { pastInstant } from '../request/occurrence.ts';
import { readPhoneRevocation } from '../revoke/phone-revocation.ts';
import { type Act, certificateAct, knownAfterMs } from '../revoke.ts';
import { IdempotencyHeaders, problems, proposed, writeOnce } from './answer.ts';
import { callerOf } from './caller.ts';
import { change, changePresentation, heldUntilApproved } from './changes.ts';
import { mandateAt, mandateOf, refuseAllButNation, revocationsAlone } from './mandate.ts';
import { planned } from './present.ts';
import { noteTarget } from './readings.ts';
import {
  Authority,
  BlockKey,
  type BlockKeyBody,
  ChangeCertificate,
  type ChangeCertificateBody,
  Changed,
  RevokePhone,
  SerialNumber,
} from './schema.ts';

const config = { roles: ['revoker'], lane: 'revocation' } as const;

export const revocationRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.post(
      '/certificates/:authority/:serialNumber/changes',
      {
        config,
        schema: {
          summary: 'Revoke, hold or release one certificate, and what rests on it',
          headers: IdempotencyHeaders,
          params: Type.Object({ authority: Authority, serialNumber: SerialNumber }),
          body: ChangeCertificate,
          response: { 200: Changed, ...proposed, ...problems },
        },
      },
      async (request, reply) => {
        const caller = callerOf(request);
        const { client } = caller.actor;
        const { action, deskCode: code } = request.body;
        // First: who may not act for the desk learns of no certificate.
        const mandate = mandateOf(ca, caller, { code, function: action });
        const key = certificateKey(ca, request.params);
        // A release gives trust back; what takes it away waits for no one.
        const approval = action === 'release' ? action : undefined;
        const act = () => ({
          ...certificateAct(key, statusChange(request.body, client, ca.clock.wallMs())),
          mandate,
        });
        return change(ca, { request, reply }, act, approval);
      },
    );

    app.post(
      '/phone-revocations',
      {
        config: { roles: ['issuer'], lane: 'revocation' },
        schema: {
          summary: 'Give a phone up with the phone alone: either of its keys signs for it',
          headers: IdempotencyHeaders,
          body: RevokePhone,
          response: { 200: Changed, ...problems },
        },
      },
      async (request, reply) => {
        const caller = callerOf(request);
        const { onlineDeskCode: code } = ca.config.scheme;
        const mandate = mandateAt(ca, caller, { code, function: 'phone' });
        const message = Buffer.from(request.body.signedRevocation, 'base64');
        return change(ca, { request, reply }, async () => ({
          ...(await readPhoneRevocation(ca, message, caller.actor.client)),
          mandate,
        }));
      },
    );
  };

/** Keys that are certified no more. */
export const blockedKeyRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.post(
      '/blocked-keys',
      {
        config,
        schema: {
          summary: 'Block a public key for ever: it is not certified any more, and what it is in is revoked',
          headers: IdempotencyHeaders,
          body: BlockKey,
          response: { 200: Changed, ...proposed, ...problems },
        },
      },
      async (request, reply) => {
        const caller = callerOf(request);
        await refuseAllButNation(ca, caller, 'revoke');
        const keyHash = blockedKey(request.body);
        const { dryRun, planHash } = request.body;
        if (dryRun) {
          const consequence = checkedPlan({ planHash }, await ca.store.previewBlock({ keyHash }));
          for (const key of consequence.changes.map(keyOf))
            await noteTarget(ca, caller, { type: 'certificate', key });
          return reply.code(200).send(planned(ca, consequence));
        }
        return writeOnce(ca, { request, reply }, changePresentation(ca), async (command) => {
          const block = () =>
            ca.store.blockKey({
              ...{ ...command, keyHash, planHash, knownAfterMs: knownAfterMs(ca.config) },
              approvalsWanted: caller.approval === null ? wantedApprovals(ca) : [],
              revocationsMax: revocationsAlone(ca, caller),
            });
          return heldUntilApproved(ca, command, () => actOfBlock(ca, keyHash), block);
        });
      },
    );
  };

/** What blocking a key does to the certificate that it is in. */
async function actOfBlock(ca: CertificateAuthority, keyHash: Bytes): Promise<Act> {
  const { changes } = await ca.store.previewBlock({ keyHash });
  const first = changes[0];
  invariant(first, 'blocking a key that certifies nothing revokes nothing');
  const key = keyOf(first);
  return { target: { type: 'certificate', key }, plan: { type: 'blocked-key', key } };
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

function statusChange(
  { action, reason, invalidityDate, heldBy }: ChangeCertificateBody,
  client: string,
  nowMs: number,
): StatusChange | ReleaseRequest {
  const own: HoldSource = `operator:${client.slice(0, 16)}`;
  if (heldBy !== undefined && action !== 'release')
    throw new PkiError('bad-request', 'heldBy belongs to action release');
  if (action !== 'revoke') {
    if (reason !== undefined || invalidityDate !== undefined) {
      throw new PkiError('bad-request', 'reason and invalidityDate belong to action revoke');
    }
    if (action === 'hold') return { action, by: own };
    return { action: 'release-requested', named: heldBy as HoldSource | undefined, own };
  }
  const invalidityMs =
    invalidityDate === undefined ? null : pastInstant(invalidityDate, 'invalidityDate', nowMs);
  if (invalidityMs !== null && reason !== 'keyCompromise') {
    throw new PkiError('bad-request', 'invalidityDate belongs to reason keyCompromise');
  }
  return { action, reason: (reason ?? 'unspecified') as RevocationReason, invalidityMs };
}

/** The position behind an authority and a serial number as the API names them; `not-found` where there is none. */
export function certificateKey(
  ca: CertificateAuthority,
  { authority, serialNumber }: { authority: string; serialNumber: string },
): CertificateId {
  // Viewers print the octet of the sign, where there is one.
  const octets = fromHex(serialNumber.replace(/^(00)+(?=.)/, ''));
  const key = ca.authorities.byName(authority).positionOf(octets);
  if (!key) throw new PkiError('not-found', 'no such certificate');
  return key;
}
