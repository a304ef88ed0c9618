import type { ErrorCode } from '../../core/runtime/errors.ts';

/** What a refusal of that type means, and what its caller does. */
interface Meaning {
  readonly meaning: string;
  readonly act: string;
}

const again = 'send it again, with the same Idempotency-Key, after Retry-After';
const mend = 'mend the request, and send it under another Idempotency-Key';

/** Every type of problem that the API answers (RFC 9457), by the end of its URN `urn:warifu:problem:`. */
export const problemTypes: Readonly<Record<ErrorCode, Meaning>> = {
  'bad-request': { meaning: 'the request is not of the form that the OpenAPI document describes', act: mend },
  'evidence-missing': {
    meaning: 'the policy wants evidence of the device or key, and the request has none',
    act: mend,
  },
  'invalid-device-evidence': { meaning: 'evidence of the device or key is not valid', act: mend },
  'invalid-key': { meaning: 'a public key is weak, of another type, or blocked', act: 'make another key' },
  'invalid-proof-of-possession': {
    meaning: 'a PKCS#10 request is not signed with the key in it',
    act: 'make the request again, with the key',
  },
  'invalid-signed-request': { meaning: 'what card or phone signed cannot be accepted', act: mend },
  unauthenticated: {
    meaning: 'the client certificate is not on the register, or is shut out or ended',
    act: 'have an administrator bind it, or renew it',
  },
  forbidden: {
    meaning: 'the caller’s roles, desks or municipalities do not allow it',
    act: 'ask who may; docs/ACCESS.md',
  },
  'device-refused': { meaning: 'a provider of verdicts refuses the device', act: 'tell the holder' },
  'device-restricted': {
    meaning: 'a restriction is in force for phones of this class',
    act: 'tell the holder; after its end, or with another version of the software, it works',
  },
  'desk-not-allowed': { meaning: 'this is not done at that kind of desk', act: 'send it to another desk' },
  'not-found': { meaning: 'it does not exist, or not for this caller', act: 'see what is named' },
  'foreign-cursor': {
    meaning: 'a feed’s cursor is of another record, or beyond it',
    act: 'stop, and follow with --reconcile once the record was restored on purpose',
  },
  'method-not-allowed': {
    meaning: 'the path exists, with other methods',
    act: 'use one that Allow names',
  },
  'approval-needed': { meaning: 'a second person has to approve it first', act: 'have it approved' },
  'already-certified': {
    meaning: 'the key is in a certificate already',
    act: 'make another key, or send what was sent before with its Idempotency-Key',
  },
  'code-not-usable': { meaning: 'a confirmation code is wrong or used up', act: 'ask for another' },
  'event-id-reused': {
    meaning: 'this client has reported another event under that eventId',
    act: 'use an eventId once',
  },
  'holder-closed': { meaning: 'the holder has died or left', act: 'report the return, or a correction' },
  'signing-not-allowed': {
    meaning: 'the holder may have no signing certificate, by age or guardianship',
    act: 'ask for authentication alone',
  },
  'card-certificate-not-good': {
    meaning: 'the card’s certificate that signed is held, revoked or ended',
    act: 'have the card looked at, at a desk',
  },
  'challenge-not-usable': { meaning: 'a challenge is unknown, used or too old', act: 'ask for another' },
  'idempotency-key-reused': {
    meaning: 'this client has sent another request under that Idempotency-Key',
    act: 'use a key for one request',
  },
  'in-use': { meaning: 'something still uses what was to be removed', act: 'end that first' },
  'illegal-transition': {
    meaning: 'a certificate, medium or act cannot go from its state to that one; revoked is final',
    act: 'look it up',
  },
  'medium-belongs-to-another-holder': {
    meaning: 'the card or phone is another holder’s; told as medium-unavailable',
    act: 'see which card or phone it is',
  },
  'medium-unavailable': {
    meaning: 'the card or phone cannot be used for this',
    act: 'see which card or phone it is',
  },
  'not-due': { meaning: 'a renewal is too early', act: 'wait for opensAt of GET /v1/renewals' },
  'plan-changed': {
    meaning: 'the consequences are no longer those of planHash',
    act: 'ask for the plan again (dryRun), and look at it',
  },
  'quota-exceeded': { meaning: 'a limit of the configuration is reached', act: 'see what the detail names' },
  'request-in-progress': {
    meaning: 'the same request is being worked on',
    act: 'send it again in some seconds, with the same Idempotency-Key',
  },
  'revoked-while-issuing': {
    meaning: 'what the issuance rests on was revoked meanwhile',
    act: 'begin again with a good card',
  },
  'slot-occupied': {
    meaning: 'the medium has a certificate of that kind',
    act: 'report the event that ends it, or renew it',
  },
  'terms-not-agreed': {
    meaning: 'a verifier has not agreed to the terms in force',
    act: 'agree to them',
  },
  'too-large': { meaning: 'the body, or a line of it, has too many octets', act: 'send less at once' },
  'unsupported-media-type': { meaning: 'the body is of another media type', act: 'send application/json' },
  'validity-exceeds-issuer': {
    meaning: 'a certificate would outlive its CA',
    act: 'have the operators make the CA’s next generation',
  },
  'rate-exceeded': { meaning: 'the client asks more often than it may', act: 'send it again later' },
  internal: {
    meaning: 'the service failed',
    act: 'report it with the request id of instance, which finds the cause in the log',
  },
  'function-closed': { meaning: 'operators have closed or limited this function', act: again },
  'clock-unreliable': { meaning: 'the service’s clock cannot be relied on', act: again },
  'record-unavailable': { meaning: 'the record cannot be read or written now', act: again },
  'token-unavailable': { meaning: 'the token with the keys does not answer', act: again },
  'verdict-unavailable': { meaning: 'a provider of verdicts does not answer', act: again },
  overloaded: { meaning: 'too much waits already', act: again },
};
