import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';

// What all benches share: medians, CPU time of processes, cores, and how figures are shown.

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >>> 1;
  const [low = Number.NaN, high = Number.NaN] = [sorted[middle - 1], sorted[middle]];
  return sorted.length % 2 === 1 ? high : (low + high) / 2;
}

const ticksPerSecond = Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }));

/** CPU time of a process and all its threads so far, microseconds (proc(5), fields 14 and 15). */
export function cpuMicros(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return ((Number(fields[11]) + Number(fields[12])) * 1e6) / ticksPerSecond;
}

/** Octets of memory that a process holds. */
export function residentOctets(pid: number | 'self'): number {
  const match = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(match?.[1]) * 1024;
}

/** Servers have one core and load generators the other, so that neither takes from the other. */
export const cores = { server: '0', load: cpus().length > 1 ? '1' : '0' } as const;

export function hasCommand(name: string): boolean {
  try {
    execFileSync('sh', ['-c', `command -v ${name}`], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

const children = new Set<ChildProcess>();

/** Runs a command on one core; all that are left are ended with this process. */
export function spawnOn(core: string, command: string, args: readonly string[], cwd?: string): ChildProcess {
  const child = spawn('taskset', ['-c', core, command, ...args], {
    // OpenSSL's responder says a line for each request.
    stdio: ['ignore', 'pipe', command === 'openssl' ? 'ignore' : 'inherit'],
    ...(cwd === undefined ? {} : { cwd }),
  });
  children.add(child);
  child.once('exit', () => children.delete(child));
  return child;
}

process.once('exit', () => {
  for (const child of children) child.kill('SIGKILL');
});

/** A script (its URL) on one core, once it has said its first line: a JSON value. */
export async function startScript<T>(
  core: string,
  script: URL,
  args: readonly string[] = [],
): Promise<{ child: ChildProcess; pid: number; said: T }> {
  const child = spawnOn(core, process.execPath, [script.pathname, ...args]);
  const said = await firstLine(child);
  return { child, pid: child.pid ?? 0, said: JSON.parse(said) as T };
}

export function firstLine(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
      const end = text.indexOf('\n');
      if (end >= 0) resolve(text.slice(0, end));
    });
    child.once('exit', (code) => reject(new Error(`${child.spawnargs.join(' ')} ended with ${code}`)));
  });
}

/** Everything a command says. */
export function outputOf(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
    });
    child.once('close', (code) => {
      if (code === 0) resolve(text);
      else reject(new Error(`${child.spawnargs.join(' ')} ended with ${code}`));
    });
  });
}

/** A figure in at most four digits that count. */
export const shown = (value: number): string =>
  Number.isNaN(value)
    ? '–'
    : Number.isInteger(value) || Math.abs(value) >= 1000
      ? Math.round(value).toLocaleString('en')
      : String(Number(value.toPrecision(3)));

/** Prints figures: exactly one JSON object, or a table. */
export function report(figures: Readonly<Record<string, number | boolean | string>>, json: boolean): void {
  if (json) {
    process.stdout.write(`${JSON.stringify(figures)}\n`);
    return;
  }
  const width = Math.max(...Object.keys(figures).map(({ length }) => length));
  for (const [name, value] of Object.entries(figures)) {
    process.stdout.write(
      `${name.padEnd(width)}  ${(typeof value === 'number' ? shown(value) : String(value)).padStart(14)}\n`,
    );
  }
}
