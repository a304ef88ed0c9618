import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import { PkiError } from '../../core/runtime/errors.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { problems } from './answer.ts';
import { callerOf } from './caller.ts';
import { mayRead } from './mandate.ts';
import * as present from './present.ts';
import { noteReading, PurposeHeaders } from './readings.ts';
import { MediumDetail } from './schema.ts';
import { identifier } from './schema-values.ts';

const kinds = [
  { path: '/cards/:id', type: 'card', summary: 'A card with its certificates, and whose it is' },
  { path: '/phones/:id', type: 'phone', summary: 'A phone with its certificates, and whose it is' },
] as const;

/** Cards and phones, for who has one in hand and does not know whose it is. */
export const mediaRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
    for (const { path, type, summary } of kinds) {
      app.get(
        path,
        {
          config: { roles: ['reader'], reads: true },
          schema: {
            summary,
            headers: PurposeHeaders,
            params: Type.Object({ id: identifier(type === 'card' ? 'cardId' : 'deviceId') }),
            response: { 200: MediumDetail, ...problems },
          },
        },
        async (request) => {
          const mediumId = `${type}:${request.params.id}`;
          const holderId = await ca.store.holderIdOf({ type: 'medium', mediumId });
          const caller = callerOf(request);
          const isReadable = holderId ? await mayRead(ca, caller, holderId) : false;
          const holder = holderId && isReadable ? await ca.store.holder(holderId) : undefined;
          const medium = holder?.media.find((each) => each.mediumId === mediumId);
          if (!holder || !medium) {
            if (!holderId) noteReading(caller, null, false);
            throw new PkiError('not-found', `no such ${type}`);
          }
          const own = holder.certificates.filter((view) => view.mediumId === mediumId);
          return {
            ...{ holderId: medium.holderId, type, id: request.params.id },
            expiresAt: present.instant(medium.expiresMs),
            ...{ platform: medium.platform, model: medium.model, osVersion: medium.osVersion },
            restsOn: medium.restsOn,
            certificates: own.map((view) => present.certificate(ca.authorities, view)),
          };
        },
      );
    }
  };
