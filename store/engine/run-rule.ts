import { isDeepStrictEqual } from 'node:util';
import { actorOfNode } from '../../core/model/act.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { invariant } from '../../core/runtime/errors.ts';
import { checkRead, checkWrite } from './guards.ts';
import { inOrder, LoadedRows, loadNow, rowsOf } from './loaded.ts';
import type { AuditHeader, Heads, RecordReader } from './record.ts';
import type { Load, Lock, OutcomeSeal, Rule, RuleContext } from './rule.ts';
import { Workspace } from './workspace.ts';

const checks = { isOn: false };

/** Has every rule of this process held to what it declares, from now on. For tests: a declaration that is wrong is a defect. */
export function checkRules(): void {
  checks.isOn = true;
}

export const areRulesChecked = (): boolean => checks.isOn;

/** How often each body is tried: what is wrong with one shows at once. */
const triesMax = 5;
const tries = new Map<string, number>();

/** Has a body run twice, and refuses one that is no function of what it reads: a database server may have it run several times. */
export const repeatable =
  <R>(body: (reader: RecordReader) => R | Promise<R>) =>
  async (reader: RecordReader): Promise<R> => {
    const once = await body(reader);
    const text = String(body);
    const tried = tries.get(text) ?? 0;
    if (tried >= triesMax) return once;
    tries.set(text, tried + 1);
    const again = await body(reader);
    invariant(isDeepStrictEqual(once, again), 'a body of a read is no function of what it reads');
    return again;
  };

/** For a database that was given none: see `RecordDatabase.sealOutcomesWith`. */
export const noSeal: OutcomeSeal = () => {
  throw new Error('an outcome is sealed before there is a key for it');
};

/** What a rule says of itself in the audit chain; by default the node itself acts. */
export function auditHeaderOf<Input>(rule: Rule<Input, unknown>, input: Input, writer: string): AuditHeader {
  const actor = rule.actor?.(input) ?? actorOfNode(writer);
  const takesBackTo = rule.takesBackTo?.(input);
  const subject = rule.subject(input);
  return { actor, action: rule.action, subject, ...(takesBackTo === undefined ? {} : { takesBackTo }) };
}

/**
 * Has a rule decide on one state of the record, whose only writer this is: then locks guard nothing that the database does not
 * guard already, and what the rule reads need not be loaded before.
 */
export function decideAlone<Input, Outcome>(
  rows: RecordReader,
  rule: Rule<Input, Outcome>,
  input: Input,
  at: {
    readonly writer: string;
    readonly heads: Heads;
    readonly seed: Bytes;
    readonly context: RuleContext;
    /** Nothing of it is written: then nothing has to be guarded. */
    readonly isPreview?: boolean;
  },
): { readonly workspace: Workspace; readonly outcome: Outcome } {
  const { writer, context, isPreview = false } = at;
  if (!checks.isOn) {
    const workspace = new Workspace(rows, at);
    return { workspace, outcome: rule.decide(input, workspace, context) };
  }
  const located = loadNow(rows, rule.locate?.(input) ?? []);
  const loads = rule.loads(input, located, writer);
  const locks = isPreview ? null : rule.locks(input, located, writer);
  const workspace = new Workspace(loadGuarded(rows, loads, locks), at);
  const outcome = rule.decide(input, workspace, context);
  if (locks) for (const change of workspace.changes) checkWrite(change, locks);
  return { workspace, outcome };
}

function loadGuarded(rows: RecordReader, loads: readonly Load[], locks: readonly Lock[] | null): LoadedRows {
  const loaded = new LoadedRows();
  const order = inOrder(loads);
  for (let next = order.next([]); !next.done; ) {
    const found = rowsOf(rows, next.value);
    if (locks) checkRead(next.value, found, locks);
    loaded.note(next.value, found);
    next = order.next(found);
  }
  return loaded;
}
