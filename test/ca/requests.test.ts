import { execFileSync } from 'node:child_process';
import { createHash, generateKeyPairSync, sign } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CaClient, Issued } from '../../ca/client/client.ts';
import { readSignedMessage } from '../../ca/request/signed-message.ts';
import { rsaPublicKeyInfo } from '../../core/asn1/algorithms.ts';
import { DerReader } from '../../core/asn1/der-reader.ts';
import {
  bitString,
  context,
  integer,
  objectIdentifier,
  octetString,
  sequence,
  tag,
  tlv,
  unsignedInteger,
} from '../../core/asn1/der-writer.ts';
import { encodeName } from '../../core/asn1/name.ts';
import { oid } from '../../core/asn1/oids.ts';
import {
  base64,
  cardRequest,
  derOf,
  enrolmentContent,
  makeChipKey,
  pemOf,
  signEnrolment,
} from '../support/actors.ts';
import {
  enrolmentParts,
  fileOf,
  fixture,
  issueCard,
  openssl,
  removeScratch,
  startTestService,
  type TestService,
} from '../support/harness.ts';

type Bytes = Uint8Array;
interface Problem {
  title: string;
  detail: string;
}

let test: TestService;
let api: CaClient;
beforeAll(async () => {
  test = await startTestService({ overrides: { issuing: { primeModuli: 'refused' } } });
  api = test.api;
});
afterAll(async () => {
  await test.close();
  removeScratch();
});

let cards = 0;
const card = async (overrides: object = {}) => {
  cards += 1;
  const keys = { signing: await makeChipKey(), authentication: await makeChipKey() };
  return cardRequest(keys, { holderId: `r-${cards}`, cardId: `r-${cards}`, ...overrides });
};
const issue = async (body: object) => api.post<Issued & Problem>('/card-certificates', body);

/** A request in an odd form, made by hand: with identifiers, attributes and key as they are given. */
function oddRequest(
  options: { attributes?: Bytes | null; signatureParameters?: Bytes[]; keyParameters?: Bytes[] } = {},
): string {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const modulus = Buffer.from(String(publicKey.export({ format: 'jwk' }).n), 'base64url');
  const key = sequence(
    sequence(objectIdentifier(oid.rsaEncryption), ...(options.keyParameters ?? [Buffer.of(5, 0)])),
    bitString(sequence(unsignedInteger(modulus), integer(65_537))),
  );
  const attributes = options.attributes === null ? [] : [options.attributes ?? tlv(context(0))];
  const info = sequence(integer(0), encodeName([]), key, ...attributes);
  const algorithm = sequence(
    objectIdentifier('1.2.840.113549.1.1.11'),
    ...(options.signatureParameters ?? [Buffer.of(5, 0)]),
  );
  return base64(sequence(info, algorithm, bitString(sign('sha256', info, privateKey))));
}

describe('requests as devices make them', () => {
  const withSigning = async (signing: string) => {
    const body = await card();
    return issue({ ...body, requests: { ...body.requests, signing } });
  };

  it.each<[string, () => string]>([
    [
      'attributes left out',
      () => readFileSync(fixture('requests/csr-without-attributes.b64'), 'utf8').replace(/\s/g, ''),
    ],
    ['a signature algorithm without NULL (RFC 4055 §5)', () => oddRequest({ signatureParameters: [] })],
    ['a key algorithm without NULL', () => oddRequest({ keyParameters: [] })],
    [
      'all of it left out',
      () => oddRequest({ attributes: null, signatureParameters: [], keyParameters: [] }),
    ],
  ])('are taken with %s, and certified in the one form of a key', async (_what, request) => {
    const { status, body } = await withSigning(request());
    expect([status, body.detail]).toEqual([201, undefined]);
    const spki = execFileSync(
      'openssl',
      ['x509', '-in', fileOf(pemOf(body, 'card-signing')), '-noout', '-pubkey'],
      { encoding: 'utf8' },
    );
    const der = Buffer.from(spki.replace(/-----[^-]+-----|\s/g, ''), 'base64');
    const modulus = openssl('x509', '-in', fileOf(pemOf(body, 'card-signing')), '-noout', '-modulus')
      .trim()
      .slice('Modulus='.length);
    expect(der).toEqual(Buffer.from(rsaPublicKeyInfo(Buffer.from(modulus, 'hex'))));
  });

  it.each<[string, () => string, string, RegExp]>([
    [
      'a prime modulus',
      () => readFileSync(fixture('requests/csr-prime-modulus.b64'), 'utf8').replace(/\s/g, ''),
      'invalid-key',
      /requests\.signing: .*prime/,
    ],
    [
      'parameters that are no NULL',
      () => oddRequest({ signatureParameters: [integer(5)] }),
      'invalid-proof-of-possession',
      /requests\.signing/,
    ],
    [
      'key parameters that are no NULL',
      () => oddRequest({ keyParameters: [integer(5)] }),
      'invalid-key',
      /requests\.signing/,
    ],
    [
      'something in the place of attributes',
      () => oddRequest({ attributes: integer(5) }),
      'bad-request',
      /requests\.signing/,
    ],
  ])('are refused with %s, by the name of the member', async (_what, request, title, detail) => {
    expect(await withSigning(request())).toMatchObject({
      status: 400,
      body: { title, detail: expect.stringMatching(detail) },
    });
  });
});

/** The SignerInfo's signed attributes taken out of a message, changed, signed again or not, and put back. */
function withAttributes(
  message: Bytes,
  change: (attributes: Bytes[]) => Bytes[],
  signed: (attributes: Bytes[]) => Bytes,
  key: Parameters<typeof sign>[2],
): Bytes {
  const rebuild = (der: Bytes, path: readonly number[], replace: (value: Bytes) => Bytes): Bytes => {
    const [at, ...rest] = path;
    if (at === undefined) return replace(der);
    const reader = new DerReader(der).enter(der[0] ?? 0);
    const children: Bytes[] = [];
    while (!reader.atEnd) children.push(reader.whole());
    return tlv(
      der[0] ?? 0,
      ...children.map((child, i) => (i === at ? rebuild(child, rest, replace) : child)),
    );
  };
  // ContentInfo → [0] → SignedData → signerInfos → the SignerInfo.
  const signedData = new DerReader(message).enter(tag.sequence);
  signedData.whole();
  const inner = new DerReader(signedData.whole()).enter(context(0)).enter(tag.sequence);
  let count = 0;
  while (!inner.atEnd) {
    inner.whole();
    count += 1;
  }
  return rebuild(message, [1, 0, count - 1, 0], (signerInfo) => {
    const reader = new DerReader(signerInfo).enter(tag.sequence);
    const parts: Bytes[] = [];
    while (!reader.atEnd) parts.push(reader.whole());
    return sequence(
      ...parts
        .map((part) => {
          if (part[0] === context(0)) {
            const list = new DerReader(part).enter(context(0));
            const attributes: Bytes[] = [];
            while (!list.atEnd) attributes.push(list.whole());
            const changed = change(attributes);
            const signature = sign('sha256', signed(changed), key);
            parts.splice(-1, 1, octetString(signature));
            return tlv(context(0), ...changed);
          }
          return part;
        })
        .slice(0, -1),
      parts.at(-1) ?? octetString(new Uint8Array()),
    );
  });
}

describe('messages as cards sign them', () => {
  const enrol = async (
    alter: (message: Bytes, parts: Awaited<ReturnType<typeof enrolmentParts>>) => Bytes,
  ) => {
    const holder = await issueCard(api);
    const parts = await enrolmentParts(api, holder);
    const message = alter(signEnrolment(enrolmentContent(parts), parts), parts);
    return api.post<Issued & Problem>('/phone-certificates', {
      deviceId: parts.device.deviceId,
      signedEnrolment: base64(message),
    });
  };
  const sorted = (attributes: Bytes[]) => tlv(tag.set, ...[...attributes].sort(Buffer.compare));
  const asSent = (attributes: Bytes[]) => tlv(tag.set, ...attributes);
  const reversed = (attributes: Bytes[]) => [...attributes].sort(Buffer.compare).reverse();
  const isSigningCertificate = (attribute: Bytes) =>
    Buffer.from(attribute).includes(Buffer.from('060b2a864886f70d010910022f', 'hex'));

  /** SigningCertificateV2 by a hash of its own, and what else it may say. */
  const certificateBy = (hash: 'sha256' | 'sha384' | 'sha512' | 'sha1', der: Bytes, more: Bytes[] = []) => {
    const ids = { sha256: oid.sha256, sha384: oid.sha384, sha512: oid.sha512, sha1: oid.sha1 };
    const essCertId = sequence(
      sequence(objectIdentifier(ids[hash])),
      octetString(createHash(hash).update(der).digest()),
      ...more,
    );
    return sequence(objectIdentifier(oid.signingCertificateV2), tlv(tag.set, sequence(sequence(essCertId))));
  };
  const naming =
    (make: (der: Bytes) => Bytes) => (message: Bytes, parts: Awaited<ReturnType<typeof enrolmentParts>>) =>
      withAttributes(
        message,
        (attributes) =>
          attributes.map((each) => (isSigningCertificate(each) ? make(parts.cardSigningCertificate) : each)),
        sorted,
        parts.cardSigningKey,
      );

  it.each<[string, Parameters<typeof enrol>[0]]>([
    ['as it is', (message) => message],
    [
      'signedAttrs in another order than DER’s, signed as DER (RFC 5652 §5.4)',
      (message, { cardSigningKey }) => withAttributes(message, reversed, sorted, cardSigningKey),
    ],
    ['its certificate named by SHA-384 (RFC 5035 §3)', naming((der) => certificateBy('sha384', der))],
    ['its certificate named by SHA-256, in so many words', naming((der) => certificateBy('sha256', der))],
  ])('are taken with %s', async (_what, alter) => {
    const { status, body } = await enrol(alter);
    expect([status, body.detail]).toEqual([201, undefined]);
  });

  it.each<[string, Parameters<typeof enrol>[0], RegExp]>([
    ['an octet behind it', (message) => Buffer.concat([message, Buffer.of(0)]), /nothing behind it/],
    [
      'a hundred octets behind it',
      (message) => Buffer.concat([message, Buffer.alloc(100, 0x30)]),
      /nothing behind it/,
    ],
    ['another message behind it', (message) => Buffer.concat([message, message]), /nothing behind it/],
    [
      'signedAttrs signed as they were sent, and that is not DER',
      (message, { cardSigningKey }) => withAttributes(message, reversed, asSent, cardSigningKey),
      /does not verify/,
    ],
    ['its certificate named by SHA-1', naming((der) => certificateBy('sha1', der)), /ESSCertIDv2/],
    [
      'its certificate named by the wrong SHA-384',
      naming(() => certificateBy('sha384', Buffer.from('another'))),
      /not the signer/,
    ],
    [
      'the SHA-256 under the name of SHA-384',
      naming((der) =>
        sequence(
          objectIdentifier(oid.signingCertificateV2),
          tlv(
            tag.set,
            sequence(
              sequence(
                sequence(
                  sequence(objectIdentifier(oid.sha384)),
                  octetString(createHash('sha256').update(der).digest()),
                ),
              ),
            ),
          ),
        ),
      ),
      /not the signer/,
    ],
    [
      'another issuer and serial number',
      naming((der) =>
        certificateBy('sha256', der, [
          sequence(sequence(tlv(context(4), encodeName([['CN', 'x']]))), integer(5)),
        ]),
      ),
      /issuerSerial/,
    ],
  ])('are refused with %s', async (_what, alter, detail) => {
    expect(await enrol(alter)).toMatchObject({
      status: 400,
      body: { title: 'invalid-signed-request', detail: expect.stringMatching(detail) },
    });
  });

  it('by openssl, with -md sha384, are read', async () => {
    const holder = await issueCard(api);
    const parts = await enrolmentParts(api, holder);
    const out = fileOf('');
    const key = fileOf(holder.cardSigning.privateKey.export({ format: 'pem', type: 'pkcs8' }) as string);
    openssl(
      'cms',
      '-sign',
      '-binary',
      '-nodetach',
      '-cades',
      '-outform',
      'DER',
      '-md',
      'sha384',
      '-econtent_type',
      '1.3.6.1.4.1.32473.8.1',
      '-in',
      fileOf(enrolmentContent(parts)),
      '-signer',
      fileOf(pemOf(holder.card, 'card-signing')),
      '-inkey',
      key,
      '-out',
      out,
    );
    const message = readSignedMessage(readFileSync(out), '1.3.6.1.4.1.32473.8.1');
    expect(() => message.signers[0].verify(derOf(pemOf(holder.card, 'card-signing')))).not.toThrow();
  });
});

describe('values, where they enter', () => {
  const send = async (path: string, body: string | Buffer) =>
    api.send<Problem & Issued>('POST', path, body, {
      'content-type': 'application/json',
      'idempotency-key': crypto.randomUUID(),
    });
  const refused = (detail: RegExp) => ({
    status: 400,
    body: { title: 'bad-request', detail: expect.stringMatching(detail) },
  });
  const named = async (basicFour: object) => {
    const body = await card();
    return issue({ ...body, basicFour: { ...body.basicFour, ...basicFour } });
  };

  it.each<[string, object, number]>([
    ['a name of one word', { name: 'スカルノ' }, 201],
    ['a name of three', { name: '山田　太郎　次郎' }, 201],
    ['a name with a space behind', { name: '山田　太郎　' }, 400],
    ['a name with a space before', { name: '　山田　太郎' }, 400],
    ['a name with two spaces together', { name: '山田　　太郎' }, 400],
    ['a name that is a space', { name: '　' }, 400],
    ['a birth day that is not known', { birthDate: '1950-06-00' }, 201],
    ['a birth month that is not known', { birthDate: '1950-00-00' }, 201],
    ['a month that is not known, and a day that is', { birthDate: '1950-00-05' }, 400],
    ['a year that is not known', { birthDate: '0000-00-00' }, 400],
    ['a birth to come', { birthDate: '2099-00-00' }, 400],
  ])('%s is answered', async (_what, basicFour, status) => {
    expect((await named(basicFour)).status).toBe(status);
  });

  it('what is not known of a birth date stands as zeros in the certificate, and counts as the first day', async () => {
    const { body } = await named({ birthDate: '1950-06-00' });
    const text = openssl('asn1parse', '-in', fileOf(pemOf(body, 'card-signing')));
    const san = /X509v3 Subject Alternative Name\s+.*\[HEX DUMP\]:([0-9A-F]+)/.exec(text)?.[1] ?? '';
    expect(Buffer.from(san, 'hex').toString('latin1')).toContain('319500600');
    expect(body.certificates[0]?.notAfter).toMatch(/-06-01T14:59:59/);
  });

  it.each<[string, (text: string) => string | Buffer, RegExp]>([
    ['a member twice', (text) => text.replace('{', '{"deskCode":"AAAAAAAAA",'), /deskCode is there twice/],
    [
      'a member twice, once with an escape',
      (text) => text.replace('{', '{"desk\\u0043ode":"AAAAAAAAA",'),
      /deskCode is there twice/,
    ],
    [
      'a member of a member twice',
      (text) => text.replace('"basicFour":{', '"basicFour":{"sex":"male",'),
      /sex is there twice/,
    ],
    ['a NUL', (text) => text.replace('r-', 'r-\\u0000'), /holderId: a text with a NUL/],
    ['half a character', (text) => text.replace('東京', '\\ud83d'), /address: a text with half a character/],
    [
      'octets that are no UTF-8',
      (text) => Buffer.concat([Buffer.from(text.slice(0, -1)), Buffer.of(0xff), Buffer.from('}')]),
      /UTF-8/,
    ],
    ['a byte order mark', (text) => `\ufeff${text}`, /not JSON/],
    ['nothing', () => '', /empty|not JSON/],
    ['a member __proto__', (text) => text.replace('{', '{"__proto__":{},'), /__proto__/],
  ])('a body with %s is refused by name', async (_what, alter, detail) => {
    expect(await send('/card-certificates', alter(JSON.stringify(await card())))).toMatchObject(
      refused(detail),
    );
  });

  it('a line of a batch with a member twice is refused too', async () => {
    const line = JSON.stringify({ idempotencyKey: 'twice-1', card: await card() }).replace(
      '"card":{',
      '"card":{"deskCode":"AAAAAAAAA",',
    );
    const answers: Buffer[] = [];
    for await (const answer of api.batch([Buffer.from(`${line}\n`)])) answers.push(answer);
    expect(JSON.parse(String(answers[0]))).toMatchObject({
      status: 400,
      problem: { detail: expect.stringMatching(/deskCode is there twice/) },
    });
  });

  it('a dry run that is none by a second member acts on nothing', async () => {
    const holder = await issueCard(api);
    const body = `{"event":"card-lost","cardId":"${holder.cardId}","dryRun":true,"dryRun":false}`;
    expect(await send('/events', body)).toMatchObject(refused(/dryRun is there twice/));
    const { body: found } = await api.get<{ certificates: { status: { state: string } }[] }>(
      `/holders/${holder.holderId}`,
    );
    expect(found.certificates.map(({ status }) => status.state)).toEqual(['good', 'good']);
  });

  it.each(['9007199254740992', '9007199254740993', '1e300', '1000000001', '0', '1.5', '-1'])(
    'a limit of %s a minute is refused, and every switch can still be read',
    async (perMinute) => {
      const answer = await send('/switches/card-issuing', `{"state":"limited","perMinute":${perMinute}}`);
      expect(answer).toMatchObject({
        status: 400,
        body: { title: 'bad-request', detail: expect.stringMatching(/perMinute/) },
      });
      expect((await api.get('/switches')).status).toBe(200);
      expect((await issue(await card())).status).toBe(201);
    },
  );

  it('a compromised key meets no failure, whatever its date is spelt', async () => {
    const revoke = async (invalidityDate: string) => {
      const holder = await issueCard(api);
      const { authority, serialNumber } = holder.card.certificates[0] ?? {};
      const path = `/certificates/${authority}/${serialNumber}`;
      const answer = await send(
        `${path}/changes`,
        JSON.stringify({ action: 'revoke', reason: 'keyCompromise', invalidityDate }),
      );
      const { body } = await api.get<{ status: { state: string; invalidityDate: string } }>(path);
      return { ...answer, state: body.status.state, invalidityDate: body.status.invalidityDate };
    };
    const now = Date.now();
    const instant = (ms: number) => new Date(ms).toISOString().slice(0, 19);
    expect(await revoke(`${instant(now)}Z`)).toMatchObject({ status: 200, state: 'revoked' });
    // Sixty is a second of RFC 3339 §5.6: the one before it.
    expect(await revoke('2016-12-31T23:59:60Z')).toMatchObject({
      status: 200,
      state: 'revoked',
      invalidityDate: '2016-12-31T23:59:59.000Z',
    });
    const offset = `${instant(now + 9 * 3_600_000)}+09:00`;
    expect(await revoke(offset)).toMatchObject({ status: 200, state: 'revoked' });
    for (const [text, detail] of [
      ['1969-12-31T23:59:59Z', /before 1970/],
      ['0001-01-01T00:00:00Z', /before 1970/],
      [`${instant(now + 86_400_000)}Z`, /future/],
      ['2026-02-30T00:00:00Z', /invalidityDate/],
      ['2026-01-01', /invalidityDate/],
    ] as const) {
      const answer = await revoke(text);
      expect(answer).toMatchObject({
        status: 400,
        state: 'good',
        body: { detail: expect.stringMatching(detail) },
      });
    }
  });

  it('a serial number is found as viewers print it, with its leading zeros', async () => {
    const { card: issued } = await issueCard(api);
    const { authority, serialNumber } = issued.certificates[0] ?? {};
    expect((await api.get(`/certificates/${authority}/00${serialNumber}`)).status).toBe(200);
    expect((await api.get(`/certificates/${authority}/${serialNumber?.toUpperCase()}`)).status).toBe(400);
  });
});
