import { describe, expect, it } from 'vitest';
import { PkiError } from '../../core/runtime/errors.ts';
import { inSpan, type Span, traced } from '../../core/runtime/tracing.ts';

/** A span that writes down what becomes of it and of those below it. */
const spanOf = (name: string, said: string[]): Span => ({
  child: (below) => spanOf(`${name}/${below}`, said),
  set: () => undefined,
  end: (failure) => void said.push(failure === undefined ? name : `${name} ${failure}`),
});

describe('traced work', () => {
  it('is below the work that it is part of, and ends before it', async () => {
    const said: string[] = [];
    const result = await inSpan(spanOf('request', said), () =>
      traced('outer', {}, async () => traced('inner', {}, async () => 7)),
    );
    expect([result, said]).toEqual([7, ['request/outer/inner', 'request/outer']]);
  });

  it('that fails says its code, and of a fault of ours no more than that', async () => {
    const said: string[] = [];
    for (const error of [new PkiError('not-found', 'holder-1'), new Error('holder-1')])
      await expect(
        inSpan(spanOf('request', said), () => traced('work', {}, () => Promise.reject(error))),
      ).rejects.toBe(error);
    expect(said).toEqual(['request/work not-found', 'request/work internal']);
  });

  it('outside a request that is traced is done all the same', async () => {
    expect(await traced('work', {}, async () => 7)).toBe(7);
  });
});
