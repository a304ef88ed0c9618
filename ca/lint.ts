import type { Bytes } from '../core/bytes.ts';
import { parseTbsCertificate } from '../core/certificate-reader.ts';
import { DerError } from '../core/der-reader.ts';
import type { IssuerContext } from './certificate.ts';
import { authorityKeyIdentifier } from './lints/authority-key-identifier.ts';
import { basicFour } from './lints/basic-four.ts';
import { criticality } from './lints/criticality.ts';
import { distributionPoint } from './lints/distribution-point.ts';
import { endOfDay } from './lints/end-of-day.ts';
import { extensions } from './lints/extensions.ts';
import { issuerName } from './lints/issuer-name.ts';
import { keyType } from './lints/key-type.ts';
import { keyUsage } from './lints/key-usage.ts';
import { extensionIds, type Lint, type Subject } from './lints/lint.ts';
import { nameLengths } from './lints/name-lengths.ts';
import { serialNumber } from './lints/serial-number.ts';
import { signatureField } from './lints/signature-field.ts';
import { subjectKeyIdentifier } from './lints/subject-key-identifier.ts';
import { subjectName } from './lints/subject-name.ts';
import { validity } from './lints/validity.ts';
import { type ProfileKind, profiles } from './profiles.ts';

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
