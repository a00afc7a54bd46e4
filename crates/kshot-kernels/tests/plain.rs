//! The plain version itself is right: its derivatives agree with central differences in `f64`.

mod common;

use common::values;
use kshot_kernels::BlockShape;
use kshot_kernels::plain::{self, PlainGradients, PlainTangents};
use proptest::prelude::*;

const EPS: f64 = 1e-3;
const STEP: f64 = 1e-5;

struct Case {
    shape: BlockShape,
    at: [Vec<f64>; 4],
    to: [Vec<f64>; 4],
    cotangent: [Vec<f64>; 2],
}

fn case(shape: BlockShape, mut seed: u64) -> Case {
    let s = &mut seed;
    let lens = [shape.input_len(), shape.weight_len(), shape.c_out, shape.c_out];
    Case {
        shape,
        at: lens.map(|len| values(s, len)),
        to: lens.map(|len| values(s, len)),
        cotangent: [values(s, shape.output_len()), values(s, shape.output_len())],
    }
}

fn moved(at: &[Vec<f64>; 4], to: &[Vec<f64>; 4], step: f64) -> [Vec<f64>; 4] {
    std::array::from_fn(|k| at[k].iter().zip(&to[k]).map(|(a, t)| a + step * t).collect())
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn dot_gradients(g: &PlainGradients, to: &[Vec<f64>; 4]) -> f64 {
    dot(&g.input, &to[0]) + dot(&g.weight, &to[1]) + dot(&g.gamma, &to[2]) + dot(&g.beta, &to[3])
}

/// Winners and signs must be the same on both sides, or the difference says nothing.
fn smooth(case: &Case, at: &[Vec<f64>; 4]) -> Option<plain::PlainForward> {
    let [x, w, g, b] = at;
    let here = plain::forward(
        &case.shape,
        &case.at[0],
        &case.at[1],
        &case.at[2],
        &case.at[3],
        EPS,
    );
    let there = plain::forward(&case.shape, x, w, g, b, EPS);
    (here.source == there.source && here.slope == there.slope).then_some(there)
}

fn tangent(case: &Case, at: &[Vec<f64>; 4], to: &[Vec<f64>; 4]) -> plain::PlainTangent {
    let tangents = PlainTangents {
        input: &to[0],
        weight: &to[1],
        gamma: &to[2],
        beta: &to[3],
    };
    plain::tangent_forward(&case.shape, (&at[0], &at[1], &at[2], &at[3]), &tangents, EPS)
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 2e-5 * (1.0 + a.abs() + b.abs())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn backward_and_tangent_agree_with_central_differences(shape in common::shapes(3, 6, 4), seed: u64) {
        let case = case(shape, seed);
        let [x, w, gamma, beta] = &case.at;
        let (Some(plus), Some(minus)) = (
            smooth(&case, &moved(&case.at, &case.to, STEP)),
            smooth(&case, &moved(&case.at, &case.to, -STEP)),
        ) else {
            return Err(TestCaseError::reject("a winner changes"));
        };
        let slope = (dot(&plus.out, &case.cotangent[0]) - dot(&minus.out, &case.cotangent[0])) / (2.0 * STEP);
        let saved = plain::forward(&shape, x, w, gamma, beta, EPS);
        let gradients = plain::backward(&shape, x, w, gamma, &saved, &case.cotangent[0]);
        let by_gradient = dot_gradients(&gradients, &case.to);
        prop_assert!(close(slope, by_gradient), "difference {slope}, gradient {by_gradient}");
        let by_tangent = dot(&tangent(&case, &case.at, &case.to).out, &case.cotangent[0]);
        prop_assert!(close(slope, by_tangent), "difference {slope}, tangent {by_tangent}");
    }

    #[test]
    fn tangent_backward_agrees_with_central_differences(shape in common::shapes(3, 6, 4), seed: u64) {
        let case = case(shape, seed);
        let mut other = seed ^ 0x5555;
        let [step_at, step_to] = [(); 2].map(|()| {
            [shape.input_len(), shape.weight_len(), shape.c_out, shape.c_out].map(|len| values(&mut other, len))
        });
        let value = |sign: f64| {
            let at = moved(&case.at, &step_at, sign * STEP);
            smooth(&case, &at)?;
            let t = tangent(&case, &at, &moved(&case.to, &step_to, sign * STEP));
            Some(dot(&t.primal.out, &case.cotangent[0]) + dot(&t.out, &case.cotangent[1]))
        };
        let (Some(plus), Some(minus)) = (value(1.0), value(-1.0)) else {
            return Err(TestCaseError::reject("a winner changes"));
        };
        let slope = (plus - minus) / (2.0 * STEP);
        let saved = tangent(&case, &case.at, &case.to);
        let tangents = PlainTangents {
            input: &case.to[0], weight: &case.to[1], gamma: &case.to[2], beta: &case.to[3],
        };
        let (primal, tangent) = plain::tangent_backward(
            &shape,
            (&case.at[0], &case.at[1], &case.at[2]),
            &tangents,
            &saved,
            &case.cotangent[0],
            &case.cotangent[1],
        );
        let by_gradient = dot_gradients(&primal, &step_at) + dot_gradients(&tangent, &step_to);
        prop_assert!(close(slope, by_gradient), "difference {slope}, gradient {by_gradient}");
    }
}
