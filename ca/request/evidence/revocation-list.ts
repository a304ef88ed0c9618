import { readFileSync, statSync } from 'node:fs';

/** The form in which serial numbers are compared: hex without leading zeros. */
export const plainSerial = (hex: string): string => hex.toLowerCase().replace(/^0+(?=.)/, '');

/**
 * Attestation certificates that were withdrawn, in a file as Google publishes it (developer.android.com, "Certificate
 * revocation status list"): `{"entries": {"SERIAL": {"status": "REVOKED" | "SUSPENDED", …}, …}}`, serial numbers in hex.
 * Older lists have some in decimal: one of digits alone is taken as either. The file is read again when it changes; one that
 * cannot be read leaves what was read before in force.
 */
export class AttestationRevocationList {
  readonly #file: string;
  #serials: ReadonlySet<string> = new Set();
  #changedMs = Number.NaN;
  #fault: string | null = null;

  /** Throws where the file cannot be read at first. */
  constructor(file: string) {
    this.#file = file;
    this.#read();
  }

  /** Whether the list names a serial number, hex. */
  names(serial: string): boolean {
    this.#look();
    return this.#serials.has(plainSerial(serial));
  }

  /** Since when the list in force is what it is, wall-clock milliseconds; and why a later one cannot be read. */
  state(): { readonly changedMs: number; readonly fault: string | null } {
    this.#look();
    return { changedMs: this.#changedMs, fault: this.#fault };
  }

  #look(): void {
    try {
      this.#read();
      this.#fault = null;
    } catch (error) {
      this.#fault = error instanceof Error ? error.message : String(error);
    }
  }

  #read(): void {
    const { mtimeMs } = statSync(this.#file);
    if (mtimeMs === this.#changedMs) return;
    this.#serials = parse(readFileSync(this.#file, 'utf8'));
    this.#changedMs = mtimeMs;
  }
}

function parse(text: string): ReadonlySet<string> {
  const { entries } = JSON.parse(text) as { entries?: Record<string, { status?: unknown }> };
  if (typeof entries !== 'object' || entries === null || Array.isArray(entries))
    throw new Error('it has no entries');
  const serials = new Set<string>();
  for (const [serial, entry] of Object.entries(entries)) {
    if (!/^[0-9a-fA-F]{1,64}$/.test(serial)) throw new Error(`${serial.slice(0, 70)} is no serial number`);
    // Whatever the status is called: the list names what is not to be believed.
    if (typeof entry?.status !== 'string') throw new Error(`${serial} has no status`);
    serials.add(plainSerial(serial));
    if (/^[0-9]+$/.test(serial)) serials.add(BigInt(serial).toString(16));
  }
  return serials;
}
