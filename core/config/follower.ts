import { type Static, Type } from 'typebox';
import { Metrics, Mode, Warnings } from './shared.ts';

/** What every node has that runs alone, following a CA elsewhere. */
export const followerOptions = {
  feed: Type.Object(
    {
      url: Type.String({ pattern: '^https://[^/]+$', description: 'address of the CA API' }),
      key: Type.String({ description: 'file with the TLS client key, relative to the data folder' }),
      cert: Type.String({ description: 'file with the TLS client certificate' }),
      ca: Type.String({ description: 'file with the operations CA’s certificate' }),
    },
    { additionalProperties: false, description: 'where the status feed comes from' },
  ),
  metrics: Metrics,
  warnings: Warnings,
  mode: Mode,
};

export type FeedOptions = Static<typeof followerOptions.feed>;
