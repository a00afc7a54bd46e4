//! Small networks with shared weights, applied to each of many coordinates: coordinates lie across the lanes.
//!
//! All functions work on one block of [`BLOCK`] coordinates. A layer's input is `[rows, BLOCK]` with a first row of
//! ones, so that the bias is the first row of its weights; see [`ROWS`].

use crate::simd::Simd;

/// Coordinates of a block: small enough for its numbers to stay in the cache.
pub const BLOCK: usize = 128;
/// Hidden units.
pub const HIDDEN: usize = 20;
/// Rows of a hidden layer's input: 1, two inputs, a row of zeros, then the hidden units.
pub const ROWS: usize = 4 + HIDDEN;
/// Gates of the LSTM: input, forget, candidate, output.
pub const GATES: usize = 4 * HIDDEN;

/// Floats of scratch memory for `steps` steps of the LSTM: what the gradients need.
pub const fn lstm_scratch(steps: usize) -> usize {
    // One input more than steps, for the last output; one cell more, for the first. Then two gradients.
    ((steps + 1) * (ROWS + HIDDEN) + steps * (GATES + HIDDEN) + GATES + 2 * HIDDEN) * BLOCK
}

/// Floats of scratch memory for the perceptron.
pub const MLP_SCRATCH: usize = (4 + ROWS + 3 * HIDDEN) * BLOCK;

/// Vectors that are worked on side by side.
const SIDE: usize = 4;

/// `out[m, BLOCK] = Σₖ w[k, m] · input[k, BLOCK]`; `m` is a multiple of 4.
///
/// # Safety
/// The pointers are valid for these sizes.
#[inline(always)]
pub(super) unsafe fn multiply<S: Simd>(
    s: S,
    (k, m): (usize, usize),
    w: *const f32,
    input: *const f32,
    out: *mut f32,
) {
    for j in (0..m).step_by(4) {
        for at in (0..BLOCK).step_by(SIDE * S::LANES) {
            let mut sums = [[s.zero(); SIDE]; 4];
            for k in 0..k {
                // SAFETY: row k of both, and columns below m and BLOCK.
                unsafe {
                    let mut x = [s.zero(); SIDE];
                    for (v, x) in x.iter_mut().enumerate() {
                        *x = s.load(input.add(k * BLOCK + at + v * S::LANES));
                    }
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let w = s.splat(*w.add(k * m + j + row));
                        for (sum, x) in sums.iter_mut().zip(x) {
                            *sum = s.mul_add(w, x, *sum);
                        }
                    }
                }
            }
            for (row, sums) in sums.into_iter().enumerate() {
                for (v, sum) in sums.into_iter().enumerate() {
                    // SAFETY: row j + row < m, and columns below BLOCK.
                    unsafe { s.store(out.add((j + row) * BLOCK + at + v * S::LANES), sum) };
                }
            }
        }
    }
}

/// `dw[k, m] += Σ input[k, :] · dout[m, :]`; `k` and `m` are multiples of 4.
///
/// # Safety
/// The pointers are valid for these sizes.
#[inline(always)]
pub(super) unsafe fn accumulate<S: Simd>(
    s: S,
    (k, m): (usize, usize),
    input: *const f32,
    dout: *const f32,
    dw: *mut f32,
) {
    for i in (0..k).step_by(4) {
        for j in (0..m).step_by(4) {
            let mut sums = [[s.zero(); 4]; 4];
            for at in (0..BLOCK).step_by(S::LANES) {
                // SAFETY: rows below k and m, columns below BLOCK.
                unsafe {
                    let (mut x, mut d) = ([s.zero(); 4], [s.zero(); 4]);
                    for row in 0..4 {
                        x[row] = s.load(input.add((i + row) * BLOCK + at));
                        d[row] = s.load(dout.add((j + row) * BLOCK + at));
                    }
                    for (sums, x) in sums.iter_mut().zip(x) {
                        for (sum, d) in sums.iter_mut().zip(d) {
                            *sum = s.mul_add(x, d, *sum);
                        }
                    }
                }
            }
            for (row, sums) in sums.into_iter().enumerate() {
                for (column, sum) in sums.into_iter().enumerate() {
                    // SAFETY: an entry of dw.
                    unsafe { *dw.add((i + row) * m + j + column) += total(s, sum) };
                }
            }
        }
    }
}

/// The sum of the lanes, in a fixed order.
#[inline(always)]
pub(super) fn total<S: Simd>(s: S, v: S::V) -> f32 {
    let mut lanes = [0.0f32; 16];
    // SAFETY: LANES is at most 16.
    unsafe { s.store(lanes.as_mut_ptr(), v) };
    let mut width = 8;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// tanh(x) to a few units in the last place: with u = x / 4 cut at ±2.25, the [7/6] Padé approximant p/q of tanh(u),
/// then twice tanh(2u) = 2pq / (p² + q²), with one division in all.
#[inline(always)]
pub(super) fn tanh<S: Simd>(s: S, x: S::V) -> S::V {
    let (low, high) = (s.splat(-9.0), s.splat(9.0));
    let x = s.select(s.greater(x, high), high, x);
    let x = s.select(s.greater(low, x), low, x);
    let u = s.mul(x, s.splat(0.25));
    let u2 = s.mul(u, u);
    let p = s.mul_add(s.add(u2, s.splat(378.0)), u2, s.splat(17_325.0));
    let p = s.mul(u, s.mul_add(p, u2, s.splat(135_135.0)));
    let q = s.mul_add(s.splat(28.0), u2, s.splat(3150.0));
    let q = s.mul_add(s.mul_add(q, u2, s.splat(62_370.0)), u2, s.splat(135_135.0));
    let two = s.splat(2.0);
    let (p, q) = (s.mul(two, s.mul(p, q)), s.mul_add(p, p, s.mul(q, q)));
    s.div(s.mul(two, s.mul(p, q)), s.mul_add(p, p, s.mul(q, q)))
}

/// σ(x) = (1 + tanh(x / 2)) / 2.
#[inline(always)]
pub(super) fn sigmoid<S: Simd>(s: S, x: S::V) -> S::V {
    let half = s.splat(0.5);
    s.mul_add(half, tanh(s, s.mul(half, x)), half)
}

/// `d` times σ (1 - σ), the slope of a gate.
#[inline(always)]
pub(super) fn closed<S: Simd>(s: S, gate: S::V, d: S::V) -> S::V {
    s.mul(d, s.mul(gate, s.sub(s.splat(1.0), gate)))
}

/// Where the parts of the LSTM's scratch memory lie.
struct Lstm {
    steps: usize,
    scratch: *mut f32,
}

impl Lstm {
    /// What step t sees, `[ROWS, BLOCK]`; its last rows are the output of the step before.
    #[inline(always)]
    fn input(&self, t: usize) -> *mut f32 {
        self.scratch.wrapping_add(t * ROWS * BLOCK)
    }
    /// The cell before step t, `[HIDDEN, BLOCK]`.
    #[inline(always)]
    fn cell(&self, t: usize) -> *mut f32 {
        self.scratch
            .wrapping_add(((self.steps + 1) * ROWS + t * HIDDEN) * BLOCK)
    }
    /// The gates of step t, `[GATES, BLOCK]`.
    #[inline(always)]
    fn gates(&self, t: usize) -> *mut f32 {
        self.cell(self.steps + 1).wrapping_add(t * GATES * BLOCK)
    }
    /// The tanh of the cell after step t, `[HIDDEN, BLOCK]`.
    #[inline(always)]
    fn bent(&self, t: usize) -> *mut f32 {
        self.gates(self.steps).wrapping_add(t * HIDDEN * BLOCK)
    }
    /// Gradients of gates, hidden units and cell.
    #[inline(always)]
    fn gradients(&self) -> (*mut f32, *mut f32, *mut f32) {
        let gates = self.bent(self.steps);
        let hidden = gates.wrapping_add(GATES * BLOCK);
        (gates, hidden, hidden.wrapping_add(HIDDEN * BLOCK))
    }
}

/// The LSTM over `steps` steps of `x` `[steps, 2, BLOCK]` and a linear output `y` `[BLOCK]`. `w` is `[ROWS, GATES]` and
/// `[1 + HIDDEN]`, the output's bias first.
///
/// # Safety
/// The pointers are valid for these sizes, `scratch` for [`lstm_scratch`].
#[inline(always)]
pub unsafe fn lstm<S: Simd>(
    s: S,
    steps: usize,
    x: *const f32,
    w: (*const f32, *const f32),
    scratch: *mut f32,
    y: *mut f32,
) {
    let parts = Lstm { steps, scratch };
    // SAFETY: all offsets are within the parts that `Lstm` lays out.
    unsafe {
        parts.cell(0).write_bytes(0, HIDDEN * BLOCK);
        parts.input(0).write_bytes(0, ROWS * BLOCK);
        for t in 0..steps {
            let input = parts.input(t);
            std::slice::from_raw_parts_mut(input, BLOCK).fill(1.0);
            input
                .add(BLOCK)
                .copy_from_nonoverlapping(x.add(2 * t * BLOCK), 2 * BLOCK);
            input.add(3 * BLOCK).write_bytes(0, BLOCK);
            let gates = parts.gates(t);
            multiply(s, (ROWS, GATES), w.0, input, gates);
            for at in (0..HIDDEN * BLOCK).step_by(S::LANES) {
                let (to_i, to_f) = (gates.add(at), gates.add(HIDDEN * BLOCK + at));
                let (to_g, to_o) = (
                    gates.add(2 * HIDDEN * BLOCK + at),
                    gates.add(3 * HIDDEN * BLOCK + at),
                );
                let (i, f) = (sigmoid(s, s.load(to_i)), sigmoid(s, s.load(to_f)));
                let (g, o) = (tanh(s, s.load(to_g)), sigmoid(s, s.load(to_o)));
                let cell = s.mul_add(f, s.load(parts.cell(t).add(at)), s.mul(i, g));
                let bent = tanh(s, cell);
                s.store(to_i, i);
                s.store(to_f, f);
                s.store(to_g, g);
                s.store(to_o, o);
                s.store(parts.cell(t + 1).add(at), cell);
                s.store(parts.bent(t).add(at), bent);
                s.store(parts.input(t + 1).add(4 * BLOCK + at), s.mul(o, bent));
            }
        }
        linear(s, w.1, parts.input(steps).add(4 * BLOCK), y);
    }
}

/// Adds the gradients of Σ y · dy to `sums`, of the sizes of [`lstm`]'s `w`, after [`lstm`] on the same `scratch`. `w` is
/// the recurrent part transposed, `[GATES, HIDDEN]`, and the output's weights.
///
/// # Safety
/// As [`lstm`], with `dy` of `[BLOCK]`.
#[inline(always)]
pub unsafe fn lstm_gradients<S: Simd>(
    s: S,
    steps: usize,
    w: (*const f32, *const f32),
    scratch: *mut f32,
    dy: *const f32,
    sums: (*mut f32, *mut f32),
) {
    let parts = Lstm { steps, scratch };
    let (dgates, dhidden, dcell) = parts.gradients();
    let one = s.splat(1.0);
    // SAFETY: all offsets are within the parts that `Lstm` lays out.
    unsafe {
        linear_gradients(s, w.1, parts.input(steps).add(4 * BLOCK), dy, (sums.1, dhidden));
        dcell.write_bytes(0, HIDDEN * BLOCK);
        for t in (0..steps).rev() {
            for at in (0..HIDDEN * BLOCK).step_by(S::LANES) {
                let gates = parts.gates(t).add(at);
                let (i, f) = (s.load(gates), s.load(gates.add(HIDDEN * BLOCK)));
                let (g, o) = (
                    s.load(gates.add(2 * HIDDEN * BLOCK)),
                    s.load(gates.add(3 * HIDDEN * BLOCK)),
                );
                let (bent, dh) = (s.load(parts.bent(t).add(at)), s.load(dhidden.add(at)));
                // d tanh(c) = 1 - tanh²(c); d σ = σ (1 - σ).
                let slope = s.neg_mul_add(bent, bent, one);
                let dc = s.mul_add(s.mul(dh, o), slope, s.load(dcell.add(at)));
                let before = s.load(parts.cell(t).add(at));
                let to = dgates.add(at);
                s.store(to, closed(s, i, s.mul(dc, g)));
                s.store(to.add(HIDDEN * BLOCK), closed(s, f, s.mul(dc, before)));
                let dg = s.mul(s.mul(dc, i), s.neg_mul_add(g, g, one));
                s.store(to.add(2 * HIDDEN * BLOCK), dg);
                s.store(to.add(3 * HIDDEN * BLOCK), closed(s, o, s.mul(dh, bent)));
                s.store(dcell.add(at), s.mul(dc, f));
            }
            accumulate(s, (ROWS, GATES), parts.input(t), dgates, sums.0);
            if t > 0 {
                multiply(s, (GATES, HIDDEN), w.0, dgates, dhidden);
            }
        }
    }
}

/// `y = w[0] + Σ w[1 + u] · hidden[u]`.
///
/// # Safety
/// `w` is `[1 + HIDDEN]`, `hidden` `[HIDDEN, BLOCK]`, `y` `[BLOCK]`.
#[inline(always)]
unsafe fn linear<S: Simd>(s: S, w: *const f32, hidden: *const f32, y: *mut f32) {
    for at in (0..BLOCK).step_by(S::LANES) {
        // SAFETY: the sizes above.
        unsafe {
            let mut sum = s.splat(*w);
            for u in 0..HIDDEN {
                sum = s.mul_add(s.splat(*w.add(1 + u)), s.load(hidden.add(u * BLOCK + at)), sum);
            }
            s.store(y.add(at), sum);
        }
    }
}

/// Adds the gradient of [`linear`]'s weights to the first of `to` and writes that of its input to the second.
///
/// # Safety
/// As [`linear`].
#[inline(always)]
unsafe fn linear_gradients<S: Simd>(
    s: S,
    w: *const f32,
    hidden: *const f32,
    dy: *const f32,
    (dw, dhidden): (*mut f32, *mut f32),
) {
    // SAFETY: the sizes above.
    unsafe {
        let mut bias = s.zero();
        for at in (0..BLOCK).step_by(S::LANES) {
            bias = s.add(bias, s.load(dy.add(at)));
        }
        *dw += total(s, bias);
        for u in 0..HIDDEN {
            let weight = s.splat(*w.add(1 + u));
            let mut sum = s.zero();
            for at in (0..BLOCK).step_by(S::LANES) {
                let d = s.load(dy.add(at));
                sum = s.mul_add(d, s.load(hidden.add(u * BLOCK + at)), sum);
                s.store(dhidden.add(u * BLOCK + at), s.mul(weight, d));
            }
            *dw.add(1 + u) += total(s, sum);
        }
    }
}

/// The parts of the perceptron's scratch memory: inputs of both layers, the second's output, and two gradients.
fn mlp_parts(scratch: *mut f32) -> [*mut f32; 5] {
    [0, 4, 4 + ROWS, 4 + ROWS + HIDDEN, 4 + ROWS + 2 * HIDDEN].map(|row| scratch.wrapping_add(row * BLOCK))
}

/// Two layers of ReLU on `x` `[2, BLOCK]` and a linear output `y` `[BLOCK]`. `w` is `[4, HIDDEN]`, `[ROWS, HIDDEN]` and
/// `[1 + HIDDEN]`; each first row is the bias.
///
/// # Safety
/// The pointers are valid for these sizes, `scratch` for [`MLP_SCRATCH`].
#[inline(always)]
pub unsafe fn mlp<S: Simd>(
    s: S,
    x: *const f32,
    w: (*const f32, *const f32, *const f32),
    scratch: *mut f32,
    y: *mut f32,
) {
    let [first, second, last, ..] = mlp_parts(scratch);
    // SAFETY: all offsets are within the parts above.
    unsafe {
        std::slice::from_raw_parts_mut(first, BLOCK).fill(1.0);
        first.add(BLOCK).copy_from_nonoverlapping(x, 2 * BLOCK);
        first.add(3 * BLOCK).write_bytes(0, BLOCK);
        second.write_bytes(0, 4 * BLOCK);
        std::slice::from_raw_parts_mut(second, BLOCK).fill(1.0);
        let hidden = second.add(4 * BLOCK);
        multiply(s, (4, HIDDEN), w.0, first, hidden);
        relu(s, hidden);
        multiply(s, (ROWS, HIDDEN), w.1, second, last);
        relu(s, last);
        linear(s, w.2, last, y);
    }
}

/// Adds the gradients of Σ y · dy to `sums`, of the sizes of [`mlp`]'s `w`, after [`mlp`] on the same `scratch`. `w` is
/// the second layer's weights without bias, transposed, `[HIDDEN, HIDDEN]`, and the output's weights.
///
/// # Safety
/// As [`mlp`], with `dy` of `[BLOCK]`.
#[inline(always)]
pub unsafe fn mlp_gradients<S: Simd>(
    s: S,
    w: (*const f32, *const f32),
    scratch: *mut f32,
    dy: *const f32,
    sums: (*mut f32, *mut f32, *mut f32),
) {
    let [first, second, last, dlast, dhidden] = mlp_parts(scratch);
    // SAFETY: all offsets are within the parts above.
    unsafe {
        linear_gradients(s, w.1, last, dy, (sums.2, dlast));
        mask(s, last, dlast);
        accumulate(s, (ROWS, HIDDEN), second, dlast, sums.1);
        multiply(s, (HIDDEN, HIDDEN), w.0, dlast, dhidden);
        mask(s, second.add(4 * BLOCK), dhidden);
        accumulate(s, (4, HIDDEN), first, dhidden, sums.0);
    }
}

/// `max(0, x)` of `[HIDDEN, BLOCK]` in place; NaN stays.
///
/// # Safety
/// The pointer is valid for this size.
#[inline(always)]
unsafe fn relu<S: Simd>(s: S, x: *mut f32) {
    for at in (0..HIDDEN * BLOCK).step_by(S::LANES) {
        // SAFETY: the size above.
        unsafe {
            let value = s.load(x.add(at));
            s.store(
                x.add(at),
                s.select(s.less_equal(value, s.zero()), s.zero(), value),
            );
        }
    }
}

/// Sets the gradient to 0 where ReLU's output is 0.
///
/// # Safety
/// Both pointers are valid for `[HIDDEN, BLOCK]`.
#[inline(always)]
unsafe fn mask<S: Simd>(s: S, output: *const f32, gradient: *mut f32) {
    for at in (0..HIDDEN * BLOCK).step_by(S::LANES) {
        // SAFETY: the size above.
        unsafe {
            let off = s.less_equal(s.load(output.add(at)), s.zero());
            s.store(
                gradient.add(at),
                s.select(off, s.zero(), s.load(gradient.add(at))),
            );
        }
    }
}
