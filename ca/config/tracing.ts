import { type Static, Type } from 'typebox';

const TracingSchema = Type.Object(
  {
    url: Type.String({
      pattern: '^https?://[^@]+$',
      maxLength: 2048,
      description: 'where an OpenTelemetry collector takes traces by OTLP over HTTP: its /v1/traces',
    }),
    sampled: Type.Number({
      default: 0.01,
      minimum: 0,
      maximum: 1,
      description: 'share of requests that are traced; those whose caller traces them are, always',
    }),
    ca: Type.Optional(
      Type.String({
        minLength: 1,
        description: 'PEM file of the CA of the collector’s certificate, relative to the data folder',
      }),
    ),
  },
  { additionalProperties: false, description: 'where traces of requests are sent; default: nowhere' },
);

export const Tracing = Type.Optional(TracingSchema);
export type TracingOptions = Static<typeof TracingSchema>;
