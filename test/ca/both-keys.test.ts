import { sign } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Answer, Issued } from '../../ca/client/client.ts';
import {
  base64,
  derOf,
  enrolmentContent,
  pemOf,
  signEnrolment,
  signedAttributes,
  signedMessage,
} from '../support/actors.ts';
import {
  dataFolder,
  enrolmentParts,
  fileOf,
  type Holder,
  issueCard,
  openssl,
  removeScratch,
  startTestService,
  type TestService,
} from '../support/harness.ts';

// The card's signing key signs documents that others wrote, and its authentication key answers others' challenges. Neither
// signature may be made into an enrolment.

let strict: TestService;
let lenient: TestService;
beforeAll(async () => {
  strict = await startTestService({
    folder: await dataFolder({ issuing: { enrolmentWithBothKeys: 'always' } }),
  });
  lenient = await startTestService();
});
afterAll(async () => {
  await strict.close();
  await lenient.close();
  removeScratch();
});

type Parts = Awaited<ReturnType<typeof enrolmentParts>>;

const send = (service: TestService, { device: { deviceId } }: Parts, message: Uint8Array) =>
  service.api.post<Issued & { detail?: string }>('/phone-certificates', {
    deviceId,
    signedEnrolment: base64(message),
  });

const authenticationOf = ({ card, cardAuthentication }: Holder) => ({
  key: cardAuthentication.privateKey,
  certificate: derOf(pemOf(card, 'card-authentication')),
});

const refused = (answer: Answer<unknown>, detail: RegExp) =>
  expect(answer).toMatchObject({
    status: 400,
    body: { title: 'invalid-signed-request', detail: expect.stringMatching(detail) },
  });

/** A service that has holders sign its documents makes one an enrolment of its own phone. */
async function forge(service: TestService, holder: Holder): Promise<{ parts: Parts; message: Uint8Array }> {
  const parts = await enrolmentParts(service.api, holder, {
    deviceId: `phone-of-a-thief-of-${holder.holderId}`,
  });
  const content = enrolmentContent(parts);
  const { attributes, der: document } = signedAttributes(content, parts.cardSigningCertificate);
  // All that the holder does: sign a document, as the card signs any.
  const signature = sign('sha256', document, holder.cardSigning.privateKey);
  const certificate = parts.cardSigningCertificate;
  return { parts, message: signedMessage(content, [{ attributes, certificate, signature }]) };
}

describe('a document in the form of signed attributes, signed by its holder', () => {
  it('enrols the phone of the one who wrote it where one signature is enough', async () => {
    const { parts, message } = await forge(lenient, await issueCard(lenient.api));
    expect((await send(lenient, parts, message)).status).toBe(201);
  });

  it('enrols nothing where both keys have to sign', async () => {
    const { parts, message } = await forge(strict, await issueCard(strict.api));
    refused(await send(strict, parts, message), /authentication key has to sign/);
  });

  it('enrols nothing with an authentication that its holder made for a challenge', async () => {
    const holder = await issueCard(strict.api);
    const { parts, message: _ } = await forge(strict, holder);
    const content = enrolmentContent(parts);
    const both = [
      { key: holder.cardSigning.privateKey, certificate: parts.cardSigningCertificate },
      authenticationOf(holder),
    ].map(({ key, certificate }, i) => {
      const { attributes, der } = signedAttributes(content, certificate);
      const signed = i === 0 ? der : Buffer.from('a verifier’s challenge of 32 octets');
      return { attributes, certificate, signature: sign('sha256', signed, key) };
    });
    refused(await send(strict, parts, signedMessage(content, both)), /signature does not verify/);
  });
});

describe('an enrolment that both keys of a card sign', () => {
  it.each<[string, () => TestService]>([
    ['where both have to', () => strict],
    ['where one would be enough', () => lenient],
  ])('is taken %s', async (_where, service) => {
    const holder = await issueCard(service().api);
    const parts = await enrolmentParts(service().api, holder);
    const message = signEnrolment(enrolmentContent(parts), parts, {}, [authenticationOf(holder)]);
    const { status, body } = await send(service(), parts, message);
    expect([status, body.detail]).toEqual([201, undefined]);
  });

  it('is taken as openssl cms makes it', async () => {
    const holder = await issueCard(strict.api);
    const parts = await enrolmentParts(strict.api, holder);
    const out = fileOf('', 'both.cms');
    const keyFile = (key: Holder['cardSigning'], name: string) =>
      fileOf(key.privateKey.export({ format: 'pem', type: 'pkcs8' }) as string, name);
    const form = ['-binary', '-nodetach', '-cades', '-outform', 'DER', '-md', 'sha256'];
    const type = ['-econtent_type', '1.3.6.1.4.1.32473.8.1'];
    const [signing, authentication] = [
      fileOf(pemOf(holder.card, 'card-signing'), 'signing.pem'),
      fileOf(pemOf(holder.card, 'card-authentication'), 'authentication.pem'),
    ];
    const signers = [
      ...['-signer', signing, '-inkey', keyFile(holder.cardSigning, 'signing.key')],
      ...['-signer', authentication, '-inkey', keyFile(holder.cardAuthentication, 'authentication.key')],
    ];
    const content = fileOf(enrolmentContent(parts), 'content.der');
    openssl('cms', '-sign', ...form, ...type, '-in', content, ...signers, '-out', out);
    const { status, body } = await send(strict, parts, readFileSync(out));
    expect([status, body.detail]).toEqual([201, undefined]);
  });

  it('is refused by another card’s authentication key, by the signing key twice, and by three', async () => {
    const [holder, other] = [await issueCard(strict.api), await issueCard(strict.api)];
    const parts = await enrolmentParts(strict.api, holder);
    const own = { key: parts.cardSigningKey, certificate: parts.cardSigningCertificate };
    const by = (...others: { key: typeof own.key; certificate: Uint8Array }[]) =>
      send(strict, parts, signEnrolment(enrolmentContent(parts), parts, {}, others));
    refused(await by(authenticationOf(other)), /same card/);
    refused(await by(own), /same card/);
    refused(await by(authenticationOf(holder), authenticationOf(holder)), /one signer to 2/);
    const alone = { ...parts, cardSigningKey: authenticationOf(holder).key };
    const authenticationAlone = { ...alone, cardSigningCertificate: authenticationOf(holder).certificate };
    refused(
      await send(strict, parts, signEnrolment(enrolmentContent(authenticationAlone), authenticationAlone)),
      /not a card’s signing certificate/,
    );
    // None of them has used the challenge up.
    expect((await by(authenticationOf(holder))).status).toBe(201);
  });

  it('is not wanted for authentication alone', async () => {
    const holder = await issueCard(strict.api);
    const { signing: _, ...parts } = await enrolmentParts(strict.api, holder);
    const asked = { ...parts, operation: 'issue-authentication-to-phone' as const };
    const message = signEnrolment(enrolmentContent(asked), asked);
    expect((await send(strict, asked as never, message)).status).toBe(201);
  });
});

describe('a challenge', () => {
  it('is looked at before anything expensive', async () => {
    const holder = await issueCard(lenient.api);
    const parts = { ...(await enrolmentParts(lenient.api, holder)), challenge: new Uint8Array(32) };
    // Neither signature nor requests are right: what is said shows what was looked at first.
    const nonsense = { ...parts, signing: { ...parts.signing, request: new Uint8Array([0x30, 0]) } };
    const signingKey = holder.cardAuthentication.privateKey;
    const message = signEnrolment(enrolmentContent(nonsense), nonsense, { signingKey });
    expect(await send(lenient, parts, message)).toMatchObject({
      status: 409,
      body: { title: 'challenge-not-usable' },
    });
  });
});
