// What the page knows of the server: its classes with their examples, the map, the model.

import * as api from './api.js';
import { COLOURS } from './dom.js';

const listeners = [];

export const state = {
  /** What `GET /v1/info` says. */
  info: null,
  /** `{name, examples: [{id, picture, ink}]}`, oldest first. */
  classes: [],
  /** What `GET /v1/map` says. */
  map: null,
};

/** Calls `listener` after every change. */
export const onchange = (listener) => listeners.push(listener);

function changed() {
  for (const listener of listeners) listener();
}

/** Everything anew. */
export async function load() {
  const [info, classes] = await Promise.all([api.info(), api.classes()]);
  const examples = await Promise.all(classes.map((one) => (one.n_examples > 0 ? api.examples(one.name) : [])));
  state.info = info;
  state.classes = classes.map((one, index) => ({ name: one.name, examples: examples[index] }));
  changed();
  await loadMap();
}

async function loadMap() {
  state.map = await api.map();
  changed();
}

export const find = (name) => state.classes.find((one) => one.name === name);
export const total = () => state.classes.reduce((sum, one) => sum + one.examples.length, 0);

/** The colour of a class: `c0` to `c9`, by its place. */
export const colour = (name) => `c${Math.max(0, state.classes.findIndex((one) => one.name === name)) % COLOURS}`;

/** The class of that name, made where there is none. */
export async function ensureClass(name) {
  const known = find(name);
  if (known) return known;
  const made = await api.addClass(name);
  const one = { name: made.name, examples: [] };
  state.classes.push(one);
  changed();
  return one;
}

/** Enrols pictures; gives the new examples. */
export async function addExamples(name, blobs) {
  const added = await api.addExamples(name, blobs);
  const one = find(name);
  const fresh = added.filter((each) => !one?.examples.some((known) => known.id === each.id));
  one?.examples.push(...fresh);
  changed();
  await loadMap();
  return fresh;
}

export async function removeExample(name, example) {
  await api.removeExample(name, example);
  const one = find(name);
  if (one) one.examples = one.examples.filter((each) => each.id !== example);
  changed();
  await loadMap();
}

export async function renameClass(from, name) {
  const renamed = await api.renameClass(from, name);
  const one = find(from);
  if (one) one.name = renamed.name;
  changed();
  await loadMap();
}

export async function removeClass(name) {
  await api.removeClass(name);
  state.classes = state.classes.filter((one) => one.name !== name);
  changed();
  await loadMap();
}

export async function removeAll() {
  await api.removeAll();
  await load();
}

/** A picture of the server as a file to be sent back. */
export async function asBlob(picture) {
  const [, data] = picture.split(',');
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  return new Blob([bytes], { type: 'image/png' });
}
