import { existsSync, readdirSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { durationMs } from '../../core/config/duration.ts';
import { tlsFilesOf } from '../../core/config/verifiers.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { accessesOf } from '../../hsm/config/options.ts';
import { pinSource } from '../../hsm/pkcs11/pin.ts';
import { allowedConfiguration } from '../../store/rules/configuration-rules.ts';
import { operatorsOf } from '../../store/rules/console-rules.ts';
import { type Config, readConfig, readGiven } from '../config/config.ts';
import { meaningOf } from '../config/meaning.ts';
import { productionFaults } from '../config/production.ts';
import type { Layout } from './layout.ts';
import type { Node } from './node.ts';

// What production does not start with. All of it is said at once, a line each, so that mending one
// does not only show the next.

/** Refuses a configuration that production is not to have, before there is anything else. */
export function refuseUnfit(paths: Layout, config: Config): void {
  const faults = config.mode === 'production' ? faultsOfFiles(paths, config) : [];
  if (faults.length > 0) throw refusal(faults);
}

/**
 * Opens a node that may start: in development any, in production one without a fault. Throws `bad-request` with a line for each fault,
 * what keeps the node from being opened among them.
 */
export async function openFit<N extends Pick<Node, 'close'>>(
  paths: Layout,
  open: () => Promise<N>,
  faultsOf: (node: N) => Promise<readonly string[]>,
): Promise<N> {
  const config = readConfig(paths.config);
  if (config.mode === 'development') return open();
  const before = faultsOfFiles(paths, config);
  const node = await open().catch((error: unknown) => {
    throw before.length > 0 && error instanceof PkiError ? refusal([...before, error.message]) : error;
  });
  try {
    const faults = [...before, ...(await faultsOf(node))];
    if (faults.length > 0) throw refusal(faults);
    return node;
  } catch (error) {
    await node.close();
    throw error;
  }
}

/** In production a ceremony is an act of its own, by those who are to answer for it: a start performs none. */
export function refuseWithoutCeremony(paths: Layout, config: Config): void {
  if (config.mode === 'development') return;
  throw refusal([
    ...faultsOfFiles(paths, config),
    'there has been no ceremony: perform it (warifu ceremony), then enrol two administrators (warifu administrators)',
  ]);
}

/** Persons who may approve, below whose number production does not start. */
export const approversMin = 2;

/** What is wrong with who may decide, and with the configuration that was allowed. */
export async function faultsOfRecord({ database, config, clock, layout }: Node): Promise<readonly string[]> {
  const at = { nowMs: clock.machine.wallMs(), bindingMs: durationMs(config.limits.clientBinding) };
  const { founders, administrators } = await operatorsOf(database, at);
  const persons = administrators.filter(({ kind }) => kind === 'person');
  const isAllowed = (await allowedConfiguration(database)) === meaningOf(readGiven(layout.config));
  return [
    ...(isAllowed ? [] : [notAllowed]),
    ...founders.map(
      ({ name }) =>
        `the ceremony’s ${name} can still act: enrol two administrators (warifu administrators), and it ends`,
    ),
    ...(persons.length < approversMin
      ? [
          `${persons.length} persons may approve, and ${approversMin} are wanted: after the ceremony enrol administrators (warifu administrators), later bind one at the console (warifu bind)`,
        ]
      : []),
  ];
}

const notAllowed =
  'the configuration changes what the service does, and no two persons have allowed it: start with the one before, edit it then, and POST /v1/configuration';

/** What a configuration file says now, where the service could start with it. Throws `bad-request`. */
export function fitConfiguration(paths: Layout): object {
  refuseUnfit(paths, readConfig(paths.config));
  return readGiven(paths.config);
}

/** Refuses in production a configuration that was not allowed. */
export async function refuseNotAllowed({ database, config, layout }: Node): Promise<void> {
  if (config.mode === 'development') return;
  if ((await allowedConfiguration(database)) !== meaningOf(readGiven(layout.config)))
    throw new PkiError('bad-request', notAllowed);
}

const refusal = (faults: readonly string[]): PkiError =>
  new PkiError('bad-request', ['production does not start:', ...faults].join('\n  '));

const faultsOfFiles = (paths: Layout, config: Config): readonly string[] => [
  ...productionFaults(config),
  ...namedFiles(config)
    .map(([key, file]) => [key, resolve(paths.folder, file)] as const)
    .filter(([, file]) => !existsSync(file))
    .map(([key, file]) => `${key}: there is no file ${file}`),
  ...secretsOf(paths, config)
    .filter((file) => existsSync(file) && (statSync(file).mode & 0o077) !== 0)
    .map((file) => `${file} can be read or written by others than its owner: chmod 600 it, and replace it`),
];

/** Files that a configuration names, but for PINs, which a ceremony makes, each with its key. */
function namedFiles({
  evidence,
  notices,
  ocsp,
  crl,
  issuing,
}: Config): (readonly [key: string, file: string])[] {
  const { keyAttestation, secureElementStatement } = evidence;
  const named: [key: string, ...files: (string | undefined)[]][] = [
    ['/evidence/keyAttestation/roots', ...keyAttestation.roots],
    ['/evidence/keyAttestation/revocationList', keyAttestation.revocationList],
    ['/evidence/secureElementStatement/signers', ...secureElementStatement.signers],
    ['/evidence', evidence.ca, evidence.clientKey, evidence.clientCert],
    ['/notices', notices.ca, notices.clientKey, notices.clientCert, notices.mail?.passwordFile],
    ['/ocsp/verifiers/tls', ...tlsFilesOf(ocsp.verifiers)],
    ['/crl/verifiers/tls', ...tlsFilesOf(crl.verifiers)],
    ['/issuing/debianBlocklists', ...issuing.debianBlocklists],
  ];
  return named.flatMap(([where, ...files]) =>
    files.flatMap((file) => (file === undefined ? [] : [[where, file] as const])),
  );
}

/** Files with secrets: PINs, passwords, private keys. */
function secretsOf({ folder, tls, clients }: Layout, config: Config): string[] {
  const { pkcs11, ocsp, crl, notices, evidence } = config;
  const pins = accessesOf(pkcs11).flatMap(([, access]) => {
    const source = pinSource(access, folder);
    return source.from === 'file' ? [source.file] : [];
  });
  const others = [
    ocsp.verifiers.tls?.key,
    crl.verifiers.tls?.key,
    notices.clientKey,
    evidence.clientKey,
    notices.mail?.passwordFile,
  ].flatMap((file) => (file === undefined ? [] : [resolve(folder, file)]));
  return [...pins, ...others, ...[tls, clients].flatMap(keysIn)];
}

function keysIn(folder: string): string[] {
  const names = existsSync(folder) ? readdirSync(folder) : [];
  return names.filter((name) => name.endsWith('.key')).map((name) => join(folder, name));
}
