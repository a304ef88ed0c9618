import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runWarifu, scratch } from './harness.ts';
import { newDatabase } from './postgres.ts';
import { RepeatingClient } from './repeating-client.ts';
import { freePort, type ServiceProcess, startProcess, startSignerProcess } from './service-process.ts';

// CA nodes on one record, each a process with a data folder of its own. They share a token, as they would share an HSM.

export interface ClusterNode {
  readonly name: string;
  readonly folder: string;
  readonly service: ServiceProcess;
  /** Where the CA's keys are a signer's. */
  readonly signer: Pick<ServiceProcess, 'child' | 'exited' | 'stop'> | undefined;
  /** Of the client of the ceremony, which every node knows. */
  readonly api: RepeatingClient;
}

/** What nodes of one service have alike. */
export interface Cluster {
  readonly folder: string;
  readonly record: object;
  readonly shared: Readonly<Record<string, object>>;
  readonly password: string;
}

/** Writes the configuration of a node, and the password of its database. */
async function configureNode(
  { folder, record, shared, password }: Cluster,
  name: string,
  own: Readonly<Record<string, object>> = {},
): Promise<{ readonly folder: string; readonly addresses: ServiceProcess['addresses'] }> {
  const node = join(folder, name);
  mkdirSync(join(node, 'secrets'), { recursive: true });
  writeFileSync(join(node, 'secrets', 'postgres.password'), password, { mode: 0o600 });
  const [api, ocsp, crl] = [await freePort(), await freePort(), await freePort()];
  const config = {
    ...{ node: name, record, ...shared, ...own },
    api: { port: api },
    ocsp: { ...shared.ocsp, ...own.ocsp, port: ocsp },
    crl: { ...shared.crl, ...own.crl, port: crl },
  };
  writeFileSync(join(node, 'warifu.json'), JSON.stringify(config));
  const at = (port: number): string => `127.0.0.1:${port}`;
  return {
    folder: node,
    addresses: { api: `https://${at(api)}`, ocsp: `http://${at(ocsp)}`, crl: `http://${at(crl)}` },
  };
}

/** A service of which no node has been started. Without `postgres` its record is in a new database on the server of the tests. */
export async function makeCluster(
  shared: Readonly<Record<string, object>> = {},
  postgres?: { readonly record: object; readonly password: string },
): Promise<Cluster> {
  const { record, password } = postgres ?? (await recordOnTestServer());
  const [ocsp, crl] = [await freePort(), await freePort()];
  return {
    folder: scratch(),
    ...{ record, password },
    shared: {
      pkcs11: { signingThreads: 1 },
      issuing: { checkThreads: 1, primeModuli: 'not-tried' },
      ...shared,
      ocsp: { publicUrl: `http://127.0.0.1:${ocsp}`, ...shared.ocsp },
      crl: { publicUrl: `http://127.0.0.1:${crl}`, workers: 1, ...shared.crl },
    },
  };
}

async function recordOnTestServer(): Promise<{ readonly record: object; readonly password: string }> {
  const { hosts, database, user, password } = await newDatabase();
  const addresses = hosts.map(({ host, port }) => `${host}:${port}`);
  return {
    record: { postgres: { hosts: addresses, database, user, tls: 'off' } },
    password: password?.() ?? '',
  };
}

const nodeOf = (
  { name, folder, signer }: Pick<ClusterNode, 'name' | 'folder' | 'signer'>,
  service: ServiceProcess,
  clients: string,
): ClusterNode => ({
  ...{ name, folder, service, signer },
  api: RepeatingClient.named(clients, service.addresses.api, 'first'),
});

/** Starts the node whose start is the ceremony. */
export async function startFirst(
  cluster: Cluster,
  name = 'ca-1',
  own: Readonly<Record<string, object>> = {},
): Promise<ClusterNode> {
  const { folder, addresses } = await configureNode(cluster, name, own);
  if (!hasSigner(cluster)) {
    const service = await startProcess(folder, addresses);
    return nodeOf({ name, folder, signer: undefined }, service, folder);
  }
  // The signer's token comes to be in the ceremony.
  const ceremony = await runWarifu('ceremony', '--data', folder);
  if (ceremony.code !== 0) throw new Error(`ceremony: ${ceremony.output}`);
  const signer = await startSignerProcess(folder);
  return nodeOf({ name, folder, signer }, await startProcess(folder, addresses), folder);
}

const hasSigner = ({ shared }: Cluster): boolean =>
  (shared.pkcs11 as { isolation?: string } | undefined)?.isolation === 'signer';

/** Makes a further node: it has the tokens and their PINs, as one that uses the same HSM. Gives what `join` said. */
export async function joinNode(
  cluster: Cluster,
  first: Pick<ClusterNode, 'folder'>,
  name: string,
  own: Readonly<Record<string, object>> = {},
): Promise<{
  readonly folder: string;
  readonly addresses: ServiceProcess['addresses'];
  readonly joined: Awaited<ReturnType<typeof runWarifu>>;
}> {
  const { folder, addresses } = await configureNode(cluster, name, own);
  for (const pin of ['warifu-ca.pin', 'warifu-ocsp.pin'])
    writeFileSync(join(folder, 'secrets', pin), readFileSync(join(first.folder, 'secrets', pin)), {
      mode: 0o600,
    });
  symlinkSync(join(first.folder, 'softhsm'), join(folder, 'softhsm'));
  return { folder, addresses, joined: await runWarifu('join', '--data', folder) };
}

/** Joins and starts a further node. */
export async function startFurther(
  cluster: Cluster,
  first: Pick<ClusterNode, 'folder'>,
  name: string,
  own: Readonly<Record<string, object>> = {},
): Promise<ClusterNode> {
  const { folder, addresses, joined } = await joinNode(cluster, first, name, own);
  if (joined.code !== 0) throw new Error(`join: ${joined.output}`);
  const signer = hasSigner(cluster) ? await startSignerProcess(folder) : undefined;
  return nodeOf({ name, folder, signer }, await startProcess(folder, addresses), first.folder);
}

/** Starts a node again that has ended; `main` by another version of the software. */
export async function startAgain(
  { service, ...node }: ClusterNode,
  first: Pick<ClusterNode, 'folder'>,
  main?: string,
): Promise<ClusterNode> {
  const started = await startProcess(node.folder, service.addresses, () => undefined, main);
  return nodeOf(node, started, first.folder);
}

export async function stopNode({ api, service, signer }: ClusterNode): Promise<void> {
  await api.close();
  if (service.child.exitCode === null && service.child.signalCode === null) await service.stop();
  await signer?.stop();
}
