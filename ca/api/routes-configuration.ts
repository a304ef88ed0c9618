import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import { PkiError } from '../../core/runtime/errors.ts';
import { changesOfMeaning, meaningOf } from '../config/meaning.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { IdempotencyHeaders, problems, proposed, writeOnce } from './answer.ts';
import { closed } from './schema-values.ts';

const config = { roles: ['administrator'] } as const;
const Digest = Type.String({ pattern: '^[0-9a-f]{64}$', description: 'of what the configuration means' });

const Configuration = Type.Object({
  running: Digest,
  edited: Digest,
  changes: Type.Array(Type.Object({ key: Type.String(), from: Type.Unknown(), to: Type.Unknown() }), {
    description: 'what the edited file would change in what the service does',
  }),
});

/** What the edited configuration file would change; throws `bad-request` where it is none that the service could start with. */
function editedOf({ configuration }: Pick<CertificateAuthority, 'configuration'>) {
  const { running } = configuration;
  const edited = configuration.edited();
  return {
    running: meaningOf(running),
    edited: meaningOf(edited),
    changes: changesOfMeaning(running, edited),
  };
}

/** Refuses with `plan-changed` a digest that is not that of the edited file. */
function refuseOther(ca: CertificateAuthority, edited: string): void {
  if (editedOf(ca).edited !== edited)
    throw new PkiError('plan-changed', 'edited: the file is another by now; look at GET /v1/configuration');
}

/** Configurations that change what the service does: with which ones production starts. */
export const configurationRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.get(
      '/configuration',
      {
        config,
        schema: {
          summary: 'How the edited configuration file differs from what runs, in what it means',
          response: { 200: Configuration, ...problems },
        },
      },
      async () => editedOf(ca),
    );

    app.post(
      '/configuration',
      {
        config: {
          ...config,
          approval: ({ body }) => {
            refuseOther(ca, (body as { edited: string }).edited);
            return 'configuration';
          },
          plan: () => {
            const { changes, edited } = editedOf(ca);
            return { changes, edited };
          },
        },
        schema: {
          summary:
            'Allow the edited configuration: production starts with it from then on, and with no other',
          headers: IdempotencyHeaders,
          body: Type.Object({ edited: Digest }, closed),
          response: { 200: Type.Object({ edited: Digest }), ...proposed, ...problems },
        },
      },
      async (request, reply) => {
        const { edited } = request.body;
        return writeOnce(
          ca,
          { request, reply },
          { show: (outcome: { edited: string }) => outcome },
          (command) => {
            refuseOther(ca, edited);
            return ca.operations.allowConfiguration({ ...command, edited });
          },
        );
      },
    );
  };
