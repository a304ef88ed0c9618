import type { Bytes } from './bytes.ts';
import {
  context,
  explicit,
  objectIdentifier,
  printableString,
  sequence,
  tag,
  tlv,
  utf8String,
} from './der-writer.ts';
import { oid } from './oids.ts';

const attributeTypes = {
  C: oid.countryName,
  L: oid.localityName,
  O: oid.organizationName,
  OU: oid.organizationalUnitName,
  CN: oid.commonName,
} as const;

export type NameAttribute = readonly [type: keyof typeof attributeTypes, value: string];

/** A Name, one attribute a RDN, in the order given: C as PrintableString, the rest UTF8String (RFC 5280 §4.1.2.4). */
export function encodeName(attributes: readonly NameAttribute[]): Bytes {
  return sequence(
    ...attributes.map(([type, value]) =>
      tlv(
        tag.set,
        sequence(
          objectIdentifier(attributeTypes[type]),
          type === 'C' ? printableString(value) : utf8String(value),
        ),
      ),
    ),
  );
}

/** GeneralName.directoryName [4], explicit because Name is a CHOICE (RFC 5280 §4.2.1.6). */
export const directoryName = (name: Bytes): Bytes => explicit(4, name);

/** GeneralName.uniformResourceIdentifier [6]. */
export const uriName = (uri: string): Bytes => tlv(context(6, 'primitive'), Buffer.from(uri, 'latin1'));
