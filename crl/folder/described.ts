import { Type } from 'typebox';
import { Value } from 'typebox/value';
import type { PublishedShard } from './published.ts';

// What a publisher says of a shard's CRLs, as JSON from another node. Nothing of it is believed before it has this form.

const moment = Type.Integer({ minimum: 0 });
const crl = {
  number: moment,
  thisUpdateMs: moment,
  knownMs: Type.Optional(moment),
  nextUpdateMs: moment,
  octets: moment,
  lastModifiedMs: moment,
};
const closed = { additionalProperties: false } as const;
const Described = Type.Object(
  {
    path: Type.String(),
    number: moment,
    complete: Type.Object(crl, closed),
    base: Type.Object({ number: moment, thisUpdateMs: moment, knownMs: Type.Optional(moment) }, closed),
    delta: Type.Union([Type.Object({ ...crl, baseNumber: moment }, closed), Type.Null()]),
    cursor: Type.Object({
      incarnation: Type.String(),
      positions: Type.Record(Type.String(), moment),
    }),
  },
  closed,
);

/** undefined where the text describes no shard. */
export function describedShard(text: string): PublishedShard | undefined {
  try {
    const described: unknown = JSON.parse(text);
    return Value.Check(Described, described) ? (described as PublishedShard) : undefined;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return undefined;
  }
}
