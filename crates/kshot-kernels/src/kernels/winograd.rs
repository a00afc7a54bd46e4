//! Winograd's convolution F(4×4, 3×3) and its exact adjoints.
//!
//! With `d` a tile of input, `g` the window's weights and `Y` a tile of output (Lavin and Gray 2016):
//!
//! ```text
//! Y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A
//! ```
//!
//! where ⊙, summed over the input channels, is one matrix product per point `k`: `M[k] = V[k] U[k]` with a row per
//! tile. Both gradients are the adjoint of the same formula: `dM = A dY Aᵀ`, then `dU[k] = V[k]ᵀ dM[k]` and
//! `dg = Gᵀ dU G` for the weight, `dV[k] = dM[k] U[k]ᵀ` and `dd = B dV Bᵀ`, added up where tiles overlap, for the input.
//!
//! The one-dimensional algorithm interpolates at the points 0, ±a, ±b and ∞ with a = 5/8 and b = 3/2, whose
//! rounding errors are half of those of the usual 0, ±1, ±2, ∞ at the same number of operations. A size that
//! isn't a multiple of 4 ends in a tile of 3, 2 or 1 outputs, which uses the first of these points and ∞ and so needs
//! fewer products; the scale of its input transform makes up for the points that are left out, so that it shares
//! `U` with the others.

use crate::kernels::direct::tile;
use crate::simd::Simd;

const A: f32 = 0.625;
const B: f32 = 1.5;
const A2: f32 = A * A;
const B2: f32 = B * B;

/// Points per axis.
pub const POINTS: usize = 6;

/// The points that a tile of `m` outputs uses, in the order 0, a, -a, b, -b, ∞.
const USED: [&[usize]; 5] = [
    &[],
    &[0, 1, 5],
    &[0, 1, 2, 5],
    &[0, 1, 2, 3, 5],
    &[0, 1, 2, 3, 4, 5],
];

/// Width of a panel of columns of `U`: its rows lie close together in the cache.
pub const PANEL: usize = 64;

/// Rows of a register tile.
const ROWS: usize = 6;

/// One axis of the output, cut into tiles of 4 and a last one of what remains.
#[derive(Clone, Copy, Debug)]
struct Axis {
    size: usize,
    /// For each point the number of tiles that use it.
    counts: [usize; POINTS],
}

impl Axis {
    fn new(size: usize) -> Self {
        let mut counts = [size / 4; POINTS];
        for point in USED[size % 4] {
            counts[*point] += 1;
        }
        Self { size, counts }
    }

    #[inline(always)]
    fn tiles(&self) -> usize {
        self.size.div_ceil(4)
    }

    /// Outputs of tile `index`.
    #[inline(always)]
    fn outputs(&self, index: usize) -> usize {
        (self.size - 4 * index).min(4)
    }
}

/// How a few images of one size are cut into tiles, and where each tile's values lie for each point.
#[derive(Clone, Debug)]
pub struct Tiling {
    y: Axis,
    x: Axis,
    /// Input and output channels, multiples of 16.
    pub channels: (usize, usize),
    /// For each point the start of its rows, in `V` and in `M`.
    starts: [[usize; POINTS * POINTS]; 2],
    /// Floats of `V` and `M` for all images.
    lens: [usize; 2],
}

impl Tiling {
    /// For up to `images` images at a time with outputs of `rows` by `columns`.
    pub fn new((rows, columns): (usize, usize), images: usize, channels: (usize, usize)) -> Self {
        let (y, x) = (Axis::new(rows), Axis::new(columns));
        let mut starts = [[0; POINTS * POINTS]; 2];
        let mut lens = [0; 2];
        for (side, channels) in [channels.0, channels.1].into_iter().enumerate() {
            for k in 0..POINTS * POINTS {
                starts[side][k] = lens[side];
                let rows = images * y.counts[k / POINTS] * x.counts[k % POINTS];
                // Without the extra 5 cache lines, a tile's values for all points could fall into the same sets.
                lens[side] += if rows > 0 {
                    (rows * channels).next_multiple_of(1024) + 80
                } else {
                    0
                };
            }
        }
        Self {
            y,
            x,
            channels,
            starts,
            lens,
        }
    }

    /// Floats of `V`.
    pub fn v_len(&self) -> usize {
        self.lens[0]
    }

    /// Floats of `M`.
    pub fn m_len(&self) -> usize {
        self.lens[1]
    }

    /// Floats of `U`, and of its transpose.
    pub fn u_len(channels: (usize, usize)) -> usize {
        POINTS * POINTS * channels.0 * channels.1
    }

    /// Products of an input value with a weight per pair of channels, for one image.
    pub fn products((rows, columns): (usize, usize)) -> usize {
        let (y, x) = (Axis::new(rows), Axis::new(columns));
        y.counts.iter().sum::<usize>() * x.counts.iter().sum::<usize>()
    }

    /// Rows of point `k` for `images` images.
    #[inline(always)]
    fn rows(&self, k: usize, images: usize) -> usize {
        images * self.y.counts[k / POINTS] * self.x.counts[k % POINTS]
    }

    /// For each point the place of the first tile of tile row `ty` of an image, in `V` (side 0) or `M` (side 1).
    #[inline(always)]
    fn places(&self, side: usize, image: usize, ty: usize) -> [usize; POINTS * POINTS] {
        let channels = if side == 0 {
            self.channels.0
        } else {
            self.channels.1
        };
        let mut places = self.starts[side];
        for (k, place) in places.iter_mut().enumerate() {
            *place += (image * self.y.counts[k / POINTS] + ty) * self.x.counts[k % POINTS] * channels;
        }
        places
    }
}

/// Calls `$run(sizes, ..)` with the sizes of a tile: as constants where these are the common ones, so that the
/// compiler unrolls what follows.
macro_rules! for_sizes {
    ($sizes:expr, $run:ident($($arg:expr),*)) => {
        match $sizes {
            (4, 4) => $run((4, 4), $($arg),*),
            (4, 3) if S::UNROLLED_EDGES => $run((4, 3), $($arg),*),
            (3, 4) if S::UNROLLED_EDGES => $run((3, 4), $($arg),*),
            (3, 3) if S::UNROLLED_EDGES => $run((3, 3), $($arg),*),
            (4, 2) if S::UNROLLED_EDGES => $run((4, 2), $($arg),*),
            (2, 4) if S::UNROLLED_EDGES => $run((2, 4), $($arg),*),
            (2, 2) if S::UNROLLED_EDGES => $run((2, 2), $($arg),*),
            sizes => $run(sizes, $($arg),*),
        }
    };
}

/// A vector per point, or per element of a tile.
type Line<S> = [<S as Simd>::V; POINTS];

/// `Bᵀ d` for a tile of so many outputs: two more values to the points in use.
#[inline(always)]
fn input<S: Simd>(s: S, outputs: usize, d: Line<S>) -> Line<S> {
    let k = |value: f32| s.splat(value);
    let mut v = [s.zero(); POINTS];
    match outputs {
        4 => {
            // x (x² - a²) (x² - b²), divided by each of its roots in turn.
            v[0] = s.mul_add(k(A2 * B2), d[0], s.neg_mul_add(k(A2 + B2), d[2], d[4]));
            let (even, odd) = (s.neg_mul_add(k(B2), d[2], d[4]), s.neg_mul_add(k(B2), d[1], d[3]));
            v[1] = s.mul_add(k(A), odd, even);
            v[2] = s.neg_mul_add(k(A), odd, even);
            let (even, odd) = (s.neg_mul_add(k(A2), d[2], d[4]), s.neg_mul_add(k(A2), d[1], d[3]));
            v[3] = s.mul_add(k(B), odd, even);
            v[4] = s.neg_mul_add(k(B), odd, even);
            v[5] = s.mul_add(k(A2 * B2), d[1], s.neg_mul_add(k(A2 + B2), d[3], d[5]));
        }
        3 => {
            // x (x² - a²) (x - b); each finite point p times p + b.
            let slope = s.neg_mul_add(k(B), d[2], d[3]);
            let flat = s.neg_mul_add(k(B), d[0], d[1]);
            v[0] = s.mul(k(B), s.neg_mul_add(k(A2), flat, slope));
            let (even, odd) = (slope, s.neg_mul_add(k(B), d[1], d[2]));
            v[1] = s.mul(k(A + B), s.mul_add(k(A), odd, even));
            v[2] = s.mul(k(B - A), s.neg_mul_add(k(A), odd, even));
            v[3] = s.mul(k(2.0 * B), s.neg_mul_add(k(A2), d[1], d[3]));
            let slope = s.neg_mul_add(k(B), d[3], d[4]);
            v[5] = s.neg_mul_add(k(A2), odd, slope);
        }
        2 => {
            // x (x² - a²); each finite point p times p² - b².
            v[0] = s.mul(k(-B2), s.neg_mul_add(k(A2), d[0], d[2]));
            v[1] = s.mul(k(A2 - B2), s.mul_add(k(A), d[1], d[2]));
            v[2] = s.mul(k(A2 - B2), s.neg_mul_add(k(A), d[1], d[2]));
            v[5] = s.neg_mul_add(k(A2), d[1], d[3]);
        }
        _ => {
            // x (x - a); each finite point p times (p + a) (p² - b²).
            v[0] = s.mul(k(-A * B2), s.neg_mul_add(k(A), d[0], d[1]));
            v[1] = s.mul(k(2.0 * A * (A2 - B2)), d[1]);
            v[5] = s.neg_mul_add(k(A), d[1], d[2]);
        }
    }
    v
}

/// `B v`, the adjoint of [`input`].
#[inline(always)]
fn input_adjoint<S: Simd>(s: S, outputs: usize, v: Line<S>) -> Line<S> {
    let k = |value: f32| s.splat(value);
    let mut d = [s.zero(); POINTS];
    match outputs {
        4 => {
            let (sum_a, dif_a) = (s.add(v[1], v[2]), s.sub(v[1], v[2]));
            let (sum_b, dif_b) = (s.add(v[3], v[4]), s.sub(v[3], v[4]));
            d[0] = s.mul(k(A2 * B2), v[0]);
            let odd = s.mul_add(k(A * B2), dif_a, s.mul(k(B * A2), dif_b));
            d[1] = s.sub(s.mul(k(A2 * B2), v[5]), odd);
            let even = s.mul_add(k(B2), sum_a, s.mul(k(A2), sum_b));
            d[2] = s.neg_mul_add(k(A2 + B2), v[0], s.sub(s.zero(), even));
            let odd = s.mul_add(k(A), dif_a, s.mul(k(B), dif_b));
            d[3] = s.neg_mul_add(k(A2 + B2), v[5], odd);
            d[4] = s.add(v[0], s.add(sum_a, sum_b));
            d[5] = v[5];
        }
        3 => {
            let (v0, va) = (s.mul(k(B), v[0]), s.mul(k(A + B), v[1]));
            let (vn, vb) = (s.mul(k(B - A), v[2]), s.mul(k(2.0 * B), v[3]));
            let (sum, odd) = (s.add(va, vn), s.mul(k(A), s.sub(va, vn)));
            // The transposes of x³ - b x² - a² x + a² b, x³ - b x² ± a (x² - b x), x³ - a² x, and of the whole.
            d[0] = s.mul(k(A2 * B), v0);
            d[1] = s.mul_add(
                k(A2 * B),
                v[5],
                s.neg_mul_add(k(A2), s.add(v0, vb), s.mul(k(-B), odd)),
            );
            d[2] = s.neg_mul_add(k(B), s.add(v0, sum), s.neg_mul_add(k(A2), v[5], odd));
            d[3] = s.neg_mul_add(k(B), v[5], s.add(s.add(v0, sum), vb));
            d[4] = v[5];
        }
        2 => {
            let v0 = s.mul(k(-B2), v[0]);
            let (va, vn) = (s.mul(k(A2 - B2), v[1]), s.mul(k(A2 - B2), v[2]));
            d[0] = s.mul(k(-A2), v0);
            d[1] = s.mul_add(k(A), s.sub(va, vn), s.mul(k(-A2), v[5]));
            d[2] = s.add(v0, s.add(va, vn));
            d[3] = v[5];
        }
        _ => {
            let v0 = s.mul(k(-A * B2), v[0]);
            d[0] = s.mul(k(-A), v0);
            d[1] = s.mul_add(k(2.0 * A * (A2 - B2)), v[1], s.neg_mul_add(k(A), v[5], v0));
            d[2] = v[5];
        }
    }
    d
}

/// `Aᵀ m`: the points in use to so many outputs.
#[inline(always)]
fn output<S: Simd>(s: S, outputs: usize, m: Line<S>) -> Line<S> {
    let k = |value: f32| s.splat(value);
    let mut y = [s.zero(); POINTS];
    match outputs {
        4 => {
            let (sum_a, dif_a) = (s.add(m[1], m[2]), s.sub(m[1], m[2]));
            let (sum_b, dif_b) = (s.add(m[3], m[4]), s.sub(m[3], m[4]));
            y[0] = s.add(m[0], s.add(sum_a, sum_b));
            y[1] = s.mul_add(k(A), dif_a, s.mul(k(B), dif_b));
            y[2] = s.mul_add(k(A2), sum_a, s.mul(k(B2), sum_b));
            y[3] = s.mul_add(k(A * A2), dif_a, s.mul_add(k(B * B2), dif_b, m[5]));
        }
        3 => {
            let (sum, dif) = (s.add(m[1], m[2]), s.sub(m[1], m[2]));
            y[0] = s.add(s.add(m[0], m[3]), sum);
            y[1] = s.mul_add(k(A), dif, s.mul(k(B), m[3]));
            y[2] = s.mul_add(k(A2), sum, s.mul_add(k(B2), m[3], m[5]));
        }
        2 => {
            y[0] = s.add(m[0], s.add(m[1], m[2]));
            y[1] = s.mul_add(k(A), s.sub(m[1], m[2]), m[5]);
        }
        _ => y[0] = s.add(s.add(m[0], m[1]), m[5]),
    }
    y
}

/// `A y`, the adjoint of [`output`].
#[inline(always)]
fn output_adjoint<S: Simd>(s: S, outputs: usize, y: Line<S>) -> Line<S> {
    let k = |value: f32| s.splat(value);
    let mut m = [s.zero(); POINTS];
    match outputs {
        4 => {
            m[0] = y[0];
            let even = s.mul_add(k(A2), y[2], y[0]);
            let odd = s.mul(k(A), s.mul_add(k(A2), y[3], y[1]));
            (m[1], m[2]) = (s.add(even, odd), s.sub(even, odd));
            let even = s.mul_add(k(B2), y[2], y[0]);
            let odd = s.mul(k(B), s.mul_add(k(B2), y[3], y[1]));
            (m[3], m[4]) = (s.add(even, odd), s.sub(even, odd));
            m[5] = y[3];
        }
        3 => {
            m[0] = y[0];
            let even = s.mul_add(k(A2), y[2], y[0]);
            m[1] = s.mul_add(k(A), y[1], even);
            m[2] = s.neg_mul_add(k(A), y[1], even);
            m[3] = s.mul_add(k(B), y[1], s.mul_add(k(B2), y[2], y[0]));
            m[5] = y[2];
        }
        2 => {
            m[0] = y[0];
            m[1] = s.mul_add(k(A), y[1], y[0]);
            m[2] = s.neg_mul_add(k(A), y[1], y[0]);
            m[5] = y[1];
        }
        _ => (m[0], m[1], m[5]) = (y[0], y[0], y[0]),
    }
    m
}

/// `1 / N_p(p)` for the points 0, ±a, ±b, where `N_p` is x (x² - a²) (x² - b²) without its root p.
const SCALES: [f32; 3] = [
    (1.0 / (A as f64 * A as f64 * B as f64 * B as f64)) as f32,
    (1.0 / (2.0 * A as f64 * A as f64 * (A as f64 * A as f64 - B as f64 * B as f64))) as f32,
    (1.0 / (2.0 * B as f64 * B as f64 * (B as f64 * B as f64 - A as f64 * A as f64))) as f32,
];

/// `G g`: the three weights of a window's axis to the points.
#[inline(always)]
fn weight<S: Simd>(s: S, g: [S::V; 3]) -> Line<S> {
    let k = |value: f32| s.splat(value);
    let [at_zero, at_a, at_b] = SCALES;
    let mut u = [s.zero(); POINTS];
    u[0] = s.mul(k(at_zero), g[0]);
    let (even, odd) = (s.mul_add(k(A2), g[2], g[0]), s.mul(k(A), g[1]));
    (u[1], u[2]) = (s.mul(k(at_a), s.add(even, odd)), s.mul(k(at_a), s.sub(even, odd)));
    let (even, odd) = (s.mul_add(k(B2), g[2], g[0]), s.mul(k(B), g[1]));
    (u[3], u[4]) = (s.mul(k(at_b), s.add(even, odd)), s.mul(k(at_b), s.sub(even, odd)));
    u[5] = g[2];
    u
}

/// `Gᵀ u`, the adjoint of [`weight`].
#[inline(always)]
fn weight_adjoint<S: Simd>(s: S, u: Line<S>) -> [S::V; 3] {
    let k = |value: f32| s.splat(value);
    let [at_zero, at_a, at_b] = SCALES;
    let (sum_a, dif_a) = (
        s.mul(k(at_a), s.add(u[1], u[2])),
        s.mul(k(at_a), s.sub(u[1], u[2])),
    );
    let (sum_b, dif_b) = (
        s.mul(k(at_b), s.add(u[3], u[4])),
        s.mul(k(at_b), s.sub(u[3], u[4])),
    );
    [
        s.mul_add(k(at_zero), u[0], s.add(sum_a, sum_b)),
        s.mul_add(k(A), dif_a, s.mul(k(B), dif_b)),
        s.mul_add(k(A2), sum_a, s.mul_add(k(B2), sum_b, u[5])),
    ]
}

/// Where `U[k][c][o]` lies: for each point, panels of up to [`PANEL`] columns with `inner` rows each.
#[inline(always)]
fn panel(k: usize, (inner, columns): (usize, usize), c: usize, o: usize) -> usize {
    let first = o / PANEL * PANEL;
    let width = (columns - first).min(PANEL);
    k * inner * columns + first * inner + c * width + (o - first)
}

/// `U = G g Gᵀ` for all pairs of channels; `g` is `[3, 3, c_in, c_out]`.
///
/// # Safety
/// `g` is valid for `9 * c_in * c_out` floats, `u` for [`Tiling::u_len`]. Both channel counts are multiples of 16.
#[inline(always)]
pub unsafe fn transform_weight<S: Simd>(s: S, channels: (usize, usize), g: *const f32, u: *mut f32) {
    for c in 0..channels.0 {
        for o in (0..channels.1).step_by(S::LANES) {
            let mut rows = [[s.zero(); POINTS]; 3];
            for (a, row) in rows.iter_mut().enumerate() {
                let mut taps = [s.zero(); 3];
                for (b, tap) in taps.iter_mut().enumerate() {
                    // SAFETY: tap `a, b` of channels `c` and `o .. o + LANES`.
                    *tap = unsafe { s.load(g.add(((a * 3 + b) * channels.0 + c) * channels.1 + o)) };
                }
                *row = weight(s, taps);
            }
            for j in 0..POINTS {
                let column = weight(s, [rows[0][j], rows[1][j], rows[2][j]]);
                for (i, value) in column.into_iter().enumerate() {
                    // SAFETY: a panel is a whole number of vectors wide, so these lanes are in one row of it.
                    unsafe { s.store(u.add(panel(i * POINTS + j, channels, c, o)), value) };
                }
            }
        }
    }
}

/// `g = Gᵀ u G`, the adjoint of [`transform_weight`].
///
/// # Safety
/// As [`transform_weight`], with `g` written and `u` read.
#[inline(always)]
pub unsafe fn transform_weight_adjoint<S: Simd>(s: S, channels: (usize, usize), u: *const f32, g: *mut f32) {
    for c in 0..channels.0 {
        for o in (0..channels.1).step_by(S::LANES) {
            let mut rows = [[s.zero(); 3]; POINTS];
            for (i, row) in rows.iter_mut().enumerate() {
                let mut line = [s.zero(); POINTS];
                for (j, value) in line.iter_mut().enumerate() {
                    // SAFETY: as in `transform_weight`.
                    *value = unsafe { s.load(u.add(panel(i * POINTS + j, channels, c, o))) };
                }
                *row = weight_adjoint(s, line);
            }
            for b in 0..3 {
                let mut column = [s.zero(); POINTS];
                for (i, value) in column.iter_mut().enumerate() {
                    *value = rows[i][b];
                }
                for (a, value) in weight_adjoint(s, column).into_iter().enumerate() {
                    // SAFETY: tap `a, b` of channels `c` and `o .. o + LANES`.
                    unsafe { s.store(g.add(((a * 3 + b) * channels.0 + c) * channels.1 + o), value) };
                }
            }
        }
    }
}

/// `V = Bᵀ d B` for all tiles of image number `image` of the block.
///
/// # Safety
/// `x`, with rows `x_row` floats apart and dense pixels, is valid for the output's size and two more rows and
/// columns; `v` for [`Tiling::v_len`]; `image` is less than the tiling's number of images.
#[inline(always)]
pub unsafe fn transform_input<S: Simd>(
    s: S,
    tiling: &Tiling,
    image: usize,
    (x, x_row): (*const f32, usize),
    v: *mut f32,
) {
    for ty in 0..tiling.y.tiles() {
        let places = tiling.places(0, image, ty);
        for tx in 0..tiling.x.tiles() {
            let sizes = (tiling.y.outputs(ty), tiling.x.outputs(tx));
            // SAFETY: the tile's first element, and its row in `v`.
            unsafe {
                let x = x.add(4 * (ty * x_row + tx * tiling.channels.0));
                let v = v.add(tx * tiling.channels.0);
                for_sizes!(sizes, input_tile(s, tiling.channels.0, (x, x_row), &places, v));
            }
        }
    }
}

#[inline(always)]
unsafe fn input_tile<S: Simd>(
    (size_y, size_x): (usize, usize),
    s: S,
    channels: usize,
    (x, x_row): (*const f32, usize),
    places: &[usize; POINTS * POINTS],
    v: *mut f32,
) {
    for c in (0..channels).step_by(S::LANES) {
        let mut rows = [[s.zero(); POINTS]; POINTS];
        for (i, row) in rows.iter_mut().enumerate().take(size_y + 2) {
            let mut line = [s.zero(); POINTS];
            for (j, value) in line.iter_mut().enumerate().take(size_x + 2) {
                // SAFETY: a tile of `m` outputs reads `m + 2` rows and columns.
                *value = unsafe { s.load(x.add(i * x_row + j * channels + c)) };
            }
            *row = input(s, size_x, line);
        }
        for j in USED[size_x] {
            let mut column = [s.zero(); POINTS];
            for (i, value) in column.iter_mut().enumerate() {
                *value = rows[i][*j];
            }
            let column = input(s, size_y, column);
            for i in USED[size_y] {
                // SAFETY: the points in use have a row for this tile.
                unsafe { s.store(v.add(places[i * POINTS + j] + c), column[*i]) };
            }
        }
    }
}

/// Adds `dd = B dV Bᵀ` of all tiles of image number `image` to `dx`.
///
/// # Safety
/// As [`transform_input`], with `dx` read and written and `v` read.
#[inline(always)]
pub unsafe fn transform_input_adjoint<S: Simd>(
    s: S,
    tiling: &Tiling,
    image: usize,
    v: *const f32,
    (dx, dx_row): (*mut f32, usize),
) {
    for ty in 0..tiling.y.tiles() {
        let places = tiling.places(0, image, ty);
        for tx in 0..tiling.x.tiles() {
            let sizes = (tiling.y.outputs(ty), tiling.x.outputs(tx));
            // SAFETY: the tile's first element, and its row in `v`.
            unsafe {
                let dx = dx.add(4 * (ty * dx_row + tx * tiling.channels.0));
                let v = v.add(tx * tiling.channels.0);
                for_sizes!(
                    sizes,
                    input_adjoint_tile(s, tiling.channels.0, &places, v, (dx, dx_row))
                );
            }
        }
    }
}

#[inline(always)]
unsafe fn input_adjoint_tile<S: Simd>(
    (size_y, size_x): (usize, usize),
    s: S,
    channels: usize,
    places: &[usize; POINTS * POINTS],
    v: *const f32,
    (dx, dx_row): (*mut f32, usize),
) {
    for c in (0..channels).step_by(S::LANES) {
        let mut columns = [[s.zero(); POINTS]; POINTS];
        for j in USED[size_x] {
            let mut column = [s.zero(); POINTS];
            for i in USED[size_y] {
                // SAFETY: the points in use have a row for this tile.
                column[*i] = unsafe { s.load(v.add(places[i * POINTS + j] + c)) };
            }
            columns[*j] = input_adjoint(s, size_y, column);
        }
        for i in 0..size_y + 2 {
            let mut line = [s.zero(); POINTS];
            for j in USED[size_x] {
                line[*j] = columns[*j][i];
            }
            let line = input_adjoint(s, size_x, line);
            for (j, value) in line.into_iter().enumerate().take(size_x + 2) {
                // SAFETY: a tile of `m` outputs covers `m + 2` rows and columns of the input.
                unsafe {
                    let to = dx.add(i * dx_row + j * channels + c);
                    s.store(to, s.add(s.load(to), value));
                }
            }
        }
    }
}

/// `Y = Aᵀ M A` for all tiles of image number `image` of the block.
///
/// # Safety
/// `m` is valid for [`Tiling::m_len`]; `y`, with rows `y_row` floats apart and dense pixels, for the output's
/// size; `image` is less than the tiling's number of images.
#[inline(always)]
pub unsafe fn transform_output<S: Simd>(
    s: S,
    tiling: &Tiling,
    image: usize,
    m: *const f32,
    (y, y_row): (*mut f32, usize),
) {
    for ty in 0..tiling.y.tiles() {
        let places = tiling.places(1, image, ty);
        for tx in 0..tiling.x.tiles() {
            let sizes = (tiling.y.outputs(ty), tiling.x.outputs(tx));
            // SAFETY: the tile's first element, and its row in `m`.
            unsafe {
                let y = y.add(4 * (ty * y_row + tx * tiling.channels.1));
                let m = m.add(tx * tiling.channels.1);
                for_sizes!(sizes, output_tile(s, tiling.channels.1, &places, m, (y, y_row)));
            }
        }
    }
}

#[inline(always)]
unsafe fn output_tile<S: Simd>(
    (size_y, size_x): (usize, usize),
    s: S,
    channels: usize,
    places: &[usize; POINTS * POINTS],
    m: *const f32,
    (y, y_row): (*mut f32, usize),
) {
    for c in (0..channels).step_by(S::LANES) {
        let mut columns = [[s.zero(); POINTS]; POINTS];
        for j in USED[size_x] {
            let mut column = [s.zero(); POINTS];
            for i in USED[size_y] {
                // SAFETY: the points in use have a row for this tile.
                column[*i] = unsafe { s.load(m.add(places[i * POINTS + j] + c)) };
            }
            columns[*j] = output(s, size_y, column);
        }
        for i in 0..size_y {
            let mut line = [s.zero(); POINTS];
            for j in USED[size_x] {
                line[*j] = columns[*j][i];
            }
            let line = output(s, size_x, line);
            for (j, value) in line.into_iter().enumerate().take(size_x) {
                // SAFETY: element `i, j` of this tile of the output.
                unsafe { s.store(y.add(i * y_row + j * channels + c), value) };
            }
        }
    }
}

/// `dM = A dY Aᵀ` for all tiles of image number `image` of the block.
///
/// # Safety
/// As [`transform_output`], with `dy` read and `m` written.
#[inline(always)]
pub unsafe fn transform_output_adjoint<S: Simd>(
    s: S,
    tiling: &Tiling,
    image: usize,
    (dy, dy_row): (*const f32, usize),
    m: *mut f32,
) {
    for ty in 0..tiling.y.tiles() {
        let places = tiling.places(1, image, ty);
        for tx in 0..tiling.x.tiles() {
            let sizes = (tiling.y.outputs(ty), tiling.x.outputs(tx));
            // SAFETY: the tile's first element, and its row in `m`.
            unsafe {
                let dy = dy.add(4 * (ty * dy_row + tx * tiling.channels.1));
                let m = m.add(tx * tiling.channels.1);
                for_sizes!(
                    sizes,
                    output_adjoint_tile(s, tiling.channels.1, (dy, dy_row), &places, m)
                );
            }
        }
    }
}

#[inline(always)]
unsafe fn output_adjoint_tile<S: Simd>(
    (size_y, size_x): (usize, usize),
    s: S,
    channels: usize,
    (dy, dy_row): (*const f32, usize),
    places: &[usize; POINTS * POINTS],
    m: *mut f32,
) {
    for c in (0..channels).step_by(S::LANES) {
        let mut rows = [[s.zero(); POINTS]; POINTS];
        for (i, row) in rows.iter_mut().enumerate().take(size_y) {
            let mut line = [s.zero(); POINTS];
            for (j, value) in line.iter_mut().enumerate().take(size_x) {
                // SAFETY: element `i, j` of this tile of the output.
                *value = unsafe { s.load(dy.add(i * dy_row + j * channels + c)) };
            }
            *row = output_adjoint(s, size_x, line);
        }
        for j in USED[size_x] {
            let mut column = [s.zero(); POINTS];
            for (i, value) in column.iter_mut().enumerate() {
                *value = rows[i][*j];
            }
            let column = output_adjoint(s, size_y, column);
            for i in USED[size_y] {
                // SAFETY: the points in use have a row for this tile.
                unsafe { s.store(m.add(places[i * POINTS + j] + c), column[*i]) };
            }
        }
    }
}

/// `M[k] = V[k] U[k]` for all points and the first `images` images of the block.
///
/// # Safety
/// `v`, `u` and `m` are valid for [`Tiling::v_len`], [`Tiling::u_len`] and [`Tiling::m_len`] floats.
#[inline(always)]
pub unsafe fn multiply<S: Simd>(
    s: S,
    tiling: &Tiling,
    images: usize,
    v: *const f32,
    u: *const f32,
    m: *mut f32,
) {
    let (inner, columns) = tiling.channels;
    for k in 0..POINTS * POINTS {
        // SAFETY: the rows of point `k`.
        unsafe {
            let (v, m) = (v.add(tiling.starts[0][k]), m.add(tiling.starts[1][k]));
            let u = u.add(k * inner * columns);
            product(s, (tiling.rows(k, images), inner, columns), v, u, m);
        }
    }
}

/// `dU[k] += V[k]ᵀ dM[k]`, and with `ut` (the transpose of `U`, as panels of input channels) then
/// `V[k] = dM[k] U[k]ᵀ` in the place of `V`.
///
/// # Safety
/// As [`multiply`]; `du` and `ut` have as many floats as `U`.
#[inline(always)]
pub unsafe fn gradients<S: Simd>(
    s: S,
    tiling: &Tiling,
    images: usize,
    (v, dm): (*mut f32, *const f32),
    du: *mut f32,
    ut: Option<*const f32>,
) {
    let (inner, columns) = tiling.channels;
    for k in 0..POINTS * POINTS {
        let rows = tiling.rows(k, images);
        // SAFETY: the rows of point `k`.
        unsafe {
            let (v, dm) = (v.add(tiling.starts[0][k]), dm.add(tiling.starts[1][k]));
            outer_product(s, (rows, inner, columns), v, dm, du.add(k * inner * columns));
            if let Some(ut) = ut {
                product(s, (rows, columns, inner), dm, ut.add(k * inner * columns), v);
            }
        }
    }
}

/// `m = v u` for a dense `v` of `rows` by `inner` and `u` in panels.
///
/// # Safety
/// All three are valid for their sizes.
#[inline(always)]
unsafe fn product<S: Simd>(
    s: S,
    (rows, inner, columns): (usize, usize, usize),
    v: *const f32,
    u: *const f32,
    m: *mut f32,
) {
    for first in (0..columns).step_by(PANEL) {
        let width = (columns - first).min(PANEL);
        let vectors = width / S::LANES;
        let mut at = 0;
        while at < vectors {
            let column = at * S::LANES;
            // SAFETY: columns `column ..` of the panel that starts at `first`.
            unsafe {
                let (u, m) = (u.add(first * inner + column), m.add(first + column));
                let size = (rows, inner, width, columns);
                if S::COLUMNS == 4 && (S::WHOLE_TILES || vectors - at >= 4) {
                    product_columns::<S, 4>(s, size, v, u, m);
                    at += 4;
                } else if S::COLUMNS == 2 || vectors - at >= 2 {
                    product_columns::<S, 2>(s, size, v, u, m);
                    at += 2;
                } else {
                    product_columns::<S, 1>(s, size, v, u, m);
                    at += 1;
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn product_columns<S: Simd, const C: usize>(
    s: S,
    (rows, inner, u_row, m_row): (usize, usize, usize, usize),
    v: *const f32,
    u: *const f32,
    m: *mut f32,
) {
    let parts = rows.div_ceil(ROWS);
    for part in 0..parts {
        let (row, size) = tile(rows, parts, part);
        // SAFETY: rows `row .. row + size`.
        unsafe {
            let (v, m) = (v.add(row * inner), m.add(row * m_row));
            let sizes = (inner, u_row, m_row);
            match size {
                1 => product_tile::<S, 1, C>(s, sizes, v, u, m),
                2 => product_tile::<S, 2, C>(s, sizes, v, u, m),
                3 => product_tile::<S, 3, C>(s, sizes, v, u, m),
                4 => product_tile::<S, 4, C>(s, sizes, v, u, m),
                5 => product_tile::<S, 5, C>(s, sizes, v, u, m),
                _ => product_tile::<S, 6, C>(s, sizes, v, u, m),
            }
        }
    }
}

#[inline(always)]
unsafe fn product_tile<S: Simd, const R: usize, const C: usize>(
    s: S,
    (inner, u_row, m_row): (usize, usize, usize),
    v: *const f32,
    u: *const f32,
    m: *mut f32,
) {
    let mut sums = [[s.zero(); C]; R];
    // SAFETY: `R` rows of `v` and `m`, all rows of `u`, `C` vectors of columns.
    unsafe {
        for c in 0..inner {
            let mut weight = [s.zero(); C];
            for (k, weight) in weight.iter_mut().enumerate() {
                *weight = s.load(u.add(c * u_row + k * S::LANES));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let value = s.splat(*v.add(r * inner + c));
                for k in 0..C {
                    sums[k] = s.mul_add(value, weight[k], sums[k]);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (k, sum) in sums.iter().enumerate() {
                s.store(m.add(r * m_row + k * S::LANES), *sum);
            }
        }
    }
}

/// `du += vᵀ dm` for a dense `v` of `rows` by `inner`, `dm` of `rows` by `columns`, and `du` in panels.
///
/// # Safety
/// All three are valid for their sizes.
#[inline(always)]
unsafe fn outer_product<S: Simd>(
    s: S,
    (rows, inner, columns): (usize, usize, usize),
    v: *const f32,
    dm: *const f32,
    du: *mut f32,
) {
    if rows == 0 {
        return;
    }
    for first in (0..columns).step_by(PANEL) {
        let width = (columns - first).min(PANEL);
        let vectors = width / S::LANES;
        let mut at = 0;
        while at < vectors {
            let column = at * S::LANES;
            // SAFETY: columns `column ..` of the panel that starts at `first`.
            unsafe {
                let (du, dm) = (du.add(first * inner + column), dm.add(first + column));
                let size = (rows, inner, width, columns);
                if S::COLUMNS == 4 && (S::WHOLE_TILES || vectors - at >= 4) {
                    outer_columns::<S, 4>(s, size, v, dm, du);
                    at += 4;
                } else if S::COLUMNS == 2 || vectors - at >= 2 {
                    outer_columns::<S, 2>(s, size, v, dm, du);
                    at += 2;
                } else {
                    outer_columns::<S, 1>(s, size, v, dm, du);
                    at += 1;
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn outer_columns<S: Simd, const C: usize>(
    s: S,
    (rows, inner, u_row, m_row): (usize, usize, usize, usize),
    v: *const f32,
    dm: *const f32,
    du: *mut f32,
) {
    let parts = inner.div_ceil(ROWS);
    for part in 0..parts {
        let (c, size) = tile(inner, parts, part);
        // SAFETY: input channels `c .. c + size`.
        unsafe {
            let (v, du) = (v.add(c), du.add(c * u_row));
            let sizes = (rows, inner, u_row, m_row);
            match size {
                1 => outer_tile::<S, 1, C>(s, sizes, v, dm, du),
                2 => outer_tile::<S, 2, C>(s, sizes, v, dm, du),
                3 => outer_tile::<S, 3, C>(s, sizes, v, dm, du),
                4 => outer_tile::<S, 4, C>(s, sizes, v, dm, du),
                5 => outer_tile::<S, 5, C>(s, sizes, v, dm, du),
                _ => outer_tile::<S, 6, C>(s, sizes, v, dm, du),
            }
        }
    }
}

#[inline(always)]
unsafe fn outer_tile<S: Simd, const R: usize, const C: usize>(
    s: S,
    (rows, inner, u_row, m_row): (usize, usize, usize, usize),
    v: *const f32,
    dm: *const f32,
    du: *mut f32,
) {
    let mut sums = [[s.zero(); C]; R];
    // SAFETY: `R` input channels, `C` vectors of output channels, all rows.
    unsafe {
        for t in 0..rows {
            let mut gradient = [s.zero(); C];
            for (k, gradient) in gradient.iter_mut().enumerate() {
                *gradient = s.load(dm.add(t * m_row + k * S::LANES));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let value = s.splat(*v.add(t * inner + r));
                for k in 0..C {
                    sums[k] = s.mul_add(value, gradient[k], sums[k]);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (k, sum) in sums.iter().enumerate() {
                let to = du.add(r * u_row + k * S::LANES);
                s.store(to, s.add(s.load(to), *sum));
            }
        }
    }
}
