/** What one certificate is called in the record and in the feed: the position its serial number encrypts. */
export interface CertificateId {
  readonly authority: string;
  readonly epoch: number;
  readonly position: number;
}
