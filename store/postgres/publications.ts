import type { Publication, PublicationChange, Publications } from '../../core/model/publication.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import type { Question } from './asking.ts';
import type { Answer } from './session.ts';

// CRLs as the node that publishes them hands them to the others: a table that is no part of the record, for each CRL is signed, and says
// nothing that the record does not say. Only who holds the claim on publishing writes it; the claim cannot pass to another node while it does.

const holdsClaim = `SELECT 1 FROM "workClaim" WHERE work = 'crl' AND node = $1 AND until > clock_timestamp() FOR SHARE`;
const nextChange = `(SELECT coalesce(max(change), 0) + 1 FROM "crlPublication")`;

const first = `WITH claim AS (${holdsClaim})
  INSERT INTO "crlPublication" SELECT $2, $3, ${nextChange}, $4, $5, $7, $6 FROM claim
  ON CONFLICT (path) DO NOTHING RETURNING number`;

/** $5 is NULL where the complete CRL stays. */
const next = `WITH claim AS (${holdsClaim})
  UPDATE "crlPublication" AS p SET number = $3, change = ${nextChange}, described = $4, complete = coalesce($5, complete),
    base = CASE WHEN $8::boolean THEN NULL ELSE coalesce($9, CASE WHEN $5::bytea IS NULL THEN base ELSE coalesce(base, p.complete) END) END, delta = $6
  FROM claim WHERE path = $2 AND number = $7 RETURNING number`;

/** From the first on where changes were lost: a database that was taken back has fewer than were seen. */
const after = `SELECT path, number, change FROM "crlPublication"
  WHERE change > CASE WHEN $1 > (SELECT coalesce(max(change), 0) FROM "crlPublication") THEN 0 ELSE $1 END
  ORDER BY change LIMIT $2`;
const get = `SELECT path, number, described, complete, base, delta FROM "crlPublication" WHERE path = $1`;
const numbers = 'SELECT path, number FROM "crlPublication" WHERE $1::int > 0';

export interface PublicationsOptions {
  readonly node: string;
  readonly isPublisher: () => boolean;
  readonly giveUp: () => void;
  readonly ask: (question: Question) => Promise<Answer>;
  /** Asks what writes, one after the other. */
  readonly write: (question: {
    readonly text: string;
    readonly values: readonly unknown[];
  }) => Promise<Answer>;
}

export class PostgresPublications implements Publications {
  readonly #options: PublicationsOptions;

  constructor(options: PublicationsOptions) {
    this.#options = options;
  }

  /** Who writes takes one number after the other. */
  readonly lateBy = 0;

  isPublisher(): boolean {
    return this.#options.isPublisher();
  }

  giveUp(): void {
    this.#options.giveUp();
  }

  async put(change: PublicationChange): Promise<boolean> {
    const { path, number, described, complete, delta, base = null, seenNumber, isBase } = change;
    const values = [this.#options.node, path, number, described, complete, delta];
    if (complete) {
      const { rows } = await this.#options.write({ text: first, values: [...values, base] });
      if (rows.length > 0) return true;
    }
    const { rows } = await this.#options.write({ text: next, values: [...values, seenNumber, isBase, base] });
    return rows.length > 0;
  }

  async after(change: number, limit: number): ReturnType<Publications['after']> {
    const { rows } = await this.#options.ask({ text: after, values: [change, limit] });
    return rows.map(([path, number, at]) => ({
      ...{ path: String(path), number: Number(number), change: Number(at) },
    }));
  }

  async get(wanted: string): Promise<Publication | undefined> {
    const { rows } = await this.#options.ask({ text: get, values: [wanted] });
    const [row] = rows;
    if (!row) return undefined;
    const [path, number, described, complete, base, delta] = row;
    return {
      ...{ path: String(path), number: Number(number), described: String(described) },
      ...{ complete: complete as Bytes, base: base as Bytes | null, delta: delta as Bytes | null },
    };
  }

  async numbers(): Promise<ReadonlyMap<string, number>> {
    const { rows } = await this.#options.ask({ text: numbers, values: [1] });
    return new Map(rows.map(([path, number]) => [String(path), Number(number)]));
  }
}
