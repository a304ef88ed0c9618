// The entry of a listening thread: what a listener needs, put together from what can be sent to a thread.

import { parentPort, workerData } from 'node:worker_threads';
import { suites } from '../../core/asn1/algorithms.ts';
import { parseCertificate } from '../../core/asn1/certificate-reader.ts';
import { durationMs } from '../../core/config/duration.ts';
import type { Gate, ModuleUser } from '../../core/crypto/signer.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { shiftedClock, systemClock } from '../../core/runtime/clock.ts';
import { faultLog } from '../../core/runtime/fault-log.ts';
import { threadLog } from '../../core/runtime/thread-log.ts';
import { type Closing, giveWay, serveRequests } from '../../core/workers/worker.ts';
import { InlineSigner } from '../../hsm/backend/inline-signer.ts';
import { findModule } from '../../hsm/pkcs11/find-module.ts';
import type { ResponderKey } from '../sign/issuers.ts';
import { CheckedSigner } from '../sign/response-signer.ts';
import { countsOf } from './answer-counts.ts';
import { Listener } from './listener.ts';
import type { Answers, FromThread, ThreadKey, ThreadMessage, ThreadStart } from './thread-messages.ts';

// What is pooled here lives for one turn: with larger pools there is less for the garbage collector to count.
Buffer.poolSize = 262_144;

const start = workerData as ThreadStart;
giveWay(start.niceness);
const clock = start.shift ? shiftedClock(start.shift) : systemClock;
const say = (message: FromThread): void => parentPort?.postMessage(message);

/** Those in this thread who call into the module; the main thread has the module itself healed. */
const users = new Set<ModuleUser>();
let isPaused = false;
const healed: PromiseWithResolvers<void>[] = [];
const gate: Gate = {
  join: (user) => {
    users.add(user);
    // Who comes while the module is being healed waits like the others.
    if (isPaused) void user.pause();
    return () => users.delete(user);
  },
  heal: () => {
    const waiting = Promise.withResolvers<void>();
    healed.push(waiting);
    say({ type: 'heal' });
    return waiting.promise;
  },
};

/** Loaded where it is wanted: a thread that signs itself begins sooner without. */
async function openPool() {
  const { ThreadBackend } = await import('../../hsm/backend/thread-backend.ts');
  const { SigningPool } = await import('../../hsm/pool/signing-pool.ts');
  const { signingThreads: threads, callTimeout, module, copyKeys = null } = start.pkcs11;
  const home = new ThreadBackend({ threads, gate, callTimeoutMs: durationMs(callTimeout) });
  return new SigningPool({ home, clock, module: findModule(module), copyKeys });
}

const pool = start.config.signing === 'pool' ? await openPool() : null;
/** Signatures under way at once: two messages for each thread of a pool, so that none waits for the next. */
const concurrency = pool ? start.pkcs11.signingThreads * 32 : 1;

let inline: { signer: InlineSigner; leave: () => void }[] = [];

function openKeys(keys: readonly ThreadKey[]): ResponderKey[] {
  const before = inline;
  inline = [];
  const opened = keys.map(openKey);
  for (const { signer, leave } of before) {
    leave();
    signer.close();
  }
  return opened;
}

function openKey({ authority, certificate, key, publicKey }: ThreadKey): ResponderKey {
  const suite = suites[key.suite];
  const { notAfterMs } = parseCertificate(certificate);
  if (pool) {
    const { tokenLabel, keyLabel: label } = key;
    const signer = pool.signer({ purpose: 'ocsp', suite, tokenLabel, key: { label, publicKey } });
    const sign = (message: Bytes) => signer.sign(message);
    return { authority, certificate, notAfterMs, signer: new CheckedSigner({ suite, publicKey, sign }) };
  }
  const signer = new InlineSigner(key);
  const sign = (message: Bytes): Bytes | Promise<Bytes> => {
    try {
      return signer.sign(message);
    } catch {
      // What failed is said by the second attempt, if that fails too.
      return gate.heal().then(() => signer.sign(message));
    }
  };
  const checked = new CheckedSigner({ suite, publicKey, sign }, () => signer.renew());
  const leave = gate.join({
    pause: () => signer.pause(),
    resume: (depth) => {
      signer.resume(depth);
      checked.recheck();
    },
  });
  inline.push({ signer, leave });
  return { authority, certificate, notAfterMs, signer: checked };
}

const logger = threadLog();
const portRefused = (port: number, error: unknown): void =>
  logger.error(
    { port, reason: (error as Error).message, act: 'free the port on this machine, or end the credential' },
    'ALARM: a verifier’s own port cannot be listened at',
  );
const failed = faultLog(logger, clock, 'an OCSP request failed');
const counts = countsOf(start.counts, start.thread);
const listener = new Listener({
  ...{ ...start, clock, keys: openKeys(start.keys), concurrency },
  ...{ failed, portRefused, counts },
});

/** Does what the main thread says. Resolves with answers where some were wanted. */
async function obey(message: ThreadMessage | Closing): Promise<Answers> {
  switch (message.type) {
    case 'update':
      await listener.update(message.update);
      return [];
    case 'keys':
      listener.responder.setKeys(openKeys(message.keys));
      return [];
    case 'verifiers':
      listener.setVerifiers(message.verifiers, message.tls);
      return [];
    case 'pause':
      isPaused = true;
      await Promise.all([...users].map((user) => user.pause()));
      return [];
    case 'resume':
      isPaused = false;
      for (const user of users) user.resume(message.depth);
      return [];
    case 'healed':
      for (const waiting of healed.splice(0)) waiting.resolve();
      return [];
    case 'listen':
      await listener.listen();
      return [];
    case 'presign':
      return presign(message.requests);
    case 'close':
      await listener.close();
      await pool?.close();
      openKeys([]);
      return [];
  }
}

/** One at a time, so that those who ask do not wait behind those who have not asked yet. */
async function presign(requests: readonly Bytes[]): Promise<(Bytes | null)[]> {
  const answers: (Bytes | null)[] = [];
  for (const request of requests) {
    const { der, fresh } = await listener.responder.answer(Buffer.from(request));
    answers.push(fresh ? Uint8Array.from(der) : null);
  }
  return answers;
}

serveRequests(parentPort, obey);
