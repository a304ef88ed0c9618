import { accessesOf } from '../../hsm/config/options.ts';
import type { Config } from './config.ts';

// What production does not start with, as far as the configuration says it. Each rule gives a line for each fault that it finds: the
// key, what is wrong with it, and what is right.

type Rule = (config: Config) => readonly string[];

/** A line where something is wrong. */
const where = (isWrong: boolean, line: string): readonly string[] => (isWrong ? [line] : []);

/** A phone without evidence may be a program that pretends to be one. */
const evidence: Rule = ({ evidence: { keyAttestation, secureElementStatement, verdicts } }) => {
  const isRequired = [keyAttestation, secureElementStatement, ...verdicts].some(
    ({ use }) => use === 'required',
  );
  return [
    ...where(
      !isRequired,
      '/evidence: nothing is required of a phone; require keyAttestation, secureElementStatement or a verdict',
    ),
    ...where(
      keyAttestation.use !== 'off' && keyAttestation.apps.length === 0,
      '/evidence/keyAttestation/apps is empty: any app could attest; name those that are believed',
    ),
  ];
};

/** By law only notified verifiers may ask. */
const verifiers: Rule = ({ ocsp, crl }) =>
  Object.entries({ ocsp, crl }).flatMap(
    ([
      service,
      {
        verifiers: { required, tokensOver },
      },
    ]) => [
      ...where(
        !required,
        `/${service}/verifiers/required is false: anyone could ask; set it, and record the verifiers`,
      ),
      ...where(
        tokensOver === 'any',
        `/${service}/verifiers/tokensOver is any: tokens can be read on their way; use tls, or proxy where a server in front speaks TLS`,
      ),
    ],
  );

/** Names that stand in certificates, and in the certificate of the API. */
const names: Rule = ({ scheme, ocsp, crl, api }) => {
  const ofTests = Object.entries(scheme.policies).filter(([, oid]) => testPolicy.test(oid));
  const loopback = [
    ['/ocsp/publicUrl', ocsp.publicUrl],
    ['/crl/publicUrl', crl.publicUrl],
    ['/scheme/cpsUri', scheme.cpsUri],
    ...api.names.map((name, i) => [`/api/names/${i}`, name]),
  ].filter(([, address = '']) => isLoopback(hostOf(address)));
  return [
    ...where(
      /test/i.test(scheme.organization),
      `/scheme/organization is ${scheme.organization}: certificates would say that they are of a test`,
    ),
    ...ofTests.map(([kind, oid]) => `/scheme/policies/${kind} is ${oid}, a policy of tests`),
    ...loopback.map(
      ([key, address]) => `${key} is ${address}, this machine’s own; give what others reach it by`,
    ),
    ...where(
      api.names.length === 0,
      '/api/names is empty: the certificate of the API would name nothing; give what callers reach it by',
    ),
  ];
};

/** The arc of policies of tests. */
const testPolicy = /^1\.2\.392\.200149\.8\.5\.1\.0\./;

/** Orders, notices and questions are protected on their way. */
const partners: Rule = ({ notices, evidence: { verdicts } }) => {
  const addresses: [where: string, address: string | undefined][] = [
    ['/notices/tsm', notices.tsm],
    ['/notices/portal', notices.portal],
    ['/notices/towns', notices.towns],
    ...notices.verifiers.map(({ url }, i): [string, string] => [`/notices/verifiers/${i}/url`, url]),
    ...verdicts.map(({ url }, i): [string, string] => [`/evidence/verdicts/${i}/url`, url]),
  ];
  return [
    ...addresses.flatMap(([key, address]) =>
      where(
        address?.startsWith('http:') === true && !isLoopback(hostOf(address)),
        `${key} is ${address}: beyond this machine it has to be https`,
      ),
    ),
    ...where(
      notices.mail?.tls === 'never',
      '/notices/mail/tls is never: mail to holders has to be protected; use always or starttls',
    ),
  ];
};

/** Every process of the same user can read a process's environment. */
const secrets: Rule = ({ pkcs11, record }) => [
  ...accessesOf(pkcs11).flatMap(([key, { pinEnvironment }]) =>
    where(
      pinEnvironment !== undefined,
      `/pkcs11/${key}/pinEnvironment: the PIN stands in the environment; use pinFile or pinCredential`,
    ),
  ),
  ...where(
    record.postgres?.passwordEnvironment !== undefined,
    '/record/postgres/passwordEnvironment: the password stands in the environment; use passwordFile or passwordCredential',
  ),
];

/** What is on record crosses no network in the clear. */
const database: Rule = ({ record: { postgres } }) =>
  where(
    postgres?.tls === 'off' && !postgres.hosts.every((host) => isLoopback(hostOf(`postgres://${host}`))),
    '/record/postgres/tls is off: the way to the database has to be protected',
  );

const rules: readonly Rule[] = [evidence, verifiers, names, partners, secrets, database];

/** What is wrong with a configuration for production: a line for each fault, in order; none where it may start. */
export const productionFaults = (config: Config): readonly string[] => rules.flatMap((rule) => rule(config));

/** The host of an address, or a name as it is. */
const hostOf = (address: string): string => (URL.canParse(address) ? new URL(address).hostname : address);

/** Whether a host is this machine, whatever the machine is: addresses of the loopback and of no one. */
export const isLoopback = (host: string): boolean =>
  /^(\[?::1?\]?|(.+\.)?localhost\.?|0\.0\.0\.0|127(\.\d{1,3}){3}|\[?::ffff:(127\.|7f).*)$/i.test(host);
