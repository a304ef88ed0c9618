// What a record has to say after a kill, read in a process of its own: keys in a token, and a harness that has a hundred
// TLS connections, are better not in one. Prints one JSON object: the SHA-256 of the to-be-signed bytes of each certificate.

import { openNode } from '../../ca/node/wiring.ts';
import { digest, hex } from '../../core/runtime/bytes.ts';
import { systemClock } from '../../core/runtime/clock.ts';

const [folder = ''] = process.argv.slice(2);
const node = await openNode({ folder, clock: systemClock, mode: 'open' });
const hashes: Record<string, string> = {};
try {
  for (const row of await node.database.read((reader) => reader.find('encoding', {}))) {
    const sealed = { key: row.dataKey, octets: row.octets };
    const toBeSigned = await node.encodings.open(row, sealed);
    hashes[`${row.authority}/${row.epoch}/${row.position}`] = hex(digest('sha256', toBeSigned));
  }
} finally {
  await node.close();
}
process.stdout.write(`${JSON.stringify(hashes)}\n`);
