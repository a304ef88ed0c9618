// A way to a server on this machine that takes as long as a network: `PORT MILLISECONDS` in argv, the round trip; its own port out.
import { connect, createServer, type Socket } from 'node:net';

const [port = 0, roundTripMs = 0] = process.argv.slice(2).map(Number);

/** Passes octets on, each half a round trip later, in their order. */
function passOn(from: Socket, to: Socket): void {
  from.setNoDelay(true);
  from.on('data', (octets) => setTimeout(() => to.write(octets), roundTripMs / 2));
  from.on('close', () => setTimeout(() => to.destroy(), roundTripMs / 2));
  from.on('error', () => to.destroy());
}

const server = createServer((near) => {
  const far = connect(port, '127.0.0.1');
  passOn(near, far);
  passOn(far, near);
});
server.listen(0, '127.0.0.1', () => {
  process.stdout.write(`${JSON.stringify((server.address() as { port: number }).port)}\n`);
});
