import { type Children, h, said } from './dom.ts';
import { day, short } from './format.ts';
import { named, t } from './language.ts';
import type { Certificate, Status } from './types.ts';

/** Whether the page’s own title says it: then it is there for those who listen alone. */
const isTitle = (caption: string): boolean =>
  [t('nav.restrictions'), t('nav.switches'), t('nav.authorities')].includes(caption);

/** Times, numbers and words stay on one line. */
const shortMax = 24;
const isShort = (cell: Children): boolean =>
  typeof cell === 'number' || (typeof cell === 'string' && cell.length <= shortMax);

/** A table with its caption; where it has no rows it says so. */
export function table(
  caption: string,
  heads: readonly string[],
  rows: readonly (readonly Children[])[],
  none = t('none'),
): HTMLElement {
  if (rows.length === 0)
    return h(
      'section',
      {},
      h('h2', { class: isTitle(caption) ? 'unseen' : undefined }, caption),
      h('p', { class: 'muted' }, none),
    );
  return h(
    'section',
    {},
    h('h2', { class: isTitle(caption) ? 'unseen' : undefined }, caption),
    h(
      'div',
      { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': caption },
      h(
        'table',
        // Said, because on a narrow page rows are laid out as cards.
        { role: 'table' },
        h(
          'thead',
          { role: 'rowgroup' },
          h(
            'tr',
            { role: 'row' },
            heads.map((head) => h('th', { scope: 'col', role: 'columnheader' }, head)),
          ),
        ),
        h(
          'tbody',
          { role: 'rowgroup' },
          rows.map((cells) =>
            h(
              'tr',
              { role: 'row' },
              cells.map((cell, i) =>
                h(
                  'td',
                  { class: isShort(cell) ? 'short' : undefined, role: 'cell', 'data-head': heads[i] },
                  cell,
                ),
              ),
            ),
          ),
        ),
      ),
    ),
  );
}

/** A status by word, colour and mark. */
export const statusBadge = ({ state, reason }: Pick<Status, 'state' | 'reason'>): HTMLElement =>
  h(
    'span',
    { class: `badge ${state}` },
    named('state', state),
    reason !== null && reason !== 'certificateHold' && ` · ${named('reason', reason)}`,
  );

export const certificateLink = ({
  authority,
  serialNumber,
}: Pick<Certificate, 'authority' | 'serialNumber'>) =>
  h(
    'a',
    { href: `#/certificate/${authority}/${serialNumber}`, class: 'mono', title: serialNumber },
    `${authority} ${short(serialNumber, 10)}`,
  );

/** The card before the phone, and signing first. */
const placeOf = (kind: string): number =>
  ['card-signing', 'card-authentication', 'phone-signing', 'phone-authentication'].indexOf(kind);

export const certificateTable = (certificates: readonly Certificate[]): HTMLElement =>
  table(
    t('certificates'),
    [t('certificate'), t('kind'), t('medium'), t('status'), t('from'), t('to')],
    [...certificates]
      .sort((a, b) => placeOf(a.kind) - placeOf(b.kind))
      .map((each) => [
        certificateLink(each),
        named('kind', each.kind),
        said(each.mediumId),
        statusBadge(each.status),
        day(each.notBefore),
        day(each.notAfter),
      ]),
  );
