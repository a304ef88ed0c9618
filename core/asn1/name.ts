import { type Bytes, hex, view } from '../runtime/bytes.ts';
import { DerReader } from './der-reader.ts';
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

type AttributeType = keyof typeof attributeTypes;

/** Characters that an attribute may have: ub-common-name and its like (RFC 5280 appendix A.1). */
export const nameLengthMax: Readonly<Record<AttributeType, number>> = { C: 2, L: 128, O: 64, OU: 64, CN: 64 };

const typeById = new Map(
  Object.entries(attributeTypes).map(([type, id]) => [
    hex(objectIdentifier(id).subarray(2)),
    type as AttributeType,
  ]),
);

/** Attributes of a Name DER that are of the types written here, in order. Throws `DerError` where it is no Name. */
export function namesIn(name: Bytes): { type: AttributeType; value: string }[] {
  const attributes = new DerReader(name).enter(tag.sequence);
  const found: { type: AttributeType; value: string }[] = [];
  while (!attributes.atEnd) {
    const attribute = attributes.enter(tag.set).enter(tag.sequence);
    const type = typeById.get(attribute.objectIdentifier());
    const form = attribute.peek() === tag.printableString ? tag.printableString : tag.utf8String;
    const value = view(attribute.content(form)).toString('utf8');
    if (type) found.push({ type, value });
  }
  return found;
}

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
