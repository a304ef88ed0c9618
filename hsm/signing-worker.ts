// A signing thread: its own sessions, the process's login.
import type { SigningResult, SigningTask } from './signing-task.ts';
import { TaskSigner } from './task-signer.ts';

const signer = new TaskSigner();
let generation = 0;

/** `generation` rises whenever the module may have been initialized again. */
export default function sign(asked: { task: SigningTask; generation: number }): SigningResult {
  if (asked.generation !== generation) signer.forget();
  generation = asked.generation;
  return signer.sign(asked.task);
}
