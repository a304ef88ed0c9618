import { type Bytes, hex } from '../core/bytes.ts';
import { DerReader } from '../core/der-reader.ts';
import { context, objectIdentifier, tag } from '../core/der-writer.ts';
import { oid } from '../core/oids.ts';
import { openSigned } from '../core/signed-data.ts';

/** What a publisher must know of a CRL it finds. */
export interface ParsedCrl {
  readonly toBeSigned: Bytes;
  readonly signature: Bytes;
  readonly thisUpdateMs: number;
  readonly nextUpdateMs: number;
  readonly number: number;
}

const cRLNumberId = hex(objectIdentifier(oid.cRLNumber).subarray(2));

/** Reads a CRL of ours; `DerError` where it is not one. */
export function parseCrl(der: Bytes): ParsedCrl {
  const { toBeSigned, signature } = openSigned(der);
  const tbs = new DerReader(toBeSigned).enter(tag.sequence);
  if (tbs.smallInteger() !== 1) tbs.fail('not a v2 CRL');
  tbs.whole(tag.sequence);
  tbs.whole(tag.sequence);
  const thisUpdateMs = tbs.time();
  const nextUpdateMs = tbs.time();
  if (tbs.peek() === tag.sequence) tbs.whole();
  const wrapper = tbs.enter(context(0));
  const extensions = wrapper.enter(tag.sequence);
  tbs.end();
  while (!extensions.atEnd) {
    const extension = extensions.enter(tag.sequence);
    const id = extension.objectIdentifier();
    if (extension.peek() === tag.boolean) extension.boolean();
    const value = extension.content(tag.octetString);
    if (id !== cRLNumberId) continue;
    const number = Number(`0x${hex(new DerReader(value).unsigned())}`);
    return { toBeSigned, signature, thisUpdateMs, nextUpdateMs, number };
  }
  return extensions.fail('a CRL without a number');
}
