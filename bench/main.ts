import { writeFileSync } from 'node:fs';
import { Command, Option } from 'commander';
import { benchAudit } from './figures/audit.ts';
import { benchBegin } from './figures/begin.ts';
import { benchCrl } from './figures/crl.ts';
import { benchFailover } from './figures/failover.ts';
import { benchFilter } from './figures/filter.ts';
import { benchFlood } from './figures/flood.ts';
import { benchFull } from './figures/full.ts';
import { benchIssue } from './figures/issue.ts';
import { benchDatabases } from './figures/issue-databases.ts';
import { benchLoad } from './figures/load.ts';
import { benchMemory } from './figures/memory.ts';
import { benchMixed } from './figures/mixed.ts';
import { benchOcsp } from './figures/ocsp.ts';
import { benchRestrict } from './figures/restrict.ts';
import { benchRevocation } from './figures/revocation.ts';
import { benchSites, sitesOfNation } from './figures/sites.ts';
import { benchStatus } from './figures/status.ts';
import { benchTune } from './figures/tune.ts';
import { report as print } from './load/measure.ts';
import { type Figures, machine, remember } from './report/history.ts';
import { type Drawn, htmlReport } from './report/html.ts';
import { type Steadiness, watchMachine } from './report/steadiness.ts';
import { beginTelling, endTelling, tell } from './report/told.ts';

const program = new Command('bench').description('measures Warifu, and what limits it');

/** The bench that runs, and what it was asked for. */
let begun: { readonly bench: string; readonly options: Readonly<Record<string, unknown>> } | undefined;

/** How steady the machine has been since the bench began. */
let watched: (() => Steadiness) | undefined;

/** Prints figures, and remembers them; one that was disturbed says so, and ends with 2; where a report is wanted, writes that. */
function report(measured: Figures, json: boolean, drawn?: Drawn): void {
  endTelling();
  const { bench = 'bench', options = {} } = begun ?? {};
  // `load` judges by the answers of a server that may be elsewhere.
  const steady = bench === 'load' ? {} : (watched?.() ?? {});
  const figures: Figures = { ...measured, ...steady };
  print(figures, json);
  if (figures.disturbed === true) process.exitCode = 2;
  const { html, json: _, ...asked } = options;
  const words = Object.entries(asked).map(([name, value]) => `${name}=${String(value)}`);
  const run = { at: new Date().toISOString(), bench, options: words.join(' '), machine: machine(), figures };
  const before = remember(run);
  if (typeof html === 'string') writeFileSync(html, htmlReport(run, before, drawn));
}

const integer = (text: string): number => {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1) throw new RangeError(`${text} is not a number of things`);
  return value;
};

const commaSeparated = (text: string): string[] => text.split(',').filter((each) => each !== '');

program
  .command('load')
  .description('any OCSP or CRL server, or a CA API, by autocannon: its answers are checked, not counted')
  .requiredOption('--url <url>', 'the server; with the path that is asked')
  .addOption(new Option('--kind <what>', 'what it is').choices(['ocsp', 'crl', 'api']).default('ocsp'))
  .option('--issuer <file>', 'ocsp: certificate of the CA, PEM or DER')
  .option('--serials <file>', 'ocsp: serial numbers, hex, one a line')
  .option(
    '--certificates <files>',
    'ocsp: certificates that are asked about, separated by commas',
    commaSeparated,
  )
  .option('--distinct <n>', 'ocsp: the first so many of them', integer)
  .option('--nonce', 'ocsp: each request has a nonce, which the answer has to have', false)
  .addOption(
    new Option('--method <method>', 'ocsp: how it is asked').choices(['GET', 'POST']).default('POST'),
  )
  .option('--paths <file>', 'crl: paths, one a line; default: that of the URL')
  .option('--requests <file>', 'api: requests as NDJSON: method, path, headers, body')
  .option('--connections <n>', 'connections, each with one request at a time', integer, 64)
  .option('--new-connections', 'a connection for each request, as OpenSSL’s responder wants it', false)
  .option('--rate <n>', 'requests a second over all of them; default: as many as there can be', integer)
  .option('--duration <seconds>', 'how long', integer, 10)
  .option('--timeout <seconds>', 'how long an answer may take', integer, 10)
  .option('--cert <file>', 'TLS: certificate of the client, PEM')
  .option('--key <file>', 'TLS: its key, PEM')
  .option('--ca <file>', 'TLS: certificates that the server’s is of, PEM')
  .option('--json', 'print one JSON object', false)
  .action(async ({ json, ...options }) => {
    const { figures, ...drawn } = await benchLoad(options, tell);
    report(figures, json, drawn);
    process.exit();
  });

program
  .command('tune')
  .description('sweeps sizes of thread pools on this machine, and says what to set')
  .option('--rounds <n>', 'runs of each value, of which the median counts', integer, 3)
  .option('--seconds <n>', 'length of a run', integer, 4)
  .option('--json', 'print one JSON object', false)
  .action(async ({ json, ...options }) => {
    const { figures, curves } = await benchTune(options, tell);
    report(figures, json, { curves });
    process.exit();
  });

program
  .command('ocsp')
  .description('OCSP answers a second, cached and signed on the spot, on one core')
  .option('--json', 'print one JSON object', false)
  .option('--rounds <n>', 'runs of each, of which the median counts', integer, 5)
  .option('--seconds <n>', 'length of a run', integer, 3)
  .option('--certificates <n>', 'certificates in the index', integer, 10_000_000)
  .option('--cached <n>', 'certificates that are asked for again and again', integer, 100_000)
  .option('--pool', 'sign in a pool of threads instead of the listening one', false)
  .option('--log', 'log who asked', false)
  .action(async ({ json, pool, ...options }) => {
    report(await benchOcsp({ ...options, signing: pool ? 'pool' : 'inline' }), json);
    process.exit();
  });

program
  .command('sites')
  .description('OCSP as verifiers will ask: platforms over kept connections, and each site by itself')
  .option('--json', 'print one JSON object', false)
  .option('--rounds <n>', 'runs of each, of which the median counts', integer, 3)
  .option('--seconds <n>', 'length of a run', integer, 5)
  .option('--certificates <n>', 'certificates in the index', integer, 10_000_000)
  .option('--sites <n>', 'sites that ask directly, each with a credential of its own', integer, sitesOfNation)
  .action(async ({ json, ...options }) => {
    report(await benchSites(options), json);
    process.exit();
  });

program
  .command('status')
  .description('the status index: memory, look-ups, loading')
  .option('--json', 'print one JSON object', false)
  .option('--certificates <n>', 'certificates in the index', integer, 50_000_000)
  .option('--revoked <n>', 'revoked among them', integer, 2_000_000)
  .action(async ({ json, ...options }) => report(await benchStatus(options), json));

program
  .command('filter')
  .description(
    'a revocation filter of a nation: its size and the information bound, the time to build it, look-ups',
  )
  .option('--json', 'print one JSON object', false)
  .option('--certificates <n>', 'certificates that it speaks of', integer, 126_650_000)
  .option('--revoked <n>', 'revoked among them', integer, 20_000_000)
  .option('--threads <n>', 'threads that build', integer, 2)
  .action(async ({ json, ...options }) => report(await benchFilter(options), json));

program
  .command('revocation')
  .description('how long after its revocation was acknowledged a certificate is still called good')
  .option('--json', 'print one JSON object', false)
  .option('--revocations <n>', 'certificates revoked, one after the other', integer, 120)
  .action(async ({ json, ...options }) => {
    report(await benchRevocation(options), json);
    process.exit();
  });

program
  .command('crl')
  .description(
    'CRLs of a nation: a full rebuild, one revocation, one CRL compared with openssl, files compared with nginx',
  )
  .option('--json', 'print one JSON object', false)
  .option('--entries <n>', 'revoked certificates', integer, 20_000_000)
  .option('--partitions <n>', 'CRLs they are spread over', integer, 3800)
  .option('--revocations <n>', 'more of them, one after the other', integer, 200)
  .option('--rounds <n>', 'runs of each server, of which the median counts', integer, 3)
  .option('--seconds <n>', 'length of a run', integer, 2)
  .action(async ({ json, ...options }) => {
    report(await benchCrl(options), json);
    process.exit();
  });

program
  .command('issue')
  .description('pairs a second through the API, in batches and one by one, and what the cores can sign')
  .option('--json', 'print one JSON object', false)
  .addOption(
    new Option('--suite <name>', 'keys and signatures').choices(['rsa2048', 'p384']).default('rsa2048'),
  )
  .option('--rounds <n>', 'runs of each, of which the median counts', integer, 3)
  .option('--seconds <n>', 'length of a run', integer, 5)
  .addOption(
    new Option('--isolation <where>', 'where CA keys are used')
      .choices(['threads', 'processes', 'signer'])
      .default('threads'),
  )
  .addOption(
    new Option('--prime-moduli <what>', 'whether RSA moduli are tried for being prime')
      .choices(['refused', 'not-tried'])
      .default('refused'),
  )
  .addOption(
    new Option('--database <name>', 'where the record is; postgres: a server that the bench starts')
      .choices(['sqlite', 'postgres'])
      .default('sqlite'),
  )
  .option('--on-record <n>', 'certificates on record before', (text) => Number(text), 0)
  .option('--nodes <n>', 'CA nodes, on postgres', integer, 1)
  .option(
    '--rtt <ms>',
    'on postgres, once more with so much time between node and database',
    (text) => Number(text),
    0,
  )
  .action(async ({ json, nodes, rtt, ...options }) => {
    const figures = await benchIssue(options);
    const { rounds, seconds, primeModuli } = options;
    const compared =
      options.database === 'postgres'
        ? await benchDatabases({ rounds: Math.max(3, rounds), seconds, primeModuli, nodes, rtt })
        : {};
    report({ ...figures, ...compared }, json);
    process.exit();
  });

program
  .command('failover')
  .description(
    'kills the primary of two nodes’ database under load, and promotes its synchronous standby at once',
  )
  .option('--json', 'print one JSON object', false)
  .option('--rounds <n>', 'how often, of which the median counts', integer, 3)
  .action(async ({ json, ...options }) => {
    report(await benchFailover(options), json);
    process.exit();
  });

program
  .command('full')
  .description('what a full record costs: pairs a second, the start, look-ups, events, renewals')
  .option('--json', 'print one JSON object', false)
  .option('--rows <n>', 'rows on record, made in bulk, seven a pair', integer, 100_000_000)
  .option('--rounds <n>', 'runs of each, of which the median counts', integer, 3)
  .option('--seconds <n>', 'length of a run', integer, 6)
  .action(async ({ json, ...options }) => {
    const figures = await benchFull(options);
    report(figures ?? { skipped: 1 }, json);
    process.exit();
  });

program
  .command('restrict')
  .description('holds all phones of one model, while others of it enrol')
  .option('--json', 'print one JSON object', false)
  .option('--devices <n>', 'phones on record', (text) => Number(text), 1_000_000)
  .action(async ({ json, ...options }) => {
    report(await benchRestrict(options), json);
    process.exit();
  });

program
  .command('mixed')
  .description('how long revocations, enrolments and look-ups take while all else is read as well')
  .option('--json', 'print one JSON object', false)
  .option('--seconds <n>', 'how long', integer, 20)
  .option('--certificates <n>', 'certificates on record, made in bulk', integer, 1_000_000)
  .action(async ({ json, ...options }) => {
    report(await benchMixed(options), json);
    process.exit();
  });

program
  .command('audit')
  .description('brings a record of schema 3 to this version, and verifies it')
  .option('--json', 'print one JSON object', false)
  .option('--certificates <n>', 'certificates on record', (text) => Number(text), 1_000_000)
  .action(async ({ json, ...options }) => {
    report(await benchAudit(options), json);
    process.exit();
  });

program
  .command('begin')
  .description('how long a new OCSP node takes to be current, of a CA that knows so many certificates')
  .option('--json', 'print one JSON object', false)
  .option('--certificates <n>', 'certificates that the CA’s responder knows', integer, 506_600_000)
  .action(async ({ json, ...options }) => {
    report(await benchBegin(options), json);
    process.exit();
  });

program
  .command('flood')
  .description('how long a revocation takes while every other route, and OCSP and CRL, are flooded')
  .option('--json', 'print one JSON object', false)
  .option('--seconds <n>', 'how long it is quiet, and then flooded; 10 or more', integer, 20)
  .action(async ({ json, ...options }) => {
    report(await benchFlood(options), json);
    process.exit();
  });

program
  .command('memory')
  .description('how the memory of a responder grows under mixed load')
  .option('--json', 'print one JSON object', false)
  .option('--minutes <n>', 'how long', integer, 15)
  .action(async ({ json, ...options }) => {
    report(await benchMemory(options), json);
    process.exit();
  });

for (const command of program.commands)
  command.option('--html <file>', 'write a report with plots, and what has changed since the run before');
program.hook('preAction', (_, command) => {
  begun = { bench: command.name(), options: command.opts() };
  watched = watchMachine();
  beginTelling(command.name());
});

try {
  await program.parseAsync();
} catch (error) {
  // What was asked for, or a file, or an address: a line says it.
  if (error instanceof RangeError || isOutside(error)) {
    process.stderr.write(`bench: ${error.message}\n`);
    process.exit(1);
  }
  throw error;
}

function isOutside(error: unknown): error is Error {
  const { code = '' } = error as NodeJS.ErrnoException;
  return /^(E[A-Z]+|ERR_INVALID_URL|ERR_OSSL\w*)$/.test(code) || error instanceof SyntaxError;
}
