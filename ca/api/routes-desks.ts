import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import type { ApprovalAct } from '../../core/model/approval.ts';
import { functionsOfKind, isOfMunicipality } from '../../core/model/desk.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { Desk as RecordedAs, RecordedDesk } from '../../store/api/desk-store.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { instantOf } from '../request/occurrence.ts';
import { townOf } from '../request/towns.ts';
import { IdempotencyHeaders, problems, proposed, writeOnce } from './answer.ts';
import { instant, maybeInstant } from './present.ts';
import { Desk, DeskCode, RecordDesk, type RecordDeskBody } from './schema-desks.ts';

const config = { roles: ['administrator'] } as const;
const pageMax = 500;

/** Desks: what each is, for whom it acts, and until when. */
export const deskRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.get(
      '/desks',
      {
        config: { roles: ['administrator', 'reader'] },
        schema: {
          summary: 'All desks on record, page by page',
          querystring: Type.Object({ after: Type.Optional(DeskCode) }, { additionalProperties: false }),
          response: {
            200: Type.Object({
              desks: Type.Array(Desk),
              next: Type.Union([DeskCode, Type.Null()], {
                description: '`after` of the next page; null where there is none',
              }),
            }),
            ...problems,
          },
        },
      },
      async (request) => {
        const desks = await ca.desks.list(request.query.after ?? null, pageMax);
        const next = desks.length < pageMax ? null : (desks.at(-1)?.deskCode ?? null);
        return { desks: desks.map(shown), next };
      },
    );

    app.post(
      '/desks',
      {
        config: {
          ...config,
          // What is refused is refused before anyone is asked to approve it.
          approval: ({ body }) => {
            deskOf(ca, body as RecordDeskBody);
            return 'desk-rights';
          },
          plan: ({ body }) => changeOf(ca, body as RecordDeskBody),
        },
        schema: {
          summary: 'Record a desk, or what it is from now on',
          headers: IdempotencyHeaders,
          body: RecordDesk,
          response: { 200: Desk, ...proposed, ...problems },
        },
      },
      async (request, reply) => {
        const desk = deskOf(ca, request.body);
        return writeOnce(ca, { request, reply }, { show: shown }, (command) =>
          ca.desks.record({ ...command, desk }),
        );
      },
    );

    for (const [path, isSuspended] of [
      ['suspension', true],
      ['resumption', false],
    ] as const)
      app.post(
        `/desks/:deskCode/${path}`,
        {
          config: {
            ...config,
            lane: 'revocation',
            approval: isSuspended
              ? () => undefined
              : ({ params }) => resumedIn(ca, params as { deskCode: string }),
          },
          schema: {
            summary: isSuspended
              ? 'Suspend a desk: it may do nothing, from the next request on'
              : 'Let a desk that was suspended go on',
            headers: IdempotencyHeaders,
            params: Type.Object({ deskCode: DeskCode }),
            response: { 200: Desk, ...proposed, ...problems },
          },
        },
        async (request, reply) => {
          const { deskCode } = request.params;
          return writeOnce(ca, { request, reply }, { show: shown }, (command) =>
            ca.desks.suspend({ ...command, deskCode, isSuspended }),
          );
        },
      );
  };

/** A desk as it was sent, with what follows from its kind. Throws `bad-request`. */
function deskOf(ca: CertificateAuthority, body: RecordDeskBody): RecordedAs {
  const { deskCode, kind, municipalityCode, functions = functionsOfKind[kind], actsPerDay = null } = body;
  if ((deskCode === ca.config.scheme.onlineDeskCode) !== (kind === 'online'))
    throw new PkiError(
      'bad-request',
      `kind: ${ca.config.scheme.onlineDeskCode}, and no other desk, is online`,
    );
  const possible: readonly string[] = functionsOfKind[kind];
  const other = functions.find((each) => !possible.includes(each));
  if (other !== undefined)
    throw new PkiError(
      'bad-request',
      `functions: a desk of the kind ${kind} may ${possible.join(', ')}, and not ${other}`,
    );
  if (isOfMunicipality(kind) !== (municipalityCode !== undefined))
    throw new PkiError(
      'bad-request',
      `municipalityCode: ${isOfMunicipality(kind) ? 'belongs to' : 'is none of'} a desk of the kind ${kind}`,
    );
  const own = municipalityCode === undefined ? null : townOf(ca.config, municipalityCode).code;
  const wanted = body.municipalities ?? [own ?? '*'];
  const municipalities = wanted.map((code) => (code === '*' ? code : townOf(ca.config, code).code));
  if (own !== null && municipalities.includes('*'))
    throw new PkiError('bad-request', 'municipalities: * is for desks of no municipality');
  if (kind === 'post-office' && (municipalities.length !== 1 || municipalities[0] !== own))
    throw new PkiError('bad-request', 'municipalities: a post office acts for the one that delegated to it');
  const validFromMs =
    body.validFrom === undefined ? ca.clock.wallMs() : instantOf(body.validFrom, 'validFrom');
  const validToMs = body.validTo === undefined ? null : instantOf(body.validTo, 'validTo');
  if (validToMs !== null && validToMs <= validFromMs)
    throw new PkiError('bad-request', 'validTo: is not after validFrom');
  return { deskCode, kind, municipality: own, functions, municipalities, actsPerDay, validFromMs, validToMs };
}

/** A desk as it will be, all of it, and as it is. */
async function changeOf(ca: CertificateAuthority, body: RecordDeskBody): Promise<object> {
  const desk = deskOf(ca, body);
  const before = await ca.desks.desk(desk.deskCode);
  const after = { ...desk, suspendedMs: before?.suspendedMs ?? null, changedMs: ca.clock.wallMs() };
  return { desk: shown(after), before: before ? shown(before) : null };
}

/** Throws `not-found` where there is no such desk. */
async function resumedIn(ca: CertificateAuthority, { deskCode }: { deskCode: string }): Promise<ApprovalAct> {
  if (!(await ca.desks.desk(deskCode))) throw new PkiError('not-found', 'no such desk');
  return 'desk-rights';
}

const shown = ({ municipality, validFromMs, validToMs, suspendedMs, changedMs, ...desk }: RecordedDesk) => ({
  ...desk,
  functions: [...desk.functions],
  municipalities: [...desk.municipalities],
  municipalityCode: municipality,
  validFrom: instant(validFromMs),
  validTo: maybeInstant(validToMs),
  suspendedAt: maybeInstant(suspendedMs),
  changedAt: instant(changedMs),
});
