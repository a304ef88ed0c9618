// A signing thread: its own sessions, the process's login.

import type { SigningResult } from '../pool/signing-task.ts';
import { TaskSigner } from '../pool/task-signer.ts';
import type { AskedOfThread, Generation } from './thread-messages.ts';

const signer = new TaskSigner();
let known: Generation = { sessions: 0, module: 0 };

export default function sign({ task, generation }: AskedOfThread): SigningResult {
  if (generation.module !== known.module) signer.forget('module');
  else if (generation.sessions !== known.sessions) signer.forget('sessions');
  known = generation;
  return signer.sign(task);
}
