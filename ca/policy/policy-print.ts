import { type HolderKind, holderKinds } from '../../core/model/kinds.ts';
import type { PolicyCell } from '../../store/api/policy.ts';
import type { Policy } from '../config/config.ts';

// The table of life events for people: as text, and as a picture.

const words = (cell: PolicyCell): string =>
  cell === 'none' ? '–' : cell.startsWith('revoke:') ? cell.slice('revoke:'.length) : cell;

/** The table in Markdown. */
export function printPolicy({ events, cascade, releasable }: Policy): string {
  const head = ['event', 'happens to', ...holderKinds, 'cascade', 'issued again', 'besides that'];
  const rows = Object.entries(events).map(([name, rule]) => [
    name,
    rule.target,
    ...holderKinds.map((kind) => words(rule.kinds[kind])),
    rule.cascade,
    rule.reissue.join(', ') || '–',
    besides(rule).join('; ') || '–',
  ]);
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [
    line(head),
    line(head.map(() => '---')),
    ...rows.map(line),
    '',
    `A reason stands for a revocation. Held card certificates ${cascade.hold === 'hold' ? 'hold' : 'leave alone'} what rests on them. Released from hold: ${releasable.join(', ') || 'nothing'}.`,
    '',
  ].join('\n');
}

/** What an event does, or does not, besides changing certificates. */
function besides({
  register,
  renewal,
  phones,
  endsHoldsOf,
  standing,
  delivery,
  lastDay,
  corrects,
}: Policy['events'][string]): string[] {
  return [
    ...(register ? ['reported again it changes nothing'] : []),
    ...(renewal ? ['not before its window'] : []),
    ...(phones === 'enrolled-since' ? ['holds only phones enrolled since'] : []),
    ...(endsHoldsOf.length > 0 ? [`concerns only what ${endsHoldsOf.join(', ')} holds`] : []),
    ...(standing === 'unchanged' ? [] : [standings[standing]]),
    ...(delivery === 'confirms' ? ['what was issued to the card is good from now on'] : []),
    ...(delivery === 'discards' ? ['what was issued to the card takes the place of nothing'] : []),
    ...(lastDay === 'moves' ? ['brings the card’s last day'] : []),
    ...(corrects ? ['brings birth date or sex'] : []),
  ];
}

const standings = {
  closes: 'nothing more is issued, until a correction is approved',
  leaves: 'nothing more is issued, until the holder returns',
  returns: 'who left is issued to again',
  'bars-signing': 'no signing certificate from now on',
  'allows-signing': 'signing certificates again',
} as const;

const row = { height: 26, top: 64 } as const;
const columns = { event: 12, cells: 272, width: 150 } as const;

const colours = {
  none: ['#f4f4f2', '#77756d'],
  hold: ['#f7e3a1', '#5c4600'],
  release: ['#c9e7cf', '#124d1f'],
  revoke: ['#f3c1b7', '#6d1606'],
} as const;

const colourOf = (cell: PolicyCell): readonly [fill: string, ink: string] =>
  colours[cell.startsWith('revoke') ? 'revoke' : (cell as 'none' | 'hold' | 'release')];

const text = (x: number, y: number, content: string, attributes = ''): string =>
  `<text x="${x}" y="${y}" ${attributes}>${content.replaceAll('&', '&amp;').replaceAll('<', '&lt;')}</text>`;

/** The table as an SVG: a row an event, a column a kind, a bracket where all of a phone goes with its card. */
export function drawPolicy({ events }: Policy): string {
  const rows = Object.entries(events);
  const width = columns.cells + holderKinds.length * columns.width + 12;
  const height = row.top + rows.length * row.height + 40;
  const drawn = rows.map(([name, { target, kinds, cascade, reissue }], i) => {
    const y = row.top + i * row.height;
    const cells = holderKinds.map((kind, column) => cellAt(kinds[kind], column, y, reissue.includes(kind)));
    const whole = cascade === 'whole' ? '  ⇉' : '';
    return [
      text(columns.event, y + 17, `${name}${whole}`, 'fill="#1f1e1b"'),
      text(columns.cells - 12, y + 17, target, 'fill="#77756d" text-anchor="end"'),
      ...cells,
    ].join('\n');
  });
  const heads = holderKinds.map((kind: HolderKind, i) =>
    text(columns.cells + i * columns.width + 8, row.top - 12, kind, 'font-weight="bold" fill="#1f1e1b"'),
  );
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" font-family="sans-serif" font-size="12">`,
    '<title>What life events do to certificates</title>',
    '<rect width="100%" height="100%" fill="#ffffff"/>',
    text(columns.event, 24, 'What life events do to certificates', 'font-size="16" fill="#1f1e1b"'),
    ...heads,
    ...drawn,
    text(
      columns.event,
      height - 14,
      '↻ reissued     ⇉ all of a phone goes with its card; otherwise what rests on the certificate',
      'fill="#77756d"',
    ),
    '</svg>',
    '',
  ].join('\n');
}

function cellAt(cell: PolicyCell, column: number, y: number, isReissued: boolean): string {
  const [fill, ink] = colourOf(cell);
  const x = columns.cells + column * columns.width;
  return [
    `<rect x="${x}" y="${y}" width="${columns.width - 6}" height="${row.height - 4}" rx="3" fill="${fill}"/>`,
    text(x + 8, y + 15, `${words(cell)}${isReissued ? ' ↻' : ''}`, `fill="${ink}" font-size="11"`),
  ].join('\n');
}
