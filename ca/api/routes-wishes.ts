import { timingSafeEqual } from 'node:crypto';
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import { durationMs } from '../../core/config/config.ts';
import type { Actor, RequestScope } from '../../core/model/act.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { AddressToConfirm, NoticeWish } from '../../store/api/wish-store.ts';
import type { CertificateAuthority } from '../issue.ts';
import {
  addressCodeOf,
  addressContext,
  addressKey,
  isAddressOf,
  readNoticeWishes,
} from '../notify/notice-wishes.ts';
import { answerOnce, IdempotencyHeaders, problems, replySealer } from './answer.ts';
import { callerOf, checkDesk, scopeOf } from './caller.ts';
import { instant } from './present.ts';
import { ConfirmAddress, NoticesSet, SignedWishes } from './schema-outbox.ts';

const config = { roles: ['issuer'] } as const;
const HolderParams = Type.Object({ holderId: Type.String({ pattern: '^[A-Za-z0-9._-]{1,64}$' }) });

/** Notification preferences, signed by the holder with card or phone, and confirmation of the mail address. */
export const wishRoutes =
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
        return changeWish(ca, { request, reply }, async ({ scope, actor, seal }) => {
          const der = Buffer.from(request.body.signedWishes, 'base64');
          const { content, view, challengeHash } = await readNoticeWishes(ca, der, {
            holderId,
            client: scope.client,
          });
          const before = await ca.wishes.wish(holderId);
          const mailAddress = await addressOf(ca, before, holderId, content.mailAddress);
          const isNew = mailAddress !== null && mailAddress !== 'kept';
          const expiresMs = ca.clock.wallMs() + durationMs(ca.config.notices.confirmAddressWithin);
          await ca.wishes.setWish({
            ...{ scope, actor, holderId, challengeHash, mailAddress, expiresMs },
            occasions: content.occasions,
            language: content.language,
            changedMs: before?.changedMs ?? null,
            signedWith: view,
            reply: (after) => seal(200, shown(after, isNew ? expiresMs : null)),
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
        return changeWish(ca, { request, reply }, async ({ scope, actor, seal }) => {
          const address = await ca.wishes.addressToConfirm(holderId);
          if (!address) throw new PkiError('code-not-usable', 'no address waits to be confirmed');
          await checkCode(ca, address, request.body.code);
          await ca.wishes.confirmAddress({
            ...{ scope, actor, ...address },
            reply: (after) => seal(200, shown(after, null)),
          });
        });
      },
    );
  };

/** A write for the online desk that is made once, however often it is sent. */
async function changeWish(
  ca: CertificateAuthority,
  { request, reply }: { readonly request: FastifyRequest; readonly reply: FastifyReply },
  change: (command: {
    readonly scope: RequestScope;
    readonly actor: Actor;
    readonly seal: Awaited<ReturnType<typeof replySealer>>;
  }) => Promise<void>,
): Promise<FastifyReply> {
  const { actor } = callerOf(request);
  checkDesk(callerOf(request), ca.config.scheme.onlineDeskCode);
  const scope = await scopeOf(ca, request, String(request.headers['idempotency-key']));
  const seal = await replySealer(ca, scope);
  return answerOnce(ca, reply, scope, () => change({ scope, actor, seal }));
}

/** The address of a wish as the record takes it: one that was confirmed before need not be again. */
async function addressOf(
  ca: CertificateAuthority,
  before: NoticeWish | undefined,
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
  await ca.wishes.countWrongCode(address);
  throw new PkiError('code-not-usable', 'not the code that was sent to the address');
}

const shown = ({ occasions, mailAddress, language }: NoticeWish, confirmByMs: number | null) => ({
  occasions,
  by: mailAddress ? 'mail' : 'portal',
  language,
  confirmBy: confirmByMs === null ? null : instant(confirmByMs),
});
