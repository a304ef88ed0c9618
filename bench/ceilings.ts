// What a machine can do at most, each in a process of its own: `bare-http LENGTH`, or `raw-sign SPEC SECONDS`.
import { randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import pkcs11 from 'pkcs11js';
import { type SuiteName, suites } from '../core/algorithms.ts';
import { useSoftHsmFolder } from '../hsm/softhsm.ts';
import { findModule, loadModule, readPin, Token, trimLabel } from '../hsm/token.ts';

const [what, ...args] = process.argv.slice(2);
if (what === 'bare-http') bareHttp(Number(args[0]));
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
function rawSign({ softhsm, tokenLabel, pinFile, keyLabel, suite, seconds }: RawSign): void {
  useSoftHsmFolder(softhsm);
  const path = findModule();
  const token = Token.open(loadModule(path), tokenLabel, readPin(pinFile));
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
  const key = library.C_CopyObject(session, found, [{ type: pkcs11.CKA_TOKEN, value: false }]);
  const { mechanism, signatureLengthMax } = suites[suite].pkcs11;
  const [digest, scratch, parameters] = [randomBytes(32), Buffer.alloc(signatureLengthMax), { mechanism }];
  let signed = 0;
  const startMs = performance.now();
  while (performance.now() - startMs < seconds * 1000) {
    for (let i = 0; i < 16; i++) {
      library.C_SignInit(session, parameters, key);
      library.C_Sign(session, digest, scratch);
    }
    signed += 16;
  }
  process.stdout.write(`${JSON.stringify((signed * 1000) / (performance.now() - startMs))}\n`);
  token.close();
}
