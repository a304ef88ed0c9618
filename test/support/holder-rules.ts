import { expect } from 'vitest';
import { KeyFactory } from '../../bench/load/keys.ts';
import type { Answer, CaClient, Changed, Issued } from '../../ca/client/client.ts';
import type { PhoneOperation } from '../../ca/request/enrolment.ts';
import {
  base64,
  type ChipKey,
  cardRequest,
  defaultDevice,
  derOf,
  type EnrolmentParts,
  enrolmentContent,
  pemOf,
  signEnrolment,
} from './actors.ts';
import { dayInJapan, getChallenge, type Holder, type TestService } from './harness.ts';
import { factoryOf, keysOf } from './primes.ts';

// What the tests of a holder's life have in common: a holder, desks and phones, through the API.

let keys = factoryOf('persons');
let left = keysOf('persons');

export function nextKey(): ChipKey {
  if (left === 0) [keys, left] = [new KeyFactory(60), keysOf('persons')];
  left -= 1;
  return keys.next();
}

export function expectRefusal(answer: Answer<unknown>, status: number, title: string, detail?: RegExp): void {
  expect(answer).toMatchObject({ status, body: { status, title } });
  if (detail) expect((answer.body as { detail: string }).detail).toMatch(detail);
}

interface HolderBody {
  certificates: {
    kind: string;
    mediumId: string;
    serialNumber: string;
    authority: string;
    notAfter: string;
    status: { state: string; reason: string | null; heldBy: string[] };
  }[];
  standing: { closedBy: string | null; reopens: string | null; signingBarredBy: string | null } | null;
}

export const dayMs = 86_400_000;

let holders = 0;

/** A holder at desks and with phones; every call goes through the API. */
export class Person {
  readonly holderId: string;
  readonly #test: TestService;
  readonly api: CaClient;
  cardId: string;
  card: Issued | undefined;
  cardSigning = nextKey();

  constructor(test: TestService, holderId = `person-${++holders}`) {
    this.#test = test;
    this.api = test.api;
    this.holderId = holderId;
    this.cardId = `${holderId}-card`;
  }

  static async withCard(
    test: TestService,
    overrides: { readonly [member: string]: unknown } = {},
  ): Promise<Person> {
    const person = new Person(test);
    const answer = await person.atDesk(overrides);
    expect(answer.status, JSON.stringify(answer.body)).toBe(201);
    return person;
  }

  day(days: number): string {
    return dayInJapan(this.#test.clock.wallMs() + days * dayMs);
  }

  instant(days: number): string {
    return new Date(this.#test.clock.wallMs() + days * dayMs).toISOString();
  }

  /** Asks for a pair, or for what `slots` says; remembers the card's key where it is issued. */
  async atDesk(
    overrides: { readonly [member: string]: unknown } = {},
    slots: readonly ('signing' | 'authentication')[] = ['signing', 'authentication'],
    idempotencyKey?: string,
  ): Promise<Answer<Issued>> {
    const signing = nextKey();
    const chip = {
      ...(slots.includes('signing') ? { signing } : {}),
      ...(slots.includes('authentication') ? { authentication: nextKey() } : {}),
    };
    const body = cardRequest(chip, { holderId: this.holderId, cardId: this.cardId, ...overrides });
    const answer = await this.api.post<Issued>('/card-certificates', body, idempotencyKey);
    if (answer.status === 201 && slots.includes('signing')) {
      this.cardSigning = signing;
      this.card = answer.body;
      this.cardId = (overrides.cardId as string | undefined) ?? this.cardId;
    }
    return answer;
  }

  asHolder(): Omit<Holder, 'cardAuthentication'> {
    if (!this.card) throw new Error('no card yet');
    const { holderId, cardId, card, cardSigning } = this;
    return { holderId, cardId, card, cardSigning };
  }

  async enrol(
    deviceId: string,
    operation: PhoneOperation = 'issue-to-phone',
    overrides: Partial<EnrolmentParts> & { request?: object } = {},
  ): Promise<Answer<Issued>> {
    const { request = {}, ...others } = overrides;
    const all = {
      cardSigningKey: this.cardSigning.privateKey,
      cardSigningCertificate: derOf(this.pem('card-signing')),
      challenge: await getChallenge(this.api),
      device: { ...defaultDevice, deviceId },
      signing: nextKey(),
      authentication: nextKey(),
      operation,
      ...others,
    };
    const signedEnrolment = base64(
      signEnrolment(enrolmentContent(all as EnrolmentParts), all as EnrolmentParts),
    );
    return this.api.post<Issued>('/phone-certificates', { deviceId, signedEnrolment, ...request });
  }

  /** The same, and the TSM has stored what was issued. */
  async enrolStored(tsm: CaClient, deviceId: string): Promise<Answer<Issued>> {
    const answer = await this.enrol(deviceId);
    expect(answer.status, JSON.stringify(answer.body)).toBe(201);
    const stored = await tsm.post(`/issuances/${answer.body.issuanceId}/storage`, { stored: true });
    expect(stored.status, JSON.stringify(stored.body)).toBe(200);
    return answer;
  }

  report(body: object, through = this.api, idempotencyKey?: string): Promise<Answer<Changed>> {
    return through.post<Changed>('/events', body, idempotencyKey);
  }

  async shown(): Promise<HolderBody> {
    return (await this.api.get<HolderBody>(`/holders/${this.holderId}`)).body;
  }

  /** What the certificates on one medium are, in words. */
  async on(mediumId: string): Promise<string[]> {
    const { certificates } = await this.shown();
    return certificates
      .filter((certificate) => certificate.mediumId === mediumId)
      .map(({ kind, status }) => {
        const state = status.state === 'held' ? `held by ${status.heldBy.join(' ')}` : status.state;
        return `${kind.replace(/^[a-z]+-/, '')} ${status.state === 'revoked' ? status.reason : state}`;
      })
      .sort();
  }

  onCard = (cardId = this.cardId): Promise<string[]> => this.on(`card:${cardId}`);
  onPhone = (deviceId: string): Promise<string[]> => this.on(`phone:${deviceId}`);

  /** The end of the newest certificate of a kind. */
  async endOf(kind: string): Promise<string | undefined> {
    const { certificates } = await this.shown();
    return certificates.filter((each) => each.kind === kind).at(-1)?.notAfter;
  }

  pem = (kind: string): string => pemOf(this.asHolder().card, kind);
}

export const good = ['authentication good', 'signing good'];
