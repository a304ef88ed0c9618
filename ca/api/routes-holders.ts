import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type { FastifyReply } from 'fastify';
import { Type } from 'typebox';
import { durationMs } from '../../core/config/duration.ts';
import type { Mandate } from '../../core/model/desk.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { Correction, EnrolmentCode } from '../../store/api/holder-store.ts';
import type { PlanRequest } from '../../store/api/plan-request.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { codeHashOf } from '../issue/phone.ts';
import { spelled } from '../notify/notice-wishes.ts';
import { type Exchange, IdempotencyHeaders, once, problems, sendAnswered, writeOnce } from './answer.ts';
import { callerOf, refuseSystemToApprove, scopeOf } from './caller.ts';
import { change } from './changes.ts';
import { mandateAt, mandateOf, mayRead } from './mandate.ts';
import { instant, maybeInstant } from './present.ts';
import { PurposeHeaders } from './readings.ts';
import { Changed } from './schema.ts';
import {
  EnrolmentCode as CodeShape,
  ConfirmStorage,
  Correction as CorrectionShape,
  GiveCode,
  ProposeCorrection,
} from './schema-holders.ts';

const uuid = Type.String({ pattern: '^[0-9a-f-]{36}$' });
const HolderParams = Type.Object({ holderId: Type.String({ pattern: '^[A-Za-z0-9._-]{1,64}$' }) });

/** Corrections of holders who were closed in error. */
export const holderRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.post(
      '/holders/:holderId/corrections',
      {
        config: { roles: ['revoker'] },
        schema: {
          summary: 'Propose to open a holder who was closed in error; another client approves',
          headers: IdempotencyHeaders,
          params: HolderParams,
          body: ProposeCorrection,
          response: { 201: CorrectionShape, ...problems },
        },
      },
      async (request, reply) => {
        const { holderId } = request.params;
        const { note } = request.body;
        const correctionId = crypto.randomUUID();
        const mandate = mandateOf(ca, callerOf(request), { code: request.body.deskCode, function: 'report' });
        return writeOnce(ca, { request, reply }, { status: 201, show: shown }, (command) =>
          ca.holders.proposeCorrection({ ...command, mandate, correctionId, holderId, note }),
        );
      },
    );

    const decisions = { approval: 'approveCorrection', withdrawal: 'withdrawCorrection' } as const;
    for (const [path, decision] of Object.entries(decisions)) {
      app.post(
        `/corrections/:correctionId/${path}`,
        {
          config: { roles: ['revoker'] },
          schema: {
            summary:
              path === 'approval'
                ? 'Approve a correction that another client has proposed: the holder is open again'
                : 'Withdraw a correction that is not approved',
            headers: IdempotencyHeaders,
            params: Type.Object({ correctionId: uuid }),
            response: { 200: CorrectionShape, ...problems },
          },
        },
        async (request, reply) => {
          const { correctionId } = request.params;
          if (path === 'approval') refuseSystemToApprove(ca, request);
          const mandate = mandateOf(ca, callerOf(request), { code: undefined, function: 'report' });
          return writeOnce(ca, { request, reply }, { show: shown }, (command) =>
            ca.holders[decision]({ ...command, mandate, correctionId }),
          );
        },
      );
    }

    app.get(
      '/holders/:holderId/corrections',
      {
        config: { roles: ['revoker', 'reader'], reads: true },
        schema: {
          summary: 'Corrections of a holder, oldest first',
          headers: PurposeHeaders,
          params: HolderParams,
          response: { 200: Type.Object({ corrections: Type.Array(CorrectionShape) }), ...problems },
        },
      },
      async (request) => {
        const { holderId } = request.params;
        const isReadable = await mayRead(ca, callerOf(request), holderId);
        return { corrections: isReadable ? (await ca.holders.corrections(holderId)).map(shown) : [] };
      },
    );
  };

/** Codes of desks, and what the TSM says of storage. */
export const holderPhoneRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.post(
      '/enrolment-codes',
      {
        config: { roles: ['issuer'] },
        schema: {
          summary:
            'Allow one phone to a holder whose card has no signing certificate, by a code for 15 minutes',
          headers: IdempotencyHeaders,
          body: GiveCode,
          response: { 201: CodeShape, ...problems },
        },
      },
      async (request, reply) => {
        const { holderId, cardId, deskCode: code } = request.body;
        const mandate = mandateAt(ca, callerOf(request), { code, function: 'code' });
        return giveCode(ca, { request, reply }, { holderId, mediumId: `card:${cardId}`, mandate });
      },
    );

    app.post(
      '/issuances/:issuanceId/storage',
      {
        config: { roles: ['tsm'] },
        schema: {
          summary:
            'Confirm that a phone’s certificates are stored: it takes its predecessor’s place; or that they are not',
          headers: IdempotencyHeaders,
          params: Type.Object({ issuanceId: uuid }),
          body: ConfirmStorage,
          response: { 200: Changed, ...problems },
        },
      },
      async (request, reply) => {
        const { issuanceId } = request.params;
        const { certificates } = await ca.store.issuance(issuanceId);
        const { mediumId = null, holderId = null } = certificates[0] ?? {};
        if (holderId === null || mediumId === null || !mediumId.startsWith('phone:'))
          throw new PkiError('not-found', 'no such issuance to a phone');
        const plan: PlanRequest = request.body.stored
          ? { type: 'arrived', issuanceId, event: 'phone-stored' }
          : { type: 'unconfirmed', issuanceId, unconfirmed: 'revoke', event: 'phone-not-stored' };
        const { applet: said, stored } = request.body;
        const applet = said && stored ? { ...said, issuanceId, mediumId } : null;
        const act = { target: { type: 'holder', holderId }, plan, applet } as const;
        return change(ca, { request, reply }, () => act);
      },
    );
  };

const enrolmentCodeLife = '15min';

/** Eighty bits. */
const codeLength = 16;

/**
 * Gives a code once. It is made of the request and its time, so that no answer on record holds it, and a repetition gives it
 * again.
 */
async function giveCode(
  ca: CertificateAuthority,
  { request, reply }: Exchange,
  to: { readonly holderId: string; readonly mediumId: string; readonly mandate: Mandate },
): Promise<FastifyReply> {
  if (ca.config.issuing.enrolmentCodes === 'off')
    throw new PkiError('function-closed', 'enrolment codes are off here: issuing.enrolmentCodes');
  const { actor } = callerOf(request);
  const scope = await scopeOf(ca, request, String(request.headers['idempotency-key']));
  const codeAt = async (expiresAt: string): Promise<string> => {
    const made = Buffer.from(`code:${JSON.stringify([scope.client, scope.idempotencyKey, expiresAt])}`);
    return spelled(await ca.sealer.keyedHash(made, scope.bodyHash), codeLength);
  };
  const expiresMs = ca.clock.wallMs() + durationMs(enrolmentCodeLife);
  const codeHash = await codeHashOf(ca, await codeAt(instant(expiresMs)));
  const show = (given: EnrolmentCode) => ({ expiresAt: instant(given.expiresMs) });
  const answered = await once<EnrolmentCode, { expiresAt: string }>(ca, scope, { status: 201, show }, () =>
    ca.holders.giveCode({ scope, actor, ...to, expiresMs, codeHash }),
  );
  const code = await codeAt(answered.body.expiresAt);
  return sendAnswered(reply, { ...answered, body: { ...answered.body, code } });
}

const shown = ({ proposedMs, approvedMs, closedMs, ...correction }: Correction) => ({
  ...correction,
  closedAt: instant(closedMs),
  proposedAt: instant(proposedMs),
  approvedAt: maybeInstant(approvedMs),
});
