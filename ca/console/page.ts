import { Problem } from './api.ts';
import { type Children, h, replace } from './dom.ts';
import { type MessageName, t } from './language.ts';
import { messages } from './messages.ts';
import type { Caller } from './types.ts';

// What views have in common.

/** A view of the console: its parts, and how it ends what it has begun. */
export interface View {
  readonly title: string;
  readonly content: Children;
  /** Ends timers. */
  end?(): void;
}

/** Makes a view for what stands behind its name in the address. */
export type MakeView = (caller: Caller, rest: readonly string[]) => View | Promise<View>;

/** Says something to everyone, also to those who listen to the page. */
export function announce(text: string): void {
  const status = document.getElementById('status');
  if (!status) return;
  replace(status, text);
  clearTimeout(clearing);
  if (text !== '') clearing = setTimeout(() => replace(status), announcedMs);
}

/** How long it is seen: who listens has heard it by then. */
const announcedMs = 10_000;
let clearing: ReturnType<typeof setTimeout> | undefined;

/** Why something failed, for a person. */
export function problemText(error: unknown): string {
  if (!(error instanceof Problem)) return String(error);
  if (error.status === 0) return t('problem.unreachable');
  const name = `problem.${error.title}`;
  const said = Object.hasOwn(messages, name) ? t(name as MessageName) : t('problem.refused');
  return `${said} (${error.title}: ${error.message})`;
}

export const problemBox = (error: unknown): HTMLElement =>
  h('p', { class: 'problem', role: 'alert' }, problemText(error));

/** A part of the page that is filled when its content has arrived, and says why where it does not. */
export function later(fill: () => Promise<Children>): HTMLElement {
  const part = h('div', { 'aria-busy': 'true' }, h('p', { class: 'muted' }, t('loading')));
  fill()
    .then((content) => replace(part, content))
    .catch((error: unknown) => replace(part, problemBox(error)))
    .finally(() => part.removeAttribute('aria-busy'));
  return part;
}

/** Calls a function at once and then again and again, one call after the other; returns how to end that. */
export function repeatedly(ms: number, act: () => Promise<void>): () => void {
  let ended = false;
  const turn = async (): Promise<void> => {
    if (!document.hidden) await act().catch((error: unknown) => announce(problemText(error)));
    if (!ended) setTimeout(turn, ms);
  };
  void turn();
  return () => {
    ended = true;
  };
}

/** A button that acts: it cannot be pressed twice, and says what came of it. */
export function actButton(
  label: string,
  act: () => Promise<string | undefined>,
  options: { readonly class?: string; readonly confirm?: string; readonly describedBy?: string } = {},
): HTMLButtonElement {
  const button = h(
    'button',
    {
      type: 'button',
      class: options.class,
      'aria-describedby': options.describedBy,
      click: async () => {
        if (options.confirm !== undefined && !confirm(options.confirm)) return;
        button.disabled = true;
        try {
          announce((await act()) ?? t('done'));
        } catch (error) {
          announce(problemText(error));
        } finally {
          button.disabled = false;
        }
      },
    },
    label,
  );
  return button;
}

/** A field with its label. */
export function field(label: string, input: HTMLElement, hint?: string): HTMLElement {
  const id = `field-${crypto.randomUUID().slice(0, 8)}`;
  input.id = id;
  if (hint !== undefined) input.setAttribute('aria-describedby', `${id}-hint`);
  return h(
    'div',
    { class: 'field' },
    h('label', { for: id }, label),
    input,
    hint !== undefined && h('small', { id: `${id}-hint` }, hint),
  );
}

export const select = (
  options: readonly (readonly [value: string, text: string])[],
  chosen: string,
  changed: (value: string) => void = () => undefined,
): HTMLSelectElement => {
  const element = h(
    'select',
    { change: () => changed(element.value) },
    options.map(([value, text]) => h('option', { value, selected: value === chosen }, text)),
  );
  return element;
};

/** A form that is not sent by the browser. */
export const form = (submitted: () => void, ...children: Children[]): HTMLFormElement =>
  h(
    'form',
    {
      submit: (event) => {
        event.preventDefault();
        submitted();
      },
    },
    children,
  );
