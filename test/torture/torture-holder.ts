import type { KeyFactory } from '../../bench/load/keys.ts';
import type { CaClient, Issued } from '../../ca/client/client.ts';
import {
  base64,
  type ChipKey,
  cardRequest,
  derOf,
  enrolmentContent,
  signEnrolment,
} from '../support/actors.ts';

export type State = 'good' | 'held' | 'revoked';

export interface Certificate {
  readonly kind: string;
  readonly pem: string;
  readonly authority: string;
  readonly serialNumber: string;
  state: State;
}

export interface Act {
  readonly path: string;
  readonly body: object | undefined;
  readonly key: string;
  /** Whether the second person does it. */
  readonly isApproval?: boolean;
  /** What an acknowledged answer means for the holder. */
  readonly learn: (body: unknown) => void;
  /** Whether what was answered has been carried out, where that goes on behind the answer. */
  readonly isDone?: (api: CaClient) => Promise<boolean>;
}

/** A restriction of a model that one holder alone has: proposed, in force, to be ended, ended. */
interface Restriction {
  readonly restrictionId: string;
  readonly acts: readonly { readonly actId: string; readonly action: string; readonly state: string }[];
}

/** One holder, the only one to act on its card and phone, and so to know what must be true of them. */
export class Holder {
  readonly id: string;
  readonly certificates: Certificate[] = [];
  readonly answered: { act: Act; body: unknown }[] = [];
  pending: Act | undefined;
  acts = 0;
  readonly #keys: KeyFactory;
  #cardKey: ChipKey | undefined;
  #challenge: Uint8Array | undefined;
  #device = '';
  /** Out of the register: nothing is issued until the return. */
  #left = false;
  readonly #isRestricted: boolean;
  #restriction: Restriction | undefined;

  /** With `isRestricted` its first phone's model is restricted, by two persons, and released or revoked. */
  constructor(id: string, keys: KeyFactory, isRestricted = false) {
    this.id = id;
    this.#keys = keys;
    this.#isRestricted = isRestricted;
  }

  /** The next act; the one that has no answer yet, if there is one. */
  next(): Act {
    this.pending ??= this.#choose();
    return this.pending;
  }

  #choose(): Act {
    if (this.#left) return this.#report('returned-to-register');
    const card = this.#live('card-signing');
    const phone = this.#live('phone-signing');
    const authentication = this.#live('card-authentication');
    if (!card && !authentication) return this.#issueCard(['signing', 'authentication']);
    if (!card)
      return authentication?.state === 'good' ? this.#issueCard(['signing']) : this.#report('card-returned');
    if (!phone && authentication?.state === 'good' && card.state === 'good') {
      return this.#challenge ? this.#issuePhone(card) : this.#askChallenge();
    }
    if (this.#isRestricted && this.#step < 4) return this.#restrict();
    const events = ['moved', 'card-returned', 'card-lost', 'left-register'];
    return this.#report(pick(this.#device ? [...events, 'phone-lost', 'phone-given-up'] : events));
  }

  #live(kind: string): Certificate | undefined {
    return this.certificates.find(
      (certificate) => certificate.kind === kind && certificate.state !== 'revoked',
    );
  }

  #issueCard(slots: ('signing' | 'authentication')[]): Act {
    const [signing, authentication] = [this.#keys.next(), slots.length === 2 ? this.#keys.next() : undefined];
    const body = cardRequest(
      { signing, ...(authentication ? { authentication } : {}) },
      { holderId: this.id, cardId: `c-${this.id}` },
    );
    return this.#act('/card-certificates', body, (answer) => {
      this.#cardKey = signing;
      this.#learnIssued(answer as Issued);
    });
  }

  #askChallenge(): Act {
    return this.#act('/phone-challenges', undefined, (answer) => {
      this.#challenge = Buffer.from((answer as { challenge: string }).challenge, 'base64');
    });
  }

  #issuePhone(card: Certificate): Act {
    if (!this.#cardKey || !this.#challenge) throw new Error('a phone without its card');
    const deviceId = `p-${this.id}-${this.acts}`;
    // A phone whose authentication certificate lives on is given up first: this story has one phone at a time.
    if (this.#live('phone-authentication')) return this.#report('phone-given-up');
    const parts = {
      cardSigningKey: this.#cardKey.privateKey,
      cardSigningCertificate: derOf(card.pem),
      challenge: this.#challenge,
      device: {
        deviceId,
        platform: 'android',
        model: `Torture ${this.id}`,
        osVersion: '1',
        secureElement: 'none',
        patchLevel: '',
      },
      signing: this.#keys.next(),
      authentication: this.#keys.next(),
    };
    const signedEnrolment = base64(signEnrolment(enrolmentContent(parts), parts));
    this.#challenge = undefined;
    this.#device = deviceId;
    return this.#act('/phone-certificates', { deviceId, signedEnrolment }, (answer) =>
      this.#learnIssued(answer as Issued),
    );
  }

  /** Of a restriction: 0 to propose it, 1 to approve that, 2 to propose its end, 3 to approve that. */
  #step = 0;

  #restrict(): Act {
    const step = this.#step;
    const next = (answer: unknown): void => {
      this.#step = step + 1;
      this.#restriction = answer as Restriction;
    };
    const { restrictionId, acts } = this.#restriction ?? { restrictionId: '', acts: [] };
    if (step === 0) {
      const match = { platform: 'android', models: [`Torture ${this.id}`] };
      return this.#act('/restrictions', { match, note: 'torture' }, next);
    }
    if (step === 2)
      return this.#act(`/restrictions/${restrictionId}/end`, { action: pick(['release', 'revoke']) }, next);
    const { actId = '', action = '' } = acts.at(-1) ?? {};
    const approval = this.#act(`/mass-acts/${actId}/approval`, undefined, (answer) => {
      next(answer);
      const state = ({ hold: 'held', release: 'good', revoke: 'revoked' } as const)[action];
      for (const certificate of this.certificates)
        if (state && certificate.kind.startsWith('phone') && certificate.state !== 'revoked')
          certificate.state = state;
    });
    return {
      ...approval,
      isApproval: true,
      isDone: async (api) => {
        const { body } = await api.get<Restriction>(`/restrictions/${restrictionId}`);
        return body.acts?.find((act) => act.actId === actId)?.state === 'done';
      },
    };
  }

  #report(event: string): Act {
    const target = event.startsWith('card')
      ? { cardId: `c-${this.id}` }
      : event.startsWith('phone')
        ? { deviceId: this.#device }
        : { holderId: this.id };
    return this.#act('/events', { event, ...target }, (answer) => {
      this.#left = event === 'left-register';
      const { changes } = answer as {
        changes: { authority: string; serialNumber: string; to: { state: State } }[];
      };
      for (const { authority, serialNumber, to } of changes) {
        const known = this.certificates.find(
          (certificate) => certificate.authority === authority && certificate.serialNumber === serialNumber,
        );
        if (!known) throw new Error(`a change of ${serialNumber}, which was never answered`);
        known.state = to.state;
      }
    });
  }

  #act(path: string, body: object | undefined, learn: Act['learn']): Act {
    this.acts += 1;
    return { path, body, key: crypto.randomUUID(), learn };
  }

  #learnIssued({ certificates }: Issued): void {
    for (const { kind, certificate, authority, serialNumber } of certificates) {
      this.certificates.push({ kind, pem: certificate, authority, serialNumber, state: 'good' });
    }
  }
}

const pick = <T>(from: readonly T[]): T => from[Math.floor(Math.random() * from.length)] as T;
