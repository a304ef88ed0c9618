import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Command } from 'commander';
import { pino } from 'pino';
import { digest, hex } from '../core/runtime/bytes.ts';
import { systemClock } from '../core/runtime/clock.ts';
import { lockData } from '../core/runtime/data-lock.ts';
import { PkiError } from '../core/runtime/errors.ts';
import { fail, runUntilSignal } from '../core/runtime/process.ts';
import { Progress } from '../core/runtime/progress.ts';
import { timeline } from './api/timeline.ts';
import { readConfig } from './config/config.ts';
import { enrolFirstAdministrators } from './node/administrators.ts';
import { askForBackup } from './node/ask-for-backup.ts';
import { performCeremony } from './node/ceremony.ts';
import { linkGenerations } from './node/generation.ts';
import { bindAdministrator, eraseYearOf, makeBackup, makeGeneration } from './node/guarded-acts.ts';
import { layout } from './node/layout.ts';
import type { MoveOptions } from './node/move-record.ts';
import { issueClient, knownRoles, readTypedPin, verify, withLock, withNode } from './node/operator.ts';
import { type RestoreOptions, restore } from './node/restore-command.ts';
import type { Service } from './node/service.ts';
import { openAuthorities } from './node/wiring.ts';
import { checkPolicy } from './policy/policy-check.ts';
import { drawPolicy, printPolicy } from './policy/policy-print.ts';

// What only one command needs is imported by that command: libraries take longer to load than most commands take to run.

async function start(folder: string): Promise<void> {
  const logger = pino({ base: null }, pino.destination(2));
  const { startService } = await import('./node/service.ts');
  await runUntilSignal(logger, async () => {
    const service = await startService({ folder, clock: systemClock, logger });
    process.stdout.write(await greeting(folder, service));
    return { reload: () => service.reload(), close: () => service.close() };
  });
}

/** What a person needs next: addresses, and one line each that works. */
async function greeting(folder: string, { addresses: { api, ocsp, crl }, ca }: Service): Promise<string> {
  const { clients, tls, published, example: exampleFolder } = layout(folder);
  if (ca.config.mode === 'production')
    return [
      'Warifu is running, in production.',
      `  CA API  ${api}/v1   (TLS for ${ca.config.api.names.join(', ')}; a client certificate of ${tls}/operations-ca.pem)`,
      `  OCSP    ${ocsp}`,
      `  CRL     ${crl}     (files in ${published})`,
      '',
    ].join('\n');
  const { writeExample } = await import('./node/example.ts');
  const example = await writeExample({
    folder: exampleFolder,
    municipalityCode: ca.config.municipalities[0]?.code ?? '',
    nowMs: ca.clock.wallMs(),
    certificate: ca.authorities.byName('signing-1').certificate,
  });
  const mtls = `--cert ${clients}/first.pem --key ${clients}/first.key --cacert ${tls}/operations-ca.pem`;
  const json = "-H 'Content-Type: application/json'";
  // Of the request, so that the line gives the same answer again, and another request one of its own.
  const once = hex(digest('sha256', readFileSync(example.cardRequest))).slice(0, 12);
  return [
    'Warifu is running, in development: its first client has every right (docs/OPERATIONS.md: production).',
    `  CA API  ${api}/v1   (TLS, client certificate ${clients}/first.pem)`,
    `  OCSP    ${ocsp}`,
    `  CRL     ${crl}     (files in ${published})`,
    '',
    'Issue to a card:',
    `  curl -s ${mtls} ${json} -H 'Idempotency-Key: ${once}' -d @${example.cardRequest} ${api}/v1/card-certificates`,
    'Ask OCSP about the signing CA’s own certificate:',
    `  curl -s -H 'Content-Type: application/ocsp-request' --data-binary @${example.ocspRequest} ${ocsp} | openssl ocsp -respin /dev/stdin -noverify -text`,
    'Fetch a CRL:',
    `  curl -s ${crl}/crl/authority/signing-1.crl | openssl crl -inform DER -noout -text`,
    '',
  ].join('\n');
}

interface BatchOptions {
  readonly url: string;
  readonly key: string;
  readonly cert: string;
  readonly ca: string;
  readonly answers: string;
}

/** Issues to many cards; what has no answer yet is left for the next run, and the exit code says so. */
async function issueBatch(file: string, { url, key, cert, ca, answers }: BatchOptions): Promise<void> {
  const { runBatch } = await import('./client/batch-command.ts');
  const { CaClient } = await import('./client/client.ts');
  const client = CaClient.fromFiles({ address: url, key, cert, ca });
  const bar = new Progress(process.stderr, systemClock);
  const { issued, refused, before, left } = await runBatch({
    ...{ client, file, answers },
    progress: bar.of('cards'),
  }).finally(() => bar.end());
  await client.close();
  process.stdout.write(
    `${issued} issued, ${refused} refused, ${before} answered before, ${left} without an answer\n`,
  );
  if (refused + left > 0) process.exitCode = 1;
}

/** Adds commands to the program. */
type Commands = (program: Command) => void;

/** A command on a data folder. */
const commandOn = (program: Command, name: string, description: string): Command =>
  program.command(name).description(description).option('--data <folder>', 'data folder', 'data');

/** An act that two administrators sign for in production. */
const signedBy = [
  '--approved-by <file...>',
  'the plan, as two administrators have signed it; without, production writes the plan to a file, and does nothing',
] as const;

interface Approvable {
  readonly data: string;
  readonly approvedBy?: string[];
}

/** The service, its keys and its clients. */
const serviceCommands: Commands = (program) => {
  commandOn(program, 'start', 'run CA API, OCSP and CRL; the first start performs the ceremony').action(
    async ({ data }: { data: string }) => start(resolve(data)),
  );
  commandOn(
    program,
    'ceremony',
    'make tokens, CAs, record and a first client in an empty data folder',
  ).action(async ({ data }: { data: string }) => {
    const folder = resolve(data);
    using taken = new DisposableStack();
    const lock = lockData(folder, ['owner'], 'the command ceremony');
    taken.defer(() => lock.release());
    await performCeremony({ folder, clock: systemClock });
    const { ceremony, config } = layout(folder);
    const isProduction = readConfig(config).mode === 'production';
    const next = isProduction
      ? 'enrol two administrators: warifu administrators NAME=REQUEST NAME=REQUEST'
      : 'start: npm start';
    process.stdout.write(
      `${ceremony} says what was made; PINs are in the files that the configuration names\n${next}\n`,
    );
  });
  commandOn(
    program,
    'generation',
    'add a key for both CAs, under the same names; a running service takes it up by itself',
  )
    .requiredOption('--suite <name>', 'rsa2048-sha256 or p384-sha384')
    .option(...signedBy)
    .action(async ({ data, suite, approvedBy }: Approvable & { suite: string }) =>
      withNode(data, 'generation', 'the service', async (node) => {
        for (const line of await makeGeneration(node, suite, approvedBy ?? []))
          process.stdout.write(`${line}\n`);
      }),
    );
  commandOn(program, 'links', 'issue the link certificates that are missing between generations').action(
    async ({ data }: { data: string }) =>
      withNode(data, 'links', 'the service', async (node) => {
        for (const name of await linkGenerations(node)) process.stdout.write(`${name}\n`);
      }),
  );
  commandOn(
    program,
    'administrators <name=request...>',
    'enrol the first two administrators of production, each by a PKCS#10 request for a key of its own; the first client ends',
  ).action(async (persons: string[], { data }: { data: string }) =>
    withNode(data, 'administrators', 'the service', async (node) => {
      for (const file of await enrolFirstAdministrators(node, persons)) process.stdout.write(`${file}\n`);
    }),
  );
  commandOn(program, 'client <name>', 'issue a TLS client certificate; may run while the service does')
    .option('--request <file>', 'PKCS#10 of a key that its owner made; production wants it')
    .action(async (name: string, { data, request }: { data: string; request?: string }) =>
      withNode(data, 'client', 'the service', (node) => issueClient(node, name, request)),
    );
  commandOn(
    program,
    'bind <fingerprint>',
    'bind an administrator where none can act any more, with the PIN of the CA token on standard input; may run while the service does',
  )
    .option('--name <name>', 'as lists and logs name it; default: console- and the begin of the fingerprint')
    .option('--roles <roles...>', 'its roles', ['administrator'])
    .option(...signedBy)
    .action(async (fingerprint: string, options: Approvable & { name?: string; roles: string[] }) =>
      withNode(options.data, 'bind', 'the service', async (node) => {
        const { name = `console-${fingerprint.slice(0, 8)}`, roles, approvedBy = [] } = options;
        const bound = { fingerprint, name, roles: knownRoles(roles), pin: readTypedPin() };
        await bindAdministrator(node, bound, approvedBy);
        process.stdout.write(
          `${fingerprint} is bound to ${roles.join(', ')}; another administrator is to confirm it\n`,
        );
      }),
    );
};

/** What is kept of the record, and what is not. */
const keepingCommands: Commands = (program) => {
  commandOn(
    program,
    'erase-year <year>',
    'make the personal data of certificates that ended in a past year unreadable; while the service is stopped',
  )
    .option(...signedBy)
    .action(async (year: string, { data, approvedBy = [] }: Approvable) =>
      withNode(data, 'erase-year', 'nothing', async (node) => {
        const { replaced, elsewhere } = await eraseYearOf(node, Number(year), approvedBy);
        process.stdout.write(replaced.map((file) => `erased from ${file}, too\n`).join(''));
        process.stdout.write(
          elsewhere.map((what) => `still held by the backup ${what}: destroy it\n`).join(''),
        );
      }),
    );
  commandOn(
    program,
    'backup [file]',
    'copy the record to a file, and next to it, in <file>.files, all else that a dead disk takes; may run while the service does',
  )
    .option(
      '--scheduled',
      'instead of <file>: verified, encrypted and kept as backups configures, as the service does by itself',
    )
    .option(...signedBy)
    .action(async (file: string | undefined, options: Approvable & { scheduled?: boolean }) =>
      withNode(options.data, 'backup', 'everything', async (node) => {
        if ((file === undefined) !== (options.scheduled === true))
          throw new PkiError('bad-request', 'name a file, or --scheduled');
        if (file === undefined) {
          process.stdout.write(`${await askForBackup(node)}\n`);
          return;
        }
        const { covered, notCovered } = await makeBackup(node, resolve(file), options.approvedBy ?? []);
        process.stdout.write(covered.map((what) => `covered: ${what}\n`).join(''));
        process.stdout.write(notCovered.map((what) => `not covered: ${what}\n`).join(''));
      }),
    );
  program
    .command('open-backup <file> <folder>')
    .description('decrypt a backup that the service made into a new folder, whose record.db restore takes')
    .requiredOption('--identity <file>', 'file with private keys of age, as age-keygen writes it')
    .action(openBackup);
  commandOn(
    program,
    'restore <backup>',
    'make the record out of a backup and of what followers have received; the service is stopped',
  )
    .option('--journal <file...>', 'journals of OCSP and CRL nodes; default: the one in the data folder')
    .option(
      '--accept-loss',
      'restore although something is lost that is known to have been on record; what, is printed',
    )
    .option(
      '--accept-unproven',
      'believe journals, or lines of them, without proof that this CA sent them: those of an earlier version',
    )
    .option(...signedBy)
    .action(async (backup: string, options: RestoreOptions) =>
      withLock(resolve(options.data), 'restore', 'nothing', () => restore(backup, options)),
    );
};

/** Where the record is kept. */
const movingCommands: Commands = (program) => {
  commandOn(
    program,
    'migrate',
    'move the record between the data folder and a PostgreSQL database; while the service is stopped',
  )
    .requiredOption('--to <where>', 'postgres://USER@HOST[:PORT][,HOST...]/DATABASE, or sqlite')
    .option('--password-file <file>', 'file with the password, relative to the data folder')
    .option('--ca <file>', 'file with the authorities of the servers’ certificates, PEM')
    .option('--no-tls', 'without TLS: for a server on this machine')
    .option(...signedBy)
    .action(async ({ data, to, ...options }: Approvable & MoveOptions & { to: string }) => {
      const { moveRecord, moveTargetOf } = await import('./node/move-record.ts');
      const lines = await moveRecord(data, moveTargetOf(to, options), options.approvedBy ?? []);
      process.stdout.write(lines.map((line) => `${line}\n`).join(''));
    });
};

/** Says what to do next: the same as `age -d` and `tar x` would. */
async function openBackup(file: string, folder: string, { identity }: { identity: string }): Promise<void> {
  const { decryptBackup } = await import('./node/encrypted-backup.ts');
  for (const named of [file, identity])
    if (!existsSync(named)) throw new PkiError('bad-request', `there is no file ${named}`);
  if (existsSync(folder)) throw new PkiError('bad-request', `${folder} exists, and nothing is overwritten`);
  const keys = readFileSync(identity, 'utf8')
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'));
  await decryptBackup(file, folder, keys);
  process.stdout.write(`now run: warifu restore ${join(folder, 'record.db')} --journal FILES --data DIR\n`);
}

/** What only reads: the audit chain, the policy, histories. */
const lookupCommands: Commands = (program) => {
  program
    .command('audit')
    .description('the audit chain')
    .command('verify')
    .description('check every row of the record against the audit chain; name the first that was altered')
    .option('--data <folder>', 'data folder', 'data')
    .option('--checkpoints <file>', 'signed checkpoints kept elsewhere')
    .option('--from-start', 'from the first entry on, also where an earlier run was interrupted')
    .action(async ({ data, ...options }: { data: string; checkpoints?: string; fromStart?: boolean }) =>
      withNode(data, 'audit verify', 'everything', (node) => verify(node, options)),
    );
  commandOn(program, 'policy', 'print the table of life events')
    .option('--svg', 'as a picture')
    .action(({ data, svg }: { data: string; svg?: boolean }) => {
      if (data !== 'data' && !existsSync(resolve(data)))
        throw new PkiError('bad-request', `there is no data folder ${resolve(data)}`);
      const { policy } = readConfig(layout(resolve(data)).config);
      checkPolicy(policy);
      process.stdout.write(svg ? drawPolicy(policy) : printPolicy(policy));
    });
  commandOn(program, 'history', 'print what happened to a holder’s certificates, or to one, as a timeline')
    .option('--holder <id>', 'the holder')
    .option('--certificate <authority/serialNumber>', 'the certificate')
    .action(async ({ data, ...of }: { data: string; holder?: string; certificate?: string }) =>
      withNode(data, 'history', 'everything', async (node) => {
        const lines = await timeline(node, await openAuthorities(node), of);
        process.stdout.write(lines.map((line) => `${line}\n`).join(''));
      }),
    );
};

/** What needs no data folder of a service. */
const toolCommands: Commands = (program) => {
  program
    .command('issue-batch <file>')
    .description('issue to the cards of an NDJSON file; run again, it goes on with what has no answer')
    .requiredOption('--url <url>', 'address of the CA API')
    .requiredOption('--key <file>', 'TLS client key, PEM')
    .requiredOption('--cert <file>', 'TLS client certificate, PEM')
    .requiredOption('--ca <file>', 'certificate of the operations CA, PEM')
    .requiredOption('--answers <file>', 'where answers are appended, NDJSON')
    .action(issueBatch);
  program
    .command('towns')
    .description('the towns that certificates are issued for')
    .command('import <codes>')
    .description(
      'make the file of towns out of the ministry’s table of codes and the post office’s romanized list (CSV)',
    )
    .requiredOption('--romanized <file>', 'the post office’s list of postal codes with romanized names')
    .option('--data <folder>', 'data folder', 'data')
    .option('--out <file>', 'where the towns go; default: towns.json in the data folder')
    .action(
      async (codes: string, { data, romanized, out }: { data: string; romanized: string; out?: string }) => {
        const { importTownFiles } = await import('./node/towns-import.ts');
        const folder = resolve(data);
        if (!existsSync(folder)) throw new PkiError('bad-request', `there is no data folder ${folder}`);
        const { municipalities } = readConfig(layout(folder).config);
        const files = { codes, romanized, out: resolve(out ?? join(folder, 'towns.json')) };
        const refused = importTownFiles(files, municipalities, (line) => process.stdout.write(`${line}\n`));
        if (refused > 0) process.exitCode = 1;
      },
    );
  program
    .command('access')
    .description('print who may do what to whom: every route with its roles, and on what it acts')
    .action(async () => {
      const { printAccess } = await import('./api/access-matrix.ts');
      process.stdout.write(await printAccess());
    });
  program
    .command('openapi')
    .description('print the OpenAPI document of the CA API')
    .option('--verifiers', 'the one for verifiers: what they may ask of the API, and of OCSP and CRL nodes')
    .action(async ({ verifiers }: { verifiers?: true }) => {
      const { openApiDocument } = await import('./api/openapi.ts');
      const { verifierDocument } = await import('./api/openapi-verifiers.ts');
      process.stdout.write(await (verifiers ? verifierDocument() : openApiDocument()));
    });
};

function cli(): Command {
  const program = new Command('warifu').description(
    'A certificate authority for paired card and phone certificates',
  );
  for (const add of [serviceCommands, keepingCommands, movingCommands, lookupCommands, toolCommands])
    add(program);
  return program;
}

if (import.meta.main) {
  try {
    await cli().parseAsync();
  } catch (error) {
    fail(error);
  }
}
