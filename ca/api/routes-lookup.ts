import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import type { DeviceFacts } from '../../core/model/device.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { wantedApprovals } from '../config/approvals.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { openCertificate } from '../issue/enrolling-card.ts';
import { renewalsBefore } from '../issue/renewal-list.ts';
import { problems } from './answer.ts';
import { type Caller, callerOf } from './caller.ts';
import { mayRead, readableOf } from './mandate.ts';
import * as present from './present.ts';
import { noteReading, PurposeHeaders } from './readings.ts';
import { checkExport } from './routes-accesses.ts';
import { certificateKey } from './routes-revocation.ts';
import {
  Authority,
  CarriedMedia,
  CertificateDetail,
  History,
  Holder,
  Renewals,
  SerialNumber,
} from './schema.ts';
import { Health } from './schema-operations.ts';

/** Warnings in one answer. */
const warningsMax = 100;
const dayMs = 86_400_000;

const config = { roles: ['reader'], reads: true } as const;
const HolderParams = Type.Object({ holderId: Type.String({ pattern: '^[A-Za-z0-9._-]{1,64}$' }) });

/** Certificates and holders, as they are now. */
export const lookupRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.get(
      '/certificates/:authority/:serialNumber',
      {
        config,
        schema: {
          summary: 'A certificate and its status',
          headers: PurposeHeaders,
          params: Type.Object({ authority: Authority, serialNumber: SerialNumber }),
          response: { 200: CertificateDetail, ...problems },
        },
      },
      async (request) => {
        const view = await ca.store.certificate(certificateKey(ca, request.params));
        if (!view || !(await mayRead(ca, callerOf(request), view.holderId)))
          throw new PkiError('not-found', 'no such certificate');
        // What certifies a signing key holds the basic four.
        const isPersonal = view.kind === 'card-signing' || view.kind === 'phone-signing';
        const isShown = !isPersonal || callerOf(request).roles.includes('identity-reader');
        if (!isShown) return { ...present.certificate(ca.authorities, view), certificate: null };
        const der = await openCertificate(ca, view).catch((error: unknown) => {
          // The year's personal data was erased; the status stays.
          if (error instanceof PkiError && error.code === 'not-found') return undefined;
          throw error;
        });
        return { ...present.certificate(ca.authorities, view), certificate: der ? present.pem(der) : null };
      },
    );

    app.get(
      '/holders/:holderId',
      {
        config,
        schema: {
          summary: 'A holder’s media and certificates',
          headers: PurposeHeaders,
          params: HolderParams,
          response: { 200: Holder, ...problems },
        },
      },
      async (request) => {
        const { holderId } = request.params;
        const holder = await ca.store.holder(holderId);
        if (!holder || !(await mayRead(ca, callerOf(request), holderId)))
          throw new PkiError('not-found', 'no such holder');
        return {
          holderId,
          media: holder.media.map(({ holderId: _, expiresMs, ...medium }) => ({
            ...medium,
            ...versionsOf(medium),
            expiresAt: present.instant(expiresMs),
            applets: holder.applets
              .filter(({ mediumId }) => mediumId === medium.mediumId)
              .map(({ issuanceId, instanceId, version }) => ({ instance: issuanceId, instanceId, version })),
          })),
          certificates: holder.certificates.map((view) => present.certificate(ca.authorities, view)),
          standing: holder.standing && present.standing(holder.standing),
        };
      },
    );
  };

const versionsOf = ({ appletVersion = null, appVersion = null }: Partial<DeviceFacts>) => ({
  appletVersion,
  appVersion,
});

/** What reporting a loss needs to know of a holder, and no more. */
export const lossRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.get(
      '/holders/:holderId/media',
      {
        config: { roles: ['revoker', 'reader'], reads: true },
        schema: {
          summary:
            'The cards and phones of a holder that carry certificates in force: what reporting a loss needs',
          headers: PurposeHeaders,
          params: HolderParams,
          response: { 200: CarriedMedia, ...problems },
        },
      },
      async (request) => {
        const { holderId } = request.params;
        const holder = await ca.store.holder(holderId);
        if (!holder || !(await mayRead(ca, callerOf(request), holderId)))
          throw new PkiError('not-found', 'no such holder');
        const nowMs = ca.clock.wallMs();
        const carried = holder.media.flatMap(({ mediumId, type, platform, model }) => {
          const own = holder.certificates.filter(
            (view) => view.mediumId === mediumId && view.notAfterMs > nowMs,
          );
          const states = own
            .map(({ state }) => state)
            .filter((state) => state === 'good' || state === 'held');
          if (states.length === 0) return [];
          const [, id = ''] = mediumId.split(/:(.*)/s);
          return [{ ...{ type, id, platform, model }, isHeld: !states.includes('good') }];
        });
        return { media: carried };
      },
    );
  };

/** What happened to holders and certificates. */
export const historyRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.get(
      '/holders/:holderId/history',
      {
        config,
        schema: {
          summary: 'What happened to a holder’s certificates, with actor and cause',
          headers: PurposeHeaders,
          params: HolderParams,
          response: { 200: History, ...problems },
        },
      },
      async (request) => {
        const { holderId } = request.params;
        const holder = await ca.store.holder(holderId);
        if (!holder || !(await mayRead(ca, callerOf(request), holderId)))
          throw new PkiError('not-found', 'no such holder');
        const entries = await ca.store.history({ holderId });
        return {
          holderId,
          entries: entries.map((entry) => present.historyEntry(ca.authorities, entry)),
          events: holder.facts.events.map(present.lifeEvent),
        };
      },
    );

    app.get(
      '/certificates/:authority/:serialNumber/history',
      {
        config,
        schema: {
          summary: 'What happened to one certificate, with actor and cause',
          headers: PurposeHeaders,
          params: Type.Object({ authority: Authority, serialNumber: SerialNumber }),
          response: { 200: Type.Pick(History, ['entries']), ...problems },
        },
      },
      async (request) => {
        const key = certificateKey(ca, request.params);
        const view = await ca.store.certificate(key);
        if (!view || !(await mayRead(ca, callerOf(request), view.holderId)))
          throw new PkiError('not-found', 'no such certificate');
        const entries = await ca.store.history(key);
        return { entries: entries.map((entry) => present.historyEntry(ca.authorities, entry)) };
      },
    );
  };

/** Whether a list says whose certificates they are: where that needs no export, or one allows it. Throws `forbidden` where it does not. */
async function namesHolders(
  ca: CertificateAuthority,
  caller: Caller,
  exportId: string | undefined,
): Promise<boolean> {
  if (exportId !== undefined) await checkExport(ca, caller, { exportId, what: 'renewals', holderId: null });
  return exportId !== undefined || !wantedApprovals(ca).includes('bulk-export');
}

/** What is due, and how the service is. */
export const overviewRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.get(
      '/renewals',
      {
        config: { ...config, lane: 'scan' },
        schema: {
          summary: 'Certificates in force that end within so many days, some of them; `next` asks for more',
          headers: PurposeHeaders,
          querystring: Type.Object(
            {
              export: Type.Optional(
                Type.String({
                  pattern: '^[0-9a-f-]{36}$',
                  description:
                    'that allows to see whose they are (POST /v1/exports); without, production does not say',
                }),
              ),
              days: Type.String({ pattern: '^[1-9][0-9]{0,3}$', description: 'days from now' }),
              after: Type.Optional(Type.String({ pattern: '^[a-z]+-[0-9]+/[0-9a-f]{34}$' })),
            },
            { additionalProperties: false },
          ),
          response: { 200: Renewals, ...problems },
        },
      },
      async (request) => {
        const { days, after } = request.query;
        const [authority = '', serialNumber = ''] = after?.split('/') ?? [];
        const from = after === undefined ? undefined : certificateKey(ca, { authority, serialNumber });
        const nowMs = ca.clock.wallMs();
        const caller = callerOf(request);
        const { renewals, next } = await renewalsBefore(ca, nowMs + Number(days) * dayMs, from, (all) =>
          readableOf(ca, caller, all),
        );
        const last = next && present.reference(ca.authorities, next);
        const isNamed = await namesHolders(ca, caller, request.query.export);
        if (isNamed) for (const { view } of renewals) noteReading(caller, view.holderId, true);
        return {
          certificates: renewals.map(({ view, opensMs }) => ({
            ...present.certificate(ca.authorities, view),
            ...(isNamed ? {} : { holderId: null, mediumId: null }),
            endsAt: present.instant(view.endsMs),
            opensAt: present.maybeInstant(opensMs),
          })),
          next: last ? `${last.authority}/${last.serialNumber}` : null,
        };
      },
    );

    app.get(
      '/health',
      { schema: { summary: 'Whether the service can do its work', response: { 200: Health, ...problems } } },
      async (request) => {
        const tokens = await ca.checkHealth();
        const { roles } = callerOf(request);
        // They name clients, which are for those to see who look after them.
        const isTold = roles.includes('administrator') || roles.includes('reader');
        const warnings = ca.warnings.current.slice(0, warningsMax).map(present.warning);
        return { status: 'ok' as const, mode: ca.config.mode, tokens, ...(isTold ? { warnings } : {}) };
      },
    );
  };
