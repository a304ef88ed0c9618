import { randomUUID } from 'node:crypto';
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import { PkiError } from '../../core/runtime/errors.ts';
import type { TimeCorrection } from '../../store/api/time-store.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { IdempotencyHeaders, problems, writeOnce } from './answer.ts';
import { refuseSystemToApprove } from './caller.ts';
import { instant, maybeInstant } from './present.ts';
import { ClockState, TimeCorrectionNote, TimeCorrectionView } from './schema-clock.ts';

const config = { roles: ['administrator'] } as const;

const present = ({ correctionId, note, state, fromMs, toMs, proposedBy, approvedBy }: TimeCorrection) => ({
  correctionId,
  note,
  state,
  from: instant(fromMs),
  to: maybeInstant(toMs),
  proposedBy,
  approvedBy,
});

/** The record's time, and how two administrators take it back where a clock was ahead. */
export const clockRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.get(
      '/clock',
      {
        config: { roles: ['administrator', 'reader'] },
        schema: {
          summary: 'The record’s time and the machine’s, and why nothing is issued where they differ',
          response: { 200: ClockState, ...problems },
        },
      },
      async () => ({
        recordTime: instant(ca.clock.wallMs()),
        machineTime: instant(ca.machineClock.wallMs()),
        unreliable: ca.clock.whyUnreliable?.() ?? null,
        corrections: (await ca.time.corrections()).map(present),
      }),
    );

    app.post(
      '/clock/corrections',
      {
        config,
        schema: {
          summary: 'Propose to take the record’s time back to the machine’s, which is behind it',
          headers: IdempotencyHeaders,
          body: TimeCorrectionNote,
          response: { 201: TimeCorrectionView, ...problems },
        },
      },
      async (request, reply) => {
        const { note = '' } = request.body;
        return writeOnce(ca, { request, reply }, { status: 201, show: present }, (command) => {
          const fromMs = refuseRight(ca);
          return ca.time.propose({ ...command, correctionId: randomUUID(), note, fromMs });
        });
      },
    );

    app.post(
      '/clock/corrections/:correctionId/approval',
      {
        config,
        schema: {
          summary:
            'Approve what another administrator has proposed: the record’s time is the machine’s from now on',
          headers: IdempotencyHeaders,
          params: Type.Object({ correctionId: Type.String({ format: 'uuid' }) }),
          response: { 200: TimeCorrectionView, ...problems },
        },
      },
      async (request, reply) => {
        refuseSystemToApprove(ca, request);
        const { correctionId } = request.params;
        return writeOnce(ca, { request, reply }, { show: present }, (command) => {
          refuseRight(ca);
          return ca.takeTimeBack({ ...command, correctionId });
        });
      },
    );
  };

/** The record's time, where the machine's is behind it; `illegal-transition` where it is not. */
function refuseRight(ca: CertificateAuthority): number {
  const [recordMs, machineMs] = [ca.clock.wallMs(), ca.machineClock.wallMs()];
  if (ca.clock.whyUnreliable?.() === undefined || machineMs >= recordMs)
    throw new PkiError(
      'illegal-transition',
      'the machine’s clock is not behind the record: nothing is to be taken back',
    );
  return recordMs;
}
