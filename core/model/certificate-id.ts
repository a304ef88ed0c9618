/** What one certificate is called in the record and in the feed: the position its serial number encrypts. */
export interface CertificateId {
  readonly authority: string;
  readonly epoch: number;
  readonly position: number;
}

/** A certificate's id alone, of a row or view that has one. */
export const keyOf = ({ authority, epoch, position }: CertificateId): CertificateId => ({
  authority,
  epoch,
  position,
});

export const sameKey = (a: CertificateId, b: CertificateId): boolean =>
  a.authority === b.authority && a.epoch === b.epoch && a.position === b.position;
