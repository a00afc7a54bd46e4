// The page of the interface, out of /openapi.json.

import { byId, el } from './dom.js';

const METHODS = ['get', 'post', 'put', 'patch', 'delete'];

byId('example').textContent = `curl -H 'content-type: application/json' -d '{"name": "alpha"}' ${location.origin}/v1/classes
curl --data-binary @a1.png -H 'content-type: image/png' ${location.origin}/v1/classes/alpha/examples
curl --data-binary @new.png -H 'content-type: image/png' ${location.origin}/classify`;

const document_ = await (await fetch('openapi.json')).json();

function schemaName(content) {
  return Object.entries(content ?? {}).map(([type, { schema }]) => {
    const name = schema?.$ref?.split('/').pop();
    return name ? `${name} (${type})` : type;
  }).join(', ');
}

function fields(name, seen = new Set()) {
  const schema = document_.components.schemas[name];
  if (!schema || seen.has(name)) return [];
  seen.add(name);
  const parts = [schema, ...(schema.allOf ?? []), ...(schema.oneOf ?? [])];
  return parts.flatMap((part) => (part.$ref
    ? fields(part.$ref.split('/').pop(), seen)
    : Object.entries(part.properties ?? {}).map(([field, { description, type }]) => ({ field, type: [type ?? ''].flat().filter((one) => one !== 'null').join(' or '), description }))));
}

function operation(path, method, what) {
  const parameters = (what.parameters ?? []).filter((one) => one.in === 'query');
  const ok = Object.entries(what.responses).find(([status]) => status.startsWith('2'));
  const schema = Object.values(ok?.[1].content ?? {})[0]?.schema?.$ref?.split('/').pop();
  const rows = schema ? fields(schema) : [];
  return el('details', { class: 'operation' },
    el('summary', {}, el('b', { class: `method ${method}` }, method.toUpperCase()), ' ', el('code', {}, path), ' ', el('span', { class: 'quiet' }, (what.summary ?? '').replaceAll('`', ''))),
    what.description && el('p', {}, what.description),
    what.requestBody && el('p', {}, 'Body: ', schemaName(what.requestBody.content)),
    parameters.length > 0 && el('ul', {}, ...parameters.map((one) => el('li', {}, el('code', {}, `?${one.name}=`), ` ${(one.description ?? '').replaceAll('`', '')}`))),
    el('p', {}, `Answers ${ok?.[0] ?? ''}: ${schemaName(ok?.[1].content) || 'nothing'}`),
    rows.length > 0 && el('ul', {}, ...rows.map(({ field, type, description }) => el('li', {}, el('code', {}, field), type ? ` ${type}. ` : ' ', description ?? ''))));
}

const groups = new Map();
for (const [path, methods] of Object.entries(document_.paths)) {
  for (const method of METHODS.filter((one) => one in methods)) {
    const tag = methods[method].tags?.[0] ?? 'other';
    groups.set(tag, [...(groups.get(tag) ?? []), operation(path, method, methods[method])]);
  }
}
byId('operations').append(...[...groups].map(([tag, items]) => el('section', { class: 'card' }, el('h2', {}, tag), ...items)));
byId('problems').append(...document_['x-problems'].map(({ name, status, title }) => el('tr', { id: name },
  el('td', {}, String(status)), el('td', {}, el('code', {}, `/docs#${name}`)), el('td', {}, title))));
if (location.hash) document.querySelector(location.hash)?.scrollIntoView();
