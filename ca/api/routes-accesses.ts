import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type { FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import { PkiError } from '../../core/runtime/errors.ts';
import type { GroupedAccess } from '../../store/api/access-store.ts';
import type { Export } from '../../store/api/operations-store.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { readHolderMessage } from '../issue/holder-message.ts';
import { openQuery, queryTags } from '../issue/holder-queries.ts';
import { parseAccessQuery } from '../request/access-query.ts';
import { IdempotencyHeaders, problems, proposed, writeOnce } from './answer.ts';
import { type Caller, callerOf, scopeOf } from './caller.ts';
import { checkOnline, mayRead, refuseAllButNation } from './mandate.ts';
import { instant } from './present.ts';
import { noteReading, PurposeHeaders } from './readings.ts';
import { AllowExport, type AllowExportBody, AllowedExport, HolderAccesses } from './schema-accesses.ts';

const dayMs = 86_400_000;
const uuid = Type.String({ pattern: '^[0-9a-f-]{36}$' });
export const signatureHeader = 'warifu-signed-query';

/** Who looked a holder up, for the holder, or for two persons with a legal ground. */
export const accessRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.post(
      '/exports',
      {
        config: { roles: ['reader'], approval: ({ body }) => checkedExport(body as AllowExportBody) },
        schema: {
          summary:
            'Be allowed, for a day, to list holders by what of theirs ends, or who looked one holder up, on a legal ground',
          headers: IdempotencyHeaders,
          body: AllowExport,
          response: { 201: AllowedExport, ...proposed, ...problems },
        },
      },
      async (request, reply) => {
        const { what, holderId = null, ground } = request.body;
        checkedExport(request.body);
        const expiresMs = ca.clock.wallMs() + dayMs;
        const show = (allowed: Export) => ({
          exportId: allowed.exportId,
          expiresAt: instant(allowed.expiresMs),
        });
        return writeOnce(ca, { request, reply }, { status: 201, show }, (command) =>
          ca.operations.allowExport({
            ...{ ...command, exportId: crypto.randomUUID(), what, holderId, ground, expiresMs },
          }),
        );
      },
    );

    app.get(
      '/holders/:holderId/accesses',
      {
        config: { roles: ['issuer', 'reader'], reads: true },
        schema: {
          summary:
            'Who looked a holder up, and which verifiers asked: with the holder’s signature (header Warifu-Signed-Query), or an export that two persons allowed',
          headers: Type.Object({
            ...PurposeHeaders.properties,
            [signatureHeader]: Type.Optional(
              Type.String({ maxLength: 12_000, description: 'CMS of an AccessQuery, base64' }),
            ),
          }),
          params: Type.Object({ holderId: Type.String({ pattern: '^[A-Za-z0-9._-]{1,64}$' }) }),
          querystring: Type.Object({ export: Type.Optional(uuid) }, { additionalProperties: false }),
          response: { 200: HolderAccesses, ...problems },
        },
      },
      async (request) => {
        const { holderId } = request.params;
        const signed = request.headers[signatureHeader];
        if (typeof signed === 'string') await checkSigned(ca, request, { holderId, signed });
        else
          await checkExport(ca, callerOf(request), {
            exportId: request.query.export,
            what: 'accesses',
            holderId,
          });
        const keys = await queryTags(ca, holderId);
        const { accesses, queries } = await ca.accesses.of(
          holderId,
          keys.map(({ tag }) => tag),
        );
        const names = await namesOf(ca, accesses);
        // Verifiers are for the holder alone.
        const asked = typeof signed === 'string' ? queries.map((sealed) => openQuery(keys, sealed)) : [];
        // Who serves a protected holder would say where that one lives, to anyone who has the card.
        const hidden = typeof signed === 'string' && (await ca.consents.isWithheld(holderId));
        const all = accesses.map((access) => shown(access, names));
        return { accesses: hidden ? all.map(withoutPlace) : all, queries: asked.sort(byDay) };
      },
    );
  };

/** Throws `bad-request` where a holder is missing, or named for what is of all. */
function checkedExport({ what, holderId }: AllowExportBody): 'bulk-export' {
  if (what === 'accesses' && holderId === undefined)
    throw new PkiError('bad-request', 'holderId: is missing; accesses are those to one holder');
  if (what !== 'accesses' && holderId !== undefined)
    throw new PkiError('bad-request', `holderId: belongs to accesses, and not to ${what}`);
  return 'bulk-export';
}

const byDay = (a: { day: string }, b: { day: string }): number => b.day.localeCompare(a.day);

/** Whether the holder has signed for it, with any key that is good, over a challenge that is used up. */
export async function checkSigned(
  ca: CertificateAuthority,
  request: FastifyRequest,
  { holderId, signed }: { readonly holderId: string; readonly signed: string },
): Promise<void> {
  await checkOnline(ca, request);
  const { actor } = callerOf(request);
  const form = {
    contentType: ca.config.scheme.accessQueryContentType,
    name: 'AccessQuery',
    parse: parseAccessQuery,
    kinds: ['card-signing', 'card-authentication', 'phone-signing', 'phone-authentication'],
    mayBeHeld: false,
  } as const;
  const der = Buffer.from(signed, 'base64');
  const { content, view, challengeHash } = await readHolderMessage(ca, form, { der, client: actor.client });
  if (view.holderId !== holderId || content.holderId !== holderId)
    throw new PkiError('not-found', 'the signer is another holder');
  const scope = await scopeOf(ca, request, request.id);
  await ca.holders.useChallenge({ scope, actor, challengeHash });
  noteReading(callerOf(request), holderId, true);
}

/** Refuses with `bad-request` or `forbidden` what no export of this client allows now. */
export async function checkExport(
  ca: CertificateAuthority,
  caller: Caller,
  { exportId, what, holderId }: { readonly exportId: string | undefined } & Pick<Export, 'what' | 'holderId'>,
): Promise<void> {
  if (exportId === undefined)
    throw new PkiError(
      'bad-request',
      'this needs the holder’s signature (Warifu-Signed-Query), or export, as it was allowed (POST /v1/exports)',
    );
  const found = await ca.operations.export(exportId);
  const isAllowed =
    found?.client === caller.actor.client &&
    found.what === what &&
    found.holderId === holderId &&
    found.expiresMs > ca.clock.wallMs();
  if (!isAllowed)
    throw new PkiError(
      'forbidden',
      'export: is another client’s, of something else, or has ended: ask for one (POST /v1/exports)',
    );
  if (holderId === null) return refuseAllButNation(ca, caller, 'look-up');
  if (!(await mayRead(ca, caller, holderId))) throw new PkiError('not-found', 'no such holder');
}

/** Names of systems and verifiers; persons are known by where they act. */
async function namesOf(
  ca: CertificateAuthority,
  accesses: readonly GroupedAccess[],
): Promise<ReadonlyMap<string, string>> {
  const clientsOf = (wanted: string): string[] => [
    ...new Set(accesses.filter(({ kind }) => kind === wanted).map(({ client }) => client)),
  ];
  const systems = clientsOf('system').map(
    async (client) => [client, (await ca.clients.certificatesOf(client))[0]?.name ?? ''] as const,
  );
  const verifiers = clientsOf('verifier').map(
    async (client) => [client, (await ca.verifiers.verifier(client))?.name ?? ''] as const,
  );
  return new Map(await Promise.all([...systems, ...verifiers]));
}

/** An access without who it was, but for verifiers. */
const withoutPlace = (access: ReturnType<typeof shown>): ReturnType<typeof shown> =>
  access.kind === 'verifier' ? access : { ...access, name: null, actsFor: [] };

const shown = (
  { atMs, times, kind, client, role, actsFor, purpose, route }: GroupedAccess,
  names: ReadonlyMap<string, string>,
) => ({
  at: instant(atMs),
  times,
  kind: kind as 'person' | 'system' | 'verifier',
  name: names.get(client) ?? null,
  role,
  actsFor: [...actsFor],
  purpose,
  route: route.replace('/v1', ''),
});
