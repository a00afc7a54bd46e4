//! The transforms of one axis, for tiles of each size.

use super::POINTS;
use crate::simd::Simd;

/// Where the polynomials are evaluated, besides 0 and ∞: at plus and minus each of these.
pub(super) trait Scheme {
    const A: f32;
    const B: f32;
    /// For tiles of up to six outputs.
    const C: Option<f32> = None;

    /// `1 / N_p(p)` for the points 0, ±a, ±b and ±c, where `N_p` is x (x² - a²) (x² - b²), and (x² - c²) where there is a
    /// c, without its root p.
    const SCALES: [f32; 4] = {
        let (a, b) = (Self::A as f64 * Self::A as f64, Self::B as f64 * Self::B as f64);
        match Self::C {
            None => [
                (1.0 / (a * b)) as f32,
                (1.0 / (2.0 * a * (a - b))) as f32,
                (1.0 / (2.0 * b * (b - a))) as f32,
                0.0,
            ],
            Some(c) => {
                let c = c as f64 * c as f64;
                [
                    (-1.0 / (a * b * c)) as f32,
                    (1.0 / (2.0 * a * (a - b) * (a - c))) as f32,
                    (1.0 / (2.0 * b * (b - a) * (b - c))) as f32,
                    (1.0 / (2.0 * c * (c - a) * (c - b))) as f32,
                ]
            }
        }
    };
}

/// For tiles of up to 4 outputs.
pub(super) struct Four;

impl Scheme for Four {
    const A: f32 = 0.625;
    const B: f32 = 1.5;
}

/// For tiles of 6 outputs, and what they leave of an even size.
pub(super) struct Six;

impl Scheme for Six {
    const A: f32 = 1.0;
    const B: f32 = 0.5;
    const C: Option<f32> = Some(2.0);
}

/// A vector per point, or per element of a tile.
pub(super) type Line<S> = [<S as Simd>::V; POINTS];

/// `Bᵀ d` for a tile of so many outputs: two more values to the points in use.
#[inline(always)]
pub(super) fn input<S: Simd, P: Scheme>(s: S, outputs: usize, d: Line<S>) -> Line<S> {
    let (k, a, b) = (|value: f32| s.splat(value), P::A, P::B);
    let (a2, b2) = (a * a, b * b);
    let mut v = [s.zero(); POINTS];
    match outputs {
        6 => {
            // x (x² - a²) (x² - b²) (x² - c²), divided by each of its roots in turn.
            let c2 = square_of::<P>();
            let (sum, pairs, product) = (a2 + b2 + c2, a2 * b2 + a2 * c2 + b2 * c2, a2 * b2 * c2);
            let rest = s.neg_mul_add(k(sum), d[4], d[6]);
            v[0] = s.neg_mul_add(k(product), d[0], s.mul_add(k(pairs), d[2], rest));
            let rest = s.neg_mul_add(k(sum), d[5], d[7]);
            v[5] = s.neg_mul_add(k(product), d[1], s.mul_add(k(pairs), d[3], rest));
            let without = |p: f32, q: f32, r: f32| (p, q + r, q * r);
            for (at, (p, sum, product)) in [
                (1, without(a, b2, c2)),
                (3, without(b, a2, c2)),
                (6, without(c2.sqrt(), a2, b2)),
            ] {
                let even = s.mul_add(k(product), d[2], s.neg_mul_add(k(sum), d[4], d[6]));
                let odd = s.mul_add(k(product), d[1], s.neg_mul_add(k(sum), d[3], d[5]));
                v[at] = s.mul_add(k(p), odd, even);
                v[at + 1] = s.neg_mul_add(k(p), odd, even);
            }
            return v;
        }
        4 => {
            // x (x² - a²) (x² - b²), divided by each of its roots in turn.
            v[0] = s.mul_add(k(a2 * b2), d[0], s.neg_mul_add(k(a2 + b2), d[2], d[4]));
            let (even, odd) = (s.neg_mul_add(k(b2), d[2], d[4]), s.neg_mul_add(k(b2), d[1], d[3]));
            v[1] = s.mul_add(k(a), odd, even);
            v[2] = s.neg_mul_add(k(a), odd, even);
            let (even, odd) = (s.neg_mul_add(k(a2), d[2], d[4]), s.neg_mul_add(k(a2), d[1], d[3]));
            v[3] = s.mul_add(k(b), odd, even);
            v[4] = s.neg_mul_add(k(b), odd, even);
            v[5] = s.mul_add(k(a2 * b2), d[1], s.neg_mul_add(k(a2 + b2), d[3], d[5]));
        }
        3 => {
            // x (x² - a²) (x - b); each finite point p times p + b.
            let slope = s.neg_mul_add(k(b), d[2], d[3]);
            let flat = s.neg_mul_add(k(b), d[0], d[1]);
            v[0] = s.mul(k(b), s.neg_mul_add(k(a2), flat, slope));
            let (even, odd) = (slope, s.neg_mul_add(k(b), d[1], d[2]));
            v[1] = s.mul(k(a + b), s.mul_add(k(a), odd, even));
            v[2] = s.mul(k(b - a), s.neg_mul_add(k(a), odd, even));
            v[3] = s.mul(k(2.0 * b), s.neg_mul_add(k(a2), d[1], d[3]));
            let slope = s.neg_mul_add(k(b), d[3], d[4]);
            v[5] = s.neg_mul_add(k(a2), odd, slope);
        }
        2 => {
            // x (x² - a²); each finite point p times p² - b².
            v[0] = s.mul(k(-b2), s.neg_mul_add(k(a2), d[0], d[2]));
            v[1] = s.mul(k(a2 - b2), s.mul_add(k(a), d[1], d[2]));
            v[2] = s.mul(k(a2 - b2), s.neg_mul_add(k(a), d[1], d[2]));
            v[5] = s.neg_mul_add(k(a2), d[1], d[3]);
        }
        _ => {
            // x (x - a); each finite point p times (p + a) (p² - b²).
            v[0] = s.mul(k(-a * b2), s.neg_mul_add(k(a), d[0], d[1]));
            v[1] = s.mul(k(2.0 * a * (a2 - b2)), d[1]);
            v[5] = s.neg_mul_add(k(a), d[1], d[2]);
        }
    }
    if P::C.is_some() {
        // The factor x² - c² that the smaller tiles lack.
        let c2 = square_of::<P>();
        v[0] = s.mul(k(-c2), v[0]);
        for (at, p2) in [(1, a2), (2, a2), (3, b2), (4, b2)] {
            v[at] = s.mul(k(p2 - c2), v[at]);
        }
    }
    v
}

/// c²
#[inline(always)]
fn square_of<P: Scheme>() -> f32 {
    let c = P::C.unwrap_or_default();
    c * c
}

const A: f32 = Four::A;
const B: f32 = Four::B;
const A2: f32 = A * A;
const B2: f32 = B * B;

/// `B v`, the adjoint of [`input`] with four outputs at most.
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
pub(super) fn output<S: Simd, P: Scheme>(s: S, outputs: usize, m: Line<S>) -> Line<S> {
    let (k, a, b) = (|value: f32| s.splat(value), P::A, P::B);
    let (a2, b2) = (a * a, b * b);
    let mut y = [s.zero(); POINTS];
    match outputs {
        6 => {
            let c = P::C.unwrap_or_default();
            let [mut even, mut odd] = [[s.zero(); 3]; 2];
            for (n, (at, p)) in [(1, a), (3, b), (6, c)].into_iter().enumerate() {
                even[n] = s.add(m[at], m[at + 1]);
                odd[n] = s.mul(k(p), s.sub(m[at], m[at + 1]));
            }
            let c2 = c * c;
            y[0] = s.add(s.add(m[0], even[0]), s.add(even[1], even[2]));
            y[1] = s.add(odd[0], s.add(odd[1], odd[2]));
            y[2] = s.mul_add(k(a2), even[0], s.mul_add(k(b2), even[1], s.mul(k(c2), even[2])));
            y[3] = s.mul_add(k(a2), odd[0], s.mul_add(k(b2), odd[1], s.mul(k(c2), odd[2])));
            let fourths = (k(a2 * a2), k(b2 * b2), k(c2 * c2));
            y[4] = s.mul_add(
                fourths.0,
                even[0],
                s.mul_add(fourths.1, even[1], s.mul(fourths.2, even[2])),
            );
            let last = s.mul_add(fourths.1, odd[1], s.mul_add(fourths.2, odd[2], m[5]));
            y[5] = s.mul_add(fourths.0, odd[0], last);
        }
        4 => {
            let (sum_a, dif_a) = (s.add(m[1], m[2]), s.sub(m[1], m[2]));
            let (sum_b, dif_b) = (s.add(m[3], m[4]), s.sub(m[3], m[4]));
            y[0] = s.add(m[0], s.add(sum_a, sum_b));
            y[1] = s.mul_add(k(a), dif_a, s.mul(k(b), dif_b));
            y[2] = s.mul_add(k(a2), sum_a, s.mul(k(b2), sum_b));
            y[3] = s.mul_add(k(a * a2), dif_a, s.mul_add(k(b * b2), dif_b, m[5]));
        }
        3 => {
            let (sum, dif) = (s.add(m[1], m[2]), s.sub(m[1], m[2]));
            y[0] = s.add(s.add(m[0], m[3]), sum);
            y[1] = s.mul_add(k(a), dif, s.mul(k(b), m[3]));
            y[2] = s.mul_add(k(a2), sum, s.mul_add(k(b2), m[3], m[5]));
        }
        2 => {
            y[0] = s.add(m[0], s.add(m[1], m[2]));
            y[1] = s.mul_add(k(a), s.sub(m[1], m[2]), m[5]);
        }
        _ => y[0] = s.add(s.add(m[0], m[1]), m[5]),
    }
    y
}

/// `A y`, the adjoint of [`output`], likewise.
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

/// `G g`: the three weights of a window's axis to the points.
#[inline(always)]
pub(super) fn weight<S: Simd, P: Scheme>(s: S, g: [S::V; 3]) -> Line<S> {
    let k = |value: f32| s.splat(value);
    let mut u = [s.zero(); POINTS];
    u[0] = s.mul(k(P::SCALES[0]), g[0]);
    u[5] = g[2];
    for (at, p, scale) in [
        (1, P::A, P::SCALES[1]),
        (3, P::B, P::SCALES[2]),
        (6, P::C.unwrap_or_default(), P::SCALES[3]),
    ] {
        let (even, odd) = (s.mul_add(k(p * p), g[2], g[0]), s.mul(k(p), g[1]));
        u[at] = s.mul(k(scale), s.add(even, odd));
        u[at + 1] = s.mul(k(scale), s.sub(even, odd));
    }
    u
}

/// `Gᵀ u`, the adjoint of [`weight`], likewise.
#[inline(always)]
pub(super) fn weight_adjoint<S: Simd>(s: S, u: Line<S>) -> [S::V; 3] {
    let k = |value: f32| s.splat(value);
    let [at_zero, at_a, at_b, _] = Four::SCALES;
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
