import { readFileSync, writeFileSync } from 'node:fs';
import { parse } from 'csv-parse/sync';
import { nameLengthMax } from '../../core/asn1/name.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { Config } from '../config/config.ts';
import { townCheckDigit } from '../request/towns.ts';
import type { CommandAnswer } from './command-answer.ts';

// Reads the two public lists of towns: the ministry's table of local governments' codes, and the post office's list of
// postal codes with romanized names. Towns are matched by prefecture and name; what cannot be matched is refused, never
// guessed, for the romanized name stands in every certificate.

type ConfiguredTown = Config['municipalities'][number];

interface CodedTown {
  readonly code: string;
  readonly prefecture: string;
  readonly name: string;
}

export interface TownsReport {
  readonly towns: readonly ConfiguredTown[];
  /** Towns that cannot be taken, each with why. */
  readonly refused: readonly { readonly code: string; readonly name: string; readonly why: string }[];
  /** Towns that are configured, and not taken from the lists: they stay known for what was issued for them. */
  readonly kept: readonly ConfiguredTown[];
}

/** Makes towns of the two lists' octets; those that are configured and not in the list stay. `bad-request` names the file. */
export function importTowns(
  lists: { readonly codes: Uint8Array; readonly romanized: Uint8Array },
  configured: readonly ConfiguredTown[],
): TownsReport {
  const coded = codedTowns(rowsOf(lists.codes, 'the table of codes'));
  const romanized = romanizedTowns(rowsOf(lists.romanized, 'the romanized list'));
  const towns: ConfiguredTown[] = [];
  const refused: { code: string; name: string; why: string }[] = [];
  const names = new Map<string, string>();
  for (const { code, prefecture, name } of coded) {
    const refuse = (why: string): number => refused.push({ code, name: `${prefecture}${name}`, why });
    const found = romanized.get(`${prefecture} ${name}`);
    if (code.length !== 5) refuse('its code has a wrong check digit');
    else if (!found) refuse('has no romanized name');
    else if (found.length > 1) refuse(`has ${found.length} romanized names: ${found.join(', ')}`);
    else {
      const [roman = ''] = found;
      const [prefectureRoman = '', municipality = ''] = roman.split('|');
      const before = names.get(roman);
      if (before !== undefined) refuse(`has the romanized name of ${before}`);
      else if (municipality.length > nameLengthMax.CN - longestSuffix)
        refuse('has a romanized name too long for a distribution point');
      else towns.push({ code, prefecture: prefectureRoman, municipality });
      names.set(roman, before ?? code);
    }
  }
  if (towns.length + refused.length === 0)
    throw new PkiError('bad-request', 'the table of codes: has no row of a town');
  const taken = new Set(towns.map(({ code }) => code));
  const kept = configured.filter(({ code }) => !taken.has(code));
  return { towns: [...towns, ...kept], refused, kept };
}

/** What stands behind a town's name in a distribution point. */
const longestSuffix = ' CRLDP phone-authentication G99 S9999'.length;

function rowsOf(octets: Uint8Array, what: string): string[][] {
  try {
    return parse(decoded(octets), { relax_column_count: true, skip_empty_lines: true, bom: true });
  } catch (error) {
    throw new PkiError('bad-request', `${what}: is no CSV: ${(error as Error).message}`, { cause: error });
  }
}

/** The lists come as UTF-8 or as Shift_JIS. */
function decoded(octets: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(octets);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    return new TextDecoder('shift_jis').decode(octets);
  }
}

/** Rows of towns: code of six digits (or five), prefecture, name. A prefecture's own row has no name of a town. */
function codedTowns(rows: readonly (readonly string[])[]): CodedTown[] {
  return rows.flatMap(([text = '', prefecture = '', name = '']): CodedTown[] => {
    if (!/^\d{5,6}$/.test(text.trim()) || name.trim() === '') return [];
    const code = text.trim();
    const five = code.slice(0, 5);
    const isRight = code.length === 5 || Number(code[5]) === townCheckDigit(five);
    return [{ code: isRight ? five : code, prefecture: bare(prefecture), name: bare(name) }];
  });
}

const bare = (text: string): string => text.normalize('NFKC').replaceAll(/\s/g, '');

/** By prefecture and name in Japanese: each romanized form, `Prefecture|Town`, of which there should be one. */
function romanizedTowns(rows: readonly (readonly string[])[]): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const [postal = '', prefecture = '', town = '', , prefectureRoman = '', townRoman = ''] of rows) {
    if (!/^\d{7}$/.test(postal.trim())) continue;
    // A county or an island stands before the town's name in this list, and not in the table of codes.
    const parts = town.normalize('NFKC').trim().split(/\s+/);
    const hasCounty = parts.length > 1 && /[郡島]$/.test(parts[0] ?? '');
    const name = `${bare(prefecture)} ${(hasCounty ? parts.slice(1) : parts).join('')}`;
    const roman = `${spelled(prefectureRoman)}|${spelled(hasCounty ? withoutCounty(townRoman) : townRoman)}`;
    const forms = found.get(name) ?? [];
    if (!forms.includes(roman)) found.set(name, [...forms, roman]);
  }
  return found;
}

/** ABUTA GUN NISEKO CHO → NISEKO CHO; MIYAKEJIMA MIYAKE MURA → MIYAKE MURA. */
const withoutCounty = (roman: string): string =>
  / GUN /.test(roman) ? roman.replace(/^.*? GUN /, '') : roman.replace(/^\S+ /, '');

const suffixes = new Set(['TO', 'DO', 'FU', 'KEN', 'SHI', 'KU', 'CHO', 'MACHI', 'MURA', 'SON']);

/** SAPPORO SHI CHUO KU → Sapporo-shi Chuo-ku: as the scheme's distribution points spell names. */
function spelled(roman: string): string {
  let text = '';
  for (const word of roman.trim().split(/\s+/)) {
    const small = word.toLowerCase();
    const isSuffix = suffixes.has(word) && text !== '' && !/-[a-z]+$/.test(text);
    const separator = text === '' ? '' : isSuffix ? '-' : ' ';
    text += separator + (isSuffix ? small : small.charAt(0).toUpperCase() + small.slice(1));
  }
  return text;
}

/** Reads the lists' files, writes the towns as JSON, and says what was done; fails where a town was refused. */
export function importTownFiles(
  files: { readonly codes: string; readonly romanized: string; readonly out: string },
  configured: readonly ConfiguredTown[],
): CommandAnswer {
  const lists = { codes: readList(files.codes), romanized: readList(files.romanized) };
  const { towns, refused, kept } = importTowns(lists, configured);
  writeFileSync(files.out, `[\n${towns.map((town) => `  ${JSON.stringify(town)}`).join(',\n')}\n]\n`);
  const lost = kept.filter(({ mergedInto }) => mergedInto === undefined).map(({ code }) => code);
  const lines = [
    ...refused.map(({ code, name, why }) => `refused: ${code} ${name} ${why}`),
    ...(lost.length > 0
      ? [
          `kept as configured: ${lost.join(', ')}; where one was merged, say in mergedInto which town it is part of`,
        ]
      : []),
    `${towns.length} towns in ${files.out}, ${refused.length} refused, ${kept.length} kept`,
  ];
  const value = { file: files.out, towns: towns.length, refused, kept: kept.map(({ code }) => code) };
  if (refused.length === 0) return { lines, value };
  return {
    lines,
    value,
    failure: new PkiError('bad-request', `${refused.length} towns were refused: correct the lists`),
  };
}

function readList(file: string): Uint8Array {
  try {
    return readFileSync(file);
  } catch (error) {
    throw new PkiError('bad-request', `${file} cannot be read: ${(error as Error).message}`, {
      cause: error,
    });
  }
}
