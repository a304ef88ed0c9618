import { createHash, createPublicKey, type KeyObject, verify } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { join } from 'node:path';
import { freePort } from './service-process.ts';

/** What a receiver does with a delivery. */
export type Mood = 'takes' | 'fails' | 'hangs' | 'drops' | 'takes-and-drops';

export interface Delivered {
  readonly messageId: string;
  readonly type: string;
  readonly occasion: string;
  readonly reason: string | null;
  readonly serialNumber: string;
  readonly deviceId?: string;
  readonly holderId?: string;
  readonly kind: string;
  readonly verifier?: string;
}

/**
 * A receiver of webhooks, as a TSM, a portal or a verifier would run one: it checks each signature by RFC 9421 with
 * nothing of ours, and remembers what it has had by its `messageId`.
 */
export class Receiver {
  readonly url: string;
  /** By `messageId`: what was delivered, and how often. */
  readonly had = new Map<string, { readonly message: Delivered; times: number }>();
  /** Deliveries whose signature does not verify. */
  readonly forged: string[] = [];
  mood: () => Mood = () => 'takes';
  readonly #server: Server;
  #key: KeyObject | undefined;

  private constructor(url: string, server: Server) {
    this.url = url;
    this.#server = server;
  }

  /** With `tls` it wants a client certificate. */
  static async start(tls?: {
    readonly key: string;
    readonly cert: string;
    readonly ca: string;
  }): Promise<Receiver> {
    const port = await freePort();
    const server = tls ? createTlsServer({ ...tls, requestCert: true }) : createServer();
    const receiver = new Receiver(`${tls ? 'https' : 'http'}://127.0.0.1:${port}/deliveries`, server);
    server.on('request', (request, response) => {
      void bodyOf(request).then((body) => {
        const mood = receiver.mood();
        if (mood === 'hangs') return;
        if (mood === 'drops') return void request.socket.destroy();
        if (mood === 'fails') return void response.writeHead(503).end('later');
        receiver.#take(request, body);
        if (mood === 'takes-and-drops') return void request.socket.destroy();
        response.writeHead(204).end();
      });
    });
    await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
    return receiver;
  }

  /** Whose signatures it believes. */
  trust(folder: string): void {
    this.#key = createPublicKey(readFileSync(join(folder, 'outbox.pem')));
  }

  messages(): Delivered[] {
    return [...this.had.values()].map(({ message }) => message);
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #take(request: IncomingMessage, body: Buffer): void {
    const message = JSON.parse(body.toString('utf8')) as Delivered;
    if (!this.#key || !isSigned(request, body, this.url, this.#key)) this.forged.push(message.messageId);
    const before = this.had.get(message.messageId);
    if (before) before.times += 1;
    else this.had.set(message.messageId, { message, times: 1 });
  }
}

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

/** RFC 9421 §3.2 for the one profile that is wanted here. */
function isSigned({ headers, method }: IncomingMessage, body: Buffer, url: string, key: KeyObject): boolean {
  const digest = `sha-256=:${createHash('sha256').update(body).digest('base64')}:`;
  if (headers['content-digest'] !== digest) return false;
  const input = /^warifu=(\((.*)\);created=(\d+);keyid="outbox-1";alg="ecdsa-p256-sha256")$/.exec(
    String(headers['signature-input']),
  );
  const signature = /^warifu=:(.*):$/.exec(String(headers.signature))?.[1];
  if (!input || signature === undefined) return false;
  const components = (input[2] ?? '').split(' ').map((name) => name.slice(1, -1));
  if (!['@method', '@target-uri', 'content-digest'].every((name) => components.includes(name))) return false;
  const values = (name: string): string =>
    name === '@method' ? String(method) : name === '@target-uri' ? url : String(headers[name]);
  const base = components.map((name) => `"${name}": ${values(name)}\n`).join('');
  const signed = Buffer.from(`${base}"@signature-params": ${input[1]}`);
  return verify('sha256', signed, { key, dsaEncoding: 'ieee-p1363' }, Buffer.from(signature, 'base64'));
}
