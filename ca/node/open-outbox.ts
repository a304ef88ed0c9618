import type { Logger } from 'pino';
import { certificatesToStore } from '../api/present.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { Delivery } from '../notify/delivery.ts';
import { Outbox } from '../notify/outbox.ts';
import { keyLabel, outboxSuite } from './layout.ts';
import type { Node } from './node.ts';
import { signerFor } from './wiring.ts';

/** What delivers messages, with the key that signs them. To be stopped. */
export async function openOutbox(node: Node, ca: CertificateAuthority, logger: Logger): Promise<Outbox> {
  const signer = await signerFor(node, keyLabel.outbox, outboxSuite, 'message');
  const { config, clock, sealer } = ca;
  const { folder } = node.layout;
  const delivery = new Delivery({
    config,
    folder,
    authorities: ca.authorities,
    preferences: ca.preferences,
    verifiers: ca.verifiers,
    watches: ca.watches,
    sealer,
    signer,
    certificatesOf: (issuanceId) => certificatesToStore(ca, issuanceId),
    clock,
  });
  return new Outbox({ store: ca.outbox, delivery, config: config.notices, clock, logger, nodes: ca.nodes });
}
