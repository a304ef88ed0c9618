import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import type { CertificateId } from '../../core/model/certificate-id.ts';
import { hex } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { CertificateView } from '../../store/api/certificate-store.ts';
import { shownAgain } from '../issue/adopted.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { IdempotencyHeaders, problems, writeOnce } from './answer.ts';
import { callerOf } from './caller.ts';
import { refuseAllButNation } from './mandate.ts';
import * as present from './present.ts';
import { noteReading, PurposeHeaders } from './readings.ts';
import { certificateKey } from './routes-revocation.ts';
import { Authority, CertificateSummary, SerialNumber } from './schema.ts';
import { Adopted, BindAdopted } from './schema-holders.ts';

const pageMax = 500;

/** Certificates that a restored record knows from its followers alone, and their holders. */
export const adoptedRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.get(
      '/certificates',
      {
        config: { roles: ['administrator', 'revoker', 'reader'], reads: true, lane: 'scan' },
        schema: {
          headers: PurposeHeaders,
          summary:
            'Certificates of a kind: those that a restore adopted, until they are bound to their holders',
          querystring: Type.Object(
            {
              adopted: Type.Enum(['', 'true'], { description: '?adopted' }),
              after: Type.Optional(
                Type.String({
                  pattern: '^[a-z0-9-]{1,64}/[0-9a-f]{2,40}$',
                  description: '`next` of the page before',
                }),
              ),
            },
            { additionalProperties: false },
          ),
          response: { 200: Adopted, ...problems },
        },
      },
      async (request) => {
        const caller = callerOf(request);
        if (caller.actor.role !== 'administrator') await refuseAllButNation(ca, caller, 'look-up');
        const found = await ca.holders.adopted(cursorOf(ca, request.query.after), pageMax);
        for (const { certificate } of found) noteReading(caller, certificate.holderId, true);
        const last = found.length === pageMax ? found.at(-1)?.certificate : undefined;
        return {
          certificates: found.map(({ certificate, adoptedMs }) => ({
            ...present.certificate(ca.authorities, certificate),
            adoptedAt: present.instant(adoptedMs),
          })),
          next: last ? nameOf(ca, last) : null,
        };
      },
    );

    app.post(
      '/certificates/:authority/:serialNumber/holder',
      {
        config: { roles: ['administrator'] },
        schema: {
          summary: 'Bind an adopted certificate to its holder, with its octets',
          headers: IdempotencyHeaders,
          params: Type.Object({ authority: Authority, serialNumber: SerialNumber }),
          body: BindAdopted,
          response: { 200: CertificateSummary, ...problems },
        },
      },
      async (request, reply) => {
        const key = certificateKey(ca, request.params);
        const { holderId, cardId, deviceId, restsOn, certificate } = request.body;
        const show = (after: CertificateView) => present.certificate(ca.authorities, after);
        return writeOnce(ca, { request, reply }, { show }, async (command) => {
          const mediumId = await mediumOf(ca, key, { cardId, deviceId });
          const shown = await shownAgain(ca, key, Buffer.from(certificate, 'base64'));
          const on = restsOn ? certificateKey(ca, restsOn) : null;
          return ca.holders.bindAdopted({ ...command, key, holderId, mediumId, ...shown, restsOn: on });
        });
      },
    );
  };

/** The card or phone that was named, which has to be of the certificate’s kind. */
async function mediumOf(
  ca: CertificateAuthority,
  key: CertificateId,
  named: { readonly cardId: string | undefined; readonly deviceId: string | undefined },
): Promise<string> {
  const kind = (await ca.store.certificate(key))?.kind ?? '';
  const { cardId, deviceId } = named;
  const isPhone = kind.startsWith('phone-');
  if (isPhone ? cardId !== undefined : deviceId !== undefined)
    throw new PkiError('bad-request', `a ${kind} certificate is on a ${isPhone ? 'phone' : 'card'}`);
  if (isPhone && deviceId !== undefined) return `phone:${deviceId}`;
  if (!isPhone && cardId !== undefined) return `card:${cardId}`;
  throw new PkiError('bad-request', `${isPhone ? 'deviceId' : 'cardId'}: has to be given`);
}

const nameOf = (ca: CertificateAuthority, { authority, ...key }: CertificateView): string =>
  `${authority}/${hex(ca.authorities.byName(authority).serialOf(key))}`;

function cursorOf(ca: CertificateAuthority, after: string | undefined): CertificateId | null {
  if (after === undefined) return null;
  const [authority = '', serialNumber = ''] = after.split('/');
  return certificateKey(ca, { authority, serialNumber });
}
