// `npm run fuzz -- --seconds N`: mutates valid inputs and holds every parser that strangers can reach against pkijs.
// A crash, a hang, or a disagreement that no rule below explains ends it with exit 1 and the input in hex.
import { randomBytes, webcrypto } from 'node:crypto';
import { Command } from 'commander';
import fc from 'fast-check';
import * as pkijs from 'pkijs';
import { Value } from 'typebox/value';
import { requestCorpus } from '../../bench/load/ocsp-corpus.ts';
import { asker } from '../../bench/rivals/rivals.ts';
import { IssueToCard } from '../../ca/api/schema.ts';
import { parseConfig } from '../../ca/config/config.ts';
import { type CardRequest, checkCard } from '../../ca/issue/card.ts';
import { parseCertificationRequest } from '../../ca/request/certification-request.ts';
import { parsePhoneEnrolment } from '../../ca/request/enrolment.ts';
import { readSignedMessage } from '../../ca/request/signed-message.ts';
import { suites } from '../../core/asn1/algorithms.ts';
import { parseCertificate } from '../../core/asn1/certificate-reader.ts';
import { parseCrl } from '../../core/asn1/crl-reader.ts';
import { DerError, DerReader } from '../../core/asn1/der-reader.ts';
import { context, integer, sequence, tag } from '../../core/asn1/der-writer.ts';
import { distributionPointName } from '../../core/asn1/extension.ts';
import { encodeName, uriName } from '../../core/asn1/name.ts';
import { parseSimpleHead } from '../../core/http/http-head.ts';
import { systemClock } from '../../core/runtime/clock.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { encodeCrlEntry, prepareCrl } from '../../crl/encode/encode.ts';
import { entriesOf, serialAt } from '../../crl/encode/entries.ts';
import { fileName } from '../../crl/encode/names.ts';
import { Shapes } from '../../ocsp/protocol/question.ts';
import { parseOcspRequest } from '../../ocsp/protocol/request.ts';
import { requestInPath } from '../../ocsp/protocol/request-path.ts';
import {
  base64,
  cardRequest,
  defaultDevice,
  enrolmentContent,
  enrolmentContentType,
  exact,
  makeChipKey,
  ocspRequest,
  signEnrolment,
} from '../support/actors.ts';
import { fuzzService } from './fuzz-service.ts';
import { mutated, mutationSteps } from './fuzz-sockets.ts';

export interface Target {
  readonly name: string;
  readonly corpus: readonly Uint8Array[];
  /** Throws where the parser does what it must not. */
  readonly check: (input: Uint8Array) => void;
}

/** What a parser makes of an input: a value, or a refusal of the kind it is allowed. */
function attempt<T>(parse: () => T): { value: T } | { refused: string } {
  try {
    return { value: parse() };
  } catch (error) {
    if (error instanceof DerError || (error instanceof PkiError && error.code !== 'internal'))
      return { refused: error.message };
    throw error;
  }
}

/** What pkijs makes of it; it throws whatever it likes. */
function oracle<T>(parse: () => T): { value: T } | { refused: string } {
  try {
    return { value: parse() };
  } catch (error) {
    return { refused: String(error) };
  }
}

const hex = (octets: Uint8Array): string => Buffer.from(octets).toString('hex');
const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;

/** Where pkijs reads more than DER allows, it writes something else than it read: that explains our refusal. */
function isDerFor(input: Uint8Array, encode: () => ArrayBuffer): boolean {
  const written = oracle(() => new Uint8Array(encode()));
  return 'value' in written && same(written.value, input);
}

/** Our rules beyond the syntax, by the words with which we refuse. */
const ocspRules =
  /hash parameters|nonce|no request|there twice|version 1|preferred algorithms that is none|acceptable responses that is none/;

function withoutRequestor(request: Uint8Array): Uint8Array {
  const outer = new DerReader(request).enter(tag.sequence);
  const [kept, signature]: [Uint8Array[], Uint8Array[]] = [[], []];
  const tbs = outer.enter(tag.sequence);
  while (!tbs.atEnd) {
    const element = tbs.whole();
    if (element[0] !== context(1)) kept.push(element);
  }
  while (!outer.atEnd) signature.push(outer.whole());
  return sequence(sequence(...kept), ...signature);
}

function checkOcsp(input: Uint8Array): void {
  const ours = attempt(() => parseOcspRequest(input));
  // What is in the asker's name is nothing to us, and pkijs is not asked about it.
  const judged = 'value' in ours ? withoutRequestor(input) : input;
  const theirs = oracle(() => pkijs.OCSPRequest.fromBER(exact(judged)));
  if ('value' in ours) {
    if (!('value' in theirs)) throw new Error(`we read what pkijs refuses: ${theirs.refused}`);
    const list = theirs.value.tbsRequest.requestList;
    if (list.length !== ours.value.certIds.length) throw new Error('another number of requests');
    for (const [i, { reqCert }] of list.entries()) {
      const certId = ours.value.certIds[i];
      const serial = Buffer.from(certId?.serial ?? []).toString('hex');
      const encoded = Buffer.from(reqCert.serialNumber.valueBlock.valueHexView)
        .toString('hex')
        .replace(/^00(?=.)/, '');
      if (serial !== encoded) throw new Error(`serial number ${serial}, where pkijs reads ${encoded}`);
      if (!same(certId?.issuerKeyHash ?? new Uint8Array(), new Uint8Array(reqCert.issuerKeyHash.getValue())))
        throw new Error('another issuerKeyHash');
      if (
        !same(certId?.issuerNameHash ?? new Uint8Array(), new Uint8Array(reqCert.issuerNameHash.getValue()))
      )
        throw new Error('another issuerNameHash');
    }
  } else if ('value' in theirs && !ocspRules.test(ours.refused)) {
    if (isDerFor(input, () => theirs.value.toSchema(true).toBER()) && !isLoose(input)) {
      throw new Error(`we refuse what pkijs reads: ${ours.refused}`);
    }
  }
}

/** What a shape makes of a request is what the parser makes of it; and what has a shape can be parsed. */
function checkShape(corpus: readonly Uint8Array[]): (input: Uint8Array) => void {
  const shapes = new Shapes<string>();
  for (const request of corpus) shapes.learn(Buffer.from(request), parseOcspRequest(request), 'context');
  return (input) => {
    const question = shapes.match(Buffer.from(input));
    if (!question) return;
    const { certIds, nonce } = parseOcspRequest(input);
    if (certIds.length !== 1 || !same(certIds[0]?.serial ?? new Uint8Array(), question.serial))
      throw new Error('another serial number than the parser reads');
    if (!same(nonce ?? new Uint8Array(), question.nonce ?? new Uint8Array()))
      throw new Error('another nonce');
  };
}

/** A head that is read has a path and a length in bounds, and reading it never throws. */
function checkHead(input: Uint8Array): void {
  const head = parseSimpleHead(Buffer.from(input).toString('latin1'), 'application/ocsp-request');
  if (head && (!head.path.startsWith('/') || /[\r\n\0 ]/.test(head.path) || head.length > 99_999))
    throw new Error('a head that is none');
}

/** Whether the octets break DER in a way that pkijs keeps as it read it: inside what it does not take apart. */
function isLoose(input: Uint8Array): boolean {
  const walk = (reader: DerReader): void => {
    while (!reader.atEnd) {
      const first = reader.peek() ?? 0;
      if (first === 0x02) reader.integerOctets();
      else if (first === 0x01) reader.boolean();
      else if ((first & 0x20) !== 0) walk(reader.enter(first));
      else reader.whole();
    }
  };
  return 'refused' in attempt(() => walk(new DerReader(input)));
}

function checkRequest(input: Uint8Array): void {
  const ours = attempt(() => parseCertificationRequest(input, 'request'));
  if (!('value' in ours)) return;
  const theirs = pkijs.CertificationRequest.fromBER(exact(input));
  const spki = new Uint8Array(theirs.subjectPublicKeyInfo.toSchema().toBER());
  if (!same(spki, ours.value.publicKey)) throw new Error('another public key than pkijs reads');
}

function checkCertificate(input: Uint8Array): void {
  const ours = attempt(() => parseCertificate(input));
  if (!('value' in ours)) return;
  const theirs = oracle(() => pkijs.Certificate.fromBER(exact(input)));
  // pkijs reads inside extensions and names what we only pass on.
  if (!('value' in theirs)) return;
  const serial = hex(theirs.value.serialNumber.valueBlock.valueHexView).replace(/^00(?=.)/, '');
  if (serial !== hex(ours.value.serial)) throw new Error('another serial number than pkijs reads');
  if (theirs.value.notAfter.value.getTime() !== ours.value.notAfterMs)
    throw new Error('another notAfter than pkijs reads');
}

function checkMessage(certificate: Uint8Array, content: Uint8Array): (input: Uint8Array) => void {
  return (input) => {
    const ours = attempt(() => {
      const message = readSignedMessage(input, enrolmentContentType);
      message.signers[0].verify(certificate);
      return message.content;
    });
    // The signature covers everything that counts: what is read is what was signed.
    if ('value' in ours && !same(ours.value, content))
      throw new Error('a message that was not signed is read');
  };
}

const config = parseConfig({});
const ca = { config, clock: systemClock };

/** A body as a counter sends it: refused by JSON, by the schema, or by a PkiError; or applied for. */
function checkBody(input: Uint8Array): void {
  let body: unknown;
  try {
    body = JSON.parse(Buffer.from(input).toString('utf8'));
  } catch (error) {
    if (error instanceof SyntaxError) return;
    throw error;
  }
  if (!Value.Check(IssueToCard, body)) return;
  const ours = attempt(() => checkCard(ca, body as CardRequest));
  if ('refused' in ours && /番号|渋谷/.test(ours.refused)) throw new Error('an error repeats personal data');
}

/** A path as a relying party asks for it: octets that are a request or are refused; never a file outside. */
function checkPath(input: Uint8Array): void {
  const path = `/${Buffer.from(input).toString('latin1')}`;
  attempt(() => parseOcspRequest(requestInPath(path)));
  const name = fileName(path);
  if (name !== undefined && (name.includes('..') || name.includes('//') || name.startsWith('/')))
    throw new Error('a path out of its folder');
}

/** What a publisher finds in the place of its own CRL. Of what both read, both read the same. */
function checkCrl(input: Uint8Array): void {
  const ours = attempt(() => {
    const { entries, number } = parseCrl(input);
    return { number, serials: entriesOf(entries).map((entry) => hex(serialAt(entry, 0).subarray(2))) };
  });
  if ('refused' in ours) return;
  const theirs = oracle(() => {
    const { revokedCertificates = [] } = pkijs.CertificateRevocationList.fromBER(exact(input));
    return revokedCertificates.map(({ userCertificate }) => hex(userCertificate.valueBlock.valueHexView));
  });
  if ('value' in theirs && theirs.value.join() !== ours.value.serials.join()) {
    throw new Error(`pkijs reads ${theirs.value}, we ${ours.value.serials}`);
  }
}

/** A small CRL; its signature is not looked at here. */
function smallCrl(): Uint8Array {
  const issuer = encodeName([['CN', 'ca']]);
  const entry = {
    revokedMs: Date.UTC(2026, 0, 1),
    reason: 'superseded',
    invalidityMs: Date.UTC(2025, 0, 1),
  } as const;
  const fields = {
    suite: suites['p256-sha256'],
    issuer,
    reference: { subject: issuer, serialNumber: integer(1), subjectKeyIdentifier: new Uint8Array(20) },
    thisUpdateMs: Date.UTC(2026, 0, 1),
    nextUpdateMs: Date.UTC(2026, 0, 2),
    number: 300,
    baseNumber: 200,
    distributionPointName: distributionPointName(uriName('http://x/y.crl')),
    scope: 'onlyContainsUserCerts',
    freshest: null,
  } as const;
  const entries = [1, 2].map((n) => encodeCrlEntry({ ...entry, serial: Uint8Array.of(n, n) }));
  return prepareCrl(fields, entries).seal(new Uint8Array(64));
}

export async function targets(): Promise<Target[]> {
  const [key, signing, authentication] = [await makeChipKey(), await makeChipKey(), await makeChipKey()];
  const certificate = await selfSigned();
  const parts = {
    cardSigningKey: certificate.privateKey,
    cardSigningCertificate: certificate.der,
    challenge: new Uint8Array(32),
    device: defaultDevice,
    signing,
    authentication,
  };
  const content = enrolmentContent(parts);
  const serialOfOurs = Buffer.concat([Buffer.of(1), randomBytes(16)]);
  const queries = await Promise.all([
    ocspRequest(certificate.der, certificate.der, { hash: 'SHA-1' }),
    ocspRequest(certificate.der, certificate.der, { nonce: new Uint8Array(16) }),
  ]);
  const wellFormed = requestCorpus(certificate.der, serialOfOurs).filter(
    (request) => 'value' in attempt(() => parseOcspRequest(request)),
  );
  const ask = asker(certificate.der);
  const serial = serialOfOurs;
  const ownForm = [ask(serial), ask(serial, randomBytes(16)), ask(serial, randomBytes(32))];
  const heads = [
    'POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/ocsp-request\r\nContent-Length: 80',
    'GET /MFAw HTTP/1.1\r\nHost: x',
  ].map((text) => Buffer.from(text));
  return [
    { name: 'OCSP request', corpus: [...queries, ...wellFormed], check: checkOcsp },
    { name: 'OCSP shape', corpus: ownForm, check: checkShape(ownForm) },
    { name: 'HTTP head', corpus: heads, check: checkHead },
    { name: 'PKCS#10', corpus: [key.request], check: checkRequest },
    { name: 'certificate', corpus: [certificate.der], check: checkCertificate },
    { name: 'CRL', corpus: [smallCrl()], check: checkCrl },
    { name: 'CMS', corpus: [signEnrolment(content, parts)], check: checkMessage(certificate.der, content) },
    {
      name: 'enrolment',
      corpus: [content],
      check: (input) => void attempt(() => parsePhoneEnrolment(input)),
    },
    {
      name: 'JSON body',
      corpus: [Buffer.from(JSON.stringify(cardRequest({ signing, authentication })))],
      check: checkBody,
    },
    {
      name: 'path',
      corpus: [
        Buffer.from(encodeURIComponent(base64(queries[0] ?? new Uint8Array()))),
        Buffer.from('crl/card-signing/1/13113/0.crl'),
      ],
      check: checkPath,
    },
    { name: 'DER', corpus: [certificate.der, content], check: (input) => void isLoose(input) },
  ];
}

async function selfSigned() {
  const { X509CertificateGenerator } = await import('@peculiar/x509');
  const algorithm = {
    name: 'RSASSA-PKCS1-v1_5',
    hash: 'SHA-256',
    modulusLength: 2048,
    publicExponent: Uint8Array.of(1, 0, 1),
  };
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const made = await X509CertificateGenerator.createSelfSigned(
    { name: 'CN=fuzz', keys, signingAlgorithm: algorithm },
    webcrypto,
  );
  const { KeyObject } = await import('node:crypto');
  return { der: new Uint8Array(made.rawData), privateKey: KeyObject.from(keys.privateKey) };
}

function mutation(corpus: readonly Uint8Array[]): fc.Arbitrary<Uint8Array> {
  return fc
    .tuple(fc.constantFrom(...corpus), mutationSteps)
    .map(([seed, steps]) => Uint8Array.from(mutated(seed, steps)));
}

/** One input may take this long: more is a hang. */
const inputMsMax = 1000;

/**
 * Runs one target for so long; throws with the smallest input that shows a fault. Returns how many were tried. The same
 * seed tries the same inputs.
 */
export function fuzz(
  { corpus, check, name }: Target,
  ms: number,
  seed = Math.floor(Math.random() * 2 ** 31),
): number {
  let tried = 0;
  const property = fc.property(mutation(corpus), (input) => {
    tried += 1;
    const before = performance.now();
    check(input);
    if (performance.now() - before > inputMsMax) throw new Error('a hang');
  });
  const result = fc.check(property, {
    seed,
    numRuns: Number.MAX_SAFE_INTEGER,
    interruptAfterTimeLimit: ms,
    markInterruptAsFailure: false,
  });
  if (result.failed)
    throw new Error(`${name}: ${hex(result.counterexample?.[0] ?? new Uint8Array())}`, {
      cause: result.errorInstance,
    });
  return tried;
}

if (import.meta.main) {
  const program = new Command('fuzz').option('--seconds <n>', 'how long, for all targets together', '600');
  const seconds = Number(program.parse().opts<{ seconds: string }>().seconds);
  const all = await targets();
  const eachMs = (seconds * 1000) / (all.length + 1);
  const seed = Number(process.env.WARIFU_FUZZ_SEED ?? Math.floor(Math.random() * 2 ** 31));
  const { sent, bystanders } = await fuzzService(eachMs, seed);
  process.stdout.write(
    `the service (seed ${seed}): ${sent} connections, ${bystanders} answers to others, no thread ended\n`,
  );
  for (const target of all) {
    const tried = fuzz(target, eachMs);
    process.stdout.write(`${target.name}: ${tried} inputs, no fault\n`);
  }
}
