import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type { FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import { checkClientName } from '../../core/model/client-name.ts';
import { slotOfAuthority } from '../../core/model/kinds.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { uuidAt } from '../../core/runtime/uuid.ts';
import type { IntakeEntry, Intake as RecordedIntake } from '../../store/api/intake-store.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { verifyCustomerSignature } from '../issue/intake-signatures.ts';
import { IdempotencyHeaders, problems, proposed, writeOnce } from './answer.ts';
import { callerOf } from './caller.ts';
import { instant, reference } from './present.ts';
import { certificateKey } from './routes-revocation.ts';
import {
  AddEntries,
  BeginIntake,
  Intake,
  IntakePage,
  IntakeWithSample,
  ShowSignatures,
} from './schema-intakes.ts';
import { admitQuestion, checkKind, verifierOf } from './verifier-caller.ts';

const config = { roles: ['verifier'] } as const;
const IntakeId = Type.String({
  pattern: '^[0-9a-f-]{36}$',
  description: 'as it was answered when it was begun',
});
const Params = Type.Object({ intakeId: IntakeId });
const pageMax = 100;

/** Intakes of customers of before, as their verifier makes one. */
export const intakeRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.post(
      '/watch-intakes',
      {
        config,
        schema: {
          summary:
            'Begin an intake: to watch certificates of customers of before, of whom there is no receipt',
          headers: IdempotencyHeaders,
          body: BeginIntake,
          response: { 201: Intake, ...problems },
        },
      },
      async (request, reply) => {
        const { verifierId } = await verifierOf(ca, request);
        const intakeId = uuidAt(ca.clock.wallMs());
        const { statement } = request.body;
        checkClientName(statement, 'statement');
        return writeOnce(ca, { request, reply }, { status: 201, show: shown }, (command) =>
          ca.intakes.begin({ ...command, intakeId, verifierId, statement }),
        );
      },
    );

    app.post(
      '/watch-intakes/:intakeId/entries',
      {
        config,
        schema: {
          summary: 'Add certificates to it; one that is in it already counts once',
          headers: IdempotencyHeaders,
          params: Params,
          body: AddEntries,
          response: { 200: Intake, ...problems },
        },
      },
      async (request, reply) => {
        const verifier = await verifierOf(ca, request);
        const { verifierId, watchesMax } = verifier;
        const max = watchesMax ?? ca.config.verifiers.watchesMax;
        return writeOnce(ca, { request, reply }, { show: shown }, async (command) => {
          // Which serial numbers there are is a question, too; a repetition is none.
          await admitQuestion(ca, verifier);
          const entries: IntakeEntry[] = [];
          for (const [i, { reference: own = null, ...of }] of request.body.entries.entries()) {
            checkKind(verifier, slotOfAuthority(of.authority));
            const key = await readPart(`entries[${i}]`, () => certificateKey(ca, of));
            entries.push({ key, reference: own });
          }
          return ca.intakes.add({ ...command, ...request.params, verifierId, entries, max });
        });
      },
    );
  };

/** What is drawn of its list, and what customers have signed. */
export const intakeSampleRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.post(
      '/watch-intakes/:intakeId/sample',
      {
        config,
        schema: {
          summary: 'Close its list, and draw those whose signatures are to be shown',
          headers: IdempotencyHeaders,
          params: Params,
          response: { 200: Intake, ...problems },
        },
      },
      async (request, reply) => {
        const { verifierId } = await verifierOf(ca, request);
        const size = ca.config.verifiers.intakeSample;
        return writeOnce(ca, { request, reply }, { show: shown }, (command) =>
          ca.intakes.draw({ ...command, ...request.params, verifierId, size }),
        );
      },
    );

    app.post(
      '/watch-intakes/:intakeId/signatures',
      {
        config,
        schema: {
          summary: 'Show what customers of the sample have signed: all of these are verified, or none counts',
          headers: IdempotencyHeaders,
          params: Params,
          body: ShowSignatures,
          response: { 200: Intake, ...problems },
        },
      },
      async (request, reply) => {
        const { verifierId } = await verifierOf(ca, request);
        const { intakeId } = request.params;
        return writeOnce(ca, { request, reply }, { show: shown }, async (command) => {
          const { statement } = await known(ca, intakeId, verifierId);
          const signatures = [];
          for (const [i, der] of request.body.signatures.entries())
            signatures.push(
              await readPart(`signatures[${i}]`, () =>
                verifyCustomerSignature(ca, { statement, der: Buffer.from(der, 'base64') }),
              ),
            );
          return ca.intakes.show({ ...command, intakeId, verifierId, signatures });
        });
      },
    );
  };

/** What is read of intakes, and decided about them. */
export const intakeDecisionRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.get(
      '/watch-intakes',
      {
        config: { roles: ['administrator', 'verifier'] },
        schema: {
          summary: 'Intakes, page by page: of a verifier its own',
          querystring: Type.Object({ after: Type.Optional(IntakeId) }, { additionalProperties: false }),
          response: { 200: IntakePage, ...problems },
        },
      },
      async (request) => {
        const own = await ownOf(ca, request);
        const intakes = await ca.intakes.list(own, request.query.after ?? null, pageMax);
        const next = intakes.length < pageMax ? null : (intakes.at(-1)?.intakeId ?? null);
        return { intakes: intakes.map(shown), next };
      },
    );

    app.get(
      '/watch-intakes/:intakeId',
      {
        config: { roles: ['administrator', 'verifier'] },
        schema: {
          summary: 'One of them, with what is still to be shown',
          params: Params,
          response: { 200: IntakeWithSample, ...problems },
        },
      },
      async (request) => {
        const intake = await known(ca, request.params.intakeId, await ownOf(ca, request));
        const toShow = await ca.intakes.toShow(intake.intakeId);
        return { ...shown(intake), toShow: toShow.map((key) => reference(ca.authorities, key)) };
      },
    );

    app.post(
      '/watch-intakes/:intakeId/acceptance',
      {
        config: {
          roles: ['administrator'],
          approval: () => 'verifier-rights',
          plan: async ({ params }) => {
            const intake = await known(ca, (params as { intakeId: string }).intakeId, null);
            // What is refused is refused before anyone is asked to approve it.
            if (intake.state !== 'shown')
              throw new PkiError('illegal-transition', `the intake is ${intake.state}, not shown`);
            return { intake: shown(intake) };
          },
        },
        schema: {
          summary: 'Accept it: its certificates are watched from then on',
          headers: IdempotencyHeaders,
          params: Params,
          response: { 200: Intake, ...proposed, ...problems },
        },
      },
      async (request, reply) =>
        writeOnce(ca, { request, reply }, { show: shown }, (command) =>
          ca.intakes.accept({ ...command, ...request.params }),
        ),
    );

    app.post(
      '/watch-intakes/:intakeId/end',
      {
        config: { roles: ['administrator', 'verifier'] },
        schema: {
          summary:
            'End it without: its verifier until the sample is drawn, an administrator until it is accepted',
          headers: IdempotencyHeaders,
          params: Params,
          response: { 200: Intake, ...problems },
        },
      },
      async (request, reply) => {
        const verifierId = await ownOf(ca, request);
        return writeOnce(ca, { request, reply }, { show: shown }, (command) =>
          ca.intakes.end({ ...command, ...request.params, verifierId }),
        );
      },
    );
  };

/** Whose intakes a caller sees: a verifier its own, an administrator all (null). */
const ownOf = async (ca: CertificateAuthority, request: FastifyRequest): Promise<string | null> =>
  callerOf(request).actor.role === 'verifier' ? (await verifierOf(ca, request)).verifierId : null;

/** An intake, of that verifier where one asks. Throws `not-found`. */
async function known(
  ca: CertificateAuthority,
  intakeId: string,
  verifierId: string | null,
): Promise<RecordedIntake> {
  const intake = await ca.intakes.intake(intakeId);
  if (!intake || (verifierId !== null && intake.verifierId !== verifierId))
    throw new PkiError('not-found', 'no such intake');
  return intake;
}

/** Reads a part of a request; a refusal says which. */
async function readPart<T>(part: string, read: () => T | Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    throw error instanceof PkiError ? new PkiError(error.code, `${part}: ${error.message}`) : error;
  }
}

const shown = ({ begunMs, changedMs, ...intake }: RecordedIntake) => ({
  ...intake,
  begunAt: instant(begunMs),
  changedAt: instant(changedMs),
});
