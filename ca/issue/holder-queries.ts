import { createCipheriv, createDecipheriv, createHmac, randomBytes } from 'node:crypto';
import { durationMs } from '../../core/config/duration.ts';
import { dateInJapan } from '../../core/model/calendar.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { CertificateAuthority } from './certificate-authority.ts';

// What relying parties asked about a holder, kept for that holder alone: verifier, purpose and day, sealed under a key of the holder and the
// year. Without the holder's id no row says whose it is, nor which verifier asked, so that no one can list them.

/** What a verifier said that it asked. */
export interface HolderQuery {
  readonly verifier: string;
  readonly purpose: string | null;
  /** `YYYY-MM-DD` in Japan. */
  readonly day: string;
}

type Ca = Pick<CertificateAuthority, 'accesses' | 'config' | 'clock' | 'sealer'>;

const dayMs = 86_400_000;

interface HolderKeys {
  readonly seal: Bytes;
  readonly tag: Bytes;
  readonly entry: Bytes;
}

async function keysOf({ sealer }: Pick<Ca, 'sealer'>, holderId: string, year: number): Promise<HolderKeys> {
  const key = await sealer.derived(`queries:${year}`, Buffer.from(holderId));
  const derived = (use: string): Bytes => createHmac('sha256', key).update(use).digest();
  return { seal: derived('seal'), tag: derived('tag').subarray(0, 16), entry: derived('entry') };
}

const dayOf = (nowMs: number): string => {
  const { year, month, day } = dateInJapan(nowMs);
  return [year, month, day].map((part) => String(part).padStart(2, '0')).join('-');
};

/** Keeps what a verifier asked about a holder, where that is configured: once for a day. */
export async function keepQuery(
  ca: Ca,
  holderId: string,
  { verifier, purpose }: Pick<HolderQuery, 'verifier' | 'purpose'>,
): Promise<void> {
  const { queries } = ca.config.reading;
  if (queries === '0') return;
  const nowMs = ca.clock.wallMs();
  const query: HolderQuery = { verifier, purpose, day: dayOf(nowMs) };
  const { seal, tag, entry } = await keysOf(ca, holderId, new Date(nowMs).getUTCFullYear());
  const plain = Buffer.from(JSON.stringify(query));
  const iv = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', seal, iv);
  const sealed = Buffer.concat([iv, cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
  const hash = createHmac('sha256', entry).update(plain).digest();
  // Of whole days, so that the row does not say when in the day it was.
  const expiresMs = Math.ceil((nowMs + durationMs(queries)) / dayMs) * dayMs;
  await ca.accesses.note([], [{ tag, entry: hash, sealed, expiresMs }]);
}

/** Tags under which a holder's queries are kept, of this year and the one before. */
export async function queryTags(ca: Ca, holderId: string): Promise<readonly HolderKeys[]> {
  const year = new Date(ca.clock.wallMs()).getUTCFullYear();
  return Promise.all([year, year - 1].map((each) => keysOf(ca, holderId, each)));
}

/** Opens what was kept; `internal` where it was altered. */
export function openQuery(keys: readonly HolderKeys[], sealed: Bytes): HolderQuery {
  for (const { seal } of keys)
    try {
      const decipher = createDecipheriv('aes-256-gcm', seal, sealed.subarray(0, 12), { authTagLength: 16 });
      decipher.setAuthTag(sealed.subarray(-16));
      const plain = Buffer.concat([decipher.update(sealed.subarray(12, -16)), decipher.final()]);
      return JSON.parse(plain.toString('utf8')) as HolderQuery;
    } catch (error) {
      if (error instanceof SyntaxError) throw error;
    }
  throw new PkiError('internal', 'what a verifier asked was altered');
}
