// A signing process: begun by ProcessBackend, logged in to its tokens by itself, answering one message after the other.
// Whatever hangs or crashes in a module, hangs or crashes here.
import { suites } from '../../core/asn1/algorithms.ts';
import type { HealDepth } from '../../core/crypto/signer.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { takeVariables } from '../../core/runtime/secret-source.ts';
import { guardLogins } from '../pkcs11/login-guard.ts';
import { healTokens, loadModule } from '../pkcs11/module.ts';
import { useSoftHsmFolder } from '../pkcs11/softhsm.ts';
import type { Token } from '../pkcs11/token.ts';
import { TaskSigner } from '../pool/task-signer.ts';
import type { FromProcess, Heartbeat, ProcessStart, TokenCall, ToProcess } from './process-messages.ts';
import { openTokenOf } from './token-port.ts';

takeVariables(4);

let start: ProcessStart | undefined;
const open = new Map<string, Token>();
const signer = new TaskSigner();

/** Says that a call has returned: so many signatures may take longer than one call may. */
const beat = (): void => {
  process.send?.({ beat: true } satisfies Heartbeat);
};

/** Logs in to whatever token it is not logged in to; those that are away are tried again when they are wanted. */
function openTokens(): void {
  if (!start) throw new PkiError('internal', 'a signing process that was not sent its tokens');
  useSoftHsmFolder(start.softhsmFolder);
  guardLogins(start.loginFolder);
  const module = loadModule(start.module);
  for (const place of start.tokens) {
    const token = open.has(place.label) ? undefined : openTokenOf(module, place);
    if (token) open.set(place.label, token);
  }
  if (open.size === 0) throw new PkiError('token-unavailable', 'no token could be opened');
}

function tokenOf(label: string): Token {
  if (!open.has(label)) openTokens();
  const token = open.get(label);
  if (!token) throw new PkiError('token-unavailable', `token ${label} is not open`);
  return token;
}

function heal(depth: HealDepth): void {
  if (!start) return;
  const went = open.size > 0 ? healTokens(loadModule(start.module), [[...open.values()]], depth) : 'module';
  signer.forget(went);
  openTokens();
}

async function callToken(asked: TokenCall): Promise<unknown> {
  const token = tokenOf(asked.token);
  switch (asked.call) {
    case 'findKeyPair':
      return token.findKeyPair(asked.args[0], suites[asked.args[1]]);
    case 'wrap':
      return token.keyWrapper(asked.args[0]).wrap(asked.args[1], asked.args[2]);
    case 'unwrap':
      return token.keyWrapper(asked.args[0]).unwrap(asked.args[1], asked.args[2]);
    case 'recall':
      return token.memory().recall(asked.args[0]);
    case 'remember':
      return token.memory().remember(asked.args[0], asked.args[1]);
  }
}

async function answer(asked: ToProcess): Promise<unknown> {
  if (asked.type === 'start') {
    start = asked.start;
    return undefined;
  }
  if (asked.type === 'token') return callToken(asked.call);
  if (asked.type === 'heal') return heal('module');
  tokenOf(asked.task.key.tokenLabel);
  const result = signer.sign(asked.task, beat);
  if (result.ok || result.error.startsWith('CKR_SIGNATURE')) return result;
  // This process alone uses the module: if new sessions do not help, it initializes the module again at once.
  heal('sessions');
  const again = signer.sign(asked.task, beat);
  if (again.ok) return again;
  heal('module');
  return signer.sign(asked.task, beat);
}

process.on('message', (message: ToProcess & { readonly id: number }) => {
  const { id } = message;
  void answer(message).then(
    (value) => process.send?.({ id, ok: true, value } satisfies FromProcess),
    (error: unknown) => {
      const code = error instanceof PkiError ? error.code : 'token-unavailable';
      const detail = error instanceof Error ? error.message : 'the token failed';
      process.send?.({ id, ok: false, code, detail } satisfies FromProcess);
    },
  );
});
// A signing process ends with its parent.
process.on('disconnect', () => process.exit());
