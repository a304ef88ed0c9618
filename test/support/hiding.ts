import { DerReader } from '../../core/asn1/der-reader.ts';
import {
  bitString,
  context,
  explicit,
  objectIdentifier,
  octetString,
  sequence,
  tag,
} from '../../core/asn1/der-writer.ts';

/** Forges a certificate: it copies the fields of `outer`, carries `inner` as PEM in a further extension, and has no valid signature. */
export function hiding(outer: Uint8Array, inner: Uint8Array, ...more: readonly Uint8Array[]): Buffer {
  const list = new DerReader(outer).enter(tag.sequence);
  const signed = new DerReader(list.whole(tag.sequence)).enter(tag.sequence);
  const parts: Uint8Array[] = [];
  while (signed.peek() !== context(3)) parts.push(signed.whole());
  const extensions: Uint8Array[] = [];
  for (const own = signed.enter(context(3)).enter(tag.sequence); !own.atEnd; ) extensions.push(own.whole());
  const lines =
    Buffer.from(inner)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  const pem = ['', '-----BEGIN CERTIFICATE-----', ...lines, '-----END CERTIFICATE-----', ''].join('\n');
  const hidden = sequence(objectIdentifier('1.3.6.1.4.1.32473.99'), octetString(Buffer.from(pem)));
  const algorithm = list.whole(tag.sequence);
  const forged = sequence(...parts, explicit(3, sequence(...extensions, ...more, hidden)));
  return Buffer.from(sequence(forged, algorithm, bitString(Buffer.alloc(256))));
}
