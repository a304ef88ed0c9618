import { createPrivateKey, timingSafeEqual, X509Certificate } from 'node:crypto';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { durationMs } from '../../core/config/duration.ts';
import { checkClientName, foldedName } from '../../core/model/client-name.ts';
import { type Bytes, digest, hex } from '../../core/runtime/bytes.ts';
import { replaceDurably } from '../../core/runtime/durable-file.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { readSecret } from '../../core/runtime/secret-file.ts';
import { pinSource, readPin } from '../../hsm/pkcs11/pin.ts';
import { breakGlass, enrolAdministrators } from '../../store/rules/console-rules.ts';
import { pem } from '../api/present.ts';
import { parseCertificationRequest } from '../request/certification-request.ts';
import { clientKeyTypes } from '../request/key.ts';
import { type Node, nodeActor } from './node.ts';
import { certifyClient } from './operations.ts';
import { approversMin } from './production.ts';
import { openOperations } from './wiring.ts';

// Administrators that are bound without the API: the first ones of production, and one at the console where too few are left.

/** The PKCS#10 request in a file, PEM or DER: a key that its owner made. Throws `bad-request` and those of a request. */
export function readRequest(
  file: string,
): ReturnType<typeof parseCertificationRequest<(typeof clientKeyTypes)[number]>> {
  if (!existsSync(file)) throw new PkiError('bad-request', `there is no file ${file}`);
  const octets = readFileSync(file);
  const [, base64] =
    /-----BEGIN (?:NEW )?CERTIFICATE REQUEST-----([A-Za-z0-9+/=\s]+)-----END/.exec(
      octets.toString('latin1'),
    ) ?? [];
  const der = base64 === undefined ? octets : Buffer.from(base64, 'base64');
  return parseCertificationRequest(der, file, clientKeyTypes);
}

interface Person {
  readonly name: string;
  readonly file: string;
}

/** `NAME=FILE`, for each of the first administrators. */
function personsOf(given: readonly string[]): Person[] {
  const persons = given.map((text) => {
    const at = text.indexOf('=');
    if (at < 1)
      throw new PkiError('bad-request', `${text}: is not NAME=FILE, such as "Sato Hanako=sato.csr"`);
    return { name: text.slice(0, at), file: text.slice(at + 1) };
  });
  for (const { name } of persons) checkClientName(name);
  if (
    persons.length !== approversMin ||
    new Set(persons.map(({ name }) => foldedName(name))).size !== approversMin
  )
    throw new PkiError('bad-request', `${approversMin} persons are wanted, of different names`);
  return persons;
}

/** The fingerprint of the ceremony's first client, of whose key this is the proof. */
function founderOf({ clients }: Node['layout']): string {
  const [certFile, keyFile] = [join(clients, 'first.pem'), join(clients, 'first.key')];
  if (!existsSync(keyFile))
    throw new PkiError(
      'forbidden',
      `there is no ${keyFile}: the first client has enrolled its administrators`,
    );
  const certificate = new X509Certificate(readFileSync(certFile));
  if (!certificate.checkPrivateKey(createPrivateKey(readSecret(keyFile))))
    throw new PkiError('bad-request', `${keyFile} is not the key of ${certFile}`);
  return hex(digest('sha256', certificate.raw));
}

/**
 * Enrols the first administrators of production, by requests for keys that they made themselves, and ends the first client, whose key
 * is removed. Gives the file of each certificate. Done again after it was interrupted, with the same requests, it goes on.
 */
export async function enrolFirstAdministrators(node: Node, given: readonly string[]): Promise<string[]> {
  const { config, layout, clock, database } = node;
  if (config.mode !== 'production')
    throw new PkiError(
      'bad-request',
      'this is development, whose first client has every right: POST /v1/clients',
    );
  const persons = personsOf(given).map((person) => ({ ...person, ...readRequest(person.file) }));
  const founder = founderOf(layout);
  const operations = await openOperations(node);
  const enrolled: (Person & { readonly certificate: Bytes })[] = [];
  for (const { name, file, publicKey } of persons)
    enrolled.push({ name, file, certificate: await certifyClient(operations, name, publicKey) });
  const administrators = enrolled.map(({ name, certificate }) => ({
    ...({ name, kind: 'person', roles: ['administrator'], desks: [] } as const),
    fingerprint: hex(digest('sha256', certificate)),
  }));
  const bindingMs = durationMs(config.limits.clientBinding);
  const command = { actor: nodeActor(config), founder, administrators, bindingMs };
  // First: a certificate in a file is of no use before it is bound, and one that is bound in no file of no use at all.
  const files = enrolled.map(({ certificate }, i) => {
    const written = join(layout.clients, `administrator-${i + 1}.pem`);
    replaceDurably(written, pem(certificate), 0o644);
    return written;
  });
  await enrolAdministrators(database, command, clock.machine.wallMs());
  rmSync(join(layout.clients, 'first.key'));
  return files;
}

/**
 * Binds an administrator at the console, with the PIN of the ceremony, where no administrator can act any more, or in production fewer
 * persons than are to approve.
 */
export async function bindAtConsole(
  node: Node,
  bound: {
    readonly fingerprint: string;
    readonly name: string;
    readonly roles: readonly string[];
    readonly pin: string;
  },
): Promise<void> {
  const { config, layout, clock, database } = node;
  const { fingerprint, name, roles, pin } = bound;
  if (!/^[0-9a-f]{64}$/.test(fingerprint))
    throw new PkiError('bad-request', 'fingerprint: is the SHA-256 of the client certificate, 64 hex digits');
  const right = readPin(pinSource(config.pkcs11.caToken, layout.folder));
  const [given, wanted] = [pin, right].map((text) => digest('sha256', Buffer.from(text)));
  if (!given || !wanted || !timingSafeEqual(given, wanted))
    throw new PkiError('forbidden', 'that is not the PIN of the CA token, which the ceremony set');
  const client = { fingerprint, name, kind: 'person', roles, desks: [] } as const;
  const bindingMs = durationMs(config.limits.clientBinding);
  const personsWanted = config.mode === 'production' ? approversMin : 1;
  await breakGlass(database, client, { nowMs: clock.machine.wallMs(), bindingMs, personsWanted });
}
