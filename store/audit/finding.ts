/** The end of a writer's chain. Once it is signed and shipped, what lies before it cannot be cut off or replaced. */
export interface AuditHead {
  readonly writer: string;
  readonly sequence: number;
  /** SHA-256 of the entry, hex. */
  readonly hash: string;
}

export interface AuditFinding {
  /**
   * `database`: its own software finds it damaged. `entry`: a link of the chain is wrong. `row`: a row is not as its
   * last entry left it. `checkpoint`: the chain was cut off.
   */
  readonly type: 'database' | 'entry' | 'row' | 'checkpoint';
  readonly where: string;
  readonly what: string;
}

/** Raised by the first finding; ends the walk. */
export class AuditFailure extends Error {
  readonly finding: AuditFinding;

  constructor(type: AuditFinding['type'], where: string, what: string) {
    super(what);
    this.finding = { type, where, what };
  }
}
