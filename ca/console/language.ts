import { messages } from './messages.ts';

export type Language = 'en' | 'ja';
export type MessageName = keyof typeof messages;

let language: Language = 'en';
export const chosenLanguage = (): Language => language;
export const setLanguage = (chosen: Language): void => {
  language = chosen;
  document.documentElement.lang = chosen;
};

/** What was chosen before, or what the browser speaks. */
export function languageAtFirst(): Language {
  const kept = localStorage.getItem('warifu-language');
  if (kept === 'en' || kept === 'ja') return kept;
  return navigator.language.startsWith('ja') ? 'ja' : 'en';
}
export const keepLanguage = (chosen: Language): void => localStorage.setItem('warifu-language', chosen);

/** A message in the language of now; `{0}` is the first of the values. */
export function t(name: MessageName, ...values: readonly (string | number)[]): string {
  const [english, japanese] = messages[name];
  const text: string = language === 'ja' ? japanese : english;
  return text.replace(/\{(\d)\}/g, (_, at: string) => String(values[Number(at)] ?? ''));
}

/** The name of a value that the API has, where there is one; the value itself otherwise. */
export function named(prefix: string, value: string): string {
  const name = `${prefix}.${value}`;
  return Object.hasOwn(messages, name) ? t(name as MessageName) : value;
}
