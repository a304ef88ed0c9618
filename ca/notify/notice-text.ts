import type { Message } from '../../store/api/outbox-store.ts';
import type { Language } from '../../store/api/preference-store.ts';

// What holders read by mail. Times are those of Japan, whatever the language.

type Occasion = Message['occasion'];

/** What stands in the place of a name in braces. */
interface Words {
  readonly kind: string;
  readonly verifier: string;
  readonly code: string;
  readonly time: string;
  readonly contact: string;
}

interface Texts {
  readonly kinds: Readonly<Record<string, string>>;
  readonly subjects: Readonly<Record<Occasion, string>>;
  readonly sentences: Readonly<Record<Occasion, string>>;
  readonly time: string;
  readonly contact: string;
}

const japanese: Texts = {
  kinds: {
    'card-signing': '個人番号カード用署名用電子証明書',
    'card-authentication': '個人番号カード用利用者証明用電子証明書',
    'phone-signing': '移動端末設備用署名用電子証明書',
    'phone-authentication': '移動端末設備用利用者証明用電子証明書',
  },
  subjects: {
    expired: '電子証明書の有効期間満了のお知らせ',
    succeeded: '新しい電子証明書発行のお知らせ',
    issued: '電子証明書の発行のお知らせ',
    revoked: '電子証明書の失効のお知らせ',
    held: '電子証明書の一時停止のお知らせ',
    released: '電子証明書の一時停止解除のお知らせ',
    used: '電子証明書の利用のお知らせ',
    ceased: '電子証明書の失効のお知らせ',
    'moved-out': '転出のお知らせ',
    'enrolment-code': 'スマートフォンの登録番号の発行のお知らせ',
    'address-code': '通知先の確認',
    'wishes-changed': '通知の設定の変更のお知らせ',
  },
  sentences: {
    expired: '{kind}の有効期間が満了しました。',
    succeeded: '{kind}に代わる電子証明書が発行されました。',
    issued: '{kind}が発行されました。',
    revoked: '{kind}が失効しました。',
    held: '{kind}の利用が一時停止されました。',
    released: '{kind}の一時停止が解除されました。',
    used: '{kind}が「{verifier}」で利用されました。',
    ceased: '{kind}が失効しました。',
    'moved-out': '住所地の市区町村が変わりました。',
    'enrolment-code': '窓口で、スマートフォンを登録するための番号が発行されました。',
    'address-code':
      'この通知先を確認するための番号は {code} です。心当たりのない場合は、何もする必要はありません。',
    'wishes-changed': '通知の設定または通知先が変更されました。',
  },
  time: '日時: {time}（日本時間）',
  contact: '心当たりのない場合は、次の窓口へご連絡ください: {contact}',
};

const english: Texts = {
  kinds: {
    'card-signing': 'The signing certificate of your My Number Card',
    'card-authentication': 'The user authentication certificate of your My Number Card',
    'phone-signing': 'The signing certificate of your smartphone',
    'phone-authentication': 'The user authentication certificate of your smartphone',
  },
  subjects: {
    expired: 'A certificate has expired',
    succeeded: 'A new certificate was issued',
    issued: 'A certificate was issued',
    revoked: 'A certificate was revoked',
    held: 'A certificate was suspended',
    released: 'A certificate may be used again',
    used: 'A certificate was used',
    ceased: 'A certificate was revoked',
    'moved-out': 'A holder moved away',
    'enrolment-code': 'A code to enrol a smartphone was given',
    'address-code': 'Confirm your address',
    'wishes-changed': 'Your notices were changed',
  },
  sentences: {
    expired: '{kind} has expired.',
    succeeded: 'A certificate was issued in the place of {kind}.',
    issued: '{kind} was issued.',
    revoked: '{kind} was revoked.',
    held: '{kind} was suspended.',
    released: '{kind} may be used again.',
    used: '{kind} was used at “{verifier}”.',
    ceased: '{kind} was revoked.',
    'moved-out': 'The holder is of another municipality now.',
    'enrolment-code': 'A desk gave a code by which a smartphone can be enrolled.',
    'address-code': 'The code that confirms this address is {code}. If you did not ask for it, do nothing.',
    'wishes-changed': 'Your notice preferences were changed.',
  },
  time: 'Time: {time} (Japan)',
  contact: 'If this was not you, please contact: {contact}',
};

const texts: Readonly<Record<Language, Texts>> = { ja: japanese, en: english };

/** Subject and text of a mail. `contact` may be empty. */
export function noticeText(
  message: Pick<Message, 'kind' | 'occasion' | 'createdMs'>,
  language: Language,
  said: { readonly verifier: string; readonly code: string; readonly contact: string },
): { readonly subject: string; readonly text: string } {
  const { kinds, subjects, sentences, time, contact } = texts[language];
  const words: Words = {
    ...said,
    kind: kinds[message.kind] ?? message.kind,
    time: timeInJapan(message.createdMs),
  };
  const lines = [
    sentences[message.occasion],
    time,
    ...(said.contact === '' || message.occasion === 'address-code' ? [] : [contact]),
  ];
  return {
    subject: subjects[message.occasion],
    text: `${lines.map((line) => filled(line, words)).join('\n\n')}\n`,
  };
}

const filled = (line: string, words: Words): string =>
  line.replace(/\{(kind|verifier|code|time|contact)\}/g, (_, name: keyof Words) => words[name]);

/** `2026-11-26 13:05:09`, of Japan, which has one time and no summer time. */
function timeInJapan(ms: number): string {
  return new Date(ms + 9 * 3_600_000).toISOString().slice(0, 19).replace('T', ' ');
}
