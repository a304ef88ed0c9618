import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { problems } from './answer.ts';
import { callerOf } from './caller.ts';
import type { Followers } from './followers.ts';
import { refuseAllButNation } from './mandate.ts';
import type { Observed } from './observed.ts';
import { instant, maybeInstant } from './present.ts';
import { isPurposeRequired } from './readings.ts';
import { waitingFor } from './routes-proposals.ts';
import { CallerShape, CrlsShape, ServiceShape } from './schema-service.ts';

const config = { roles: ['administrator', 'reader'], polled: true } as const;
const crlsMax = 1000;

/** What the console and `warifu status` show of the service. */
export const serviceRoutes =
  (ca: CertificateAuthority, observed: Observed): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.get(
      '/caller',
      {
        config: { polled: true },
        schema: {
          summary: 'Who the caller is, and what it may do',
          response: { 200: CallerShape, ...problems },
        },
      },
      async (request) => {
        const { fingerprint, kind, roles, desks, municipalities, actor } = callerOf(request);
        const known = await ca.clients.client(fingerprint);
        return {
          clientId: actor.client,
          name: known?.name ?? null,
          kind,
          roles: [...roles],
          desks: [...desks],
          municipalities: [...municipalities],
          mode: ca.config.mode,
          purposes: [...ca.config.reading.purposes],
          events: Object.entries(ca.config.policy.events).map(([event, { target }]) => ({ event, target })),
          proposals: await waitingFor(ca, callerOf(request)),
          purposeRequired: isPurposeRequired(ca.config),
        };
      },
    );

    app.get(
      '/service',
      {
        config,
        schema: {
          summary: 'Authorities, nodes, followers, and what was signed and answered since the start',
          response: { 200: ServiceShape, ...problems },
        },
      },
      async (request) => {
        const caller = callerOf(request);
        if (caller.actor.role === 'reader') await refuseAllButNation(ca, caller, 'look-up');
        const nowMs = ca.clock.wallMs();
        return {
          node: ca.config.node,
          startedAt: instant(observed.startedMs),
          at: instant(nowMs),
          authorities: authoritiesOf(ca),
          nodes: [...(await ca.nodes.others())],
          followers: await followersOf(ca, observed.followers, nowMs),
          counts: countsOf(observed),
        };
      },
    );

    app.get(
      '/crls',
      {
        config,
        schema: {
          summary: 'How fresh each CRL is that this node publishes, page by page',
          querystring: Type.Object(
            { after: Type.Optional(Type.String({ maxLength: 256 })) },
            { additionalProperties: false },
          ),
          response: { 200: CrlsShape, ...problems },
        },
      },
      async (request) => {
        const caller = callerOf(request);
        if (caller.actor.role === 'reader') await refuseAllButNation(ca, caller, 'look-up');
        const found = await observed.published.freshness(request.query.after ?? '', crlsMax);
        return {
          crls: found.map(({ thisUpdateMs, nextUpdateMs, deltaNextUpdateMs, ...of }) => ({
            ...of,
            thisUpdate: instant(thisUpdateMs),
            nextUpdate: instant(nextUpdateMs),
            deltaNextUpdate: maybeInstant(deltaNextUpdateMs),
          })),
          next: found.length < crlsMax ? null : (found.at(-1)?.path ?? null),
        };
      },
    );
  };

function authoritiesOf({ authorities }: CertificateAuthority) {
  return authorities.all.map((authority) => {
    const { name, slot, generation, signer, notBeforeMs, notAfterMs } = authority;
    const { holderKey } = signer.suite;
    const isIssuing = holderKey !== null && authorities.issuing(slot, holderKey) === authority;
    return {
      ...{ authority: name, slot, generation, suite: signer.suite.name, issuing: isIssuing },
      ...{ notBefore: instant(notBeforeMs), notAfter: instant(notAfterMs) },
    };
  });
}

async function followersOf(ca: CertificateAuthority, followers: Followers, nowMs: number) {
  return Promise.all(
    followers.all.map(async ({ fingerprint, sinceMs, knownMs }) => {
      const known = await ca.clients.client(fingerprint);
      return {
        clientId: fingerprint,
        name: known?.name ?? null,
        connectedAt: instant(sinceMs),
        knownTo: knownMs === 0 ? null : instant(knownMs),
        lagSeconds: knownMs === 0 ? null : Math.max(0, nowMs - knownMs) / 1000,
      };
    }),
  );
}

function countsOf(observed: Observed) {
  const signed = observed.signed();
  const of = (...purposes: Parameters<typeof signed.get>[0][]): number =>
    purposes.reduce((sum, purpose) => sum + (signed.get(purpose) ?? 0), 0);
  return {
    certificates: of('certificate'),
    crls: of('crl'),
    others: of('audit', 'message'),
    waiting: observed.waiting(),
    ocspAnswers: observed.ocspAnswers(),
  };
}
