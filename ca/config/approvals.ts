import { type Static, Type } from 'typebox';
import { closed, count, duration } from '../../core/config/values.ts';
import {
  type ApprovalAct,
  approvalActs,
  type ConsoleActName,
  consoleActs,
} from '../../core/model/approval.ts';

const act = (what: string) =>
  Type.Enum(['required', 'off'], { default: 'required', description: `a second person for ${what}` });

/** What a second person approves. */
export const Approvals = Type.Object(
  {
    use: Type.Enum(['in-production', 'required'], {
      default: 'in-production',
      description: 'required: in development, too; "approvals": "required" says the same',
    }),
    life: duration('7d', 'how long a proposal waits for its approval'),
    orderLife: duration('30d', 'how long cards of an order can be issued to'),
    openMax: count(100, 'requests of one client that wait at a time'),
    revocationsPerDay: Type.Object(
      {
        person: count(100, 'acts by which one person revokes in a day in Japan'),
        system: count(10_000, 'the same of a system, such as the register'),
      },
      {
        ...closed,
        description: 'beyond them revocations are holds, at once, until a second person approves',
      },
    ),
    acts: Type.Object(
      Object.fromEntries(
        Object.entries({ ...approvalActs, ...consoleActs }).map(([name, what]) => [name, act(what)]),
      ) as {
        [Act in ApprovalAct | ConsoleActName]: ReturnType<typeof act>;
      },
      closed,
    ),
  },
  closed,
);

interface Configured {
  readonly config: { readonly mode: string; readonly approvals: Static<typeof Approvals> };
}

/** Acts for which a second person is wanted. */
export const wantedApprovals = (of: Configured): readonly ApprovalAct[] => wanted(of, approvalActs);

/** Acts at the console that two persons sign for. */
export const wantedSignatures = (of: Configured): readonly ConsoleActName[] => wanted(of, consoleActs);

function wanted<Act extends ApprovalAct | ConsoleActName>(
  { config }: Configured,
  acts: Readonly<Record<Act, string>>,
): readonly Act[] {
  const { use, acts: configured } = config.approvals;
  if (config.mode !== 'production' && use !== 'required') return [];
  return (Object.keys(acts) as Act[]).filter((act) => configured[act] === 'required');
}
