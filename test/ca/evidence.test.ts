import 'reflect-metadata';
import { createPrivateKey, type KeyObject, randomBytes, webcrypto } from 'node:crypto';
import { rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import {
  AuthorizationList,
  IntegerSet,
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
import type { Answer, CaClient, Issued } from '../../ca/client/client.ts';
import { encodeDeviceReport } from '../../ca/request/device-report.ts';
import { attestationChallenge, type DeviceEvidence } from '../../ca/request/evidence/evidence.ts';
import { AttestationRevocationList } from '../../ca/request/evidence/revocation-list.ts';
import { encodeSecureElementStatement } from '../../ca/request/evidence/secure-element.ts';
import type { Question } from '../../ca/request/evidence/verdict.ts';
import { digest } from '../../core/runtime/bytes.ts';
import { systemClock } from '../../core/runtime/clock.ts';
import {
  base64,
  type ChipKey,
  derOf,
  type EnrolmentParts,
  enrolmentContent,
  makeChipKey,
  pemOf,
  signEnrolment,
} from '../support/actors.ts';
import { readCertificationRequest } from '../support/evidence-keys.ts';
import {
  dataFolder,
  enrolmentParts,
  fileOf,
  issueCard,
  removeScratch,
  startTestService,
  type TestService,
} from '../support/harness.ts';
import { freePort } from '../support/service-process.ts';

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

interface Described {
  readonly level?: number;
  readonly keyLevel?: number;
  readonly boot?: number;
  readonly patch?: number;
  readonly os?: number;
  readonly origin?: number | undefined;
  readonly purpose?: readonly number[];
  readonly model?: string;
  /** Package names and digests of signers; null: the app is not said. */
  readonly app?: { readonly packages: readonly string[]; readonly digests: readonly Uint8Array[] } | null;
}

const appSigner = digest('sha256', Buffer.from('certificate of the app’s maker'));
const ourApp = { packages: ['jp.example.wallet'], digests: [appSigner] };

/** An AttestationApplicationId, as Android encodes it. */
function applicationId({ packages, digests }: NonNullable<Described['app']>): Uint8Array {
  const octets = (value: Uint8Array) => new asn1js.OctetString({ valueHex: Uint8Array.from(value).buffer });
  const info = (name: string) =>
    new asn1js.Sequence({ value: [octets(Buffer.from(name)), new asn1js.Integer({ value: 7 })] });
  return new Uint8Array(
    new asn1js.Sequence({
      value: [new asn1js.Set({ value: packages.map(info) }), new asn1js.Set({ value: digests.map(octets) })],
    }).toBER(),
  );
}

/** What a phone's hardware says of a key and of itself. */
function description(challenge: Uint8Array, facts: Described = {}) {
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
    keyMintSecurityLevel: facts.keyLevel ?? SecurityLevel.strongBox,
    attestationChallenge: octets(challenge),
    uniqueId: octets(new Uint8Array()),
    softwareEnforced: new AuthorizationList(
      facts.app === null ? {} : { attestationApplicationId: octets(applicationId(facts.app ?? ourApp)) },
    ),
    hardwareEnforced: new AuthorizationList({
      purpose: new IntegerSet([...(facts.purpose ?? [2])]),
      ...('origin' in facts && facts.origin === undefined ? {} : { origin: facts.origin ?? 0 }),
      ...(facts.model === undefined ? {} : { attestationIdModel: octets(Buffer.from(facts.model)) }),
      osVersion: facts.os ?? 160_000,
      osPatchLevel: facts.patch ?? 202_610,
      rootOfTrust,
    }),
  });
  return new Extension(id_ce_keyDescription, false, AsnSerializer.serialize(value));
}

/** The same with the fields of its hardwareEnforced list in another order, and an unknown one. */
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
let verdict: (question: Question) => { status: number; body: string };
let asked: unknown[] = [];
const listFile = fileOf('', 'status.json');

/** Publishes a list of withdrawn attestation certificates, by their serial numbers. */
function writeList(serials: readonly string[]): void {
  const entries = Object.fromEntries(
    serials.map((serial) => [serial, { status: 'REVOKED', reason: 'KEY_COMPROMISE' }]),
  );
  writeFileSync(listFile, JSON.stringify({ entries }));
}

beforeAll(async () => {
  [root, stranger] = [await certify('root', undefined), await certify('stranger', undefined)];
  [intermediate, withdrawn] = [await certify('intermediate', root), await certify('withdrawn', root)];
  tsm = await certify('sp-tsm', undefined, { ca: false, algorithm: rsa });
  otherTsm = await certify('other-tsm', undefined, { ca: false, algorithm: rsa });
  writeList([]);
  const port = await freePort();
  integrity = createServer((request, response) => {
    let text = '';
    request.on('data', (chunk) => {
      text += String(chunk);
    });
    request.on('end', () => {
      const question = JSON.parse(text) as Question;
      asked.push(question);
      const { status, body } = verdict(question);
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
        revocationList: listFile,
        apps: [{ package: 'jp.example.wallet', signatureDigests: [Buffer.from(appSigner).toString('hex')] }],
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

interface Shown {
  readonly warnings?: readonly { readonly kind: string; readonly about: string }[];
}

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
  readonly device?: { readonly osVersion?: string; readonly patchLevel?: string };
}

/** The authentication key of the phone that was enrolled last. */
let ownKey: ChipKey | undefined;

/** Enrols a phone with evidence that is right but for what is altered. */
async function enrol(altered: Altered = {}, through: CaClient = api): Promise<Answer<Issued>> {
  verdict = current;
  const holder = await issueCard(through);
  const deviceId = `phone-of-${holder.holderId}`;
  const device = { deviceId, platform: altered.platform ?? 'android', ...altered.device };
  const parts: EnrolmentParts = await enrolmentParts(through, holder, device);
  const content = enrolmentContent(parts);
  const [signing, authentication] = [
    parts.signing ?? (await makeChipKey()),
    parts.authentication ?? (await makeChipKey()),
  ];
  ownKey = authentication;
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
  return through.post<Issued>('/phone-certificates', { deviceId, signedEnrolment, deviceEvidence });
}

async function keyOf({ keys }: Authority): Promise<KeyObject> {
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey));
  return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
}

const answer = (said: object) => ({ status: 200, body: JSON.stringify(said) });
const allow = ({ challenge }: Question) => answer({ verdict: 'allow', challenge });
let current: typeof verdict = allow;

function expectRefusal(answer: Answer<unknown>, status: number, title: string, detail: RegExp): void {
  expect(answer).toMatchObject({ status, body: { status, title } });
  expect((answer.body as { detail: string }).detail).toMatch(detail);
}

describe('a phone’s report where keys are attested', () => {
  /** What the phone says, and what its attestation says; without `attested` it brings none. */
  async function report(
    issued: Issued,
    patchLevel: string,
    attested?: { patch: number; challenge?: Uint8Array },
  ) {
    const given = await api.post<{ challenge: string }>('/phone-challenges', undefined);
    const challenge = Buffer.from(given.body.challenge, 'base64');
    const certificate = derOf(pemOf(issued, 'phone-authentication'));
    const none = { appletVersion: null, appVersion: null };
    const head = { certificate: digest('sha256', certificate), challenge };
    const content = encodeDeviceReport({ ...head, osVersion: '16', patchLevel, ...none });
    const signer = { cardSigningKey: ownKey?.privateKey, cardSigningCertificate: certificate };
    const signed = signEnrolment(content, signer as EnrolmentParts, {
      contentType: '1.3.6.1.4.1.32473.8.11',
    });
    const body = { signedReport: base64(signed) };
    if (!attested) return api.post<{ patchLevel: string }>('/phone-reports', body);
    const described = description(attested.challenge ?? digest('sha256', content), {
      patch: attested.patch,
    });
    const leaf = await certify('companion key', intermediate, { ca: false, extensions: [described] });
    const keyAttestation = [leaf, intermediate, root].map(derBase64);
    return api.post<{ patchLevel: string }>('/phone-reports', {
      ...body,
      deviceEvidence: { keyAttestation },
    });
  }

  it('is about what is attested over its challenge, and refused without', async () => {
    const { body: issued } = await enrol();
    expectRefusal(await report(issued, '2026-12'), 400, 'evidence-missing', /keyAttestation/);
    const replayed = { patch: 202612, challenge: digest('sha256', new Uint8Array(32)) };
    expectRefusal(await report(issued, '2026-12', replayed), 400, 'invalid-device-evidence', /challenge/);
    const attested = await report(issued, '2026-12', { patch: 202612 });
    expect(attested).toMatchObject({ status: 200, body: { patchLevel: '2026-12' } });
    expectRefusal(
      await report(issued, '2027-06', { patch: 202612 }),
      400,
      'invalid-device-evidence',
      /patch/i,
    );
  });
});

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
    const [{ challenge = '', keys = [] } = {}] = asked as Partial<Question>[];
    expect([challenge, ...keys].map((text) => Buffer.from(text, 'base64').length)).toEqual([32, 32, 32]);
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
    ['of another model than was signed for', { facts: { model: 'Other 1' } }, /another model/],
    ['of a key that software keeps', { facts: { keyLevel: SecurityLevel.software } }, /that software keeps/],
    ['of a key that was imported', { facts: { origin: 2 } }, /not made in its hardware/],
    ['of a key without an origin', { facts: { origin: undefined } }, /not made in its/],
    ['of a key that certifies keys', { facts: { purpose: [7] } }, /for signing alone/],
    ['of a key that signs and decrypts', { facts: { purpose: [2, 1] } }, /for signing alone/],
    ['of a key without a purpose', { facts: { purpose: [] } }, /for signing alone/],
    ['that names no app', { facts: { app: null } }, /names no app/],
    ['that names no package', { facts: { app: { ...ourApp, packages: [] } } }, /app cannot be read/],
    ['that names no signer of its app', { facts: { app: { ...ourApp, digests: [] } } }, /app cannot be read/],
    ['by another app', { facts: { app: { ...ourApp, packages: ['jp.example.game'] } } }, /another app/],
    [
      'by our app together with another',
      { facts: { app: { ...ourApp, packages: ['jp.example.wallet', 'jp.example.game'] } } },
      /another app/,
    ],
    [
      'by an app under our name that another made',
      { facts: { app: { ...ourApp, digests: [randomBytes(32)] } } },
      /signed by another/,
    ],
    [
      'by our app, signed by its maker and another',
      { facts: { app: { ...ourApp, digests: [appSigner, randomBytes(32)] } } },
      /signed by another/,
    ],
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

describe('facts that hardware attests', () => {
  it.each<[string, Altered, RegExp]>([
    ['of a version finer than it', { device: { osVersion: '16.0.0.1' } }, /OS version/],
    ['of a version finer than it, spelt otherwise', { device: { osVersion: '16.0.0.01' } }, /OS version/],
  ])('are said as they are, and not %s', async (_what, altered, detail) => {
    expectRefusal(await enrol(altered), 400, 'invalid-device-evidence', detail);
  });

  it('are of a month: a day within it is not believed', async () => {
    expectRefusal(await enrol({ device: { patchLevel: '2026-10-99' } }), 400, 'bad-request', /patchLevel/);
    const { status, body } = await enrol({ device: { patchLevel: '2026-10-31' } });
    expect(status).toBe(201);
    const holder = await api.get<{ media: { patchLevel: string | null }[] }>(
      `/holders/${(body as Issued).holderId}`,
    );
    expect(holder.body.media.map(({ patchLevel }) => patchLevel)).toContain('2026-10');
  });
});

describe('the model of a phone', () => {
  it('is unknown where its hardware does not say it and no TSM does, and a restriction can name that', async () => {
    const roots = [fileOf(root.certificate.toString('pem'), 'model-root.pem')];
    const signers = [fileOf(tsm.certificate.toString('pem'), 'model-tsm.pem')];
    const folder = await dataFolder({
      evidence: {
        keyAttestation: { use: 'optional', roots },
        secureElementStatement: { use: 'optional', signers },
      },
    });
    const service = await startTestService({ folder });
    const only: Altered['evidence'] = ({ keyAttestation }) => ({ keyAttestation });
    const statuses = [
      await enrol({ evidence: only }, service.api),
      await enrol({ evidence: only, facts: { model: 'Example 9' } }, service.api),
      await enrol({}, service.api),
      await enrol({ evidence: () => ({}) }, service.api),
    ].map(({ status }) => status);
    const matching = async (...models: string[]) => {
      const path = '/restrictions/preview';
      const { body } = await service.api.post<{ phones: number }>(path, { platform: 'android', models });
      return body.phones;
    };
    const counted = [
      await matching('unknown'),
      await matching('Example 9'),
      await matching('Other', 'unknown'),
    ];
    await service.close();
    expect([statuses, counted]).toEqual([
      [201, 201, 201, 201],
      [2, 4, 2],
    ]);
  });
});

describe('a list of withdrawn attestation certificates', () => {
  const chain: Altered['chain'] = async (leaf) => [await leaf(intermediate), intermediate, root];

  it.each<[string, (serial: string) => string]>([
    ['in hex', (serial) => serial],
    ['without its leading zeros', (serial) => serial.replace(/^0+/, '')],
    ['in decimal, as older lists have it', (serial) => BigInt(`0x${serial}`).toString()],
  ])('is read again when it changes, and holds for serial numbers %s', async (_what, spelt) => {
    expect((await enrol({ chain })).status).toBe(201);
    writeList([spelt(intermediate.certificate.serialNumber)]);
    expectRefusal(await enrol({ chain }), 400, 'invalid-device-evidence', /withdrawn/);
    writeList([]);
    expect((await enrol({ chain })).status).toBe(201);
  });

  it('that cannot be read any more stays in force, and is warned of', async () => {
    writeList([intermediate.certificate.serialNumber]);
    expectRefusal(await enrol({ chain }), 400, 'invalid-device-evidence', /withdrawn/);
    writeFileSync(listFile, '{"entries": ');
    expectRefusal(await enrol({ chain }), 400, 'invalid-device-evidence', /withdrawn/);
    writeList([]);
    expect((await enrol({ chain })).status).toBe(201);
  });

  it('says since when it is in force, and why a later one is not', () => {
    const file = fileOf('{"entries":{"0a":{"status":"SUSPENDED"}}}', 'own-status.json');
    const list = new AttestationRevocationList(file);
    expect(list.state()).toEqual({ changedMs: statSync(file).mtimeMs, fault: null });
    expect([list.names('0A'), list.names('a'), list.names('0b')]).toEqual([true, true, false]);
    for (const [text, fault] of [
      ['{"entries": ', /JSON/],
      ['{}', /no entries/],
      ['{"entries":{"xyz":{"status":"REVOKED"}}}', /no serial number/],
      ['{"entries":{"0b":{}}}', /no status/],
      ['{"entries":[]}', /no entries/],
    ] as const) {
      writeFileSync(file, text);
      expect(list.state().fault).toMatch(fault);
      expect(list.names('0a')).toBe(true);
    }
    rmSync(file);
    expect(list.state().fault).toMatch(/ENOENT/);
  });

  it('is warned of once it is old', async () => {
    const revocationList = fileOf('{"entries":{}}', 'old-status.json');
    utimesSync(revocationList, new Date(nowMs), new Date(nowMs - 8 * dayMs));
    const roots = [fileOf(root.certificate.toString('pem'), 'old-root.pem')];
    const folder = await dataFolder({
      evidence: { keyAttestation: { use: 'optional', roots, revocationList } },
    });
    const old = await startTestService({ folder });
    const { body } = await old.api.get<Shown>('/health');
    await old.close();
    expect(body.warnings).toEqual([
      expect.objectContaining({ kind: 'attestation-list-old', about: revocationList }),
    ]);
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
  it.each<[string, typeof verdict, number, string, RegExp]>([
    [
      'that denies refuses the phone, with its words',
      ({ challenge }) => answer({ verdict: 'deny', detail: 'stolen', challenge }),
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
      ({ challenge }) => answer({ verdict: 'maybe', challenge }),
      503,
      'verdict-unavailable',
      /integrity/,
    ],
    ['that is null is none', () => answer(null as never), 503, 'verdict-unavailable', /integrity/],
    [
      'that says no challenge is none',
      () => answer({ verdict: 'allow' }),
      503,
      'verdict-unavailable',
      /integrity/,
    ],
    [
      'on another phone, played again, is none',
      () => answer({ verdict: 'allow', challenge: (asked[0] as Question).challenge }),
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
    [
      'a list of withdrawn certificates that is none',
      { keyAttestation: { use: 'optional', roots: ['no.pem'], revocationList: fileOf('{}', 'none.json') } },
      /cannot be used/,
    ],
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
