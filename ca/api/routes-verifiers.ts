import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import type { ApprovalAct } from '../../core/model/approval.ts';
import { checkClientName, foldedName } from '../../core/model/client-name.ts';
import type { Term } from '../../core/model/verifier.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { uuidAt } from '../../core/runtime/uuid.ts';
import type { Credential, Verifier as RecordedAs, RecordedVerifier } from '../../store/api/verifier-store.ts';
import { isLoopback } from '../config/production.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { instantOf } from '../request/occurrence.ts';
import { IdempotencyHeaders, problems, proposed, writeOnce } from './answer.ts';
import { instant, maybeInstant } from './present.ts';
import {
  NewCredential,
  type NewCredentialBody,
  NewVerifier,
  type NewVerifierBody,
  RecordVerifier,
  type RecordVerifierBody,
  Verifier,
  VerifierId,
} from './schema-verifiers.ts';

const config = { roles: ['administrator'] } as const;
const pageMax = 500;
const Params = Type.Object({ verifierId: VerifierId });
const CredentialParams = Type.Object({
  verifierId: VerifierId,
  credentialId: Type.String({ pattern: '^[0-9a-f-]{36}$', description: 'of a credential of the verifier' }),
});

/** The register of verifiers: who may ask, about what, and by what each is known. */
export const verifierRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.get(
      '/verifiers',
      {
        config: { roles: ['administrator', 'reader'] },
        schema: {
          summary: 'All verifiers on the register, page by page',
          querystring: Type.Object({ after: Type.Optional(VerifierId) }, { additionalProperties: false }),
          response: {
            200: Type.Object({
              verifiers: Type.Array(Verifier),
              next: Type.Union([VerifierId, Type.Null()], {
                description: '`after` of the next page; null where there is none',
              }),
            }),
            ...problems,
          },
        },
      },
      async (request) => {
        const verifiers = await ca.verifiers.list(request.query.after ?? null, pageMax);
        const next = verifiers.length < pageMax ? null : (verifiers.at(-1)?.verifierId ?? null);
        return { verifiers: verifiers.map(shown), next };
      },
    );

    app.get(
      '/verifiers/:verifierId',
      {
        config: { roles: ['administrator', 'reader'] },
        schema: { summary: 'One of them', params: Params, response: { 200: Verifier, ...problems } },
      },
      async (request) => shown(await known(ca, request.params.verifierId)),
    );

    app.post(
      '/verifiers',
      {
        config: {
          ...config,
          // What is refused is refused before anyone is asked to approve it.
          approval: ({ body }) => {
            const { credentials = [], ...facts } = body as NewVerifierBody;
            verifierOf(ca, 'new', facts);
            for (const each of credentials) credentialOf(ca, each);
            return 'verifier-rights';
          },
        },
        schema: {
          summary: 'Record a verifier, as the competent authority has notified or certified it',
          headers: IdempotencyHeaders,
          body: NewVerifier,
          response: { 201: Verifier, ...proposed, ...problems },
        },
      },
      async (request, reply) => {
        const { credentials = [], ...facts } = request.body;
        const verifier = verifierOf(ca, uuidAt(ca.clock.wallMs()), facts);
        return writeOnce(ca, { request, reply }, { status: 201, show: shown }, (command) =>
          ca.verifiers.record({
            ...command,
            ...{ verifier, credentials: credentials.map((each) => credentialOf(ca, each)) },
          }),
        );
      },
    );
  };

/** What is changed of a verifier that is there. */
export const verifierChangeRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.post(
      '/verifiers/:verifierId',
      {
        config: {
          ...config,
          approval: async ({ params, body }) => {
            const { verifierId } = params as { verifierId: string };
            await known(ca, verifierId);
            verifierOf(ca, verifierId, body as RecordVerifierBody);
            return 'verifier-rights' as const;
          },
          plan: async ({ params }) => ({
            before: shown(await known(ca, (params as { verifierId: string }).verifierId)),
          }),
        },
        schema: {
          summary: 'Record what a verifier is from now on: all of it',
          headers: IdempotencyHeaders,
          params: Params,
          body: RecordVerifier,
          response: { 200: Verifier, ...proposed, ...problems },
        },
      },
      async (request, reply) => {
        await known(ca, request.params.verifierId);
        const verifier = verifierOf(ca, request.params.verifierId, request.body);
        return writeOnce(ca, { request, reply }, { show: shown }, (command) =>
          ca.verifiers.record({ ...command, verifier, credentials: [] }),
        );
      },
    );

    for (const [path, isSuspended] of [
      ['suspension', true],
      ['resumption', false],
    ] as const)
      app.post(
        `/verifiers/:verifierId/${path}`,
        {
          config: {
            ...config,
            lane: 'revocation',
            approval: isSuspended ? () => undefined : ({ params }) => approvedFor(ca, params),
          },
          schema: {
            summary: isSuspended
              ? 'Suspend a verifier: it is answered nothing, from the next request on'
              : 'Let a verifier that was suspended ask again',
            headers: IdempotencyHeaders,
            params: Params,
            response: { 200: Verifier, ...proposed, ...problems },
          },
        },
        async (request, reply) => {
          const { verifierId } = request.params;
          return writeOnce(ca, { request, reply }, { show: shown }, (command) =>
            ca.verifiers.suspend({ ...command, verifierId, isSuspended }),
          );
        },
      );
  };

/** By what a verifier is known. */
export const credentialRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.post(
      '/verifiers/:verifierId/credentials',
      {
        config: {
          ...config,
          approval: async ({ params, body }) => {
            credentialOf(ca, body as NewCredentialBody);
            return approvedFor(ca, params);
          },
        },
        schema: {
          summary: 'One more credential of a verifier: those that it has stay until they are ended',
          headers: IdempotencyHeaders,
          params: Params,
          body: NewCredential,
          response: { 200: Verifier, ...proposed, ...problems },
        },
      },
      async (request, reply) => {
        const { verifierId } = request.params;
        const credential = credentialOf(ca, request.body);
        return writeOnce(ca, { request, reply }, { show: shown }, (command) =>
          ca.verifiers.addCredential({ ...command, verifierId, credential }),
        );
      },
    );

    app.post(
      '/verifiers/:verifierId/credentials/:credentialId/end',
      {
        config: { ...config, lane: 'revocation' },
        schema: {
          summary: 'End a credential of a verifier, at once or at a time, for good',
          headers: IdempotencyHeaders,
          params: CredentialParams,
          body: Type.Object(
            { at: Type.Optional(Type.String({ format: 'date-time' })) },
            { additionalProperties: false },
          ),
          response: { 200: Verifier, ...problems },
        },
      },
      async (request, reply) => {
        const { at } = request.body;
        const toMs = at === undefined ? ca.clock.wallMs() : instantOf(at, 'at');
        return writeOnce(ca, { request, reply }, { show: shown }, (command) =>
          ca.verifiers.endCredential({ ...command, ...request.params, toMs }),
        );
      },
    );
  };

async function known(ca: CertificateAuthority, verifierId: string): Promise<RecordedVerifier> {
  const verifier = await ca.verifiers.verifier(verifierId);
  if (!verifier) throw new PkiError('not-found', 'no such verifier');
  return verifier;
}

async function approvedFor(ca: CertificateAuthority, params: unknown): Promise<ApprovalAct> {
  await known(ca, (params as { verifierId: string }).verifierId);
  return 'verifier-rights';
}

/** Throws `bad-request` for a term that ends before it begins. */
function termOf(
  ca: CertificateAuthority,
  { validFrom, validTo }: { readonly validFrom?: string; readonly validTo?: string },
): Term {
  const fromMs = validFrom === undefined ? ca.clock.wallMs() : instantOf(validFrom, 'validFrom');
  const toMs = validTo === undefined ? null : instantOf(validTo, 'validTo');
  if (toMs !== null && toMs <= fromMs) throw new PkiError('bad-request', 'validTo: is not after validFrom');
  return { fromMs, toMs };
}

/** A verifier as it was sent. Throws `bad-request`. */
function verifierOf(ca: CertificateAuthority, verifierId: string, body: RecordVerifierBody): RecordedAs {
  const { validFrom, validTo, url = null, platformId = null, ...facts } = body;
  const { requestsPerSecond = null, questionsPerDay = null, watchesMax = null } = body;
  checkClientName(facts.name);
  if (url !== null && !URL.canParse(url)) throw new PkiError('bad-request', 'url: is no address');
  if (url?.startsWith('http:') && ca.config.mode === 'production' && !isLoopback(new URL(url).hostname))
    throw new PkiError('bad-request', 'url: beyond this machine it has to be https');
  const term = termOf(ca, body);
  const { name, type, kinds, purposes } = facts;
  const quotas = { requestsPerSecond, questionsPerDay, watchesMax };
  return { verifierId, name, type, kinds, purposes, platformId, url, ...quotas, ...term };
}

/** A credential as it was sent. Throws `bad-request`. */
function credentialOf(ca: CertificateAuthority, body: NewCredentialBody): Omit<Credential, 'addedMs'> {
  const { type } = body;
  const { ocsp, crl, api, metrics } = ca.config;
  const taken = [
    ...[ocsp, crl].flatMap(({ port, verifiers }) => [port, verifiers.tls?.port]),
    ...[api.port, metrics?.port],
  ];
  if (type === 'port' && taken.includes(body.port))
    throw new PkiError('bad-request', `port: ${body.port} is that of all; give the verifier one of its own`);
  const value =
    type === 'port' ? String(body.port) : type === 'client' ? foldedName(body.client) : body.sha256;
  return { credentialId: uuidAt(ca.clock.wallMs()), type, value, ...termOf(ca, body) };
}

const shown = ({
  fromMs,
  toMs,
  suspendedMs,
  platformSuspendedMs,
  changedMs,
  version: _,
  credentials,
  ...verifier
}: RecordedVerifier) => ({
  ...verifier,
  kinds: [...verifier.kinds],
  purposes: [...verifier.purposes],
  validFrom: instant(fromMs),
  validTo: maybeInstant(toMs),
  suspendedAt: maybeInstant(suspendedMs),
  platformSuspendedAt: maybeInstant(platformSuspendedMs),
  changedAt: instant(changedMs),
  credentials: credentials.map(({ credentialId, type, value, fromMs, toMs }) => ({
    ...{ credentialId, type, value },
    validFrom: instant(fromMs),
    validTo: maybeInstant(toMs),
  })),
});
