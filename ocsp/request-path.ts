/** Base64 of the request behind the responder's address, percent-encoded or not. No octets where it is not base64. */
export function requestInPath(url: string): Buffer {
  const path = url.split('?')[0] ?? '';
  let text: string;
  try {
    text = decodeURIComponent(path.replace(/^\/+/, ''));
  } catch {
    return Buffer.alloc(0);
  }
  const encoded = /^[A-Za-z0-9+/]+={0,2}$/.test(text) ? text : '';
  return Buffer.from(encoded, 'base64');
}
