import { Type } from 'typebox';
import { consentItems } from '../../core/model/consent.ts';
import { DeskCode } from './schema-desks.ts';
import { base64, closed, instant, nullable, Reference } from './schema-values.ts';
import { VerifierId } from './schema-verifiers.ts';

// Consents to the latest basic four, and what is given by them.

export const SignedConsent = Type.Object(
  { signedConsent: base64('CMS of a Consent, made with the signing key of card or phone', 24_000) },
  closed,
);

export const Withdrawal = Type.Union([
  Type.Object(
    { signedWithdrawal: base64('CMS of a ConsentWithdrawal, made with any key of card or phone', 12_000) },
    closed,
  ),
  Type.Object({ deskCode: DeskCode }, closed),
  Type.Object({}, closed),
]);

const Item = Type.Enum([...consentItems]);

export const Consent = Type.Object({
  consentId: Type.String(),
  verifierId: Type.String(),
  serviceId: Type.String({ description: 'for whose service: the verifier itself, or a provider behind it' }),
  items: Type.Array(Item),
  purpose: Type.String(),
  signedWith: Reference,
  givenAt: instant('when it was given'),
  endsAt: instant('its last second'),
  withdrawnAt: nullable(instant('since when it counts no more')),
  withdrawnBy: nullable(Type.Enum(['holder', 'desk'])),
});

export const ListedConsent = Type.Object({
  ...Consent.properties,
  verifier: nullable(Type.String({ description: 'its name' })),
  service: nullable(Type.String({ description: 'its name' })),
});

export const AskLatest = Type.Object(
  {
    certificate: base64('the signing certificate that the verifier has received, DER', 8192),
    serviceId: Type.Optional({
      ...VerifierId,
      description: 'for whose service; default: the verifier’s own',
    }),
  },
  closed,
);

export const Latest = Type.Object({
  items: Type.Object(
    {
      name: Type.Optional(Type.String()),
      address: Type.Optional(Type.String()),
      birthDate: Type.Optional(
        Type.String({ description: 'YYYY-MM-DD; 00 for what the register does not know' }),
      ),
      sex: Type.Optional(Type.Enum(['male', 'female', 'other'])),
    },
    { description: 'what the holder has consented to, as it is now' },
  ),
});

export const Withhold = Type.Object(
  {
    withheld: Type.Boolean({
      description: 'true: nothing is given out about the holder, at once; false ends that',
    }),
    deskCode: Type.Optional(DeskCode),
  },
  closed,
);

export const Withholding = Type.Object({
  holderId: Type.String(),
  withheldAt: nullable(instant('since when nothing is given out')),
});
