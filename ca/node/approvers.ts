import { parseCertificate } from '../../core/asn1/certificate-reader.ts';
import type { TokenMemory } from '../../core/crypto/signer.ts';
import { type Bytes, digest, hex } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { clientIdOf, type KnownClient, whyEnded } from '../../store/api/client-store.ts';
import type { Node } from './node.ts';

// Who may sign for an act at the console: administrators that are persons. The record knows them. Where it is to be restored the token does:
// it remembers each of their certificates with the person that it is of, and for ever that one was shut out.

interface Asked {
  readonly nowMs: number;
  readonly bindingMs: number;
  /** Also one whose certificate or binding has run out, and was not taken away. */
  readonly endedToo: boolean;
}

/** Why a client may not sign for an act at the console; undefined where it may. */
export function whyNoApprover(
  client: KnownClient | undefined,
  { nowMs, bindingMs, endedToo }: Asked,
): string | undefined {
  if (!client) return 'the certificate is not registered';
  if (!client.roles.includes('administrator')) return 'its client is no administrator';
  if (client.kind !== 'person') return 'its client is a system, and only persons sign';
  if (client.term?.unconfirmedSinceMs != null)
    return 'its client was bound at the console, and another confirms it first';
  if (endedToo) return wasTakenAway(client) ? 'its client was shut out, or has renewed it' : undefined;
  return whyEnded(client, nowMs, bindingMs);
}

const wasTakenAway = ({ revokedMs, term }: KnownClient): boolean =>
  revokedMs !== null || term?.renewedBy != null;

const memoryName = (fingerprint: string): string => `approver:${fingerprint.slice(0, 32)}`;
const shutOut = Number.MAX_SAFE_INTEGER;
/** A number for a person, the same for all of its certificates: 48 bits of its client id, and more than 0. */
const personNumber = (clientId: string): number => 2 ** 48 + Number.parseInt(clientId.slice(0, 12), 16);

const clientsPage = 500;

/** Has the token know who may sign, and who was shut out. */
export function approverKeeper({ clients, caToken, clock }: Node, bindingMs: number): () => Promise<void> {
  const known = new Map<string, number>();
  return async () => {
    const nowMs = clock.machine.wallMs();
    for (let after: string | null = null; ; ) {
      const page = await clients.list(after, clientsPage);
      for (const client of page) {
        const value = rememberedOf(client, { nowMs, bindingMs, endedToo: false }, known);
        if (value === undefined || known.get(client.fingerprint) === value) continue;
        await caToken.memory().remember(memoryName(client.fingerprint), value);
        known.set(client.fingerprint, value);
      }
      const last = page.at(-1);
      if (!last || page.length < clientsPage) return;
      after = last.fingerprint;
    }
  };
}

/** What the token is to remember of a client; undefined where nothing. What was taken away stays so, what runs out does so by itself. */
function rememberedOf(
  client: KnownClient,
  asked: Asked,
  known: ReadonlyMap<string, number>,
): number | undefined {
  if (whyNoApprover(client, asked) === undefined) return personNumber(clientIdOf(client));
  const wasOne = known.has(client.fingerprint) || client.roles.includes('administrator');
  const isTaken = wasTakenAway(client) || !client.roles.includes('administrator');
  return wasOne && isTaken ? shutOut : undefined;
}

/** The person that a certificate is of, as the token remembers. Throws `forbidden`. */
export async function personByToken(memory: TokenMemory, certificate: Bytes, nowMs: number): Promise<string> {
  const remembered = await memory.recall(memoryName(hex(digest('sha256', certificate))));
  const { notAfterMs } = parseCertificate(certificate);
  if (remembered === 0 || remembered === shutOut || notAfterMs <= nowMs)
    throw new PkiError(
      'forbidden',
      `a signature does not count: ${remembered === 0 ? 'the token knows its certificate as none of an administrator' : 'its certificate was shut out, or has ended'}`,
    );
  return String(remembered);
}
