import { h, svg } from './dom.ts';
import { short } from './format.ts';
import { named, t } from './language.ts';
import type { Change, Plan } from './types.ts';

const [rowHeight, boxWidth, boxHeight, gap] = [64, 250, 48, 110];

/** The certificates that a plan changes, in columns: those that the event names, and behind each what rests on it. */
function columnsOf(changes: readonly Change[]): Change[][] {
  const bySerial = new Map(changes.map((change) => [change.serialNumber, change]));
  const depthOf = (change: Change, seen = 0): number => {
    const from = change.cause.cascadedFrom && bySerial.get(change.cause.cascadedFrom.serialNumber);
    return from && from !== change && seen < changes.length ? 1 + depthOf(from, seen + 1) : 0;
  };
  const columns: Change[][] = [];
  for (const change of changes) {
    const depth = depthOf(change);
    columns[depth] = [...(columns[depth] ?? []), change];
  }
  return columns;
}

/** Whether a plan does nothing at all. */
export const isNothing = ({ changes, orders, reissue, standing, confirmed = [] }: Plan): boolean =>
  changes.length + orders.length + reissue.length + confirmed.length === 0 && !standing;

/** What a plan does, as a picture; and the same in words, for who does not see it. */
export function planPicture(event: string, plan: Plan): HTMLElement {
  if (isNothing(plan)) return h('p', {}, t('event.nothing'));
  // A holder who is closed, and has nothing that could be revoked.
  if (plan.changes.length === 0)
    return h(
      'ul',
      {},
      notesOf(plan).map((note) => h('li', {}, note)),
    );
  const columns = columnsOf(plan.changes);
  const places = new Map<string, { x: number; y: number }>();
  const rows = Math.max(...columns.map((column) => column.length));
  const xOf = (column: number): number => 160 + gap / 2 + column * (boxWidth + gap);
  for (const [i, column] of columns.entries())
    for (const [row, { serialNumber }] of column.entries())
      places.set(serialNumber, { x: xOf(i), y: row * rowHeight + 8 });
  const width = xOf(columns.length - 1) + boxWidth + 8;
  const height = rows * rowHeight + 8;
  const words = plan.changes.map(({ kind, authority, serialNumber, from, to }) =>
    [
      t('plan.change', named('kind', kind), named('state', from.state), named('state', to.state)),
      ...(to.state === 'revoked' && to.reason !== null ? [named('reason', to.reason)] : []),
      `${authority}/${serialNumber}`,
    ].join(' · '),
  );
  const picture = svg(
    'svg',
    {
      viewBox: `0 0 ${width} ${height}`,
      width,
      height,
      role: 'img',
      'aria-label': t('plan.alt', plan.changes.length, words.join('; ')),
      class: 'plan',
    },
    plan.changes.map((change) => edge(change, places, height)),
    svg('rect', {
      x: 4,
      y: height / 2 - boxHeight / 2,
      width: 150,
      height: boxHeight,
      rx: 8,
      class: 'event',
    }),
    svg('text', { x: 79, y: height / 2 + 5, 'text-anchor': 'middle' }, short(named('event', event), 20)),
    plan.changes.map((change) => box(change, places)),
  );
  return h(
    'figure',
    {},
    h('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': t('plan') }, picture),
    h(
      'figcaption',
      {},
      h(
        'ul',
        {},
        words.map((each) => h('li', {}, each)),
        notesOf(plan).map((note) => h('li', {}, note)),
      ),
    ),
  );
}

function notesOf({ orders, reissue, standing, confirmed = [] }: Plan): string[] {
  return [
    ...(orders.length > 0 ? [t('plan.orders', orders.length)] : []),
    ...(reissue.length > 0
      ? [t('plan.reissue', reissue.map(({ kind }) => named('kind', kind)).join(', '))]
      : []),
    ...(standing ? [t('plan.standing', named('standing', standing))] : []),
    ...(confirmed.length > 0 ? [t('plan.confirmed', confirmed.length)] : []),
  ];
}

function edge(
  { serialNumber, cause }: Change,
  places: ReadonlyMap<string, { x: number; y: number }>,
  height: number,
): SVGElement | null {
  const to = places.get(serialNumber);
  if (!to) return null;
  const from = cause.cascadedFrom && places.get(cause.cascadedFrom.serialNumber);
  const [x, y] = from ? [from.x + boxWidth, from.y + boxHeight / 2] : [154, height / 2];
  const middle = (x + to.x) / 2;
  const end = to.y + boxHeight / 2;
  return svg('path', { d: `M${x} ${y}C${middle} ${y} ${middle} ${end} ${to.x} ${end}`, class: 'edge' });
}

function box(
  { kind, serialNumber, from, to }: Change,
  places: ReadonlyMap<string, { x: number; y: number }>,
): SVGElement[] {
  const { x, y } = places.get(serialNumber) ?? { x: 0, y: 0 };
  return [
    svg('rect', { x, y, width: boxWidth, height: boxHeight, rx: 8, class: `box ${to.state}` }),
    svg('text', { x: x + 12, y: y + 20, class: 'strong' }, named('kind', kind)),
    svg(
      'text',
      { x: x + 12, y: y + 38 },
      `${short(serialNumber, 8)} · ${named('state', from.state)} → ${named('state', to.state)}`,
    ),
  ];
}
