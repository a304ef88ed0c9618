import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import { PkiError } from '../../core/errors.ts';
import type { CertificateAuthority } from '../issue.ts';
import { openCertificate } from '../phone.ts';
import { problems } from './answer.ts';
import * as present from './present.ts';
import { certificateKey } from './routes-revocation.ts';
import { Authority, CertificateDetail, Health, History, Holder, SerialNumber } from './schema.ts';

const config = { roles: ['reader'] } as const;
const HolderParams = Type.Object({ holderId: Type.String({ pattern: '^[A-Za-z0-9._-]{1,64}$' }) });

export const lookupRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.get(
      '/certificates/:authority/:serialNumber',
      {
        config,
        schema: {
          summary: 'A certificate and its status',
          params: Type.Object({ authority: Authority, serialNumber: SerialNumber }),
          response: { 200: CertificateDetail, ...problems },
        },
      },
      async (request) => {
        const view = await ca.store.certificate(certificateKey(ca, request.params));
        if (!view) throw new PkiError('not-found', 'no such certificate');
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
          params: HolderParams,
          response: { 200: Holder, ...problems },
        },
      },
      async (request) => {
        const { holderId } = request.params;
        const holder = await ca.store.holder(holderId);
        if (!holder) throw new PkiError('not-found', 'no such holder');
        return {
          holderId,
          media: holder.media.map(({ holderId: _, expiresMs, ...medium }) => ({
            ...medium,
            expiresAt: present.instant(expiresMs),
          })),
          certificates: holder.certificates.map((view) => present.certificate(ca.authorities, view)),
        };
      },
    );

    app.get(
      '/holders/:holderId/history',
      {
        config,
        schema: {
          summary: 'What happened to a holder’s certificates, with actor and cause',
          params: HolderParams,
          response: { 200: History, ...problems },
        },
      },
      async (request) => {
        const { holderId } = request.params;
        if (!(await ca.store.holder(holderId))) throw new PkiError('not-found', 'no such holder');
        const entries = await ca.store.history(holderId);
        return {
          holderId,
          entries: entries.map(({ atMs, change, reason, cause, actor, ...key }) => ({
            at: present.instant(atMs),
            ...present.reference(ca.authorities, key),
            change,
            reason,
            cause: present.cause(ca.authorities, cause),
            actor,
          })),
        };
      },
    );

    app.get(
      '/health',
      { schema: { summary: 'Whether the service can do its work', response: { 200: Health, ...problems } } },
      async () => {
        const tokens = await ca.checkHealth();
        return { status: 'ok' as const, tokens };
      },
    );
  };
