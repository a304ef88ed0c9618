import { AsyncLocalStorage } from 'node:async_hooks';
import { PkiError } from './errors.ts';

/** What is said of a piece of work. Never what a caller sent: it may name a holder. */
export type SpanAttributes = Readonly<Record<string, string | number | boolean>>;

/** A piece of work that a request causes, and how long it takes. */
export interface Span {
  child(name: string, attributes: SpanAttributes): Span;
  set(attributes: SpanAttributes): void;
  /** Ends it; with a code, as one that failed by that. To be called once. */
  end(failure?: string): void;
}

const current = new AsyncLocalStorage<Span>();

/** Runs `act` as part of a span: what it does, and what follows from that, is found by `traced`. */
export const inSpan = <R>(span: Span, act: () => R): R => current.run(span, act);

/** A piece of work within the span at hand. Where no request is traced it costs one look. */
export async function traced<R>(name: string, attributes: SpanAttributes, act: () => Promise<R>): Promise<R> {
  const parent = current.getStore();
  if (!parent) return act();
  const span = parent.child(name, attributes);
  try {
    const result = await current.run(span, act);
    span.end();
    return result;
  } catch (error) {
    // The code alone: the message may quote what was sent.
    span.end(error instanceof PkiError ? error.code : 'internal');
    throw error;
  }
}
