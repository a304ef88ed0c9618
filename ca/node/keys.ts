import { resolve } from 'node:path';
import { durationMs } from '../../core/config/duration.ts';
import type { Gate, HealDepth } from '../../core/crypto/signer.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { ProcessBackend } from '../../hsm/backend/process-backend.ts';
import type { TokenPlace } from '../../hsm/backend/process-messages.ts';
import { SocketBackend } from '../../hsm/backend/socket-backend.ts';
import { ThreadBackend } from '../../hsm/backend/thread-backend.ts';
import { openTokenOf, portOf, type TokenPort } from '../../hsm/backend/token-port.ts';
import { findModule } from '../../hsm/pkcs11/find-module.ts';
import { guardLogins } from '../../hsm/pkcs11/login-guard.ts';
import { healTokens, initializeToken, loadModule } from '../../hsm/pkcs11/module.ts';
import { ModuleLock } from '../../hsm/pkcs11/module-lock.ts';
import { type PinConfig, pinSource, readPin } from '../../hsm/pkcs11/pin.ts';
import { useSoftHsmFolder } from '../../hsm/pkcs11/softhsm.ts';
import { Token } from '../../hsm/pkcs11/token.ts';
import { SigningPool } from '../../hsm/pool/signing-pool.ts';
import { type Config, readConfig } from '../config/config.ts';
import { checkPolicy } from '../policy/policy-check.ts';
import type { Layout } from './layout.ts';

/** The tokens of a data folder and what signs with them. */
export interface Keys {
  readonly config: Config;
  readonly caToken: TokenPort;
  readonly ocspToken: Token;
  readonly pool: SigningPool;
  /** Of the module as this process uses it. */
  readonly gate: Gate;
  /** How often signing processes were started again. */
  readonly restarts: () => number;
  close(): Promise<void>;
}

/** The same where an operator makes keys: everything in this process. */
export interface OperatorKeys extends Keys {
  readonly ownToken: Token;
}

/** A data folder's configuration, module and logged-in tokens. */
export interface Tokens {
  readonly config: Config;
  readonly modulePath: string;
  readonly caToken: Token;
  readonly ocspToken: Token;
  heal(depth: HealDepth): HealDepth;
  close(): void;
}

/** Logs in to the tokens of a data folder; with `create`, makes them first. */
export function openTokens(paths: Layout, mode: 'create' | 'open'): Tokens {
  const config = readConfigOf(paths);
  const modulePath = findModule(config.pkcs11.module);
  const module = loadModule(modulePath);
  const open = (token: Config['pkcs11']['caToken']): Token => {
    const pin = readPin(pinSource(token, paths.folder));
    if (mode === 'create') initializeToken(module, token.label, pin);
    return Token.open(module, token.label, pin);
  };
  const caToken = open(config.pkcs11.caToken);
  const ocspToken = open(config.pkcs11.ocspToken);
  const copies = copiesOf(config, paths).flatMap((copy) => openTokenOf(module, copy) ?? []);
  const close = (): void => {
    for (const token of [caToken, ocspToken, ...copies]) token.close();
  };
  const heal = (depth: HealDepth): HealDepth =>
    healTokens(module, [[caToken, ...copies], [ocspToken]], depth);
  return { config, modulePath, caToken, ocspToken, heal, close };
}

/** Keys as an operator's command uses them. */
export function openOperatorKeys(paths: Layout, clock: Clock, mode: 'create' | 'open'): OperatorKeys {
  // On this thread and before any worker: threads that race the first login break each other.
  const tokens = openTokens(paths, mode);
  const { config, modulePath: module, caToken, ocspToken } = tokens;
  const { signingThreads: threads, callTimeout } = config.pkcs11;
  const gate = new ModuleLock(tokens.heal, clock);
  const home = new ThreadBackend({ threads, gate, callTimeoutMs: durationMs(callTimeout) });
  const pool = new SigningPool({ home, clock, module, ...poolOptions(config, paths) });
  const close = async (): Promise<void> => {
    await pool.close();
    tokens.close();
  };
  const restarts = () => 0;
  return { config, caToken: portOf(caToken), ownToken: caToken, ocspToken, pool, gate, restarts, close };
}

/** Keys as the service uses them: where the configuration says so, in processes of their own. */
export function openServiceKeys(paths: Layout, clock: Clock, ended: (what: { why: string }) => void): Keys {
  const config = readConfigOf(paths);
  const { isolation, caToken, ocspToken: responders } = config.pkcs11;
  if (isolation === 'threads') return openOperatorKeys(paths, clock, 'open');
  const path = findModule(config.pkcs11.module);
  // Responders sign on their own threads, with keys of a token of their own.
  const module = loadModule(path);
  const ocspToken = Token.open(module, responders.label, readPin(pinSource(responders, paths.folder)));
  const gate = new ModuleLock((depth) => healTokens(module, [[ocspToken]], depth), clock);
  const home =
    isolation === 'signer'
      ? signerOf(config, paths, ended)
      : signingProcesses(config, paths, { path, clock, ended });
  const wholeCrls = isolation === 'signer';
  const pool = new SigningPool({ home, clock, module: path, wholeCrls, ...poolOptions(config, paths) });
  const close = async (): Promise<void> => {
    await pool.close();
    ocspToken.close();
  };
  const restarts = () => home.restarts;
  return { config, caToken: home.token(caToken.label), ocspToken, pool, gate, restarts, close };
}

function signingProcesses(
  config: Config,
  paths: Layout,
  of: { readonly path: string; readonly clock: Clock; readonly ended: (what: { why: string }) => void },
): ProcessBackend {
  const { caToken, callTimeout, signingThreads } = config.pkcs11;
  return new ProcessBackend({
    processes: signingThreads,
    start: {
      module: of.path,
      softhsmFolder: paths.softhsm,
      loginFolder: paths.logins,
      tokens: [placeOf(caToken, paths), ...copiesOf(config, paths)],
    },
    callTimeoutMs: durationMs(callTimeout),
    clock: of.clock,
    ended: of.ended,
  });
}

const signerOf = ({ pkcs11 }: Config, paths: Layout, lost: (what: { why: string }) => void): SocketBackend =>
  new SocketBackend({
    path: resolve(paths.folder, pkcs11.signerSocket),
    width: pkcs11.signingThreads,
    callTimeoutMs: durationMs(pkcs11.callTimeout),
    lost,
  });

function readConfigOf(paths: Layout): Config {
  const config = readConfig(paths.config);
  checkPolicy(config.policy);
  useSoftHsmFolder(paths.softhsm);
  guardLogins(paths.logins);
  return config;
}

const placeOf = (token: PinConfig & { readonly label: string }, paths: Layout): TokenPlace => ({
  label: token.label,
  pin: pinSource(token, paths.folder),
});

const copiesOf = ({ pkcs11 }: Config, paths: Layout): TokenPlace[] =>
  pkcs11.caToken.copies.map((copy) => placeOf(copy, paths));

const poolOptions = ({ pkcs11 }: Config, paths: Layout) => ({
  copyKeys: pkcs11.copyKeys ?? null,
  log: pkcs11.signedLog ? paths.signedLog : null,
});
