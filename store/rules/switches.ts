import { must, PkiError } from '../../core/runtime/errors.ts';
import type { Switch } from '../api/operations-store.ts';
import { type SwitchName, switchNames } from '../api/switch-names.ts';
import type { RecordReader, Transaction } from '../engine/record.ts';
import type { Row } from '../schema/schema.ts';

export function switchView({ name, state, perMinute, note, changedMs, changedBy }: Row<'switch'>): Switch {
  return {
    name: name as SwitchName,
    state: state as Switch['state'],
    perMinute,
    note,
    changedMs,
    changedBy,
  };
}

const untouched = (name: SwitchName): Switch => ({
  name,
  state: 'open',
  perMinute: null,
  note: '',
  changedMs: null,
  changedBy: null,
});

/** All switches, also those that were never touched. */
export function allSwitches(reader: RecordReader): Switch[] {
  const rows = new Map(reader.find('switch', {}).map((row) => [row.name, row]));
  return switchNames.map((name) => {
    const row = rows.get(name);
    return row ? switchView(row) : untouched(name);
  });
}

/** Refuses with `function-closed` what an operator has closed. */
export function refuseClosedSwitch(reader: RecordReader, name: SwitchName): void {
  const row = reader.get('switch', { name });
  if (row?.state === 'closed') throw closedError(row);
}

const said = ({ note }: Row<'switch'>): string => (note === '' ? '' : `: ${note}`);
const closedError = (row: Row<'switch'>): PkiError =>
  new PkiError('function-closed', `${row.name} is closed${said(row)}`);

/** The row that counts how often a limited function was used in a minute, by all nodes together. */
export const countName = (name: SwitchName): string => `switch:${name}`;

/** Within a transaction: refuses with `function-closed` what an operator has closed, or limited and is used up. */
export function passSwitch(tx: Transaction, name: SwitchName, nowMs: number): void {
  const row = tx.get('switch', { name });
  if (!row || row.state === 'open') return;
  if (row.state === 'closed') throw closedError(row);
  const key = { name: countName(name) };
  const before = tx.get('meta', key);
  const [counted = 0, used = 0] = before?.value.split(' ').map(Number) ?? [];
  const ofRequest = Math.floor(nowMs / 60_000);
  // Nodes' clocks differ, and requests wait for locks: the minute before the one that is counted does not come again. Further back it does, where
  // the record's time was taken back.
  const minute = counted === ofRequest + 1 ? counted : ofRequest;
  const count = counted === minute ? used : 0;
  if (count >= must(row.perMinute, 'limit of a limited function'))
    throw new PkiError('function-closed', `${name} is limited to ${row.perMinute} a minute${said(row)}`);
  const after = { ...key, value: `${minute} ${count + 1}` };
  if (before) tx.update('meta', after, before);
  else tx.insert('meta', after);
}
