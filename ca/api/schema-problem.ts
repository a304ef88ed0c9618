import { Type } from 'typebox';

export const Problem = Type.Object(
  {
    type: Type.String(),
    title: Type.String(),
    status: Type.Integer(),
    detail: Type.String(),
    instance: Type.String(),
    errors: Type.Optional(
      Type.Array(
        Type.Object({
          pointer: Type.String({ description: 'JSON pointer into the body, query or headers' }),
          detail: Type.String(),
        }),
        { description: 'of a request that is not of the form it should be: every fault, 20 at most' },
      ),
    ),
  },
  { description: 'RFC 9457' },
);
