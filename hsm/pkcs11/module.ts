import { randomBytes } from 'node:crypto';
import graphene from 'graphene-pk11';
import pkcs11 from 'pkcs11js';
import type { HealDepth } from '../../core/crypto/signer.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { trimLabel } from './habits.ts';

// A PKCS#11 module as a process has it: found, loaded, initialized again, and the slots and tokens it shows.

const { Module, SessionFlag, UserType } = graphene;

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

/** A token whose sessions can be opened again. */
export interface Healable {
  /** Throws `token-unavailable`. */
  heal(depth: HealDepth): void;
}

/**
 * Opens the sessions of a module's tokens again. `tokens` are groups that stand in for each other: of each group one is
 * enough. Where that is not had, the module is initialized again, since some modules (SoftHSM) never look at a token again
 * that was away; likewise where `depth` asks for it. No other thread may be within the module. Returns how far it went;
 * throws `token-unavailable` where a whole group stays away.
 */
export function healTokens(
  module: graphene.Module,
  tokens: readonly (readonly Healable[])[],
  depth: HealDepth,
): HealDepth {
  if (depth === 'sessions' && firstFailure(tokens, 'sessions') === undefined) return 'sessions';
  initializeAgain(module);
  const failure = firstFailure(tokens, 'module');
  if (failure !== undefined) throw failure;
  return 'module';
}

/** Heals every token; gives why the first group has none that is well, undefined where each has one. */
function firstFailure(groups: readonly (readonly Healable[])[], depth: HealDepth): unknown {
  const failures = groups.map((group) => group.map((token) => failureOf(() => token.heal(depth))));
  return failures.find((group) => group.every((failure) => failure !== undefined))?.[0];
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
    const free = slotsOf(module).find((slot) => {
      const token = tokenIn(slot);
      return token && (token.flags & graphene.TokenFlag.TOKEN_INITIALIZED) === 0;
    });
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

/** A slot whose token does not tell its name is skipped: it belongs to another application. */
export function findSlot(module: graphene.Module, label: string): graphene.Slot | undefined {
  return slotsOf(module).find((slot) => {
    const token = tokenIn(slot);
    if (!token || (token.flags & graphene.TokenFlag.TOKEN_INITIALIZED) === 0) return false;
    return trimLabel(token.label) === label;
  });
}

export function tokenIn(slot: graphene.Slot): graphene.Token | undefined {
  try {
    return slot.getToken();
  } catch (error) {
    if (!isModuleError(error)) throw error;
    return undefined;
  }
}

export const isModuleError = (error: unknown): boolean => String((error as Error).message).includes('CKR_');
