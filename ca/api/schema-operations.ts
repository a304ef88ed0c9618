import { Type } from 'typebox';
import { versionPattern } from '../../core/model/device.ts';
import { warningKinds } from '../../core/node/warnings.ts';
import { switchNames } from '../../store/api/switch-names.ts';
import { closed, instant, nullable, Reason } from './schema-values.ts';

// What operators send and read: restrictions and switches.

const fact = (description: string) => Type.String({ pattern: '^[\\x20-\\x7e]{1,64}$', description });
const facts = (description: string) =>
  Type.Optional(Type.Array(fact('as enrolments spell it'), { minItems: 1, maxItems: 1000, description }));

const version = (description: string) => Type.Optional(Type.String({ pattern: versionPattern, description }));

export const DeviceMatch = Type.Object(
  {
    platform: Type.String({ pattern: '^[a-z0-9-]{1,16}$', description: 'as enrolments spell it' }),
    models: facts(
      'default: all models; unknown: phones that name none, or whose own word for it nothing vouches for where evidence could',
    ),
    secureElements: facts('default: all'),
    osVersionFrom: version('the oldest that is meant; versions are compared number by number'),
    osVersionTo: version('the newest that is meant'),
    patchLevelBefore: Type.Optional(
      Type.String({
        pattern: '^[0-9]{4}-[0-9]{2}(-[0-9]{2})?$',
        description: 'phones with an older patch level, or of which none is known',
      }),
    ),
    appletVersionFrom: version('the oldest version of the applet that is meant'),
    appletVersionTo: version('the newest that is meant, and phones of which none is known'),
    appVersionFrom: version('the oldest version of the app that is meant'),
    appVersionTo: version('the newest that is meant, and phones of which none is known'),
  },
  { ...closed, description: 'which phones: all that is named must hold' },
);

export const ProposeRestriction = Type.Object(
  {
    match: DeviceMatch,
    note: Type.Optional(Type.String({ maxLength: 200, description: 'said to phones that are refused' })),
    emergency: Type.Optional(
      Type.Boolean({
        description: 'holds at once; another client approves afterwards, and a warning grows until then',
      }),
    ),
  },
  closed,
);

export const ProposeEnd = Type.Object(
  {
    action: Type.Enum(['release', 'revoke']),
    reason: Type.Optional(Reason),
  },
  closed,
);

export const Matching = Type.Object({
  phones: Type.Integer({ description: 'phones that match, with a certificate that is in force' }),
  certificates: Type.Integer({ description: 'certificates of theirs that are good' }),
});

const BulkOperation = Type.Object({
  actId: Type.String(),
  action: Type.Enum(['hold', 'release', 'revoke']),
  reason: nullable(Type.String()),
  state: Type.Enum(['proposed', 'running', 'done', 'withdrawn'], {
    description: 'running: in effect, while phones are counted, and notices and orders are written',
  }),
  proposedBy: Type.String({ description: 'fingerprint of a client' }),
  proposedAt: instant('when it was proposed'),
  approvedBy: nullable(Type.String()),
  approvedAt: nullable(instant('when it was approved')),
  phones: Type.Integer({ description: 'so far: phones that match, with a certificate that is in force' }),
  certificates: Type.Integer({ description: 'so far: certificates of theirs that are in force' }),
  finishedAt: nullable(
    instant('when the last phone was counted, and what was to be written of it was written'),
  ),
});

export const Restriction = Type.Object({
  restrictionId: Type.String(),
  match: DeviceMatch,
  note: Type.String(),
  state: Type.Enum(['proposed', 'in-force', 'ended', 'withdrawn']),
  createdAt: instant('when it was proposed'),
  acts: Type.Array(BulkOperation),
});

export const SwitchPosition = Type.Object(
  {
    state: Type.Enum(['open', 'limited', 'closed']),
    perMinute: Type.Optional(
      Type.Integer({ minimum: 1, maximum: 1_000_000_000, description: 'where limited: acts a minute' }),
    ),
    note: Type.Optional(Type.String({ maxLength: 200, description: 'shown to callers that are refused' })),
  },
  closed,
);
export const Switch = Type.Object({
  name: Type.Enum(switchNames),
  state: Type.Enum(['open', 'limited', 'closed']),
  perMinute: nullable(Type.Integer()),
  note: Type.String(),
  changedAt: nullable(instant('when it was last changed')),
  changedBy: nullable(Type.String({ description: 'fingerprint of the client who did' })),
});

export const Health = Type.Object({
  status: Type.Literal('ok'),
  mode: Type.Enum(['development', 'production'], { description: 'what the service is for' }),
  tokens: Type.Array(
    Type.Object({
      label: Type.String(),
      up: Type.Boolean({ description: 'signed when it was last asked; others may stand in for it' }),
    }),
  ),
  warnings: Type.Optional(
    Type.Array(
      Type.Object({
        kind: Type.Enum([...warningKinds]),
        about: Type.String(),
        at: nullable(instant('when it hurts; null where it does already')),
        act: Type.String({ description: 'what to do' }),
      }),
      { description: 'what will fail unless an operator acts; for administrators and readers' },
    ),
  ),
});
