/**
 * Removes from the record what has been kept long enough; durability, concurrency and errors as of `CertificateStore`. Each call removes
 * some, and says whether there may be more: so the caller decides how much time is left to others.
 */
export interface RetentionStore {
  /** Answers, challenges and enrolment codes that have expired. */
  purgeExpired(): Promise<boolean>;
  /** Messages that were delivered, or confirmed, and were made before then. */
  purgeMessages(beforeMs: number): Promise<boolean>;
  /**
   * What makes octets of certificates that ended before then, and the proofs with which they were asked for. Their status, history and
   * keys stay: none is ever said never to have been issued, and none is certified again.
   */
  purgeOctets(beforeMs: number): Promise<boolean>;
}
