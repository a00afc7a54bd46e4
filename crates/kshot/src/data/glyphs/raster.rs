//! From strokes to grey pixels.
//!
//! For every pixel the squared distance to the nearest line segment is kept, in the box around each segment
//! alone. At the end the distance becomes coverage: the overlap of a pen of width `w` pixels with a pixel of
//! width 1, which is exact for upright lines; so a small image looks like a large one averaged down.

use super::hand::Drawing;

/// Draws `drawing` into a `[side, side]` image with a pen of width `pen` (a fraction of the side).
pub fn draw(drawing: &Drawing, pen: f32, side: usize, pixels: &mut [f32]) {
    let scale = side as f32;
    let width = (pen * scale).max(0.3);
    let mut canvas = Canvas {
        side,
        reach: width / 2.0 + 0.5,
        distances: pixels,
    };
    canvas.distances.fill(f32::MAX);
    let mut start = 0;
    for &end in &drawing.ends {
        canvas.stroke(&drawing.points[start..end], &drawing.corners[start..end], scale);
        start = end;
    }
    let (reach, most) = (canvas.reach, width.min(1.0));
    for value in canvas.distances.iter_mut() {
        *value = (reach - value.sqrt()).clamp(0.0, most);
    }
}

struct Canvas<'a> {
    side: usize,
    reach: f32,
    /// Squared distance of each pixel's middle to the nearest segment, in pixels.
    distances: &'a mut [f32],
}

impl Canvas<'_> {
    /// Draws a curve through `points` (in the unit square), smooth but at `corners`.
    fn stroke(&mut self, points: &[[f32; 2]], corners: &[bool], scale: f32) {
        let at = |i: usize| [points[i][0] * scale, points[i][1] * scale];
        for i in 0..points.len().saturating_sub(1) {
            let (a, b) = (at(i), at(i + 1));
            let chord = [b[0] - a[0], b[1] - a[1]];
            let length = (chord[0] * chord[0] + chord[1] * chord[1]).sqrt();
            // Catmull-Rom tangents; beside a corner the chord itself.
            let before = if i == 0 || corners[i] {
                chord
            } else {
                half(at(i - 1), b)
            };
            let after = if i + 2 >= points.len() || corners[i + 1] {
                chord
            } else {
                half(a, at(i + 2))
            };
            let bend = (before[0] * after[1] - before[1] * after[0]).abs() / (length * length + 1e-6);
            let pieces = if bend < 0.02 {
                1
            } else {
                ((length * bend.min(1.0).sqrt() * 0.6) as usize).clamp(1, 16)
            };
            let mut last = a;
            for piece in 1..=pieces {
                let t = piece as f32 / pieces as f32;
                let u = 1.0 - t;
                let (wa, wb, ta, tb) = (
                    u * u * (1.0 + 2.0 * t),
                    t * t * (1.0 + 2.0 * u),
                    u * u * t,
                    -u * t * t,
                );
                let next = std::array::from_fn(|k| wa * a[k] + wb * b[k] + ta * before[k] + tb * after[k]);
                self.segment(last, next);
                last = next;
            }
        }
        if points.len() == 1 {
            self.segment(at(0), at(0));
        }
    }

    /// Lowers the distances around the segment from `a` to `b`.
    fn segment(&mut self, a: [f32; 2], b: [f32; 2]) {
        let span = |low: f32, high: f32| {
            let first = (low - self.reach - 0.5).ceil().max(0.0) as usize;
            let last = (high + self.reach - 0.5).floor();
            (
                first,
                if last < 0.0 {
                    0
                } else {
                    (last as usize + 1).min(self.side)
                },
            )
        };
        let (left, right) = span(a[0].min(b[0]), a[0].max(b[0]));
        let (top, bottom) = span(a[1].min(b[1]), a[1].max(b[1]));
        if left >= right {
            return;
        }
        let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
        let inverse = 1.0 / (dx * dx + dy * dy).max(1e-9);
        for row in top..bottom {
            let y = row as f32 + 0.5 - a[1];
            for (column, value) in self.distances[row * self.side..][left..right]
                .iter_mut()
                .enumerate()
            {
                let x = (left + column) as f32 + 0.5 - a[0];
                let t = ((x * dx + y * dy) * inverse).clamp(0.0, 1.0);
                let (ex, ey) = (x - t * dx, y - t * dy);
                *value = value.min(ex * ex + ey * ey);
            }
        }
    }
}

fn half(a: [f32; 2], b: [f32; 2]) -> [f32; 2] {
    [(b[0] - a[0]) / 2.0, (b[1] - a[1]) / 2.0]
}
