import type { FastifySchemaValidationError } from 'fastify/types/schema.js';

// What is wrong with a request's form, field by field. Nothing that was sent is quoted: it may be personal.

export interface FieldFault {
  /** JSON pointer into the body, query, path or headers. */
  readonly pointer: string;
  readonly detail: string;
}

/** More are not told at once. */
const faultsMax = 20;

type Fault = FastifySchemaValidationError & { readonly data?: unknown };

/** Every fault once, and of an alternative that does not fit what is nearest to it. */
export function fieldFaults(validation: readonly FastifySchemaValidationError[]): FieldFault[] {
  const found = new Map<string, FieldFault>();
  for (const fault of validation as readonly Fault[]) {
    const pointer = pointerOf(fault);
    const detail = detailOf(fault);
    const name = `${pointer} ${detail}`;
    if (!found.has(name)) found.set(name, { pointer, detail });
    if (found.size === faultsMax) break;
  }
  return [...found.values()];
}

/** Of a member that is too much, or is missing, to that member. */
function pointerOf({ instancePath, params }: Fault): string {
  const member = params.additionalProperty ?? params.missingProperty;
  if (typeof member !== 'string') return instancePath;
  return `${instancePath}/${member.slice(0, 40).replaceAll('~', '~0').replaceAll('/', '~1')}`;
}

function detailOf({ keyword, params, message = 'is wrong', data }: Fault): string {
  const extra = params.additionalProperty;
  if (typeof extra === 'string') return `must not have the member ${extra.slice(0, 40)}`;
  const allowed = params.allowedValues;
  if (Array.isArray(allowed)) return `${message}: ${allowed.join(', ')}`;
  if (keyword === 'pattern' && String(params.pattern).startsWith('^[A-Za-z0-9+/]+='))
    return base64Fault(data);
  return message;
}

/** Mistakes that many make are called by their name. */
function base64Fault(data: unknown): string {
  const text = typeof data === 'string' ? data : '';
  if (text.includes('-----BEGIN'))
    return 'is PEM: send the base64 between its first and last line, without line breaks';
  if (/\s/.test(text)) return 'must be base64 in one line, without spaces or line breaks';
  if (/[-_]/.test(text)) return 'is base64url: send base64 with + and /, and = at its end';
  return 'must be base64 of DER';
}
