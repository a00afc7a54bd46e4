// Questions and short messages.

import { byId, el } from './dom.js';

function ask(fill) {
  return new Promise((resolve) => {
    const dialog = byId('dialog');
    const close = (value) => {
      dialog.close();
      dialog.replaceChildren();
      resolve(value);
    };
    dialog.replaceChildren(fill(close));
    dialog.oncancel = (event) => {
      event.preventDefault();
      close(null);
    };
    dialog.showModal();
  });
}

/** Whether the user agrees to `action`. */
export const confirm = async (title, text, action) =>
  (await ask((close) =>
    el('form', { onsubmit: (event) => { event.preventDefault(); close(true); } },
      el('h2', {}, title),
      el('p', {}, text),
      el('div', { class: 'dialog-actions' },
        el('button', { type: 'button', class: 'plain', autofocus: true, onclick: () => close(null) }, 'Cancel'),
        el('button', { type: 'submit', class: 'danger' }, action))))) === true;

/** The server's token, or null. */
export const askForToken = (text) =>
  ask((close) => {
    const input = el('input', { type: 'password', name: 'token', autocomplete: 'current-password', required: true, autofocus: true, 'aria-label': 'Token' });
    return el('form', { onsubmit: (event) => { event.preventDefault(); close(input.value.trim()); } },
      el('h2', {}, 'Token'),
      el('p', {}, text),
      input,
      el('div', { class: 'dialog-actions' },
        el('button', { type: 'button', class: 'plain', onclick: () => close(null) }, 'Cancel'),
        el('button', { type: 'submit' }, 'Continue')));
  });

/** A message that goes away by itself, with at most one thing to do about it. */
export function toast(text, { action, onaction, error = false } = {}) {
  const place = byId('toasts');
  const message = el('div', { class: error ? 'toast error' : 'toast' }, el('span', {}, text));
  let timer;
  const close = () => { clearTimeout(timer); message.remove(); };
  if (action) {
    message.append(el('button', { type: 'button', onclick: () => { close(); onaction(); } }, action));
  }
  message.append(el('button', { type: 'button', class: 'close', 'aria-label': 'Dismiss', onclick: close }, '×'));
  const start = () => { timer = setTimeout(close, error ? 12000 : 6000); };
  message.addEventListener('pointerenter', () => clearTimeout(timer));
  message.addEventListener('pointerleave', start);
  message.addEventListener('focusin', () => clearTimeout(timer));
  message.addEventListener('focusout', start);
  while (place.children.length > 2) place.firstChild.remove();
  place.append(message);
  start();
}

/** Shows what went wrong. */
export function complain(error) {
  if (error.name === 'AbortError') return;
  console.error(error);
  toast(error.message, { error: true });
}
