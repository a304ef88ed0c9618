import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type { FastifyRequest } from 'fastify';
import { durationMs } from '../../core/config/duration.ts';
import type { Mandate } from '../../core/model/desk.ts';
import { digest, hex } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { IdempotencyHeaders, problems, proposed, writeOnce } from './answer.ts';
import { callerOf } from './caller.ts';
import { functionOfIssuance, mandateAt } from './mandate.ts';
import { instant } from './present.ts';
import { CardOrder, OrderCards, type OrderCardsBody } from './schema-desks.ts';

/** Orders of cards that take the place of good ones, such as a factory's: approved once, and then issued in batches. */
export const orderRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.post(
      '/card-orders',
      {
        config: {
          roles: ['issuer'],
          approval: async (request) => {
            await checkOrder(ca, request);
            return 'card-order' as const;
          },
          // Who approves has the same file, and compares its hash.
          plan: ({ body, bodyOctets }) => ({
            cards: (body as OrderCardsBody).cards.length,
            bodySha256: hex(digest('sha256', bodyOctets ?? new Uint8Array())),
          }),
        },
        schema: {
          summary: 'Order cards that take the place of good ones: fixed as it is approved, used once each',
          headers: IdempotencyHeaders,
          body: OrderCards,
          response: { 201: CardOrder, ...proposed, ...problems },
        },
      },
      async (request, reply) => {
        const mandate = await checkOrder(ca, request);
        const { event, cards } = request.body;
        const expiresMs = ca.clock.wallMs() + durationMs(ca.config.approvals.orderLife);
        const show = ({
          expiresMs: endMs,
          ...order
        }: {
          orderId: string;
          cards: number;
          expiresMs: number;
        }) => ({
          ...order,
          expiresAt: instant(endMs),
        });
        return writeOnce(ca, { request, reply }, { status: 201, show }, (command) =>
          ca.desks.orderCards({ ...command, orderId: crypto.randomUUID(), event, cards, mandate, expiresMs }),
        );
      },
    );
  };

/** In whose name cards are ordered. Throws `bad-request` and `desk-not-allowed`. */
async function checkOrder(ca: CertificateAuthority, request: FastifyRequest): Promise<Mandate> {
  const { deskCode: code, event, cards } = request.body as OrderCardsBody;
  const { events } = ca.config.policy;
  const rule = Object.hasOwn(events, event) ? events[event] : undefined;
  if (!rule || rule.reissue.length === 0)
    throw new PkiError('bad-request', `event: ${event} is none by which certificates of a card are replaced`);
  const twice = cards.find(({ cardId }, i) => cards.findIndex((each) => each.cardId === cardId) !== i);
  if (twice) throw new PkiError('bad-request', `cards: ${twice.cardId} is named twice`);
  const mandate = mandateAt(ca, callerOf(request), { code, function: functionOfIssuance(rule) });
  await ca.desks.check(mandate);
  return mandate;
}
