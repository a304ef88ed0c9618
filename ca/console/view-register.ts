import { get } from './api.ts';
import { h, said } from './dom.ts';
import { day, short, time } from './format.ts';
import { named, t } from './language.ts';
import { later, type MakeView } from './page.ts';
import { table } from './tables.ts';
import type { Client, Desk, Verifier } from './types.ts';

/** Who may call, for which desks, and who may ask. */
export const register: MakeView = () => ({
  title: t('nav.register'),
  content: [later(clients), later(desks), later(verifiers)],
});

const badge = (isEnded: boolean, word: string): HTMLElement =>
  h('span', { class: `badge ${isEnded ? 'revoked' : 'good'}` }, isEnded ? word : t('in-force'));

async function clients(): Promise<HTMLElement> {
  const { clients: all } = await get<{ clients: Client[] }>('/clients');
  return table(
    t('clients'),
    [
      t('name'),
      t('roles'),
      t('desks'),
      t('municipalities'),
      t('status'),
      t('ends'),
      t('binding-ends'),
      t('last-used'),
      t('fingerprint'),
    ],
    all.map((each) => [
      said(each.name),
      each.roles.map((role) => named('role', role)).join(', '),
      said(each.desks.join(', ')),
      said((each.municipalities ?? []).join(', ')),
      badge(each.revokedAt !== null, t('shut-out')),
      day(each.certificateEndsAt),
      day(each.bindingEndsAt),
      time(each.lastUsedAt),
      h('code', { title: each.fingerprint }, short(each.fingerprint)),
    ]),
  );
}

async function desks(): Promise<HTMLElement> {
  const { desks: all } = await get<{ desks: Desk[] }>('/desks');
  return table(
    t('desks'),
    [t('name'), t('kind'), t('functions'), t('municipalities'), t('status'), t('to')],
    all.map((each) => [
      said(each.deskCode),
      said(each.kind),
      said(each.functions.join(', ')),
      said(each.municipalities.join(', ')),
      badge(each.suspendedAt !== null, t('suspended')),
      day(each.validTo),
    ]),
  );
}

async function verifiers(): Promise<HTMLElement> {
  const { verifiers: all } = await get<{ verifiers: Verifier[] }>('/verifiers');
  return table(
    t('verifiers'),
    [t('fingerprint'), t('name'), t('credentials'), t('status'), t('to')],
    all.map((each) => [
      said(each.verifierId),
      said(each.name),
      said(each.credentials.map(({ type }) => type).join(', ')),
      badge(each.suspendedAt !== null, t('suspended')),
      day(each.validTo),
    ]),
  );
}
