import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Pkcs10CertificateRequestGenerator } from '@peculiar/x509';
import * as pkijs from 'pkijs';
import type { CardRequest } from '../issue/card.ts';

/** Files for the command lines that `npm start` prints. Made once: the key they ask for is certified once. */
export async function writeExample(options: {
  readonly folder: string;
  readonly municipalityCode: string;
  readonly nowMs: number;
  /** The certificate that the OCSP example asks about, and its issuer: DER. */
  readonly certificate: Uint8Array;
}): Promise<{ cardRequest: string; ocspRequest: string }> {
  const cardRequest = join(options.folder, 'card-request.json');
  const ocspRequest = join(options.folder, 'request.ocsp');
  if (!existsSync(cardRequest)) {
    mkdirSync(options.folder, { recursive: true, mode: 0o700 });
    const year = new Date(options.nowMs).getUTCFullYear();
    const request: CardRequest = {
      holderId: 'example-holder',
      cardId: 'example-card',
      cardExpiresOn: `${year + 9}-04-01`,
      municipalityCode: options.municipalityCode,
      deskCode: 'DESK00001',
      basicFour: {
        name: '番号　花子',
        address: '東京都渋谷区例町一丁目１番地',
        birthDate: '1990-04-01',
        sex: 'female',
      },
      requests: { signing: await certificationRequest(), authentication: await certificationRequest() },
    };
    writeFileSync(cardRequest, `${JSON.stringify(request, null, 2)}\n`, { mode: 0o600 });
  }
  writeFileSync(ocspRequest, await ocspRequestFor(options.certificate));
  return { cardRequest, ocspRequest };
}

/** A PKCS#10 request for a fresh key that is then forgotten, base64 of DER. */
async function certificationRequest(): Promise<string> {
  const algorithm = {
    name: 'RSASSA-PKCS1-v1_5',
    hash: 'SHA-256',
    modulusLength: 2048,
    publicExponent: Uint8Array.of(1, 0, 1),
  };
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const request = await Pkcs10CertificateRequestGenerator.create(
    { name: 'CN=example', keys, signingAlgorithm: algorithm },
    webcrypto,
  );
  return Buffer.from(request.rawData).toString('base64');
}

async function ocspRequestFor(selfSigned: Uint8Array): Promise<Uint8Array> {
  const certificate = pkijs.Certificate.fromBER(Uint8Array.from(selfSigned).buffer);
  const request = new pkijs.OCSPRequest();
  await request.createForCertificate(certificate, {
    hashAlgorithm: 'SHA-256',
    issuerCertificate: certificate,
  });
  return new Uint8Array(request.toSchema(true).toBER());
}
