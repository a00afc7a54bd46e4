//! One step of a recurrent update rule on a block of [`BLOCK`] coordinates, and its gradients; coordinates lie across the
//! lanes. See [`crate::UpdateRule`] for the formulas.

use super::coordinates::{BLOCK, accumulate, closed, multiply, sigmoid, tanh, total};
use crate::simd::Simd;

/// Rows of the memory's input before its hidden units: 1, the two inputs, a row of zeros.
pub const HEAD: usize = 4;

/// What a step reads and writes, all of `[.., BLOCK]`. A value after the step may lie where it lay before it.
#[derive(Clone, Copy, Debug)]
pub struct RuleStep {
    /// Units of the memory, a multiple of 4.
    pub units: usize,
    /// `[HEAD + units]`: what the memory sees; its last rows are the hidden units before the step.
    pub input: *mut f32,
    /// `[4 * units]`: the memory's gates: input, forget, candidate, output.
    pub gates: *mut f32,
    /// `[units]`: tanh of the cell after the step.
    pub bent: *mut f32,
    /// The cell `[units]`, before and after.
    pub cell: (*const f32, *mut f32),
    /// Where the hidden units `[units]` after the step go.
    pub hidden: *mut f32,
    /// `[3]` before and after: coordinates, forget gates, input gates.
    pub kept: (*const f32, *mut f32),
    /// `[1]`: the coordinates' gradients.
    pub gradient: *const f32,
}

/// The rule's numbers as the kernels read them.
#[derive(Clone, Copy, Debug)]
pub struct RuleWeights {
    /// `[HEAD + units, 4 * units]`, the bias first and zeros in the fourth row.
    pub memory: *const f32,
    /// Its last rows transposed, `[4 * units, units]`; for the gradients.
    pub transposed: *const f32,
    /// `[2, units + 3]`: of the forget gate and of the input gate, for the hidden units, the coordinate and the gate
    /// itself, with the bias last.
    pub gates: *const f32,
}

/// Gradients on their way back, of `[.., BLOCK]`.
#[derive(Clone, Copy, Debug)]
pub struct RuleSlopes {
    /// `[3]`: of what a step keeps.
    pub kept: *mut f32,
    /// `[units]`.
    pub hidden: *mut f32,
    /// `[units]`.
    pub cell: *mut f32,
    /// `[4 * units]`: scratch.
    pub gates: *mut f32,
}

/// A step: the memory, its gates on the coordinates, the coordinates.
///
/// # Safety
/// The pointers of both are valid for what their fields say.
#[inline(always)]
pub unsafe fn rule_step<S: Simd>(s: S, step: &RuleStep, weights: &RuleWeights) {
    let units = step.units;
    let size = units * BLOCK;
    // SAFETY: rows below those that the fields name, columns below BLOCK.
    unsafe {
        multiply(
            s,
            (HEAD + units, 4 * units),
            weights.memory,
            step.input,
            step.gates,
        );
        for at in (0..size).step_by(S::LANES) {
            let to = step.gates.add(at);
            let (i, f) = (sigmoid(s, s.load(to)), sigmoid(s, s.load(to.add(size))));
            let g = tanh(s, s.load(to.add(2 * size)));
            let o = sigmoid(s, s.load(to.add(3 * size)));
            let cell = s.mul_add(f, s.load(step.cell.0.add(at)), s.mul(i, g));
            let bent = tanh(s, cell);
            s.store(to, i);
            s.store(to.add(size), f);
            s.store(to.add(2 * size), g);
            s.store(to.add(3 * size), o);
            s.store(step.cell.1.add(at), cell);
            s.store(step.bent.add(at), bent);
            s.store(step.hidden.add(at), s.mul(o, bent));
        }
        let (forget, input) = (weights.gates, weights.gates.add(units + 3));
        for at in (0..BLOCK).step_by(S::LANES) {
            let before = step.kept.0.add(at);
            let (theta, f, i) = (
                s.load(before),
                s.load(before.add(BLOCK)),
                s.load(before.add(2 * BLOCK)),
            );
            let mut open_f = s.mul_add(
                s.splat(*forget.add(units)),
                theta,
                s.splat(*forget.add(units + 2)),
            );
            let mut open_i = s.mul_add(s.splat(*input.add(units)), theta, s.splat(*input.add(units + 2)));
            open_f = s.mul_add(s.splat(*forget.add(units + 1)), f, open_f);
            open_i = s.mul_add(s.splat(*input.add(units + 1)), i, open_i);
            for unit in 0..units {
                let hidden = s.load(step.hidden.add(unit * BLOCK + at));
                open_f = s.mul_add(s.splat(*forget.add(unit)), hidden, open_f);
                open_i = s.mul_add(s.splat(*input.add(unit)), hidden, open_i);
            }
            let (f, i) = (sigmoid(s, open_f), sigmoid(s, open_i));
            let moved = s.neg_mul_add(i, s.load(step.gradient.add(at)), s.mul(f, theta));
            let after = step.kept.1.add(at);
            s.store(after, moved);
            s.store(after.add(BLOCK), f);
            s.store(after.add(2 * BLOCK), i);
        }
    }
}

/// Takes `slopes` from after a step to before it, and adds the gradients of the memory's weights, with the bias's in the
/// first row, and of the gates' to `sums`. `step` is as [`rule_step`] left it, nothing of it overwritten.
///
/// # Safety
/// As [`rule_step`]; `sums` are of the sizes of `weights.memory` and `weights.gates`.
#[inline(always)]
pub unsafe fn rule_gradients<S: Simd>(
    s: S,
    step: &RuleStep,
    weights: &RuleWeights,
    slopes: &RuleSlopes,
    sums: (*mut f32, *mut f32),
) {
    let units = step.units;
    let size = units * BLOCK;
    let one = s.splat(1.0);
    // The gates' slopes lie in the scratch until the memory's need it.
    let (by_f, by_i) = (slopes.gates, slopes.gates.wrapping_add(BLOCK));
    // SAFETY: as in `rule_step`.
    unsafe {
        let (forget, input) = (weights.gates, weights.gates.add(units + 3));
        for at in (0..BLOCK).step_by(S::LANES) {
            let after = step.kept.1.cast_const().add(at);
            let (f, i) = (s.load(after.add(BLOCK)), s.load(after.add(2 * BLOCK)));
            let kept = slopes.kept.add(at);
            let (theta, df, di) = (s.load(kept), s.load(kept.add(BLOCK)), s.load(kept.add(2 * BLOCK)));
            let df = closed(s, f, s.mul_add(theta, s.load(step.kept.0.add(at)), df));
            let di = closed(s, i, s.neg_mul_add(theta, s.load(step.gradient.add(at)), di));
            let through = s.mul_add(
                s.splat(*forget.add(units)),
                df,
                s.mul(s.splat(*input.add(units)), di),
            );
            s.store(kept, s.mul_add(theta, f, through));
            s.store(kept.add(BLOCK), s.mul(s.splat(*forget.add(units + 1)), df));
            s.store(kept.add(2 * BLOCK), s.mul(s.splat(*input.add(units + 1)), di));
            s.store(by_f.add(at), df);
            s.store(by_i.add(at), di);
        }
        for unit in 0..units {
            let (to_f, to_i) = (s.splat(*forget.add(unit)), s.splat(*input.add(unit)));
            for at in (0..BLOCK).step_by(S::LANES) {
                let to = slopes.hidden.add(unit * BLOCK + at);
                let sum = s.mul_add(to_f, s.load(by_f.add(at)), s.load(to));
                s.store(to, s.mul_add(to_i, s.load(by_i.add(at)), sum));
            }
        }
        for (gate, by) in [by_f, by_i].into_iter().enumerate() {
            let to = sums.1.add(gate * (units + 3));
            for unit in 0..units {
                *to.add(unit) += dot(s, by, step.hidden.add(unit * BLOCK));
            }
            *to.add(units) += dot(s, by, step.kept.0);
            *to.add(units + 1) += dot(s, by, step.kept.0.add((1 + gate) * BLOCK));
            let mut bias = s.zero();
            for at in (0..BLOCK).step_by(S::LANES) {
                bias = s.add(bias, s.load(by.add(at)));
            }
            *to.add(units + 2) += total(s, bias);
        }
        for at in (0..size).step_by(S::LANES) {
            let gates = step.gates.add(at);
            let (i, f) = (s.load(gates), s.load(gates.add(size)));
            let (g, o) = (s.load(gates.add(2 * size)), s.load(gates.add(3 * size)));
            let (bent, dh) = (s.load(step.bent.add(at)), s.load(slopes.hidden.add(at)));
            let slope = s.neg_mul_add(bent, bent, one);
            let dc = s.mul_add(s.mul(dh, o), slope, s.load(slopes.cell.add(at)));
            let to = slopes.gates.add(at);
            s.store(to, closed(s, i, s.mul(dc, g)));
            s.store(to.add(size), closed(s, f, s.mul(dc, s.load(step.cell.0.add(at)))));
            s.store(to.add(2 * size), s.mul(s.mul(dc, i), s.neg_mul_add(g, g, one)));
            s.store(to.add(3 * size), closed(s, o, s.mul(dh, bent)));
            s.store(slopes.cell.add(at), s.mul(dc, f));
        }
        accumulate(s, (HEAD + units, 4 * units), step.input, slopes.gates, sums.0);
        multiply(
            s,
            (4 * units, units),
            weights.transposed,
            slopes.gates,
            slopes.hidden,
        );
    }
}

/// `Σ a · b` over a block.
///
/// # Safety
/// Both are valid for [`BLOCK`] floats.
#[inline(always)]
unsafe fn dot<S: Simd>(s: S, a: *const f32, b: *const f32) -> f32 {
    let mut sum = s.zero();
    for at in (0..BLOCK).step_by(S::LANES) {
        // SAFETY: the sizes above.
        sum = unsafe { s.mul_add(s.load(a.add(at)), s.load(b.add(at)), sum) };
    }
    total(s, sum)
}
