import { type Static, Type } from 'typebox';
import { closed, count, duration, text } from '../../core/config/values.ts';

// Options of the PKCS#11 module and its tokens.

/** Where else a PIN may be. */
const otherPins = {
  pinEnvironment: Type.Optional(
    Type.String({
      minLength: 1,
      description: 'variable of the environment with the user PIN, instead of the file',
    }),
  ),
  pinCredential: Type.Optional(
    Type.String({
      pattern: '^[A-Za-z0-9._-]+$',
      description: 'systemd credential (LoadCredential=) with the user PIN, instead of the file',
    }),
  ),
};

const Token = (label: string) =>
  Type.Object(
    {
      label: text(label, 'token label'),
      pinFile: text(`secrets/${label}.pin`, 'file with the user PIN, relative to the data folder'),
      ...otherPins,
      copies: Type.Array(
        Type.Object(
          {
            label: Type.String({ minLength: 1, description: 'token label' }),
            pinFile: Type.String({ minLength: 1, description: 'file with its user PIN' }),
            ...otherPins,
          },
          { additionalProperties: false },
        ),
        {
          default: [],
          description:
            'tokens with copies of its keys, made by the vendor’s cloning: they share the signing, and stand in for each other',
        },
      ),
    },
    closed,
  );

export const Pkcs11Options = Type.Object(
  {
    module: Type.Optional(
      Type.String({
        description:
          'path of the PKCS#11 module; default: WARIFU_PKCS11_MODULE, or SoftHSM where it is found',
      }),
    ),
    signingThreads: count(2, 'threads, or processes, that sign'),
    isolation: Type.Enum(['threads', 'processes', 'signer'], {
      default: 'threads',
      description:
        'where CA keys are used: in this process; in processes of its own, which are killed when a call hangs and started again when the module crashes; or in a signer (warifu signer), which may be another user’s, and checks what it signs',
    }),
    signerSocket: text('signer/signer.sock', 'Unix socket of the signer, relative to the data folder'),
    callTimeout: duration('10s', 'how long a call of the module may take before it is taken to hang'),
    copyKeys: Type.Optional(
      Type.Boolean({
        description:
          'sign with copies of keys that live as long as a session: faster with SoftHSM, which is where it is the default',
      }),
    ),
    signedLog: Type.Boolean({
      default: false,
      description:
        'keep a log, signed.log, of the digest of whatever is signed, before it is: for proving that all of it is on record',
    }),
    caToken: Token('warifu-ca'),
    ocspToken: Token('warifu-ocsp'),
  },
  closed,
);

export type Pkcs11Options = Static<typeof Pkcs11Options>;

/** The tokens of a configuration, each with its key below `pkcs11`. */
export const accessesOf = <Access>(pkcs11: {
  readonly caToken: Access & { readonly copies: readonly Access[] };
  readonly ocspToken: Access & { readonly copies: readonly Access[] };
}): readonly (readonly [key: string, token: Access])[] =>
  (['caToken', 'ocspToken'] as const).flatMap((name) => [
    [name, pkcs11[name]] as const,
    ...pkcs11[name].copies.map((copy, i) => [`${name}/copies/${i}`, copy] as const),
  ]);
