import type { ServerResponse } from 'node:http';

// What load balancers and supervisors ask: `/live`, whether the process serves at all, and `/ready`, whether it may be sent requests. Neither
// asks for a credential, or says anything but why not.

export const probePaths = ['/live', '/ready'] as const;
export type ProbePath = (typeof probePaths)[number];

export const isProbe = (path: string): path is ProbePath => (probePaths as readonly string[]).includes(path);

/** Answers 200, or 503 with the reasons, a line each. `reasons`: why no request should be sent here now. */
export function answerProbe(
  response: ServerResponse,
  { path, method, reasons }: { path: ProbePath; method: string | undefined; reasons: readonly string[] },
): void {
  if (method !== 'GET' && method !== 'HEAD') {
    response.writeHead(405, { Allow: 'GET, HEAD', 'Content-Length': 0 }).end();
    return;
  }
  const isGood = path === '/live' || reasons.length === 0;
  const text = Buffer.from(isGood ? `${path.slice(1)}\n` : reasons.map((reason) => `${reason}\n`).join(''));
  response.writeHead(isGood ? 200 : 503, {
    'Content-Type': 'text/plain; charset=utf-8',
    'Content-Length': text.length,
    'Cache-Control': 'no-store',
  });
  response.end(method === 'HEAD' ? undefined : text);
}
