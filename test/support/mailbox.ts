import { SMTPServer } from 'smtp-server';
import { freePort } from './service-process.ts';

/** A mail as it was taken. */
export interface Mail {
  readonly to: readonly string[];
  readonly subject: string;
  readonly text: string;
}

/** A mail server that takes all but what is for `refused@…`, and keeps it, decoded. */
export class Mailbox {
  readonly mails: Mail[] = [];
  readonly port: number;
  readonly #server: SMTPServer;

  private constructor(port: number) {
    this.port = port;
    this.#server = new SMTPServer({
      authOptional: true,
      disabledCommands: ['STARTTLS'],
      onRcptTo: (address, _session, callback) =>
        callback(address.address.startsWith('refused') ? new Error(`no ${address.address} here`) : null),
      onData: (stream, session, callback) => {
        let raw = '';
        stream.on('data', (chunk) => {
          raw += String(chunk);
        });
        stream.on('end', () => {
          this.mails.push({ to: session.envelope.rcptTo.map(({ address }) => address), ...decoded(raw) });
          callback(null);
        });
      },
    });
  }

  static async start(): Promise<Mailbox> {
    const port = await freePort();
    const mailbox = new Mailbox(port);
    await new Promise<void>((resolve) => mailbox.#server.listen(port, '127.0.0.1', resolve));
    return mailbox;
  }

  to(address: string): Mail[] {
    return this.mails.filter(({ to }) => to.includes(address));
  }

  stop(): Promise<void> {
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }
}

/** A mail in one part of base64 (RFC 2045), with a subject in encoded words (RFC 2047) or as it is. */
function decoded(raw: string): { subject: string; text: string } {
  const [head = '', ...body] = raw.split('\r\n\r\n');
  const unfolded = head.replace(/\r\n[ \t]/g, ' ');
  const subject = (/^Subject: (.*)$/m.exec(unfolded)?.[1] ?? '').trim();
  const words = subject
    .replace(/\?=\s+=\?/g, '?==?')
    .replace(/=\?UTF-8\?([BQ])\?([^?]*)\?=/gi, (_, form: string, text: string) =>
      form.toUpperCase() === 'B'
        ? Buffer.from(text, 'base64').toString('latin1')
        : text
            .replace(/_/g, ' ')
            .replace(/=([0-9A-F]{2})/g, (__, code) => String.fromCharCode(parseInt(code, 16))),
    );
  const isEncoded = words !== subject;
  return {
    subject: isEncoded ? Buffer.from(words, 'latin1').toString('utf8') : subject,
    text: Buffer.from(body.join('\r\n\r\n'), 'base64').toString('utf8'),
  };
}
