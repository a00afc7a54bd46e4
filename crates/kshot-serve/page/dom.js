// Small helpers to build the document.

/** An element with properties, listeners (`onclick`), attributes (`aria-*`, `data-*`, `role`) and children. */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === 'class') element.className = value;
    else if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name.includes('-') || name === 'role' || name === 'for') element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const SVG = 'http://www.w3.org/2000/svg';

/** An SVG element with attributes and children. */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export const byId = (id) => document.getElementById(id);

/** `1 example`, `2 examples`. */
export const count = (n, one, many = `${one}s`) => `${n.toLocaleString('en')} ${n === 1 ? one : many}`;

/** A probability as people read it: never a rounded-up certainty. */
export function percent(probability) {
  const value = probability * 100;
  if (value > 99 && value < 100) return '99 %';
  if (value > 0 && value < 1) return '< 1 %';
  return `${Math.round(value)} %`;
}

/** How many colours there are for classes. */
export const COLOURS = 10;
