import { type Static, Type } from 'typebox';

const TracingSchema = Type.Object(
  {
    url: Type.String({
      // No name, password or query: they would be a secret in a file that is shown.
      pattern:
        '^https?://([A-Za-z0-9.-]+|\\[[0-9A-Fa-f:.]+\\])(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?(/[A-Za-z0-9._~/-]*)?$',
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
