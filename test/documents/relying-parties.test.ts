import { execFile, execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { pemOf, until } from '../support/actors.ts';
import { issueCard, removeScratch, scratch, startTestService, type TestService } from '../support/harness.ts';

// The recipes of docs/RELYING-PARTIES.md, each with the software that it is for, on a certificate that is good, and then revoked.

const document = readFileSync(new URL('../../docs/RELYING-PARTIES.md', import.meta.url), 'utf8');

/** The recipe under that name: a block of code whose first line names it. */
function recipe(name: string): string {
  const text = new RegExp(`\`\`\`[a-z]+ ${name.replace('.', '\\.')}\n([\\s\\S]*?)\`\`\``).exec(document)?.[1];
  if (text === undefined) throw new Error(`there is no recipe ${name}`);
  return text;
}

let test: TestService;
let folder: string;
let cardId: string;

beforeAll(async () => {
  test = await startTestService();
  folder = scratch();
  const { card, cardId: id } = await issueCard(test.api);
  cardId = id;
  writeFileSync(join(folder, 'cert.pem'), pemOf(card, 'card-signing'));
  expect(await run(recipe('ca'))).toContain('exit 0');
});
afterAll(async () => {
  await test.close();
  removeScratch();
});

const run = async (command: string): Promise<string> => {
  const { stdout, stderr } = await promisify(execFile)('sh', ['-c', `{ ${command}\n} 2>&1; echo "exit $?"`], {
    cwd: folder,
  });
  return stdout + stderr;
};
const isThere = (command: string): boolean => {
  try {
    execFileSync('sh', ['-c', command], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
};

/** Commands of a recipe that is a program: the program is written, and run with what the certificate names. */
function programs(): readonly [
  software: string,
  isInstalled: boolean,
  command: () => string,
  says: Readonly<Record<'good' | 'revoked', RegExp>>,
][] {
  const written = (name: string, command: string) => () => {
    writeFileSync(join(folder, name), recipe(name));
    return command;
  };
  const [hasPython, hasJava] = ['python3 -c "import cryptography.x509.ocsp"', 'javac -version'].map(isThere);
  const java = (by: string) => written('Check.java', `java Check.java ca.pem cert.pem ${by}`);
  return [
    [
      'OpenSSL by OCSP',
      true,
      () => recipe('openssl-ocsp'),
      { good: /^cert.pem: good$/m, revoked: /^cert.pem: revoked$/m },
    ],
    [
      'OpenSSL by CRL',
      true,
      () => recipe('openssl-crl'),
      { good: /^cert.pem: OK$/m, revoked: /certificate revoked/ },
    ],
    [
      'GnuTLS by OCSP',
      true,
      () => recipe('gnutls-ocsp'),
      {
        good: /Status: good[\s\S]*OCSP Response: Success/,
        revoked: /Status: revoked[\s\S]*OCSP Response: Success/,
      },
    ],
    [
      'GnuTLS by CRL',
      true,
      () => recipe('openssl-crl') + recipe('gnutls-crl'),
      {
        good: /Chain verification output: Verified. The certificate is trusted/,
        revoked: /Chain verification output: Not verified.*revoked/,
      },
    ],
    [
      'Python by OCSP',
      hasPython === true,
      written('check.py', 'python3 check.py ca.pem cert.pem'),
      { good: /^GOOD/m, revoked: /^REVOKED/m },
    ],
    ['Java by OCSP', hasJava === true, java('ocsp'), { good: /^GOOD$/m, revoked: /^REVOKED/m }],
    ['Java by CRL', hasJava === true, java('crl'), { good: /^GOOD$/m, revoked: /^REVOKED/m }],
  ];
}

describe.each(['good', 'revoked'] as const)('of a certificate that is %s', (status) => {
  beforeAll(async () => {
    if (status !== 'revoked') return;
    await test.api.report({ event: 'card-lost', cardId });
    await until('the CRL says so', async () => /certificate revoked/.test(await run(recipe('openssl-crl'))));
  });
  // Software that is not installed is not tried: no setup of ours brings it.
  for (const [software, isInstalled, command, says] of programs())
    it.skipIf(!isInstalled)(`${software} says so by the recipe`, async () => {
      expect(await run(command())).toMatch(says[status]);
    });
});
