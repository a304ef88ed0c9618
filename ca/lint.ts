import { type Bytes, equal, hex } from '../core/bytes.ts';
import { type ParsedTbsCertificate, parseTbsCertificate } from '../core/certificate-reader.ts';
import { objectIdentifier } from '../core/der-writer.ts';
import { oid } from '../core/oids.ts';
import type { IssuerContext } from './certificate.ts';
import { type ExtensionName, type ProfileKind, profiles } from './profiles.ts';

type Tbs = ParsedTbsCertificate & { readonly signatureField: Bytes };

/** Returns what is wrong, or undefined. */
type Lint = (tbs: Tbs, kind: ProfileKind, issuer: IssuerContext) => string | undefined;

/** Content octets of an OID, hex, as the certificate reader names extensions. */
const idOf = (name: ExtensionName): string => hex(objectIdentifier(oid[name]).subarray(2));

const mustBeCritical: readonly ExtensionName[] = ['keyUsage', 'basicConstraints', 'certificatePolicies'];

/** One rule, one citation, one entry. */
const lints: Readonly<Record<string, Lint>> = {
  'serial number is positive and of at most 20 octets (RFC 5280 §4.1.2.2)': ({ serial }) =>
    serial.length > 20 || (serial[0] ?? 0) === 0 ? 'serialNumber' : undefined,

  'signature field names the issuer’s algorithm (RFC 5280 §4.1.2.3)': (
    { signatureField },
    _kind,
    { suite },
  ) => (equal(signatureField, suite.algorithmIdentifier) ? undefined : 'signature'),

  'issuer is the CA’s subject, octet for octet (RFC 5280 §4.1.2.4)': ({ issuer }, _kind, context) =>
    equal(issuer, context.issuer) ? undefined : 'issuer',

  'notBefore comes before notAfter (RFC 5280 §4.1.2.5)': ({ notBeforeMs, notAfterMs }) =>
    notBeforeMs < notAfterMs ? undefined : 'validity',

  'extensions are the profile’s, in its order': ({ extensions }, kind) =>
    extensions.map(({ id }) => id).join() === profiles[kind].extensions.map(idOf).join()
      ? undefined
      : 'extensions',

  'only the extensions that must be critical are (RFC 5280 §4.2, scheme profile)': ({ extensions }) => {
    const critical = new Set(mustBeCritical.map(idOf));
    return extensions.find((found) => found.critical !== critical.has(found.id))?.id;
  },
};

/** Everything that is wrong with to-be-signed bytes; empty where they may be signed. */
export function lint(toBeSigned: Bytes, kind: ProfileKind, issuer: IssuerContext): string[] {
  const tbs = parseTbsCertificate(toBeSigned);
  return Object.entries(lints).flatMap(([rule, check]) => {
    const wrong = check(tbs, kind, issuer);
    return wrong === undefined ? [] : [`${rule}: ${wrong}`];
  });
}
