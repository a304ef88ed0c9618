import { connect, createServer, type Socket } from 'node:net';

/** A way to a server that a test cuts. */
export interface CutProxy {
  readonly port: number;
  /** Connections that go through. */
  readonly open: number;
  /** Ends all connections, without a word. */
  cut(): void;
  /** From now on passes nothing back from the server once `sent` was seen on its way there; then ends that connection, after a time. */
  swallowAfter(sent: string, endsMs?: number): void;
  /** Accepts no connections until it is called with `false`. */
  refuse(isRefusing: boolean): void;
  close(): void;
}

export async function cutProxy(to: number): Promise<CutProxy> {
  const pairs = new Set<readonly [Socket, Socket]>();
  let swallowed: string | undefined;
  // What was sent is done by then.
  let swallowedMs = 300;
  let isRefusing = false;
  const end = (pair: readonly [Socket, Socket]): void => {
    pairs.delete(pair);
    for (const socket of pair) socket.destroy();
  };
  const server = createServer((near) => {
    if (isRefusing) return near.destroy();
    const far = connect(to, '127.0.0.1');
    const pair = [near, far] as const;
    let isMute = false;
    pairs.add(pair);
    near.on('data', (octets) => {
      if (swallowed !== undefined && octets.includes(swallowed)) {
        swallowed = undefined;
        isMute = true;
        setTimeout(() => end(pair), swallowedMs).unref();
      }
      far.write(octets);
    });
    far.on('data', (octets) => {
      if (!isMute) near.write(octets);
    });
    for (const socket of pair) socket.on('error', () => end(pair)).on('close', () => end(pair));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as { port: number }).port,
    get open() {
      return pairs.size;
    },
    cut: () => {
      for (const pair of [...pairs]) end(pair);
    },
    swallowAfter: (sent, endsMs = 300) => {
      swallowed = sent;
      swallowedMs = endsMs;
    },
    refuse: (isNow) => {
      isRefusing = isNow;
    },
    close: () => {
      for (const pair of [...pairs]) end(pair);
      server.close();
    },
  };
}
