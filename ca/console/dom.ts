// Elements, made by code alone: no text of anyone is ever read as HTML.

export type Child = Node | string | number | null | undefined | false;
export type Children = Child | readonly Children[];

type Listener = (event: Event) => void;
type Attributes = Readonly<Record<string, string | number | boolean | null | undefined | Listener>>;

/** Control and format characters (Unicode categories Cc and Cf): some change the direction of text, others are invisible. */
const unseen = /(?![\n\t])[\p{Cc}\p{Cf}]/gu;

/** Removes them from text that is to be displayed. */
export const clean = (text: string | number): string => String(text).replace(unseen, '');

function fill<E extends Element>(element: E, attributes: Attributes, children: readonly Children[]): E {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, '');
    else if (value !== false && value !== null && value !== undefined)
      element.setAttribute(name, clean(value));
  }
  element.append(...nodesOf(children));
  return element;
}

function nodesOf(children: Children): (Node | string)[] {
  if (children === null || children === undefined || children === false) return [];
  if (typeof children === 'string' || typeof children === 'number') return [clean(children)];
  return children instanceof Node ? [children] : children.flatMap(nodesOf);
}

/** An element of HTML; attributes that are functions listen. */
export const h = <K extends keyof HTMLElementTagNameMap>(
  name: K,
  attributes: Attributes = {},
  ...children: Children[]
): HTMLElementTagNameMap[K] => fill(document.createElement(name), attributes, children);

/** An element of SVG. */
export const svg = <K extends keyof SVGElementTagNameMap>(
  name: K,
  attributes: Attributes = {},
  ...children: Children[]
): SVGElementTagNameMap[K] =>
  fill(document.createElementNS('http://www.w3.org/2000/svg', name), attributes, children);

/** Text of others, whose direction is its own. */
export const said = (text: string | number | null | undefined): HTMLElement =>
  h('bdi', {}, text === null || text === undefined || text === '' ? '–' : text);

/** Puts these in the place of what an element contains. */
export const replace = (element: Element, ...children: Children[]): void =>
  element.replaceChildren(...nodesOf(children));
