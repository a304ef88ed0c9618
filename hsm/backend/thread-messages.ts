import type { HealDepth } from '../../core/crypto/signer.ts';
import type { SigningTask } from '../pool/signing-task.ts';

/** How often what a thread has open was opened again under it, by depth. */
export type Generation = Readonly<Record<HealDepth, number>>;

/** What a signing thread is asked. */
export interface AskedOfThread {
  readonly task: SigningTask;
  readonly generation: Generation;
}
