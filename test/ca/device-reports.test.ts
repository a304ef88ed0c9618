import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Answer, CaClient, Issued } from '../../ca/client/client.ts';
import { encodeDeviceReport } from '../../ca/request/device-report.ts';
import type { Device } from '../../ca/request/enrolment.ts';
import { digest } from '../../core/runtime/bytes.ts';
import {
  askOcsp,
  base64,
  type ChipKey,
  derOf,
  enrolmentContent,
  fetchCrl,
  ocspRequest,
  pemOf,
  signEnrolment,
} from '../support/actors.ts';
import {
  addClient,
  enrolmentParts,
  issueCard,
  removeScratch,
  startTestService,
  type TestService,
} from '../support/harness.ts';

// What phones report of themselves, and what restrictions make of it: they are about what is known last.

let test: TestService;
let api: CaClient;
let second: CaClient;
beforeAll(async () => {
  test = await startTestService();
  api = test.api;
  second = (await addClient(test, 'second', { roles: ['revoker'] })).client;
});
afterAll(async () => {
  await second.close();
  await test.close();
  removeScratch();
});

const contentType = '1.3.6.1.4.1.32473.8.11';

interface Phone {
  readonly issued: Issued;
  readonly deviceId: string;
  readonly keys: Readonly<Record<'signing' | 'authentication', ChipKey>>;
}

async function enrol(device: Partial<Device>, versions: object = {}, through = api): Promise<Phone> {
  const holder = await issueCard(through);
  const deviceId = `phone-of-${holder.holderId}`;
  const parts = { ...(await enrolmentParts(through, holder, { ...device, deviceId })), ...versions };
  const signedEnrolment = base64(signEnrolment(enrolmentContent(parts), parts));
  const answer = await through.post<Issued>('/phone-certificates', { deviceId, signedEnrolment });
  expect(answer.status).toBe(201);
  const { signing, authentication } = parts;
  return { issued: answer.body, deviceId, keys: { signing, authentication } as Phone['keys'] };
}

interface Said {
  osVersion: string;
  patchLevel: string;
  appletVersion: string | null;
  appVersion: string | null;
}
const now: Said = { osVersion: '16', patchLevel: '2026-10', appletVersion: null, appVersion: null };

interface Reported extends Said {
  deviceId: string;
  state: string;
}

async function signedReport(
  phone: Phone,
  said: Partial<Said>,
  over: { slot?: 'signing' | 'authentication'; challenge?: Uint8Array; through?: CaClient } = {},
): Promise<string> {
  const { slot = 'authentication', through = api } = over;
  const asked = await through.post<{ challenge: string }>('/phone-challenges', undefined);
  const challenge = over.challenge ?? Buffer.from(asked.body.challenge, 'base64');
  const certificate = derOf(pemOf(phone.issued, `phone-${slot}`));
  const content = encodeDeviceReport({
    certificate: digest('sha256', certificate),
    challenge,
    ...now,
    ...said,
  });
  const signer = { cardSigningKey: phone.keys[slot].privateKey, cardSigningCertificate: certificate };
  return base64(signEnrolment(content, signer as Parameters<typeof signEnrolment>[1], { contentType }));
}

const report = async (phone: Phone, said: Partial<Said>, over: Parameters<typeof signedReport>[2] = {}) =>
  (over?.through ?? api).post<Reported>('/phone-reports', {
    signedReport: await signedReport(phone, said, over),
  });

const states = async ({ issued }: Phone): Promise<string[]> =>
  Promise.all(
    issued.certificates.map(async ({ authority, serialNumber }) => {
      const { body } = await api.get<{ status: { state: string } }>(
        `/certificates/${authority}/${serialNumber}`,
      );
      return body.status.state;
    }),
  );

interface Restriction {
  restrictionId: string;
  acts: { actId: string; state: string }[];
}

async function approved(answer: Answer<Restriction>): Promise<Restriction> {
  expect(answer.status).toBe(201);
  const { restrictionId, acts } = answer.body;
  expect((await second.post(`/mass-acts/${acts.at(-1)?.actId}/approval`, undefined)).status).toBe(200);
  const done = async () =>
    (await api.get<Restriction>(`/restrictions/${restrictionId}`)).body.acts.at(-1)?.state;
  await expect.poll(done, { timeout: 10_000 }).toBe('done');
  return answer.body;
}

const restrict = async (match: object) =>
  approved(await api.post<Restriction>('/restrictions', { match: { platform: 'android', ...match } }));
const end = async ({ restrictionId }: Restriction, action: object) =>
  approved(await api.post<Restriction>(`/restrictions/${restrictionId}/end`, action));

function expectRefusal(answer: Answer<unknown>, status: number, title: string, detail?: RegExp): void {
  expect(answer).toMatchObject({ status, body: { status, title } });
  if (detail) expect((answer.body as { detail: string }).detail).toMatch(detail);
}

describe('a phone that reports what it is', () => {
  it('is no longer held as it reports a newer patch level, in OCSP too, and its history says why', async () => {
    const model = 'Patched 1';
    const phone = await enrol({ model, patchLevel: '2026-01' });
    const restriction = await restrict({ models: [model], patchLevelBefore: '2026-05' });
    expect(await states(phone)).toEqual(['held', 'held']);
    const answer = await report(phone, { patchLevel: '2026-06' });
    expect(answer).toMatchObject({ status: 200, body: { ...now, patchLevel: '2026-06', state: 'good' } });
    expect(await states(phone)).toEqual(['good', 'good']);
    const leaf = derOf(pemOf(phone.issued, 'phone-authentication'));
    const issuer = await fetchCrl(`${test.service.addresses.crl}/ca/authentication-1.cer`);
    const says = Buffer.from(await askOcsp(test.service.addresses.ocsp, await ocspRequest(leaf, issuer)));
    expect(says.includes(Buffer.from('8000180f', 'hex'))).toBe(true);
    const [{ authority, serialNumber } = { authority: '', serialNumber: '' }] = phone.issued.certificates;
    type Body = { entries: { change: string; cause: { event: string; partOf: string | null } }[] };
    const { body } = await api.get<Body>(`/certificates/${authority}/${serialNumber}/history`);
    expect(body.entries.map(({ change, cause }) => `${change} by ${cause.event}`)).toEqual([
      'issued by issued',
      'held by restriction-hold',
      'released by device-report',
    ]);
    expect(body.entries.at(-1)?.cause.partOf).toBe(`restriction:${restriction.restrictionId}`);
    await end(restriction, { action: 'release' });
  });

  it('is held as it reports what is restricted, and by what it says last', async () => {
    const model = 'Downgraded 1';
    const phone = await enrol({ model, osVersion: '17' });
    const restriction = await restrict({ models: [model], osVersionTo: '16.9' });
    expect(await states(phone)).toEqual(['good', 'good']);
    expect((await report(phone, { osVersion: '16.2' })).body.state).toBe('held');
    expect(await states(phone)).toEqual(['held', 'held']);
    expect((await report(phone, { osVersion: '17.1' })).body.state).toBe('good');
    await report(phone, { osVersion: '16.2' });
    await end(restriction, { action: 'release' });
    expect(await states(phone)).toEqual(['good', 'good']);
  });

  it('is matched by the versions of applet and app; one of which none is known by what is older', async () => {
    const model = 'Applet 1';
    const [silent, newer] = [
      await enrol({ model }),
      await enrol({ model }, { appletVersion: '2.1', appVersion: '5' }),
    ];
    const preview = async (match: object) =>
      (await api.post('/restrictions/preview', { platform: 'android', models: [model], ...match })).body;
    expect(await preview({ appletVersionTo: '2' })).toEqual({ phones: 1, certificates: 2 });
    expect(await preview({ appVersionFrom: '5', appVersionTo: '5.0' })).toEqual({
      phones: 1,
      certificates: 2,
    });
    const restriction = await restrict({ models: [model], appletVersionTo: '2' });
    expect(await states(silent)).toEqual(['held', 'held']);
    expect(await states(newer)).toEqual(['good', 'good']);
    expect((await report(silent, { appletVersion: '2.0.1' })).body).toMatchObject({ state: 'good' });
    // What is left out stays as it was said.
    expect((await report(silent, { appVersion: '4' })).body).toMatchObject({
      appletVersion: '2.0.1',
      state: 'good',
    });
    expectRefusal(
      await api.post('/restrictions', {
        match: { platform: 'android', appVersionFrom: '2', appVersionTo: '1' },
      }),
      400,
      'bad-request',
      /appVersionTo/,
    );
    await end(restriction, { action: 'release' });
  });

  it('stays held by whatever else holds it', async () => {
    const model = 'Lost 1';
    const phone = await enrol({ model, patchLevel: '2026-01' });
    const restriction = await restrict({ models: [model], patchLevelBefore: '2026-05' });
    await api.post('/events', { event: 'phone-lost', deviceId: phone.deviceId });
    expect((await report(phone, { patchLevel: '2026-06' })).body.state).toBe('held');
    expect(await states(phone)).toEqual(['held', 'held']);
    await end(restriction, { action: 'release' });
    expect(await states(phone)).toEqual(['held', 'held']);
  });

  it('does not come back once a restriction has revoked it, whatever it reports', async () => {
    const model = 'Final 1';
    const phone = await enrol({ model, patchLevel: '2026-01' });
    const restriction = await restrict({ models: [model], patchLevelBefore: '2026-05' });
    const before = await signedReport(phone, { patchLevel: '2026-06' });
    await end(restriction, { action: 'revoke' });
    expectRefusal(
      await api.post('/phone-reports', { signedReport: before }),
      400,
      'invalid-signed-request',
      /revoked/,
    );
    expect(await states(phone)).toEqual(['revoked', 'revoked']);
    await end(restriction, { action: 'release' });
    expect(await states(phone)).toEqual(['revoked', 'revoked']);
  });

  it('is revoked, and its keys ordered to be deleted, as it reports what was revoked', async () => {
    const model = 'Late 1';
    const phone = await enrol({ model, patchLevel: '2026-09' });
    const restriction = await restrict({ models: [model], patchLevelBefore: '2026-05' });
    await end(restriction, { action: 'revoke' });
    expect(await states(phone)).toEqual(['good', 'good']);
    expect((await report(phone, { patchLevel: '2026-01' })).body.state).toBe('revoked');
    const { body } = await api.get<{ messages: { type: string; deviceId?: string }[] }>(
      '/outbox?state=waiting',
    );
    const orders = body.messages.filter(({ deviceId }) => deviceId === phone.deviceId);
    expect(orders.map(({ type }) => type)).toEqual(['remote-deletion', 'remote-deletion']);
    expectRefusal(await report(phone, { patchLevel: '2026-09' }), 400, 'invalid-signed-request', /revoked/);
  });
});

describe('a phone that enters a kind', () => {
  const statusOf = async ({ issued }: Phone) => {
    const [{ authority, serialNumber } = { authority: '', serialNumber: '' }] = issued.certificates;
    type Body = { status: { state: string; revokedAt: string | null } };
    return (await api.get<Body>(`/certificates/${authority}/${serialNumber}`)).body.status;
  };

  it('of which a restriction revoked all is not revoked once that restriction has ended', async () => {
    const model = 'Ended 1';
    const restriction = await restrict({ models: [model], appVersionFrom: '5', appVersionTo: '5' });
    await end(restriction, { action: 'revoke' });
    const phone = await enrol({ model }, { appVersion: '4' });
    await end(restriction, { action: 'release' });
    expect((await report(phone, { appVersion: '5' })).body.state).toBe('good');
    expect(await states(phone)).toEqual(['good', 'good']);
  });

  it('that is restricted already is held since it entered, and not since the restriction began', async () => {
    const model = 'Since 1';
    const restriction = await restrict({ models: [model], osVersionTo: '15' });
    const phone = await enrol({ model });
    const beforeMs = test.service.ca.clock.wallMs();
    expect((await report(phone, { osVersion: '15' })).body.state).toBe('held');
    const held = await statusOf(phone);
    expect(held.state).toBe('held');
    expect(Date.parse(held.revokedAt ?? '')).toBeGreaterThanOrEqual(beforeMs);
    const leaf = derOf(pemOf(phone.issued, 'phone-authentication'));
    const issuer = await fetchCrl(`${test.service.addresses.crl}/ca/authentication-1.cer`);
    const says = Buffer.from(await askOcsp(test.service.addresses.ocsp, await ocspRequest(leaf, issuer)));
    const time = /a116180f([0-9a-f]{30})a0030a0106/.exec(says.toString('hex'))?.[1] ?? '';
    const told = Buffer.from(time, 'hex').toString('latin1');
    const whole = new Date(Math.floor(Date.parse(held.revokedAt ?? '') / 1000) * 1000).toISOString();
    expect(told).toBe(`${whole.replace(/[-:T]/g, '').slice(0, 14)}Z`);
    await end(restriction, { action: 'release' });
    expect(await states(phone)).toEqual(['good', 'good']);
  });

  it('reports some times a day, and no more', async () => {
    const phone = await enrol({ model: 'Often 1' });
    for (let i = 0; i < 24; i++) expect((await report(phone, { osVersion: `16.${i}` })).status).toBe(200);
    expectRefusal(await report(phone, { osVersion: '17' }), 409, 'quota-exceeded', /24 times/);
  });
});

describe('a report', () => {
  it('counts once: the same request has the same answer, and its challenge is used up', async () => {
    const phone = await enrol({ model: 'Once 1' });
    const body = { signedReport: await signedReport(phone, { osVersion: '18' }) };
    expect((await api.post('/phone-reports', body)).status).toBe(200);
    expectRefusal(await api.post('/phone-reports', body), 409, 'challenge-not-usable');
  });

  it.each<[string, (phone: Phone, other: Phone) => Promise<string>, string, RegExp | undefined]>([
    [
      'by the phone’s signing key',
      (phone) => signedReport(phone, {}, { slot: 'signing' }),
      'invalid-signed-request',
      /phone-authentication/,
    ],
    [
      'over a challenge that is none',
      (phone) => signedReport(phone, {}, { challenge: new Uint8Array(32) }),
      'challenge-not-usable',
      undefined,
    ],
    [
      'with another phone’s key',
      (phone, other) => signedReport({ ...phone, keys: other.keys }, {}),
      'invalid-signed-request',
      /does not verify/,
    ],
    [
      'of a version that cannot be compared',
      (phone) => signedReport(phone, { osVersion: '16 beta' }),
      'invalid-signed-request',
      /osVersion/,
    ],
    [
      'of an app version that cannot be compared',
      (phone) => signedReport(phone, { appVersion: 'x' }),
      'invalid-signed-request',
      /appVersion/,
    ],
    [
      'of a patch level that is no month',
      (phone) => signedReport(phone, { patchLevel: 'May' }),
      'invalid-signed-request',
      /patchLevel/,
    ],
    ['that is no CMS', async () => 'AAAA', 'invalid-signed-request', undefined],
  ])('is refused %s', async (_what, make, title, detail) => {
    const [phone, other] = await Promise.all([enrol({ model: 'Refused 1' }), enrol({ model: 'Refused 1' })]);
    const answer = await api.post('/phone-reports', { signedReport: await make(phone, other) });
    expectRefusal(answer, title === 'challenge-not-usable' ? 409 : 400, title, detail);
  });
});
