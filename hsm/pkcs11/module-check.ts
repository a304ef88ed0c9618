import { createPublicKey, verify } from 'node:crypto';
import graphene from 'graphene-pk11';
import { type SuiteName, suites } from '../../core/asn1/algorithms.ts';
import { systemClock } from '../../core/runtime/clock.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { KeySession } from './key-session.ts';
import { findSlot, loadModule } from './module.ts';
import { Token } from './token.ts';

// Does a vendor's module do what the CA needs? Each requirement is tried with the code that the CA itself uses, on keys that are made for it
// and removed again. A module that passes may still differ under load, or when its network is gone: those are tried with the service.

export interface Requirement {
  readonly name: string;
  /** Why the CA needs it, or is slower, or less safe, without. */
  readonly why: string;
  /** Without it the CA does not work. */
  readonly isNeeded: boolean;
}

export interface Result extends Requirement {
  readonly passed: boolean;
  /** What was found, or what failed; never a PIN. */
  readonly found: string;
}

export interface CheckReport {
  readonly module: string;
  readonly library: Readonly<Record<string, string>>;
  readonly token: Readonly<Record<string, string>>;
  readonly results: readonly Result[];
  /** Signatures a second of one session, by suite. */
  readonly perSecond: Readonly<Record<string, number>>;
}

/** Objects of a check have labels that begin so. */
const prefix = 'warifu-check-';
/** Sessions that a CA with many signing threads opens. */
const sessionsWanted = 64;
const memoryName = 'check';

interface Tried {
  readonly module: graphene.Module;
  readonly path: string;
  readonly label: string;
  readonly token: Token;
}

type Check = Requirement & { readonly run: (tried: Tried) => Promise<string> | string };

const pairsOf: readonly SuiteName[] = ['rsa2048-sha256', 'p256-sha256', 'p384-sha384'];
const labelOf = (suite: string): string => `${prefix}${suite}`;

const checks: readonly Check[] = [
  ...pairsOf.map(
    (suite): Check => ({
      name: `key pair and signatures of ${suite}`,
      why: suite === 'p384-sha384' ? 'CAs of that suite' : 'CAs and responders of that suite',
      isNeeded: suite === 'rsa2048-sha256',
      run: ({ token, path, label }) => {
        const { publicKey } = token.generateKeyPair(labelOf(suite), suites[suite]);
        const session = KeySession.open({
          ...{ module: path, tokenLabel: label, keyLabel: labelOf(suite), suite, copyKey: false },
        });
        try {
          const message = Buffer.from('to be signed');
          const key = createPublicKey({ key: Buffer.from(publicKey), format: 'der', type: 'spki' });
          if (!verify(suites[suite].hash, message, key, session.sign(message)))
            throw new Error('the signature does not verify with the public key');
        } finally {
          session.close();
        }
        if (token.isExtractable(labelOf(suite))) throw new Error('the private key is extractable');
        return 'generated, not extractable, signature verified';
      },
    }),
  ),
  {
    name: 'AES-256-GCM',
    why: 'wraps the keys of personal data and of serial numbers',
    isNeeded: true,
    run: async ({ token }) => {
      token.generateWrappingKey(`${prefix}wrapping`);
      const wrapper = token.keyWrapper(`${prefix}wrapping`);
      const secret = Buffer.from('0123456789abcdef');
      const wrapped = await wrapper.wrap('one', secret);
      if (!Buffer.from(await wrapper.unwrap('one', wrapped)).equals(secret))
        throw new Error('what was unwrapped is not what was wrapped');
      const isTaken = await wrapper.unwrap('another', wrapped).then(
        () => true,
        () => false,
      );
      if (isTaken) throw new Error('it was unwrapped for another context');
      return 'wrapped, unwrapped, refused for another context';
    },
  },
  {
    name: 'data objects',
    why: 'the token remembers what a record restored from a backup must not forget',
    isNeeded: true,
    run: async ({ token }) => {
      const memory = token.memory();
      await memory.remember(memoryName, 1);
      await memory.remember(memoryName, 2);
      if ((await memory.recall(memoryName)) !== 2) throw new Error('it does not give what was stored last');
      return 'created, read, replaced';
    },
  },
  {
    name: `${sessionsWanted} sessions at once`,
    why: 'each signing thread has one for each key',
    isNeeded: false,
    run: ({ module, label }) => {
      const opened: graphene.Session[] = [];
      try {
        for (let i = 0; i < sessionsWanted; i++) {
          const session = findSlot(module, label)?.open(graphene.SessionFlag.SERIAL_SESSION);
          if (!session) throw new Error('no token of that label');
          opened.push(session);
        }
        return `${opened.length} opened`;
      } catch (error) {
        throw new Error(`${opened.length} opened, then: ${(error as Error).message}`, { cause: error });
      } finally {
        for (const session of opened) session.close();
      }
    },
  },
  {
    name: 'sessions that were closed under us',
    why: 'an HSM that restarts, or a network that is cut, is gone on with',
    isNeeded: true,
    run: ({ module, label, token }) => {
      const slot = findSlot(module, label);
      if (slot) module.lib.C_CloseAllSessions(slot.handle);
      if (!token.hasKeyPair(labelOf('rsa2048-sha256'))) throw new Error('the key is not found again');
      return 'opened again, logged in again';
    },
  },
];

const speedMs = 1000;

/** Signatures a second of one session in this process. */
function speedOf(path: string, label: string, suite: SuiteName, copyKey: boolean): number {
  const session = KeySession.open({
    ...{ module: path, tokenLabel: label, keyLabel: labelOf(suite), suite, copyKey },
  });
  try {
    const digest = Buffer.alloc(suites[suite].hash === 'sha256' ? 32 : 48, 7);
    const beganMs = systemClock.monotonicMs();
    let count = 0;
    for (; systemClock.monotonicMs() - beganMs < speedMs; count++) session.signDigest(digest);
    return (count * 1000) / (systemClock.monotonicMs() - beganMs);
  } finally {
    session.close();
  }
}

/** Tries everything on a token; whatever was made for it is removed. Throws `token-unavailable` where it cannot even be opened. */
export async function checkModule(path: string, label: string, pin: string): Promise<CheckReport> {
  const module = loadModule(path);
  const token = Token.open(module, label, pin);
  const tried = { module, path, label, token };
  try {
    removeAll(tried);
    refuseUsed(tried);
    const results: Result[] = [];
    for (const { run, ...requirement } of checks) results.push(await resultOf(requirement, () => run(tried)));
    const perSecond: Record<string, number> = {};
    for (const suite of pairsOf)
      if (token.hasKeyPair(labelOf(suite))) perSecond[suite] = speedOf(path, label, suite, false);
    return { module: path, ...describe(tried), results, perSecond };
  } finally {
    try {
      removeAll(tried);
    } finally {
      token.close();
    }
  }
}

async function resultOf(requirement: Requirement, run: () => Promise<string> | string): Promise<Result> {
  try {
    return { ...requirement, passed: true, found: await run() };
  } catch (error) {
    return { ...requirement, passed: false, found: (error as Error).message };
  }
}

function describe({ module, label }: Tried): Pick<CheckReport, 'library' | 'token'> {
  const slot = findSlot(module, label);
  const token = slot?.getToken();
  const version = ({ major, minor }: { major: number; minor: number }): string => `${major}.${minor}`;
  return {
    library: {
      description: module.libraryDescription.trim(),
      manufacturer: module.manufacturerID.trim(),
      version: version(module.libraryVersion),
      cryptoki: version(module.cryptokiVersion),
    },
    token: {
      model: token?.model.trim() ?? '',
      manufacturer: token?.manufacturerID.trim() ?? '',
      firmware: token ? version(token.firmwareVersion) : '',
    },
  };
}

/** A check is for a token that is free to try: sessions are closed under those who use it, and objects are made. */
function refuseUsed({ module, label }: Tried): void {
  const session = findSlot(module, label)?.open(graphene.SessionFlag.SERIAL_SESSION);
  if (!session) return;
  try {
    const { length } = session.find();
    if (length > 0)
      throw new PkiError(
        'bad-request',
        `token ${label} holds ${length} objects: make an empty one, and check that; what a CA uses is not tried on`,
      );
  } finally {
    session.close();
  }
}

/** Also what a check before left that was killed. */
function removeAll({ module, label }: Tried): void {
  const slot = findSlot(module, label);
  const session = slot?.open(graphene.SessionFlag.SERIAL_SESSION | graphene.SessionFlag.RW_SESSION);
  if (!session) return;
  try {
    const names = [...pairsOf.map(labelOf), `${prefix}wrapping`, `warifu:${memoryName}`];
    for (const name of names) {
      const found = session.find({ label: name });
      const objects = Array.from({ length: found.length }, (_, i) => found.items(i));
      for (const object of objects) object.destroy();
    }
  } finally {
    session.close();
  }
}
