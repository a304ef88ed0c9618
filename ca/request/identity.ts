import {
  context,
  explicit,
  objectIdentifier,
  sequence,
  tlv,
  utf8String,
} from '../../core/asn1/der-writer.ts';
import { oid } from '../../core/asn1/oids.ts';
import { type CivilDate, compareDates, dateInJapan, parseDate } from '../../core/model/calendar.ts';
import { type Bytes, hex } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { Config } from '../config/config.ts';
import { outsideRepertoire } from '../profile/character-set.ts';

/** The basic four (基本4情報) as a counter sends them. Substitution flags say where a character stands for another. */
export interface BasicFour {
  readonly name: string;
  readonly address: string;
  /** `YYYY-MM-DD`; `00` for a day, or a month and day, that the register does not know. */
  readonly birthDate: string;
  /** The register does not know the era. */
  readonly birthEraUnknown?: boolean;
  readonly sex: 'male' | 'female' | 'other';
  readonly nameSubstitution?: string;
  readonly addressSubstitution?: string;
  /** The name's reading in katakana, and its Roman form: kept with the issuance, and in no certificate. */
  readonly nameReading?: string;
  readonly nameRoman?: string;
}

/** Who a signing certificate speaks of. Only `parseBasicFour` makes one. */
export interface Identity {
  readonly name: string;
  readonly address: string;
  /** The day by which birthdays are counted. */
  readonly birthDate: CivilDate;
  /** YYYYMMDD, with zeros for what the register does not know. */
  readonly birthDateText: string;
  readonly era: string;
  readonly sex: string;
  readonly nameSubstitution: string;
  readonly addressSubstitution: string;
}

/** First days of the eras; the digit that stands for them (5 令和, 4 平成, 3 昭和, 2 大正, 1 明治). */
const eras: readonly (readonly [digit: string, from: CivilDate])[] = [
  ['5', { year: 2019, month: 5, day: 1 }],
  ['4', { year: 1989, month: 1, day: 8 }],
  ['3', { year: 1926, month: 12, day: 25 }],
  ['2', { year: 1912, month: 7, day: 30 }],
  ['1', { year: 1868, month: 1, day: 25 }],
];

/** Checks the basic four; `bad-request` names the field and never repeats its content. */
export function parseBasicFour(input: BasicFour, scheme: Config['scheme'], nowMs: number): Identity {
  const name = checkText(input.name, 'name', scheme.nameLengthMax);
  const address = checkText(input.address, 'address', scheme.addressLengthMax);
  // Surname and given name; a single word where the holder has no surname.
  if (!/^[^\u3000]+(\u3000[^\u3000]+)*$/.test(name)) {
    throw new PkiError(
      'bad-request',
      'basicFour.name: full-width spaces part words: none before the first, behind the last, or next to another',
    );
  }
  checkForms(input, scheme.nameLengthMax);
  const birthDate = birthDateOf(input.birthDate, scheme.unknownBirthday);
  if (!birthDate || compareDates(birthDate, dateInJapan(nowMs)) > 0) {
    throw new PkiError(
      'bad-request',
      'basicFour.birthDate: not a day that has been; YYYY-MM-00 or YYYY-00-00 where the register does not know it',
    );
  }
  const era = eras.find(([, from]) => compareDates(birthDate, from) >= 0)?.[0] ?? '0';
  return {
    name,
    address,
    birthDate,
    birthDateText: input.birthDate.replaceAll('-', ''),
    era: input.birthEraUnknown ? '0' : era,
    sex: { male: '1', female: '2', other: scheme.otherSex }[input.sex],
    nameSubstitution: checkFlags(input.nameSubstitution, name, 'nameSubstitution'),
    addressSubstitution: checkFlags(input.addressSubstitution, address, 'addressSubstitution'),
  };
}

/** The other forms of a name, where they are given. */
const nameForms = {
  nameReading: { form: /^[\u30a1-\u30fa\u30fc・]+([ \u3000][\u30a1-\u30fa\u30fc・]+)*$/, words: 'katakana' },
  nameRoman: { form: /^[A-Za-z'.,-]+( [A-Za-z'.,-]+)*$/, words: 'letters of A to Z' },
} as const;

function checkForms(input: BasicFour, lengthMax: number): void {
  for (const field of ['nameReading', 'nameRoman'] as const) {
    const text = input[field];
    const { form, words } = nameForms[field];
    if (text !== undefined && (text.length > 2 * lengthMax || !form.test(text)))
      throw new PkiError('bad-request', `basicFour.${field}: ${words} alone, words parted by one space`);
  }
}

/** The day by which birthdays are counted; undefined where the text is no birth date. */
function birthDateOf(text: string, unknown: Config['scheme']['unknownBirthday']): CivilDate | undefined {
  const [, year = '', month = '', day = ''] = /^(\d{4})-(\d{2})-(\d{2})$/.exec(text) ?? [];
  if (day !== '00') return parseDate(text);
  const isFirst = unknown === 'first';
  const counted = month === '00' ? (isFirst ? '01' : '12') : month;
  const first = parseDate(`${year}-${counted}-01`);
  if (!first || isFirst) return first;
  return { ...first, day: new Date(Date.UTC(first.year, first.month, 0)).getUTCDate() };
}

function checkText(text: string, field: string, lengthMax: number): string {
  const length = [...text].length;
  if (length === 0 || length > lengthMax) {
    throw new PkiError(
      'bad-request',
      `basicFour.${field}: ${length} characters, where 1 to ${lengthMax} are allowed`,
    );
  }
  const outside = outsideRepertoire(text);
  if (outside) {
    throw new PkiError(
      'bad-request',
      `basicFour.${field}: ${outside} is outside JIS X 0208 and 0212; substitute it and set its flag`,
    );
  }
  return text;
}

/** One digit a character; all zeros where the counter substituted none. */
function checkFlags(flags: string | undefined, text: string, field: string): string {
  const length = [...text].length;
  if (flags === undefined) return '0'.repeat(length);
  if (!/^[01]*$/.test(flags) || flags.length !== length) {
    throw new PkiError('bad-request', `basicFour.${field}: not one 0 or 1 for each of ${length} characters`);
  }
  return flags;
}

/** Arc of the otherNames that make up the basic four. */
export const identityOid = '1.2.392.200149.8.5.5';

/** The extension's OID, content octets in hex. */
export const subjectAltNameId = hex(objectIdentifier(oid.subjectAltName).subarray(2));

/**
 * GeneralNames of a signing certificate: otherName [0] { type-id, value [0] EXPLICIT UTF8String }, in the order
 * .1 name, .4 birth date, .3 sex, .5 address, .2 flags of the name, .6 flags of the address.
 */
export function encodeIdentity(identity: Identity): Bytes {
  const otherName = (field: number, value: string) =>
    tlv(context(0), objectIdentifier(`${identityOid}.${field}`), explicit(0, utf8String(value)));
  return sequence(
    otherName(1, identity.name),
    otherName(4, `${identity.era}${identity.birthDateText}`),
    otherName(3, identity.sex),
    otherName(5, identity.address),
    otherName(2, identity.nameSubstitution),
    otherName(6, identity.addressSubstitution),
  );
}
