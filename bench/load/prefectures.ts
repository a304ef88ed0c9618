/**
 * Residents by prefecture, 2021-01-01: Ministry of Internal Affairs, in the Digital Agency's follow-up report of 2021-10-22.
 * In the order of JIS X 0401 codes, 01 to 47.
 */
export const prefectures: readonly {
  readonly code: string;
  readonly name: string;
  readonly residents: number;
}[] = [
  { code: '01', name: 'Hokkaido', residents: 5_228_732 },
  { code: '02', name: 'Aomori-ken', residents: 1_260_067 },
  { code: '03', name: 'Iwate-ken', residents: 1_221_205 },
  { code: '04', name: 'Miyagi-ken', residents: 2_282_106 },
  { code: '05', name: 'Akita-ken', residents: 971_604 },
  { code: '06', name: 'Yamagata-ken', residents: 1_070_017 },
  { code: '07', name: 'Fukushima-ken', residents: 1_862_777 },
  { code: '08', name: 'Ibaraki-ken', residents: 2_907_678 },
  { code: '09', name: 'Tochigi-ken', residents: 1_955_402 },
  { code: '10', name: 'Gunma-ken', residents: 1_958_185 },
  { code: '11', name: 'Saitama-ken', residents: 7_393_849 },
  { code: '12', name: 'Chiba-ken', residents: 6_322_897 },
  { code: '13', name: 'Tokyo-to', residents: 13_843_525 },
  { code: '14', name: 'Kanagawa-ken', residents: 9_220_245 },
  { code: '15', name: 'Niigata-ken', residents: 2_213_353 },
  { code: '16', name: 'Toyama-ken', residents: 1_047_713 },
  { code: '17', name: 'Ishikawa-ken', residents: 1_132_656 },
  { code: '18', name: 'Fukui-ken', residents: 774_596 },
  { code: '19', name: 'Yamanashi-ken', residents: 821_094 },
  { code: '20', name: 'Nagano-ken', residents: 2_072_219 },
  { code: '21', name: 'Gifu-ken', residents: 2_016_868 },
  { code: '22', name: 'Shizuoka-ken', residents: 3_686_335 },
  { code: '23', name: 'Aichi-ken', residents: 7_558_872 },
  { code: '24', name: 'Mie-ken', residents: 1_800_756 },
  { code: '25', name: 'Shiga-ken', residents: 1_418_886 },
  { code: '26', name: 'Kyoto-fu', residents: 2_530_609 },
  { code: '27', name: 'Osaka-fu', residents: 8_839_532 },
  { code: '28', name: 'Hyogo-ken', residents: 5_523_627 },
  { code: '29', name: 'Nara-ken', residents: 1_344_952 },
  { code: '30', name: 'Wakayama-ken', residents: 944_750 },
  { code: '31', name: 'Tottori-ken', residents: 556_959 },
  { code: '32', name: 'Shimane-ken', residents: 672_979 },
  { code: '33', name: 'Okayama-ken', residents: 1_893_874 },
  { code: '34', name: 'Hiroshima-ken', residents: 2_812_477 },
  { code: '35', name: 'Yamaguchi-ken', residents: 1_356_144 },
  { code: '36', name: 'Tokushima-ken', residents: 735_070 },
  { code: '37', name: 'Kagawa-ken', residents: 973_922 },
  { code: '38', name: 'Ehime-ken', residents: 1_356_343 },
  { code: '39', name: 'Kochi-ken', residents: 701_531 },
  { code: '40', name: 'Fukuoka-ken', residents: 5_124_259 },
  { code: '41', name: 'Saga-ken', residents: 818_251 },
  { code: '42', name: 'Nagasaki-ken', residents: 1_336_023 },
  { code: '43', name: 'Kumamoto-ken', residents: 1_758_815 },
  { code: '44', name: 'Oita-ken', residents: 1_141_784 },
  { code: '45', name: 'Miyazaki-ken', residents: 1_087_372 },
  { code: '46', name: 'Kagoshima-ken', residents: 1_617_850 },
  { code: '47', name: 'Okinawa-ken', residents: 1_485_484 },
];

/** One partition of a load: how many of its things fall to it. */
export interface Part {
  readonly prefecture: string;
  /** Number within the prefecture. */
  readonly number: number;
  readonly count: number;
}

/**
 * Shares things out as the nation lives: to each prefecture partitions and things by its residents, and within it unevenly,
 * as towns are. No partition gets more than `countMax`.
 */
export function shareOut(count: number, partitions: number, countMax: number): Part[] {
  const residents = prefectures.reduce((sum, prefecture) => sum + prefecture.residents, 0);
  const parts = prefectures.flatMap(({ code, residents: own }) => {
    const number = Math.max(1, Math.round((partitions * own) / residents));
    const weights = Array.from({ length: number }, (_, i) => 0.2 + 1.6 * ((i * goldenRatio) % 1));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    return weights.map((weight, i) => ({
      prefecture: code,
      number: i,
      count: Math.min(countMax, Math.round((count * own * weight) / (residents * total))),
    }));
  });
  return parts.slice(0, partitions);
}

/** Multiples of it are spread evenly. */
const goldenRatio = 0.618_033_988_749_895;
