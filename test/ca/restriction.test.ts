import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Answer, CaClient, Issued } from '../../ca/client/client.ts';
import type { Device } from '../../ca/request/enrolment.ts';
import { compareVersions, type DeviceMatch, matchesDevice } from '../../core/model/device.ts';
import {
  askOcsp,
  base64,
  cardRequest,
  derOf,
  enrolmentContent,
  fetchCrl,
  makeChipKey,
  ocspRequest,
  pemOf,
  signEnrolment,
} from '../support/actors.ts';
import {
  addClient,
  dataFolder,
  enrolmentParts,
  issueCard,
  removeScratch,
  startTestService,
  type TestService,
} from '../support/harness.ts';

// Usage restrictions: all phones of a kind, held at once, released or revoked later, as one act of two people.

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

interface Restriction {
  restrictionId: string;
  state: string;
  acts: { actId: string; action: string; state: string; phones: number; certificates: number }[];
}

async function enrol(device: Partial<Device>, through: CaClient = api): Promise<Answer<Issued>> {
  const holder = await issueCard(through);
  const deviceId = `phone-of-${holder.holderId}`;
  const parts = await enrolmentParts(through, holder, { ...device, deviceId });
  const signedEnrolment = base64(signEnrolment(enrolmentContent(parts), parts));
  return through.post<Issued>('/phone-certificates', { deviceId, signedEnrolment });
}

const states = async (issued: Issued, through: CaClient = api): Promise<string[]> =>
  Promise.all(
    issued.certificates.map(async ({ authority, serialNumber }) => {
      type Body = { status: { state: string; heldBy: string[] } };
      const { body } = await through.get<Body>(`/certificates/${authority}/${serialNumber}`);
      return body.status.state;
    }),
  );

async function propose(match: object, note = ''): Promise<Restriction> {
  const answer = await api.post<Restriction>('/restrictions', { match, note });
  expect(answer.status).toBe(201);
  return answer.body;
}

const lastAct = ({ acts }: Restriction) => acts.at(-1) as Restriction['acts'][number];

async function approve({ restrictionId, ...restriction }: Restriction, through: CaClient = second) {
  const act = lastAct({ restrictionId, ...restriction });
  const answer = await through.post<Restriction>(`/mass-acts/${act.actId}/approval`, undefined);
  expect(answer.status).toBe(200);
  const now = async () => (await through.get<Restriction>(`/restrictions/${restrictionId}`)).body;
  await expect.poll(async () => lastAct(await now()).state, { timeout: 10_000 }).toBe('done');
  return now();
}

const end = async ({ restrictionId }: Restriction, action: object) =>
  (await api.post<Restriction>(`/restrictions/${restrictionId}/end`, action)).body;

function expectRefusal(answer: Answer<unknown>, status: number, title: string, detail?: RegExp): void {
  expect(answer).toMatchObject({ status, body: { status, title } });
  if (detail) expect((answer.body as { detail: string }).detail).toMatch(detail);
}

describe('a restriction', () => {
  it('is previewed, proposed, approved by another, and holds exactly the phones that match', async () => {
    const model = 'Leaky 1';
    const [old, patched] = [
      await enrol({ model, patchLevel: '2026-01' }),
      await enrol({ model, patchLevel: '2026-09' }),
    ];
    const match = { platform: 'android', models: [model], patchLevelBefore: '2026-05' };
    const preview = await api.post('/restrictions/preview', match);
    expect(preview.body).toEqual({ phones: 1, certificates: 2 });
    const proposed = await propose(match, 'CVE-2026-0001');
    expect(proposed).toMatchObject({ state: 'proposed', match });
    expect(await states(old.body)).toEqual(['good', 'good']);
    const own = await api.post(`/mass-acts/${lastAct(proposed).actId}/approval`, undefined);
    expectRefusal(own, 403, 'forbidden', /another client than proposed it/);
    const done = await approve(proposed);
    expect(done).toMatchObject({ state: 'in-force' });
    expect(lastAct(done)).toMatchObject({ action: 'hold', phones: 1, certificates: 2 });
    expect(await states(old.body)).toEqual(['held', 'held']);
    expect(await states(patched.body)).toEqual(['good', 'good']);
    const leaf = derOf(pemOf(old.body, 'phone-signing'));
    const issuer = await fetchCrl(`${test.service.addresses.crl}/ca/signing-1.cer`);
    const says = Buffer.from(await askOcsp(test.service.addresses.ocsp, await ocspRequest(leaf, issuer)));
    // revoked [1] with certificateHold.
    expect(says.toString('hex')).toMatch(/a116180f[0-9a-f]{30}a0030a0106/);
    expectRefusal(await enrol({ model, patchLevel: '2026-01' }), 403, 'device-restricted', /CVE-2026-0001/);
    expect((await enrol({ model, patchLevel: '2026-09' })).status).toBe(201);
    await approve(await end(done, { action: 'release' }));
    expect(await states(old.body)).toEqual(['good', 'good']);
    expect((await enrol({ model, patchLevel: '2026-01' })).status).toBe(201);
  });

  it('revokes what it held, orders the deletion of keys, and goes on refusing enrolments', async () => {
    const match = { platform: 'android', secureElements: ['Broken SE'] };
    const { body: phone } = await enrol({ secureElement: 'Broken SE' });
    const restricted = await approve(await propose(match));
    const revoked = await approve(await end(restricted, { action: 'revoke', reason: 'keyCompromise' }));
    expect(revoked.state).toBe('in-force');
    expect(lastAct(revoked)).toMatchObject({ action: 'revoke', certificates: 2 });
    expect(await states(phone)).toEqual(['revoked', 'revoked']);
    expectRefusal(await enrol({ secureElement: 'Broken SE' }), 403, 'device-restricted');
    await approve(await end(revoked, { action: 'release' }));
    expect(await states(phone)).toEqual(['revoked', 'revoked']);
    expect((await enrol({ secureElement: 'Broken SE' })).status).toBe(201);
  });

  it('writes nothing of a phone: one row and one event say it, for all of them', async () => {
    const model = 'Unwritten 1';
    for (let i = 0; i < 3; i++) expect((await enrol({ model })).status).toBe(201);
    const written = () => {
      const record = new DatabaseSync(join(test.folder, 'record.db'), { readOnly: true });
      try {
        const [rows] = record
          .prepare(
            `SELECT (SELECT count(*) FROM history) history, (SELECT sum(version) FROM certificate) versions,
             (SELECT count(*) FROM message) messages, (SELECT count(*) FROM restrictionEffect) effects,
             (SELECT count(*) FROM event WHERE body LIKE '[{"type":"restriction"%') events`,
          )
          .all();
        return rows as Record<string, number>;
      } finally {
        record.close();
      }
    };
    const before = written();
    const held = await approve(await propose({ platform: 'android', models: [model] }));
    expect(lastAct(held)).toMatchObject({ phones: 3, certificates: 6 });
    const once = { effects: (before.effects ?? 0) + 1, events: (before.events ?? 0) + 1 };
    expect(written()).toEqual({ ...before, ...once });
    await approve(await end(held, { action: 'release' }));
    expect(written()).toEqual({ ...before, ...once, events: once.events + 1 });
  });

  it('orders the deletion of each key once, where it revokes, and says so in the history of each', async () => {
    const { body: phone } = await enrol({ model: 'Ordered 1' });
    const orders = async () => {
      const { body } = await api.get<{ messages: { type: string; deviceId?: string }[] }>(
        '/outbox?state=waiting',
      );
      return body.messages.filter(
        ({ type, deviceId }) => type === 'remote-deletion' && deviceId?.includes(phone.holderId),
      );
    };
    const restricted = await approve(await propose({ platform: 'android', models: ['Ordered 1'] }));
    expect(await orders()).toEqual([]);
    await approve(await end(restricted, { action: 'revoke', reason: 'keyCompromise' }));
    const history = async () => {
      type Line = { change: string; reason: string; cause: { partOf: string }; actor: { role: string } };
      const { body } = await api.get<{ entries: Line[] }>(`/holders/${phone.holderId}/history`);
      const part = `restriction:${restricted.restrictionId}`;
      return body.entries
        .filter(({ cause }) => cause.partOf === part)
        .map(({ change, reason }) => [change, reason]);
    };
    const lines = [
      ...[1, 2].map(() => ['held', 'certificateHold']),
      ...[1, 2].map(() => ['revoked', 'keyCompromise']),
    ];
    expect(await history()).toEqual(lines);
    expect((await orders()).length).toBe(2);
    // Revoked is final: what is reported afterwards changes nothing of it.
    await api.post('/events', { event: 'phone-given-up', deviceId: `phone-of-${phone.holderId}` });
    expect(await states(phone)).toEqual(['revoked', 'revoked']);
    expect((await orders()).length).toBe(2);
    const twice = await end(restricted, { action: 'revoke' });
    const late = await second.post(`/mass-acts/${lastAct(twice).actId}/approval`, undefined);
    expectRefusal(late, 409, 'illegal-transition', /already/);
  });

  it('holds or refuses each phone that enrols at the moment of its approval', async () => {
    const model = 'Racing 1';
    const holders = await Promise.all(Array.from({ length: 8 }, () => issueCard(api)));
    const bodies = await Promise.all(
      holders.map(async (holder) => {
        const deviceId = `racer-of-${holder.holderId}`;
        const parts = await enrolmentParts(api, holder, { model, deviceId });
        return { deviceId, signedEnrolment: base64(signEnrolment(enrolmentContent(parts), parts)) };
      }),
    );
    const proposed = await propose({ platform: 'android', models: [model] });
    const enrolling = bodies.map(async (body, i) => {
      await new Promise((resolve) => setTimeout(resolve, i * 4));
      return api.post<Issued>('/phone-certificates', body);
    });
    const [, ...answers] = await Promise.all([approve(proposed), ...enrolling]);
    for (const answer of answers) {
      if (answer.status === 201) expect(await states(answer.body)).toEqual(['held', 'held']);
      else expectRefusal(answer, 403, 'device-restricted');
    }
    expect(answers.length).toBe(8);
  });

  it('does not release what something else holds, nor is undone by an event', async () => {
    const model = 'Twice 1';
    const { body: phone } = await enrol({ model });
    const { body } = await api.get<{ certificates: { mediumId: string }[] }>(`/holders/${phone.holderId}`);
    const deviceId = body.certificates.at(-1)?.mediumId.slice('phone:'.length);
    const restricted = await approve(await propose({ platform: 'android', models: [model] }));
    await api.post('/events', { event: 'phone-lost', deviceId });
    // The found phone's authentication certificate stays held: the restriction is still in force.
    await api.post('/events', { event: 'phone-found', deviceId });
    expect(await states(phone)).toEqual(['revoked', 'held']);
    const [, authentication] = phone.certificates;
    const path = `/certificates/${authentication?.authority}/${authentication?.serialNumber}/changes`;
    expectRefusal(
      await api.post(path, { action: 'release' }),
      409,
      'illegal-transition',
      /usage restriction/,
    );
    await api.post('/events', { event: 'phone-lost', deviceId });
    await approve(await end(restricted, { action: 'release' }));
    expect(await states(phone)).toEqual(['revoked', 'held']);
    await api.post(path, { action: 'release' });
    expect(await states(phone)).toEqual(['revoked', 'good']);
  });

  it('is not escaped by a phone that says of itself that it is another', async () => {
    const holder = await issueCard(api);
    const deviceId = `phone-of-${holder.holderId}`;
    const ask = async (device: Partial<Device>, signingAlone: boolean, of: typeof holder) => {
      const { authentication, ...parts } = await enrolmentParts(api, of, { ...device, deviceId });
      const all = signingAlone ? parts : { ...parts, authentication };
      const signedEnrolment = base64(signEnrolment(enrolmentContent(all), all));
      return api.post<Issued>('/phone-certificates', { deviceId, signedEnrolment });
    };
    expect((await ask({ model: 'Chameleon 1' }, false, holder)).status).toBe(201);
    const signing = await makeChipKey();
    const request = cardRequest(
      { signing },
      { holderId: holder.holderId, cardId: holder.cardId, event: 'moved' },
    );
    const moved = await api.post<Issued>('/card-certificates', request);
    const restricted = await approve(await propose({ platform: 'android', models: ['Chameleon 1'] }));
    const again = { ...holder, card: moved.body, cardSigning: signing };
    expectRefusal(await ask({ model: 'Other 1' }, true, again), 403, 'device-restricted');
    await approve(await end(restricted, { action: 'release' }));
    expect((await ask({ model: 'Other 1' }, true, again)).status).toBe(201);
  });

  it('of unknown models holds phones that name none, and refuses them from then on', async () => {
    const silent = await enrol({ model: '' });
    expect(silent.status).toBe(201);
    const named = await enrol({ model: 'unknown 1' });
    const restriction = await propose({ platform: 'android', models: ['unknown'] });
    await second.post(`/mass-acts/${lastAct(restriction).actId}/approval`, undefined);
    await expect.poll(() => states(silent.body)).toEqual(['held', 'held']);
    expect(await states(named.body)).toEqual(['good', 'good']);
    expectRefusal(await enrol({ model: '' }), 403, 'device-restricted');
    expect((await enrol({ model: 'unknown 1' })).status).toBe(201);
  });

  it('that has ended is not brought back by what was proposed before', async () => {
    const restricted = await approve(await propose({ platform: 'ios', models: ['Nothing 2'] }));
    const revocation = await end(restricted, { action: 'revoke' });
    await approve(await end(restricted, { action: 'release' }));
    const late = await second.post(`/mass-acts/${lastAct(revocation).actId}/approval`, undefined);
    expectRefusal(late, 409, 'illegal-transition', /ended/);
  });

  it('cannot be released while releases are closed', async () => {
    const restricted = await approve(await propose({ platform: 'ios', models: ['Nothing 3'] }));
    const release = await end(restricted, { action: 'release' });
    await api.post('/switches/release', { state: 'closed' });
    const closed = await second.post(`/mass-acts/${lastAct(release).actId}/approval`, undefined);
    expectRefusal(closed, 503, 'function-closed');
    await api.post('/switches/release', { state: 'open' });
    await approve(release);
  });

  it('can be withdrawn before it is approved, and ended only while in force', async () => {
    const proposed = await propose({ platform: 'ios', models: ['Nothing'] });
    const withdrawn = await api.post<Restriction>(
      `/mass-acts/${lastAct(proposed).actId}/withdrawal`,
      undefined,
    );
    expect(withdrawn.body).toMatchObject({ state: 'withdrawn', acts: [{ state: 'withdrawn' }] });
    expectRefusal(
      await second.post(`/mass-acts/${lastAct(proposed).actId}/approval`, undefined),
      409,
      'illegal-transition',
    );
    expectRefusal(
      await api.post(`/restrictions/${proposed.restrictionId}/end`, { action: 'release' }),
      409,
      'illegal-transition',
    );
    const { body } = await api.get<{ restrictions: Restriction[] }>('/restrictions');
    expect(body.restrictions.map(({ restrictionId }) => restrictionId)).toContain(proposed.restrictionId);
  });

  it.each<[string, object, RegExp]>([
    ['an unknown platform', { platform: 'symbian' }, /platform: not one of/],
    [
      'an empty range of versions',
      { platform: 'ios', osVersionFrom: '17', osVersionTo: '16.9' },
      /is before/,
    ],
    ['a version that cannot be compared', { platform: 'ios', osVersionTo: '16 beta' }, /osVersionTo/],
    ['a version of letters', { platform: 'ios', osVersionFrom: 'latest' }, /osVersionFrom/],
    ['an unknown member', { platform: 'ios', colour: 'red' }, /must not have the member colour/],
  ])('refuses %s', async (_what, match, detail) => {
    expectRefusal(await api.post('/restrictions', { match }), 400, 'bad-request', detail);
    expectRefusal(await api.post('/restrictions/preview', match), 400, 'bad-request', detail);
  });

  it('counts phones that carry a certificate in force, and no others', async () => {
    const models = ['Counted 1'];
    const counted = async () =>
      (
        await api.post<{ phones: number; certificates: number }>('/restrictions/preview', {
          platform: 'android',
          models,
        })
      ).body;
    const [one, lost, given] = [
      await enrol({ model: 'Counted 1' }),
      await enrol({ model: 'Counted 1' }),
      await enrol({ model: 'Counted 1' }),
    ];
    const report = async (event: string, { body: { certificates } }: Answer<Issued>): Promise<void> => {
      const { authority, serialNumber } = certificates[0] as Issued['certificates'][number];
      const { body } = await api.get<{ mediumId: string }>(`/certificates/${authority}/${serialNumber}`);
      const deviceId = body.mediumId.replace('phone:', '');
      expect((await api.post('/events', { event, deviceId })).status).toBe(200);
    };
    expect(await counted()).toEqual({ phones: 3, certificates: 6 });
    // What is held may be used again; what was revoked is nothing that a restriction is about.
    await report('phone-lost', lost);
    await report('phone-given-up', given);
    expect(await counted()).toEqual({ phones: 2, certificates: 2 });
    const restricted = await approve(await propose({ platform: 'android', models }));
    expect(lastAct(restricted)).toMatchObject({ phones: 2, state: 'done' });
    expect(await states(one.body)).toEqual(['held', 'held']);
  });

  it.each(['16 beta', 'Vanilla', '16.', '.16', '16..1', '16-1', ''])(
    'refuses a phone of the version %j, which could not be compared',
    async (osVersion) => {
      expectRefusal(await enrol({ model: 'Versioned 1', osVersion }), 400, 'bad-request', /OS version/);
    },
  );

  it('leaves an audit chain that holds, though a thread of its own writes between others', async () => {
    const restricted = propose({ platform: 'android', models: ['Audited 1'] });
    const { body: phone } = await enrol({ model: 'Audited 1' });
    const [held] = await Promise.all([approve(await restricted), issueCard(api), issueCard(api)]);
    expect(await states(phone)).toEqual(['held', 'held']);
    await Promise.all([approve(await end(held, { action: 'release' })), issueCard(api), issueCard(api)]);
    const main = new URL('../../ca/main.ts', import.meta.url).pathname;
    const { stdout } = await promisify(execFile)(process.execPath, [
      main,
      'audit',
      'verify',
      '--data',
      test.folder,
    ]);
    expect(stdout).toContain('are as they were written');
  });

  it('goes on after the process was stopped in the middle, from where it stood', async () => {
    const folder = await dataFolder();
    const before = await startTestService({ folder });
    const phones: Issued[] = [];
    for (let i = 0; i < 3; i++) phones.push((await enrol({ model: 'Halfway 1' }, before.api)).body);
    const match: DeviceMatch = {
      platform: 'android',
      models: ['Halfway 1'],
      secureElements: null,
      osVersionFrom: null,
      osVersionTo: null,
      patchLevelBefore: null,
    };
    const proposed = await before.api.post<Restriction>('/restrictions', {
      match: { platform: match.platform, models: match.models },
    });
    const { client } = await addClient(before, 'approver', { roles: ['revoker'] });
    // Approved in the instant in which the service stops: whatever bit it still did, the rest is done by the next.
    const approval = client.post(`/mass-acts/${lastAct(proposed.body).actId}/approval`, undefined);
    expect((await approval).status).toBe(200);
    await client.close();
    await before.close();
    const after = await startTestService({ folder });
    try {
      await expect
        .poll(async () => (await Promise.all(phones.map((phone) => states(phone, after.api)))).flat(), {
          timeout: 10_000,
        })
        .toEqual(Array.from({ length: 6 }, () => 'held'));
    } finally {
      await after.close();
    }
  });
});

describe('a match', () => {
  const match: DeviceMatch = {
    platform: 'android',
    models: null,
    secureElements: null,
    osVersionFrom: null,
    osVersionTo: null,
    patchLevelBefore: null,
  };
  const phone = {
    platform: 'android',
    model: 'X',
    osVersion: '16.1.2',
    secureElement: 'S',
    patchLevel: '2026-05-05',
  };

  it.each<[Partial<DeviceMatch>, boolean]>([
    [{}, true],
    [{ platform: 'ios' }, false],
    [{ models: ['X', 'Y'] }, true],
    [{ models: ['Y'] }, false],
    [{ secureElements: ['T'] }, false],
    [{ osVersionFrom: '16.1.2', osVersionTo: '16.1.2' }, true],
    [{ osVersionFrom: '16.1.3' }, false],
    [{ osVersionTo: '16.1' }, false],
    [{ osVersionTo: '16.10' }, true],
    [{ patchLevelBefore: '2026-05-05' }, false],
    [{ patchLevelBefore: '2026-05-06' }, true],
    [{ patchLevelBefore: '2026-05' }, false],
  ])('of %j is %s', (named, expected) => {
    expect(matchesDevice({ ...match, ...named }, phone)).toBe(expected);
  });

  it('takes a phone of which no patch level is known to have none', () => {
    const unknown = { ...phone, patchLevel: null };
    expect(matchesDevice({ ...match, patchLevelBefore: '2020-01' }, unknown)).toBe(true);
  });

  it('compares versions number by number', () => {
    expect(compareVersions('16.2', '16.10')).toBe(-1);
    expect(compareVersions('16', '16.0')).toBe(0);
    expect(compareVersions('17', '16.9')).toBe(1);
  });
});
