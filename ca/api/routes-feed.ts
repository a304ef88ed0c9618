import { once } from 'node:events';
import { open } from 'node:fs/promises';
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import type { FeedCursor } from '../../core/feed/feed.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import type { Admissions } from './admissions.ts';
import { problems } from './answer.ts';
import { callerOf, whyRefused } from './caller.ts';
import type { Followers } from './followers.ts';
import { Authority } from './schema.ts';

const config = { roles: ['follower'] } as const;

type App = Parameters<FastifyPluginAsyncTypebox>[0];

/** The status feed for OCSP and CRL nodes elsewhere. */
export const feedRoutes =
  (
    ca: CertificateAuthority,
    admissions: Pick<Admissions, 'during'>,
    followers: Followers,
  ): FastifyPluginAsyncTypebox =>
  async (app) => {
    const streams = new Set<AbortController>();
    app.addHook('preClose', async () => {
      for (const stream of streams) stream.abort();
    });
    app.get(
      '/feed',
      {
        config: { ...config, lasts: true },
        schema: {
          summary:
            'The status feed: one JSON batch a line, without end; batches without events are heartbeats',
          querystring: Type.Object(
            {
              cursor: Type.Optional(
                Type.String({ maxLength: 8192, description: 'the last batch’s cursor, JSON' }),
              ),
            },
            { additionalProperties: false },
          ),
          response: { 200: Type.String({ description: 'application/x-ndjson' }), ...problems },
        },
      },
      async (request, reply) => {
        const { fingerprint } = callerOf(request);
        const stop = new AbortController();
        request.raw.socket.once('close', () => stop.abort());
        streams.add(stop);
        const { roles } = config;
        const over = admissions.during({ fingerprint, roles, end: () => stop.abort() });
        stop.signal.addEventListener('abort', over, { once: true });
        const batches = ca.store.feed
          .stream(parseCursor(request.query.cursor), stop.signal)
          [Symbol.asyncIterator]();
        // The first batch decides between a stream and a refusal.
        let next: Awaited<ReturnType<typeof batches.next>>;
        try {
          next = await batches.next();
        } catch (error) {
          streams.delete(stop);
          stop.abort();
          // Under a name of its own: a follower stops for it, and for no other 404.
          if (error instanceof PkiError && error.code === 'not-found')
            throw new PkiError('foreign-cursor', error.message, { cause: error });
          throw error;
        }
        reply.hijack();
        const response = reply.raw;
        const { follower, end } = followers.connected(fingerprint, ca.clock.wallMs());
        response.writeHead(200, { 'Content-Type': 'application/x-ndjson', 'Cache-Control': 'no-store' });
        try {
          while (!next.done && !stop.signal.aborted && (await isAdmitted(ca, fingerprint))) {
            const room = response.write(`${JSON.stringify(next.value)}\n`);
            follower.knownMs = Math.max(follower.knownMs, next.value.watermarkMs);
            // As fast as the follower reads, and no faster: what it has not taken stays in the record.
            if (!room && !stop.signal.aborted)
              await Promise.race([once(response, 'drain'), once(response, 'close'), aborted(stop.signal)]);
            next = await batches.next();
          }
        } catch (error) {
          request.log.error({ reason: (error as Error).message }, 'the feed cannot be read');
        } finally {
          // Destroyed, not ended: the follower reconnects and then gets the error, if it persists.
          stop.abort();
          end();
          streams.delete(stop);
          response.destroy();
        }
      },
    );
    addSnapshotRoute(app, ca, admissions);
    addEpochRoute(app, ca);
  };

function addSnapshotRoute(app: App, ca: CertificateAuthority, admissions: Pick<Admissions, 'during'>): void {
  app.get(
    '/feed/snapshot',
    {
      config: { ...config, lasts: true },
      schema: {
        summary:
          'What a new OCSP node begins with: the index of the CA’s own responder, with the cursor to follow the feed from, and a SHA-256 at its end. It holds no epoch key',
        response: { 200: Type.String({ description: 'application/octet-stream' }), ...problems },
      },
    },
    async (request, reply) => {
      // Opened before it is answered: it is replaced every few minutes, and what is open stays as it is.
      const file = await open(ca.indexSnapshot).catch((error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT')
          throw new PkiError('not-found', 'there is no snapshot yet: follow the feed');
        throw error;
      });
      const { size } = await file.stat();
      const octets = file.createReadStream({ highWaterMark: 2 ** 18 });
      const { fingerprint } = callerOf(request);
      const { roles } = config;
      const over = admissions.during({ fingerprint, roles, end: () => octets.destroy() });
      octets.once('close', over);
      return reply
        .header('Cache-Control', 'no-store')
        .header('Content-Length', size)
        .type('application/octet-stream')
        .send(octets as unknown as string);
    },
  );
}

function addEpochRoute(app: App, ca: CertificateAuthority): void {
  app.get(
    '/feed/epochs/:authority/:epoch',
    {
      config,
      schema: {
        summary: 'The AES key of an epoch’s serial numbers: for the memory of a follower, never for its disk',
        params: Type.Object({ authority: Authority, epoch: Type.String({ pattern: '^[1-9][0-9]{0,2}$' }) }),
        response: { 200: Type.Object({ key: Type.String({ contentEncoding: 'base64' }) }), ...problems },
      },
    },
    async (request, reply) => {
      const { authority, epoch } = request.params;
      void reply.header('Cache-Control', 'no-store');
      return {
        key: Buffer.from(await ca.store.feed.epochKey(authority, Number(epoch))).toString('base64'),
      };
    },
  );
}

const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));

/** A client that is shut out, or is no follower any more, gets no further batch. */
async function isAdmitted(ca: CertificateAuthority, fingerprint: string): Promise<boolean> {
  const client = await ca.clients.client(fingerprint);
  return client !== undefined && whyRefused(ca, client, config.roles) === undefined;
}

function parseCursor(text: string | undefined): FeedCursor | undefined {
  if (text === undefined) return undefined;
  try {
    const { incarnation, positions } = JSON.parse(text) as FeedCursor;
    if (
      typeof incarnation === 'string' &&
      Object.values(positions).every((position) => Number.isSafeInteger(position))
    ) {
      return { incarnation, positions };
    }
  } catch (error) {
    throw new PkiError('bad-request', 'cursor: not JSON', { cause: error });
  }
  throw new PkiError('bad-request', 'cursor: not a cursor of this feed');
}
