// Loads every source of the project once, so that Node keeps what it compiled of each: the set-up runs it with NODE_COMPILE_CACHE. A thread
// that finds nothing kept loads a compiler of its own, ten megabytes each. A program asked for its version says it and ends; a
// thread without its task refuses to begin. Pools load their threads' programs by `require`, which Node keeps apart.
import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { Worker } from 'node:worker_threads';

const longestMs = 5000;
const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const sources = ['ca', 'core', 'crl', 'hsm', 'ocsp', 'store'].flatMap((folder) =>
  readdirSync(join(root, folder), { recursive: true })
    // The client's package is built by itself, out of what is generated for it.
    .filter((name) => /(?<!\.d)\.ts$/.test(name) && !/^sdk\//.test(name))
    .map((name) => join(root, folder, name)),
);
const isProgram = (name) => /\/(main|request-check|[a-z]+-(process|thread|worker))\.ts$/.test(name);

for (const source of sources.filter((name) => !isProgram(name))) await import(pathToFileURL(source));
for (const program of sources.filter(isProgram)) {
  const options = { argv: ['--version'], stdout: true, stderr: true };
  const workers = [
    new Worker(program, options),
    new Worker(`require(${JSON.stringify(program)})`, { ...options, eval: true }),
  ];
  const ended = workers.map(
    (worker) => new Promise((resolve) => worker.once('exit', resolve).on('error', () => undefined)),
  );
  await Promise.race([Promise.all(ended), new Promise((resolve) => setTimeout(resolve, longestMs))]);
}
process.exit();
