import { Type } from 'typebox';
import { closed, count, duration, oid, text } from '../../core/config/values.ts';
import defaultPolicy from './default-policy.json' with { type: 'json' };

/** Facts of the scheme that no public source settles, or that differ between a test and a real system. */
export const Scheme = Type.Object(
  {
    organization: text('JPKI-TEST', 'O of every issuer; JPKI in the real system'),
    operator: text('Japan Agency for Local Authority Information Systems', 'last OU of every issuer'),
    signingUnit: text('JPKI for digital signature', 'OU of the signing CA'),
    authenticationUnit: text('JPKI for user authentication', 'OU of the authentication CA'),
    japaneseOrganization: text('公的個人認証サービス', 'O of the Japanese issuer name'),
    japaneseSigningUnit: text('公的個人認証サービス署名用', 'OU of the signing CA’s Japanese name'),
    japaneseAuthenticationUnit: text(
      '公的個人認証サービス利用者証明用',
      'OU of the authentication CA’s Japanese name',
    ),
    japaneseOperator: text('地方公共団体情報システム機構', 'last OU of the Japanese issuer names'),
    cpsUri: text('http://www.jpki.example/cps.html', 'CPS URI in certificatePolicies'),
    policies: Type.Object(
      {
        'card-signing': oid('1.2.392.200149.8.5.1.0.20', 'policy of card signing certificates'),
        'card-authentication': oid('1.2.392.200149.8.5.1.3.30', 'policy of card authentication certificates'),
        'phone-signing': oid('1.2.392.200149.8.5.1.0.40', 'policy of phone signing certificates'),
        'phone-authentication': oid(
          '1.2.392.200149.8.5.1.3.40',
          'policy of phone authentication certificates',
        ),
      },
      closed,
    ),
    enrolmentContentType: oid(
      '1.3.6.1.4.1.32473.8.1',
      'eContentType of a phone’s enrolment; the default is of the arc for examples (RFC 5612)',
    ),
    revocationContentType: oid(
      '1.3.6.1.4.1.32473.8.2',
      'eContentType of a phone’s own revocation; the default is of the arc for examples (RFC 5612)',
    ),
    secureElementContentType: oid(
      '1.3.6.1.4.1.32473.8.3',
      'eContentType of an SP-TSM’s statement; the default is of the arc for examples (RFC 5612)',
    ),
    noticeWishesContentType: oid(
      '1.3.6.1.4.1.32473.8.4',
      'eContentType of a holder’s notice preferences; the default is of the arc for examples (RFC 5612)',
    ),
    accessQueryContentType: oid(
      '1.3.6.1.4.1.32473.8.7',
      'eContentType of a holder’s question who looked the holder up; the default is of the arc for examples (RFC 5612)',
    ),
    consentContentType: oid(
      '1.3.6.1.4.1.32473.8.8',
      'eContentType of a holder’s consent to the latest basic four; the default is of the arc for examples (RFC 5612)',
    ),
    withdrawalContentType: oid(
      '1.3.6.1.4.1.32473.8.9',
      'eContentType of the withdrawal of a consent; the default is of the arc for examples (RFC 5612)',
    ),
    receiptContentType: oid(
      '1.3.6.1.4.1.32473.8.10',
      'eContentType of what shows that a verifier has received a certificate; the default is of the arc for examples (RFC 5612)',
    ),
    reportContentType: oid(
      '1.3.6.1.4.1.32473.8.11',
      'eContentType of what a phone reports of itself; the default is of the arc for examples (RFC 5612)',
    ),
    changeContentType: oid(
      '1.3.6.1.4.1.32473.8.5',
      'eContentType of a card’s change; the default is of the arc for examples (RFC 5612)',
    ),
    onlineDeskCode: Type.String({
      default: 'ONLINE001',
      pattern: '^[0-9A-Z]{9}$',
      description: 'desk code of phone certificates',
    }),
    platforms: Type.Array(Type.String({ pattern: '^[a-z0-9-]{1,16}$' }), {
      default: ['android', 'ios'],
      description: 'platforms of phones, as enrolments spell them',
    }),
    leapDayBirthday: Type.Enum(['02-28', '03-01'], {
      default: '02-28',
      description: 'birthday of those born on 29 February, in common years',
    }),
    unknownBirthday: Type.Enum(['first', 'last'], {
      default: 'first',
      description:
        'birthday of those whose day, or month and day, of birth the register does not know: the first or the last it can be',
    }),
    otherSex: Type.Enum(['3', '9'], {
      default: '9',
      description: 'code of the third value of sex',
    }),
    signingAge: Type.Integer({
      default: 15,
      minimum: 0,
      description: 'age from which a holder may have a signing certificate',
    }),
    cardYears: count(10, 'birthdays after issue up to which a card may last'),
    minorCardYears: count(5, 'the same where the holder is a minor at issue'),
    minorAge: count(18, 'age from which a holder is no minor'),
    earlyRenewalYears: Type.Integer({
      default: 1,
      minimum: 0,
      description: 'birthdays more that a card may last which takes the place of another',
    }),
    nameLengthMax: count(100, 'characters of a name'),
    addressLengthMax: count(200, 'characters of an address'),
  },
  closed,
);

const Cell = Type.String({
  pattern: '^(none|hold|release|revoke:[a-zA-Z]+)$',
  description: 'none, hold, release, or revoke:<reason of RFC 5280 §5.3.1>',
});

const Kind = Type.Enum(['card-signing', 'card-authentication', 'phone-signing', 'phone-authentication']);

/** One event of the table. */
export const PolicyEvent = Type.Object(
  {
    description: Type.String({ description: 'what happened, for people' }),
    target: Type.Enum(['holder', 'card', 'phone'], {
      description: 'what it happens to; a card’s event reaches the phone certificates that rest on it',
    }),
    kinds: Type.Object(
      {
        'card-signing': Cell,
        'card-authentication': Cell,
        'phone-signing': Cell,
        'phone-authentication': Cell,
      },
      { additionalProperties: false },
    ),
    cascade: Type.Enum(['kind', 'whole'], {
      description:
        'what goes with a card certificate that ceases: the phone certificate that rests on it, or all of that phone’s',
    }),
    renewal: Type.Boolean({
      description: 'what is issued for it is a renewal: not before its window, and to the sixth birthday',
    }),
    reissue: Type.Array(Kind, {
      description: 'kinds that are reissued in place of what this revokes, in the same act or later',
    }),
    register: Type.Boolean({
      default: false,
      description:
        'a change of the register: reported again with the same time of occurrence it changes nothing, and never ends what was issued because of it',
    }),
    phones: Type.Enum(['all', 'enrolled-since'], {
      default: 'all',
      description:
        'which phones a card’s event holds: all that rest on the card, or those enrolled at or after its occurrence',
    }),
    endsHoldsOf: Type.Array(Type.String({ pattern: '^[a-z-]+$' }), {
      default: [],
      description:
        'events whose holds this ends: it concerns what they hold, and nothing else; none: it concerns all',
    }),
    town: Type.Enum(['stays', 'moves'], {
      default: 'stays',
      description:
        'moves: the holder is of another municipality from then on, which issues for it on the card’s signature',
    }),
    standing: Type.Enum(['unchanged', 'closes', 'leaves', 'returns', 'bars-signing', 'allows-signing'], {
      default: 'unchanged',
      description:
        'closes: nothing more is issued to the holder, until a correction is approved; leaves: until an event returns; bars-signing: no signing certificate',
    }),
    delivery: Type.Enum(['none', 'confirms', 'discards'], {
      default: 'none',
      description:
        'confirms: what was issued to the card is good from now on; discards: it never takes the place of anything',
    }),
    lastDay: Type.Enum(['stays', 'moves'], {
      default: 'stays',
      description: 'moves: it brings another last day of the card',
    }),
    corrects: Type.Boolean({
      default: false,
      description: 'what is issued for it may have another birth date or sex than before',
    }),
  },
  { additionalProperties: false },
);

/** The table of life events: what each does to certificates of each kind. */
export const PolicySchema = Type.Object(
  {
    events: Type.Record(Type.String({ pattern: '^[a-z-]+$' }), PolicyEvent),
    cascade: Type.Object(
      {
        hold: Type.Enum(['none', 'hold'], {
          description: 'what a held card certificate does to the phone certificate that rests on it',
        }),
      },
      { additionalProperties: false },
    ),
    releasable: Type.Array(Kind, { description: 'kinds whose hold may end in good again' }),
    lossSpan: duration('30d', 'how far before the report a loss may lie whose time was not stated'),
  },
  { additionalProperties: false, default: defaultPolicy, description: 'what life events do' },
);
