import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { type Static, Type } from 'typebox';
import { compareVersions, type DeviceMatch as Match } from '../../core/model/device.ts';
import type { RevocationReason } from '../../core/model/revocation.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { IdempotencyHeaders, problems, writeOnce } from './answer.ts';
import { callerOf, refuseSystemToApprove } from './caller.ts';
import { refuseAllButNation } from './mandate.ts';
import * as present from './present.ts';
import { DeviceMatch, Matching, ProposeEnd, ProposeRestriction, Restriction } from './schema-operations.ts';

const config = { roles: ['revoker'] } as const;
const readers = { roles: ['revoker', 'reader'] } as const;
const uuid = Type.String({ pattern: '^[0-9a-f-]{36}$' });

/** Usage restrictions of phones: proposed by one client, approved by another. */
export const restrictionRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.post(
      '/restrictions/preview',
      {
        config: { ...config, lane: 'scan' },
        schema: {
          summary: 'How many phones a restriction would be about now',
          body: DeviceMatch,
          response: { 200: Matching, ...problems },
        },
      },
      async (request) => {
        await refuseAllButNation(ca, callerOf(request), 'report');
        return ca.operations.countMatching(matchOf(ca, request.body));
      },
    );

    app.post(
      '/restrictions',
      {
        config: { ...config, lane: 'revocation' },
        schema: {
          summary: 'Propose to hold all certificates of phones that match, and to refuse their enrolment',
          headers: IdempotencyHeaders,
          body: ProposeRestriction,
          response: { 201: Restriction, ...problems },
        },
      },
      async (request, reply) => {
        await refuseAllButNation(ca, callerOf(request), 'report');
        return writeOnce(ca, { request, reply }, { status: 201, show: present.restriction }, (command) =>
          ca.operations.proposeRestriction({
            ...command,
            restrictionId: crypto.randomUUID(),
            match: matchOf(ca, request.body.match),
            note: request.body.note ?? '',
            isEmergency: request.body.emergency ?? false,
          }),
        );
      },
    );

    app.post(
      '/restrictions/:restrictionId/end',
      {
        config,
        schema: {
          summary:
            'Propose to release what a restriction holds, which ends it, or to revoke it; revoked, enrolment stays closed until a release is approved',
          headers: IdempotencyHeaders,
          params: Type.Object({ restrictionId: uuid }),
          body: ProposeEnd,
          response: { 201: Restriction, ...problems },
        },
      },
      async (request, reply) => {
        await refuseAllButNation(ca, callerOf(request), 'report');
        const { action, reason } = request.body;
        if (action === 'release' && reason !== undefined)
          throw new PkiError('bad-request', 'reason: belongs to action revoke');
        const act = {
          restrictionId: request.params.restrictionId,
          action: action as 'release' | 'revoke',
          reason: action === 'revoke' ? ((reason ?? 'cessationOfOperation') as RevocationReason) : null,
        };
        return writeOnce(ca, { request, reply }, { status: 201, show: present.restriction }, (command) =>
          ca.operations.proposeEnd({ ...command, ...act }),
        );
      },
    );
  };

/** Decisions about what was proposed, and how far it has come. */
export const bulkOperationRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
    const decisions = { approval: 'approve', withdrawal: 'withdraw' } as const;
    for (const [path, decision] of Object.entries(decisions)) {
      app.post(
        `/mass-acts/:actId/${path}`,
        {
          config,
          schema: {
            summary:
              decision === 'approve'
                ? 'Approve what another client has proposed: it begins'
                : 'Withdraw what was proposed and not approved',
            headers: IdempotencyHeaders,
            params: Type.Object({ actId: uuid }),
            response: { 200: Restriction, ...problems },
          },
        },
        async (request, reply) => {
          await refuseAllButNation(ca, callerOf(request), 'report');
          if (decision === 'approve') refuseSystemToApprove(ca, request);
          const { actId } = request.params;
          return writeOnce(ca, { request, reply }, { show: present.restriction }, (command) =>
            ca.operations[decision]({ ...command, actId }),
          );
        },
      );
    }

    app.get(
      '/restrictions',
      {
        config: readers,
        schema: {
          summary: 'All restrictions, with how far their acts have come',
          response: { 200: Type.Object({ restrictions: Type.Array(Restriction) }), ...problems },
        },
      },
      async (request) => {
        await refuseAllButNation(ca, callerOf(request), 'look-up');
        return { restrictions: (await ca.operations.restrictions()).map(present.restriction) };
      },
    );

    app.get(
      '/restrictions/:restrictionId',
      {
        config: readers,
        schema: {
          summary: 'A restriction, with how far its acts have come',
          params: Type.Object({ restrictionId: uuid }),
          response: { 200: Restriction, ...problems },
        },
      },
      async (request) => {
        await refuseAllButNation(ca, callerOf(request), 'look-up');
        const found = await ca.operations.restriction(request.params.restrictionId);
        if (!found) throw new PkiError('not-found', 'no such restriction');
        return present.restriction(found);
      },
    );
  };

function matchOf(ca: CertificateAuthority, body: Static<typeof DeviceMatch>): Match {
  const { platform, models, secureElements, patchLevelBefore, ...versions } = body;
  if (!ca.config.scheme.platforms.includes(platform))
    throw new PkiError('bad-request', `platform: not one of ${ca.config.scheme.platforms.join(', ')}`);
  for (const what of ['os', 'applet', 'app'] as const) {
    const [from, to] = [versions[`${what}VersionFrom`], versions[`${what}VersionTo`]];
    if (from !== undefined && to !== undefined && compareVersions(from, to) > 0)
      throw new PkiError('bad-request', `${what}VersionTo: is before ${what}VersionFrom`);
  }
  return {
    platform,
    models: models ?? null,
    secureElements: secureElements ?? null,
    osVersionFrom: versions.osVersionFrom ?? null,
    osVersionTo: versions.osVersionTo ?? null,
    patchLevelBefore: patchLevelBefore ?? null,
    appletVersionFrom: versions.appletVersionFrom ?? null,
    appletVersionTo: versions.appletVersionTo ?? null,
    appVersionFrom: versions.appVersionFrom ?? null,
    appVersionTo: versions.appVersionTo ?? null,
  };
}
