import 'reflect-metadata';
import { createPrivateKey, type KeyObject, randomBytes, webcrypto } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import {
  AuthorizationList,
  id_ce_keyDescription,
  KeyMintKeyDescription,
  RootOfTrust,
  SecurityLevel,
  VerifiedBootState,
} from '@peculiar/asn1-android';
import { AsnSerializer, OctetString } from '@peculiar/asn1-schema';
import {
  BasicConstraintsExtension,
  Extension,
  type X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509';
import * as asn1js from 'asn1js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  base64,
  type EnrolmentParts,
  enrolmentContent,
  makeChipKey,
  signEnrolment,
} from '../../bench/actors.ts';
import { freePort } from '../../bench/service-process.ts';
import type { Answer, CaClient, Issued } from '../../ca/client.ts';
import { attestationChallenge, type DeviceEvidence } from '../../ca/evidence/evidence.ts';
import { encodeSecureElementStatement } from '../../ca/evidence/secure-element.ts';
import { digest } from '../../core/bytes.ts';
import { systemClock } from '../../core/clock.ts';
import {
  dataFolder,
  enrolmentParts,
  fileOf,
  issueCard,
  removeScratch,
  startTestService,
  type TestService,
} from '../harness.ts';
import { readCertificationRequest } from './evidence-keys.ts';

// What a phone brings to show what it is. Attestations are made here as a phone's hardware makes them, by libraries.

const ec = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const rsa = {
  name: 'RSASSA-PKCS1-v1_5',
  hash: 'SHA-256',
  modulusLength: 2048,
  publicExponent: Uint8Array.of(1, 0, 1),
};
const dayMs = 86_400_000;
const nowMs = systemClock.wallMs();

interface Authority {
  readonly certificate: X509Certificate;
  readonly keys: webcrypto.CryptoKeyPair;
}

let serials = 0;

async function certify(
  name: string,
  issuer: Authority | undefined,
  options: {
    ca?: boolean;
    extensions?: Extension[];
    begins?: number;
    ends?: number;
    algorithm?: typeof ec | typeof rsa;
    keys?: webcrypto.CryptoKeyPair;
  } = {},
): Promise<Authority> {
  const algorithm = options.algorithm ?? ec;
  const generate = async () =>
    (await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])) as webcrypto.CryptoKeyPair;
  const keys = options.keys ?? (await generate());
  serials += 1;
  const certificate = await X509CertificateGenerator.create(
    {
      serialNumber: (0x4000 + serials).toString(16),
      subject: `CN=${name}`,
      issuer: issuer?.certificate.subject ?? `CN=${name}`,
      notBefore: new Date(options.begins ?? nowMs - dayMs),
      notAfter: new Date(options.ends ?? nowMs + 365 * dayMs),
      publicKey: keys.publicKey,
      signingKey: (issuer?.keys ?? keys).privateKey,
      signingAlgorithm: issuer ? ec : algorithm,
      extensions: [
        ...(options.ca === false ? [] : [new BasicConstraintsExtension(true, undefined, true)]),
        ...(options.extensions ?? []),
      ],
    },
    webcrypto,
  );
  return { certificate, keys };
}

/** What a phone's hardware says of a key and of itself. */
function description(
  challenge: Uint8Array,
  facts: { level?: number; boot?: number; patch?: number; os?: number } = {},
) {
  const octets = (value: Uint8Array) => new OctetString(Uint8Array.from(value));
  const rootOfTrust = new RootOfTrust({
    verifiedBootKey: octets(randomBytes(32)),
    deviceLocked: true,
    verifiedBootState: facts.boot ?? VerifiedBootState.verified,
    verifiedBootHash: octets(randomBytes(32)),
  });
  const value = new KeyMintKeyDescription({
    attestationVersion: 300,
    attestationSecurityLevel: facts.level ?? SecurityLevel.strongBox,
    keyMintVersion: 300,
    keyMintSecurityLevel: SecurityLevel.strongBox,
    attestationChallenge: octets(challenge),
    uniqueId: octets(new Uint8Array()),
    softwareEnforced: new AuthorizationList(),
    hardwareEnforced: new AuthorizationList({
      osVersion: facts.os ?? 160_000,
      osPatchLevel: facts.patch ?? 202_610,
      rootOfTrust,
    }),
  });
  return new Extension(id_ce_keyDescription, false, AsnSerializer.serialize(value));
}

/** The same with the fields of its hardwareEnforced list in another order, and one that nobody knows. */
function rearranged(extension: Extension): Extension {
  const described = asn1js.fromBER(extension.value).result as asn1js.Sequence;
  const list = described.valueBlock.value[7] as asn1js.Sequence;
  const unknown = new asn1js.Constructed({
    idBlock: { tagClass: 3, tagNumber: 799 },
    value: [new asn1js.Integer({ value: 1 })],
  });
  list.valueBlock.value = [unknown, ...list.valueBlock.value.reverse()];
  return new Extension(id_ce_keyDescription, false, described.toBER());
}

const derBase64 = ({ certificate }: Authority): string => base64(new Uint8Array(certificate.rawData));

let test: TestService;
let api: CaClient;
let root: Authority;
let stranger: Authority;
let intermediate: Authority;
let withdrawn: Authority;
let tsm: Authority;
let otherTsm: Authority;
let integrity: Server;
let verdict: () => { status: number; body: string };
let asked: unknown[] = [];

beforeAll(async () => {
  [root, stranger] = [await certify('root', undefined), await certify('stranger', undefined)];
  [intermediate, withdrawn] = [await certify('intermediate', root), await certify('withdrawn', root)];
  tsm = await certify('sp-tsm', undefined, { ca: false, algorithm: rsa });
  otherTsm = await certify('other-tsm', undefined, { ca: false, algorithm: rsa });
  const port = await freePort();
  integrity = createServer((request, response) => {
    let text = '';
    request.on('data', (chunk) => {
      text += String(chunk);
    });
    request.on('end', () => {
      asked.push(JSON.parse(text));
      const { status, body } = verdict();
      response.writeHead(status).end(body);
    });
  });
  await new Promise<void>((resolve) => integrity.listen(port, '127.0.0.1', resolve));
  const folder = await dataFolder({
    evidence: {
      keyAttestation: {
        use: 'required',
        roots: [fileOf(root.certificate.toString('pem'), 'root.pem')],
        revokedSerials: [withdrawn.certificate.serialNumber],
      },
      secureElementStatement: {
        use: 'required',
        signers: [fileOf(tsm.certificate.toString('pem'), 'tsm.pem')],
      },
      verdicts: [
        { name: 'integrity', url: `http://127.0.0.1:${port}/`, use: 'required', timeout: '500ms' },
        { name: 'gossip', url: 'http://127.0.0.1:1/', use: 'optional', timeout: '100ms' },
      ],
    },
  });
  test = await startTestService({ folder });
  api = test.api;
});
afterAll(async () => {
  await test.close();
  await new Promise((resolve) => integrity.close(resolve));
  removeScratch();
});

interface Altered {
  readonly challenge?: Uint8Array;
  readonly facts?: Parameters<typeof description>[1];
  readonly leaf?: { begins?: number; ends?: number; rearranged?: boolean };
  readonly chain?: (leaf: (issuer: Authority) => Promise<Authority>) => Promise<Authority[]>;
  readonly statement?: Partial<Parameters<typeof encodeSecureElementStatement>[0]>;
  readonly tsm?: Authority;
  readonly evidence?: (
    evidence: Required<Pick<DeviceEvidence, 'keyAttestation' | 'secureElementStatement'>>,
  ) => DeviceEvidence;
  readonly platform?: string;
}

/** Enrols a phone with evidence that is right but for what is altered. */
async function enrol(altered: Altered = {}): Promise<Answer<Issued>> {
  verdict = current;
  const holder = await issueCard(api);
  const deviceId = `phone-of-${holder.holderId}`;
  const device = { deviceId, platform: altered.platform ?? 'android' };
  const parts: EnrolmentParts = await enrolmentParts(api, holder, device);
  const content = enrolmentContent(parts);
  const [signing, authentication] = [
    parts.signing ?? (await makeChipKey()),
    parts.authentication ?? (await makeChipKey()),
  ];
  const challenge =
    altered.challenge ??
    attestationChallenge({
      signingRequest: signing.request,
      authenticationRequest: authentication.request,
      challenge: parts.challenge,
    });
  const { rearranged: isRearranged, ...dates } = altered.leaf ?? {};
  const described = description(challenge, altered.facts);
  const extensions = [isRearranged ? rearranged(described) : described];
  const leaf = (issuer: Authority) => certify('companion key', issuer, { ca: false, extensions, ...dates });
  const chain = altered.chain ? await altered.chain(leaf) : [await leaf(intermediate), intermediate, root];
  const statement = encodeSecureElementStatement({
    challenge: parts.challenge,
    deviceId,
    platform: parts.device.platform,
    model: parts.device.model,
    secureElement: parts.device.secureElement,
    keys: [signing, authentication].map(({ request }) => digest('sha256', readCertificationRequest(request))),
    ...altered.statement,
  });
  const by = altered.tsm ?? tsm;
  const signer = {
    ...parts,
    cardSigningKey: await keyOf(by),
    cardSigningCertificate: new Uint8Array(by.certificate.rawData),
  };
  const signed = signEnrolment(statement, signer, { contentType: '1.3.6.1.4.1.32473.8.3' });
  const right = { keyAttestation: chain.map(derBase64), secureElementStatement: base64(signed) };
  const deviceEvidence = altered.evidence ? altered.evidence(right) : right;
  const signedEnrolment = base64(signEnrolment(content, parts));
  return api.post<Issued>('/phone-certificates', { deviceId, signedEnrolment, deviceEvidence });
}

async function keyOf({ keys }: Authority): Promise<KeyObject> {
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey));
  return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
}

const allow = () => ({ status: 200, body: '{"verdict":"allow"}' });
let current: typeof verdict = allow;

function expectRefusal(answer: Answer<unknown>, status: number, title: string, detail: RegExp): void {
  expect(answer).toMatchObject({ status, body: { status, title } });
  expect((answer.body as { detail: string }).detail).toMatch(detail);
}

describe('an attestation as phones make it', () => {
  it.each<[string, Altered]>([
    [
      'to a root whose certificate has ended: a configured root is a key',
      {
        chain: async (leaf) => {
          const old = { begins: Date.UTC(2016, 4, 26), ends: Date.UTC(2026, 4, 24), keys: root.keys };
          return [await leaf(intermediate), intermediate, await certify('root', undefined, old)];
        },
      },
    ],
    ['without the root’s certificate', { chain: async (leaf) => [await leaf(intermediate), intermediate] }],
    [
      'with a leaf of 1970, as factories leave it',
      {
        leaf: { begins: 0, ends: dayMs },
      },
    ],
    ['with its fields in another order, and unknown ones', { leaf: { rearranged: true } }],
  ])('is taken %s', async (_what, altered) => {
    const { status, body } = await enrol(altered);
    expect([status, (body as { detail?: string }).detail]).toEqual([201, undefined]);
  });
});

describe('evidence that is required', () => {
  it('is taken where all of it is right: a chain to a root, the TSM’s statement, a verdict', async () => {
    asked = [];
    expect(await enrol()).toMatchObject({ status: 201 });
    expect(asked).toMatchObject([{ device: { platform: 'android' }, token: null }]);
  });

  it('gives the provider what the phone got from it', async () => {
    asked = [];
    const evidence: Altered['evidence'] = (right) => ({ ...right, verdictTokens: { integrity: 'token-1' } });
    expect((await enrol({ evidence })).status).toBe(201);
    expect(asked).toMatchObject([{ token: 'token-1' }]);
  });

  it('of keys is not asked of a platform that has none', async () => {
    const evidence: Altered['evidence'] = ({ secureElementStatement }) => ({ secureElementStatement });
    expect((await enrol({ platform: 'ios', evidence })).status).toBe(201);
    expectRefusal(await enrol({ evidence }), 400, 'evidence-missing', /keyAttestation/);
  });

  it('by a TSM is missed where it is not there', async () => {
    const evidence: Altered['evidence'] = ({ keyAttestation }) => ({ keyAttestation });
    expectRefusal(await enrol({ evidence }), 400, 'evidence-missing', /secureElementStatement/);
  });
});

describe('an attestation', () => {
  it.each<[string, Altered, RegExp]>([
    ['made for another challenge', { challenge: randomBytes(32) }, /challenge/],
    ['made by software', { facts: { level: SecurityLevel.software } }, /software/],
    ['of a phone whose boot was not verified', { facts: { boot: VerifiedBootState.unverified } }, /boot/],
    ['of another patch level than was signed for', { facts: { patch: 202_501 } }, /patch level/],
    ['of another OS version than was signed for', { facts: { os: 150_000 } }, /OS version/],
    [
      'that leads to a stranger’s root',
      { chain: async (leaf) => [await leaf(stranger), stranger] },
      /its root is not one that is believed/,
    ],
    [
      'through a certificate that was withdrawn',
      { chain: async (leaf) => [await leaf(withdrawn), withdrawn, root] },
      /withdrawn/,
    ],
    [
      'whose chain has a gap',
      { chain: async (leaf) => [await leaf(intermediate), root] },
      /not signed by the next/,
    ],
    [
      'through a certificate that has ended',
      {
        chain: async (leaf) => {
          const ended = await certify('ended', root, { ends: nowMs - 1000 });
          return [await leaf(ended), ended, root];
        },
      },
      /not valid now/,
    ],
    [
      'by a key that was itself attested',
      {
        chain: async (leaf) => {
          const attested = await certify('attested', root, { extensions: [description(randomBytes(32))] });
          return [await leaf(attested), attested, root];
        },
      },
      /above the leaf describes a key/,
    ],
    [
      'through a certificate that is no CA’s',
      {
        chain: async (leaf) => {
          const noCa = await certify('no ca', root, { ca: false });
          return [await leaf(noCa), noCa, root];
        },
      },
      /not a CA’s/,
    ],
    ['without a leaf', { chain: async () => [intermediate, root] }, /KeyDescription/],
    [
      'that is no certificate',
      { evidence: (right) => ({ ...right, keyAttestation: ['AAAA', 'AAAA'] }) },
      /cannot be read/,
    ],
    ['of one certificate alone', { chain: async (leaf) => [await leaf(root)] }, /not a chain/],
  ])('is refused %s', async (_what, altered, detail) => {
    expectRefusal(await enrol(altered), 400, 'invalid-device-evidence', detail);
  });
});

describe('a TSM’s statement', () => {
  it.each<[string, Altered | (() => Altered), RegExp]>([
    ['about other keys', { statement: { keys: [randomBytes(32), randomBytes(32)] } }, /keys/],
    ['about one key too few', { statement: { keys: [] } }, /keys/],
    ['about another phone', { statement: { deviceId: 'other' } }, /deviceId/],
    ['about another platform', { statement: { platform: 'ios' } }, /platform: not/],
    ['about another model', { statement: { model: 'other' } }, /model: not/],
    ['about another secure element', { statement: { secureElement: 'other' } }, /secureElement: not/],
    ['for another challenge', { statement: { challenge: randomBytes(32) } }, /challenge/],
    ['by someone who is not configured', () => ({ tsm: otherTsm }), /not configured/],
    [
      'by someone who took the TSM’s name',
      () => ({ tsm: { certificate: tsm.certificate, keys: otherTsm.keys } }),
      /signature/,
    ],
    ['that is none', { evidence: (right) => ({ ...right, secureElementStatement: 'AAAA' }) }, /not a CMS/],
  ])('is refused %s', async (_what, altered, detail) => {
    const made = typeof altered === 'function' ? altered() : altered;
    expectRefusal(await enrol(made), 400, 'invalid-device-evidence', detail);
  });
});

describe('a verdict', () => {
  it.each<[string, () => { status: number; body: string }, number, string, RegExp]>([
    [
      'that denies refuses the phone, with its words',
      () => ({ status: 200, body: '{"verdict":"deny","detail":"stolen"}' }),
      403,
      'device-refused',
      /stolen/,
    ],
    ['that is an error is none', () => ({ status: 500, body: '' }), 503, 'verdict-unavailable', /integrity/],
    [
      'that is nonsense is none',
      () => ({ status: 200, body: '<html>' }),
      503,
      'verdict-unavailable',
      /integrity/,
    ],
    [
      'of other words is none',
      () => ({ status: 200, body: '{"verdict":"maybe"}' }),
      503,
      'verdict-unavailable',
      /integrity/,
    ],
  ])('%s', async (_what, answer, status, title, detail) => {
    current = answer;
    try {
      expectRefusal(await enrol(), status, title, detail);
    } finally {
      current = allow;
    }
  });
});

describe('a configuration of evidence', () => {
  it.each<[string, object, RegExp]>([
    ['attestation without roots', { keyAttestation: { use: 'optional' } }, /roots is empty/],
    ['statements without signers', { secureElementStatement: { use: 'required' } }, /signers is empty/],
    [
      'a file that is not there',
      { keyAttestation: { use: 'optional', roots: ['nowhere.pem'] } },
      /nowhere.pem cannot be used/,
    ],
  ])('is refused at start: %s', async (_what, evidence, detail) => {
    const folder = await dataFolder({ evidence });
    await expect(startTestService({ folder })).rejects.toThrow(detail);
  });
});
