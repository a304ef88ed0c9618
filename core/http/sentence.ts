import type { IncomingMessage, ServerResponse } from 'node:http';

/** Text for a person who opens the address of a machine interface in a browser. */
export interface Sentence {
  readonly title: string;
  readonly text: string;
}

/** Whether the client accepts HTML, as browsers do. */
export const wantsPage = ({ headers }: IncomingMessage): boolean =>
  /\btext\/html\b/i.test(headers.accept ?? '');

const escaped = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');

/** Sends a static page with one sentence; no scripts, no subresources. */
export function sendSentence(
  response: ServerResponse,
  { title, text }: Sentence,
  method: string | undefined,
): void {
  const page = Buffer.from(
    `<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>${escaped(title)}</title><p>${escaped(text)}</p></html>\n`,
  );
  response.writeHead(200, {
    'Content-Type': 'text/html; charset=utf-8',
    'Content-Length': page.length,
    'Cache-Control': 'no-store',
    'Content-Security-Policy': "default-src 'none'",
    'X-Content-Type-Options': 'nosniff',
  });
  response.end(method === 'HEAD' ? undefined : page);
}
