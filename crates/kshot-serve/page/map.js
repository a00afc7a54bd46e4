// The map: every example where the model puts it, and the current picture among them.

import { byId, count, svg } from './dom.js';
import { colour, find, state } from './state.js';

const WIDTH = 400;
const HEIGHT = 325;
const EDGE = 26;
/** Side of an example's picture, while there are few. */
const PICTURE = 30;
/** More examples than this are dots. */
const MOST_PICTURES = 120;

/** Draws the map; `answer` is the current picture's, or null. */
export function render(answer) {
  const map = state.map;
  const caption = byId('map-caption');
  if (map === null || map.points.length < 2) {
    byId('map').replaceChildren(outline());
    caption.textContent = 'With two examples or more, this shows where the model puts them: alike is near.';
    return;
  }
  const place = scale(map.points, answer?.place);
  const crowded = map.points.length > MOST_PICTURES;
  const marks = map.points.map((point) => mark(point, place, crowded)).filter(Boolean);
  const picture = frame(`Map of ${count(map.points.length, 'example')}`);
  picture.append(...links(answer, map, place), ...marks);
  if (answer?.place) picture.append(here(place(answer.place), answer));
  byId('map').replaceChildren(picture);
  const share = Math.round((map.explained[0] + map.explained[1]) * 100);
  const some = map.points.length < map.of ? `${map.points.length} of ${map.of} examples. ` : '';
  caption.textContent = `${some}Alike is near. Two directions of many: they hold ${share} % of the differences.`;
}

function frame(label) {
  return svg('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img', 'aria-label': label, class: 'plane' });
}

/** What a map will look like. */
function outline() {
  const picture = frame('Nothing to show yet');
  for (const [index, [x, y]] of [[110, 95], [290, 120], [185, 240]].entries()) {
    for (const [dx, dy] of [[0, 0], [34, -14], [16, 30], [-24, 22]]) {
      picture.append(svg('rect', { x: x + dx - 13, y: y + dy - 13, width: 26, height: 26, rx: 6, class: `ghost c${index}` }));
    }
  }
  return picture;
}

/** From the model's units to the picture's, the same along both axes. */
function scale(points, extra) {
  const all = [...points.map((point) => [point.x, point.y]), ...(extra ? [extra] : [])];
  const ends = (axis) => [Math.min(...all.map((at) => at[axis])), Math.max(...all.map((at) => at[axis]))];
  const [left, right] = ends(0);
  const [bottom, top] = ends(1);
  const factor = Math.min((WIDTH - 2 * EDGE) / Math.max(right - left, 1e-6), (HEIGHT - 2 * EDGE) / Math.max(top - bottom, 1e-6));
  return ([x, y]) => [WIDTH / 2 + (x - (left + right) / 2) * factor, HEIGHT / 2 - (y - (bottom + top) / 2) * factor];
}

function mark(point, place, crowded) {
  const known = find(point.class)?.examples.find((example) => example.id === point.id);
  if (!known) return null;
  const [x, y] = place([point.x, point.y]);
  const title = svg('title', {}, find(point.class).name);
  if (crowded) return svg('circle', { cx: x, cy: y, r: 4, class: `point ${colour(point.class)}` }, title);
  const side = PICTURE;
  return svg('g', { class: `example ${colour(point.class)}` }, title,
    svg('rect', { x: x - side / 2 - 1, y: y - side / 2 - 1, width: side + 2, height: side + 2, rx: 6, class: 'example-frame' }),
    svg('image', { href: known.picture, x: x - side / 2 + 1.5, y: y - side / 2 + 1.5, width: side - 3, height: side - 3, class: known.ink ? 'ink' : '' }));
}

/** Lines to the examples that decided, as strong as they counted. */
function links(answer, map, place) {
  if (!answer?.place) return [];
  const [x, y] = place(answer.place);
  const most = Math.max(...answer.evidence.map((one) => one.weight), 1e-6);
  return answer.evidence.flatMap((one) => {
    const point = map.points.find((each) => each.id === one.id && each.class === one.label);
    if (!point || one.weight < 0.02 * most) return [];
    const [toX, toY] = place([point.x, point.y]);
    return [svg('line', { x1: x, y1: y, x2: toX, y2: toY, class: `link ${colour(one.label)}`, 'stroke-width': 0.8 + 4 * (one.weight / most), 'stroke-opacity': 0.25 + 0.55 * (one.weight / most) })];
  });
}

function here([x, y], answer) {
  return svg('g', { class: 'here' },
    svg('circle', { cx: x, cy: y, r: 9, class: 'here-ring' }),
    svg('circle', { cx: x, cy: y, r: 3.5, class: 'here-dot' }),
    svg('title', {}, `This picture: ${answer.known ? answer.label : 'none of these'}`));
}
