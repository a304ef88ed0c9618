import { type Coding, codings } from './files.ts';

/** Weight of what is acceptable only because nothing excludes it (RFC 9110 §12.5.3): below any that can be written. */
const implied = 0.0001;

/**
 * The coding to answer in: the one of the highest weight that Accept-Encoding gives, and of equal ones the smallest body
 * (RFC 9110 §12.5.3). `*` does not say that a client knows zstd, which is younger than most clients.
 */
export function codingFor(acceptEncoding: string): Coding {
  if (acceptEncoding.trim() === '') return 'identity';
  const weights = new Map<string, number>();
  for (const item of acceptEncoding.split(',')) {
    const [name = '', ...parameters] = item
      .trim()
      .toLowerCase()
      .split(/\s*;\s*/);
    const weight = parameters.find((parameter) => parameter.startsWith('q='))?.slice(2);
    // x-gzip is gzip (§8.4.1.3). A coding with an invalid weight is not wanted.
    const coding = name === 'x-gzip' ? 'gzip' : name;
    const value =
      weight === undefined ? 1 : /^(0(\.\d{0,3})?|1(\.0{0,3})?)$/.test(weight) ? Number(weight) : 0;
    weights.set(coding, Math.max(value, weights.get(coding) ?? 0));
  }
  const others = weights.get('*');
  const weightOf: Readonly<Record<Coding, number>> = {
    zstd: weights.get('zstd') ?? 0,
    gzip: weights.get('gzip') ?? others ?? 0,
    identity: weights.get('identity') ?? others ?? implied,
  };
  const best = Math.max(...Object.values(weightOf));
  // Where all are excluded the body is given as it is, which the client may still be able to use.
  return best > 0 ? (codings.find((coding) => weightOf[coding] === best) ?? 'identity') : 'identity';
}
