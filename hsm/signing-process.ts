// A signing process: begun by ProcessHome, logged in to its tokens by itself, answering one message after the other.
// Whatever hangs or crashes in a module, hangs or crashes here.
import { suites } from '../core/algorithms.ts';
import { PkiError } from '../core/errors.ts';
import type { FromProcess, ProcessStart, TokenCall, ToProcess } from './process-messages.ts';
import { useSoftHsmFolder } from './softhsm.ts';
import { TaskSigner } from './task-signer.ts';
import { healTokens, loadModule, type Token } from './token.ts';
import { openTokenOf } from './token-port.ts';

let start: ProcessStart | undefined;
let tokens: Token[] | undefined;
const signer = new TaskSigner();

/** Tokens are opened when they are first needed, and anew as long as none could be. */
function openTokens(): Token[] {
  if (tokens) return tokens;
  if (!start) throw new PkiError('internal', 'a signing process that was not told its tokens');
  useSoftHsmFolder(start.softhsmFolder);
  const module = loadModule(start.module);
  tokens = start.tokens.flatMap((token) => openTokenOf(module, token) ?? []);
  if (tokens.length > 0) return tokens;
  tokens = undefined;
  throw new PkiError('token-unavailable', 'no token could be opened');
}

function heal(): void {
  if (!start) return;
  signer.forget();
  const [first, ...copies] = openTokens();
  if (first) healTokens(loadModule(start.module), [first], copies);
}

async function callToken(asked: TokenCall): Promise<unknown> {
  const token = openTokens().find(({ label }) => label === asked.token);
  if (!token) throw new PkiError('token-unavailable', `token ${asked.token} is not open`);
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
  if (asked.type === 'heal') return heal();
  openTokens();
  const result = signer.sign(asked.task);
  if (result.ok || result.error.startsWith('CKR_SIGNATURE')) return result;
  // Nobody else is in the module here: it can be begun again at once.
  heal();
  return signer.sign(asked.task);
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
// Without its parent there is nobody to sign for.
process.on('disconnect', () => process.exit());
