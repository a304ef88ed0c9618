// The whole service under mutated input through its sockets: a process of its own, whose threads must all be there after.
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { requestCorpus, requestOf } from '../../bench/load/ocsp-corpus.ts';
import { parseCertificate } from '../../core/asn1/certificate-reader.ts';
import { certIdIssuer } from '../../ocsp/protocol/request.ts';
import { fetchCrl } from '../support/actors.ts';
import { configure, startProcess } from '../support/service-process.ts';
import { fuzzSockets, type SocketFuzzReport } from './fuzz-sockets.ts';

/** What begins with the first requests has begun by then. */
const warmUpMs = 1000;

/** Attacks OCSP and CRL ports for so long. Throws where another client was hurt, or a thread has ended. */
export async function fuzzService(ms: number, seed: number): Promise<SocketFuzzReport> {
  const folder = mkdtempSync(join(tmpdir(), 'warifu-fuzz-'));
  try {
    const service = await startProcess(folder, await configure(folder));
    const threads = (): string[] => readdirSync(`/proc/${service.child.pid}/task`);
    const { ocsp, crl } = service.addresses;
    const ca = await fetchCrl(`${crl}/ca/signing-1.cer`);
    const { serial } = parseCertificate(ca);
    const target = {
      ocspPort: Number(new URL(ocsp).port),
      crlPort: Number(new URL(crl).port),
      requests: requestCorpus(ca, serial),
      paths: ['/', '/crl/authority/signing-1.crl', '/ca/signing-1.cer', '/index.json', '/%2e%2e/x'],
      valid: requestOf({ certIds: [{ issuer: certIdIssuer(ca, 'sha1'), serial }] }),
    };
    await fuzzSockets(target, warmUpMs, seed);
    const before = threads();
    const report = await fuzzSockets(target, ms, seed + 1);
    const ended = before.filter((id) => !threads().includes(id));
    if (ended.length > 0)
      throw new Error(`seed ${seed}: threads ${ended.join(', ')} ended: ${service.log()}`);
    await service.stop();
    return report;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
