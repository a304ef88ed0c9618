import type { CertificateId } from '../../core/model/certificate-id.ts';

// What an issuance takes the place of, as `succession.replaced` keeps it. What its request was answered stays as it was; what ends may
// be other certificates, once a delivery is confirmed.

export interface Replaced {
  readonly answered: readonly CertificateId[];
  readonly ending: readonly CertificateId[];
}

/** A list where both are the same: the only form that earlier versions know. */
export function replacedIn(text: string | null): Replaced {
  if (text === null) return { answered: [], ending: [] };
  const value = JSON.parse(text) as readonly CertificateId[] | Replaced;
  return 'answered' in value ? value : { answered: value, ending: value };
}

export function textOfReplaced({ answered, ending }: Replaced): string {
  const [first, second] = [answered, ending].map((keys) => JSON.stringify(keys));
  return first === second ? String(first) : JSON.stringify({ answered, ending });
}
