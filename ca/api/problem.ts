import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import { type ErrorCode, errorStatus, PkiError } from '../../core/runtime/errors.ts';
import { type FieldFault, fieldFaults } from './field-faults.ts';

/** RFC 9457 problem details, the one form in which this API says no. */
export interface Problem {
  readonly type: string;
  readonly title: ErrorCode;
  readonly status: number;
  readonly detail: string;
  readonly instance: string;
  /** Of a request that is not of the form it should be: every fault, by JSON pointer. */
  readonly errors?: FieldFault[];
}

/** Fastify's own refusals, by the codes it gives them. */
const fastifyCodes: Readonly<Record<string, ErrorCode>> = {
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'unsupported-media-type',
  FST_ERR_CTP_BODY_TOO_LARGE: 'too-large',
  FST_ERR_CTP_EMPTY_JSON_BODY: 'bad-request',
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: 'bad-request',
  FST_ERR_CTP_INVALID_JSON_BODY: 'bad-request',
  FST_ERR_VALIDATION: 'bad-request',
};

/** Turns whatever was thrown into a refusal that may be shown; what is not ours to show becomes `internal`. */
function toRefusal(error: unknown): {
  code: ErrorCode;
  detail: string;
  errors?: FieldFault[];
} {
  // The record says whose it is, the caller does not learn it.
  if (error instanceof PkiError && error.code === 'medium-belongs-to-another-holder')
    return { code: 'medium-unavailable', detail: error.message };
  if (error instanceof PkiError && error.code !== 'internal')
    return { code: error.code, detail: error.message };
  const { code, validation, validationContext, statusCode } = error as Partial<FastifyError>;
  if (validation) {
    const errors = fieldFaults(validation);
    const [first] = errors;
    return { code: 'bad-request', detail: `${validationContext}${first?.pointer}: ${first?.detail}`, errors };
  }
  const known = code === undefined ? undefined : fastifyCodes[code];
  if (known === 'unsupported-media-type')
    return { code: known, detail: 'the body is of another media type: send Content-Type: application/json' };
  if (known) return { code: known, detail: (error as Error).message };
  // The JSON parser's message would quote the body, which is personal.
  if (error instanceof SyntaxError || statusCode === 400)
    return { code: 'bad-request', detail: 'the body is not JSON' };
  return { code: 'internal', detail: 'the service failed; the request id finds the cause in its log' };
}

/** The problem document for an error; a fault of ours is logged. */
export function problemOf(request: FastifyRequest, error: unknown): Problem {
  const { code, detail, errors } = toRefusal(error);
  if (code === 'internal') request.log.error({ err: describeFault(error) }, 'internal error');
  return {
    type: `urn:warifu:problem:${code}`,
    title: code,
    status: errorStatus[code],
    detail,
    instance: `urn:warifu:request:${request.id}`,
    ...(errors && errors.length > 0 ? { errors } : {}),
  };
}

export function sendProblem(request: FastifyRequest, reply: FastifyReply, error: unknown): FastifyReply {
  const problem = problemOf(request, error);
  request.problem = problem.title;
  if (problem.status === 503)
    void reply.header('Retry-After', problem.title === 'function-closed' ? '60' : '1');
  return reply.code(problem.status).type('application/problem+json').serializer(JSON.stringify).send(problem);
}

/** A fault's class, place and cause: never its data, which may be personal. */
function describeFault(error: unknown): {
  name: string;
  message: string;
  stack: string | undefined;
  cause: string;
} {
  if (!(error instanceof Error)) return { name: typeof error, message: '', stack: undefined, cause: '' };
  const cause = error.cause instanceof Error ? error.cause.message : '';
  return { name: error.name, message: error.message, stack: error.stack, cause };
}
