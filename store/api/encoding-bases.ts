import type { Bytes } from '../../core/runtime/bytes.ts';

/** Octets that many encodings have in common, each by the id under which it was kept. */
export interface EncodingBases {
  encodingBase(baseId: Bytes): Promise<Bytes | undefined>;
  /** Keeps one, once; on disk when it resolves. */
  keepEncodingBase(baseId: Bytes, octets: Bytes): Promise<void>;
}
