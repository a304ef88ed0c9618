import type { Logger } from 'pino';
import { foldedName } from '../../core/model/client-name.ts';
import { slots } from '../../core/model/kinds.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { uuidAt } from '../../core/runtime/uuid.ts';
import type { Credential } from '../../store/api/verifier-store.ts';
import { type ConfiguredVerifier, takeOverVerifiers } from '../../store/rules/verifier-rules.ts';
import type { Config } from '../config/config.ts';
import { type Node, nodeActor } from './node.ts';

// Configurations of before had three lists of verifiers: of OCSP, of CRLs, and of those that get notices. Their names are the ids that
// the register knows them by.

/** What messages are sent to besides verifiers. */
const destinations: readonly string[] = ['holder', 'towns', 'tsm'];

/** The verifiers of the three lists, each once. Throws `bad-request` where two of them would have one credential. */
export function configuredVerifiers(
  { ocsp, crl, notices }: Pick<Config, 'ocsp' | 'crl' | 'notices'>,
  nowMs: number,
): readonly ConfiguredVerifier[] {
  const titles = new Map(notices.verifiers.map((each) => [each.name, each]));
  const found = new Map<string, Map<string, Pick<Credential, 'type' | 'value'>>>();
  const owners = new Map<string, string>();
  const add = (name: string, type: Credential['type'], value: string | undefined): void => {
    const credentials = found.get(name) ?? new Map();
    found.set(name, credentials);
    if (value === undefined) return;
    const key = `${type} ${value}`;
    const owner = owners.get(key) ?? name;
    if (owner !== name)
      throw new PkiError(
        'bad-request',
        `verifiers ${owner} and ${name} of the configuration have the same ${type}: give each its own`,
      );
    owners.set(key, name);
    credentials.set(key, { type, value });
  };
  for (const { name, tokenSha256, certificateSha256, port } of ocsp.verifiers.list) {
    add(name, 'token', tokenSha256);
    add(name, 'certificate', certificateSha256);
    add(name, 'port', port === undefined ? undefined : String(port));
  }
  for (const { name, tokenSha256 } of crl.verifiers.list) add(name, 'token', tokenSha256);
  for (const { name } of notices.verifiers) add(name, 'client', foldedName(name));
  return [...found].map(([listed, credentials]) => {
    const verifierId = destinations.includes(listed) ? `verifier-${listed}` : listed;
    const { title: name = listed, url = null } = titles.get(listed) ?? {};
    const quotas = { requestsPerSecond: null, questionsPerDay: null, watchesMax: null };
    const facts = { verifierId, name, type: 'private', kinds: [...slots], purposes: [] } as const;
    return {
      verifier: { ...facts, ...quotas, platformId: null, url, fromMs: nowMs, toMs: null },
      credentials: [...credentials.values()].map((each) => ({
        ...each,
        ...{ credentialId: uuidAt(nowMs), fromMs: nowMs, toMs: null },
      })),
    };
  });
}

/** Takes the configured lists over onto the register, at the first start; from then on they are read no more. */
export async function takeOverConfigured(node: Node, logger: Logger): Promise<void> {
  const { config, database, clock, verifiers } = node;
  const nowMs = clock.wallMs();
  const configured = configuredVerifiers(config, nowMs);
  const taken = await database.run(takeOverVerifiers, { actor: nodeActor(config), configured }, nowMs);
  if (taken > 0) logger.info({ verifiers: taken }, 'verifiers of the configuration are on the register now');
  for (const { verifier } of configured) {
    const { verifierId } = verifier;
    if (await verifiers.verifier(verifierId)) continue;
    logger.warn(
      { verifierId, act: 'record it with POST /v1/verifiers, and take it out of the configuration' },
      'a verifier of the configuration is not on the register, and unknown',
    );
  }
}
