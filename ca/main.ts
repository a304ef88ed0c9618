import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Command } from 'commander';
import { pino } from 'pino';
import { digest, hex } from '../core/runtime/bytes.ts';
import { systemClock } from '../core/runtime/clock.ts';
import { noDataFolder } from '../core/runtime/data-folder.ts';
import { lockData } from '../core/runtime/data-lock.ts';
import { PkiError } from '../core/runtime/errors.ts';
import { ownPackage } from '../core/runtime/own-package.ts';
import { runUntilSignal } from '../core/runtime/process.ts';
import { Progress } from '../core/runtime/progress.ts';
import { instant } from './api/present.ts';
import { timeline } from './api/timeline.ts';
import { authorityCommands } from './commands/authorities.ts';
import {
  type Approvable,
  answers,
  type Commands,
  commandOn,
  signedBy,
  withData,
} from './commands/command.ts';
import { completionCommands } from './commands/completion.ts';
import { configurationCommands } from './commands/configuration.ts';
import { hsmCommands } from './commands/hsm.ts';
import { nodeCommands } from './commands/nodes.ts';
import { keepingCommands, movingCommands } from './commands/record.ts';
import { statusCommands } from './commands/status.ts';
import { endWith, throwing } from './commands/usage.ts';
import { readConfig } from './config/config.ts';
import { performCeremony } from './node/ceremony.ts';
import type { CommandAnswer } from './node/command-answer.ts';
import { layout } from './node/layout.ts';
import { issueClient, knownRoles, readTypedPin, verify, withNode } from './node/operator.ts';
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
  // A node that has joined others has no client of its own.
  if (ca.config.mode === 'production' || !existsSync(join(clients, 'first.pem')))
    return [
      `Warifu is running, in ${ca.config.mode}.`,
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
    `  Console ${api}/console   (docs/OPERATIONS.md: the console)`,
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
async function issueBatch(
  file: string,
  { url, key, cert, ca, answers: kept }: BatchOptions,
): Promise<CommandAnswer> {
  const { runBatch } = await import('./client/batch-command.ts');
  const { CaClient } = await import('./client/client.ts');
  const client = CaClient.fromFiles({ address: url, key, cert, ca });
  const bar = new Progress(process.stderr, systemClock);
  const { issued, refused, before, refusedBefore, left, refusals } = await runBatch({
    ...{ client, file, answers: kept },
    progress: bar.of('cards'),
  }).finally(() => bar.end());
  await client.close();
  const lines = [
    `${issued} issued, ${refused} refused, ${before} issued before, ${refusedBefore} refused before, ${left} without an answer`,
    ...refusals.map(({ idempotencyKey, detail }) => `  refused ${idempotencyKey}: ${detail}`),
  ];
  const value = { issued, refused, issuedBefore: before, refusedBefore, left, refusals };
  if (refused + refusedBefore + left === 0) return { lines, value };
  const act = refused + refusedBefore > 0 ? 'correct what was refused, and run it again' : 'run it again';
  return { lines, value, failure: new PkiError('bad-request', `not all cards have certificates: ${act}`) };
}

/** The processes that serve: they log JSON. */
const serviceCommands: Commands = (program) => {
  commandOn(program, 'start', 'run CA API, OCSP and CRL; the first start performs the ceremony').action(
    async ({ data }: { data: string }) => start(resolve(data)),
  );
  commandOn(
    program,
    'signer',
    'run the process that alone uses the CA’s keys, where pkcs11.isolation is signer; start takes it for granted',
  )
    .option('--verify', 'verify all of its log, and end', false)
    .option('--json', 'with --verify: print one JSON object')
    .action(async ({ data, verify: isVerified, json }: { data: string; verify: boolean; json?: true }) => {
      const folder = resolve(data);
      if (isVerified) {
        const { verifySigningLog } = await import('./signer/signing-log.ts');
        const signatures = verifySigningLog(join(layout(folder).signer, 'log'));
        process.stdout.write(json ? `${JSON.stringify({ signatures })}\n` : `${signatures} signatures\n`);
        return;
      }
      // Its files are its own, but for the socket.
      process.umask(0o077);
      const logger = pino({ base: null }, pino.destination(2));
      const { startSigner } = await import('./signer/signer.ts');
      await runUntilSignal(logger, () => startSigner({ folder, clock: systemClock, logger }));
    });
};

/** The CA's keys, and who may use it. */
const keyCommands: Commands = (program) => {
  const ceremony = commandOn(
    program,
    'ceremony',
    'make tokens, CAs, record and a first client in an empty data folder',
  );
  answers(ceremony, async ({ data }: { data: string }) => {
    const folder = resolve(data);
    using taken = new DisposableStack();
    const lock = lockData(folder, ['owner'], 'the command ceremony');
    taken.defer(() => lock.release());
    await performCeremony({ folder, clock: systemClock });
    const { ceremony: minutes, config } = layout(folder);
    const isProduction = readConfig(config).mode === 'production';
    const next = isProduction
      ? 'enrol two administrators: warifu administrators NAME=REQUEST NAME=REQUEST'
      : 'start: npm start, or warifu start where it is installed';
    return {
      lines: [`${minutes} says what was made; PINs are in the files that the configuration names`, next],
      value: { ceremony: minutes, next },
    };
  });
  const administrators = commandOn(
    program,
    'administrators <name=request...>',
    'enrol the first two administrators of production, each by a PKCS#10 request for a key of its own; the first client ends',
  );
  answers(administrators, (persons: string[], { data }: { data: string }) =>
    withNode(data, 'administrators', 'the service', async (node) => {
      const { enrolFirstAdministrators } = await import('./node/administrators.ts');
      const certificates = await enrolFirstAdministrators(node, persons);
      return { lines: certificates, value: { certificates } };
    }),
  );
  const client = commandOn(
    program,
    'client <name>',
    'issue a TLS client certificate; may run while the service does',
  ).option('--request <file>', 'PKCS#10 of a key that its owner made; production wants it');
  answers(client, (name: string, { data, request }: { data: string; request?: string }) =>
    withNode(data, 'client', 'the service', (node) => issueClient(node, name, request)),
  );
  const bind = commandOn(
    program,
    'bind <fingerprint>',
    'bind an administrator where none can act any more, with the PIN of the CA token on standard input; may run while the service does',
  )
    .option('--name <name>', 'as lists and logs name it; default: console- and the begin of the fingerprint')
    .option('--roles <roles...>', 'its roles', ['administrator'])
    .option(...signedBy);
  answers(bind, (fingerprint: string, options: Approvable & { name?: string; roles: string[] }) =>
    withNode(options.data, 'bind', 'the service', async (node) => {
      const { name = `console-${fingerprint.slice(0, 8)}`, roles, approvedBy = [] } = options;
      const bound = { fingerprint, name, roles: knownRoles(roles), pin: readTypedPin() };
      const { bindAdministrator } = await import('./node/guarded-acts.ts');
      await bindAdministrator(node, bound, approvedBy);
      const said = `${fingerprint} is bound to ${roles.join(', ')}; another administrator is to confirm it`;
      return { lines: [said], value: { fingerprint, name, roles, isConfirmed: false } };
    }),
  );
};

/** What only reads: the audit chain, the policy, histories. */
const lookupCommands: Commands = (program) => {
  const audit = withData(program.command('audit').description('the audit chain').command('verify'))
    .description('check every row of the record against the audit chain; name the first that was altered')
    .option('--checkpoints <file>', 'signed checkpoints kept elsewhere')
    .option('--from-start', 'from the first entry on, also where an earlier run was interrupted');
  answers(audit, ({ data, ...options }: { data: string; checkpoints?: string; fromStart?: boolean }) =>
    withNode(data, 'audit verify', 'everything', (node) => verify(node, options)),
  );
  const table = commandOn(program, 'policy', 'print the table of life events').option(
    '--svg',
    'as a picture',
  );
  answers(table, ({ data, svg }: { data: string; svg?: boolean }) => {
    if (data !== 'data' && !existsSync(resolve(data)))
      throw new PkiError('bad-request', noDataFolder(resolve(data)));
    const { policy } = readConfig(layout(resolve(data)).config);
    checkPolicy(policy);
    const text = svg ? drawPolicy(policy) : printPolicy(policy);
    return { lines: [text.trimEnd()], value: policy };
  });
  const history = commandOn(
    program,
    'history',
    'print what happened to a holder’s certificates, or to one, as a timeline',
  )
    .option('--holder <id>', 'the holder')
    .option('--certificate <authority/serialNumber>', 'the certificate');
  answers(history, ({ data, ...of }: { data: string; holder?: string; certificate?: string }) =>
    withNode(data, 'history', 'everything', async (node) => {
      const entries = (await timeline(node, await openAuthorities(node), of)).map(
        ({ atMs, text, value }) => ({
          at: instant(atMs),
          text,
          value,
        }),
      );
      return {
        lines: entries.map(({ at, text }) => `${at}  ${text}`),
        value: { entries: entries.map(({ at, value }) => ({ ...value, at })) },
      };
    }),
  );
};

/** What needs no data folder of a service. */
const toolCommands: Commands = (program) => {
  const batch = program
    .command('issue-batch <file>')
    .description('issue to the cards of an NDJSON file; run again, it goes on with what has no answer')
    .requiredOption('--url <url>', 'address of the CA API')
    .requiredOption('--key <file>', 'TLS client key, PEM')
    .requiredOption('--cert <file>', 'TLS client certificate, PEM')
    .requiredOption('--ca <file>', 'certificate of the operations CA, PEM')
    .requiredOption('--answers <file>', 'where answers are appended, NDJSON');
  answers(batch, issueBatch);
  const towns = program
    .command('towns')
    .description('the towns that certificates are issued for')
    .command('import <codes>')
    .description(
      'make the file of towns out of the ministry’s table of codes and the post office’s romanized list (CSV)',
    )
    .requiredOption('--romanized <file>', 'the post office’s list of postal codes with romanized names')
    .option('--out <file>', 'where the towns go; default: towns.json in the data folder');
  answers(
    withData(towns),
    async (codes: string, { data, romanized, out }: { data: string; romanized: string; out?: string }) => {
      const { importTownFiles } = await import('./node/towns-import.ts');
      const folder = resolve(data);
      if (!existsSync(folder)) throw new PkiError('bad-request', noDataFolder(folder));
      const { municipalities } = readConfig(layout(folder).config);
      return importTownFiles(
        { codes, romanized, out: resolve(out ?? join(folder, 'towns.json')) },
        municipalities,
      );
    },
  );
  const access = program
    .command('access')
    .description('print who may do what to whom: every route with its roles, and on what it acts');
  answers(access, async () => {
    const { accessMatrix, printAccess } = await import('./api/access-matrix.ts');
    const matrix = await accessMatrix();
    return { lines: [printAccess(matrix).trimEnd()], value: { routes: matrix } };
  });
  const openapi = program
    .command('openapi')
    .description('print the OpenAPI document of the CA API')
    .option('--verifiers', 'the one for verifiers: what they may ask of the API, and of OCSP and CRL nodes');
  answers(openapi, async ({ verifiers }: { verifiers?: true }) => {
    const { openApiDocument } = await import('./api/openapi.ts');
    const { verifierDocument } = await import('./api/openapi-verifiers.ts');
    const document = await (verifiers ? verifierDocument() : openApiDocument());
    return { lines: [document.trimEnd()], value: JSON.parse(document) as object };
  });
};

/** The program with all its commands. */
export function cli(): Command {
  const program = new Command('warifu')
    .description('A certificate authority for paired card and phone certificates')
    .version(ownPackage().version);
  for (const add of [
    serviceCommands,
    keyCommands,
    statusCommands,
    authorityCommands,
    nodeCommands,
    keepingCommands,
    movingCommands,
    lookupCommands,
    configurationCommands,
    hsmCommands,
    toolCommands,
    completionCommands,
  ])
    add(program);
  return throwing(program);
}

if (import.meta.main) {
  // Who reads what is printed may have enough of it.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    process.exit();
  });
  try {
    await cli().parseAsync();
  } catch (error) {
    endWith(error);
  }
}
