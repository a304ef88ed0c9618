// The API, as the console asks it.

/** What the API refuses: a problem document (RFC 9457). */
export class Problem extends Error {
  readonly title: string;
  readonly status: number;

  constructor({ title, status, detail }: { title?: string; status?: number; detail?: string }) {
    super(detail ?? title ?? 'the service cannot be reached');
    this.title = title ?? 'unreachable';
    this.status = status ?? 0;
  }
}

/** For which purpose holders are looked up: chosen by the person, and sent with each request. */
let purpose = sessionStorage.getItem('warifu-purpose') ?? '';
export const setPurpose = (chosen: string): void => {
  purpose = chosen;
  sessionStorage.setItem('warifu-purpose', chosen);
};
export const chosenPurpose = (): string => purpose;

async function ask<T>(method: string, path: string, body?: object, key?: string): Promise<T> {
  let response: Response;
  try {
    response = await fetch(`/v1${path}`, {
      method,
      credentials: 'same-origin',
      cache: 'no-store',
      headers: {
        'Warifu-Console': '1',
        Accept: 'application/json',
        ...(purpose === '' ? {} : { 'Warifu-Purpose': purpose }),
        ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
        ...(key === undefined ? {} : { 'Idempotency-Key': key }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  } catch {
    throw new Problem({});
  }
  const answer = (await response.json().catch(() => ({}))) as T;
  if (!response.ok) throw new Problem({ status: response.status, ...(answer as object) });
  return answer;
}

export const get = <T>(path: string): Promise<T> => ask('GET', path);
/** `key`: of an act that is done once, however often it is sent. */
export const post = <T>(path: string, body?: object, key: string = crypto.randomUUID()): Promise<T> =>
  ask('POST', path, body, key);

/** A path out of what a person has typed. */
export const pathOf = (...parts: readonly string[]): string => {
  // These would lead to another path.
  if (parts.some((part) => /^\.{0,2}$/.test(part))) throw new Problem({ title: 'not-found', status: 404 });
  return parts.map((part) => `/${encodeURIComponent(part)}`).join('');
};
