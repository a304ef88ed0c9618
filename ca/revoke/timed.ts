import type { CertificateAuthority } from '../issue/certificate-authority.ts';

type Settling = Pick<CertificateAuthority, 'store' | 'config'>;

/** Ends what was renewed, and whose overlap with its successor has passed. */
export const endOverlaps = ({ store }: Settling): Promise<void> => store.endOverlaps();

/** Settles what was not confirmed in time. */
export const endWaits = ({ store, config }: Settling): Promise<void> =>
  store.endWaits(config.activation.unconfirmed);

/** Ends what outlives a card whose last day was moved forward. */
export const endShortened = ({ store }: Settling): Promise<void> => store.endShortened();
