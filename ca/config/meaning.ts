import { createHash } from 'node:crypto';

// What a configuration file means: its values but for those that say how, and not what, the service does. Defaults are no part of it, so
// that another version of the software starts with the same file.

/** Keys by which only addresses, sizes and speed change. */
const free =
  /^(node|record\.|metrics\.|tracing\.|warnings\.|api\.(host|port)|(ocsp|crl)\.(host|port|threads|workers|cacheBytes|connectionsMax|snapshotEvery|waitingMax|signing|onEventDelay|requestBytesMax)|ocsp\.presign\.|pkcs11\.(signingThreads|isolation|callTimeout|copyKeys)|issuing\.(batchLines|checkThreads)|notices\.(timeout|retryFirst|retryMost|attemptsMax|retention)|limits\.(requestBytesMax|requestTimeout|requestsPerSecond|(connections|atOnce|scansAtOnce|waiting)\.)|audit\.)/;

/** The values of a section by path, such as `limits.cards`; lists count as one. */
function valuesOf(section: object, above = ''): Record<string, unknown> {
  const entries = Object.entries(section).flatMap(([name, value]: [string, unknown]): [string, unknown][] => {
    const path = `${above}${name}`;
    const isSection = typeof value === 'object' && value !== null && !Array.isArray(value);
    return isSection ? Object.entries(valuesOf(value, `${path}.`)) : [[path, value]];
  });
  return Object.fromEntries(entries);
}

/** A digest of each value, by its path. Values themselves stay out of the record: some are addresses of people. */
export const digestsOf = (config: object): Record<string, string> =>
  Object.fromEntries(
    Object.entries(valuesOf(config)).map(([path, value]) => [path, digestOf(value).slice(0, 16)]),
  );

/** SHA-256 of what a configuration file means, hex. */
export function meaningOf(file: object): string {
  const values = Object.entries(valuesOf(file)).filter(([path]) => !free.test(path));
  return digestOf(values.sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** How another file differs from this one in what it means, by path; null stands for a key that is not there. */
export function changesOfMeaning(file: object, next: object): { key: string; from: unknown; to: unknown }[] {
  const [before, after] = [valuesOf(file), valuesOf(next)];
  const paths = [...new Set([...Object.keys(before), ...Object.keys(after)])].sort();
  return paths
    .filter((path) => !free.test(path) && digestOf(before[path]) !== digestOf(after[path]))
    .map((path) => ({ key: path, from: before[path] ?? null, to: after[path] ?? null }));
}

const digestOf = (value: unknown): string =>
  createHash('sha256')
    .update(JSON.stringify(value) ?? '')
    .digest('hex');

/** Keys in which nodes of one service may differ, too: where each has its tokens, and how it is called. */
const ofOneNode = /^(pkcs11\.|api\.names$)/;

/** Keys of two configurations, as digests, that mean something else; what only one version of the software knows is passed over. */
export const differingKeys = (
  a: Readonly<Record<string, string>>,
  b: Readonly<Record<string, string>>,
): string[] =>
  Object.keys(a).filter(
    (key) => !free.test(key) && !ofOneNode.test(key) && b[key] !== undefined && a[key] !== b[key],
  );
