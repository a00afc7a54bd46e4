// The page: the pad, what the server says of it, and the classes that it is taught.

import * as answers from './answer.js';
import * as api from './api.js';
import { Camera } from './camera.js';
import * as classes from './classes.js';
import { complain, confirm, toast } from './dialog.js';
import { byId, count } from './dom.js';
import { droppable, load as loadPicture, loadAll } from './files.js';
import * as map from './map.js';
import { Pad } from './pad.js';
import { Recogniser } from './recogniser.js';
import * as model from './state.js';
import { state } from './state.js';

/** Pause between frames while a class is held down, in milliseconds. */
const HOLD = 200;
/** Pause between two looks of the camera. */
const LOOK = 250;

const pad = new Pad(byId('pad'), { onchange: padChanged, onteach: teachByNumber });
const camera = new Camera(byId('camera'));
const recogniser = new Recogniser({ picture: currentPicture, onanswer: answered });
let current = null;
/** Generated pictures that the server has not seen. */
let unseen = [];

const fromCamera = () => byId('camera').hidden === false;
const ready = () => (fromCamera() ? camera.on : !pad.empty);

async function currentPicture() {
  if (!ready() || model.total() === 0) return null;
  return fromCamera() ? camera.picture() : pad.picture();
}

function answered(answer, error) {
  if (error) return complain(error);
  current = answer;
  if (answer === null) guide();
  else answers.showAnswer(answer);
  map.render(current);
}

function guide() {
  answers.showGuide({ drawn: !pad.empty, onexamples: exampleSet, onsuggest: unseen.length > 0 ? suggest : null });
}

function padChanged() {
  byId('undo').disabled = pad.empty;
  byId('clear').disabled = pad.empty;
  byId('pad-hint').hidden = !pad.empty;
  byId('new-class').classList.toggle('wanted', !pad.empty && state.classes.length === 0);
  if (model.total() === 0) guide();
  recogniser.look();
}

// Teaching

let teaching = Promise.resolve();

/** The current picture at this very moment, off the pad: what is drawn from now on is another one. Null if there is none. */
function take() {
  if (!ready()) return null;
  return fromCamera() ? { blob: camera.picture(), giveBack() {} } : pad.take();
}

/** Adds the current picture, or one taken before, to a class; one after the other, in the order of the clicks. */
function teach(one, taken = take()) {
  if (taken === null) {
    toast(fromCamera() ? 'The camera shows nothing yet.' : 'Draw something first, then say what it is.');
    byId('pad').focus();
    return teaching;
  }
  teaching = teaching.then(() => add(one, taken)).catch((error) => {
    taken.giveBack();
    complain(error);
  });
  return teaching;
}

async function add(one, taken) {
  const added = await model.addExamples(one.name, [await taken.blob]);
  pulse(one.name);
  if (!fromCamera()) {
    toast(`Added to ${one.name}.`, {
      action: 'Undo',
      onaction: () => Promise.all(added.map((example) => model.removeExample(one.name, example.id))).catch(complain),
    });
  }
}

function pulse(name) {
  document.querySelector(`[data-key="${CSS.escape(`chip-${name}`)}"]`)?.classList.add('pulse');
}

function teachByNumber(number) {
  const one = state.classes[number - 1];
  if (one) teach(one);
  else toast(`There is no class ${number} yet: type its name.`);
}

let holding = null;

function hold(one) {
  if (!fromCamera()) return;
  release();
  holding = setInterval(() => teach(one), HOLD);
}

function release() {
  clearInterval(holding);
  holding = null;
}

addEventListener('pointerup', release);

byId('new-class').addEventListener('submit', async (event) => {
  event.preventDefault();
  const input = byId('new-name');
  const name = input.value.trim();
  if (!name) return input.focus();
  const taken = take();
  try {
    const one = await model.ensureClass(name);
    input.value = '';
    if (taken !== null) await teach(one, taken);
    if (!fromCamera()) byId('pad').focus({ preventScroll: true });
  } catch (error) {
    taken?.giveBack();
    complain(error);
  }
});

// Files

let filesFor = null;

function chooseFiles(one) {
  filesFor = one;
  byId('file-input').value = '';
  byId('file-input').click();
}

byId('open-files').addEventListener('click', () => chooseFiles(null));
byId('file-input').addEventListener('change', (event) => {
  const files = [...event.target.files];
  (filesFor ? addFiles(filesFor, files) : recogniseFiles(files)).catch(complain);
});

/** Pictures in as many requests as the server's limits ask for. */
function inRequests(pictures) {
  const { images_per_request: most, body_bytes: longest } = state.info.limits;
  const requests = [];
  let bytes = Infinity;
  for (const { blob } of pictures) {
    // A form has some bytes of its own around each file.
    bytes += blob.size + 1024;
    if (bytes > longest || requests.at(-1).length === most) {
      requests.push([]);
      bytes = blob.size + 1024;
    }
    requests.at(-1).push(blob);
  }
  return requests;
}

async function addFiles(one, files) {
  const { pictures, complaint } = await loadAll(files);
  if (complaint) toast(complaint, { error: true });
  for (const blobs of inRequests(pictures)) await model.addExamples(one.name, blobs);
  if (pictures.length > 0) {
    pulse(one.name);
    toast(`Added ${count(pictures.length, 'picture')} to ${one.name}.`);
  }
}

/** Shows one picture on the pad; answers several as a list, once there is something to compare with. */
async function recogniseFiles(files) {
  if (files.length === 0) return;
  if (files.length === 1) {
    await useSource('draw');
    const { bitmap, blob } = await loadPicture(files[0]);
    pad.show(bitmap, blob);
    return;
  }
  if (model.total() === 0) {
    toast('Drop several pictures on a class, or whole folders: each folder becomes a class.');
    return;
  }
  const { pictures, complaint } = await loadAll(files);
  if (complaint) toast(complaint, { error: true });
  const found = [];
  for (const blobs of inRequests(pictures)) found.push(...(await api.classifyAll(blobs)));
  answers.showBatch(pictures.map(({ name, blob }, index) => ({ name, url: URL.createObjectURL(blob), answer: found[index] })));
}

async function takeDrop({ files, folders }) {
  try {
    for (const [name, some] of folders) await addFiles(await model.ensureClass(name), some);
    await recogniseFiles(files);
  } catch (error) {
    complain(error);
  }
}

droppable(document.body, takeDrop);
addEventListener('paste', (event) => {
  const files = [...(event.clipboardData?.files ?? [])];
  if (files.length > 0) recogniseFiles(files).catch(complain);
});

// Camera

let looking = null;

async function useSource(source) {
  for (const radio of document.getElementsByName('source')) radio.checked = radio.value === source;
  const video = byId('camera');
  clearInterval(looking);
  release();
  if (source === 'camera') {
    video.hidden = false;
    byId('pad').hidden = true;
    byId('pad-hint').hidden = true;
    try {
      await camera.start();
      looking = setInterval(() => recogniser.look(), LOOK);
    } catch (error) {
      complain(error);
      await useSource('draw');
    }
    return;
  }
  camera.stop();
  video.hidden = true;
  byId('pad').hidden = false;
  padChanged();
}

for (const radio of document.getElementsByName('source')) {
  radio.addEventListener('change', () => useSource(radio.value));
}

// Example set and store

async function exampleSet() {
  try {
    const made = await api.addSamples(5, 5);
    unseen = made.unseen;
    pad.clear();
    await model.load();
    guide();
  } catch (error) {
    complain(error);
  }
}

/** Puts a generated picture on the pad that belongs to one of the generated classes and was not enrolled. */
async function suggest() {
  const next = unseen.shift();
  if (!next) return guide();
  const blob = await model.asBlob(next.picture);
  pad.show(await createImageBitmap(blob), blob);
}

byId('example-set').addEventListener('click', exampleSet);

byId('download').addEventListener('click', async () => {
  closeMenu();
  try {
    const { blob, name } = await api.downloadStore();
    const link = Object.assign(document.createElement('a'), { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  } catch (error) {
    complain(error);
  }
});

byId('upload').addEventListener('click', () => {
  closeMenu();
  byId('store-input').value = '';
  byId('store-input').click();
});
byId('store-input').addEventListener('change', async (event) => {
  const [file] = event.target.files;
  if (!file) return;
  const sure = model.total() === 0 || (await confirm('Replace everything?',
    `The ${count(state.classes.length, 'class', 'classes')} here are replaced by those of ${file.name}.`, 'Replace'));
  if (!sure) return;
  try {
    await api.uploadStore(file);
    unseen = [];
    // Before the new classes are seen: what is drawn from then on is theirs.
    pad.clear();
    await model.load();
    toast(`Now using ${file.name}.`);
  } catch (error) {
    complain(error);
  }
});

byId('start-over').addEventListener('click', async () => {
  closeMenu();
  const sure = await confirm('Start over?', 'All classes and their examples are deleted from this store. A download keeps them.', 'Delete all');
  if (!sure) return;
  try {
    unseen = [];
    pad.clear();
    await model.removeAll();
  } catch (error) {
    complain(error);
  }
});

const closeMenu = () => { byId('menu').open = false; };
byId('menu').addEventListener('keydown', (event) => {
  if (event.key === 'Escape') { closeMenu(); byId('menu').querySelector('summary').focus(); }
});
document.addEventListener('pointerdown', (event) => {
  if (!byId('menu').contains(event.target)) closeMenu();
});

byId('undo').addEventListener('click', () => pad.undo());
byId('clear').addEventListener('click', () => pad.clear());

// Start

const actions = { teach, hold, release, chooseFiles, addFiles: (one, files) => addFiles(one, files).catch(complain) };

model.onchange(() => {
  classes.render(actions);
  map.render(current);
  byId('example-set').hidden = model.total() === 0 && pad.empty;
  if (state.info) {
    const { name, image } = state.info.model;
    byId('tagline').textContent = `${name} · ${image.width}×${image.height}`;
  }
  if (current === null) guide();
  recogniser.look();
});

guide();
model.load().catch(complain);
