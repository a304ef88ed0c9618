import { X509Certificate } from 'node:crypto';
import { chmodSync, lstatSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { dirname, join, resolve } from 'node:path';
import type { Logger } from 'pino';
import { Value } from 'typebox/value';
import { type SuiteName, suites } from '../../core/asn1/algorithms.ts';
import { durationMs } from '../../core/config/duration.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { FileLock } from '../../core/runtime/file-lock.ts';
import { repeat } from '../../core/runtime/process.ts';
import { pack, unpack } from '../../core/workers/pack.ts';
import { encodeFrame, type Frame, FrameReader, frameMax } from '../../hsm/backend/frames.ts';
import { Asked, type AskedToSign } from '../../hsm/backend/signer-messages.ts';
import { ThreadBackend } from '../../hsm/backend/thread-backend.ts';
import { openTokenOf } from '../../hsm/backend/token-port.ts';
import { findModule } from '../../hsm/pkcs11/find-module.ts';
import { guardLogins } from '../../hsm/pkcs11/login-guard.ts';
import { healTokens, loadModule } from '../../hsm/pkcs11/module.ts';
import { ModuleLock } from '../../hsm/pkcs11/module-lock.ts';
import { pinSource, readPin } from '../../hsm/pkcs11/pin.ts';
import { useSoftHsmFolder } from '../../hsm/pkcs11/softhsm.ts';
import { Token } from '../../hsm/pkcs11/token.ts';
import { type Config, readConfig } from '../config/config.ts';
import { keyLabel, type Layout, layout } from '../node/layout.ts';
import { recordPlace } from '../node/record-place.ts';
import { CrlNumbers } from './crl-numbers.ts';
import { Judge } from './judge.ts';
import { LogWatch } from './log-watch.ts';
import { RecordLookup } from './record-lookup.ts';
import { loggedDigest, SigningLog } from './signing-log.ts';
import { refuseWritable } from './trusted-files.ts';

/** How often log and record are compared. */
const lookMs = 2000;
/** How often the token remembers how long the log is. */
const rememberMs = 5000;
/** What the token remembers for the signer itself; services have no part in it. */
const ownMemory = 'signer:';
const signedMemory = `${ownMemory}signed`;
/** Requests of one connection under way at once: what follows waits in the socket. */
const underWayMax = 256;
/** Octets of the requests of one connection that are under way at once. */
const octetsMax = frameMax;
/** One service has one connection, and another when it starts again. */
const connectionsMax = 4;
/** The signer’s group may ask it. */
const socketMode = 0o660;

export interface Signer {
  /** The socket at which it listens. */
  readonly address: string;
  close(): Promise<void>;
}

/**
 * Runs the signer of a data folder: the process that alone has the PIN of the CA’s token, and signs for the service what `Judge` lets pass.
 * It needs to read the folder’s configuration, certificate of the operations CA and record, and writes to its own folder. Rejects where
 * another runs, or the token cannot be had.
 */
export async function startSigner(options: {
  readonly folder: string;
  readonly clock: Clock;
  readonly logger: Logger;
}): Promise<Signer> {
  const { clock, logger } = options;
  const paths = layout(options.folder);
  const config = readConfig(paths.config);
  if (config.pkcs11.isolation !== 'signer')
    throw new PkiError(
      'bad-request',
      `pkcs11.isolation is ${config.pkcs11.isolation} in ${paths.config}: the service uses the token itself, and asks no signer`,
    );
  refuseWritable(trustedFiles(config, paths));
  await using opened = new AsyncDisposableStack();
  mkdirSync(paths.signer, { recursive: true, mode: 0o750 });
  const lock = FileLock.acquire(join(paths.signer, 'signer.lock'), { what: 'the signer' });
  opened.defer(() => lock.release());
  const tokens = openTokens(config, paths, clock);
  opened.defer(() => tokens.close());
  const record = new RecordLookup(
    () => recordPlace(config, paths),
    tokens.first.keyWrapper(keyLabel.wrapping),
  );
  opened.defer(() => record.close());
  const numbers = new CrlNumbers(join(paths.signer, 'crl-numbers.db'));
  opened.defer(() => numbers.close());
  const log = new SigningLog(join(paths.signer, 'log'));
  opened.defer(() => log.close());
  const memory = tokens.first.memory();
  await alarmOfLostLines(log, memory, logger);
  const watch = new LogWatch(record, log.found, logger);
  const { publicKeyOf } = tokens;
  const judge = new Judge({
    config,
    record,
    numbers,
    clock,
    operationsCa: operationsCaOf(paths),
    publicKeyOf,
  });
  const remember = async (): Promise<void> => {
    // The token is not to know of lines that a loss of power takes.
    const { sequence } = log;
    await log.sync();
    await memory.remember(signedMemory, sequence);
  };
  opened.defer(remember);
  opened.defer(
    repeat(rememberMs, remember, logger, 'the token cannot remember how long the signer’s log is'),
  );
  opened.defer(repeat(lookMs, comparing(watch, clock, logger), logger, cannotCompare));
  const answer = answerer({ config, tokens, judge, log, watch, clock });
  const address = resolve(paths.folder, config.pkcs11.signerSocket);
  const withinMs = durationMs(config.pkcs11.callTimeout);
  opened.defer(await listen(address, (socket) => serve(socket, answer, { logger, withinMs })));
  logger.info({ address, signatures: log.sequence }, 'the signer is ready');
  const all = opened.move();
  return { address, close: () => all.disposeAsync() };
}

/** The token and its copies, with threads that sign. */
interface SignerTokens {
  readonly first: Token;
  readonly home: ThreadBackend;
  readonly module: string;
  /** SubjectPublicKeyInfo of a key, looked up once. */
  publicKeyOf(label: string, suite: SuiteName): Bytes;
  heal(): Promise<void>;
  close(): Promise<void>;
}

function openTokens(config: Config, paths: Layout, clock: Clock): SignerTokens {
  const { caToken, callTimeout, signingThreads } = config.pkcs11;
  useSoftHsmFolder(paths.softhsm);
  guardLogins(join(paths.signer, 'logins'));
  const path = findModule(config.pkcs11.module);
  const module = loadModule(path);
  const first = Token.open(module, caToken.label, readPin(pinSource(caToken, paths.folder)));
  const copies = caToken.copies.flatMap(
    (copy) => openTokenOf(module, { label: copy.label, pin: pinSource(copy, paths.folder) }) ?? [],
  );
  const gate = new ModuleLock((depth) => healTokens(module, [[first, ...copies]], depth), clock);
  const home = new ThreadBackend({ threads: signingThreads, gate, callTimeoutMs: durationMs(callTimeout) });
  const keys = new Map<string, Bytes>();
  return {
    ...{ first, home, module: path },
    publicKeyOf: (label, suite) => {
      const key = keys.get(label) ?? first.findKeyPair(label, suites[suite]).publicKey;
      keys.set(label, key);
      return key;
    },
    heal: () => gate.heal(),
    close: async () => {
      await home.close();
      for (const token of [first, ...copies]) token.close();
    },
  };
}

const cannotCompare = 'the signer’s log cannot be compared with the record';
/** For how long that may be before it is an alarm. */
const comparedWithinMs = 8000;

/** Compares once more; where that has not been possible for a while, it is an alarm: the record may be another, or gone. */
function comparing(watch: LogWatch, clock: Clock, logger: Logger): () => Promise<void> {
  let sinceMs: number | undefined;
  let isSaid = false;
  return async () => {
    try {
      await watch.look();
      sinceMs = undefined;
      isSaid = false;
    } catch (error) {
      sinceMs ??= clock.monotonicMs();
      if (watch.isWanted && !isSaid && clock.monotonicMs() - sinceMs >= comparedWithinMs - lookMs) {
        isSaid = true;
        const act = 'see in reason why the record cannot be read; start the service, or put the record back';
        logger.error(
          { reason: (error as Error).message, act },
          'ALARM: the signer’s log cannot be compared with the record',
        );
      }
      throw error;
    }
  };
}

/** Files by which it is decided what the signer does. */
const trustedFiles = ({ pkcs11 }: Config, paths: Layout): string[] => [
  paths.config,
  paths.signer,
  findModule(pkcs11.module),
  join(paths.softhsm, 'softhsm2.conf'),
  ...[pkcs11.caToken, ...pkcs11.caToken.copies].flatMap(({ pinEnvironment, pinCredential, pinFile }) =>
    pinEnvironment === undefined && pinCredential === undefined ? [resolve(paths.folder, pinFile)] : [],
  ),
];

/** Read once: a file of another user may be another later. */
const operationsCaOf = (paths: Layout): Bytes => new X509Certificate(readFileSync(paths.operationsCa)).raw;

async function alarmOfLostLines(
  log: SigningLog,
  memory: ReturnType<Token['memory']>,
  logger: Logger,
): Promise<void> {
  const remembered = await memory.recall(signedMemory);
  if (remembered > log.sequence)
    logger.error(
      {
        lines: log.sequence,
        remembered,
        act: 'find out who could write to the signer’s folder; keep what is there',
      },
      'ALARM: lines of the signer’s log are gone',
    );
}

type Answer = (
  asked: Asked,
  parts: readonly Bytes[],
) => Promise<{ value?: number; parts?: readonly Bytes[] }>;

function answerer(of: {
  readonly config: Config;
  readonly tokens: SignerTokens;
  readonly judge: Judge;
  readonly log: SigningLog;
  readonly watch: LogWatch;
  readonly clock: Clock;
}): Answer {
  const { config, tokens, judge, log, watch, clock } = of;
  const labels = [config.pkcs11.caToken.label, ...config.pkcs11.caToken.copies.map(({ label }) => label)];
  const { first, home, module } = tokens;
  const sign = async (asked: AskedToSign, octets: readonly Bytes[]): Promise<readonly Bytes[]> => {
    const { purpose, form, key, suite } = asked;
    const judged = await judge.judge(asked, octets);
    const entries = judged.map(({ subject }, i) => ({
      ...{ purpose, key, subject },
      digest: loggedDigest(form, octets[i] ?? Buffer.alloc(0)),
    }));
    watch.signed(log.append(entries, clock.wallMs()));
    const publicKey = tokens.publicKeyOf(key, suite);
    const copyKey = config.pkcs11.copyKeys ?? null;
    const spec = { module, tokenLabel: asked.token, keyLabel: key, suite, copyKey };
    const result = await home.run({ key: spec, purpose, form, publicKey, inputs: pack(octets), log: null });
    if (!result.ok) throw new PkiError('token-unavailable', result.error);
    return unpack(result.signatures);
  };
  return async (asked, parts) => {
    if (asked.type === 'heal') {
      await tokens.heal();
      return {};
    }
    if (!labels.includes(asked.token))
      throw new PkiError('forbidden', `the signer has no token ${asked.token}`);
    const [octets = Buffer.alloc(0)] = parts;
    switch (asked.type) {
      case 'sign':
        return { parts: await sign(asked, parts) };
      case 'find-key':
        return { parts: [tokens.publicKeyOf(asked.key, asked.suite)] };
      case 'wrap':
        refuseOctets(parts, wrapped.least, wrapped.most);
        return { parts: [await first.keyWrapper(wrappingKey(asked.key)).wrap(asked.context, octets)] };
      case 'unwrap':
        refuseOctets(parts, wrapped.least + wrapped.more, wrapped.most + wrapped.more);
        return { parts: [await first.keyWrapper(wrappingKey(asked.key)).unwrap(asked.context, octets)] };
      case 'recall':
        return { value: await first.memory().recall(asked.name) };
      case 'remember':
        if (asked.name.startsWith(ownMemory))
          throw new PkiError('forbidden', `${asked.name} is the signer’s own`);
        await first.memory().remember(asked.name, asked.value);
        return {};
    }
  };
}

/** Octets of a secret, and how many more it has where it is wrapped: an IV and a tag. */
const wrapped = { least: 1, most: 4096, more: 28 } as const;

function refuseOctets(parts: readonly Bytes[], least: number, most: number): void {
  const [octets, ...others] = parts;
  if (!octets || others.length > 0 || octets.length < least || octets.length > most)
    throw new PkiError('forbidden', `one secret of ${least} to ${most} octets is wrapped at a time`);
}

function wrappingKey(label: string): string {
  if (label !== keyLabel.wrapping) throw new PkiError('forbidden', `key ${label} wraps nothing`);
  return label;
}

/** Answers one connection; one that sends what is no request, half of one, or takes no answers, is ended. */
function serve(
  socket: Socket,
  answer: Answer,
  { logger, withinMs }: { logger: Logger; withinMs: number },
): void {
  const reader = new FrameReader();
  let [underWay, octetsUnderWay] = [0, 0];
  const settled = (octets: number): void => {
    underWay -= 1;
    octetsUnderWay -= octets;
    if (underWay < underWayMax && octetsUnderWay < octetsMax) socket.resume();
  };
  const respond = async (frame: Frame): Promise<void> => {
    if (!Value.Check(Asked, frame.head)) throw new PkiError('bad-request', 'that is no request');
    const octets = await answered(frame, frame.head, answer, logger);
    // A request counts until its answer is sent, so that a client that reads no answers cannot queue more of them.
    await new Promise((sent) => socket.write(octets, sent));
  };
  const failed = (error: unknown): void => {
    logger.error({ reason: errorOf(error).message }, 'a connection to the signer was ended');
    socket.destroy();
  };
  socket.setTimeout(withinMs, () => {
    if (reader.isPartial || socket.writableLength > 0)
      failed(new Error('half a request, or an answer that is not taken'));
  });
  socket.on('error', () => socket.destroy());
  socket.on('data', (chunk) => {
    try {
      for (const frame of reader.push(chunk)) {
        const octets = frame.parts.reduce((sum, { length }) => sum + length, 0);
        underWay += 1;
        octetsUnderWay += octets;
        respond(frame).then(() => settled(octets), failed);
      }
    } catch (error) {
      failed(error);
    }
    if (underWay >= underWayMax || octetsUnderWay >= octetsMax) socket.pause();
  });
}

/** The answer to a request, as it is sent. */
async function answered({ parts }: Frame, asked: Asked, answer: Answer, logger: Logger): Promise<Buffer> {
  const { id } = asked;
  try {
    const { value, parts: octets } = await answer(asked, parts);
    return encodeFrame({ id, ok: true, ...(value === undefined ? {} : { value }) }, octets);
  } catch (error) {
    const { code, message } = errorOf(error);
    if (code === 'forbidden') logger.error({ reason: message }, 'the signer refuses to sign');
    else if (code === 'internal' || code === 'record-unavailable')
      logger.error({ reason: message }, 'the signer failed');
    return encodeFrame({ id, ok: false, code, detail: message });
  }
}

/** What a refusal says at most: it may name what was sent. */
const saidMax = 500;

function errorOf(error: unknown): { readonly code: string; readonly message: string } {
  const { message } = error instanceof Error ? error : { message: 'the signer failed' };
  return { code: error instanceof PkiError ? error.code : 'internal', message: message.slice(0, saidMax) };
}

/** Unix sockets have short names (unix(7)). */
const addressMax = 107;

/** Listens, and gives how to stop. The lock says that no other signer does: a socket of that name is what one left behind that died. */
async function listen(address: string, connected: (socket: Socket) => void): Promise<() => Promise<void>> {
  if (Buffer.byteLength(address) > addressMax)
    throw new PkiError('bad-request', `pkcs11.signerSocket: ${address} is longer than ${addressMax} octets`);
  mkdirSync(dirname(address), { recursive: true, mode: 0o750 });
  const before = lstatSync(address, { throwIfNoEntry: false });
  if (before && !before.isSocket())
    throw new PkiError('bad-request', `pkcs11.signerSocket: ${address} exists, and is no socket`);
  rmSync(address, { force: true });
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    connected(socket);
  });
  server.maxConnections = connectionsMax;
  await new Promise<void>((resolved, rejected) => {
    server.once('error', rejected);
    server.listen(address, resolved);
  });
  chmodSync(address, socketMode);
  return async () => {
    const closed = new Promise((resolved) => server.close(resolved));
    for (const socket of sockets) socket.destroy();
    await closed;
  };
}
