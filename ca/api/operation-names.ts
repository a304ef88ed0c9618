// Names of operations for those who make clients out of the OpenAPI document: of method and path, so that they stay as long as these do.

const verbs: Readonly<Record<string, string>> = { get: 'get', post: 'post', put: 'put', delete: 'delete' };

const capital = (word: string): string => word.charAt(0).toUpperCase() + word.slice(1);
const words = (part: string): string => part.split(/[-.]/).map(capital).join('');

/** `POST /v1/holders/:holderId/notices` is `postHoldersByHolderIdNotices`. */
export function operationIdOf(method: string, url: string): string {
  const parts = url.replace(/^\/v1\//, '').split('/');
  const named = parts.map((part) => {
    const parameter = /^[:{]([A-Za-z]+)\}?$/.exec(part)?.[1];
    return parameter === undefined ? words(part) : `By${capital(parameter)}`;
  });
  return `${verbs[method.toLowerCase()] ?? method.toLowerCase()}${named.join('')}`;
}

/** What an operation is about: the first part of its path. */
export const tagOf = (url: string): string => url.replace(/^\/v1\//, '').split('/')[0] ?? '';
