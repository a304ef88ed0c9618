import { execFileSync, spawnSync } from 'node:child_process';
import { createPublicKey, sign as cryptoSign, type KeyObject, randomBytes } from 'node:crypto';
import * as asn1js from 'asn1js';
import fc from 'fast-check';
import * as pkijs from 'pkijs';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { asker } from '../../bench/rivals/rivals.ts';
import { type SuiteName, subjectPublicKeyBits, suites } from '../../core/asn1/algorithms.ts';
import { parseCertificate } from '../../core/asn1/certificate-reader.ts';
import {
  context,
  nullValue,
  objectIdentifier,
  octetString,
  sequence,
  tlv,
  unsignedInteger,
} from '../../core/asn1/der-writer.ts';
import { extension } from '../../core/asn1/extension.ts';
import { oid } from '../../core/asn1/oids.ts';
import { SerialCipher } from '../../core/crypto/serial.ts';
import type { StatusEvent } from '../../core/feed/feed.ts';
import { type CertificateState, statusIn } from '../../core/model/revocation.ts';
import { digest } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { Responder } from '../../ocsp/answer.ts';
import { StatusIndex } from '../../ocsp/index/status-index.ts';
import type { Answer } from '../../ocsp/protocol/prepared-answer.ts';
import { encodeResponseData, GoodTemplate } from '../../ocsp/protocol/response.ts';
import type { ResponderPolicy } from '../../ocsp/sign/composer.ts';
import type { ResponderKey } from '../../ocsp/sign/issuers.ts';
import { CheckedSigner } from '../../ocsp/sign/response-signer.ts';
import { WorkQueue } from '../../ocsp/sign/work-queue.ts';
import { exact } from '../support/actors.ts';
import { fileOf, fixture, fixtureKey, ManualClock, openssl, removeScratch } from '../support/harness.ts';

const authority = 'signing-1';
const epochKey = randomBytes(16);
const cipher = new SerialCipher(1, epochKey);
const serialOf = (position: number): Uint8Array => cipher.encrypt(position);

let caFile: string;
let ca: Uint8Array;
const certificates = new Map<string, Uint8Array>();
let ask: ReturnType<typeof asker>;

const der = (file: string): Uint8Array => execFileSync('openssl', ['x509', '-in', file, '-outform', 'DER']);

beforeAll(() => {
  const key = fixture('authority.key');
  caFile = fileOf(openssl('req', '-x509', '-new', '-key', key, '-subj', '/CN=ca', '-days', '2'));
  ca = der(caFile);
  ask = asker(ca);
  for (const name of ['holder', 'p256']) {
    const signing = ['-CA', caFile, '-CAkey', key, '-addext', 'extendedKeyUsage=OCSPSigning'];
    const args = [
      'req',
      '-x509',
      '-new',
      '-key',
      fixture(`${name}.key`),
      '-subj',
      `/CN=${name}`,
      '-days',
      '1',
    ];
    certificates.set(name, der(fileOf(openssl(...args, ...signing))));
  }
});
afterAll(removeScratch);

/** A responder in this thread, with software keys that can be made to fail, and turns that the test takes. */
class Bench {
  readonly clock = new ManualClock();
  readonly index = new StatusIndex({ epochKey: async () => epochKey }, this.clock);
  readonly queue: WorkQueue;
  readonly responder: Responder;
  signatures = 0;
  isTokenGone = false;
  /** Runs between signing and sending. */
  whileSigning: () => void = () => undefined;
  #woken = false;

  private constructor(policy: Partial<ResponderPolicy>, names: readonly string[], waitingMax: number) {
    this.queue = new WorkQueue({
      waitingMax,
      concurrency: 1,
      sliceMs: 1000,
      clock: this.clock,
      wake: () => {
        this.#woken = true;
      },
    });
    this.responder = new Responder({
      index: this.index.reader,
      keys: names.map((name) => this.key(name)),
      clock: this.clock,
      policy: {
        responseValidityMs: 3_600_000,
        backdateMs: 0,
        feedLagMsMax: 10_000,
        signedAnswersForMs: 0,
        archiveRetentionMs: null,
        neverIssued: 'unknown',
        nonceUnderOverload: 'answer',
        cacheOctetsMax: 1_000_000,
        ...policy,
      },
      queue: this.queue,
      waitingMax,
      asked: null,
      failed: (error) => {
        throw error;
      },
    });
  }

  static async make(
    policy: Partial<ResponderPolicy> = {},
    options: { keys?: readonly string[]; waitingMax?: number } = {},
  ): Promise<Bench> {
    const bench = new Bench(policy, options.keys ?? ['holder', 'p256'], options.waitingMax ?? 100);
    const certificate = Buffer.from(ca).toString('base64');
    await bench.receive([]);
    await bench.index.setAuthority(authority, certificate);
    bench.responder.authoritiesChanged();
    await bench.receive([0, 1, 2, 3].map((position) => statusOf(position, 1, 'good')));
    bench.index.subscribe(async (update) => {
      if (update.type === 'authority') bench.responder.authoritiesChanged();
    });
    return bench;
  }

  key(name: string): ResponderKey {
    const privateKey: KeyObject = fixtureKey(name);
    const suite = suites[(name === 'p256' ? 'p256-sha256' : 'rsa2048-sha256') satisfies SuiteName];
    const publicKey = createPublicKey(privateKey).export({ format: 'der', type: 'spki' });
    const sign = (message: Uint8Array): Uint8Array => {
      if (this.isTokenGone) throw new PkiError('token-unavailable', 'gone');
      this.signatures += 1;
      const signature = cryptoSign(suite.hash, message, privateKey);
      this.whileSigning();
      return signature;
    };
    const certificate = certificates.get(name) ?? new Uint8Array();
    const { notAfterMs } = parseCertificate(certificate);
    return { authority, certificate, notAfterMs, signer: new CheckedSigner({ suite, publicKey, sign }) };
  }

  async receive(events: readonly StatusEvent[]): Promise<void> {
    const cursor = { incarnation: '', positions: {} };
    await this.index.apply({ events, cursor, watermarkMs: this.clock.wallMs() });
  }

  /** Works until nothing is left to do. */
  turn(): void {
    while (this.#woken) {
      this.#woken = false;
      this.queue.run();
    }
  }

  ask(request: Uint8Array): Answer {
    const answers: Answer[] = [];
    this.responder.ask(Buffer.from(request), null, (answer) => answers.push(answer));
    this.turn();
    expect(answers).toHaveLength(1);
    return answers[0] as Answer;
  }
}

const statusOf = (
  position: number,
  version: number,
  state: CertificateState,
  extra: object = {},
): StatusEvent => ({
  type: 'status',
  authority,
  epoch: 1,
  position,
  version,
  ...statusIn({
    state,
    reason: state === 'held' ? 'certificateHold' : state === 'revoked' ? 'keyCompromise' : null,
    revokedMs: state === 'held' || state === 'revoked' ? 1_700_000_000_000 : null,
    invalidityMs: null,
  }),
  change: 'issued',
  notAfterMs: 2_000_000_000_000,
  shard: null,
  ...extra,
});

const errorOf = ({ der: octets }: Answer): string =>
  ({ 1: 'malformedRequest', 2: 'internalError', 3: 'tryLater', 6: 'unauthorized' })[octets[4] ?? 0] ?? '';
const basicOf = ({ der: octets }: Answer): pkijs.BasicOCSPResponse => {
  const { responseBytes } = pkijs.OCSPResponse.fromBER(exact(octets));
  return pkijs.BasicOCSPResponse.fromBER(
    responseBytes?.response.valueBlock.valueHexView.slice().buffer ?? new ArrayBuffer(),
  );
};
const textOf = ({ der: octets }: Answer): string =>
  openssl('ocsp', '-respin', fileOf(octets), '-noverify', '-resp_text');
const said = (answer: Answer): string =>
  answer.statuses.length === 0 ? errorOf(answer) : answer.statuses.join();

/** A request in full, for what clients seldom send. */
function request(parts: {
  serials: readonly Uint8Array[];
  hash?: 'sha1' | 'sha256' | 'sha384' | 'sha512';
  issuer?: Uint8Array;
  extensions?: readonly Uint8Array[];
}): Uint8Array {
  const { subject, publicKey } = parseCertificate(parts.issuer ?? ca);
  const hash = parts.hash ?? 'sha256';
  const certId = (serial: Uint8Array) =>
    sequence(
      sequence(objectIdentifier(oid[hash]), nullValue),
      octetString(digest(hash, subject)),
      octetString(digest(hash, subjectPublicKeyBits(publicKey))),
      unsignedInteger(serial),
    );
  const list = sequence(...parts.serials.map((serial) => sequence(certId(serial))));
  const { extensions = [] } = parts;
  return sequence(
    sequence(list, ...(extensions.length > 0 ? [tlv(context(2), sequence(...extensions))] : [])),
  );
}

const preferring = (...algorithms: readonly Uint8Array[]): Uint8Array =>
  extension(oid.ocspPreferredAlgorithms, sequence(...algorithms));
const ecdsa = sequence(suites['p256-sha256'].algorithmIdentifier);
const p256Key = sequence(
  suites['p256-sha256'].algorithmIdentifier,
  sequence(objectIdentifier(oid.ecPublicKey), objectIdentifier(oid.secp256r1)),
);
const p384Key = sequence(
  suites['p256-sha256'].algorithmIdentifier,
  sequence(objectIdentifier(oid.ecPublicKey), objectIdentifier(oid.secp384r1)),
);
const unknownAlgorithm = sequence(sequence(objectIdentifier('1.2.3.4')));
const nonceOf = (octets: Uint8Array): Uint8Array => extension(oid.ocspNonce, octetString(octets));

describe('ResponseData from a template', () => {
  it('is the same, octet for octet, as when it is encoded in full', () => {
    const ms = fc.integer({ min: 0, max: 4_000_000_000 }).map((seconds) => seconds * 1000);
    const arbitrary = fc.record({
      producedMs: ms,
      thisUpdateMs: ms,
      nextUpdateMs: ms,
      archiveCutoffMs: fc.option(ms, { nil: null }),
      responderKeyHash: fc.uint8Array({ minLength: 20, maxLength: 20 }),
    });
    const octets = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
    fc.assert(
      fc.property(
        arbitrary,
        arbitrary,
        octets(16),
        fc.nat(128),
        fc.constantFrom('sha1', 'sha512'),
        (first, second, tail, length, hash) => {
          const archiveCutoffMs = first.archiveCutoffMs === null ? null : (second.archiveCutoffMs ?? 0);
          const moment = { ...second, archiveCutoffMs, responderKeyHash: first.responderKeyHash };
          const certIdOf = (serial: Uint8Array) =>
            sequence(
              sequence(objectIdentifier(oid[hash as 'sha1']), nullValue),
              octetString(new Uint8Array(20)),
              unsignedInteger(serial),
            );
          const [one, other] = [Buffer.concat([Buffer.of(1), tail]), Buffer.concat([Buffer.of(9), tail])];
          const nonce = length === 0 ? null : randomBytes(length);
          const template = new GoodTemplate(first, certIdOf(one), length);
          const full = encodeResponseData(moment, {
            responses: [{ certId: certIdOf(other), status: { type: 'good' } }],
            nonce,
            extendedRevoke: false,
          });
          expect(Buffer.from(template.fill(moment, other, nonce))).toEqual(Buffer.from(full));
        },
      ),
    );
  });
});

describe('an answer', () => {
  let bench: Bench;
  beforeEach(async () => {
    bench = await Bench.make();
  });

  const judged = (answer: Answer, serial: Uint8Array, hash: string): string => {
    const file = fileOf(answer.der);
    const args = [
      '-issuer',
      caFile,
      '-serial',
      `0x${Buffer.from(serial).toString('hex')}`,
      '-CAfile',
      caFile,
    ];
    const text = openssl('ocsp', '-respin', file, `-${hash}`, ...args, '-no_nonce');
    expect(text).toContain('Response verify OK');
    const gnutls = spawnSync(
      'ocsptool',
      ['--verify-response', '--load-response', file, '--load-trust', caFile],
      {
        encoding: 'utf8',
      },
    );
    expect(gnutls.stdout + gnutls.stderr).toMatch(/Verifying OCSP Response: Success/i);
    return /: (good|revoked|unknown)/.exec(text)?.[1] ?? text;
  };

  const states: [CertificateState | 'never issued', string][] = [
    ['good', 'good'],
    ['held', 'revoked'],
    ['revoked', 'revoked'],
    ['never issued', 'unknown'],
  ];
  for (const hash of ['sha1', 'sha256', 'sha384', 'sha512'] as const) {
    for (const [suite, extensions] of [
      ['RSA', []],
      ['P-256', [preferring(ecdsa)]],
    ] as const) {
      it.each(states)(
        `by ${suite} to a ${hash} CertID of one that is %s is verified by OpenSSL and GnuTLS`,
        async (state, expected) => {
          const serial =
            state === 'never issued' ? Buffer.concat([Buffer.of(1), randomBytes(16)]) : serialOf(1);
          if (state === 'held' || state === 'revoked') await bench.receive([statusOf(1, 2, state)]);
          const answer = bench.ask(request({ serials: [serial], hash, extensions }));
          expect(judged(answer, serial, hash)).toBe(expected);
          const oidOf = basicOf(answer).signatureAlgorithm.algorithmId;
          expect(oidOf).toBe(suite === 'RSA' ? '1.2.840.113549.1.1.11' : '1.2.840.10045.4.3.2');
        },
      );
    }
  }

  it('is signed as the asker prefers, in his order, where we can (RFC 6960 §4.4.7)', () => {
    const by = (...algorithms: Uint8Array[]) =>
      basicOf(bench.ask(request({ serials: [serialOf(0)], extensions: [preferring(...algorithms)] })))
        .signatureAlgorithm.algorithmId;
    const rsa = sequence(suites['rsa2048-sha256'].algorithmIdentifier);
    expect(by(ecdsa, rsa)).toBe('1.2.840.10045.4.3.2');
    expect(by(rsa, ecdsa)).toBe('1.2.840.113549.1.1.11');
    expect(by(unknownAlgorithm, ecdsa)).toBe('1.2.840.10045.4.3.2');
    expect(by(p256Key)).toBe('1.2.840.10045.4.3.2');
    // By default with the algorithm of the CA.
    expect(by(p384Key)).toBe('1.2.840.113549.1.1.11');
    expect(by(unknownAlgorithm)).toBe('1.2.840.113549.1.1.11');
  });

  it('is by P-256 to everybody where that key comes first', async () => {
    bench = await Bench.make({}, { keys: ['p256', 'holder'] });
    const { signatureAlgorithm } = basicOf(bench.ask(ask(serialOf(0))));
    expect(signatureAlgorithm.algorithmId).toBe('1.2.840.10045.4.3.2');
  });

  it('says since when certificates that ended are answered for, where the policy does (§4.4.4)', async () => {
    bench = await Bench.make({ archiveRetentionMs: 86_400_000 });
    const answer = bench.ask(ask(serialOf(0)));
    const { producedAt, responses } = basicOf(answer).tbsResponseData;
    const value = responses[0]?.singleExtensions?.find(
      ({ extnID }) => extnID === oid.ocspArchiveCutoff,
    )?.extnValue;
    const cutoff = asn1js.fromBER(exact(value?.valueBlock.valueHexView ?? new Uint8Array()))
      .result as asn1js.GeneralizedTime;
    expect(producedAt.getTime() - cutoff.toDate().getTime()).toBe(86_400_000);
    expect(textOf(answer)).toContain('Archive Cutoff');
  });

  it('calls a certificate that was never issued revoked, where the policy does (§2.2, §4.4.8)', async () => {
    bench = await Bench.make({ neverIssued: 'revoked' });
    const answer = bench.ask(ask(Buffer.concat([Buffer.of(1), randomBytes(16)])));
    expect(textOf(answer)).toMatch(
      /revoked[\s\S]*Revocation Time: Jan {2}1 00:00:00 1970[\s\S]*certificateHold/,
    );
    const ids = basicOf(answer).tbsResponseData.responseExtensions?.map(({ extnID }) => extnID);
    expect(ids).toEqual([oid.ocspExtendedRevoke]);
    await bench.receive([statusOf(1, 2, 'revoked')]);
    expect(basicOf(bench.ask(ask(serialOf(1)))).tbsResponseData.responseExtensions).toBeUndefined();
  });

  it('is unauthorized beyond the archive cutoff, and tryLater for one the feed has not sent', async () => {
    await bench.receive([statusOf(2, 2, 'retired')]);
    expect(said(bench.ask(ask(serialOf(2))))).toBe('unauthorized');
    expect(said(bench.ask(ask(serialOf(77))))).toBe('tryLater');
    expect(said(bench.ask(ask(serialOf(10_000_000))))).toBe('tryLater');
  });

  it('to several CertIDs at once speaks of each, in order, or of none', async () => {
    await bench.receive([statusOf(1, 2, 'revoked')]);
    const never = Buffer.concat([Buffer.of(1), randomBytes(16)]);
    expect(said(bench.ask(request({ serials: [serialOf(0), serialOf(1), never] })))).toBe(
      'good,revoked,unknown',
    );
    expect(said(bench.ask(request({ serials: [serialOf(0), serialOf(77)] })))).toBe('tryLater');
    await bench.receive([statusOf(3, 2, 'retired')]);
    expect(said(bench.ask(request({ serials: [serialOf(0), serialOf(3)] })))).toBe('unauthorized');
  });

  it('repeats a nonce of any length from 1 to 128, and refuses others (RFC 9654 §2.1)', () => {
    for (let length = 1; length <= 128; length++) {
      const nonce = randomBytes(length);
      const answer = bench.ask(ask(serialOf(0), nonce));
      expect(answer.der.includes(nonce)).toBe(true);
      expect(answer.fresh).toBeNull();
    }
    for (const length of [0, 129, 500])
      expect(
        said(bench.ask(request({ serials: [serialOf(0)], extensions: [nonceOf(new Uint8Array(length))] }))),
      ).toBe('malformedRequest');
  });

  it('never holds longer than the certificate of its responder', () => {
    const endMs = parseCertificate(certificates.get('holder') ?? new Uint8Array()).notAfterMs;
    bench.clock.advance(endMs - bench.clock.wallMs() - 60_000);
    return bench.receive([]).then(() => {
      const answer = bench.ask(ask(serialOf(0)));
      expect(answer.fresh?.nextUpdateMs).toBe(endMs);
    });
  });
});

describe('the cache', () => {
  let bench: Bench;
  beforeEach(async () => {
    bench = await Bench.make();
  });

  it('answers again without signing, for each hash and each algorithm apart', () => {
    const requests = [
      ask(serialOf(0)),
      request({ serials: [serialOf(0)] }),
      request({ serials: [serialOf(0)], extensions: [preferring(ecdsa)] }),
      ask(serialOf(1)),
    ];
    const first = requests.map((one) => bench.ask(one).der);
    expect(bench.signatures).toBe(4);
    expect(requests.map((one) => bench.ask(one).der)).toEqual(first);
    expect(bench.signatures).toBe(4);
    expect(new Set(first.map((octets) => octets.toString('hex'))).size).toBe(4);
  });

  it('never keeps an answer with a nonce', () => {
    const nonce = randomBytes(16);
    bench.ask(ask(serialOf(0), nonce));
    bench.ask(ask(serialOf(0), nonce));
    expect(bench.signatures).toBe(2);
    expect(bench.responder.cached).toBe(0);
  });

  it('gives nothing that an event has overtaken: hold, release, revocation, worse reason', async () => {
    expect(said(bench.ask(ask(serialOf(0))))).toBe('good');
    await bench.receive([statusOf(0, 2, 'held')]);
    expect(said(bench.ask(ask(serialOf(0))))).toBe('revoked');
    await bench.receive([statusOf(0, 3, 'good')]);
    expect(said(bench.ask(ask(serialOf(0))))).toBe('good');
    await bench.receive([statusOf(0, 4, 'revoked', { reason: 'superseded' })]);
    expect(textOf(bench.ask(ask(serialOf(0))))).toContain('superseded');
    await bench.receive([statusOf(0, 5, 'revoked')]);
    expect(textOf(bench.ask(ask(serialOf(0))))).toContain('keyCompromise');
  });

  it('signs once for all who ask for the same certificate meanwhile', () => {
    const answers: Answer[] = [];
    for (let i = 0; i < 50; i++)
      bench.responder.ask(Buffer.from(ask(serialOf(0))), null, (answer) => answers.push(answer));
    bench.turn();
    expect(answers).toHaveLength(50);
    expect(bench.signatures).toBe(1);
  });

  it('signs again what is asked for late in its life, before it ends and behind its back', async () => {
    const first = bench.ask(ask(serialOf(0)));
    bench.clock.advance(3_600_000 * 0.93);
    await bench.receive([]);
    const answers: Answer[] = [];
    bench.responder.ask(Buffer.from(ask(serialOf(0))), null, (answer) => answers.push(answer));
    expect(answers[0]?.der).toEqual(first.der);
    bench.turn();
    expect(bench.signatures).toBe(2);
    const next = bench.ask(ask(serialOf(0)));
    expect(next.fresh?.nextUpdateMs).toBeGreaterThan(first.fresh?.nextUpdateMs ?? 0);
    expect(bench.signatures).toBe(2);
  });

  it('gives nothing beyond its nextUpdate', async () => {
    const first = bench.ask(ask(serialOf(0)));
    bench.clock.advance(3_600_001);
    await bench.receive([]);
    expect(bench.ask(ask(serialOf(0))).der).not.toEqual(first.der);
  });

  it('stays within its bound, and keeps what is asked for', async () => {
    bench = await Bench.make({ cacheOctetsMax: 20_000 });
    await bench.receive(Array.from({ length: 100 }, (_, i) => statusOf(i + 4, 1, 'good')));
    for (let i = 0; i < 100; i++) {
      bench.ask(ask(serialOf(i + 4)));
      bench.ask(ask(serialOf(0)));
    }
    expect(bench.responder.cached).toBeLessThan(20);
    const before = bench.signatures;
    bench.ask(ask(serialOf(0)));
    expect(bench.signatures).toBe(before);
  });

  it('is not emptied by strangers who prefer what no other client asks for', () => {
    bench.ask(ask(serialOf(0)));
    for (let i = 0; i < 600; i++) {
      const made = sequence(sequence(objectIdentifier(`1.2.3.${i + 1}`)));
      bench.ask(request({ serials: [serialOf(1)], extensions: [preferring(made)] }));
    }
    expect(bench.signatures).toBe(2);
    bench.ask(ask(serialOf(0)));
    expect(bench.signatures).toBe(2);
  });

  it('outlives another authority, and another key, and what signs it being opened again', () => {
    const { der: octets } = bench.ask(ask(serialOf(0)));
    bench.responder.authoritiesChanged();
    expect(bench.ask(ask(serialOf(0))).der).toEqual(octets);
    bench.responder.setKeys([bench.key('holder')]);
    bench.isTokenGone = true;
    expect(bench.ask(ask(serialOf(0))).der).toEqual(octets);
    expect(bench.signatures).toBe(1);
  });

  it('makes no request wait for what a signer of before does not answer', async () => {
    const { signer, ...key } = bench.key('holder');
    const { promise: never, reject } = Promise.withResolvers<Uint8Array>();
    const { suite, publicKey } = signer;
    bench.responder.setKeys([{ ...key, signer: { suite, publicKey, sign: () => never } }]);
    const answers: string[] = [];
    const put = (who: string) =>
      bench.responder.ask(Buffer.from(ask(serialOf(2))), null, (answer) =>
        answers.push(`${who} ${said(answer)}`),
      );
    put('before');
    bench.turn();
    bench.responder.setKeys([bench.key('holder')]);
    put('after');
    reject(new PkiError('token-unavailable', 'its session was closed'));
    await expect
      .poll(() => {
        bench.turn();
        return answers;
      })
      .toEqual(['before tryLater', 'after good']);
  });

  it('is forgotten with its keys, even by what was being signed at the time', () => {
    bench.ask(ask(serialOf(0)));
    bench.responder.ask(Buffer.from(ask(serialOf(1))), null, () => undefined);
    bench.responder.setKeys([bench.key('p256')]);
    bench.turn();
    for (const position of [0, 1])
      expect(basicOf(bench.ask(ask(serialOf(position)))).signatureAlgorithm.algorithmId).toBe(
        '1.2.840.10045.4.3.2',
      );
  });
});

describe('under pressure', () => {
  it('says tryLater beyond a bounded queue, and goes on giving what it has', async () => {
    const bench = await Bench.make({}, { waitingMax: 10 });
    await bench.receive(Array.from({ length: 100 }, (_, i) => statusOf(i + 4, 1, 'good')));
    bench.ask(ask(serialOf(0)));
    const answers: Answer[] = [];
    for (let i = 0; i < 30; i++)
      bench.responder.ask(Buffer.from(ask(serialOf(i + 4), randomBytes(8))), null, (answer) =>
        answers.push(answer),
      );
    expect(answers.map(said)).toEqual(Array.from({ length: 20 }, () => 'tryLater'));
    expect(said(bench.ask(ask(serialOf(0))))).toBe('good');
    expect(answers).toHaveLength(30);
  });

  it('leaves nonces out where the policy says so (RFC 9654 §2.1)', async () => {
    const bench = await Bench.make({ nonceUnderOverload: 'ignore' }, { waitingMax: 10 });
    const cached = bench.ask(ask(serialOf(0)));
    for (let i = 0; i < 6; i++)
      bench.responder.ask(Buffer.from(ask(serialOf(1), randomBytes(8))), null, () => undefined);
    const answers: Answer[] = [];
    bench.responder.ask(Buffer.from(ask(serialOf(0), randomBytes(8))), null, (answer) =>
      answers.push(answer),
    );
    expect(answers[0]?.der).toEqual(cached.der);
  });

  it('without its token gives what it has until that ends, then tryLater', async () => {
    const bench = await Bench.make();
    bench.ask(ask(serialOf(0)));
    bench.isTokenGone = true;
    expect(said(bench.ask(ask(serialOf(0))))).toBe('good');
    expect(said(bench.ask(ask(serialOf(1))))).toBe('tryLater');
    bench.clock.advance(3_500_000);
    await bench.receive([]);
    expect(said(bench.ask(ask(serialOf(0))))).toBe('good');
    bench.clock.advance(200_000);
    await bench.receive([]);
    expect(said(bench.ask(ask(serialOf(0))))).toBe('tryLater');
    bench.isTokenGone = false;
    expect(said(bench.ask(ask(serialOf(0))))).toBe('good');
  });

  it('never sends a good that was overtaken while it was signed', async () => {
    const bench = await Bench.make();
    bench.whileSigning = () => {
      bench.whileSigning = () => undefined;
      void bench.receive([statusOf(0, 2, 'revoked')]);
    };
    expect(said(bench.ask(ask(serialOf(0), randomBytes(8))))).toBe('revoked');
  });

  it('sends no signature that is not its key’s', async () => {
    const bench = await Bench.make();
    const key = bench.key('holder');
    const other = bench.key('p256');
    const signer = new CheckedSigner({
      ...key.signer,
      suite: key.signer.suite,
      publicKey: key.signer.publicKey,
      sign: (message) => other.signer.sign(message),
    });
    bench.responder.setKeys([{ ...key, signer }]);
    expect(said(bench.ask(ask(serialOf(0))))).toBe('tryLater');
  });

  it('gives what it has while its feed lags, signs nothing, and gives nothing in the end', async () => {
    const bench = await Bench.make({ signedAnswersForMs: 600_000 });
    expect(said(bench.ask(ask(serialOf(0))))).toBe('good');
    const signed = bench.ask(ask(serialOf(0)));
    bench.clock.advance(11_000);
    expect(Buffer.compare(bench.ask(ask(serialOf(0))).der, signed.der)).toBe(0);
    // Neither for another certificate nor with a nonce: that would have to be signed.
    expect(said(bench.ask(ask(serialOf(1))))).toBe('tryLater');
    bench.clock.advance(598_000);
    expect(said(bench.ask(ask(serialOf(0))))).toBe('good');
    bench.clock.advance(1_001);
    expect(said(bench.ask(ask(serialOf(0))))).toBe('tryLater');
  });

  it('gives nothing that does not hold any more, however long it may', async () => {
    const bench = await Bench.make({ signedAnswersForMs: 600_000, responseValidityMs: 60_000 });
    expect(said(bench.ask(ask(serialOf(0))))).toBe('good');
    bench.clock.advance(59_000);
    expect(said(bench.ask(ask(serialOf(0))))).toBe('good');
    bench.clock.advance(1_001);
    expect(said(bench.ask(ask(serialOf(0))))).toBe('tryLater');
  });

  it('says nothing while its feed lags, not even what it has, where it is strict', async () => {
    const bench = await Bench.make();
    bench.ask(ask(serialOf(0)));
    bench.clock.advance(11_000);
    expect(said(bench.ask(ask(serialOf(0))))).toBe('tryLater');
    await bench.receive([]);
    bench.clock.advance(10);
    expect(said(bench.ask(ask(serialOf(0))))).toBe('good');
  });
});
