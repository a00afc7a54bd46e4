// What the server says of the current picture: the label, the probabilities, the examples that decided.

import { byId, el, percent } from './dom.js';
import { colour, find, state, total } from './state.js';

/** How many classes are listed with their probabilities. */
const LISTED = 5;
/** How many deciding examples are shown. */
const SHOWN = 6;
/** Silence before an answer is read out, in milliseconds. */
const PAUSE = 800;

let timer;

/** Reads `text` out once nothing newer has come for a moment. */
function announce(text) {
  clearTimeout(timer);
  timer = setTimeout(() => { byId('announce').textContent = text; }, PAUSE);
}

function show(...children) {
  byId('answer').replaceChildren(...children.filter(Boolean));
}

/** What to do, while there is nothing to answer. */
export function showGuide({ drawn, onexamples, onsuggest }) {
  announce('');
  if (total() === 0) {
    show(el('div', { class: 'guide' },
      el('ol', { class: 'steps' },
        el('li', { class: drawn ? '' : 'now' }, 'Draw a sign on the pad.'),
        el('li', { class: drawn ? 'now' : '' }, 'Give it a name: that makes a class.'),
        el('li', {}, 'Teach a second one the same way.'),
        el('li', {}, 'Draw either again: it is recognised while you draw.')),
      el('p', { class: 'quiet' }, 'One example is enough to begin with. Pictures from files and the camera work too.'),
      el('button', { type: 'button', class: 'wide', onclick: onexamples }, 'Start with five example signs')));
    return;
  }
  const next = state.classes.filter((one) => one.examples.length > 0).length < 2
    ? 'Draw another sign and give it another name, so that there is something to tell apart.'
    : 'Draw one of them again: it is recognised while you draw.';
  show(el('div', { class: 'guide' },
    el('p', { class: 'verdict idle' }, '…'),
    el('p', {}, next),
    onsuggest && el('button', { type: 'button', class: 'wide', onclick: onsuggest }, 'Show me an unseen one')));
}

/** The answer to one picture. */
export function showAnswer(answer) {
  const name = answer.known ? answer.label : 'None of these';
  const likely = answer.ranked[0];
  const sure = answer.known ? joint(answer, answer.probability) : answer.none_probability;
  const head = el('p', { class: answer.known ? `verdict ${colour(answer.label)}` : 'verdict none' },
    el('strong', {}, name), ' ', el('span', { class: 'share' }, percent(sure)));
  const note = !answer.known && likely
    ? el('p', { class: 'quiet note' }, `Nearest is ${likely.label}. Is it new? Give it a name.`)
    : null;
  show(head, note, bars(answer), evidence(answer));
  announce(`${name}, ${percent(sure)}`);
}

/** From the probability of a class among the classes to that among all there is: with none of these they sum to 1. */
const joint = (answer, probability) => probability * (1 - answer.none_probability);

function bars(answer) {
  const rows = answer.ranked.slice(0, LISTED).map((one) => bar(one.label, joint(answer, one.probability), colour(one.label)));
  // Without a second example of some class there is nothing to tell by.
  rows.push(bar('none of these', answer.none_probability, 'none', answer.none_probability === 0 ? '–' : undefined));
  return el('ul', { class: 'bars', 'aria-label': 'Probabilities' }, ...rows);
}

function bar(label, probability, kind, text = percent(probability)) {
  const fill = el('i', {});
  fill.style.setProperty('--share', probability.toFixed(4));
  return el('li', { class: kind },
    el('span', { class: 'bar-label', title: label }, label),
    el('span', { class: 'bar-track', 'aria-hidden': 'true' }, fill),
    el('span', { class: 'bar-value' }, text));
}

function evidence(answer) {
  const items = answer.evidence.slice(0, SHOWN).map((one) => {
    const known = find(one.label)?.examples.find((example) => example.id === one.id);
    return known && el('li', { class: colour(one.label) },
      el('span', { class: 'framed', title: `${one.label}, weight ${percent(one.weight)}` },
        el('img', { class: thumb(known), src: known.picture, alt: `example of ${one.label}` })),
      el('span', {}, percent(one.weight)));
  });
  return el('div', { class: 'evidence' },
    el('h3', {}, 'Decided by'),
    el('ul', {}, ...items));
}

/** The answers to several pictures. */
export function showBatch(items) {
  show(el('p', { class: 'quiet note' }, `${items.length} pictures`),
    el('ul', { class: 'batch', tabIndex: 0, 'aria-label': 'Answers' }, ...items.map(({ url, name, answer }) => {
      const kind = answer.known ? colour(answer.label) : 'none';
      return el('li', { class: kind, title: name },
        el('img', { src: url, alt: name, class: 'photo' }),
        el('strong', {}, answer.known ? answer.label : 'none of these'),
        el('span', {}, percent(answer.known ? joint(answer, answer.probability) : answer.none_probability)));
    })));
  announce(`${items.length} pictures answered`);
}

/** How an example's picture looks: ink takes the colour of the page's scheme. */
export const thumb = (example) => (example.ink ? 'thumb ink' : 'thumb');
