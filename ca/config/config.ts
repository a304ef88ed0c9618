import { existsSync } from 'node:fs';
import { isIP } from 'node:net';
import { dirname, resolve } from 'node:path';
import type { Static } from 'typebox';
import { Value } from 'typebox/value';
import { nameLengthMax } from '../../core/asn1/name.ts';
import { durationMs } from '../../core/config/duration.ts';
import { checkAll, checked, fail, isHostName, jsonOf, namingFile } from '../../core/config/read.ts';
import { checkCrl, checkCrlAddress } from '../../crl/config/options.ts';
import { checkOcsp } from '../../ocsp/config/options.ts';
import { ConfigSchema } from './options.ts';
import { withRecordOf } from './record.ts';
import { PolicyEvent, type PolicySchema } from './scheme.ts';

export type Policy = Static<typeof PolicySchema>;
export type Config = Static<typeof ConfigSchema>;

/** Checks a configuration and fills in its defaults. Throws `bad-request`, naming every wrong key. */
export function parseConfig(input: unknown): Config {
  const filled = Value.Default(ConfigSchema, spelledOut(structuredClone(input))) as unknown;
  fillEvents(filled);
  const config = checked(ConfigSchema, filled);
  crossCheck(config);
  return config;
}

/** What is spelled in short, or by a name of earlier versions, at length. */
function spelledOut(input: unknown): unknown {
  if (typeof input !== 'object' || input === null) return input;
  const { mode, approvals } = input as { mode?: unknown; approvals?: unknown };
  return {
    ...input,
    ...(mode === 'evaluation' ? { mode: 'development' } : {}),
    ...(typeof approvals === 'string' ? { approvals: { use: approvals } } : {}),
  };
}

/** The defaults of each event: the schema's own do not reach into a record. */
function fillEvents(config: unknown): void {
  const events = (config as { policy?: { events?: unknown } } | null)?.policy?.events;
  if (typeof events !== 'object' || events === null) return;
  for (const rule of Object.values(events)) Value.Default(PolicyEvent, rule);
}

/** What no key says alone. All of it is looked at, so that one fault hides no other. */
function crossCheck(config: Config): void {
  checkAll(
    [
      () => checkOcsp(config.ocsp),
      () => checkCrl(config.crl),
      () => checkCrlAddress(config.crl),
      ...[
        crossCheckLimits,
        crossCheckLife,
        crossCheckKeys,
        crossCheckEvidence,
        crossCheckPartners,
        crossCheckBackups,
      ],
      ...[crossCheckPorts, crossCheckTowns, crossCheckTownNames, crossCheckNames, crossCheckAddresses],
    ].map((check) => () => check(config)),
  );
}

function crossCheckLimits({ limits }: Config): void {
  if (durationMs(limits.challengeLife) > 600_000) fail('/limits/challengeLife is more than 10min');
}

function crossCheckLife({ caValidityYears }: Config): void {
  // A certificate lives to the fifth birthday at most, and never outlives its CA.
  if (caValidityYears < 6) fail('/caValidityYears is less than 6');
}

function crossCheckKeys({ pkcs11 }: Config): void {
  if (pkcs11.caToken.label === pkcs11.ocspToken.label) fail('/pkcs11: CA and OCSP keys share a token');
}

function crossCheckEvidence({ evidence: { keyAttestation, secureElementStatement } }: Config): void {
  if (keyAttestation.use !== 'off' && keyAttestation.roots.length === 0)
    fail('/evidence/keyAttestation/roots is empty');
  if (secureElementStatement.use !== 'off' && secureElementStatement.signers.length === 0)
    fail('/evidence/secureElementStatement/signers is empty');
}

/** Two services of one process cannot listen at one port of an address. */
function crossCheckPorts({ api, ocsp, crl, metrics }: Config): void {
  const places = Object.entries({ api, ocsp, crl, ...(metrics ? { metrics } : {}) });
  const isAny = (host: string): boolean => host === '0.0.0.0' || host === '::';
  for (const [i, [name, { host, port }]] of places.entries())
    for (const [before, other] of places.slice(0, i))
      if (port === other.port && (host === other.host || isAny(host) || isAny(other.host)))
        fail(`/${name}/port and /${before}/port are both ${port}: each needs its own`);
}

function crossCheckTownNames({ municipalities }: Config): void {
  const codes = new Set(municipalities.map(({ code }) => code));
  if (codes.size !== municipalities.length) fail('/municipalities names a code twice');
  // Names stand in distribution points, of which no two CRLs may share one (RFC 5280 §6.3.3).
  const names = new Set(municipalities.map((each) => `${each.prefecture} ${each.municipality}`));
  if (names.size !== codes.size) fail('/municipalities names a municipality twice');
}

function crossCheckAddresses({ api, scheme }: Config): void {
  for (const [i, name] of api.names.entries())
    if ((isIP(name) === 0 && !isHostName(name)) || name.includes('%'))
      fail(`/api/names/${i} is neither a host’s name nor an address`);
  if (!/^https?:\/\/[!-~]{1,200}$/.test(scheme.cpsUri))
    fail('/scheme/cpsUri is not an http address of at most 200 ASCII characters');
}

/** Connections to partners: a client's key and certificate come together. */
function crossCheckPartners({ notices, evidence, activation }: Config): void {
  if (activation.phone === 'when-stored' && notices.tsm === undefined)
    fail('/activation/phone is when-stored, and /notices/tsm names no TSM that could confirm');
  for (const [name, { clientKey, clientCert }] of Object.entries({ notices, evidence }))
    if ((clientKey === undefined) !== (clientCert === undefined))
      fail(`/${name}: clientKey and clientCert are given together`);
}

/** Backups are encrypted for somebody, and what came after the oldest is still in the journal. */
function crossCheckBackups({ backups, ocsp, record }: Config): void {
  if (backups.folder === undefined) return;
  if (record.postgres)
    fail('/backups: the record is in PostgreSQL, which has backups of its own; make none here');
  if (backups.recipients.length === 0)
    fail(
      '/backups/recipients is empty: name a key of age (age-keygen makes one) whose private part is kept elsewhere',
    );
  const oldestMs = Math.max(durationMs(backups.keepAge), backups.keepNumber * durationMs(backups.every));
  if (oldestMs > durationMs(ocsp.journalRetention))
    fail(
      `/backups: keepAge is ${backups.keepAge}, and keepNumber times every ${backups.keepNumber} × ${backups.every}, but ocsp.journalRetention is ${ocsp.journalRetention}: lower the one or raise the other, for a restore of the oldest needs the journal of all since`,
    );
}

/** A town that was merged leads to one that was not, by a way that ends. */
function crossCheckTowns({ municipalities }: Config): void {
  const towns = new Map(municipalities.map((town) => [town.code, town]));
  for (const { code } of municipalities) {
    let at = towns.get(code);
    for (let steps = 0; at?.mergedInto !== undefined; steps++) {
      if (steps === municipalities.length) fail(`/municipalities: ${code} is merged into itself`);
      if (!towns.has(at.mergedInto))
        fail(`/municipalities: ${at.code} is merged into ${at.mergedInto}, which is not configured`);
      at = towns.get(at.mergedInto);
    }
  }
}

/** The longest end of a distribution point's common name: kind, generation and number of the shard, with room for digits. */
const longestPoint = ' CRLDP phone-authentication G99 S9999'.length;

/** Names end in certificates, where attributes have upper bounds (RFC 5280 appendix A.1). */
function crossCheckNames({ scheme, municipalities }: Config): void {
  const units = [
    'organization',
    'operator',
    'signingUnit',
    'authenticationUnit',
    'japaneseOrganization',
    'japaneseSigningUnit',
    'japaneseAuthenticationUnit',
    'japaneseOperator',
  ] as const;
  const bounded = (key: string, value: string, max: number): void => {
    const { length } = [...value];
    if (length > max) fail(`${key} has ${length} characters, and certificates have room for ${max}`);
  };
  for (const unit of units) bounded(`/scheme/${unit}`, scheme[unit], nameLengthMax.OU);
  for (const [i, { prefecture, municipality }] of municipalities.entries()) {
    bounded(`/municipalities/${i}/prefecture`, prefecture, nameLengthMax.OU);
    bounded(`/municipalities/${i}/municipality`, municipality, nameLengthMax.CN - longestPoint);
  }
}

/** The configuration in a file; all defaults where there is no file. */
export const readConfig = (file: string): Config =>
  namingFile(file, () => parseConfig(withRecordOf(readGiven(file), process.env)));

/** What a file says, its municipalities among it, without defaults; nothing where there is no file. */
export function readGiven(file: string): object {
  const given = withTowns(existsSync(file) ? jsonOf(file) : {}, dirname(file));
  if (typeof given !== 'object' || given === null || Array.isArray(given))
    fail(`${file} is no object: {} is one without members`);
  return given;
}

/** Municipalities may be in a file of their own. */
function withTowns(input: unknown, folder: string): unknown {
  const { municipalitiesFile, municipalities } = (input ?? {}) as Record<string, unknown>;
  if (typeof municipalitiesFile !== 'string') return input;
  if (municipalities !== undefined)
    fail('/municipalities and /municipalitiesFile are two places for the same: give one');
  const file = resolve(folder, municipalitiesFile);
  if (!existsSync(file)) fail(`/municipalitiesFile: there is no file ${file}; warifu towns import makes it`);
  return { ...(input as object), municipalities: jsonOf(file) };
}
