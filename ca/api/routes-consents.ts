import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import { PkiError } from '../../core/runtime/errors.ts';
import type {
  Consent as RecordedConsent,
  Withholding as RecordedWithholding,
} from '../../store/api/consent-store.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { giveConsent, latestIdentity, receivedCertificate, withdrawByHolder } from '../issue/consents.ts';
import { IdempotencyHeaders, problems, proposed, writeOnce } from './answer.ts';
import { callerOf } from './caller.ts';
import { checkOnline, mandateOf, mayRead } from './mandate.ts';
import { instant, maybeInstant, reference } from './present.ts';
import { PurposeHeaders } from './readings.ts';
import { checkSigned, signatureHeader } from './routes-accesses.ts';
import { giveChallenge } from './routes-issuing.ts';
import { Challenge } from './schema.ts';
import {
  AskLatest,
  Consent,
  Latest,
  ListedConsent,
  SignedConsent,
  Withdrawal,
  Withhold,
  Withholding,
} from './schema-consents.ts';
import { admitQuestion, noteQuestion, verifierOf } from './verifier-caller.ts';

const HolderParams = Type.Object({ holderId: Type.String({ pattern: '^[A-Za-z0-9._-]{1,64}$' }) });
const ConsentParams = Type.Object({ consentId: Type.String({ pattern: '^[0-9a-f-]{36}$' }) });

/** Consents to the latest basic four, as verifiers have holders sign them. */
export const consentRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.post(
      '/consent-challenges',
      {
        config: { roles: ['verifier'] },
        schema: {
          summary: 'A single-use challenge for what a holder signs for this verifier',
          headers: IdempotencyHeaders,
          response: { 201: Challenge, ...problems },
        },
      },
      async (request, reply) => {
        await verifierOf(ca, request);
        return giveChallenge(ca, { request, reply });
      },
    );

    app.post(
      '/consents',
      {
        config: { roles: ['verifier'] },
        schema: {
          summary: 'Record a holder’s consent that this verifier gets the latest basic four for a service',
          headers: IdempotencyHeaders,
          body: SignedConsent,
          response: { 201: Consent, ...problems },
        },
      },
      async (request, reply) => {
        const { verifierId } = await verifierOf(ca, request);
        const der = Buffer.from(request.body.signedConsent, 'base64');
        const show = (consent: RecordedConsent) => shown(ca, consent);
        return writeOnce(ca, { request, reply }, { status: 201, show }, (command) =>
          giveConsent(ca, command, { der, verifierId }),
        );
      },
    );
  };

/** Consents that there are: listed and withdrawn. */
export const consentListRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.post(
      '/consents/:consentId/withdrawal',
      {
        config: { roles: ['verifier', 'revoker', 'issuer'], lane: 'revocation' },
        schema: {
          summary:
            'Withdraw a consent, for good: with the signature of any of the holder’s keys, or at a desk of the holder’s municipality',
          headers: IdempotencyHeaders,
          params: ConsentParams,
          body: Withdrawal,
          response: { 200: Consent, ...problems },
        },
      },
      async (request, reply) => {
        const { consentId } = request.params;
        const { body } = request;
        const { actor } = callerOf(request);
        if (actor.role === 'verifier') await verifierOf(ca, request);
        if (actor.role === 'issuer') await checkOnline(ca, request);
        const show = (consent: RecordedConsent) => shown(ca, consent);
        return writeOnce(ca, { request, reply }, { show }, (command) => {
          if ('signedWithdrawal' in body)
            return withdrawByHolder(ca, command, {
              ...{ der: Buffer.from(body.signedWithdrawal, 'base64'), consentId },
            });
          if (actor.role !== 'revoker')
            throw new PkiError(
              'bad-request',
              'signedWithdrawal: is missing; desks withdraw in the role revoker',
            );
          const code = 'deskCode' in body ? body.deskCode : undefined;
          const mandate = mandateOf(ca, callerOf(request), { code, function: 'consent' });
          return ca.consents.withdraw({ ...command, consentId, by: { type: 'desk', mandate } });
        });
      },
    );

    app.get(
      '/holders/:holderId/consents',
      {
        config: { roles: ['reader', 'issuer'], reads: true },
        schema: {
          summary:
            'Consents of a holder: with the holder’s signature (header Warifu-Signed-Query), or at a desk',
          headers: Type.Object({
            ...PurposeHeaders.properties,
            [signatureHeader]: Type.Optional(
              Type.String({ maxLength: 12_000, description: 'CMS of an AccessQuery, base64' }),
            ),
          }),
          params: HolderParams,
          response: { 200: Type.Object({ consents: Type.Array(ListedConsent) }), ...problems },
        },
      },
      async (request) => {
        const { holderId } = request.params;
        const caller = callerOf(request);
        const signed = request.headers[signatureHeader];
        if (typeof signed === 'string') await checkSigned(ca, request, { holderId, signed });
        else if (caller.actor.role !== 'reader')
          throw new PkiError('bad-request', 'this needs the holder’s signature (Warifu-Signed-Query)');
        else if (!(await mayRead(ca, caller, holderId))) throw new PkiError('not-found', 'no such holder');
        const consents = await ca.consents.ofHolder(holderId);
        const names = await namesOf(ca, consents);
        return {
          consents: consents.map((consent) => ({
            ...shown(ca, consent),
            verifier: names.get(consent.verifierId) ?? null,
            service: names.get(consent.serviceId) ?? null,
          })),
        };
      },
    );
  };

/** What is given by consents, and what is withheld. */
export const provisionRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.post(
      '/latest-basic-four',
      {
        config: { roles: ['verifier'] },
        schema: {
          summary:
            'The latest basic four of a holder who has consented to it, by a signing certificate of before',
          body: AskLatest,
          response: { 200: Latest, ...problems },
        },
      },
      async (request) => {
        const { verifierId, ...verifier } = await verifierOf(ca, request);
        await admitQuestion(ca, { verifierId, ...verifier });
        const received = await receivedCertificate(ca, Buffer.from(request.body.certificate, 'base64'));
        const { serviceId = verifierId } = request.body;
        const items = await latestIdentity(ca, received, { verifierId, serviceId });
        await noteQuestion(ca, request, {
          verifierId,
          holderId: received?.holderId ?? null,
          found: items !== undefined,
        });
        // One and the same answer, whatever the reason is.
        if (!items) throw new PkiError('not-found', 'nothing is given');
        return { items: items as object };
      },
    );

    app.post(
      '/holders/:holderId/withholding',
      {
        config: {
          roles: ['revoker'],
          lane: 'revocation',
          approval: ({ body }) => ((body as { withheld: boolean }).withheld ? undefined : 'end-withholding'),
        },
        schema: {
          summary:
            'Have nothing given out about a holder, from the next request on, or end that; no one is notified',
          headers: IdempotencyHeaders,
          params: HolderParams,
          body: Withhold,
          response: { 200: Withholding, ...proposed, ...problems },
        },
      },
      async (request, reply) => {
        const { holderId } = request.params;
        const { withheld: isWithheld, deskCode: code } = request.body;
        const mandate = mandateOf(ca, callerOf(request), { code, function: 'withhold' });
        const show = ({ sinceMs }: RecordedWithholding) => ({ holderId, withheldAt: maybeInstant(sinceMs) });
        return writeOnce(ca, { request, reply }, { show }, (command) =>
          ca.consents.withhold({ ...command, holderId, isWithheld, mandate }),
        );
      },
    );
  };

/** Names of the verifiers of consents. */
async function namesOf(
  ca: CertificateAuthority,
  consents: readonly RecordedConsent[],
): Promise<ReadonlyMap<string, string>> {
  const ids = new Set(consents.flatMap(({ verifierId, serviceId }) => [verifierId, serviceId]));
  const found = await Promise.all([...ids].map((id) => ca.verifiers.verifier(id)));
  return new Map(found.flatMap((each) => (each ? [[each.verifierId, each.name] as const] : [])));
}

const shown = (
  ca: CertificateAuthority,
  { holderId: _, signedWith, givenMs, endsMs, withdrawnMs, withdrawnBy, items, ...consent }: RecordedConsent,
) => ({
  ...consent,
  items: [...items],
  signedWith: reference(ca.authorities, signedWith),
  givenAt: instant(givenMs),
  endsAt: instant(endsMs),
  withdrawnAt: maybeInstant(withdrawnMs),
  // Which desk it was would say where the holder lives.
  withdrawnBy:
    withdrawnBy === null ? null : withdrawnBy === 'holder' ? ('holder' as const) : ('desk' as const),
});
