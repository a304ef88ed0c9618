import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { suites } from '../../core/asn1/algorithms.ts';
import { certificationRequest } from '../../core/asn1/signed-data.ts';

/** A key that its owner made, and the PKCS#10 request for it, base64. */
export interface OwnKey {
  readonly key: string;
  readonly request: string;
}

export async function ownKey(): Promise<OwnKey> {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const spki = publicKey.export({ format: 'der', type: 'spki' });
  const request = await requestFor(privateKey, spki);
  const key = String(privateKey.export({ format: 'pem', type: 'pkcs8' }));
  return { key, request: Buffer.from(request).toString('base64') };
}

const requestFor = (privateKey: KeyObject, publicKey: Uint8Array): Promise<Uint8Array> =>
  certificationRequest({ publicKey, suite: suites['p256-sha256'] }, (info) =>
    sign('sha256', info, privateKey),
  );
