import { Type } from 'typebox';
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
          ca: Type.Optional(
            Type.String({
              description:
                'file with the authorities of the servers’ certificates (PEM), relative to the data folder; by default those that the system trusts',
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
