import { readFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { PkiError } from '../../core/runtime/errors.ts';
import type { Config } from '../config/config.ts';
import { type ApiDocument, apiPage } from './api-page.ts';

// The console: a page that the API serves, and that asks the same API as every client. A browser sends the client certificate to any page
// that has it asked, so that of a browser nothing is taken but what the console itself has asked for (`refuseOtherPages`).

const folder = new URL('../console/', import.meta.url);

/** What a browser may do with the page: run its scripts, show its style, ask this API, and nothing else. */
const policy = [
  ...["default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "img-src 'self'"],
  ...["base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"],
  ...["require-trusted-types-for 'script'", "trusted-types 'none'"],
].join('; ');

const pageHeaders = {
  'Content-Security-Policy': policy,
  'X-Frame-Options': 'DENY',
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Permissions-Policy': 'camera=(), geolocation=(), microphone=(), payment=(), usb=()',
} as const;

/** Of every answer of the API: what is personal stays in no cache, and is part of no other site’s page. */
const answerHeaders = {
  'Cache-Control': 'no-store',
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
  'Cross-Origin-Resource-Policy': 'same-origin',
} as const;

/** Sent by the console with each request; no form, link or image can. */
const consoleHeader = 'warifu-console';
const consolePath = '/console';

const modules = [
  ...['main', 'api', 'dom', 'messages', 'language', 'format', 'page', 'plan-picture', 'tables', 'types'],
  ...['view-overview', 'view-search', 'view-holder', 'view-event', 'view-approvals', 'view-restrictions'],
  ...['view-switches', 'view-outbox', 'view-register', 'view-authorities', 'view-nodes', 'view-crls'],
] as const;

const mediaTypes = {
  html: 'text/html; charset=utf-8',
  css: 'text/css; charset=utf-8',
  svg: 'image/svg+xml',
  ts: 'text/javascript; charset=utf-8',
} as const;

/** Files of the page, by the paths at which it asks for them. */
const files: Readonly<Record<string, string>> = {
  [consolePath]: 'index.html',
  [`${consolePath}/`]: 'index.html',
  ...Object.fromEntries(
    ['console.css', 'icon.svg', ...modules.map((name) => `${name}.ts`)].map((name) => [
      `${consolePath}/${name}`,
      name,
    ]),
  ),
};

const read = new Map<string, string>();

/** A file as a browser takes it: TypeScript without its types. Read once. */
function contentOf(name: string): string {
  const known = read.get(name);
  if (known !== undefined) return known;
  const text = readFileSync(new URL(name, folder), 'utf8');
  const content = name.endsWith('.ts') ? stripTypeScriptTypes(text) : text;
  read.set(name, content);
  return content;
}

/** Headers that a browser sends for another page only after it has asked, which is refused here. */
const beyondForms = ['idempotency-key', 'warifu-purpose', consoleHeader, 'content-type'] as const;
const isBeyondForms = (name: string, value: unknown): boolean =>
  name === 'content-type' ? /^application\/(json|x-ndjson)\b/.test(String(value)) : value !== undefined;

/** Serves the page, and has no other page of a browser ask this API. */
export function serveConsole(app: FastifyInstance, { api }: Pick<Config, 'api'>): void {
  const hosts = new Set(
    ['localhost', '127.0.0.1', '[::1]', api.host, ...api.names].map((name) => name.toLowerCase()),
  );
  app.addHook('onRequest', async (request, reply) => {
    for (const [name, value] of Object.entries(answerHeaders)) void reply.header(name, value);
    refuseOtherPages(request, hosts);
  });
  for (const [path, name] of Object.entries(files)) {
    app.get(path, { schema: { hide: true }, config: { polled: true } }, async (_, reply) =>
      send(reply, name),
    );
  }
  serveReference(app);
}

/** The API for people who read: made once, when it is first asked for. */
function serveReference(app: FastifyInstance): void {
  let page: string | undefined;
  app.get(`${consolePath}/api`, { schema: { hide: true }, config: { polled: true } }, async (_, reply) => {
    page ??= apiPage((app as unknown as { swagger(): ApiDocument }).swagger());
    return reply
      .headers(pageHeaders)
      .type(mediaTypes.html)
      .serializer((content: string) => content)
      .send(page);
  });
}

function send(reply: FastifyReply, name: string): FastifyReply {
  const extension = name.slice(name.lastIndexOf('.') + 1) as keyof typeof mediaTypes;
  return reply
    .headers(pageHeaders)
    .type(mediaTypes[extension])
    .serializer((content: string) => content)
    .send(contentOf(name));
}

/**
 * Refuses with `forbidden` what a browser asks for another page. Every browser says where a request comes from (Fetch Metadata, Origin), or
 * at least what it is (User-Agent); clients that are none send neither.
 */
export function refuseOtherPages(
  { headers, url }: Pick<FastifyRequest, 'headers' | 'url'>,
  hosts: ReadonlySet<string>,
): void {
  const { origin, host = '' } = headers;
  // A name of somebody else’s that leads here is none of this service.
  const isHost = hosts.has(host.replace(/:\d+$/, '').toLowerCase());
  const site = headers['sec-fetch-site'];
  if (origin === undefined && site === undefined && !/^Mozilla\//.test(headers['user-agent'] ?? '')) return;
  const isPage =
    url === consolePath || url.startsWith(`${consolePath}/`) || url.startsWith(`${consolePath}?`);
  // A person types the address of the page, or follows a link to it.
  const isNavigation = isPage && origin === undefined && headers['sec-fetch-mode'] === 'navigate';
  if (isNavigation && isHost) return;
  const isOwn =
    isHost &&
    (origin === undefined || origin === `https://${host}`) &&
    (site === undefined || site === 'same-origin');
  // Of a client that only calls itself one: what no form, link or image can send.
  const isClient =
    origin === undefined &&
    site === undefined &&
    beyondForms.some((name) => isBeyondForms(name, headers[name]));
  if ((isOwn && (isPage || headers[consoleHeader] === '1')) || isClient) return;
  throw new PkiError(
    'forbidden',
    'a browser may ask this only for the console of this service, at an address of its certificate: open /console; a client that is none leaves Origin and Sec-Fetch-Site out, or sends Warifu-Console: 1',
  );
}
