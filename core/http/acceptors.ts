import { type AddressInfo, createServer, type Server } from 'node:net';

/**
 * More sockets that listen where a server does, whose connections are that server's. libuv takes one connection of each listening
 * socket in a turn of its loop: where turns are long, under load, many that connect keep a newcomer waiting for seconds. The kernel spreads
 * connections over the sockets. Resolves with the function that has them take no more; what they took is the server's to end.
 */
export async function acceptMore(server: Server, count: number): Promise<() => void> {
  const { address: host, port } = server.address() as AddressInfo;
  const opened: Server[] = [];
  const close = (): void => {
    for (const each of opened) each.close();
  };
  try {
    for (let i = 0; i < count; i++) {
      const more = createServer({ noDelay: true }, (socket) => server.emit('connection', socket));
      await new Promise<void>((resolve, reject) => {
        more.once('error', reject);
        more.listen({ host, port, reusePort: true }, () => {
          more.off('error', reject);
          resolve();
        });
      });
      opened.push(more);
    }
    return close;
  } catch (error) {
    close();
    throw error;
  }
}
