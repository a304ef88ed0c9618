// What a request line and its header fields mean, for the fast path and for node:http alike.

const absoluteForm = /^https?:\/\/[^/?#]*/i;

/**
 * A request target in origin-form. Servers must accept absolute-form, which clients of a proxy send (RFC 9112 §3.2.2); the
 * authority in it says nothing that the Host field does not say.
 */
export function originForm(target: string): string {
  const authority = absoluteForm.exec(target);
  if (!authority) return target;
  const rest = target.slice(authority[0].length);
  return rest.startsWith('/') ? rest : `/${rest}`;
}

/** Whether a Content-Type is that media type: case says nothing, and parameters change nothing (RFC 9110 §8.3.1). */
export function isMediaType(contentType: string | undefined, mediaType: string): boolean {
  return contentType?.split(';', 1)[0]?.trim().toLowerCase() === mediaType;
}
