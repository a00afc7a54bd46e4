//! The recurrent update rule that all coordinates share: a long short-term memory whose output sets the forget and input
//! gates of a second one, the state of which is the coordinate itself.
//!
//! With gₜ a coordinate's gradient and h the units of the first memory, fed with preprocessed loss and gradient:
//!
//! ```text
//! h, c = LSTM([loss, gradient, h], c)
//! fₜ = σ(w_f · [hₜ, θₜ₋₁, fₜ₋₁] + b_f),   iₜ = σ(w_i · [hₜ, θₜ₋₁, iₜ₋₁] + b_i)
//! θₜ = fₜ θₜ₋₁ − iₜ gₜ
//! ```
//!
//! Arrays are `[units, coordinates]`, so that the inner loops run along coordinates.

/// Coordinates that are worked on together: their states over a dozen steps fit into a core's cache.
pub const CHUNK: usize = 256;

/// Preprocessed numbers per coordinate and step: two of the loss, two of the gradient.
const FED: usize = 4;

/// The rule's numbers.
#[derive(Clone, Copy)]
pub struct Cell<'a> {
    /// Units of the first memory.
    pub units: usize,
    /// `[4 + units, 4 * units]`: input, forget, candidate and output gates side by side.
    pub weight: &'a [f32],
    /// `[4 * units]`.
    pub bias: &'a [f32],
    /// Weights `[units + 2]` and bias of the forget gate.
    pub forget: (&'a [f32], f32),
    /// Weights `[units + 2]` and bias of the input gate.
    pub input: (&'a [f32], f32),
}

/// What some coordinates carry from step to step.
#[derive(Clone)]
pub struct State {
    /// The coordinates themselves.
    pub theta: Vec<f32>,
    h: Vec<f32>,
    c: Vec<f32>,
    f: Vec<f32>,
    i: Vec<f32>,
}

/// One step as the backward pass needs it.
struct Taped {
    before: State,
    after: State,
    gates: Vec<f32>,
    fed: [Vec<f32>; 2],
}

/// Gradients with respect to a [`Cell`]'s numbers.
#[derive(Clone, Debug)]
pub struct CellGradients {
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
    pub forget: (Vec<f32>, f32),
    pub input: (Vec<f32>, f32),
}

impl State {
    /// Before the first step, at the coordinates `theta`.
    pub fn new(theta: &[f32], units: usize) -> Self {
        let n = theta.len();
        Self {
            theta: theta.to_vec(),
            h: vec![0.0; units * n],
            c: vec![0.0; units * n],
            f: vec![0.0; n],
            i: vec![0.0; n],
        }
    }
}

impl Cell<'_> {
    /// Moves the coordinates by one step, given their gradient and the loss.
    pub fn step(&self, state: &mut State, loss: f32, gradient: &[f32]) {
        self.advance(state, loss, gradient);
    }

    /// Gates and preprocessed gradients of the step.
    fn advance(&self, state: &mut State, loss: f32, gradient: &[f32]) -> (Vec<f32>, [Vec<f32>; 2]) {
        let (n, units) = (gradient.len(), self.units);
        let (loss_log, loss_sign) = preprocess(loss);
        let fed: (Vec<f32>, Vec<f32>) = gradient.iter().map(|g| preprocess(*g)).unzip();
        let fed = [fed.0, fed.1];
        let mut gates = vec![0.0; 4 * units * n];
        for (k, gate) in gates.chunks_exact_mut(n).enumerate() {
            let weight = |input: usize| self.weight[input * 4 * units + k];
            gate.fill(self.bias[k] + weight(0) * loss_log + weight(1) * loss_sign);
            let inputs = fed.iter().map(Vec::as_slice).chain(state.h.chunks_exact(n));
            for (input, values) in inputs.enumerate() {
                add_scaled(gate, weight(input + 2), values);
            }
            let candidate = (2 * units..3 * units).contains(&k);
            for value in gate {
                *value = if candidate { tanh(*value) } else { sigmoid(*value) };
            }
        }
        let (i, rest) = gates.split_at(units * n);
        let (f, rest) = rest.split_at(units * n);
        let (g, o) = rest.split_at(units * n);
        for place in 0..units * n {
            state.c[place] = f[place] * state.c[place] + i[place] * g[place];
            state.h[place] = o[place] * tanh(state.c[place]);
        }
        state.f = self.gate(self.forget, state, &state.f);
        state.i = self.gate(self.input, state, &state.i);
        for (place, theta) in state.theta.iter_mut().enumerate() {
            *theta = state.f[place] * *theta - state.i[place] * gradient[place];
        }
        (gates, fed)
    }

    fn gate(&self, (weight, bias): (&[f32], f32), state: &State, before: &[f32]) -> Vec<f32> {
        let n = before.len();
        let mut gate = vec![bias; n];
        let inputs = state.h.chunks_exact(n).chain([state.theta.as_slice(), before]);
        for (weight, values) in weight.iter().zip(inputs) {
            add_scaled(&mut gate, *weight, values);
        }
        gate.iter_mut().for_each(|value| *value = sigmoid(*value));
        gate
    }

    /// Repeats the steps from `theta` with these losses and gradients (which carry no derivative), and gives the
    /// gradients for the gradient `slope` of the last coordinates: with respect to the rule, and to `theta`.
    pub fn backward(
        &self,
        theta: &[f32],
        steps: &[(f32, &[f32])],
        slope: &[f32],
    ) -> (CellGradients, Vec<f32>) {
        let (n, units) = (theta.len(), self.units);
        let mut state = State::new(theta, units);
        let tape: Vec<Taped> = steps
            .iter()
            .map(|(loss, gradient)| {
                let before = state.clone();
                let (gates, fed) = self.advance(&mut state, *loss, gradient);
                Taped {
                    before,
                    after: state.clone(),
                    gates,
                    fed,
                }
            })
            .collect();
        let mut found = CellGradients::zeros(units);
        let mut d = State::new(&vec![0.0; n], units);
        d.theta = slope.to_vec();
        for (step, (loss, gradient)) in tape.iter().zip(steps).rev() {
            self.backward_gates(step, gradient, &mut d, &mut found);
            self.backward_memory(step, *loss, &mut d, &mut found);
        }
        (found, d.theta)
    }

    /// Through θₜ = f θₜ₋₁ − i g and its gates; `d` then holds the gradients of θₜ₋₁, fₜ₋₁, iₜ₋₁ and of hₜ.
    fn backward_gates(&self, step: &Taped, gradient: &[f32], d: &mut State, found: &mut CellGradients) {
        let n = gradient.len();
        let (before, after) = (&step.before, &step.after);
        let mut by_forget = vec![0.0; n];
        let mut by_input = vec![0.0; n];
        for place in 0..n {
            let (f, i) = (after.f[place], after.i[place]);
            by_forget[place] = (d.theta[place] * before.theta[place] + d.f[place]) * f * (1.0 - f);
            by_input[place] = (d.i[place] - d.theta[place] * gradient[place]) * i * (1.0 - i);
            d.theta[place] *= f;
        }
        let units = self.units;
        for (by, (weight, _), (to, bias), last, d_last) in [
            (&by_forget, self.forget, &mut found.forget, &before.f, &mut d.f),
            (&by_input, self.input, &mut found.input, &before.i, &mut d.i),
        ] {
            *bias += by.iter().sum::<f32>();
            let inputs = after.h.chunks_exact(n).chain([before.theta.as_slice(), last]);
            to.iter_mut()
                .zip(inputs)
                .for_each(|(to, values)| *to += dot(by, values));
            for (dh, weight) in d.h.chunks_exact_mut(n).zip(weight) {
                add_scaled(dh, *weight, by);
            }
            add_scaled(&mut d.theta, weight[units], by);
            for (to, by) in d_last.iter_mut().zip(by) {
                *to = weight[units + 1] * by;
            }
        }
    }

    /// Through the first memory; `d` then holds the gradients of hₜ₋₁ and cₜ₋₁.
    fn backward_memory(&self, step: &Taped, loss: f32, d: &mut State, found: &mut CellGradients) {
        let (n, units) = (d.theta.len(), self.units);
        let size = units * n;
        let mut slopes = vec![0.0; 4 * size];
        for place in 0..size {
            let [i, f, g, o] = [0, 1, 2, 3].map(|gate| step.gates[gate * size + place]);
            let active = tanh(step.after.c[place]);
            let dc = d.c[place] + d.h[place] * o * (1.0 - active * active);
            slopes[place] = dc * g * i * (1.0 - i);
            slopes[size + place] = dc * step.before.c[place] * f * (1.0 - f);
            slopes[2 * size + place] = dc * i * (1.0 - g * g);
            slopes[3 * size + place] = d.h[place] * active * o * (1.0 - o);
            d.c[place] = dc * f;
        }
        d.h.fill(0.0);
        let (loss_log, loss_sign) = preprocess(loss);
        for (k, slope) in slopes.chunks_exact(n).enumerate() {
            let sum: f32 = slope.iter().sum();
            found.bias[k] += sum;
            found.weight[k] += loss_log * sum;
            found.weight[4 * units + k] += loss_sign * sum;
            let inputs = step
                .fed
                .iter()
                .map(Vec::as_slice)
                .chain(step.before.h.chunks_exact(n));
            for (input, values) in inputs.enumerate() {
                found.weight[(input + 2) * 4 * units + k] += dot(slope, values);
            }
            for (unit, dh) in d.h.chunks_exact_mut(n).enumerate() {
                add_scaled(dh, self.weight[(FED + unit) * 4 * units + k], slope);
            }
        }
    }
}

impl CellGradients {
    /// All 0, for `units` units.
    pub fn zeros(units: usize) -> Self {
        Self {
            weight: vec![0.0; (FED + units) * 4 * units],
            bias: vec![0.0; 4 * units],
            forget: (vec![0.0; units + 2], 0.0),
            input: (vec![0.0; units + 2], 0.0),
        }
    }

    /// self ← self + other.
    pub fn add(&mut self, other: &Self) {
        add_scaled(&mut self.weight, 1.0, &other.weight);
        add_scaled(&mut self.bias, 1.0, &other.bias);
        add_scaled(&mut self.forget.0, 1.0, &other.forget.0);
        add_scaled(&mut self.input.0, 1.0, &other.input.0);
        self.forget.1 += other.forget.1;
        self.input.1 += other.input.1;
    }
}

/// (log|x| / 10, sign x) where |x| ≥ e⁻¹⁰, (−1, e¹⁰ x) elsewhere (Andrychowicz et al. 2016, appendix A).
pub fn preprocess(x: f32) -> (f32, f32) {
    const P: f32 = 10.0;
    if x.abs() >= (-P).exp() {
        (x.abs().ln() / P, x.signum())
    } else {
        (-1.0, P.exp() * x)
    }
}

fn add_scaled(to: &mut [f32], scale: f32, values: &[f32]) {
    to.iter_mut()
        .zip(values)
        .for_each(|(to, value)| *to += scale * value);
}

/// In eight partial sums, which the compiler keeps in vector lanes.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 8];
    let (a, b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a.zip(b) {
        for lane in 0..8 {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    lanes.iter().sum::<f32>() + rest
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

fn tanh(x: f32) -> f32 {
    2.0 / (1.0 + exp(-2.0 * x)) - 1.0
}

/// eˣ within a few units in the last place, written so that the compiler can do several at once: 2ⁿ times a polynomial
/// on ± ln 2 / 2.
fn exp(x: f32) -> f32 {
    /// Adding and taking it away rounds to a whole number.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 87.0);
    let n = (x * std::f32::consts::LOG2_E + ROUND) - ROUND;
    let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let tail = r * (1.0 / 720.0);
    let p = 1.0 + r * (1.0 + r * (0.5 + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * (1.0 / 120.0 + tail)))));
    p * f32::from_bits(((n as i32 + 127) << 23) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;
    use rand::RngExt;

    #[test]
    fn the_exponential_is_exact_to_single_precision() {
        for x in (-870..870).map(|x| x as f32 / 10.0) {
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) - exact).abs() < 4e-7 * exact, "{x}");
        }
    }

    #[test]
    fn small_numbers_are_stretched_and_large_ones_compressed() {
        assert_eq!(preprocess(0.0), (-1.0, 0.0));
        assert_eq!(preprocess(-1.0), (0.0, -1.0));
        let (log, sign) = preprocess(std::f32::consts::E);
        assert!((log - 0.1).abs() < 1e-7 && sign == 1.0);
    }

    #[test]
    fn gradients_agree_with_central_differences() {
        const UNITS: usize = 3;
        const N: usize = 10;
        let mut rng = random::stream(7, &[]);
        let mut draw =
            |count: usize| -> Vec<f32> { (0..count).map(|_| rng.random_range(-1.0..1.0)).collect() };
        let numbers = [
            draw((FED + UNITS) * 4 * UNITS),
            draw(4 * UNITS),
            draw(UNITS + 2),
            draw(UNITS + 2),
            draw(2),
        ];
        let (theta, slope) = (draw(N), draw(N));
        let steps: Vec<(f32, Vec<f32>)> = (0..4).map(|step| (0.5 + step as f32, draw(N))).collect();
        let steps: Vec<(f32, &[f32])> = steps.iter().map(|(loss, g)| (*loss, g.as_slice())).collect();
        fn cell(numbers: &[Vec<f32>; 5]) -> Cell<'_> {
            Cell {
                units: UNITS,
                weight: &numbers[0],
                bias: &numbers[1],
                forget: (&numbers[2], numbers[4][0]),
                input: (&numbers[3], numbers[4][1]),
            }
        }
        let end = |numbers: &[Vec<f32>; 5], theta: &[f32]| -> f64 {
            let mut state = State::new(theta, UNITS);
            for (loss, gradient) in &steps {
                cell(numbers).step(&mut state, *loss, gradient);
            }
            state
                .theta
                .iter()
                .zip(&slope)
                .map(|(a, b)| f64::from(a * b))
                .sum()
        };
        let (found, by_theta) = cell(&numbers).backward(&theta, &steps, &slope);
        let biases = vec![found.forget.1, found.input.1];
        let found = [found.weight, found.bias, found.forget.0, found.input.0, biases];
        const REACH: f32 = 1e-2;
        for (group, gradient) in found.iter().enumerate() {
            for (place, gradient) in gradient.iter().enumerate() {
                let at = |by: f32| {
                    let mut moved = numbers.clone();
                    moved[group][place] += by;
                    end(&moved, &theta)
                };
                let difference = (at(REACH) - at(-REACH)) / f64::from(2.0 * REACH);
                assert!(
                    (difference - f64::from(*gradient)).abs() < 2e-3,
                    "{group} {place}: {difference} {gradient}"
                );
            }
        }
        for (place, gradient) in by_theta.iter().enumerate() {
            let at = |by: f32| {
                let mut moved = theta.clone();
                moved[place] += by;
                end(&numbers, &moved)
            };
            let difference = (at(REACH) - at(-REACH)) / f64::from(2.0 * REACH);
            assert!(
                (difference - f64::from(*gradient)).abs() < 2e-3,
                "{place}: {difference} {gradient}"
            );
        }
    }
}
