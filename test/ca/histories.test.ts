import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { KeyFactory } from '../../bench/load/keys.ts';
import type { Answer, CaClient, Issued } from '../../ca/client/client.ts';
import { parseConfig } from '../../ca/config/config.ts';
import type { PhoneOperation } from '../../ca/request/enrolment.ts';
import {
  askOcsp,
  base64,
  type ChipKey,
  cardRequest,
  crlAddress,
  defaultDevice,
  derOf,
  enrolmentContent,
  fetchCrl,
  listed,
  ocspRequest,
  pemOf,
  signEnrolment,
} from '../support/actors.ts';
import {
  addClient,
  dayInJapan,
  getChallenge,
  removeScratch,
  startTestService,
  type TestService,
} from '../support/harness.ts';
import { factoryOf } from '../support/primes.ts';

// Random histories of one holder after another, through the real API. After each step everything there is to see is looked
// at: record, OCSP and CRLs must agree, and what the scheme promises must hold, whatever was done in whatever order.

const { policy } = parseConfig({});
const events = Object.keys(policy.events);

type Step =
  | { readonly type: 'event'; readonly event: string }
  | { readonly type: 'card'; readonly event: string | null; readonly isNew: boolean; readonly slots: 1 | 2 }
  | {
      readonly type: 'phone';
      readonly platform: string;
      readonly operation: PhoneOperation;
      readonly isNew: boolean;
    }
  | { readonly type: 'certificate'; readonly pick: number; readonly action: 'hold' | 'release' | 'revoke' }
  | { readonly type: 'restrict'; readonly platform: string };

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: fc.constantFrom(...events).map((event): Step => ({ type: 'event', event })) },
  {
    weight: 3,
    arbitrary: fc.record({
      type: fc.constant('card' as const),
      event: fc.constantFrom(null, 'moved', 'card-found', 'card-renewed'),
      isNew: fc.boolean(),
      slots: fc.constantFrom(1 as const, 2 as const),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      type: fc.constant('phone' as const),
      platform: fc.constantFrom('android', 'ios'),
      operation: fc.constantFrom<PhoneOperation>(
        'issue-to-phone',
        'issue-to-phone',
        'change-phone',
        'renew-phone',
        'issue-authentication-to-phone',
      ),
      isNew: fc.boolean(),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      type: fc.constant('certificate' as const),
      pick: fc.nat(),
      action: fc.constantFrom('hold' as const, 'release' as const, 'revoke' as const),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      type: fc.constant('restrict' as const),
      platform: fc.constantFrom('android', 'ios'),
    }),
  },
);

let test: TestService;
let api: CaClient;
let second: CaClient;
let keys: KeyFactory;
const issuers = new Map<string, Uint8Array>();

beforeAll(async () => {
  test = await startTestService();
  api = test.api;
  second = (await addClient(test, 'second', { roles: ['revoker'] })).client;
  keys = factoryOf('batches');
  for (const name of ['signing-1', 'authentication-1'])
    issuers.set(name, await fetchCrl(`${test.service.addresses.crl}/ca/${name}.cer`));
});
afterAll(async () => {
  await second.close();
  await test.close();
  removeScratch();
});

interface Restriction {
  readonly restrictionId: string;
  readonly acts: readonly { readonly actId: string; readonly state: string }[];
}

interface Certificate {
  readonly authority: string;
  readonly serialNumber: string;
  readonly kind: string;
  readonly mediumId: string;
  readonly restsOn: { readonly serialNumber: string } | null;
  readonly status: { readonly state: string; readonly reason: string | null };
}

interface Shown {
  readonly media: readonly {
    readonly mediumId: string;
    readonly type: string;
    readonly platform: string | null;
  }[];
  readonly certificates: readonly Certificate[];
}

let histories = 0;

/** One holder, with what counters and apps know of them. */
class History {
  readonly holderId = `story-${++histories}`;
  readonly #pems = new Map<string, string>();
  readonly #revoked = new Set<string>();
  #cards = 0;
  #phones = 0;
  #cardKey: ChipKey | undefined;
  #cardSigning: string | undefined;
  #lastPhone: string | undefined;

  async take(step: Step): Promise<void> {
    const answer = await this.#act(step);
    // Refused or done; never broken.
    expect([200, 201, 400, 403, 404, 409]).toContain(answer?.status ?? 200);
    await this.#check();
  }

  #act(step: Step): Promise<Answer<unknown> | undefined> {
    switch (step.type) {
      case 'event':
        return this.#report(step.event);
      case 'card':
        return this.#card(step);
      case 'phone':
        return this.#phone(step);
      case 'certificate':
        return this.#change(step);
      case 'restrict':
        return this.#restrict(step.platform);
    }
  }

  #report(event: string): Promise<Answer<unknown>> {
    const { target } = policy.events[event] ?? {};
    const { holderId } = this;
    const on =
      target === 'holder'
        ? { holderId }
        : target === 'card'
          ? { cardId: `${holderId}-c${this.#cards}` }
          : { deviceId: this.#lastPhone ?? 'none' };
    return api.post('/events', { event, ...on });
  }

  async #card({ event, isNew, slots }: Extract<Step, { type: 'card' }>): Promise<Answer<unknown>> {
    const before = `${this.holderId}-c${this.#cards}`;
    if (isNew || this.#cards === 0) this.#cards += 1;
    const cardId = `${this.holderId}-c${this.#cards}`;
    const signing = keys.next();
    const chip = slots === 2 ? { signing, authentication: keys.next() } : { signing };
    // A card that ends soon: its renewal is open from the start.
    const cardExpiresOn = dayInJapan(test.clock.wallMs() + 60 * 86_400_000);
    const request = cardRequest(chip, { holderId: this.holderId, cardId, cardExpiresOn });
    const replaces = event && event !== 'moved' && cardId !== before ? { replacesCardId: before } : {};
    const body = { ...request, ...(event === null ? {} : { event }), ...replaces };
    const answer = await api.post<Issued>('/card-certificates', body);
    if (answer.status === 201) {
      this.#learn(answer.body);
      this.#cardKey = signing;
      this.#cardSigning = pemOf(answer.body, 'card-signing');
    }
    return answer;
  }

  async #phone({
    platform,
    operation,
    isNew,
  }: Extract<Step, { type: 'phone' }>): Promise<Answer<unknown> | undefined> {
    if (!this.#cardKey || !this.#cardSigning) return undefined;
    const replaces = this.#lastPhone;
    const isOther = isNew || operation === 'change-phone' || replaces === undefined;
    const deviceId = isOther ? `${this.holderId}-p${++this.#phones}` : replaces;
    const parts = {
      cardSigningKey: this.#cardKey.privateKey,
      cardSigningCertificate: derOf(this.#cardSigning),
      challenge: await getChallenge(api),
      device: { ...defaultDevice, deviceId, platform, model: `Model of ${this.holderId}` },
      operation,
      ...(operation === 'change-phone' && replaces !== undefined ? { replaces } : {}),
      ...(operation === 'issue-authentication-to-phone' ? {} : { signing: keys.next() }),
      authentication: keys.next(),
    };
    const signedEnrolment = base64(signEnrolment(enrolmentContent(parts), parts));
    const answer = await api.post<Issued>('/phone-certificates', { deviceId, signedEnrolment });
    if (answer.status === 201) {
      this.#learn(answer.body);
      this.#lastPhone = deviceId;
    }
    return answer;
  }

  async #change({
    pick,
    action,
  }: Extract<Step, { type: 'certificate' }>): Promise<Answer<unknown> | undefined> {
    const { certificates } = await this.#shown();
    const certificate = certificates[pick % Math.max(certificates.length, 1)];
    if (!certificate) return undefined;
    return api.post(`/certificates/${certificate.authority}/${certificate.serialNumber}/changes`, { action });
  }

  /** All of this holder's phones on a platform, held and released again: what else holds them must go on to. */
  async #restrict(platform: string): Promise<undefined> {
    const match = { platform, models: [`Model of ${this.holderId}`] };
    const before = await this.#shown();
    const { body } = await api.post<Restriction>('/restrictions', { match });
    await this.#approve(body);
    const held = await this.#shown();
    const phones = held.media
      .filter((medium) => medium.platform === platform)
      .map(({ mediumId }) => mediumId);
    const on = held.certificates.filter(({ mediumId }) => phones.includes(mediumId));
    for (const { status } of on) expect(['held', 'revoked']).toContain(status.state);
    await this.#check();
    const end = await api.post<Restriction>(`/restrictions/${body.restrictionId}/end`, { action: 'release' });
    await this.#approve(end.body);
    expect((await this.#shown()).certificates).toEqual(
      before.certificates.map((one) =>
        expect.objectContaining({
          status: one.status.state === 'held' ? expect.objectContaining({ state: 'held' }) : one.status,
        }),
      ),
    );
    return undefined;
  }

  async #approve({ restrictionId, acts }: Restriction): Promise<void> {
    const actId = acts.at(-1)?.actId;
    expect((await second.post(`/mass-acts/${actId}/approval`, undefined)).status).toBe(200);
    const state = async () =>
      (await api.get<Restriction>(`/restrictions/${restrictionId}`)).body.acts.find(
        (act) => act.actId === actId,
      )?.state;
    await expect.poll(state, { timeout: 10_000, interval: 20 }).toBe('done');
  }

  #learn(issued: Issued): void {
    for (const { serialNumber, certificate } of issued.certificates)
      this.#pems.set(serialNumber, certificate);
  }

  async #shown(): Promise<Shown> {
    const { status, body } = await api.get<Shown>(`/holders/${this.holderId}`);
    return status === 404 ? { media: [], certificates: [] } : body;
  }

  async #check(): Promise<void> {
    const { media, certificates } = await this.#shown();
    this.#checkPromises(certificates);
    const inForce = (type: string, platform: string | null) =>
      media.filter(
        (medium) =>
          medium.type === type &&
          medium.platform === platform &&
          certificates.some(
            ({ mediumId, status }) => mediumId === medium.mediumId && status.state !== 'revoked',
          ),
      ).length;
    expect(inForce('card', null)).toBeLessThanOrEqual(1);
    for (const platform of ['android', 'ios']) expect(inForce('phone', platform)).toBeLessThanOrEqual(1);
    for (const certificate of certificates)
      expect(await this.#ocspSays(certificate)).toBe(certificate.status.state);
    await this.#checkCrls(certificates);
  }

  #checkPromises(certificates: readonly Certificate[]): void {
    const slots = new Set<string>();
    for (const { serialNumber, kind, mediumId, status, restsOn } of certificates) {
      if (this.#revoked.has(serialNumber)) expect(status.state).toBe('revoked');
      if (status.state === 'revoked') this.#revoked.add(serialNumber);
      else {
        // One certificate a purpose on each medium.
        expect(slots).not.toContain(`${mediumId} ${kind}`);
        slots.add(`${mediumId} ${kind}`);
      }
      if (!restsOn) continue;
      const card = certificates.find((candidate) => candidate.serialNumber === restsOn.serialNumber);
      if (card?.status.state === 'revoked') expect(status.state).toBe('revoked');
      if (card?.status.state === 'held') expect(status.state).not.toBe('good');
    }
  }

  async #ocspSays({ authority, serialNumber }: Certificate): Promise<string> {
    const leaf = derOf(this.#pems.get(serialNumber) ?? '');
    const query = await ocspRequest(leaf, issuers.get(authority) ?? new Uint8Array());
    const response = Buffer.from(await askOcsp(test.service.addresses.ocsp, query)).toString('hex');
    if (response.includes('8000180f')) return 'good';
    if (/a116180f[0-9a-f]{30}a0030a0106/.test(response)) return 'held';
    return /a1(11|16)180f/.test(response) ? 'revoked' : response;
  }

  /** Within moments, each certificate's own distribution point lists what is held or revoked, and nothing else. */
  async #checkCrls(certificates: readonly Certificate[]): Promise<void> {
    const addresses = new Map<string, Certificate[]>();
    for (const certificate of certificates) {
      const address = crlAddress(derOf(this.#pems.get(certificate.serialNumber) ?? ''));
      addresses.set(address, [...(addresses.get(address) ?? []), certificate]);
    }
    for (const [address, all] of addresses) {
      const wrong = async () => {
        const list = listed(await fetchCrl(address));
        return all.filter(({ serialNumber, status }) => list.has(serialNumber) !== (status.state !== 'good'));
      };
      await expect.poll(wrong, { timeout: 10_000, interval: 20 }).toEqual([]);
    }
  }
}

it('through any history record, OCSP and CRLs agree, a phone never outlives its card, and revoked is final', async () => {
  const first: Step[] = [
    { type: 'card', event: null, isNew: true, slots: 2 },
    { type: 'phone', platform: 'android', operation: 'issue-to-phone', isNew: true },
  ];
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 6, maxLength: 14 }), async (steps) => {
      const history = new History();
      for (const each of [...first, ...steps]) await history.take(each);
    }),
    { numRuns: 12, endOnFailure: true },
  );
}, 120_000);
