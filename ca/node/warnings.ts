import { join, resolve } from 'node:path';
import { durationMs } from '../../core/config/duration.ts';
import {
  type Ending,
  endingOfFile,
  endingSoon,
  type Warning,
  type WarningKind,
} from '../../core/node/warnings.ts';
import { whyEnded } from '../../store/api/client-store.ts';
import { operatorsOf } from '../../store/rules/console-rules.ts';
import type { Authority } from '../issue/authority.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { longestYears } from '../issue/validity.ts';
import type { Node } from './node.ts';
import { approversMin } from './production.ts';
import { holdWarnings } from './waiting.ts';

const yearMs = 366 * 86_400_000;
const clientsPage = 500;

/** What will fail in the service unless an operator acts, but for what its OCSP and CRL parts say themselves. */
export async function warningsOf(node: Node, ca: CertificateAuthority): Promise<readonly Warning[]> {
  const { config, clock, layout } = node;
  const { warnings } = config;
  const nowMs = clock.machine.wallMs();
  const all = ca.authorities.all;
  const issuing = all.filter((authority) => newestOf(all, authority) === authority);
  const clients = await clientEndings(ca, nowMs);
  const { notices, evidence } = config;
  const ours = [notices.clientCert, evidence.clientCert].filter((file) => file !== undefined);
  const ends: [kind: WarningKind, Ending[], ahead: string, act: string][] = [
    [
      'authority-ends',
      all.filter(({ notAfterMs }) => notAfterMs > nowMs).map((each) => endOf(each)),
      warnings.authority,
      'what it issued must be replaced before: warifu generation makes its successor',
    ],
    [
      'authority-too-old',
      // Once it is too old it stays so.
      issuing.map((each) => endOf(each, nowMs)),
      warnings.authorityAge,
      'certificates of full length are refused from then on: warifu generation makes its successor',
    ],
    [
      'tls-ends',
      [layout.operationsCa, join(layout.tls, 'api.pem')].map(endingOfFile),
      warnings.tls,
      'the service renews its own: see in the log why not',
    ],
    [
      'tls-ends',
      [...new Set(ours)].map((file) => endingOfFile(resolve(layout.folder, file))),
      warnings.tls,
      'partners know us by it: replace it, and restart',
    ],
    [
      'client-ends',
      clients.certificates,
      warnings.client,
      'its owner renews it: POST /v1/client-certificates; shut it out where it is not needed',
    ],
    [
      'binding-ends',
      clients.bindings,
      warnings.binding,
      'an administrator extends it: POST /v1/clients/{fingerprint}/binding; or shuts it out',
    ],
  ];
  const ending = ends.flatMap(([kind, endings, ahead, act]) =>
    endingSoon(endings, { kind, act, aheadMs: durationMs(ahead), nowMs }),
  );
  return [
    ...ending,
    ...oldAttestationList(ca, nowMs),
    ...(await tooFewApprovers(node, nowMs)),
    // By the record's time, which is that of proposals.
    ...(await holdWarnings(node.database, clock.wallMs())),
  ];
}

/** In production with one administrator fewer nothing can be approved, and the service does not start again. */
async function tooFewApprovers({ database, config }: Node, nowMs: number): Promise<Warning[]> {
  if (config.mode !== 'production') return [];
  const at = { nowMs, bindingMs: durationMs(config.limits.clientBinding) };
  const { administrators } = await operatorsOf(database, at);
  const persons = administrators.filter(
    ({ kind, term }) => kind === 'person' && term?.unconfirmedSinceMs == null,
  );
  if (persons.length >= approversMin) return [];
  const about = `${persons.length} persons may approve: ${persons.map(({ name }) => name).join(', ')}`;
  const act =
    'bind an administrator at the console (warifu bind): until then nothing is approved, and the service does not start again';
  return [{ kind: 'too-few-approvers', about, atMs: null, act }];
}

/** A list of revoked attestation certificates that cannot be read, or that was not updated in time. */
function oldAttestationList({ config, evidence }: CertificateAuthority, nowMs: number): Warning[] {
  const { revocationList: file, revocationListAgeMax } = config.evidence.keyAttestation;
  const list = evidence.revocationList?.state();
  if (file === undefined || !list) return [];
  const isOld = nowMs - list.changedMs > durationMs(revocationListAgeMax);
  if (!isOld && list.fault === null) return [];
  const about = list.fault === null ? file : `${file} (${list.fault})`;
  const act = 'fetch it again from its publisher, and replace the old file in one step';
  return [{ kind: 'attestation-list-old', about, atMs: null, act }];
}

/** The end of an authority, or the time from which on a certificate of full length would outlive it. */
function endOf({ name, notAfterMs }: Authority, notBeforeMs?: number): Ending {
  if (notBeforeMs === undefined) return { about: name, endsMs: notAfterMs };
  return { about: name, endsMs: Math.max(notAfterMs - longestYears * yearMs, notBeforeMs) };
}

/** The authority that issues now in one's place, which may be itself. */
function newestOf(authorities: readonly Authority[], { slot, signer }: Authority): Authority | undefined {
  return authorities
    .filter((other) => other.slot === slot && other.signer.suite.name === signer.suite.name)
    .reduce<Authority | undefined>(
      (newest, other) => (newest && newest.generation >= other.generation ? newest : other),
      undefined,
    );
}

/** The ends of clients' certificates and bindings, but for those that were renewed or shut out. */
async function clientEndings(
  ca: CertificateAuthority,
  nowMs: number,
): Promise<{ certificates: Ending[]; bindings: Ending[] }> {
  const [certificates, bindings]: [Ending[], Ending[]] = [[], []];
  const bindingMs = durationMs(ca.config.limits.clientBinding);
  for (let after: string | null = null; ; ) {
    const page = await ca.clients.list(after, clientsPage);
    for (const client of page) {
      const { name, fingerprint, revokedMs, addedMs, term } = client;
      if (revokedMs !== null || term?.renewedBy != null) continue;
      const about = `${name} (${fingerprint.slice(0, 16)}…)`;
      bindings.push({ about, endsMs: term?.bindingEndsMs ?? addedMs + bindingMs });
      if (term?.certificateEndsMs != null && whyEnded(client, nowMs, bindingMs) === undefined)
        certificates.push({ about, endsMs: term.certificateEndsMs });
    }
    const last = page.at(-1);
    if (!last || page.length < clientsPage) return { certificates, bindings };
    after = last.fingerprint;
  }
}
