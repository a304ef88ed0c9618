import { execFileSync } from 'node:child_process';
import type { CaClient } from '../../ca/client/client.ts';
import { namedClient } from '../../test/support/actors.ts';

/** Makes clients of a running service and binds each to a role, for all desks; gives a caller by name. */
export async function bindClients<Name extends string>(
  of: { readonly folder: string; readonly address: string; readonly api: CaClient },
  roles: Readonly<Record<Name, string>>,
): Promise<(name: Name) => CaClient> {
  const { folder, address, api } = of;
  const main = new URL('../../ca/main.ts', import.meta.url).pathname;
  for (const [name, role] of Object.entries(roles)) {
    const said = execFileSync(process.execPath, [main, 'client', name, '--data', folder], {
      encoding: 'utf8',
    });
    const fingerprint = /fingerprint ([0-9a-f]{64})/.exec(said)?.[1] ?? '';
    const { status } = await api.post('/clients', { fingerprint, name, roles: [role], desks: ['*'] });
    if (status !== 201) throw new Error(`${name} cannot be bound: ${status}`);
  }
  return (name) => namedClient(folder, address, name);
}
