import { parseCertificate } from '../../core/asn1/certificate-reader.ts';
import { DerReader } from '../../core/asn1/der-reader.ts';
import { context, objectIdentifier, tag } from '../../core/asn1/der-writer.ts';
import { byIssue } from '../../core/model/issue-order.ts';
import { type Bytes, hex } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { issuedMs } from '../../store/rules/policy/cascade.ts';
import { identityOid, subjectAltNameId } from '../request/identity.ts';
import type { CertificateAuthority } from './certificate-authority.ts';
import { openCertificate } from './enrolling-card.ts';
import type { HolderOnRecord } from './issuance.ts';

/**
 * Refuses another birth date or sex than that of the holder's last signing certificate, unless the register corrected them, by
 * this event or since that certificate: an address or a name changes, a person does not.
 */
export async function refuseOtherPerson(
  ca: CertificateAuthority,
  event: string | undefined,
  identity: Bytes | null,
  holder: HolderOnRecord | undefined,
): Promise<void> {
  const rules = ca.config.policy.events;
  if (!identity || !holder || rules[event ?? '']?.corrects) return;
  const [last] = holder.certificates
    .filter(({ kind, state }) => kind === 'card-signing' && state !== 'reserved')
    .sort((a, b) => byIssue(b, a));
  if (!last) return;
  const isCorrected = holder.facts.events.some(
    (report) => rules[report.event]?.corrects && report.recordedMs >= issuedMs(last),
  );
  const before = isCorrected ? undefined : await identityOf(ca, last);
  if (!before) return;
  for (const [field, member] of [
    [4, 'birthDate'],
    [3, 'sex'],
  ] as const) {
    if (factOf(identity, field) !== factOf(before, field))
      throw new PkiError(
        'bad-request',
        `basicFour.${member}: another than the holder’s last certificate has; where the register corrected it, name the event`,
      );
  }
}

/** GeneralNames of a certificate on record; undefined where its year was erased, or it was never signed. */
async function identityOf(
  ca: CertificateAuthority,
  key: HolderOnRecord['certificates'][number],
): Promise<Bytes | undefined> {
  try {
    const certificate = await openCertificate(ca, key);
    return (
      certificate && parseCertificate(certificate).extensions.find(({ id }) => id === subjectAltNameId)?.value
    );
  } catch (error) {
    if (error instanceof PkiError && error.code === 'not-found') return undefined;
    throw error;
  }
}

/** An otherName's type-id, content octets in hex. */
const fieldId = (field: number): string => hex(objectIdentifier(`${identityOid}.${field}`).subarray(2));

/** One otherName of a certificate's GeneralNames; of a birth date without the digit of its era, which a counter may not know. */
export function factOf(names: Bytes, field: number): string | undefined {
  const outer = new DerReader(names).enter(tag.sequence);
  while (outer.peek() !== undefined) {
    const name = outer.enter(context(0));
    const id = name.objectIdentifier();
    const value = name.enter(context(0)).utf8String();
    if (id === fieldId(field)) return field === 4 ? value.slice(1) : value;
  }
  return undefined;
}
