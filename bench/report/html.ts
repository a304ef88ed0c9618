import type { Second } from '../load/checked-load.ts';
import { percentile } from '../load/checked-load.ts';
import { shown } from '../load/measure.ts';
import type { Run } from './history.ts';

// A report in one file of HTML, without anything from elsewhere: figures, machine, what changed since the run before, and plots in SVG.

/** One curve, over numbers of something. */
export interface Curve {
  readonly title: string;
  readonly x: string;
  readonly y: string;
  readonly points: readonly (readonly [x: number, y: number])[];
}

/** What is drawn besides the figures. */
export interface Drawn {
  readonly perSecond?: readonly Second[];
  /** Sorted. */
  readonly latenciesMs?: Float64Array;
  readonly curves?: readonly Curve[];
}

const escaped = (text: string): string =>
  text.replace(
    /[&<>"]/g,
    (found) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[found] ?? '',
  );

const [width, height, left, bottom] = [640, 220, 56, 28];

interface Line {
  readonly name: string;
  readonly colour: string;
  readonly points: readonly (readonly [x: number, y: number])[];
}

/** Lines over axes that begin at zero, with marks that are round. */
function plot(
  title: string,
  units: { readonly x: string; readonly y: string },
  lines: readonly Line[],
  marks?: readonly (readonly [number, string])[],
): string {
  const all = lines.flatMap(({ points }) => points);
  const mostX = Math.max(...all.map(([x]) => x), 1e-9);
  const mostY = roundUp(Math.max(...all.map(([, y]) => y), 1e-9));
  const x = (value: number): number => left + (value / mostX) * (width - left - 12);
  const y = (value: number): number => height - bottom - (value / mostY) * (height - bottom - 12);
  const xMarks =
    marks ?? [0, 0.25, 0.5, 0.75, 1].map((share) => [share * mostX, shown(share * mostX)] as const);
  const grid = [0, 0.25, 0.5, 0.75, 1].map((share) => {
    const at = y(share * mostY);
    return `<line x1="${left}" x2="${width - 12}" y1="${at}" y2="${at}" class="grid"/><text x="${left - 6}" y="${at + 4}" text-anchor="end">${shown(share * mostY)}</text>`;
  });
  const below = xMarks.map(
    ([value, text]) => `<text x="${x(value)}" y="${height - 10}" text-anchor="middle">${text}</text>`,
  );
  const drawn = lines.map(
    ({ colour, points }) =>
      `<polyline fill="none" stroke="${colour}" stroke-width="2" points="${points.map(([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`).join(' ')}"/>`,
  );
  const legend = lines
    .map(({ name, colour }) => `<span><i style="background:${colour}"></i>${escaped(name)}</span>`)
    .join('');
  return `<figure><figcaption><h2>${escaped(title)}</h2><p class="legend">${legend}<span class="muted">${escaped(units.y)} over ${escaped(units.x)}</span></p></figcaption>
<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${escaped(title)}">${grid.join('')}${below.join('')}${drawn.join('')}</svg></figure>`;
}

function roundUp(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  return ([1, 2, 2.5, 5, 10].find((step) => step * power >= value) ?? 10) * power;
}

/** Answers a second, latency within each second, and the distribution of all latencies. */
function plotsOf({ perSecond, latenciesMs, curves = [] }: Drawn): string {
  const drawn = curves.map(({ title, x, y, points }) =>
    plot(
      title,
      { x, y },
      [{ name: y, colour: '#1d4f91', points }],
      points.map(([value]) => [value, String(value)]),
    ),
  );
  return [...drawn, ...(perSecond && latenciesMs ? loadPlots(perSecond, latenciesMs) : [])].join('\n');
}

function loadPlots(perSecond: readonly Second[], latenciesMs: Float64Array): string[] {
  const over = (of: (second: Second) => number): [number, number][] =>
    perSecond.map((second, i) => [i + 1, of(second)]);
  // 0.9 is one, 0.99 two, 0.999 three: how far a percentile is from the end.
  const steps = Array.from({ length: 61 }, (_, i) => i / 20);
  const distribution = steps.map((step): [number, number] => [
    step,
    percentile(latenciesMs, 1 - 10 ** -step),
  ]);
  return [
    plot('Right answers a second', { x: 'seconds', y: 'answers' }, [
      { name: 'right', colour: '#12683d', points: over(({ correct }) => correct) },
      { name: 'wrong', colour: '#a01c2b', points: over(({ wrong }) => wrong) },
    ]),
    plot('Latency within each second', { x: 'seconds', y: 'milliseconds' }, [
      { name: 'p50', colour: '#1d4f91', points: over(({ p50Ms }) => p50Ms || 0) },
      { name: 'p99', colour: '#b3541e', points: over(({ p99Ms }) => p99Ms || 0) },
    ]),
    plot(
      'Distribution of latencies',
      { x: 'share of the answers', y: 'milliseconds' },
      [{ name: 'latency', colour: '#1d4f91', points: distribution.filter(([, ms]) => !Number.isNaN(ms)) }],
      [
        [0, '0'],
        [1, 'p90'],
        [2, 'p99'],
        [3, 'p99.9'],
      ],
    ),
  ];
}

/** What was measured a second, each with its ceiling and its rivals, as bars. */
function barsOf(figures: Run['figures']): string {
  const rates = Object.entries(figures).filter(
    (each): each is [string, number] => each[0].endsWith('PerSecond') && Number.isFinite(each[1]),
  );
  if (rates.length < 2) return '';
  const most = Math.max(...rates.map(([, rate]) => rate), 1e-9);
  const [step, nameWidth] = [24, 250];
  const rows = rates.map(([name, rate], i) => {
    const [top, length] = [i * step, (rate / most) * (width - nameWidth - 70)];
    return `<text x="${nameWidth - 8}" y="${top + 16}" text-anchor="end">${escaped(name)}</text><rect x="${nameWidth}" y="${top + 4}" width="${length.toFixed(1)}" height="${step - 8}" fill="#1d4f91"/><text x="${(nameWidth + length + 6).toFixed(1)}" y="${top + 16}">${shown(rate)}</text>`;
  });
  return `<figure><figcaption><h2>What was measured a second: ours, ceilings and rivals</h2></figcaption>
<svg viewBox="0 0 ${width} ${rates.length * step}" role="img" aria-label="Figures a second, as bars">${rows.join('')}</svg></figure>`;
}

/** How a figure has changed since the run before. */
function change(now: unknown, before: unknown): string {
  if (typeof now !== 'number' || typeof before !== 'number' || before === 0) return '';
  const percent = (100 * (now - before)) / before;
  return `${percent >= 0 ? '+' : '−'}${Math.abs(percent).toFixed(1)} %`;
}

/** Figures of several runs, as far as they are numbers, one beside the other. */
function historyOf(run: Run, before: readonly Run[], names: readonly string[]): string {
  if (before.length === 0) return '';
  const all = [...before.slice(-19), run];
  return names
    .map((name) => {
      const points = all.flatMap(({ figures }, i): [number, number][] => {
        const value = figures[name];
        return typeof value === 'number' && Number.isFinite(value) ? [[i + 1, value]] : [];
      });
      return points.length < 2
        ? ''
        : plot(`${name}, run by run`, { x: 'runs', y: name }, [{ name, colour: '#1d4f91', points }]);
    })
    .join('\n');
}

export function htmlReport(run: Run, before: readonly Run[], drawn?: Drawn): string {
  const last = before.at(-1);
  const rows = Object.entries(run.figures).map(([name, value]) => {
    const text = typeof value === 'number' ? shown(value) : String(value);
    const earlier = last?.figures[name];
    return `<tr><th scope="row">${escaped(name)}</th><td>${escaped(text)}</td>${last ? `<td>${typeof earlier === 'number' ? shown(earlier) : ''}</td><td>${change(value, earlier)}</td>` : ''}</tr>`;
  });
  const { processor, cores, memoryGiB, system, node } = run.machine;
  const ratios = Object.keys(run.figures)
    .filter((name) => /To[A-Z]|PerSecond$|^p99Ms$/.test(name))
    .slice(0, 4);
  const isDisturbed = run.figures.disturbed === true;
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>Warifu bench ${escaped(run.bench)}</title>
<style>
:root { color-scheme: light dark; font-family: system-ui, sans-serif; line-height: 1.5; }
body { margin: 0 auto; max-width: 52rem; padding: 1rem; background: light-dark(#f6f7f9, #12161c); color: light-dark(#1b2430, #e7ecf3); }
table { border-collapse: collapse; width: 100%; background: light-dark(#fff, #1a2029); }
th, td { text-align: right; padding: .3rem .6rem; border-bottom: 1px solid light-dark(#d3d9e1, #333d4a); font-variant-numeric: tabular-nums; }
td, th[scope=col] { white-space: nowrap; }
th[scope=row] { text-align: left; font-weight: 500; overflow-wrap: anywhere; }
@media (max-width: 32rem) { table { font-size: .8rem; } th, td { padding: .25rem .35rem; } }
figure { margin: 1.5rem 0; background: light-dark(#fff, #1a2029); border: 1px solid light-dark(#d3d9e1, #333d4a); border-radius: .5rem; padding: .75rem; }
h2 { font-size: 1rem; margin: 0; } svg { width: 100%; height: auto; } svg text { font-size: 11px; fill: light-dark(#55606e, #a9b4c2); }
.grid { stroke: light-dark(#e4e8ee, #2a3340); } .muted { color: light-dark(#55606e, #a9b4c2); } .legend { display: flex; gap: 1rem; margin: 0; font-size: .85rem; }
.legend i { display: inline-block; width: .8rem; height: .8rem; border-radius: .2rem; margin-right: .3rem; vertical-align: -1px; }
.disturbed { border: 1px solid #a01c2b; color: light-dark(#a01c2b, #ff9aa5); border-radius: .4rem; padding: .5rem .8rem; }
</style></head><body>
<h1>${escaped(run.bench)}</h1>
<p class="muted">${escaped(run.at)} · ${escaped(run.options)}<br>${escaped(processor)}, ${cores} cores, ${memoryGiB} GiB, ${escaped(system)}, Node ${escaped(node)}</p>
${isDisturbed ? `<p class="disturbed">This run was disturbed: ${escaped(String(run.figures.disturbedBy ?? 'answers were wrong, late or too few'))}. Its figures say little.</p>` : ''}
${drawn ? plotsOf(drawn) : ''}
${barsOf(run.figures)}
<table><thead><tr><th scope="col">figure</th><th scope="col">this run</th>${last ? '<th scope="col">before</th><th scope="col">change</th>' : ''}</tr></thead><tbody>${rows.join('')}</tbody></table>
${historyOf(run, before, ratios)}
</body></html>
`;
}
