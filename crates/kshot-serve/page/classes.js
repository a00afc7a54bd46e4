// The classes: as buttons under the pad, and as cards with their examples.

import { complain, toast } from './dialog.js';
import { byId, count, el } from './dom.js';
import { droppable } from './files.js';
import * as model from './state.js';
import { state } from './state.js';
import { thumb } from './answer.js';

/** Draws both lists. `actions`: `teach(class, button)`, `hold(class)`, `release()`, `addFiles(class, files)`, `chooseFiles(class)`. */
export function render(actions) {
  const focus = focused();
  byId('chips').replaceChildren(...state.classes.map((one, index) => chip(one, index, actions)));
  byId('classes').replaceChildren(...state.classes.map((one) => card(one, actions)));
  if (state.classes.length === 0) {
    byId('classes').append(el('li', { class: 'empty' },
      'No classes yet. Draw something and name it, or drop folders of pictures here: each folder becomes a class.'));
  }
  byId('classes-count').textContent = state.classes.length === 0
    ? ''
    : `${count(state.classes.length, 'class', 'classes')}, ${count(model.total(), 'example')}`;
  if (focus) document.querySelector(`[data-key="${CSS.escape(focus)}"]`)?.focus({ preventScroll: true });
}

/** What has the focus, so that it can be given back to its successor. */
const focused = () => document.activeElement?.dataset?.key;

function chip(one, index, actions) {
  const number = index < 9 ? ` (key ${index + 1} on the pad)` : '';
  return el('button', {
    type: 'button', class: `chip ${model.colour(one.name)}`, 'data-key': `chip-${one.name}`, title: `Add to ${one.name}${number}`,
    'aria-label': `Add to ${one.name}`,
    onclick: () => actions.teach(one),
    onpointerdown: () => actions.hold(one), onpointerup: actions.release, onpointercancel: actions.release, onpointerleave: actions.release,
  }, el('span', { class: 'dot', 'aria-hidden': 'true' }), one.name,
  el('span', { class: 'chip-count', 'aria-hidden': 'true' }, String(one.examples.length)));
}

function card(one, actions) {
  const name = el('input', {
    class: 'class-name', value: one.name, maxLength: 100, 'aria-label': 'Name of the class', 'data-key': `name-${one.name}`,
    onkeydown: (event) => {
      if (event.key === 'Enter') event.target.blur();
      if (event.key === 'Escape') { event.target.value = one.name; event.target.blur(); }
    },
    onchange: async (event) => {
      const wanted = event.target.value.trim();
      try {
        if (wanted && wanted !== one.name) await model.renameClass(one.name, wanted);
      } catch (error) {
        complain(error);
      }
      event.target.value = one.name;
    },
  });
  const item = el('li', { class: `card class-card ${model.colour(one.name)}`, 'data-class': one.name },
    el('div', { class: 'class-head' },
      el('span', { class: 'dot', 'aria-hidden': 'true' }),
      name,
      el('button', { type: 'button', class: 'icon', 'aria-label': `Add pictures from files to ${one.name}`, title: 'Add files', onclick: () => actions.chooseFiles(one) }, '+'),
      el('button', { type: 'button', class: 'icon', 'aria-label': `Delete ${one.name}`, title: 'Delete class', onclick: () => remove(one) }, '×')),
    el('ul', { class: 'thumbs', 'aria-label': `Examples of ${one.name}` }, ...one.examples.map((example, index) => el('li', {},
      el('button', {
        type: 'button', class: 'thumb-button', title: 'Remove', 'aria-label': `Remove example ${index + 1} of ${one.name}`,
        'data-key': `example-${one.name}-${example.id}`,
        onclick: () => removeExample(one, example),
      }, el('img', { class: thumb(example), src: example.picture, alt: '', draggable: false }))))),
    one.examples.length === 0 && el('p', { class: 'quiet small' }, 'No examples: drop pictures here, or draw one.'));
  droppable(item, ({ files, folders }) => actions.addFiles(one, [...files, ...[...folders.values()].flat()]));
  return item;
}

async function removeExample(one, example) {
  try {
    await model.removeExample(one.name, example.id);
    toast(`Removed an example of ${one.name}.`, {
      action: 'Undo',
      onaction: async () => model.addExamples(one.name, [await model.asBlob(example.picture)]).catch(complain),
    });
  } catch (error) {
    complain(error);
  }
}

async function remove(one) {
  try {
    await model.removeClass(one.name);
    toast(`Deleted ${one.name}.`, { action: 'Undo', onaction: () => restore(one).catch(complain) });
  } catch (error) {
    complain(error);
  }
}

async function restore(one) {
  await model.ensureClass(one.name);
  if (one.examples.length > 0) {
    await model.addExamples(one.name, await Promise.all(one.examples.map((example) => model.asBlob(example.picture))));
  }
}
