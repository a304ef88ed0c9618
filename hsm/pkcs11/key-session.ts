import { hash } from 'node:crypto';
import { isMainThread } from 'node:worker_threads';
import pkcs11 from 'pkcs11js';
import { type SuiteName, suites } from '../../core/asn1/algorithms.ts';
import type { KeySpec } from '../../core/crypto/signer.ts';
import { type Bytes, view } from '../../core/runtime/bytes.ts';
import { isCopying, trimLabel } from './habits.ts';

/** One key in a session of this thread's own. The process is logged in already. Throws what the module throws. */
export class KeySession {
  readonly #library: pkcs11.PKCS11;
  readonly #session: pkcs11.Handle;
  readonly #key: pkcs11.Handle;
  readonly #mechanism: pkcs11.Mechanism;
  readonly #suite: (typeof suites)[SuiteName];
  readonly #scratch: Buffer;
  /** Whether it signs with a copy that ends with the session. */
  readonly isCopy: boolean;

  private constructor(
    opened: {
      readonly library: pkcs11.PKCS11;
      readonly session: pkcs11.Handle;
      readonly key: pkcs11.Handle;
      readonly isCopy: boolean;
    },
    suite: (typeof suites)[SuiteName],
  ) {
    this.#library = opened.library;
    this.#session = opened.session;
    this.#key = opened.key;
    this.isCopy = opened.isCopy;
    this.#suite = suite;
    this.#mechanism = { mechanism: suite.pkcs11.mechanism };
    closeWithThread(this);
    this.#scratch = Buffer.alloc(suite.pkcs11.signatureLengthMax);
  }

  static open({ module, tokenLabel, keyLabel, suite, copyKey }: KeySpec): KeySession {
    const library = libraryOf(module);
    const slot = library.C_GetSlotList(true).find((candidate) => labelIn(library, candidate) === tokenLabel);
    if (!slot) throw new Error('CKR_TOKEN_NOT_PRESENT');
    const session = library.C_OpenSession(slot, pkcs11.CKF_SERIAL_SESSION);
    try {
      const found = findKey(library, session, keyLabel);
      const key = isCopying(library, copyKey) ? copied(library, session, found) : found;
      return new KeySession({ library, session, key, isCopy: key !== found }, suites[suite]);
    } catch (error) {
      library.C_CloseSession(session);
      throw error;
    }
  }

  /** The signature over a message, as X.509 carries it. Blocks the thread for as long as the token takes. */
  sign(message: Bytes): Bytes {
    return this.signDigest(hash(this.#suite.hash, message, 'buffer'));
  }

  /** The same over a message of which only the digest, by the suite's hash, is at hand. */
  signDigest(digest: Bytes): Bytes {
    const { input, toX509 } = this.#suite.pkcs11;
    this.#library.C_SignInit(this.#session, this.#mechanism, this.#key);
    return toX509(this.#library.C_Sign(this.#session, view(input(digest)), this.#scratch));
  }

  /** Its number means nothing any more, or another's session: it is not closed. */
  forget(): void {
    openInThread.delete(this);
  }

  close(): void {
    openInThread.delete(this);
    try {
      this.#library.C_CloseSession(this.#session);
    } catch (error) {
      // The session was what failed: that it cannot be closed is no news.
      if (!String(error).includes('CKR_')) throw error;
    }
  }
}

const openInThread = new Set<KeySession>();

/**
 * Sessions belong to the process and outlive the thread that opened them: a thread that ends closes what it has open, also
 * where an exception ends it. Where it is ended from outside, or for lack of memory, they stay open.
 */
function closeWithThread(session: KeySession): void {
  if (!isMainThread && openInThread.size === 0 && !closesAtExit) {
    closesAtExit = true;
    process.once('exit', () => {
      for (const each of [...openInThread]) each.close();
    });
  }
  openInThread.add(session);
}
let closesAtExit = false;

/** Label of the token in a slot; undefined where it cannot be asked, which is no reason not to find ours. */
function labelIn(library: pkcs11.PKCS11, slot: pkcs11.Handle): string | undefined {
  try {
    return trimLabel(library.C_GetTokenInfo(slot).label);
  } catch (error) {
    if (!String(error).includes('CKR_')) throw error;
    return undefined;
  }
}

function findKey(library: pkcs11.PKCS11, session: pkcs11.Handle, keyLabel: string): pkcs11.Handle {
  library.C_FindObjectsInit(session, [
    { type: pkcs11.CKA_CLASS, value: pkcs11.CKO_PRIVATE_KEY },
    { type: pkcs11.CKA_LABEL, value: keyLabel },
  ]);
  const [key] = library.C_FindObjects(session, 1);
  library.C_FindObjectsFinal(session);
  if (!key) throw new Error('CKR_KEY_HANDLE_INVALID');
  return key;
}

/**
 * Under another label, so that a search for the key by its own finds one. The key itself where it may not be copied, or where
 * the module would make a copy that can leave the token more easily than the key.
 */
function copied(library: pkcs11.PKCS11, session: pkcs11.Handle, key: pkcs11.Handle): pkcs11.Handle {
  try {
    const copy = library.C_CopyObject(session, key, [
      { type: pkcs11.CKA_TOKEN, value: false },
      { type: pkcs11.CKA_PRIVATE, value: true },
      { type: pkcs11.CKA_LABEL, value: 'copy for one session' },
    ]);
    if (isAsConfined(library, session, copy, key)) return copy;
    library.C_DestroyObject(session, copy);
    return key;
  } catch (error) {
    if (!/CKR_(ACTION_PROHIBITED|ATTRIBUTE|TEMPLATE|FUNCTION)/.test(String(error))) throw error;
    return key;
  }
}

/** Whether a copy is sensitive, and not extractable, where its key is. */
function isAsConfined(
  library: pkcs11.PKCS11,
  session: pkcs11.Handle,
  copy: pkcs11.Handle,
  key: pkcs11.Handle,
): boolean {
  const read = (object: pkcs11.Handle) => {
    const found = library.C_GetAttributeValue(session, object, [
      { type: pkcs11.CKA_SENSITIVE },
      { type: pkcs11.CKA_EXTRACTABLE },
    ]);
    return found.map(({ value }) => Buffer.isBuffer(value) && value[0] === 1);
  };
  const [[isSensitive, isExtractable], [wasSensitive, wasExtractable]] = [read(copy), read(key)];
  return !(wasSensitive && !isSensitive) && !(isExtractable && !wasExtractable);
}

const libraries = new Map<string, pkcs11.PKCS11>();

/** PKCS#11 state belongs to the process: that another thread has initialized the module is normal. */
function libraryOf(module: string): pkcs11.PKCS11 {
  const known = libraries.get(module);
  if (known) return known;
  const library = new pkcs11.PKCS11();
  library.load(module);
  try {
    library.C_Initialize({ flags: pkcs11.CKF_OS_LOCKING_OK });
  } catch (error) {
    if (!String(error).includes('CKR_CRYPTOKI_ALREADY_INITIALIZED')) throw error;
  }
  libraries.set(module, library);
  return library;
}
