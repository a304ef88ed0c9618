import { once as occurrence } from 'node:events';
import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { Readable } from 'node:stream';
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type { FastifyRequest } from 'fastify';
import type { Static } from 'typebox';
import { Compile } from 'typebox/compile';
import { linesOf } from '../../core/http/lines.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { parseStrictJson } from '../../core/runtime/strict-json.ts';
import type { CardRequest } from '../issue/card.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import type { Admissions } from './admissions.ts';
import { type Answered, problems } from './answer.ts';
import { authenticate, callerOf, scopeOf } from './caller.ts';
import { cardMandate, issueToCard } from './card-issuing.ts';
import { problemOf } from './problem.ts';
import { BatchAnswer, BatchLine, type Issued } from './schema.ts';

const roles = ['issuer'] as const;
/** How long a client is taken for what it was when it was last looked up. */
const admittedForMs = 1000;
/** A batch on which nothing moves for so long is over. */
const idleMs = 300_000;

type Line = Static<typeof BatchLine>;
type Answer = Static<typeof BatchAnswer>;

/** Issuing to many cards over one connection: production, and renewals by the million. */
export const batchRoutes =
  (ca: CertificateAuthority, admissions: Pick<Admissions, 'during'>): FastifyPluginAsyncTypebox =>
  async (app) => {
    let window: Window | undefined;
    let stopping = false;
    app.addHook('preClose', async () => {
      stopping = true;
    });
    app.post(
      '/card-certificate-batches',
      {
        config: { roles, streams: true },
        // Lines are checked one by one, as they come.
        validatorCompiler: () => () => true,
        schema: {
          summary: 'Issue to many cards: a line for each, and a line of answer as soon as each is durable',
          body: { content: { 'application/x-ndjson': { schema: BatchLine } } },
          response: {
            200: { content: { 'application/x-ndjson': { schema: BatchAnswer } } },
            ...problems,
          },
        },
      },
      async (request, reply) => {
        window ??= new Window(ca.config.issuing.batchLines);
        const body: unknown = request.body;
        if (!(body instanceof Readable))
          throw new PkiError('unsupported-media-type', 'a batch is application/x-ndjson');
        reply.hijack();
        const batch = new Batch({ ca, request, response: reply.raw, window });
        const { fingerprint } = callerOf(request);
        const over = admissions.during({ fingerprint, roles, end: (why) => batch.stop(why) });
        await batch.run(body, () => stopping);
        over();
      },
    );
  };

const validator = Compile(BatchLine);
const keyValidator = Compile(BatchLine.properties.idempotencyKey);

/** A line's shape; `bad-request` names the first member that is wrong, and never its content. */
function checkLine(line: unknown): Line {
  if (validator.Check(line)) return line;
  const [wrong] = validator.Errors(line);
  throw new PkiError('bad-request', `line${wrong?.instancePath ?? ''}: ${wrong?.message ?? 'is wrong'}`);
}

/** The key of a line that has one, whatever else is wrong with it; null for none, and for what is none. */
function keyOf(line: unknown): string | null {
  const { idempotencyKey } = (line ?? {}) as { idempotencyKey?: unknown };
  return keyValidator.Check(idempotencyKey) ? idempotencyKey : null;
}

/** Lines that are being worked on at once, of all batches together: what is not let in stays unread in its socket. */
class Window {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(size: number) {
    this.#free = size;
  }

  async enter(): Promise<void> {
    if (this.#free === 0) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#free -= 1;
  }

  leave(): void {
    const next = this.#waiting.shift();
    if (next) next();
    else this.#free += 1;
  }
}

/** Resolves when the caller has read enough, or is gone. */
async function drained(response: ServerResponse): Promise<void> {
  if (!response.writableNeedDrain || response.destroyed) return;
  const over = new AbortController();
  await Promise.race(
    ['drain', 'close'].map((name) =>
      occurrence(response, name, { signal: over.signal }).catch(() => undefined),
    ),
  );
  over.abort();
}

/** One batch: reads no faster than the CA signs, nor than its answers are read. */
class Batch {
  readonly #ca: CertificateAuthority;
  readonly #request: FastifyRequest;
  readonly #response: ServerResponse;
  readonly #socket: Socket;
  readonly #window: Window;
  readonly #working = new Set<Promise<void>>();
  #lines = 0;
  #admittedMs: number;
  #isStopped = false;

  constructor(options: {
    readonly ca: CertificateAuthority;
    readonly request: FastifyRequest;
    readonly response: ServerResponse;
    readonly window: Window;
  }) {
    this.#ca = options.ca;
    this.#request = options.request;
    this.#response = options.response;
    this.#socket = options.request.raw.socket;
    this.#window = options.window;
    this.#admittedMs = options.ca.clock.monotonicMs();
  }

  /** Every line that was begun has its answer; the connection ends with the batch where lines are left unread. */
  async run(body: Readable, isStopping: () => boolean): Promise<void> {
    const response = this.#response;
    response.writeHead(200, { 'Content-Type': 'application/x-ndjson', 'Cache-Control': 'no-store' });
    response.flushHeaders();
    this.#socket.setTimeout(idleMs, () => this.#socket.destroy());
    let isWhole = false;
    try {
      for await (const octets of linesOf(body, this.#ca.config.limits.requestBytesMax)) {
        await drained(response);
        if (isStopping() || response.destroyed) break;
        await this.#admit();
        await this.#window.enter();
        if (this.#isStopped) return this.#window.leave();
        this.#begin(octets, ++this.#lines);
      }
      isWhole = !isStopping();
    } catch (error) {
      if (this.#isStopped) return;
      // The caller is gone, or a line was too long to be read. What is under way is finished; the rest was not begun.
      this.#request.log.info({ reason: (error as Error).message }, 'a batch broke off');
      if (error instanceof PkiError) this.#write(this.#refusal(error, this.#lines + 1, null));
    }
    await this.#finish(isWhole);
  }

  /** Reads no more, though nothing comes: the last line says why. */
  stop(why: PkiError): void {
    if (this.#response.writableEnded) return;
    this.#isStopped = true;
    this.#write(this.#refusal(why, this.#lines + 1, null));
    void this.#finish(false);
  }

  async #finish(isWhole: boolean): Promise<void> {
    await Promise.all(this.#working);
    this.#response.end(() => isWhole || this.#socket.destroySoon());
  }

  /** A client that was shut out meanwhile sends no further lines. Throws `unauthenticated` or `forbidden`. */
  async #admit(): Promise<void> {
    const nowMs = this.#ca.clock.monotonicMs();
    if (nowMs - this.#admittedMs < admittedForMs) return;
    this.#request.caller = await authenticate(this.#ca, this.#request, roles);
    this.#admittedMs = nowMs;
  }

  #begin(octets: Buffer, number: number): void {
    const work = this.#answer(octets, number).then((answer) => {
      this.#write(answer);
      this.#window.leave();
      this.#working.delete(work);
    });
    this.#working.add(work);
  }

  async #answer(octets: Buffer, number: number): Promise<Answer> {
    let idempotencyKey: string | null = null;
    try {
      const line = parseStrictJson(octets);
      // Before its shape is looked at, so that who sent it knows which line is wrong.
      idempotencyKey = keyOf(line);
      const parsed = checkLine(line);
      const { body, ...how } = await this.#issue(parsed, octets);
      return { idempotencyKey, line: number, ...how, issued: body, problem: null };
    } catch (error) {
      return this.#refusal(error, number, idempotencyKey);
    }
  }

  #refusal(error: unknown, line: number, idempotencyKey: string | null): Answer {
    const problem = problemOf(this.#request, error);
    return { idempotencyKey, line, status: problem.status, replayed: false, issued: null, problem };
  }

  #write(answer: Answer): void {
    this.#response.write(`${JSON.stringify(answer)}\n`);
  }

  async #issue({ idempotencyKey, card }: Line, octets: Buffer): Promise<Answered<Static<typeof Issued>>> {
    const caller = callerOf(this.#request);
    const mandate = cardMandate(this.#ca, caller, card);
    const scope = await scopeOf(this.#ca, this.#request, idempotencyKey, octets);
    const { dryRun, ...wanted } = card;
    if (dryRun) throw new PkiError('bad-request', 'line/card/dryRun: a batch issues; ask one by one');
    const actor = { ...caller.actor, desk: card.deskCode };
    return issueToCard(this.#ca, wanted as CardRequest, { scope, actor, mandate, mass: true });
  }
}
