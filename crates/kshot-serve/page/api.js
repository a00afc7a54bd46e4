// The server's interface, with its errors as `Problem`.

import { askForToken } from './dialog.js';

/** What the server says when it can't do something. */
export class Problem extends Error {
  constructor(status, title, detail) {
    super(detail || title);
    this.status = status;
    this.title = title;
  }
}

const KEY = 'kshot-token';
let token = sessionStorage.getItem(KEY);
/** The question for a token while it is open: several requests may be refused at once, and one answer is for all. */
let asking = null;

async function call(method, path, { body, type, signal } = {}) {
  for (;;) {
    const headers = {};
    const used = token;
    if (token) headers.authorization = `Bearer ${token}`;
    if (type) headers['content-type'] = type;
    let response;
    try {
      response = await fetch(path, { method, body, headers, signal });
    } catch (error) {
      if (error.name === 'AbortError') throw error;
      throw new Problem(0, 'No connection', 'The server does not answer. Is kshot still running?');
    }
    if (response.ok) return response;
    if (response.status === 401) {
      // Another request may have got a new one in the meantime.
      if (token !== used) continue;
      asking ??= askForToken(used ? 'The server did not accept that token.' : 'This server asks for a token.').finally(() => {
        asking = null;
      });
      const given = await asking;
      if (given === null) throw new Problem(401, 'No token', 'Without a token the server does nothing.');
      token = given;
      sessionStorage.setItem(KEY, token);
      continue;
    }
    const problem = await response.json().catch(() => ({}));
    throw new Problem(response.status, problem.title ?? response.statusText, problem.detail);
  }
}

const json = async (method, path, value) =>
  (await call(method, path, { body: JSON.stringify(value), type: 'application/json' })).json();
/** Where a class is. */
const at = (name) => `v1/classes/${encodeURIComponent(name)}`;
const get = async (path, options) => (await call('GET', path, options)).json();

/** Several pictures as one form. */
function form(blobs) {
  const data = new FormData();
  for (const blob of blobs) data.append('images', blob, blob.name ?? 'picture.png');
  return data;
}

export const info = () => get('v1/info');
export const map = () => get('v1/map');
export const classes = async () => (await get('v1/classes')).classes;
export const examples = async (name) => (await get(`${at(name)}/examples?pictures=true`)).examples;
export const addClass = (name) => json('POST', 'v1/classes', { name });
export const renameClass = (from, name) => json('PATCH', at(from), { name });
export const removeClass = (name) => call('DELETE', at(name));
export const removeAll = () => call('DELETE', 'v1/classes');
export const addSamples = (n_classes, n_examples) => json('POST', 'v1/samples', { n_classes, n_examples });
export const removeExample = (name, example) => call('DELETE', `${at(name)}/examples/${example}`);

export const addExamples = async (name, blobs) =>
  (await (await call('POST', `${at(name)}/examples`, { body: form(blobs) })).json()).examples;

/** One picture: its answer and its place on the map. */
export const classify = async (blob, signal) =>
  (await call('POST', 'v1/classify?place=true', { body: blob, type: blob.type, signal })).json();

/** Many pictures: one answer each. */
export const classifyAll = async (blobs) =>
  (await (await call('POST', 'v1/classify', { body: form(blobs) })).json()).results;

/** The store as a file: its bytes and its name. */
export async function downloadStore() {
  const response = await call('GET', 'v1/store');
  const name = /filename="([^"]+)"/.exec(response.headers.get('content-disposition') ?? '')?.[1];
  return { blob: await response.blob(), name: name ?? 'classes.kshot' };
}

export const uploadStore = (file) => call('PUT', 'v1/store', { body: file, type: 'application/octet-stream' });
