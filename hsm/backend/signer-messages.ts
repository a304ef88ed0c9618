import { type Static, Type } from 'typebox';
import type { SuiteName } from '../../core/asn1/algorithms.ts';
import { suites } from '../../core/asn1/algorithms.ts';
import type { SigningPurpose } from '../../core/crypto/signer.ts';

// What a service asks of a signer that is a process of its own, as heads of frames. Octets are the frame's parts.

const text = Type.String({ pattern: '^[\\x20-\\x7e]{1,256}$' });
const id = Type.Integer({ minimum: 1 });
const suite = Type.Enum(Object.keys(suites) as SuiteName[]);
const purposes = ['certificate', 'crl', 'audit', 'message'] as const satisfies readonly SigningPurpose[];
const parts = Type.Array(Type.Integer());

/** The parts are what is to be signed: whole messages, or digests where the purpose allows them. Answered by signatures. */
const Sign = Type.Object({
  ...{ id, type: Type.Literal('sign'), parts },
  purpose: Type.Enum([...purposes]),
  form: Type.Enum(['digest', 'message']),
  ...{ token: text, key: text, suite },
});
/** Answered by SubjectPublicKeyInfo DER. */
const FindKey = Type.Object({ id, type: Type.Literal('find-key'), parts, token: text, key: text, suite });
/** One part each way. */
const Wrap = Type.Object({
  ...{ id, type: Type.Enum(['wrap', 'unwrap']), parts },
  ...{ token: text, key: text, context: text },
});
/** Answered by the `value`. */
const Recall = Type.Object({ id, type: Type.Literal('recall'), parts, token: text, name: text });
const Remember = Type.Object({
  ...{ id, type: Type.Literal('remember'), parts },
  ...{ token: text, name: text, value: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }) },
});
const Heal = Type.Object({ id, type: Type.Literal('heal'), parts });

export const Asked = Type.Union([Sign, FindKey, Wrap, Recall, Remember, Heal]);
export type Asked = Static<typeof Asked>;
export type AskedToSign = Static<typeof Sign>;

type Without<T> = T extends unknown ? Omit<T, 'id' | 'parts'> : never;
/** The same before it is sent. */
export type Question = Without<Asked>;

/** What comes back, with parts as said above. */
export type Answered =
  | { readonly id: number; readonly ok: true; readonly value?: number }
  | { readonly id: number; readonly ok: false; readonly code: string; readonly detail: string };
