// The CRL server of the bench, in a process of its own: what a listening thread has, over a published folder.

import { listen } from '../../core/http/listen.ts';
import { VerifierRegister } from '../../core/http/verifier-register.ts';
import { systemClock } from '../../core/runtime/clock.ts';
import { PublishedFiles } from '../../crl/serve/files.ts';
import { CrlServer } from '../../crl/serve/server.ts';

const [folder = ''] = process.argv.slice(2);
const failed = (error: unknown): never => {
  throw error;
};
const server = new CrlServer({
  files: new PublishedFiles({ folder, octetsMax: 268_435_456, clock: systemClock, failed }),
  verifiers: new VerifierRegister({ rules: { required: false, tokensOver: 'any' }, clock: systemClock }),
  isPrivate: () => false,
  fromFront: [],
  clock: systemClock,
  connectionsMax: 1000,
  cacheAgeMsMax: null,
  failed,
});
const address = await listen(server.create(0), '127.0.0.1', 0);
process.stdout.write(`${JSON.stringify(address)}\n`);
