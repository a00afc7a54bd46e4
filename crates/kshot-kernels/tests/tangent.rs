//! The tangent rule and its backward pass, on every instruction set that this machine has, against the plain `f64` version.

mod common;

use common::{Case, TOLERANCE, block, both, eps, error, levels, shapes};
use kshot_kernels::plain::{self, PlainTangents};
use kshot_kernels::{
    BlockShape, Gradients, SimdLevel, TangentGradients, TangentSaved, Tangents, with_simd_level,
};
use proptest::prelude::*;

/// Directions for a case's operands and a second cotangent, in both precisions.
struct Directions {
    narrow: [Vec<f32>; 5],
    wide: [Vec<f64>; 5],
}

impl Directions {
    fn new(case: &Case, mut seed: u64, with_input: bool) -> Self {
        let (mut narrow, mut wide) = <([Vec<f32>; 5], [Vec<f64>; 5])>::default();
        for k in 0..5 {
            (narrow[k], wide[k]) = both(&mut seed, case.narrow[k].len());
        }
        if !with_input {
            wide[0].fill(0.0);
        }
        Self { narrow, wide }
    }
}

/// Outputs with their tangents, what is saved, and the gradients of both by the case's and the directions' cotangents.
type Passed = (Vec<f32>, Vec<f32>, TangentSaved, TangentGradients);

/// Both passes over a case.
fn pass(case: &Case, to: &Directions, with_input: bool, want_input: bool) -> Passed {
    let (shape, [x, w, gamma, beta, dout]) = (&case.shape, &case.narrow);
    let tangents = Tangents {
        input: with_input.then_some(&to.narrow[0]),
        weight: &to.narrow[1],
        gamma: &to.narrow[2],
        beta: &to.narrow[3],
    };
    let [mut out, mut tangent_out] = [(); 2].map(|()| vec![f32::NAN; shape.output_len()]);
    let outs = (&mut out, &mut tangent_out);
    let saved =
        kshot_kernels::tangent_forward(shape, x, w, gamma, beta, &tangents, eps(shape), outs.0, outs.1);
    let dtangent = &to.narrow[4];
    let found =
        kshot_kernels::tangent_backward(shape, x, w, gamma, &tangents, &saved, dout, dtangent, want_input);
    (out, tangent_out, saved, found)
}

fn check(case: &Case, to: &Directions, with_input: bool, level: SimdLevel) -> Result<(), TestCaseError> {
    let shape = &case.shape;
    let close = |what: &str, found: &[f32], expected: &[f64]| {
        let error = error(found, expected);
        prop_assert!(
            error < TOLERANCE,
            "{}: {what} is off by {error:.2e}",
            level.name()
        );
        Ok(())
    };
    if !case.is_decided(&case.plain()) {
        return Err(TestCaseError::reject("undecided"));
    }
    let [x, w, gamma, beta, dout] = &case.wide;
    let tangents = PlainTangents {
        input: &to.wide[0],
        weight: &to.wide[1],
        gamma: &to.wide[2],
        beta: &to.wide[3],
    };
    let plain = plain::tangent_forward(shape, (x, w, gamma, beta), &tangents, f64::from(eps(shape)));
    let expected = plain::tangent_backward(shape, (x, w, gamma), &tangents, &plain, dout, &to.wide[4]);

    let (out, tangent_out, saved, found) = pass(case, to, with_input, true);
    close("out", &out, &plain.primal.out)?;
    close("tangent out", &tangent_out, &plain.out)?;
    close("mean", saved.mean(), &plain.primal.mean)?;
    close("variance", saved.variance(), &plain.primal.variance)?;
    for (what, found, expected) in [
        ("primal", &found.primal, &expected.0),
        ("tangent", &found.tangent, &expected.1),
    ] {
        close(
            &format!("{what} weight gradient"),
            &found.weight,
            &expected.weight,
        )?;
        close(&format!("{what} gamma gradient"), &found.gamma, &expected.gamma)?;
        close(&format!("{what} beta gradient"), &found.beta, &expected.beta)?;
        close(
            &format!("{what} input gradient"),
            found.input.as_deref().unwrap_or(&[]),
            &expected.input,
        )?;
    }
    let without = pass(case, to, with_input, false).3;
    let close = |a: &Gradients, b: &Gradients| {
        let wide: Vec<f64> = b.weight.iter().map(|v| f64::from(*v)).collect();
        a.input.is_none() && error(&a.weight, &wide) < 1e-6
    };
    prop_assert!(close(&without.primal, &found.primal) && close(&without.tangent, &found.tangent));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_level_agrees_with_the_plain_version_on_random_shapes(
        shape in shapes(4, 10, 36),
        seed: u64,
        with_input: bool,
    ) {
        let case = Case::new(shape, seed);
        let to = Directions::new(&case, seed ^ 0xabcd, with_input);
        for level in levels() {
            with_simd_level(level, || check(&case, &to, with_input, level)).unwrap()?;
        }
    }
}

#[test]
fn every_level_agrees_with_the_plain_version_on_the_encoders_own_shapes() {
    for (images, side, c_in, c_out) in [(3, 28, 1, 64), (5, 14, 64, 64), (9, 7, 64, 64), (25, 3, 32, 32)] {
        let shape = BlockShape {
            ..block(images, side, c_in, c_out)
        };
        let case = Case::decided(shape);
        let to = Directions::new(&case, 18, c_in > 1);
        for level in levels() {
            with_simd_level(level, || check(&case, &to, c_in > 1, level))
                .unwrap()
                .unwrap();
        }
    }
}

#[test]
fn what_is_not_a_number_spoils_its_group_alone() {
    for (special, (c_in, c_out)) in [f32::NAN, f32::INFINITY]
        .into_iter()
        .flat_map(|special| [(1, 16), (5, 20), (16, 16)].map(|channels| (special, channels)))
    {
        let shape = BlockShape {
            groups: 2,
            ..block(4, 6, c_in, c_out)
        };
        let mut case = Case::new(shape, 3);
        let to = Directions::new(&case, 5, true);
        case.narrow[0][7] = special;
        for level in levels() {
            with_simd_level(level, || {
                let (out, tangent_out, _, found) = pass(&case, &to, true, true);
                let halves = |values: &[f32]| {
                    let (first, second) = values.split_at(values.len() / 2);
                    assert!(
                        first.iter().all(|v| v.is_nan()),
                        "{level:?} {shape:?}: the group with {special}"
                    );
                    assert!(
                        second.iter().all(|v| v.is_finite()),
                        "{level:?} {shape:?}: the other group"
                    );
                };
                halves(&out);
                halves(&tangent_out);
                for found in [found.primal, found.tangent] {
                    assert!(
                        found.weight.iter().all(|v| v.is_nan()),
                        "{level:?} {shape:?}: weight gradient"
                    );
                    let second = &found.input.unwrap()[shape.input_len() / 2..];
                    assert!(
                        second.iter().all(|v| v.is_finite()),
                        "{level:?} {shape:?}: input gradient"
                    );
                }
            })
            .unwrap();
        }
    }
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let case = Case::new(block(25, 14, 32, 32), 11);
    let to = Directions::new(&case, 12, true);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let (out, tangent_out, _, found) = pass(&case, &to, true, true);
            format!("{out:?} {tangent_out:?} {found:?}")
        })
    };
    assert!(run(1) == run(2));
}
