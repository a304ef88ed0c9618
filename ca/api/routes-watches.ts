import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import { keyOf } from '../../core/model/certificate-id.ts';
import { type HolderKind, type Slot, slotOf, slotOfAuthority } from '../../core/model/kinds.ts';
import { errorStatus, PkiError } from '../../core/runtime/errors.ts';
import type { RecordedVerifier } from '../../store/api/verifier-store.ts';
import type { Watch as RecordedWatch } from '../../store/api/watch-store.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { keepQuery } from '../issue/holder-queries.ts';
import { receivedBy } from '../issue/receipts.ts';
import { IdempotencyHeaders, once, problems, writeOnce } from './answer.ts';
import { callerOf, scopeOf } from './caller.ts';
import { instant, reference } from './present.ts';
import { purposeOf } from './readings.ts';
import { certificateKey } from './routes-revocation.ts';
import { Authority, SerialNumber } from './schema.ts';
import { Noted } from './schema-outbox.ts';
import {
  AskLink,
  FetchNotices,
  Link,
  VerifierNotice,
  Watch,
  WatchMany,
  WatchOne,
  WatchResult,
} from './schema-watches.ts';
import { admitQuestion, checkKind, noteQuestion, verifierOf } from './verifier-caller.ts';

const config = { roles: ['verifier'] } as const;
const CertificateParams = Type.Object({ authority: Authority, serialNumber: SerialNumber });
const listMax = 1000;
const noticesMax = 500;

/** What a verifier watches: certificates that it shows to have received. */
export const watchRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.post(
      '/certificates/:authority/:serialNumber/watches',
      {
        config,
        schema: {
          summary: 'Notify this verifier of what becomes of a certificate that it has received',
          headers: IdempotencyHeaders,
          params: CertificateParams,
          body: WatchOne,
          response: { 200: Watch, ...problems },
        },
      },
      async (request, reply) => {
        const verifier = await verifierOf(ca, request);
        const key = certificateKey(ca, request.params);
        return writeOnce(ca, { request, reply }, { show: shownBy(ca) }, async (command) => {
          const watched = await watchedBy(ca, verifier, request.body);
          if (JSON.stringify(watched.key) !== JSON.stringify(keyOf(key)))
            throw new PkiError('invalid-signed-request', 'receipt: another certificate has signed it');
          return ca.watches.watch({ ...command, ...watched });
        });
      },
    );

    app.post(
      '/watches',
      {
        config,
        schema: {
          summary: 'The same of several; each is answered for itself, in their order',
          headers: IdempotencyHeaders,
          body: WatchMany,
          response: { 200: Type.Object({ results: Type.Array(WatchResult) }), ...problems },
        },
      },
      async (request, reply) => watchMany(ca, request, reply, request.body.watches),
    );

    app.get(
      '/watches',
      {
        config,
        schema: {
          summary: 'What this verifier watches, page by page',
          querystring: Type.Object(
            { after: Type.Optional(Type.String({ pattern: '^[a-z]+-[0-9]+/[0-9a-f]{34}$' })) },
            { additionalProperties: false },
          ),
          response: {
            200: Type.Object({
              watches: Type.Array(Watch),
              next: Type.Union([Type.String(), Type.Null()], {
                description: '`after` of the next page; null where there is none',
              }),
            }),
            ...problems,
          },
        },
      },
      async (request) => {
        const { verifierId } = await verifierOf(ca, request);
        const [authority = '', serialNumber = ''] = request.query.after?.split('/') ?? [];
        const after =
          request.query.after === undefined ? null : certificateKey(ca, { authority, serialNumber });
        const watches = (await ca.watches.list(verifierId, after, listMax)).map(shownBy(ca));
        const last = watches.length < listMax ? undefined : watches.at(-1);
        return { watches, next: last ? `${last.authority}/${last.serialNumber}` : null };
      },
    );

    app.post(
      '/certificates/:authority/:serialNumber/watches/end',
      {
        config,
        schema: {
          summary: 'Notify this verifier of a certificate no more',
          headers: IdempotencyHeaders,
          params: CertificateParams,
          response: { 200: Watch, ...problems },
        },
      },
      async (request, reply) => {
        const { verifierId: verifier } = await verifierOf(ca, request);
        const key = certificateKey(ca, request.params);
        return writeOnce(ca, { request, reply }, { show: shownBy(ca) }, (command) =>
          ca.watches.end({ ...command, verifier, key }),
        );
      },
    );
  };

/** What a verifier learns. */
export const linkRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.post(
      '/certificate-links',
      {
        config,
        schema: {
          summary:
            'The certificate that belongs to one which this verifier has received, or came next, if it is good now',
          body: AskLink,
          response: { 200: Link, ...problems },
        },
      },
      async (request) => {
        const verifier = await verifierOf(ca, request);
        const { verifierId } = verifier;
        await admitQuestion(ca, verifier);
        const { receipt, link } = request.body;
        const nothing = { verifierId, holderId: null, found: false };
        const received = await receivedBy(ca, verifierId, Buffer.from(receipt, 'base64')).catch(
          async (error: unknown) => {
            await noteQuestion(ca, request, nothing);
            throw error instanceof PkiError && error.code === 'not-found' ? nothingGiven() : error;
          },
        );
        const needed: readonly Slot[] =
          link === 'pair' ? ['signing', 'authentication'] : [slotOf(received.kind as HolderKind)];
        if (!needed.every((kind) => verifier.kinds.includes(kind)))
          throw new PkiError(
            'forbidden',
            `link: this is for verifiers of ${needed.join(' and ')} certificates`,
          );
        const found = await ca.watches.linked(received, link);
        await noteQuestion(ca, request, {
          ...{ verifierId, holderId: received.holderId, found: found !== undefined },
        });
        // One and the same answer, whatever the reason is.
        if (!found) throw nothingGiven();
        return { ...reference(ca.authorities, found), kind: found.kind };
      },
    );

    app.post(
      '/verifier-notices',
      {
        config,
        schema: {
          summary: 'Notices for this verifier, oldest first, until it says that it has received them',
          body: FetchNotices,
          response: { 200: Type.Object({ notices: Type.Array(VerifierNotice) }), ...problems },
        },
      },
      async (request) => {
        const verifier = await verifierOf(ca, request);
        const { verifierId, kinds } = verifier;
        await ca.watches.received(verifierId, request.body.received ?? []);
        const waiting = (await ca.watches.notices(verifierId, noticesMax)).filter(({ kind }) =>
          kinds.includes(slotOf(kind as HolderKind)),
        );
        return {
          notices: await Promise.all(
            waiting.map(async ({ messageId, certificate, kind, occasion, reason, createdMs }) => ({
              ...{ messageId, ...reference(ca.authorities, certificate), kind, occasion, reason },
              reference: await ca.watches.reference(verifierId, certificate),
              createdAt: instant(createdMs),
            })),
          ),
        };
      },
    );
  };

/** What a verifier reports. */
export const useRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.post(
      '/certificates/:authority/:serialNumber/uses',
      {
        config,
        schema: {
          summary: 'Report that this verifier used a certificate, for its holder’s notice',
          headers: IdempotencyHeaders,
          params: CertificateParams,
          response: { 200: Noted, ...problems },
        },
      },
      async (request, reply) => {
        const by = await verifierOf(ca, request);
        const { verifierId: verifier } = by;
        const key = certificateKey(ca, request.params);
        checkKind(by, slotOfAuthority(key.authority));
        const max = ca.config.verifiers.usesPerHolder;
        const show = () => ({ noted: true });
        return writeOnce<null>(ca, { request, reply }, { show }, async (command) => {
          // First: a repetition is answered from the record, and would not keep it; kept twice it is there once.
          const holderId = (await ca.store.certificate(key))?.holderId;
          // One of those that are configured: a verifier fills no list with words of its own.
          const purpose = purposeOf(ca, request);
          if (holderId != null) await keepQuery(ca, holderId, { verifier, purpose });
          return ca.watches.used({ ...command, verifier, key, max });
        });
      },
    );
  };

const nothingGiven = (): PkiError => new PkiError('not-found', 'nothing is given');

/** What is to be watched, by its receipt. Throws `invalid-signed-request`. */
async function watchedBy(
  ca: CertificateAuthority,
  verifier: RecordedVerifier,
  { receipt, reference }: { readonly receipt: string; readonly reference?: string },
) {
  const { verifierId, watchesMax } = verifier;
  const view = await receivedBy(ca, verifierId, Buffer.from(receipt, 'base64'));
  checkKind(verifier, slotOf(view.kind as HolderKind));
  if (view.state === 'revoked' && view.reason === 'keyCompromise')
    throw new PkiError(
      'invalid-signed-request',
      'receipt: the key that has signed it is known to have leaked',
    );
  const max = watchesMax ?? ca.config.verifiers.watchesMax;
  return { verifier: verifierId, key: keyOf(view), reference: reference ?? null, max };
}

/** Carries out each by itself, once for its place in the request. */
async function watchMany(
  ca: CertificateAuthority,
  request: FastifyRequest,
  reply: FastifyReply,
  wanted: readonly { readonly receipt: string; readonly reference?: string }[],
): Promise<FastifyReply> {
  const verifier = await verifierOf(ca, request);
  const { actor } = callerOf(request);
  const scope = await scopeOf(ca, request, String(request.headers['idempotency-key']));
  const answers = await Promise.all(
    wanted.map(async (each, i) => {
      // No client can send a key with a space.
      const own = { ...scope, idempotencyKey: `${scope.idempotencyKey} ${i}` };
      try {
        const { body, replayed } = await once<RecordedWatch, object>(
          ca,
          own,
          { show: shownBy(ca) },
          async () => ca.watches.watch({ scope: own, actor, ...(await watchedBy(ca, verifier, each)) }),
        );
        return { result: { watch: body, problem: null }, replayed };
      } catch (error) {
        if (!(error instanceof PkiError) || errorStatus[error.code] >= 500) throw error;
        return {
          result: { watch: null, problem: { title: error.code, detail: error.message } },
          replayed: true,
        };
      }
    }),
  );
  if (answers.every(({ replayed }) => replayed)) void reply.header('Idempotency-Replayed', 'true');
  return reply.code(200).send({ results: answers.map(({ result }) => result) });
}

const shownBy =
  (ca: CertificateAuthority) =>
  ({ key, reference: own, createdMs }: RecordedWatch) => ({
    ...reference(ca.authorities, key),
    reference: own,
    createdAt: instant(createdMs),
  });
