import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import * as pkijs from 'pkijs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DerError } from '../../core/asn1/der-reader.ts';
import {
  context,
  integer,
  nullValue,
  objectIdentifier,
  octetString,
  sequence,
  tlv,
} from '../../core/asn1/der-writer.ts';
import { extension } from '../../core/asn1/extension.ts';
import { oid } from '../../core/asn1/oids.ts';
import { parseOcspRequest } from '../../ocsp/protocol/request.ts';
import { exact, ocspRequest } from '../support/actors.ts';
import { fileOf, fixture, openssl, removeScratch } from '../support/harness.ts';

const hex = (octets: Uint8Array): string => Buffer.from(octets).toString('hex');

let caFile: string;
let leafFile: string;
const der = (file: string): Uint8Array => execFileSync('openssl', ['x509', '-in', file, '-outform', 'DER']);

beforeAll(() => {
  caFile = fileOf(
    openssl('req', '-x509', '-new', '-key', fixture('authority.key'), '-subj', '/CN=ca', '-days', '2'),
  );
  leafFile = fileOf(
    openssl(
      'req',
      '-x509',
      '-new',
      '-key',
      fixture('holder.key'),
      '-subj',
      '/CN=leaf',
      '-days',
      '2',
      '-CA',
      caFile,
      '-CAkey',
      fixture('authority.key'),
    ),
  );
});
afterAll(removeScratch);

function opensslRequest(...args: string[]): Uint8Array {
  const out = fileOf('');
  openssl('ocsp', ...args, '-reqout', out);
  return readFileSync(out);
}

describe('an OCSP request (RFC 6960 §4.1)', () => {
  it.each(['sha1', 'sha256', 'sha384', 'sha512'] as const)(
    'with a %s CertID from openssl means what pkijs reads',
    (hash) => {
      const octets = opensslRequest(`-${hash}`, '-issuer', caFile, '-cert', leafFile, '-no_nonce');
      const ours = parseOcspRequest(octets);
      const [theirs] = pkijs.OCSPRequest.fromBER(exact(octets)).tbsRequest.requestList;
      expect(ours.nonce).toBeNull();
      expect(ours.certIds).toHaveLength(1);
      const [certId] = ours.certIds;
      expect(certId?.hash).toBe(hash);
      expect(hex(certId?.issuerKeyHash ?? new Uint8Array())).toBe(
        hex(new Uint8Array(theirs?.reqCert.issuerKeyHash.getValue() ?? [])),
      );
      expect(hex(certId?.issuerNameHash ?? new Uint8Array())).toBe(
        hex(new Uint8Array(theirs?.reqCert.issuerNameHash.getValue() ?? [])),
      );
      expect(BigInt(`0x${hex(certId?.serial ?? new Uint8Array())}`)).toBe(
        theirs?.reqCert.serialNumber.toBigInt(),
      );
    },
  );

  it('with a nonce from openssl gives it back', () => {
    const octets = opensslRequest('-issuer', caFile, '-cert', leafFile);
    expect(parseOcspRequest(octets).nonce?.length).toBeGreaterThanOrEqual(16);
  });

  it('signed by its asker is read like any other', () => {
    const octets = opensslRequest(
      '-issuer',
      caFile,
      '-cert',
      leafFile,
      '-signer',
      leafFile,
      '-signkey',
      fixture('holder.key'),
    );
    expect(parseOcspRequest(octets).certIds).toHaveLength(1);
  });

  it('may ask for several certificates', () => {
    const octets = opensslRequest('-issuer', caFile, '-cert', leafFile, '-serial', '5', '-serial', '0x80');
    expect(
      parseOcspRequest(octets)
        .certIds.map(({ serial }) => hex(serial))
        .slice(1),
    ).toEqual(['05', '80']);
  });

  const certId = sequence(
    sequence(objectIdentifier(oid.sha1), nullValue),
    octetString(new Uint8Array(20)),
    octetString(new Uint8Array(20)),
    integer(5),
  );
  const withExtensions = (...extensions: Uint8Array[]) =>
    sequence(sequence(sequence(sequence(certId)), tlv(context(2), sequence(...extensions))));
  const nonce = (length: number) => extension(oid.ocspNonce, octetString(new Uint8Array(length)));

  it.each([1, 32, 128])('may carry a nonce of %d octets (RFC 9654 §2.1)', (length) => {
    expect(parseOcspRequest(withExtensions(nonce(length))).nonce).toHaveLength(length);
  });

  it.each<[string, Uint8Array]>([
    ['an empty nonce (RFC 9654 §2.1)', withExtensions(nonce(0))],
    ['a nonce of 129 octets', withExtensions(nonce(129))],
    ['two nonces', withExtensions(nonce(8), nonce(8))],
    ['a nonce that is no OCTET STRING', withExtensions(extension(oid.ocspNonce, integer(5)))],
    ['no request', sequence(sequence(sequence()))],
    ['version 2', sequence(sequence(tlv(context(0), integer(1)), sequence(sequence(certId))))],
    [
      'preferred algorithms that are none (RFC 6960 §4.4.7.1)',
      withExtensions(extension(oid.ocspPreferredAlgorithms, integer(5))),
    ],
    ['octets behind it', Buffer.concat([sequence(sequence(sequence(sequence(certId)))), Buffer.from([0])])],
    ['nothing', new Uint8Array()],
    ['an indefinite length', Buffer.from('30800000', 'hex')],
  ])('is refused with %s', (_what, octets) => {
    expect(() => parseOcspRequest(octets)).toThrow(DerError);
  });

  it.each<[string, Uint8Array]>([
    [
      'a critical extension we do not know (§4.1.2)',
      withExtensions(extension('1.2.3.4', integer(5), 'critical')),
    ],
    [
      'seventeen requests',
      sequence(sequence(sequence(...Array.from({ length: 17 }, () => sequence(certId))))),
    ],
  ])('is well-formed, and not supported, with %s', (_what, octets) => {
    expect(parseOcspRequest(octets).unsupported).toMatch(/critical extension|more than 16/);
  });

  it('with a hash we do not compute is read, and matches no issuer', () => {
    const md5 = sequence(
      sequence(objectIdentifier('1.2.840.113549.2.5'), nullValue),
      octetString(new Uint8Array(16)),
      octetString(new Uint8Array(16)),
      integer(5),
    );
    expect(parseOcspRequest(sequence(sequence(sequence(sequence(md5))))).certIds[0]?.hash).toBeUndefined();
  });

  it('mutated, is read as OpenSSL reads it, but for what OpenSSL tolerates and we do not', async () => {
    const seeds = [
      opensslRequest('-issuer', caFile, '-cert', leafFile),
      opensslRequest('-sha256', '-issuer', caFile, '-cert', leafFile, '-serial', '5', '-no_nonce'),
    ];
    // Why we refuse what OpenSSL reads: each is a rule of RFC 6960, RFC 9654 or DER that it does not hold to.
    const stricter =
      /hash parameters|nonce|there twice|no request|version 1|preferred|not minimal|an indefinite length|not a DER boolean|a high tag number|not an object identifier|tag 0x|unexpected octets|a value is missing|truncated|a length too long/;
    const counted = { both: 0, oursOnly: 0, openssl: 0, neither: 0 };
    for (let i = 0; i < 150; i++) {
      const mutated = Uint8Array.from(seeds[i % 2] ?? []);
      for (let n = 0; n <= i % 3; n++) {
        const at = Math.floor(Math.random() * mutated.length);
        mutated[at] = i % 5 === 0 ? Math.floor(Math.random() * 256) : (mutated[at] ?? 0) ^ (1 << (i % 8));
      }
      const { status, stdout } = spawnSync('openssl', ['ocsp', '-reqin', fileOf(mutated), '-req_text'], {
        encoding: 'utf8',
      });
      const theirs = [...stdout.matchAll(/Serial Number: (-?)([0-9A-F]+)/g)].map((match) =>
        match[2]?.toLowerCase(),
      );
      let refused: unknown;
      let ours: string[] = [];
      try {
        ours = parseOcspRequest(mutated).certIds.map(({ serial }) => hex(serial));
      } catch (error) {
        refused = error;
      }
      const readByOpenssl = status === 0 && theirs.length > 0;
      if (!refused) {
        expect(readByOpenssl, `only we read ${hex(mutated)}`).toBe(true);
        expect(ours.length).toBe(theirs.length);
        // A negative number is shown by its magnitude: it is none of ours, and compared nowhere.
        const positive = ours.every((serial) => Number.parseInt(serial.slice(0, 2), 16) < 0x80);
        if (positive)
          expect(ours.map((serial) => serial.replace(/^0+(?=.)/, ''))).toEqual(
            theirs.map((serial) => serial?.replace(/^0+(?=.)/, '')),
          );
        counted.both += 1;
      } else if (readByOpenssl) {
        expect(String(refused)).toMatch(stricter);
        counted.openssl += 1;
      } else counted.neither += 1;
    }
    expect(counted.both).toBeGreaterThan(20);
  });

  it('mutated in any octet is read, or refused with DerError', async () => {
    const valid = await ocspRequest(der(leafFile), der(caFile), { nonce: new Uint8Array(16) });
    fc.assert(
      fc.property(
        fc.nat({ max: valid.length - 1 }),
        fc.nat({ max: 255 }),
        fc.nat({ max: valid.length }),
        (at, value, length) => {
          const mutated = Uint8Array.from(valid).slice(0, Math.max(length, at + 1));
          mutated[at] = value;
          try {
            expect(parseOcspRequest(mutated).certIds.length).toBeGreaterThan(0);
          } catch (error) {
            expect(error).toBeInstanceOf(DerError);
          }
        },
      ),
      { numRuns: 2000 },
    );
  });
});
