import { Type } from 'typebox';
import { fail } from '../../core/config/read.ts';
import { closed, text } from '../../core/config/values.ts';

/** Where the record is kept. */
export const RecordOptions = Type.Object(
  {
    postgres: Type.Optional(
      Type.Object(
        {
          hosts: Type.Array(
            Type.String({ pattern: '^([A-Za-z0-9._-]+|\\[[0-9A-Fa-f:]+\\])(:[0-9]{1,5})?$' }),
            {
              minItems: 1,
              maxItems: 9,
              description:
                'servers (host or host:port; 5432 by default), tried until one is found that is not a standby',
            },
          ),
          database: text('warifu', 'name of the database, which the user owns'),
          user: text('warifu', 'name of the user'),
          passwordFile: text(
            'secrets/postgres.password',
            'file with the password, relative to the data folder; read for each connection',
          ),
          passwordEnvironment: Type.Optional(
            Type.String({
              minLength: 1,
              description: 'variable of the environment with it, instead of the file',
            }),
          ),
          passwordCredential: Type.Optional(
            Type.String({
              pattern: '^[A-Za-z0-9._-]+$',
              description: 'systemd credential (LoadCredential=) with it, instead of the file',
            }),
          ),
          tls: Type.Enum(['verified', 'off'], {
            default: 'verified',
            description:
              'verified: the certificate of the server is one for its name, by an authority of `ca`',
          }),
          strict: Type.Boolean({
            default: false,
            description:
              'with several hosts: refuse to write while the server has no synchronous standby, also while running; otherwise that is an alarm',
          }),
          ca: Type.Optional(
            Type.String({
              description:
                'file with the authorities of the servers’ certificates (PEM), relative to the data folder; by default those that Node brings along',
            }),
          ),
        },
        {
          additionalProperties: false,
          description:
            'PostgreSQL (15 or later); without it the record is a file, record.db, in the data folder',
        },
      ),
    ),
  },
  closed,
);

const address = /^postgres(?:ql)?:\/\/(?:([^@/:]+)@)?([^/@]+)\/([A-Za-z0-9_]+)$/;

/** Reads `postgres://USER@HOST[:PORT][,HOST...]/DATABASE`. Throws `bad-request`, which does not repeat what may be a password. */
export function postgresAt(
  text: string,
  where: string,
): { readonly hosts: readonly string[]; readonly database: string; readonly user?: string } {
  const [, user, hosts, database] = address.exec(text) ?? [];
  if (hosts === undefined || database === undefined)
    return fail(
      `${where} is not postgres://USER@HOST[:PORT][,HOST...]/DATABASE; a password stands in a file (passwordFile)`,
    );
  return { hosts: hosts.split(','), database, ...(user === undefined ? {} : { user }) };
}

/** Names the database where the configuration says nothing of the record: for those who configure by the environment. */
export const recordVariable = 'WARIFU_RECORD';

/** A configuration with what the environment says of the record. */
export function withRecordOf(given: unknown, environment: NodeJS.ProcessEnv): unknown {
  const text = environment[recordVariable];
  const isSaid = typeof given !== 'object' || given === null || 'record' in given;
  if (text === undefined || isSaid) return given;
  return { ...given, record: { postgres: postgresAt(text, recordVariable) } };
}
