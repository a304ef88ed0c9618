import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import { hex } from '../../core/runtime/bytes.ts';
import type { Message as Sent } from '../../store/api/outbox-store.ts';
import { isOrder } from '../../store/api/outbox-store.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { IdempotencyHeaders, problems, writeOnce } from './answer.ts';
import { callerOf } from './caller.ts';
import { refuseAllButNation } from './mandate.ts';
import * as present from './present.ts';
import { Message, MessageState } from './schema-outbox.ts';

const MessageParams = Type.Object({ messageId: Type.String({ pattern: '^[0-9a-f-]{36}$' }) });
const pageMax = 1000;

/** What is done to one message, and by whom. */
const messageActs = [
  {
    path: '/outbox/:messageId/replay',
    role: 'administrator',
    summary: 'Have a message that was given up tried again',
    name: 'replay',
  },
  {
    path: '/orders/:messageId/confirmation',
    role: 'tsm',
    summary: 'Confirm that what was ordered is done',
    name: 'confirm',
  },
] as const;

/** Orders and notices: who wants them, what became of them. */
export const outboxRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.get(
      '/outbox',
      {
        config: { roles: ['administrator', 'reader'] },
        schema: {
          summary: 'Orders and notices of a state, oldest first',
          querystring: Type.Object(
            {
              state: MessageState,
              after: Type.Optional(Type.String({ pattern: '^[0-9a-f-]{36}$' })),
            },
            { additionalProperties: false },
          ),
          response: { 200: Type.Object({ messages: Type.Array(Message) }), ...problems },
        },
      },
      async (request) => {
        const caller = callerOf(request);
        if (caller.actor.role === 'reader') await refuseAllButNation(ca, caller, 'look-up');
        const { state, after = null } = request.query;
        const found = await ca.outbox.messages(state as Sent['state'], after, pageMax);
        return { messages: found.map((message) => shown(ca, message)) };
      },
    );

    for (const { path, role, summary, name } of messageActs) {
      app.post(
        path,
        {
          config: { roles: [role] },
          schema: {
            summary,
            headers: IdempotencyHeaders,
            params: MessageParams,
            response: { 200: Message, ...problems },
          },
        },
        async (request, reply) => {
          const { messageId } = request.params;
          const show = (message: Sent) => shown(ca, message);
          return writeOnce(ca, { request, reply }, { show }, (command) =>
            ca.outbox[name]({ ...command, messageId }),
          );
        },
      );
    }
  };

function shown(ca: CertificateAuthority, message: Sent) {
  const { authority, ...key } = message.certificate;
  const { createdMs, dueMs, deliveredMs, confirmedMs, mediumId, ...others } = message;
  return {
    messageId: others.messageId,
    type: others.type,
    destination: others.destination,
    authority,
    serialNumber: hex(ca.authorities.byName(authority).serialOf(key)),
    kind: others.kind,
    occasion: others.occasion,
    reason: others.reason,
    deviceId: isOrder(message) && mediumId !== null ? mediumId.slice('phone:'.length) : null,
    instance: others.instance,
    createdAt: present.instant(createdMs),
    state: others.state,
    attempts: others.attempts,
    dueAt: present.maybeInstant(dueMs),
    lastError: others.lastError,
    deliveredAt: present.maybeInstant(deliveredMs),
    confirmedAt: present.maybeInstant(confirmedMs),
  };
}
