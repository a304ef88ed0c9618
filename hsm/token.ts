import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import graphene from 'graphene-pk11';
import pkcs11 from 'pkcs11js';
import { ecPublicKeyInfo, rsaPublicKeyInfo, type Suite } from '../core/algorithms.ts';
import { type Bytes, view } from '../core/bytes.ts';
import { DerReader } from '../core/der-reader.ts';
import { objectIdentifier, tag } from '../core/der-writer.ts';
import { invariant, PkiError } from '../core/errors.ts';
import type { KeyWrapper, TokenMemory } from '../core/signer.ts';
import softhsmPaths from './softhsm-paths.json' with { type: 'json' };

const { KeyGenMechanism, Module, ObjectClass, SessionFlag, UserType } = graphene;

/** The PKCS#11 module to use: the configured one, the environment's, or SoftHSM where distributions put it. */
export function findModule(configured?: string): string {
  const named = configured ?? process.env.WARIFU_PKCS11_MODULE;
  const path = named ?? softhsmPaths.find((candidate) => existsSync(candidate));
  if (path === undefined || !existsSync(path)) {
    throw new PkiError('token-unavailable', `no PKCS#11 module at ${named ?? softhsmPaths.join(', ')}`);
  }
  return path;
}

/** Labels are padded with blanks (PKCS#11 v2.40 CK_TOKEN_INFO); some modules leave zeros behind them. */
export const trimLabel = (label: string): string => label.replace(/[\s\0]+$/, '');

/** Turns what a module throws into `token-unavailable`, naming the CKR_ code and never a PIN. */
export function tokenError(error: unknown, doing: string): PkiError {
  if (error instanceof PkiError) return error;
  const code = /CKR_[A-Z_]+/.exec(String((error as Error | null)?.message))?.[0] ?? 'an unknown error';
  return new PkiError('token-unavailable', `${doing}: ${code}`, { cause: error });
}

const loaded = new Map<string, graphene.Module>();

/**
 * Loads and initializes a module, once a process: PKCS#11 state belongs to the process, so that a second
 * initialization by another thread is normal and finalizing would pull it from under everyone.
 */
export function loadModule(path: string): graphene.Module {
  const known = loaded.get(path);
  if (known) return known;
  try {
    const module = Module.load(path);
    // Without this flag a module may assume one thread and lock nothing: SoftHSM then corrupts its heap.
    module.initialize({ flags: pkcs11.CKF_OS_LOCKING_OK });
    loaded.set(path, module);
    return module;
  } catch (error) {
    throw tokenError(error, `loading ${path}`);
  }
}

/**
 * Opens the sessions of a module's tokens anew; where that fails, after initializing the module again: some modules
 * (SoftHSM) never look at a token again that was away. No other thread may be within the module. Throws
 * `token-unavailable` where a token stays away that no copy stands in for.
 */
export function healTokens(
  module: graphene.Module,
  tokens: readonly Token[],
  copies: readonly Token[] = [],
): void {
  try {
    for (const token of [...tokens, ...copies]) token.heal();
    return;
  } catch {
    // Whatever it was: the only cure left is to begin again, and that says what is wrong if it does not help.
    initializeAgain(module);
  }
  const failures = [...tokens, ...copies].flatMap((token) => failureOf(() => token.heal()) ?? []);
  if (failures.length > copies.length) throw failures[0];
}

function failureOf(act: () => void): unknown {
  try {
    act();
    return undefined;
  } catch (error) {
    return error;
  }
}

function initializeAgain(module: graphene.Module): void {
  try {
    module.finalize();
  } catch (error) {
    // An attempt before this one may have got no further.
    if (!String((error as Error).message).includes('CKR_CRYPTOKI_NOT_INITIALIZED')) {
      throw tokenError(error, 'initializing the module again');
    }
  }
  try {
    module.initialize({ flags: pkcs11.CKF_OS_LOCKING_OK });
  } catch (error) {
    throw tokenError(error, 'initializing the module again');
  }
}

/** Creates a token where there is none of that label: its SO PIN is drawn and forgotten, its user PIN set. */
export function initializeToken(module: graphene.Module, label: string, pin: string): void {
  if (findSlot(module, label)) throw new PkiError('bad-request', `a token labelled ${label} exists already`);
  try {
    const free = slotsOf(module).find(
      (slot) => (slot.getToken().flags & graphene.TokenFlag.TOKEN_INITIALIZED) === 0,
    );
    if (!free) throw new PkiError('token-unavailable', 'no slot with an uninitialized token');
    const soPin = randomBytes(16).toString('hex');
    // graphene's Slot.initToken fails on what pkcs11js 2 returns.
    module.lib.C_InitToken(free.handle, soPin, label.padEnd(32));
    const slot = findSlot(module, label);
    if (!slot) throw new PkiError('token-unavailable', `the token ${label} did not appear`);
    const session = slot.open(SessionFlag.SERIAL_SESSION | SessionFlag.RW_SESSION);
    session.login(soPin, UserType.SO);
    session.initPin(pin);
    session.logout();
    session.close();
  } catch (error) {
    throw tokenError(error, `initializing token ${label}`);
  }
}

function slotsOf(module: graphene.Module): graphene.Slot[] {
  const list = module.getSlots(true);
  return Array.from({ length: list.length }, (_, i) => list.items(i));
}

function findSlot(module: graphene.Module, label: string): graphene.Slot | undefined {
  return slotsOf(module).find((slot) => {
    const token = slot.getToken();
    return (token.flags & graphene.TokenFlag.TOKEN_INITIALIZED) !== 0 && trimLabel(token.label) === label;
  });
}

/** A key pair's public half, as certificates carry it. */
export interface TokenKey {
  readonly label: string;
  /** SubjectPublicKeyInfo DER. */
  readonly publicKey: Bytes;
}

/**
 * A token this process is logged in to. Login belongs to the process and lasts while a session is open: this
 * object holds one, so that signing workers, which open their own sessions, find themselves logged in.
 */
export class Token {
  readonly label: string;
  readonly #module: graphene.Module;
  readonly #open: () => graphene.Session;
  #session: graphene.Session;

  private constructor(label: string, module: graphene.Module, open: () => graphene.Session) {
    this.label = label;
    this.#module = module;
    this.#open = open;
    this.#session = open();
  }

  /** Rejects with `token-unavailable` for a missing token, a wrong PIN, a module that fails. */
  static open(module: graphene.Module, label: string, pin: string): Token {
    return new Token(label, module, () => openSession(module, label, pin));
  }

  /** Opens a new session and logs in again: after the token was gone, or its sessions were closed under us. */
  heal(): void {
    // The old session is not closed: after the module was initialized again its number may be another's.
    this.#session = this.#open();
  }

  /** Ends this object's session, and with the last session of the process its login. */
  close(): void {
    closeQuietly(this.#session);
  }

  /** Generates a signing key pair in the token: sensitive, not extractable, for signing alone. */
  generateKeyPair(label: string, suite: Suite): TokenKey {
    return this.#guard(`generating key ${label}`, () => {
      if (this.#find(ObjectClass.PRIVATE_KEY, label))
        throw new PkiError('bad-request', `key ${label} exists already`);
      const id = randomBytes(16);
      const common = { token: true, label, id };
      const publicTemplate = { ...common, verify: true, encrypt: false, wrap: false };
      const privateTemplate = {
        ...common,
        private: true,
        sensitive: true,
        extractable: false,
        sign: true,
        decrypt: false,
        unwrap: false,
      };
      if (suite.key.type === 'rsa') {
        this.#session.generateKeyPair(
          KeyGenMechanism.RSA,
          { ...publicTemplate, modulusBits: suite.key.modulusBits, publicExponent: Buffer.from([1, 0, 1]) },
          privateTemplate,
        );
      } else {
        const paramsECDSA = view(objectIdentifier(suite.key.curve));
        this.#session.generateKeyPair(
          KeyGenMechanism.ECDSA,
          { ...publicTemplate, paramsECDSA },
          privateTemplate,
        );
      }
      return this.findKeyPair(label, suite);
    });
  }

  hasKeyPair(label: string): boolean {
    return this.#guard(
      `looking for key ${label}`,
      () => this.#find(ObjectClass.PRIVATE_KEY, label) !== undefined,
    );
  }

  /** The public half of a key pair in the token; `token-unavailable` where there is none. */
  findKeyPair(label: string, suite: Suite): TokenKey {
    return this.#guard(`reading key ${label}`, () => {
      const key = this.#find(ObjectClass.PUBLIC_KEY, label);
      if (!key) throw new PkiError('token-unavailable', `token ${this.label} has no key ${label}`);
      if (suite.key.type === 'rsa') {
        return { label, publicKey: rsaPublicKeyInfo(key.getAttribute({ modulus: null }).modulus as Buffer) };
      }
      const point = key.getAttribute({ pointEC: null }).pointEC as Buffer;
      // CKA_EC_POINT is an OCTET STRING around the point; some modules give the bare point.
      const bare = point[0] === tag.octetString ? new DerReader(point).content(tag.octetString) : point;
      return { label, publicKey: ecPublicKeyInfo(suite.key.curve, bare) };
    });
  }

  /** Whether the private key can leave the token: what a ceremony records. */
  isExtractable(label: string): boolean {
    return this.#guard(`reading key ${label}`, () => {
      const key = this.#find(ObjectClass.PRIVATE_KEY, label);
      if (!key) throw new PkiError('token-unavailable', `token ${this.label} has no key ${label}`);
      return key.getAttribute({ extractable: null }).extractable === true;
    });
  }

  /** Generates an AES-256 key for wrapping in the token. */
  generateWrappingKey(label: string): void {
    this.#guard(`generating key ${label}`, () => {
      if (this.#find(ObjectClass.SECRET_KEY, label))
        throw new PkiError('bad-request', `key ${label} exists already`);
      this.#session.generateKey(KeyGenMechanism.AES, {
        token: true,
        label,
        private: true,
        sensitive: true,
        extractable: false,
        encrypt: true,
        decrypt: true,
        valueLen: 32,
      });
    });
  }

  /** Wraps secrets with AES-256-GCM in the token: `iv (12) ‖ ciphertext ‖ tag (16)`. */
  keyWrapper(label: string): KeyWrapper {
    const transform = (
      direction: 'Encrypt' | 'Decrypt',
      context: string,
      iv: Buffer,
      input: Buffer,
    ): Buffer =>
      this.#guard(`${direction.toLowerCase()}ing with key ${label}`, () => {
        const key = this.#find(ObjectClass.SECRET_KEY, label);
        if (!key) throw new PkiError('token-unavailable', `token ${this.label} has no key ${label}`);
        const parameter = {
          type: pkcs11.CK_PARAMS_AES_GCM,
          iv,
          ivBits: iv.length * 8,
          aad: Buffer.from(context),
          tagBits: 128,
        };
        const { lib } = this.#module;
        const mechanism = { mechanism: pkcs11.CKM_AES_GCM, parameter };
        lib[`C_${direction}Init`](this.#session.handle, mechanism, key.handle);
        return lib[`C_${direction}`](this.#session.handle, input, Buffer.alloc(input.length + 16));
      });
    return {
      wrap: async (context, secret) => {
        const iv = randomBytes(12);
        return Buffer.concat([iv, transform('Encrypt', context, iv, Buffer.from(secret))]);
      },
      unwrap: async (context, wrapped) =>
        transform(
          'Decrypt',
          context,
          Buffer.from(wrapped.subarray(0, 12)),
          Buffer.from(wrapped.subarray(12)),
        ),
    };
  }

  /** Numbers kept in data objects of the token. Several may exist for a name; the highest is what it remembers. */
  memory(): TokenMemory {
    const read = (name: string): { object: graphene.SessionObject; value: number }[] => {
      const found = this.#session.find({ class: ObjectClass.DATA, label: `warifu:${name}` });
      return Array.from({ length: found.length }, (_, i) => {
        const object = found.items(i);
        return {
          object,
          value: Number((object.getAttribute({ value: null }).value as Buffer).toString('latin1')),
        };
      });
    };
    const highest = (values: readonly { value: number }[]): number =>
      Math.max(0, ...values.map(({ value }) => value));
    return {
      recall: async (name) => this.#guard('recalling', () => highest(read(name))),
      remember: async (name, value) =>
        this.#guard('remembering', () => {
          const before = read(name);
          if (value <= highest(before)) return;
          // Data objects are read-only in some tokens: write the new one, then remove the old.
          this.#session.create({
            class: ObjectClass.DATA,
            token: true,
            private: true,
            label: `warifu:${name}`,
            value: Buffer.from(String(value), 'latin1'),
          });
          for (const { object } of before) object.destroy();
        }),
    };
  }

  #find(objectClass: number, label: string): graphene.SessionObject | undefined {
    const found = this.#session.find({ class: objectClass, label });
    invariant(found.length <= 1, `one object labelled ${label} in token ${this.label}`);
    return found.length === 1 ? found.items(0) : undefined;
  }

  /** Runs `body`; where the session is what failed, once more in a new one. */
  #guard<R>(doing: string, body: () => R): R {
    try {
      return body();
    } catch (error) {
      if (!sessionLost.test(String((error as Error).message)))
        throw tokenError(error, `${doing} in token ${this.label}`);
    }
    try {
      this.heal();
      return body();
    } catch (error) {
      throw tokenError(error, `${doing} in token ${this.label}`);
    }
  }
}

const sessionLost = /CKR_(SESSION_|USER_NOT_LOGGED_IN|DEVICE_|TOKEN_|OBJECT_HANDLE|KEY_HANDLE|CRYPTOKI_NOT)/;

function openSession(module: graphene.Module, label: string, pin: string): graphene.Session {
  let session: graphene.Session | undefined;
  try {
    const slot = findSlot(module, label);
    if (!slot) throw new PkiError('token-unavailable', `no token labelled ${label}`);
    session = slot.open(SessionFlag.SERIAL_SESSION | SessionFlag.RW_SESSION);
    login(session, pin);
    return session;
  } catch (error) {
    if (session) closeQuietly(session);
    throw tokenError(error, `logging in to token ${label}`);
  }
}

/** A session may be gone already: that it cannot be closed is then no news. */
function closeQuietly(session: graphene.Session): void {
  try {
    session.close();
  } catch (error) {
    if (!String((error as Error).message).includes('CKR_')) throw error;
  }
}

function login(session: graphene.Session, pin: string): void {
  try {
    session.login(pin, UserType.USER);
  } catch (error) {
    // Another part of this process is logged in to the token already, which is what we want.
    if (!String((error as Error).message).includes('CKR_USER_ALREADY_LOGGED_IN')) throw error;
  }
}
