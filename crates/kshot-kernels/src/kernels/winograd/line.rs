//! The transforms of one axis, for tiles of each size.

use super::POINTS;
use crate::simd::Simd;

const A: f32 = 0.625;
const B: f32 = 1.5;
const A2: f32 = A * A;
const B2: f32 = B * B;

/// A vector per point, or per element of a tile.
pub(super) type Line<S> = [<S as Simd>::V; POINTS];

/// `Bᵀ d` for a tile of so many outputs: two more values to the points in use.
#[inline(always)]
pub(super) fn input<S: Simd>(s: S, outputs: usize, d: Line<S>) -> Line<S> {
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
pub(super) fn input_adjoint<S: Simd>(s: S, outputs: usize, v: Line<S>) -> Line<S> {
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
pub(super) fn output<S: Simd>(s: S, outputs: usize, m: Line<S>) -> Line<S> {
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
pub(super) fn output_adjoint<S: Simd>(s: S, outputs: usize, y: Line<S>) -> Line<S> {
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
pub(super) const SCALES: [f32; 3] = [
    (1.0 / (A as f64 * A as f64 * B as f64 * B as f64)) as f32,
    (1.0 / (2.0 * A as f64 * A as f64 * (A as f64 * A as f64 - B as f64 * B as f64))) as f32,
    (1.0 / (2.0 * B as f64 * B as f64 * (B as f64 * B as f64 - A as f64 * A as f64))) as f32,
];

/// `G g`: the three weights of a window's axis to the points.
#[inline(always)]
pub(super) fn weight<S: Simd>(s: S, g: [S::V; 3]) -> Line<S> {
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
pub(super) fn weight_adjoint<S: Simd>(s: S, u: Line<S>) -> [S::V; 3] {
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
