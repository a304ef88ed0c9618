import { DerReader } from '../../core/asn1/der-reader.ts';
import { tag } from '../../core/asn1/der-writer.ts';
import { type Bytes, digest, view } from '../../core/runtime/bytes.ts';

/** Names the key in what is signed; its public half is `outbox.pem` in the data folder. */
export const keyId = 'outbox-1';

/** What signs a message: ECDSA on P-256 with SHA-256, as X.509 carries it. */
export interface MessageSigner {
  sign(message: Bytes): Promise<Bytes>;
}

const covered = ['@method', '@target-uri', 'content-type', 'content-digest'] as const;

/**
 * Header fields that sign a POST of JSON (RFC 9421, `ecdsa-p256-sha256`, over method, address, type and digest of the
 * content, RFC 9530). `createdMs` is of the attempt: receivers refuse what is old, and what they have had before by its
 * `messageId`.
 */
export async function signedHeaders(
  signer: MessageSigner,
  { url, body, createdMs }: { readonly url: string; readonly body: Bytes; readonly createdMs: number },
): Promise<Record<string, string>> {
  const contentDigest = `sha-256=:${base64(digest('sha256', body))}:`;
  const values = {
    '@method': 'POST',
    '@target-uri': url,
    'content-type': 'application/json',
    'content-digest': contentDigest,
  };
  const components = covered.map((name) => `"${name}"`).join(' ');
  const created = Math.floor(createdMs / 1000);
  const parameters = `(${components});created=${created};keyid="${keyId}";alg="ecdsa-p256-sha256"`;
  const lines = covered.map((name) => `"${name}": ${values[name]}\n`);
  const signatureBase = `${lines.join('')}"@signature-params": ${parameters}`;
  const signature = await signer.sign(Buffer.from(signatureBase));
  return {
    'content-type': values['content-type'],
    'content-digest': contentDigest,
    'signature-input': `warifu=${parameters}`,
    signature: `warifu=:${base64(fixedLength(signature))}:`,
  };
}

const base64 = (octets: Bytes): string => view(octets).toString('base64');

/** r ‖ s, 32 octets each (RFC 9421 §3.3.4), of an ECDSA-Sig-Value. */
function fixedLength(signature: Bytes): Bytes {
  const reader = new DerReader(signature).enter(tag.sequence);
  const out = Buffer.alloc(64);
  for (const end of [32, 64]) {
    const value = reader.content(tag.integer);
    const octets = value[0] === 0 ? value.subarray(1) : value;
    out.set(octets, end - octets.length);
  }
  return out;
}
