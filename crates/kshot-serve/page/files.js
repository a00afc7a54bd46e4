// Pictures out of files and folders that were dropped or chosen.

/** Longer side of a picture that is sent; larger ones are scaled down here. */
const LONGEST = 512;

/** Decodes a file with the browser, scaled down where it is large: what to paint, and what to send. */
export async function load(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new Error(`${file.name}: not a picture that this browser can read.`);
  }
  const scale = LONGEST / Math.max(bitmap.width, bitmap.height);
  const known = ['image/png', 'image/jpeg', 'image/webp', 'image/bmp'].includes(file.type);
  if (scale >= 1 && known) return { bitmap, blob: file };
  const shrink = Math.min(1, scale);
  const canvas = new OffscreenCanvas(Math.max(1, Math.round(bitmap.width * shrink)), Math.max(1, Math.round(bitmap.height * shrink)));
  const context = canvas.getContext('2d');
  context.imageSmoothingQuality = 'high';
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  const blob = await canvas.convertToBlob({ type: 'image/png' });
  return { bitmap, blob: new File([blob], file.name, { type: 'image/png' }) };
}

/** Decodes files, leaving out those that are no pictures; gives the pictures and one line about the rest. */
export async function loadAll(files) {
  const pictures = [];
  const bad = [];
  for (const file of files) {
    try {
      pictures.push({ ...(await load(file)), name: file.name });
    } catch (error) {
      bad.push(error.message);
    }
  }
  const more = bad.length > 1 ? ` And ${bad.length - 1} more.` : '';
  return { pictures, complaint: bad.length > 0 ? bad[0] + more : null };
}

/** What was dropped: loose files, and the files of each folder by the folder's name. */
export async function dropped(transfer) {
  const entries = [...transfer.items].filter((item) => item.kind === 'file').map((item) => item.webkitGetAsEntry?.());
  if (!entries.some((entry) => entry?.isDirectory)) return { files: [...transfer.files], folders: new Map() };
  const files = [];
  const folders = new Map();
  for (const entry of entries.filter(Boolean)) {
    if (entry.isFile) files.push(await fileOf(entry));
    else await walk(entry, files, folders);
  }
  return { files, folders };
}

/** A folder of files is a class; a folder of folders is many. */
async function walk(folder, files, folders) {
  for (const entry of await entriesOf(folder)) {
    if (entry.name.startsWith('.')) continue;
    if (entry.isDirectory) await walk(entry, files, folders);
    else folders.set(folder.name, [...(folders.get(folder.name) ?? []), await fileOf(entry)]);
  }
}

const fileOf = (entry) => new Promise((resolve, reject) => entry.file(resolve, reject));

async function entriesOf(folder) {
  const reader = folder.createReader();
  const all = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return all;
    all.push(...some);
  }
}

/** Calls `ondrop({files, folders})` for what is dropped on an element, which is marked while something hovers over it. */
export function droppable(element, ondrop) {
  let depth = 0;
  const mark = (change) => {
    depth = Math.max(0, depth + change);
    element.classList.toggle('drop', depth > 0);
  };
  const has = (event) => event.dataTransfer?.types.includes('Files');
  element.addEventListener('dragenter', (event) => { if (has(event)) { event.preventDefault(); mark(1); } });
  element.addEventListener('dragleave', (event) => { if (has(event)) mark(-1); });
  element.addEventListener('dragover', (event) => { if (has(event)) event.preventDefault(); });
  element.addEventListener('drop', async (event) => {
    if (!has(event)) return;
    event.preventDefault();
    event.stopPropagation();
    depth = 0;
    element.classList.remove('drop');
    ondrop(await dropped(event.dataTransfer));
  });
}
