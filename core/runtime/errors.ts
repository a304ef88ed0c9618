/** What can be refused, and with which HTTP status an edge says so (RFC 9110 §15). One closed union. */
export const errorStatus = {
  'bad-request': 400,
  'evidence-missing': 400,
  'invalid-device-evidence': 400,
  'invalid-key': 400,
  'invalid-proof-of-possession': 400,
  'invalid-signed-request': 400,
  unauthenticated: 401,
  forbidden: 403,
  'device-refused': 403,
  'device-restricted': 403,
  'desk-not-allowed': 403,
  'not-found': 404,
  'foreign-cursor': 404,
  'method-not-allowed': 405,
  'approval-needed': 409,
  'already-certified': 409,
  'code-not-usable': 409,
  'event-id-reused': 409,
  'holder-closed': 409,
  'signing-not-allowed': 409,
  'card-certificate-not-good': 409,
  'challenge-not-usable': 409,
  'idempotency-key-reused': 409,
  'in-use': 409,
  'illegal-transition': 409,
  'medium-belongs-to-another-holder': 409,
  'medium-unavailable': 409,
  'not-due': 409,
  'plan-changed': 409,
  'quota-exceeded': 409,
  'request-in-progress': 409,
  'revoked-while-issuing': 409,
  'slot-occupied': 409,
  'terms-not-agreed': 409,
  'too-large': 413,
  'unsupported-media-type': 415,
  'validity-exceeds-issuer': 422,
  'rate-exceeded': 429,
  internal: 500,
  'function-closed': 503,
  'clock-unreliable': 503,
  'record-unavailable': 503,
  'token-unavailable': 503,
  'verdict-unavailable': 503,
  overloaded: 503,
} as const;

export type ErrorCode = keyof typeof errorStatus;

/**
 * A refusal with a reason that may be shown to the caller: `detail` says what is wrong and where, and never
 * holds personal data or a secret. Anything else that is thrown is a fault of ours and leaks nothing.
 */
export class PkiError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, detail: string, options?: { cause?: unknown }) {
    super(detail, options);
    this.name = 'PkiError';
    this.code = code;
  }
}

/** Returns the value; throws where it is absent. */
export function must<T>(value: T | null | undefined, what: string): T {
  if (value === null || value === undefined) throw new Error(`invariant broken: there is no ${what}`);
  return value;
}

/** A broken promise of our own code: the process is not to be trusted further. */
export function invariant(condition: unknown, what: string): asserts condition {
  if (!condition) throw new Error(`invariant broken: ${what}`);
}
