import { parseTbsCertificate } from '../../../core/asn1/certificate-reader.ts';
import { DerError } from '../../../core/asn1/der-reader.ts';
import type { Bytes } from '../../../core/runtime/bytes.ts';
import type { IssuerContext } from '../certificate.ts';
import { type ProfileKind, profiles } from '../profiles.ts';
import { authorityKeyIdentifier } from './authority-key-identifier.ts';
import { basicFour } from './basic-four.ts';
import { criticality } from './criticality.ts';
import { distributionPoint } from './distribution-point.ts';
import { endOfDay } from './end-of-day.ts';
import { extensions } from './extensions.ts';
import { issuerName } from './issuer-name.ts';
import { keyType } from './key-type.ts';
import { keyUsage } from './key-usage.ts';
import { extensionIds, type Lint, type Subject } from './lint.ts';
import { nameLengths } from './name-lengths.ts';
import { serialNumber } from './serial-number.ts';
import { signatureField } from './signature-field.ts';
import { subjectKeyIdentifier } from './subject-key-identifier.ts';
import { subjectName } from './subject-name.ts';
import { validity } from './validity.ts';

/** In the order of the fields. */
const lints: readonly Lint[] = [
  serialNumber,
  signatureField,
  issuerName,
  validity,
  endOfDay,
  subjectName,
  nameLengths,
  keyType,
  extensions,
  criticality,
  keyUsage,
  basicFour,
  distributionPoint,
  authorityKeyIdentifier,
  subjectKeyIdentifier,
];

/** Everything that is wrong with to-be-signed bytes; empty where they may be signed. */
export function lint(toBeSigned: Bytes, kind: ProfileKind, issuer: IssuerContext): string[] {
  const tbs = parseTbsCertificate(toBeSigned);
  const extension: Subject['extension'] = (name) =>
    tbs.extensions.find(({ id }) => id === extensionIds[name])?.value;
  const subject = { tbs, profile: profiles[kind], issuer, extension };
  return lints.flatMap(({ rule, check }) => {
    const wrong = found(check, subject);
    return wrong === undefined ? [] : [`${rule}: ${wrong}`];
  });
}

/** A value that cannot be read is wrong too. */
function found(check: Lint['check'], subject: Subject): string | undefined {
  try {
    return check(subject);
  } catch (error) {
    if (error instanceof DerError) return error.message;
    throw error;
  }
}
