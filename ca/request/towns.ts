import { PkiError } from '../../core/runtime/errors.ts';
import type { Config } from '../config/config.ts';

/** A town as certificates and CRLs name it. */
export interface Town {
  /** Five digits: prefecture and municipality (JIS X 0401 and 0402). */
  readonly code: string;
  readonly prefecture: string;
  readonly municipality: string;
}

/** The sixth digit of a local government's code: 11 less the weighted sum of the five others, modulo 11; its last digit. */
export function townCheckDigit(code: string): number {
  const sum = [...code].reduce((total, digit, i) => total + Number(digit) * (6 - i), 0);
  return (sum < 11 ? 11 - sum : 11 - (sum % 11)) % 10;
}

/** The five digits of a code that has a check digit or none; `bad-request` where the check digit is wrong. */
export function townCode(text: string): string {
  const code = text.slice(0, 5);
  if (text.length === 6 && Number(text[5]) !== townCheckDigit(code))
    throw new PkiError('bad-request', `municipalityCode: ${text} has a wrong check digit`);
  return code;
}

/** The town that issues under a code now: one that was merged goes on under the one it is part of. */
export function findTown({ municipalities }: Pick<Config, 'municipalities'>, code: string): Town | undefined {
  let town = municipalities.find((one) => one.code === code);
  while (town?.mergedInto !== undefined) {
    const { mergedInto }: { mergedInto?: string } = town;
    town = municipalities.find((one) => one.code === mergedInto);
  }
  return town && { code: town.code, prefecture: town.prefecture, municipality: town.municipality };
}

/** The same; `bad-request` where the code is not configured. */
export function townOf(config: Pick<Config, 'municipalities'>, text: string): Town {
  const town = findTown(config, townCode(text));
  if (!town)
    throw new PkiError(
      'bad-request',
      `municipalityCode: ${text} is not configured: import the towns (warifu towns import), or add it`,
    );
  return town;
}
