import type { ParsedTbsCertificate } from '../../../core/asn1/certificate-reader.ts';
import { objectIdentifier } from '../../../core/asn1/der-writer.ts';
import { oid } from '../../../core/asn1/oids.ts';
import { type Bytes, hex } from '../../../core/runtime/bytes.ts';
import type { IssuerContext } from '../certificate.ts';
import { type ExtensionName, extensionNames, type Profile } from '../profiles.ts';

/** To-be-signed bytes taken apart, as lints look at them. */
export interface Subject {
  readonly tbs: ParsedTbsCertificate & { readonly signatureField: Bytes };
  readonly profile: Profile;
  readonly issuer: IssuerContext;
  /** The value of an extension; undefined where it is missing. */
  readonly extension: (name: ExtensionName) => Bytes | undefined;
}

/** One rule: with its source, and what is wrong, or undefined. */
export interface Lint {
  readonly rule: string;
  readonly check: (subject: Subject) => string | undefined;
}

/** Content octets of each extension's OID, hex, as the certificate reader names them. */
export const extensionIds = Object.fromEntries(
  extensionNames.map((name) => [name, hex(objectIdentifier(oid[name]).subarray(2))]),
) as Readonly<Record<ExtensionName, string>>;
