// What a bench is doing, for those who wait: on a terminal in one line that is written over, elsewhere a line for each part.

let begunMs = performance.now();
let part = 'begins';
let timer: NodeJS.Timeout | undefined;

/** Tells once a second, on a terminal, until the process ends. */
export function beginTelling(bench: string): void {
  begunMs = performance.now();
  if (!process.stderr.isTTY) return;
  timer = setInterval(() => {
    const seconds = Math.round((performance.now() - begunMs) / 1000);
    process.stderr.write(`\r${bench}: ${part}, ${seconds} s\u001b[K`);
  }, 1000).unref();
}

/** The bench goes on to another part. */
export function tell(next: string): void {
  part = next;
  if (!process.stderr.isTTY) process.stderr.write(`${next}\n`);
}

/** What comes next is written on a line of its own. */
export function endTelling(): void {
  if (timer) process.stderr.write('\r\u001b[K');
  clearInterval(timer);
}
