import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import { PkiError } from '../../core/runtime/errors.ts';
import { switchNames } from '../../store/api/switch-names.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { IdempotencyHeaders, problems, writeOnce } from './answer.ts';
import * as present from './present.ts';
import { Switch, SwitchPosition } from './schema-operations.ts';

const config = { roles: ['administrator'] } as const;

export const administrationRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.get(
      '/switches',
      {
        config: { roles: ['administrator', 'reader'] },
        schema: {
          summary: 'Which functions are open, limited or closed',
          response: { 200: Type.Object({ switches: Type.Array(Switch) }), ...problems },
        },
      },
      async () => ({ switches: (await ca.operations.switches()).map(present.functionSwitch) }),
    );

    app.post(
      '/switches/:name',
      {
        config,
        schema: {
          summary: 'Limit, close or open a function, from the next request on; revocation is none',
          headers: IdempotencyHeaders,
          params: Type.Object({ name: Type.Enum(switchNames) }),
          body: SwitchPosition,
          response: { 200: Switch, ...problems },
        },
      },
      async (request, reply) => {
        const { state, perMinute = null, note = '' } = request.body;
        if ((state === 'limited') !== (perMinute !== null))
          throw new PkiError('bad-request', 'perMinute: belongs to the state limited, and to no other');
        const position = { name: request.params.name, state, perMinute, note };
        return writeOnce(ca, { request, reply }, { show: present.functionSwitch }, (command) =>
          ca.operations.setSwitch({ ...command, ...position }),
        );
      },
    );
  };
