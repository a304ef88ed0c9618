/**
 * Characters that certificates may carry: JIS X 0208 (non-kanji, level 1 and 2 kanji) and the supplementary kanji
 * of JIS X 0212. Read once from the EUC-JP decoder that Node brings. That decoder has Microsoft's reading of a few
 * signs; JIS's own are allowed as well.
 */
function decodeRepertoire(): ReadonlySet<string> {
  const decoder = new TextDecoder('euc-jp');
  // — ‖ 〜 − ¢ £ ¬, which the decoder gives as ― ∥ ～ － ￠ ￡ ￢
  const characters = new Set<string>('\u2014\u2016\u301c\u2212\u00a2\u00a3\u00ac');
  const rows = (from: number, to: number, prefix: readonly number[]) => {
    for (let row = from; row <= to; row++) {
      for (let cell = 1; cell <= 94; cell++) {
        const text = decoder.decode(Uint8Array.from([...prefix, 0xa0 + row, 0xa0 + cell]));
        if (!text.includes('�')) characters.add(text);
      }
    }
  };
  // Rows 9–15 and 85–94 of JIS X 0208 are vendors' extensions; JIS X 0212's begin at row 78.
  rows(1, 8, []);
  rows(16, 84, []);
  rows(2, 77, [0x8f]);
  return characters;
}

const repertoire = decodeRepertoire();

/** The first character outside the repertoire, as U+XXXX: never the text itself, which is personal. */
export function outsideRepertoire(text: string): string | undefined {
  for (const character of text) {
    if (!repertoire.has(character))
      return `U+${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')}`;
  }
  return undefined;
}
