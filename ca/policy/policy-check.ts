import { type HolderKind, holderKinds, kindOf, slotOf } from '../../core/model/kinds.ts';
import { isRevocationReason } from '../../core/model/revocation.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { PolicyCell, PolicyEvent } from '../../store/api/policy.ts';
import type { Policy } from '../config/config.ts';

const strength = (cell: PolicyCell): number => (cell.startsWith('revoke') ? 3 : cell === 'hold' ? 2 : 1);

/** Checks a table at start; throws `bad-request`, naming the cell. */
export function checkPolicy(policy: Policy): void {
  for (const [event, rule] of Object.entries(policy.events)) {
    for (const kind of holderKinds) checkCell(policy, event, rule, kind);
    checkReissue(event, rule);
    checkEffects(policy, event, rule);
  }
  for (const kind of policy.releasable) checkReleasable(policy, kind);
  for (const event of phoneEvents) {
    if (policy.events[event]?.target !== 'phone') fail(`${event}: phones ask for it by that name`);
  }
}

/** Events that signed messages of phones stand for. */
const phoneEvents = ['phone-changed', 'phone-renewed', 'phone-given-up'];

/** Refuses a table that lacks an event on which issuances rest that are under way. */
export function checkPending(policy: Policy, events: readonly string[]): void {
  for (const event of events) {
    if (!Object.hasOwn(policy.events, event))
      fail(`${event}: certificates are under way, or yet to end, for that event`);
  }
}

function fail(what: string): never {
  throw new PkiError('bad-request', `policy: ${what}`);
}

function checkCell(policy: Policy, event: string, rule: PolicyEvent, kind: HolderKind): void {
  const cell = rule.kinds[kind];
  const refuse = (what: string): never => fail(`${event}, ${kind}: ${what}`);
  const reason = cell.startsWith('revoke:') ? cell.slice('revoke:'.length) : undefined;
  if (
    reason !== undefined &&
    (!isRevocationReason(reason) || reason === 'certificateHold' || reason === 'cACompromise')
  ) {
    refuse(`${reason} is no reason to revoke`);
  }
  if (cell === 'release' && !policy.releasable.includes(kind)) refuse('the kind cannot be released');
  if (kind.startsWith('card')) {
    if (rule.target === 'phone' && cell !== 'none') refuse('a phone’s event reaches no card');
    return;
  }
  // What the table says of a phone must not be less than what its card brings about.
  const card = rule.kinds[kindOf('card', slotOf(kind))];
  const cascaded = card.startsWith('revoke') || (card === 'hold' && policy.cascade.hold === 'hold');
  if (cascaded && cell !== 'none' && strength(cell) < strength(card))
    refuse(`${cell}, while the card certificate it rests on is ${card}: a cascade never weakens`);
}

function checkReissue(event: string, { kinds, reissue }: PolicyEvent): void {
  for (const kind of reissue) {
    if (!kinds[kind].startsWith('revoke:'))
      fail(`${event}, reissue: ${kind} is not revoked, so that nothing can take its place`);
  }
}

/** What an event does besides changing certificates belongs to what it happens to. */
function checkEffects(policy: Policy, event: string, rule: PolicyEvent): void {
  const { target, standing, delivery, lastDay, phones, endsHoldsOf, kinds } = rule;
  if (standing !== 'unchanged' && target !== 'holder') fail(`${event}, standing: is a holder’s`);
  const closes = standing === 'closes' || standing === 'leaves';
  if (closes && !holderKinds.every((kind) => kinds[kind].startsWith('revoke:')))
    fail(`${event}, standing: a holder who is closed has nothing left, and a kind is not revoked`);
  if (standing === 'bars-signing' && !kinds['card-signing'].startsWith('revoke:'))
    fail(`${event}, standing: a holder who may not sign has no signing certificate left`);
  for (const [field, isCards] of Object.entries({
    delivery: delivery !== 'none',
    lastDay: lastDay !== 'stays',
    phones: phones !== 'all',
  }))
    if (isCards && target !== 'card') fail(`${event}, ${field}: is a card’s`);
  for (const other of endsHoldsOf)
    if (!Object.values(policy.events[other]?.kinds ?? {}).includes('hold'))
      fail(`${event}, endsHoldsOf: ${other} is no event that holds anything`);
}

/** A hold that nothing undoes is final: then the kind is not releasable. */
function checkReleasable(policy: Policy, kind: HolderKind): void {
  const cells = Object.values(policy.events).map(({ kinds }) => kinds[kind]);
  if (cells.includes('hold') && !cells.includes('release'))
    fail(`releasable: no event releases a ${kind} certificate from hold`);
}
