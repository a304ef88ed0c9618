import { randomBytes } from 'node:crypto';
import graphene from 'graphene-pk11';
import pkcs11 from 'pkcs11js';
import { ecPublicKeyInfo, rsaPublicKeyInfo, type Suite } from '../../core/asn1/algorithms.ts';
import { DerReader } from '../../core/asn1/der-reader.ts';
import { objectIdentifier, tag } from '../../core/asn1/der-writer.ts';
import type { HealDepth, KeyWrapper, TokenMemory } from '../../core/crypto/signer.ts';
import { type Bytes, view } from '../../core/runtime/bytes.ts';
import { invariant, PkiError } from '../../core/runtime/errors.ts';
import { isCopying } from './habits.ts';
import { guardedLogin } from './login-guard.ts';
import { findSlot, isModuleError, tokenError, tokenIn } from './module.ts';

const { KeyGenMechanism, ObjectClass, SessionFlag, UserType } = graphene;

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
  heal(depth: HealDepth): void {
    const before = this.#session;
    // After the module was initialized again its number may be another's.
    const isOurs = depth === 'sessions' && isOpen(this.#module, before);
    this.#session = this.#open();
    if (isOurs && !before.handle.equals(this.#session.handle)) closeQuietly(before);
  }

  /** Ends this object's session, and with the last session of the process its login. */
  close(): void {
    closeQuietly(this.#session);
  }

  /**
   * Generates a signing key pair in the token: sensitive, not extractable, for signing alone, and not to be changed. Keys
   * that are copied for each session (`KeySpec.copyKey`) stay modifiable, for SoftHSM copies no others, and signs with a
   * copy half as fast again.
   */
  generateKeyPair(label: string, suite: Suite, use: 'in place' | 'copied' = 'in place'): TokenKey {
    return this.#guard(`generating key ${label}`, () => {
      if (this.#findPrivate(label)) throw new PkiError('bad-request', `key ${label} exists already`);
      const id = randomBytes(16);
      const common = { token: true, label, id };
      const fixed = { modifiable: use === 'copied', derive: false };
      const publicTemplate = { ...common, ...fixed, verify: true, encrypt: false, wrap: false };
      const privateTemplate = {
        ...common,
        ...fixed,
        private: true,
        sensitive: true,
        extractable: false,
        sign: true,
        signRecover: false,
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

  /** How keys that sign on a listening thread are used in this token. */
  useOf(copyKeys: boolean | null): 'in place' | 'copied' {
    return isCopying(this.#module.lib, copyKeys) ? 'copied' : 'in place';
  }

  hasKeyPair(label: string): boolean {
    return this.#guard(`looking for key ${label}`, () => this.#findPrivate(label) !== undefined);
  }

  /** The public half of a key pair in the token; `token-unavailable` where there is none. */
  findKeyPair(label: string, suite: Suite): TokenKey {
    return this.#guard(`reading key ${label}`, () => {
      const key = this.#findPublic(label);
      if (!key) throw new PkiError('token-unavailable', `token ${this.label} has no key ${label}`);
      const publicKey = readPublicKey(key, suite);
      if (!publicKey)
        throw new PkiError('bad-request', `key ${label} in token ${this.label} is none of ${suite.name}`);
      return { label, publicKey };
    });
  }

  /** Whether the private key can leave the token: what a ceremony records. */
  isExtractable(label: string): boolean {
    return this.#guard(`reading key ${label}`, () => {
      const key = this.#findPrivate(label);
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
        modifiable: false,
        derive: false,
        sign: false,
        verify: false,
        wrap: false,
        unwrap: false,
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

  #findPrivate(label: string): graphene.SessionObject | undefined {
    return this.#find(ObjectClass.PRIVATE_KEY, label);
  }

  /** The public key with the id of the private key: an interrupted generation may have left another one with the label. */
  #findPublic(label: string): graphene.SessionObject | undefined {
    const key = this.#findPrivate(label);
    if (!key) return undefined;
    const { id = null } = key.getAttribute({ id: null });
    const halves = this.#session.find({ class: ObjectClass.PUBLIC_KEY, label, id });
    return halves.length === 1 ? halves.items(0) : this.#find(ObjectClass.PUBLIC_KEY, label);
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
      this.heal('sessions');
      return body();
    } catch (error) {
      throw tokenError(error, `${doing} in token ${this.label}`);
    }
  }
}

/** SubjectPublicKeyInfo DER of a key in a token; undefined where it is not of the suite's type. */
function readPublicKey(key: graphene.SessionObject, { key: wanted }: Suite): Bytes | undefined {
  const { keyType } = key.getAttribute({ keyType: null });
  if (wanted.type === 'rsa') {
    if (keyType !== graphene.KeyType.RSA) return undefined;
    const modulus = key.getAttribute({ modulus: null }).modulus as Buffer;
    return modulus.length * 8 === wanted.modulusBits ? rsaPublicKeyInfo(modulus) : undefined;
  }
  if (keyType !== graphene.KeyType.EC) return undefined;
  const curve = key.getAttribute({ paramsECDSA: null }).paramsECDSA as Buffer;
  if (!curve.equals(view(objectIdentifier(wanted.curve)))) return undefined;
  const point = key.getAttribute({ pointEC: null }).pointEC as Buffer;
  return ecPublicKeyInfo(wanted.curve, uncompressedPoint(point, wanted.coordinateLength));
}

/**
 * CKA_EC_POINT is an OCTET STRING around the point (PKCS#11 v2.40 §2.3.3); some modules give the bare point. Both begin with
 * the octet 04: their length distinguishes them.
 */
export function uncompressedPoint(attribute: Bytes, coordinateLength: number): Bytes {
  const length = 1 + 2 * coordinateLength;
  let point = attribute;
  if (attribute.length !== length) {
    const reader = new DerReader(attribute);
    point = reader.content(tag.octetString);
    reader.end();
  }
  if (point.length !== length || point[0] !== 0x04)
    throw new PkiError('token-unavailable', 'the token gives a point in a form that is not known here');
  return point;
}

const sessionLost =
  /CKR_(SESSION_|OPERATION_|USER_NOT_LOGGED_IN|DEVICE_|TOKEN_|OBJECT_HANDLE|KEY_HANDLE|CRYPTOKI_NOT)/;

function openSession(module: graphene.Module, label: string, pin: string): graphene.Session {
  let session: graphene.Session | undefined;
  try {
    const slot = findSlot(module, label);
    if (!slot) throw new PkiError('token-unavailable', `no token labelled ${label}`);
    session = slot.open(SessionFlag.SERIAL_SESSION | SessionFlag.RW_SESSION);
    login(slot, session, label, pin);
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

function isOpen(module: graphene.Module, session: graphene.Session): boolean {
  try {
    module.lib.C_GetSessionInfo(session.handle);
    return true;
  } catch (error) {
    if (!isModuleError(error)) throw error;
    return false;
  }
}

/** CK_SESSION_INFO.state of a session whose user is logged in: CKS_RO_USER_FUNCTIONS, CKS_RW_USER_FUNCTIONS. */
const loggedIn: readonly number[] = [1, 3];

function login(slot: graphene.Slot, session: graphene.Session, label: string, pin: string): void {
  // Another part of this process may be logged in to the token already, which is what we want.
  if (loggedIn.includes(session.state)) return;
  guardedLogin(label, () => {
    const flags = tokenIn(slot)?.flags ?? 0;
    if ((flags & pkcs11.CKF_USER_PIN_LOCKED) !== 0) throw new Error('CKR_PIN_LOCKED');
    if ((flags & pkcs11.CKF_USER_PIN_FINAL_TRY) !== 0)
      throw new PkiError(
        'token-unavailable',
        `token ${label} would lock with one more wrong PIN: log in to it with its vendor's tool first`,
      );
    try {
      session.login(pin, UserType.USER);
    } catch (error) {
      if (!String((error as Error).message).includes('CKR_USER_ALREADY_LOGGED_IN')) throw error;
    }
  });
}
