import { mkdirSync, readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { CaClient } from '../../ca/client/client.ts';
import { approvalActs, consoleActs } from '../../core/model/approval.ts';
import { fromHex } from '../../core/runtime/bytes.ts';
import {
  addClient,
  freePort,
  type Holder,
  issueCard,
  issuePhone,
  removeScratch,
  startTestService,
  type TestService,
} from '../support/harness.ts';

// The console in a real browser, which shows the client certificate to whatever page asks the API.

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core'), 'utf8');
/** Where screenshots are left, for who wants to look at them. */
const screenshots =
  process.env.WARIFU_SCREENSHOTS ?? new URL('../../node_modules/.cache/console', import.meta.url).pathname;

/** Text that others can store, and that the console must display as text only. */
const nasty = '<img src=x onerror="document.title=1">\u202egnp.eliforp';

let test: TestService;
let browser: Browser;
let holder: Holder;
let second: CaClient;
let deviceId: string;
let origin = '';

beforeAll(async () => {
  mkdirSync(screenshots, { recursive: true });
  test = await startTestService({
    overrides: {
      reading: { use: 'required' },
      // One act alone takes two persons here.
      approvals: {
        use: 'required',
        acts: Object.fromEntries(
          [...Object.keys(approvalActs), ...Object.keys(consoleActs)]
            .filter((act) => act !== 'bulk-export')
            .map((act) => [act, 'off']),
        ),
      },
    },
  });
  origin = test.service.addresses.api;
  holder = await issueCard(test.api);
  ({ deviceId } = await issuePhone(test.api, holder));
  second = (
    await addClient(test, 'second', { kind: 'person', roles: ['administrator', 'revoker', 'reader'] })
  ).client;
  browser = await chromium.launch({
    executablePath: '/usr/bin/chromium',
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  });
}, 60_000);
afterAll(async () => {
  await browser?.close();
  await second?.close();
  await test?.close();
  removeScratch();
});

/** A browser of a person with a certificate. */
async function person(
  name: 'first' | 'second',
  options: { readonly locale?: string; readonly viewport?: { width: number; height: number } } = {},
): Promise<BrowserContext> {
  const file = (kind: string): string => join(test.folder, 'clients', `${name}.${kind}`);
  const attacker = [...attackers].map(({ url }) => new URL(url).origin);
  return browser.newContext({
    ignoreHTTPSErrors: true,
    clientCertificates: [origin, ...attacker].map((each) => ({
      origin: each,
      certPath: file('pem'),
      keyPath: file('key'),
    })),
    viewport: { width: 1280, height: 900 },
    ...options,
  });
}

const attackers: { readonly url: string; readonly server: Server }[] = [];

async function open(context: BrowserContext, place = ''): Promise<Page> {
  const page = await context.newPage();
  const faults: string[] = [];
  page.on('pageerror', (error) => faults.push(error.message));
  page.on('console', (message) => message.type() === 'error' && faults.push(message.text()));
  Object.assign(page, { faults });
  await page.goto(`${origin}/console${place}`);
  await settled(page);
  return page;
}

const faultsOf = (page: Page): string[] => (page as unknown as { faults: string[] }).faults;

/** The page’s own policy lets nothing be evaluated within it: it is asked from outside. */
const until = (page: Page, expression: string): Promise<void> =>
  vi.waitFor(async () => expect(await page.evaluate(expression)).toBe(true), { timeout: 10_000 });

async function settled(page: Page): Promise<void> {
  await page.waitForSelector('main h1');
  await until(page, 'document.querySelector("[aria-busy=true]") === null');
}

/** What axe-core finds against WCAG 2.2 AA. */
async function violations(page: Page): Promise<string[]> {
  await page.evaluate(axe);
  const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
  const found = await page.evaluate<{ violations: { id: string; nodes: { html: string }[] }[] }>(
    `axe.run(document, { runOnly: ${JSON.stringify(tags)} })`,
  );
  return found.violations.map(({ id, nodes }) => `${id}: ${nodes[0]?.html.slice(0, 120)}`);
}

/** Chooses the first purpose, if none was. */
async function choosePurpose(page: Page): Promise<void> {
  await page.selectOption('header select', { index: 1 });
  await settled(page);
}

const stateOfCertificate = async (serialNumber: string): Promise<{ readonly state: string }> => {
  const { authorities, store } = test.service.ca;
  const key = authorities.byName('signing-1').positionOf(fromHex(serialNumber));
  return (key && (await store.certificate(key))) ?? { state: 'none' };
};

const screens = [
  ['overview', ''],
  ['search', '#/search'],
  ['holder', '#/holder/HOLDER'],
  ['event', '#/event/holder/HOLDER'],
  ['approvals', '#/approvals'],
  ['restrictions', '#/restrictions'],
  ['switches', '#/switches'],
  ['outbox', '#/outbox'],
  ['register', '#/register'],
  ['authorities', '#/authorities'],
  ['nodes', '#/nodes'],
  ['crls', '#/crls'],
] as const;

describe('the console, in a browser with a client certificate', () => {
  beforeAll(async () => {
    // Something to see on each screen.
    const { body } = await second.post('/restrictions', {
      match: { platform: 'android', models: ['Pixel'] },
      note: nasty,
    });
    expect(body).toHaveProperty('restrictionId');
    await test.api.post('/switches/phone-enrolment', { state: 'limited', perMinute: 100, note: nasty });
    const asked = await second.post('/exports', { what: 'renewals', ground: 'statistics of renewals' });
    expect(asked.status).toBe(202);
  });

  describe.each([
    ['en', 'en-GB'],
    ['ja', 'ja-JP'],
  ])('in %s', (language, locale) => {
    let context: BrowserContext;
    let page: Page;
    beforeAll(async () => {
      context = await person('first', { locale });
      page = await open(context);
      await choosePurpose(page);
    });
    afterAll(() => context.close());

    it.each(screens)(
      'shows %s (%s), accessible as WCAG 2.2 AA asks, and without a fault',
      async (name, place) => {
        await page.goto(`${origin}/console${place.replace('HOLDER', holder.holderId)}`);
        await settled(page);
        await page.waitForSelector('main > :nth-child(2)', { state: 'attached' });
        if (name === 'overview')
          await until(page, '/[0-9]/.test(document.querySelector(".rate").textContent)');
        if (name === 'event') {
          await page.selectOption('main select', 'card-lost');
          await page.click('main button[type=submit]');
          await page.waitForSelector('.plan');
        }
        expect(await page.getAttribute('html', 'lang')).toBe(language);
        expect(await violations(page)).toEqual([]);
        await page.screenshot({ path: join(screenshots, `${name}-${language}.png`), fullPage: true });
        expect(await page.textContent('main')).not.toContain('\u202e');
        expect(await page.locator('main img').count()).toBe(0);
        expect(faultsOf(page)).toEqual([]);
      },
    );
  });

  it('has the API as a page to read, with each operation, its members, examples and problems', async () => {
    const context = await person('first', { locale: 'en-GB', viewport: { width: 1280, height: 900 } });
    const page = await open(context, '/api');
    expect(await page.locator('article').count()).toBeGreaterThan(100);
    const events = page.locator('article#postEvents');
    await expect.poll(() => events.locator('h3').innerText()).toBe('POST /v1/events');
    const text = await events.innerText();
    for (const said of ['Roles: revoker', 'occurredAt', 'an event of the policy table', '200 OK'])
      expect(text).toContain(said);
    await events.getByText('Example', { exact: true }).click();
    expect(await events.innerText()).toContain('"event": "card-lost"');
    expect(await page.locator('#problem-already-certified').count()).toBe(1);
    expect(await violations(page)).toEqual([]);
    await page.screenshot({ path: join(screenshots, 'api.png') });
    await page.setViewportSize({ width: 360, height: 740 });
    expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(360);
    await page.screenshot({ path: join(screenshots, 'api-phone.png') });
    expect(faultsOf(page)).toEqual([]);
    await context.close();
  });

  it('lays rows of tables out as cards on a phone, each value beside its head', async () => {
    const context = await person('first', { locale: 'ja', viewport: { width: 390, height: 800 } });
    for (const view of ['authorities', 'register', 'switches']) {
      const page = await open(context, `#/${view}`);
      await page.waitForSelector('main table td');
      const overflow = await page.evaluate(
        "Math.max(...[...document.querySelectorAll('main .scroll')].map((each) => each.scrollWidth - each.clientWidth))",
      );
      const head = await page.evaluate(
        "getComputedStyle(document.querySelector('main table td'), '::before').content",
      );
      expect([view, overflow, head]).toEqual([view, 0, expect.stringMatching(/^".+"$/)]);
      await page.screenshot({ path: join(screenshots, `${view}-phone.png`), fullPage: true });
      await page.close();
    }
    await context.close();
  }, 30_000);

  it('can be used on a phone, and by keyboard alone', async () => {
    const context = await person('first', { locale: 'en-GB', viewport: { width: 390, height: 800 } });
    const page = await open(context, '#/search');
    const width = await page.evaluate('document.documentElement.scrollWidth');
    expect(width).toBeLessThanOrEqual(390);
    await page.screenshot({ path: join(screenshots, 'search-phone.png') });
    await page.keyboard.press('Tab');
    expect(await page.evaluate('document.activeElement.textContent')).toBe('Skip to content');
    await page.keyboard.press('Enter');
    expect(await page.evaluate('document.activeElement.id')).toBe('main');
    await choosePurpose(page);
    await page.focus('main select');
    await page.keyboard.type('Card');
    await page.keyboard.press('Tab');
    await page.keyboard.type(holder.cardId);
    await page.keyboard.press('Enter');
    await page.waitForSelector('main table');
    expect(await page.textContent('main')).toContain(holder.holderId);
    await context.close();
  }, 30_000);

  it('finds a phone, a certificate and a holder, and each look-up is on record with its purpose', async () => {
    const context = await person('first', { locale: 'en-GB' });
    const page = await open(context, '#/search');
    // Without a purpose nothing is asked.
    expect(await page.textContent('main')).toContain('Choose a purpose first');
    await choosePurpose(page);
    await page.waitForSelector('main input');
    await page.fill('main input', deviceId);
    await page.selectOption('main select', 'phone');
    await page.click('main button[type=submit]');
    await page.waitForSelector('main table a');
    await page.click('main table a');
    await page.waitForSelector('.timeline');
    await page.click('main p a');
    await page.waitForSelector('main h1:has-text("Holder")');
    expect(await page.locator('.timeline li').count()).toBeGreaterThan(3);
    await context.close();
  }, 30_000);

  it('reports an event by the plan that was shown, and no other', async () => {
    const other = await issueCard(test.api);
    const context = await person('first', { locale: 'en-GB' });
    const page = await open(context, `#/event/holder/${other.holderId}`);
    await choosePurpose(page);
    const report = async (): Promise<void> => {
      await page.selectOption('main select', 'card-lost');
      await page.fill('main input', other.cardId);
      await page.click('main button[type=submit]');
      await page.waitForSelector('.plan');
    };
    await report();
    expect(await page.getAttribute('.plan', 'aria-label')).toContain('card, signing: good → held');
    page.on('dialog', (dialog) => void dialog.accept());
    // Something has come between.
    const { serialNumber = '' } = other.card.certificates[0] ?? {};
    await test.api.post(`/certificates/signing-1/${serialNumber}/changes`, { action: 'hold' });
    await page.click('button.danger');
    await vi.waitFor(async () => expect(await page.textContent('#status')).toContain('plan-changed'));
    await report();
    await page.click('button.danger');
    await page.waitForSelector('.notice');
    const { state } = await stateOfCertificate(serialNumber);
    expect(state).toBe('held');
    await context.close();
  }, 30_000);
});

describe('the console makes no look-up that its user has not asked for', () => {
  it('counts approvals without a look-up, and shows plans for a purpose alone', async () => {
    const asked = await second.post('/exports', {
      what: 'accesses',
      holderId: holder.holderId,
      ground: 'who looked',
    });
    expect(asked.status).toBe(202);
    const looked = (): number => test.service.ca.accesses.sequence;
    const before = looked();
    const context = await person('first', { locale: 'en-GB' });
    const page = await open(context);
    await until(page, 'document.querySelector("a[href=\\"#/approvals\\"]") !== null');
    await page.waitForTimeout(4500);
    expect(looked()).toBe(before);
    await page.goto(`${origin}/console#/approvals`);
    await until(page, 'document.querySelector(".notice") !== null');
    expect(await page.textContent('main')).toContain('Choose a purpose first');
    expect(looked()).toBe(before);
    await choosePurpose(page);
    await page.waitForSelector('article');
    expect(looked()).toBeGreaterThan(before);
    await context.close();
  }, 30_000);
});

describe('an event in the console', () => {
  it('that changes the holder alone can be reported, and names the holder', async () => {
    const gone = await issueCard(test.api);
    await test.api.post('/events', { event: 'card-returned', cardId: gone.cardId });
    const context = await person('first', { locale: 'en-GB' });
    const page = await open(context);
    await choosePurpose(page);
    await page.goto(`${origin}/console#/event/holder/${gone.holderId}`);
    await page.selectOption('main select', 'died');
    await page.fill('main input', gone.holderId);
    await page.click('main button[type=submit]');
    await page.waitForSelector('button.danger');
    expect(await page.textContent('main section')).toContain(`died · holder ${gone.holderId}`);
    expect(await page.textContent('main section')).toContain('is closed: nothing more is issued');
    const asked: string[] = [];
    page.on('dialog', (dialog) => {
      asked.push(dialog.message());
      void dialog.accept();
    });
    // What the form does not say any more is not reported.
    await page.fill('main input', 'another');
    expect(await page.locator('button.danger').count()).toBe(0);
    await page.fill('main input', gone.holderId);
    await page.click('main button[type=submit]');
    await page.click('button.danger');
    await page.waitForSelector('.notice');
    expect(asked[0]).toContain(gone.holderId);
    expect((await test.service.ca.store.holder(gone.holderId))?.standing?.closedBy).toBe('died');
    await context.close();
  }, 30_000);

  it.each(['#/%', '#/__proto__', '#/holder/..', '#/certificate/./x'])(
    'has no page at %s',
    async (place) => {
      const context = await person('first', { locale: 'en-GB' });
      const page = await open(context);
      await choosePurpose(page);
      await page.goto(`${origin}/console${place}`);
      await until(page, '/There is no such|Refused/.test(document.querySelector("main").textContent)');
      expect(faultsOf(page).filter((fault) => !fault.includes('Failed to load'))).toEqual([]);
      await context.close();
    },
    30_000,
  );
});

describe('an approval in the console', () => {
  it('shows all that is approved, and is of that and no other', async () => {
    const { body } = await second.post<{ proposalId: string; planHash: string }>('/exports', {
      ...{ what: 'renewals', ground: 'a second one' },
    });
    const context = await person('first', { locale: 'en-GB' });
    const page = await open(context, '#/approvals');
    await choosePurpose(page);
    await page.waitForSelector('article');
    const article = page.locator('article', { hasText: body.planHash });
    expect(await article.textContent()).toContain('renewals');
    const sent = page.waitForRequest((request) => request.url().includes('/approval'));
    page.on('dialog', (dialog) => void dialog.accept());
    await article.getByText('Approve this plan').click();
    expect((await sent).postDataJSON()).toEqual({ planHash: body.planHash });
    await vi.waitFor(async () => expect(await page.textContent('#status')).toContain('Approved'));
    const { body: read } = await second.get<{ state: string }>(`/proposals/${body.proposalId}`);
    expect(['approved', 'done']).toContain(read.state);
    await context.close();
    // A proposer cannot approve their own proposal: the button is missing.
    const own = await person('second', { locale: 'en-GB' });
    const theirs = await open(own, '#/approvals');
    await choosePurpose(theirs);
    await theirs.waitForSelector('article');
    expect(await theirs.locator('article').count()).toBeGreaterThan(0);
    expect(await theirs.getByText('Approve this plan').count()).toBe(0);
    await own.close();
  }, 30_000);
});

describe('a page of another origin, in the browser of an administrator', () => {
  let page: Page;
  let context: BrowserContext;

  beforeAll(async () => {
    const port = await freePort();
    const server = createServer((_, response) => {
      response
        .writeHead(200, { 'Content-Type': 'text/html' })
        .end('<!doctype html><title>elsewhere</title><body></body>');
    });
    await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
    attackers.push({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, server });
    context = await person('first');
    page = await context.newPage();
    await page.goto(attackers[0]?.url ?? '');
  });
  afterAll(async () => {
    await context.close();
    for (const { server } of attackers) server.close();
  });

  const stateOf = async (): Promise<string> => {
    const { body } = await test.api.get<{ switches: { name: string; state: string }[] }>('/switches');
    return body.switches.find(({ name }) => name === 'card-issuing')?.state ?? 'none';
  };

  it.each([
    ['fetch with JSON', { method: 'POST', headers: { 'Content-Type': 'application/json' } }],
    ['fetch as a form would', { method: 'POST', headers: { 'Content-Type': 'text/plain' } }],
    ['fetch without CORS', { method: 'POST', mode: 'no-cors' }],
    [
      'fetch with the console’s header',
      { method: 'POST', headers: { 'Content-Type': 'application/json', 'Warifu-Console': '1' } },
    ],
  ] as const)('can change nothing by %s', async (_, options) => {
    const before = await stateOf();
    const read = await page.evaluate(
      async ([url, init]) => {
        try {
          const response = await fetch(url, {
            ...init,
            credentials: 'include',
            body: JSON.stringify({ state: 'closed' }),
          } as RequestInit);
          return `${response.type} ${response.status} ${await response.text()}`;
        } catch (error) {
          return String(error);
        }
      },
      [`${origin}/v1/switches/card-issuing`, options] as const,
    );
    expect(read).toMatch(/TypeError|opaque 0/);
    expect([before, await stateOf()]).toEqual(['open', 'open']);
  });

  it('can change nothing by a form, whatever its type', async () => {
    const before = await stateOf();
    for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data']) {
      const submitted = await context.newPage();
      await submitted.goto(attackers[0]?.url ?? '');
      const answered = submitted.waitForResponse((response) => response.url().startsWith(origin));
      await submitted.evaluate(`
        const form = Object.assign(document.createElement('form'), {
          action: ${JSON.stringify(`${origin}/v1/switches/card-issuing`)}, method: 'post', enctype: ${JSON.stringify(type)} });
        form.append(Object.assign(document.createElement('input'), { name: '{"state":"closed","note":"', value: '"}' }));
        document.body.append(form);
        form.submit();`);
      expect((await answered).status()).toBe(403);
      await submitted.close();
    }
    expect([before, await stateOf()]).toEqual(['open', 'open']);
  });

  it('can read nothing, nor frame the console, nor learn by an image or a script whether there is a holder', async () => {
    const purpose = test.service.ca.config.reading.purposes[0];
    const read = await page.evaluate(
      async ([url, named]) => {
        try {
          return await (
            await fetch(url, { credentials: 'include', headers: { 'Warifu-Purpose': named ?? '' } })
          ).text();
        } catch (error) {
          return String(error);
        }
      },
      [`${origin}/v1/holders/${holder.holderId}`, purpose] as const,
    );
    expect(read).toMatch(/TypeError/);
    const refused = (): number => test.log().split('"route":"/v1/holders/:holderId","status":403').length - 1;
    for (const tag of ['img', 'script', 'iframe']) {
      const before = refused();
      await page.evaluate(`
        const element = document.createElement('${tag}');
        element.src = '${origin}/v1/holders/${holder.holderId}';
        document.body.append(element);`);
      await vi.waitFor(() => expect(refused()).toBe(before + 1));
    }
    const framed = await page.evaluate(`new Promise((resolve) => {
      const frame = document.createElement('iframe');
      frame.src = '${origin}/console';
      frame.addEventListener('load', () => resolve(frame.contentDocument?.body.textContent ?? 'not readable'));
      document.body.append(frame);
    })`);
    expect(framed).toBe('not readable');
    expect(await page.frames().at(-1)?.content()).not.toContain('Overview');
  });
});

describe('the API, asked by a browser', () => {
  const ask = (headers: Record<string, string>, path = '/v1/caller') =>
    import('undici').then(async ({ Agent, request }) => {
      const file = (name: string): string => readFileSync(join(test.folder, name), 'utf8');
      const dispatcher = new Agent({
        connect: {
          // A browser whose person clicks the warning away.
          checkServerIdentity: () => undefined,
          ca: file('tls/operations-ca.pem'),
          cert: file('clients/first.pem'),
          key: file('clients/first.key'),
        },
      });
      const answer = await request(`${origin}${path}`, { dispatcher, headers });
      await answer.body.dump();
      await dispatcher.close();
      return answer;
    });

  it.each([
    [200, 'of no browser', {}],
    [200, 'of the console', { 'sec-fetch-site': 'same-origin', 'warifu-console': '1' }],
    [403, 'of the console’s origin without its header', { 'sec-fetch-site': 'same-origin' }],
    [403, 'of another site with its header', { 'sec-fetch-site': 'cross-site', 'warifu-console': '1' }],
    [403, 'of another origin of the same site', { 'sec-fetch-site': 'same-site', 'warifu-console': '1' }],
    [
      403,
      'of a person who has typed its address',
      { 'sec-fetch-site': 'none', 'sec-fetch-mode': 'navigate' },
    ],
    [403, 'with an origin that is another', { origin: 'https://elsewhere.example', 'warifu-console': '1' }],
    [403, 'with an origin that is none', { origin: 'null', 'warifu-console': '1' }],
    [
      200,
      'of a client that calls itself a browser, with what no form can send',
      { 'user-agent': 'Mozilla/5.0 (Windows NT) WindowsPowerShell/5.1', 'warifu-purpose': 'audit' },
    ],
    [
      403,
      'of the console at a name that is none of the service',
      {
        'sec-fetch-site': 'same-origin',
        'warifu-console': '1',
        host: 'evil.example:443',
        origin: 'https://evil.example:443',
      },
    ],
    [403, 'of an old browser, which says nothing but what it is', { 'user-agent': 'Mozilla/5.0 (X11)' }],
  ])('answers %i to a request %s', async (status, _, headers) => {
    expect((await ask(headers)).statusCode).toBe(status);
  });

  it('forbids caching, framing, sniffing and inline script', async () => {
    const { headers, statusCode } = await ask(
      { 'sec-fetch-site': 'none', 'sec-fetch-mode': 'navigate' },
      '/console',
    );
    expect(statusCode).toBe(200);
    expect(headers).toMatchObject({
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      'x-frame-options': 'DENY',
      'cross-origin-resource-policy': 'same-origin',
    });
    expect(headers['content-security-policy']).toMatch(/default-src 'none'; script-src 'self'/);
    expect(headers['content-security-policy']).not.toContain('unsafe');
    expect((await ask({}, '/v1/health')).headers['cache-control']).toBe('no-store');
    expect((await ask({}, '/console/nothing.ts')).statusCode).toBe(404);
    expect((await ask({}, '/console/../main.ts')).statusCode).toBe(404);
  });
});
