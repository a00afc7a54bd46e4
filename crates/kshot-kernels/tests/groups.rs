//! Groups with their own parameters give what separate calls give.

mod common;

use common::{Case, EPS, both, error, levels, shapes};
use kshot_kernels::{BlockShape, Tangents, with_simd_level};
use proptest::prelude::*;

/// Both ways may choose different algorithms, so they agree as either agrees with the truth.
const TOLERANCE: f64 = 1e-4;

fn agree(what: &str, together: &[f32], apart: &[f32]) -> Result<(), TestCaseError> {
    let apart: Vec<f64> = apart.iter().map(|v| f64::from(*v)).collect();
    let error = error(together, &apart);
    prop_assert!(error < TOLERANCE, "{what} is off by {error:.2e}");
    Ok(())
}

fn part(values: &[f32], group: usize, groups: usize) -> &[f32] {
    &values[group * (values.len() / groups)..][..values.len() / groups]
}

fn check(shape: &BlockShape, seed: u64) -> Result<(), TestCaseError> {
    let mut seed = seed;
    let groups = shape.groups;
    let lens = [
        shape.input_len(),
        groups * shape.weight_len(),
        groups * shape.c_out,
        groups * shape.c_out,
        shape.output_len(),
    ];
    let [x, w, gamma, beta, dout] = lens.map(|len| both(&mut seed, len).0);
    let [dx, dw, dgamma, dbeta, dtangent] = lens.map(|len| both(&mut seed, len).0);
    let one = BlockShape {
        images: shape.images / groups,
        groups: 1,
        ..*shape
    };
    for group in 0..groups {
        // Two ways of rounding must not choose two winners.
        let mut case = Case::new(one, 0);
        for (k, values) in [&x, &w, &gamma, &beta, &dout].into_iter().enumerate() {
            case.narrow[k] = part(values, group, groups).to_vec();
            case.wide[k] = case.narrow[k].iter().map(|v| f64::from(*v)).collect();
        }
        if !case.is_decided(&case.plain()) {
            return Err(TestCaseError::reject("undecided"));
        }
    }
    let (out, saved) = kshot_kernels::forward_new(shape, &x, &w, &gamma, &beta, EPS);
    let found = kshot_kernels::backward(shape, &x, &w, &gamma, &saved, &dout, true);
    let inferred = kshot_kernels::infer_new(shape, &x, &w, &gamma, &beta);
    let tangents = Tangents {
        input: Some(&dx),
        weight: &dw,
        gamma: &dgamma,
        beta: &dbeta,
    };
    let [mut primal_out, mut tangent_out] = [(); 2].map(|()| vec![f32::NAN; shape.output_len()]);
    let tangent_saved = kshot_kernels::tangent_forward(
        shape,
        &x,
        &w,
        &gamma,
        &beta,
        &tangents,
        EPS,
        &mut primal_out,
        &mut tangent_out,
    );
    let both_found = kshot_kernels::tangent_backward(
        shape,
        &x,
        &w,
        &gamma,
        &tangents,
        &tangent_saved,
        &dout,
        &dtangent,
        true,
    );
    for group in 0..groups {
        let of = |values: &'static str, all: &[f32]| (values, part(all, group, groups).to_vec());
        let [x, w, gamma, beta, dout] =
            [&x, &w, &gamma, &beta, &dout].map(|values| part(values, group, groups));
        let (expected_out, saved) = kshot_kernels::forward_new(&one, x, w, gamma, beta, EPS);
        let expected = kshot_kernels::backward(&one, x, w, gamma, &saved, dout, true);
        let expected_inferred = kshot_kernels::infer_new(&one, x, w, gamma, beta);
        let tangents = Tangents {
            input: Some(part(&dx, group, groups)),
            weight: part(&dw, group, groups),
            gamma: part(&dgamma, group, groups),
            beta: part(&dbeta, group, groups),
        };
        let [mut out_one, mut tangent_one] = [(); 2].map(|()| vec![f32::NAN; one.output_len()]);
        let saved = kshot_kernels::tangent_forward(
            &one,
            x,
            w,
            gamma,
            beta,
            &tangents,
            EPS,
            &mut out_one,
            &mut tangent_one,
        );
        let dtangent = part(&dtangent, group, groups);
        let both_expected =
            kshot_kernels::tangent_backward(&one, x, w, gamma, &tangents, &saved, dout, dtangent, true);
        let input = |gradients: &kshot_kernels::Gradients| gradients.input.clone().unwrap_or_default();
        for ((what, together), apart) in [
            (of("out", &out), expected_out),
            (of("inference", &inferred), expected_inferred),
            (of("weight gradient", &found.weight), expected.weight.clone()),
            (of("gamma gradient", &found.gamma), expected.gamma.clone()),
            (of("beta gradient", &found.beta), expected.beta.clone()),
            (of("input gradient", &input(&found)), input(&expected)),
            (of("tangent out", &tangent_out), tangent_one),
            (
                of("primal weight", &both_found.primal.weight),
                both_expected.primal.weight.clone(),
            ),
            (
                of("primal gamma", &both_found.primal.gamma),
                both_expected.primal.gamma.clone(),
            ),
            (
                of("primal input", &input(&both_found.primal)),
                input(&both_expected.primal),
            ),
            (
                of("tangent weight", &both_found.tangent.weight),
                both_expected.tangent.weight.clone(),
            ),
            (
                of("tangent beta", &both_found.tangent.beta),
                both_expected.tangent.beta.clone(),
            ),
            (
                of("tangent input", &input(&both_found.tangent)),
                input(&both_expected.tangent),
            ),
        ] {
            agree(what, &together, &apart)?;
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn parameters_per_group_give_what_separate_calls_give(shape in shapes(4, 10, 36), seed: u64) {
        for level in levels() {
            with_simd_level(level, || check(&shape, seed)).unwrap()?;
        }
    }
}
