// What a machine can do at most, each in a process of its own: `bare-http LENGTH`, or `raw-sign SPEC SECONDS`.

import {
  createPublicKey,
  sign as createSignature,
  generateKeyPairSync,
  randomBytes,
  verify,
} from 'node:crypto';
import { createServer } from 'node:http';
import pkcs11 from 'pkcs11js';
import { type SuiteName, suites } from '../../core/asn1/algorithms.ts';
import { findModule } from '../../hsm/pkcs11/find-module.ts';
import { trimLabel } from '../../hsm/pkcs11/habits.ts';
import { loadModule } from '../../hsm/pkcs11/module.ts';
import { readPin } from '../../hsm/pkcs11/pin.ts';
import { useSoftHsmFolder } from '../../hsm/pkcs11/softhsm.ts';
import { Token } from '../../hsm/pkcs11/token.ts';

const [what, ...args] = process.argv.slice(2);
if (what === 'bare-http') bareHttp(Number(args[0]));
if (what === 'pair') pairs(JSON.parse(args[0] ?? '{}') as RawSign);
if (what === 'raw-sign') rawSign(JSON.parse(args[0] ?? '{}') as RawSign);

/** node:http that reads a body and answers constant octets. */
function bareHttp(length: number): void {
  const answer = randomBytes(length);
  const headers = { 'Content-Type': 'application/ocsp-response', 'Content-Length': length };
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => response.writeHead(200, headers).end(answer));
  });
  server.keepAliveTimeout = 60_000;
  server.listen(0, '127.0.0.1', () => {
    const address = server.address() as { port: number };
    process.stdout.write(`${JSON.stringify(`http://127.0.0.1:${address.port}`)}\n`);
  });
}

export interface RawSign {
  readonly softhsm: string;
  readonly tokenLabel: string;
  readonly pinFile: string;
  readonly keyLabel: string;
  readonly suite: SuiteName;
  readonly seconds: number;
}

/** Nothing but C_SignInit and C_Sign, over a digest that does not change, with the handle that signs fastest. */
function rawSign(order: RawSign): void {
  const { sign, close } = openKey(order);
  const perSecond = countPerSecond(order.seconds, sign);
  close();
  process.stdout.write(`${JSON.stringify(perSecond)}\n`);
}

/** The cryptography that a pair cannot do without: two signatures, two proofs of possession, two self-checks. */
function pairs(order: RawSign): void {
  const { sign, close, publicKey } = openKey(order);
  const { hash, holderKey } = suites[order.suite];
  const { privateKey } =
    holderKey === 'rsa2048'
      ? generateKeyPairSync('rsa', { modulusLength: 2048 })
      : generateKeyPairSync('ec', { namedCurve: 'P-384' });
  const info = randomBytes(400);
  const proof = createSignature(hash, info, privateKey);
  const holders = createPublicKey(privateKey).export({ format: 'der', type: 'spki' });
  const issuer = createPublicKey({ key: Buffer.from(publicKey), format: 'der', type: 'spki' });
  const perSecond = countPerSecond(order.seconds, () => {
    for (let i = 0; i < 2; i++) {
      sign();
      const key = createPublicKey({ key: holders, format: 'der', type: 'spki' });
      if (!verify(hash, info, key, proof)) throw new Error('the proof does not verify');
      // The same work as over the certificate, whatever it says of this signature.
      verify(hash, info, issuer, proof);
    }
  });
  close();
  process.stdout.write(`${JSON.stringify(perSecond)}\n`);
}

function countPerSecond(seconds: number, act: () => void): number {
  let done = 0;
  const startMs = performance.now();
  while (performance.now() - startMs < seconds * 1000) {
    act();
    done += 1;
  }
  return (done * 1000) / (performance.now() - startMs);
}

function openKey({ softhsm, tokenLabel, pinFile, keyLabel, suite }: RawSign) {
  useSoftHsmFolder(softhsm);
  const path = findModule();
  const token = Token.open(loadModule(path), tokenLabel, readPin({ from: 'file', file: pinFile }));
  const library = new pkcs11.PKCS11();
  library.load(path);
  const slot = library
    .C_GetSlotList(true)
    .find((candidate) => trimLabel(library.C_GetTokenInfo(candidate).label) === tokenLabel);
  if (!slot) throw new Error('no such token');
  const session = library.C_OpenSession(slot, pkcs11.CKF_SERIAL_SESSION);
  library.C_FindObjectsInit(session, [
    { type: pkcs11.CKA_CLASS, value: pkcs11.CKO_PRIVATE_KEY },
    { type: pkcs11.CKA_LABEL, value: keyLabel },
  ]);
  const [found] = library.C_FindObjects(session, 1);
  library.C_FindObjectsFinal(session);
  if (!found) throw new Error('no such key');
  // Before there is a copy, which has the label too.
  const { publicKey } = token.findKeyPair(keyLabel, suites[suite]);
  // As the service does: keys of a CA are not modifiable, and SoftHSM copies no such key.
  const [modifiable] = library.C_GetAttributeValue(session, found, [{ type: pkcs11.CKA_MODIFIABLE }]);
  const isCopied = Buffer.from(modifiable?.value as Buffer)[0] === 1;
  const key = isCopied
    ? library.C_CopyObject(session, found, [{ type: pkcs11.CKA_TOKEN, value: false }])
    : found;
  const { mechanism, signatureLengthMax } = suites[suite].pkcs11;
  const [digest, scratch, parameters] = [randomBytes(32), Buffer.alloc(signatureLengthMax), { mechanism }];
  const sign = (): void => {
    library.C_SignInit(session, parameters, key);
    library.C_Sign(session, digest, scratch);
  };
  return { sign, publicKey, close: () => token.close() };
}
