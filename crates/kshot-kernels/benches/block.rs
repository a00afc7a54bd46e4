//! Each part of the block on its own, beside what the machine can do at most: `cargo bench -p kshot-kernels --bench
//! block`. An element is a floating-point operation, counted as in a direct convolution.

mod machine;

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kshot_kernels::{Activation, Algorithm, BlockShape, Tangents, with_algorithm};
use machine::step::{Encoder, block, values};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn machine_limits(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("machine");
    group.throughput(Throughput::Elements(machine::multiply_add_flops() as u64));
    group.bench_function("multiply-add", |bencher| bencher.iter(machine::multiply_add));
    if machine::bf16_dot() {
        group.throughput(Throughput::Elements(machine::bf16_dot_flops() as u64));
        group.bench_function("bf16 dot product", |bencher| bencher.iter(machine::bf16_dot));
    }
    group.throughput(Throughput::Bytes(machine::Memory::bytes()));
    let mut memory = machine::Memory::new();
    group.bench_function("copy", |bencher| bencher.iter(|| memory.copy()));
}

/// The convolution and its gradients alone: no norm, no activation, no pool.
fn convolutions(criterion: &mut Criterion) {
    for side in [14, 7] {
        let shape = BlockShape {
            norm: false,
            pool: false,
            activation: Activation::Identity,
            ..block(120, side, 64)
        };
        let (x, w) = (values(shape.input_len(), 1), values(shape.weight_len(), 2));
        let (zeros, dout) = (vec![0.0; 64], values(shape.output_len(), 3));
        let mut out = vec![0.0; shape.output_len()];
        let saved = kshot_kernels::forward(&shape, &x, &w, &[], &zeros, 0.0, &mut out);
        let mut group = criterion.benchmark_group(format!("64 to 64 at {side}x{side}"));
        for algorithm in [Algorithm::Direct, Algorithm::Winograd] {
            let name = format!("{algorithm:?}").to_lowercase();
            group.throughput(Throughput::Elements(shape.flops() as u64));
            group.bench_function(format!("forward, {name}"), |bencher| {
                let ones = vec![1.0; 64];
                bencher.iter(|| {
                    with_algorithm(algorithm, || {
                        kshot_kernels::infer(&shape, &x, &w, &ones, &zeros, &mut out)
                    })
                });
            });
            let mut backward = |name: String, times: f64, want_input: bool| {
                group.throughput(Throughput::Elements((times * shape.flops()) as u64));
                group.bench_function(name, |bencher| {
                    bencher.iter(|| {
                        with_algorithm(algorithm, || {
                            kshot_kernels::backward(&shape, &x, &w, &[], &saved, &dout, want_input)
                        })
                    });
                });
            };
            backward(format!("weight gradient, {name}"), 1.0, false);
            backward(format!("weight and input gradient, {name}"), 2.0, true);
        }
    }
}

/// Many small tasks in one call, each with its own parameters: the pass itself, and the pass with its tangent, whose
/// gradients are a Hessian-vector product.
fn tasks(criterion: &mut Criterion) {
    let (groups, images) = (32, 160);
    let shape = BlockShape {
        groups,
        ..block(images, 14, 64)
    };
    let (x, w) = (
        values(shape.input_len(), 1),
        values(groups * shape.weight_len(), 2),
    );
    let (gamma, beta) = (vec![1.0; groups * 64], vec![0.1; groups * 64]);
    let dout = values(shape.output_len(), 3);
    let [mut out, mut tangent_out] = [(); 2].map(|()| vec![0.0; shape.output_len()]);
    let mut group = criterion.benchmark_group("32 tasks of 5 images, 64 to 64 at 14x14");
    group.throughput(Throughput::Elements((3.0 * shape.flops()) as u64));
    group.bench_function("forward and backward", |bencher| {
        bencher.iter(|| {
            let saved = kshot_kernels::forward(&shape, &x, &w, &gamma, &beta, 1e-5, &mut out);
            kshot_kernels::backward(&shape, &x, &w, &gamma, &saved, &dout, true)
        });
    });
    let tangents = Tangents {
        input: Some(&x),
        weight: &w,
        gamma: &gamma,
        beta: &beta,
    };
    group.throughput(Throughput::Elements((9.0 * shape.flops()) as u64));
    group.bench_function("forward and backward with tangents", |bencher| {
        bencher.iter(|| {
            let (outs, eps) = ((&mut out, &mut tangent_out), 1e-5);
            let saved =
                kshot_kernels::tangent_forward(&shape, &x, &w, &gamma, &beta, &tangents, eps, outs.0, outs.1);
            kshot_kernels::tangent_backward(&shape, &x, &w, &gamma, &tangents, &saved, &dout, &dout, true)
        });
    });
}

/// Forward and backward through four blocks.
fn steps(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("four blocks");
    for images in [600, 30] {
        let encoder = Encoder::new(images);
        let inference = encoder.inference();
        group.throughput(Throughput::Elements(encoder.flops() as u64));
        group.bench_function(format!("step of {images} images"), |bencher| {
            bencher.iter(|| encoder.step(|_, _| ()));
        });
        group.throughput(Throughput::Elements((encoder.flops() / 3.0) as u64));
        group.bench_function(format!("inference of {images} images"), |bencher| {
            bencher.iter(|| inference.run(encoder.images()));
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3));
    targets = machine_limits, convolutions, tasks, steps
}
criterion_main!(benches);
