import { once } from 'node:events';
import { open } from 'node:fs/promises';
import { Readable } from 'node:stream';
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { type Static, type TSchema, Type } from 'typebox';
import { Value } from 'typebox/value';
import { durationMs } from '../../core/config/duration.ts';
import type { Confirming, ConfirmingFollower, FeedCursor } from '../../core/feed/feed.ts';
import { linesOf } from '../../core/http/lines.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { parseStrictJson } from '../../core/runtime/strict-json.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import type { Admissions } from './admissions.ts';
import { problems } from './answer.ts';
import { callerOf, whyRefused } from './caller.ts';
import type { Observed } from './observed.ts';
import { Authority } from './schema.ts';

const config = { roles: ['follower'] } as const;

type App = Parameters<FastifyPluginAsyncTypebox>[0];

/** The status feed for OCSP and CRL nodes elsewhere. */
export const feedRoutes =
  (
    ca: CertificateAuthority,
    admissions: Pick<Admissions, 'during'>,
    observed: Pick<Observed, 'followers'>,
  ): FastifyPluginAsyncTypebox =>
  async (app) => {
    const streams = new Set<AbortController>();
    app.addHook('preClose', async () => {
      for (const stream of streams) stream.abort();
    });
    const serve = (served: Served): Promise<void> => serveFeed(served, { ca, admissions, observed, streams });
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
      (request, reply) => serve({ request, reply, cursor: parseCursor(request.query.cursor) }),
    );
    app.post(
      '/feed',
      {
        config: { ...config, streams: true },
        // Lines are checked one by one, as they come.
        validatorCompiler: () => () => true,
        schema: {
          summary:
            'The same for an OCSP node that confirms, in a line each, what it has applied: a revocation is answered when it has',
          body: { content: { 'application/x-ndjson': { schema: Type.Union([FollowerLine, AppliedLine]) } } },
          response: { 200: Type.String({ description: 'application/x-ndjson' }), ...problems },
        },
      },
      async (request, reply) => {
        const body: unknown = request.body;
        if (!(body instanceof Readable))
          throw new PkiError('unsupported-media-type', 'what a follower confirms is application/x-ndjson');
        // Left open where a line is refused: the answer says why.
        const lines = linesOf(body.iterator({ destroyOnReturn: false }), lineOctetsMax)[
          Symbol.asyncIterator
        ]();
        const { cursor, ...follower } = await firstLine(lines, body, ca);
        const { fingerprint } = callerOf(request);
        const key = `${fingerprint} ${follower.follower}`;
        return serve({
          request,
          reply,
          cursor,
          confirming: { key, answersForMs: follower.answersForMs, lines },
        });
      },
    );
    addSnapshotRoute(app, ca, admissions);
    addEpochRoute(app, ca);
  };

interface Served {
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
  readonly cursor: FeedCursor | undefined;
  /** With what it confirms, where it does. */
  readonly confirming?: ConfirmingFollower & { readonly lines: AsyncIterator<Buffer> };
}

interface Serving {
  readonly ca: CertificateAuthority;
  readonly admissions: Pick<Admissions, 'during'>;
  readonly observed: Pick<Observed, 'followers'>;
  /** What ends each stream. */
  readonly streams: Set<AbortController>;
}

/** Sends batches until either side ends the connection. */
async function serveFeed({ request, reply, cursor, confirming }: Served, serving: Serving): Promise<void> {
  const { ca, admissions, observed, streams } = serving;
  const { fingerprint } = callerOf(request);
  const stop = new AbortController();
  request.raw.socket.once('close', () => stop.abort());
  streams.add(stop);
  const { roles } = config;
  const over = admissions.during({ fingerprint, roles, end: () => stop.abort() });
  stop.signal.addEventListener('abort', over, { once: true });
  let confirmed: Confirming | undefined;
  const batches = ca.store.feed.stream(cursor, stop.signal)[Symbol.asyncIterator]();
  // The first batch decides between a stream and a refusal.
  let next: Awaited<ReturnType<typeof batches.next>>;
  try {
    confirmed = confirming && ca.store.feed.confirming(confirming, cursor !== undefined, () => stop.abort());
    confirmed?.reads();
    next = await batches.next();
    // Not before it is known to be a cursor of this record.
    if (cursor) confirmed?.applied(cursor.positions);
  } catch (error) {
    streams.delete(stop);
    stop.abort();
    confirmed?.end();
    // Under a name of its own: a follower stops for it, and for no other 404.
    if (error instanceof PkiError && error.code === 'not-found')
      throw new PkiError('foreign-cursor', error.message, { cause: error });
    throw error;
  }
  reply.hijack();
  const response = reply.raw;
  const { follower, end } = observed.followers.connected(fingerprint, ca.clock.wallMs());
  response.writeHead(200, { 'Content-Type': 'application/x-ndjson', 'Cache-Control': 'no-store' });
  if (confirming && confirmed) void hear(confirming.lines, confirmed, stop, request.log);
  try {
    while (!next.done && !stop.signal.aborted && (await isAdmitted(ca, fingerprint))) {
      const read = next.value;
      const watermarkMs = confirmed?.sent(read.watermarkMs) ?? read.watermarkMs;
      const room = response.write(`${JSON.stringify({ ...read, watermarkMs })}\n`);
      follower.knownMs = Math.max(follower.knownMs, watermarkMs);
      // As fast as the follower reads, and no faster: what it has not taken stays in the record.
      if (!room && !stop.signal.aborted)
        await Promise.race([once(response, 'drain'), once(response, 'close'), aborted(stop.signal)]);
      confirmed?.reads();
      next = await batches.next();
    }
  } catch (error) {
    request.log.error({ reason: (error as Error).message }, 'the feed cannot be read');
  } finally {
    // Destroyed, not ended: the follower reconnects and then gets the error, if it persists.
    stop.abort();
    end();
    confirmed?.end();
    streams.delete(stop);
    response.destroy();
  }
}

/** Takes what a follower confirms, as it comes. One that says something else is connected no longer. */
async function hear(
  lines: AsyncIterator<Buffer>,
  confirmed: Confirming,
  stop: AbortController,
  log: FastifyRequest['log'],
): Promise<void> {
  try {
    for (let line = await lines.next(); !line.done; line = await lines.next())
      confirmed.applied(parsed(line.value, AppliedLine).applied);
  } catch (error) {
    // What ends a connection ends this, too.
    if (!stop.signal.aborted)
      log.warn({ reason: (error as Error).message }, 'a follower confirms nothing any more');
  }
  stop.abort();
}

/** Octets of a line of a follower: it names each writer of the record once. */
const lineOctetsMax = 65_536;

const Positions = Type.Record(Type.String({ maxLength: 100 }), Type.Integer({ minimum: 0 }));

const FollowerLine = Type.Object(
  {
    follower: Type.String({
      pattern: '^[0-9A-Za-z-]{16,64}$',
      description: 'chosen at random by each process of a follower, and the same for all its connections',
    }),
    answersForMs: Type.Integer({
      minimum: 1,
      description: 'how long it answers by what it has applied, milliseconds: its ocsp.feedLagMax',
    }),
    cursor: Type.Union([
      Type.Object({ incarnation: Type.String(), positions: Positions }, { additionalProperties: false }),
      Type.Null({ description: 'it has nothing yet' }),
    ]),
  },
  { additionalProperties: false, description: 'the first line' },
);

const AppliedLine = Type.Object(
  { applied: Positions },
  { additionalProperties: false, description: 'each further line: how far it has come, by writer' },
);

function parsed<Line extends TSchema>(octets: Buffer, line: Line): Static<Line> {
  const value = parseStrictJson(octets);
  if (Value.Check(line, value)) return value;
  const [error] = Value.Errors(line, value);
  throw new PkiError('bad-request', `a line of a follower: ${error?.instancePath} ${error?.message}`);
}

/** Who follows, and from where. `bad-request` where it would answer for longer than revocations wait. */
async function firstLine(
  lines: AsyncIterator<Buffer>,
  body: Readable,
  { config: { limits, ocsp } }: Pick<CertificateAuthority, 'config'>,
): Promise<Omit<Static<typeof FollowerLine>, 'cursor'> & { readonly cursor: FeedCursor | undefined }> {
  const timer = setTimeout(() => body.destroy(), durationMs(limits.requestTimeout));
  const line = await lines
    .next()
    .catch((error: Error) => {
      throw error instanceof PkiError
        ? error
        : new PkiError('bad-request', `the first line did not come: ${error.message}`);
    })
    .finally(() => clearTimeout(timer));
  if (line.done) throw new PkiError('bad-request', 'the first line says who follows, and from where');
  const follower = parsed(line.value, FollowerLine);
  if (follower.answersForMs > durationMs(ocsp.feedLagMax))
    throw new PkiError(
      'bad-request',
      `the node answers for ${follower.answersForMs} ms by what it knows, and revocations wait for ${ocsp.feedLagMax}: set ocsp.feedLagMax of the node to no more`,
    );
  return { ...follower, cursor: follower.cursor ?? undefined };
}

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
