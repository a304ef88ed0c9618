import { timingSafeEqual } from 'node:crypto';
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import { durationMs } from '../../core/config/duration.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type {
  AddressToConfirm,
  NoticePreferences,
  PreferencesSet,
} from '../../store/api/preference-store.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import {
  addressCodeOf,
  addressContext,
  addressKey,
  isAddressOf,
  readNoticeWishes,
} from '../notify/notice-wishes.ts';
import { IdempotencyHeaders, problems, writeOnce } from './answer.ts';
import { checkOnline } from './mandate.ts';
import { maybeInstant } from './present.ts';
import { ConfirmAddress, NoticesSet, SignedWishes } from './schema-outbox.ts';

const config = { roles: ['issuer'] } as const;
const HolderParams = Type.Object({ holderId: Type.String({ pattern: '^[A-Za-z0-9._-]{1,64}$' }) });

/** Notification preferences, signed by the holder with card or phone, and confirmation of the mail address. */
export const preferenceRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.post(
      '/holders/:holderId/notices',
      {
        config,
        schema: {
          summary:
            'Set which notifications a holder receives, and where, from a message that the holder signed',
          headers: IdempotencyHeaders,
          params: HolderParams,
          body: SignedWishes,
          response: { 200: NoticesSet, ...problems },
        },
      },
      async (request, reply) => {
        const { holderId } = request.params;
        await checkOnline(ca, request);
        const { confirmAddressWithin } = ca.config.notices;
        const expiresMs = ca.clock.wallMs() + durationMs(confirmAddressWithin);
        return writeOnce(ca, { request, reply }, { show: shown }, async (command) => {
          const der = Buffer.from(request.body.signedWishes, 'base64');
          const { client } = command.scope;
          const { content, view, challengeHash } = await readNoticeWishes(ca, der, { holderId, client });
          const before = await ca.preferences.of(holderId);
          const mailAddress = await addressOf(ca, before, holderId, content.mailAddress);
          return ca.preferences.setPreferences({
            ...{ ...command, holderId, challengeHash, mailAddress, expiresMs },
            occasions: content.occasions,
            language: content.language,
            changedMs: before?.changedMs ?? null,
            signedWith: view,
          });
        });
      },
    );

    app.post(
      '/holders/:holderId/notices/confirmation',
      {
        config,
        schema: {
          summary: 'Confirm a holder’s new mail address by the code that was sent to it',
          headers: IdempotencyHeaders,
          params: HolderParams,
          body: ConfirmAddress,
          response: { 200: NoticesSet, ...problems },
        },
      },
      async (request, reply) => {
        const { holderId } = request.params;
        await checkOnline(ca, request);
        return writeOnce(ca, { request, reply }, { show: shown }, async (command) => {
          const address = await ca.preferences.addressToConfirm(holderId);
          if (!address) throw new PkiError('code-not-usable', 'no address waits to be confirmed');
          await checkCode(ca, address, request.body.code);
          return ca.preferences.confirmAddress({ ...command, ...address });
        });
      },
    );
  };

/** A mail address as the record takes it: one that was confirmed before need not be again. */
async function addressOf(
  ca: CertificateAuthority,
  before: NoticePreferences | undefined,
  holderId: string,
  address: string | null,
) {
  if (address === null) return null;
  if (await isAddressOf(ca, before, address)) return 'kept';
  return ca.sealer.seal(addressKey, addressContext(holderId), Buffer.from(address));
}

/** Refuses a wrong code, of which only a few may come. */
async function checkCode(ca: CertificateAuthority, address: AddressToConfirm, given: string): Promise<void> {
  const right = Buffer.from(await addressCodeOf(ca, address.messageId));
  if (timingSafeEqual(right, Buffer.from(given.toUpperCase()))) return;
  await ca.preferences.countWrongCode(address);
  throw new PkiError('code-not-usable', 'not the code that was sent to the address');
}

const shown = ({ occasions, hasAddress, language, confirmByMs }: PreferencesSet) => ({
  occasions,
  by: hasAddress ? 'mail' : 'portal',
  language,
  confirmBy: maybeInstant(confirmByMs),
});
