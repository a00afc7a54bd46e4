// The drawing pad: strokes in the unit square, by pointer or keyboard.

/** Width of the pen as a share of the side, as in the drawings that the model has learned from. */
const PEN = 0.048;
/** Side of the picture that is sent. */
const SIDE = 112;
/** The longer side of a drawing on the picture that is sent, as a share of its side. */
const EXTENT = 0.66;
/** A small drawing grows by no more than this. */
const MOST_GROWTH = 2.2;
const STEP = 0.04;

export class Pad {
  /** `onchange()` after every change, `onteach(number)` for a number key. */
  constructor(canvas, { onchange, onteach }) {
    this.canvas = canvas;
    this.onchange = onchange;
    this.onteach = onteach;
    this.strokes = [];
    this.image = null;
    this.pen = { x: 0.5, y: 0.5, down: false, shown: false };
    this.drawing = null;
    canvas.addEventListener('pointerdown', (event) => this.begin(event));
    canvas.addEventListener('pointermove', (event) => this.move(event));
    for (const end of ['pointerup', 'pointercancel']) canvas.addEventListener(end, (event) => this.end(event));
    canvas.addEventListener('keydown', (event) => this.key(event));
    canvas.addEventListener('focus', () => { this.pen.shown = canvas.matches(':focus-visible'); this.paint(); });
    canvas.addEventListener('blur', () => { this.pen.shown = false; this.lift(); this.paint(); });
    new ResizeObserver(() => this.resize()).observe(canvas);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.paint());
    this.resize();
  }

  get empty() {
    return this.strokes.length === 0 && this.image === null;
  }

  clear() {
    this.strokes = [];
    this.image = null;
    this.drawing = null;
    this.lift();
    this.pen.x = 0.5;
    this.pen.y = 0.5;
    this.changed();
  }

  /** Takes the picture off the pad; `giveBack()` puts it there again, unless something else is drawn by then. */
  take() {
    const { strokes, image } = this;
    const blob = this.picture();
    this.clear();
    const giveBack = () => {
      if (!this.empty) return;
      Object.assign(this, { strokes, image });
      this.changed();
    };
    return { blob, giveBack };
  }

  undo() {
    if (this.image !== null) this.image = null;
    else this.strokes.pop();
    this.lift();
    this.changed();
  }

  /** Shows a picture in place of a drawing: what to paint, and the file that stands for it. */
  show(bitmap, blob) {
    this.strokes = [];
    this.image = { bitmap, blob };
    this.changed();
  }

  /** The picture to be sent: dark ink on white paper, the drawing centred and at the size that the model knows. */
  async picture() {
    if (this.image !== null) return this.image.blob;
    const canvas = new OffscreenCanvas(SIDE, SIDE);
    const context = canvas.getContext('2d');
    context.fillStyle = '#fff';
    context.fillRect(0, 0, SIDE, SIDE);
    const { scale, x, y } = fit(this.strokes);
    trace(context, this.strokes, (point) => [(point.x * scale + x) * SIDE, (point.y * scale + y) * SIDE], PEN * SIDE, '#000');
    return canvas.convertToBlob({ type: 'image/png' });
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const inside = (value) => Math.min(1, Math.max(0, value));
    return { x: inside((event.clientX - box.left) / box.width), y: inside((event.clientY - box.top) / box.height) };
  }

  begin(event) {
    if (event.button !== 0 || !event.isPrimary) return;
    event.preventDefault();
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    this.pen.shown = false;
    this.image = null;
    this.drawing = [this.at(event)];
    this.strokes.push(this.drawing);
    this.changed();
  }

  move(event) {
    if (this.drawing === null || !event.isPrimary) return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const one of events.length > 0 ? events : [event]) this.extend(this.drawing, this.at(one));
    this.changed();
  }

  end(event) {
    if (this.drawing === null || !event.isPrimary) return;
    this.drawing = null;
    this.changed();
  }

  extend(stroke, point) {
    const last = stroke[stroke.length - 1];
    if (Math.hypot(point.x - last.x, point.y - last.y) > 0.004) stroke.push(point);
  }

  lift() {
    this.pen.down = false;
  }

  key(event) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const undo = event.key === 'Backspace' || ((event.ctrlKey || event.metaKey) && event.key === 'z');
    if (undo) this.undo();
    else if (event.ctrlKey || event.metaKey || event.altKey) return;
    else if (event.key in moves) this.step(...moves[event.key], event.shiftKey ? STEP / 4 : STEP);
    else if (event.key === ' ') this.toggle();
    else if (event.key === 'Escape' || event.key === 'Delete') this.clear();
    else if (/^[1-9]$/.test(event.key)) this.onteach(Number(event.key));
    else return;
    event.preventDefault();
  }

  step(x, y, length) {
    this.pen.shown = true;
    this.pen.x = Math.min(1, Math.max(0, this.pen.x + x * length));
    this.pen.y = Math.min(1, Math.max(0, this.pen.y + y * length));
    if (this.pen.down) {
      this.strokes[this.strokes.length - 1].push({ x: this.pen.x, y: this.pen.y });
      this.changed();
    } else {
      this.paint();
    }
  }

  toggle() {
    this.pen.shown = true;
    this.pen.down = !this.pen.down;
    if (!this.pen.down) return this.paint();
    this.image = null;
    this.strokes.push([{ x: this.pen.x, y: this.pen.y }]);
    this.changed();
  }

  changed() {
    this.paint();
    this.onchange();
  }

  resize() {
    const side = Math.round(this.canvas.clientWidth * devicePixelRatio);
    if (side === 0 || this.canvas.width === side) return;
    this.canvas.width = side;
    this.canvas.height = side;
    this.paint();
  }

  paint() {
    const context = this.canvas.getContext('2d');
    const side = this.canvas.width;
    const style = getComputedStyle(this.canvas);
    context.clearRect(0, 0, side, side);
    if (this.image !== null) {
      context.imageSmoothingEnabled = this.image.bitmap.width >= side / 4;
      const { width, height } = this.image.bitmap;
      const scale = side / Math.max(width, height);
      context.drawImage(this.image.bitmap, (side - width * scale) / 2, (side - height * scale) / 2, width * scale, height * scale);
    }
    trace(context, this.strokes, (point) => [point.x * side, point.y * side], PEN * side, style.color);
    if (this.pen.shown) {
      context.beginPath();
      context.arc(this.pen.x * side, this.pen.y * side, PEN * side * (this.pen.down ? 0.9 : 1.4), 0, 2 * Math.PI);
      context.strokeStyle = style.accentColor;
      context.lineWidth = 2 * devicePixelRatio;
      context.stroke();
    }
  }
}

/** Draws strokes, smooth through the middles between their points. */
function trace(context, strokes, place, width, colour) {
  Object.assign(context, { strokeStyle: colour, lineWidth: width, lineCap: 'round', lineJoin: 'round' });
  for (const stroke of strokes) {
    const points = stroke.map(place);
    context.beginPath();
    context.moveTo(...points[0]);
    for (let i = 1; i + 1 < points.length; i++) {
      const [x, y] = points[i];
      const [nextX, nextY] = points[i + 1];
      context.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2);
    }
    context.lineTo(...points[points.length - 1]);
    context.stroke();
  }
}

/** Scale and shift that bring a drawing to the middle, at the usual size. */
function fit(strokes) {
  const points = strokes.flat();
  const ends = (axis) => [Math.min(...points.map((p) => p[axis])), Math.max(...points.map((p) => p[axis]))];
  const [left, right] = ends('x');
  const [top, bottom] = ends('y');
  const extent = Math.max(right - left, bottom - top);
  const scale = Math.min(EXTENT / Math.max(extent, 0.01), MOST_GROWTH);
  return { scale, x: 0.5 - ((left + right) / 2) * scale, y: 0.5 - ((top + bottom) / 2) * scale };
}
