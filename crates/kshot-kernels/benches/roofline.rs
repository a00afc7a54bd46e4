//! Every kernel beside the two things that can hold it, the machine's multiply-adds and its memory: `cargo bench -p
//! kshot-kernels --bench roofline [-- REPEATS]` prints a table in Markdown.
//!
//! Operations are counted as in the plain formulas (a convolution as a direct one), bytes as what must be read and written at
//! least: inputs and outputs once. Both limits are measured between the kernels; shares are of processor time over all
//! threads, medians.

mod machine;

use std::hint::black_box;

use kshot_kernels::{
    Activation, Algorithm, BlockShape, COORDINATE_HIDDEN, CoordinateLstm, CoordinateMlp, JoinShape,
    MemoryNetwork, PairsShape, RuleInputs, SimdLevel, Tangents, UpdateRule, with_algorithm,
};
use machine::clock::{Moment, median};
use machine::step::{block, values};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A kernel's work in one call.
struct Work {
    name: String,
    /// Floating-point operations.
    flops: f64,
    /// Floats read and written at least.
    floats: usize,
}

/// Runs everything in turn, so that a disturbance doesn't fall on one kernel alone.
struct Table {
    repeats: usize,
    memory: machine::Memory,
    multiply_adds: Vec<[f64; 2]>,
    copies: Vec<[f64; 2]>,
    rows: Vec<(Work, [f64; 2])>,
}

impl Table {
    fn measure(&mut self, name: impl Into<String>, flops: f64, floats: usize, mut run: impl FnMut()) {
        run();
        let mut times = Vec::new();
        for _ in 0..self.repeats {
            let start = Moment::now();
            machine::multiply_add();
            self.multiply_adds.push(start.elapsed());
            let start = Moment::now();
            self.memory.copy();
            self.copies.push(start.elapsed());
            run();
            // Long enough for the clock: a call may take less than its resolution.
            let start = Moment::now();
            let mut calls = 0.0;
            while calls == 0.0 || start.elapsed()[0] < 0.02 {
                run();
                calls += 1.0;
            }
            times.push(start.elapsed().map(|seconds| seconds / calls));
        }
        let name = name.into();
        self.rows.push((Work { name, flops, floats }, median(&times)));
    }

    fn print(&self) {
        let per_second = machine::multiply_add_flops() / median(&self.multiply_adds)[1];
        let [wall, cpu] = median(&self.copies).map(|seconds| machine::Memory::bytes() as f64 / seconds);
        println!(
            "{}, {} threads: {:.0} GFLOP/s of multiply-adds a thread, {:.1} GB/s of copying together\n",
            SimdLevel::current().name(),
            rayon::current_num_threads(),
            per_second / 1e9,
            wall / 1e9,
        );
        println!(
            "| kernel | wall, ms | GFLOP/s a thread | of multiply-adds | GB/s a thread | of copying |\n|---|---|---|---|---|---|"
        );
        for (work, [wall, seconds]) in &self.rows {
            let (flops, bytes) = (work.flops / seconds, 4.0 * work.floats as f64 / seconds);
            println!(
                "| {} | {:.3} | {:.1} | {:.0} % | {:.2} | {:.0} % |",
                work.name,
                wall * 1e3,
                flops / 1e9,
                100.0 * flops / per_second,
                bytes / 1e9,
                100.0 * bytes / cpu,
            );
        }
    }
}

fn main() {
    let repeats = std::env::args()
        .skip(1)
        .find_map(|arg| arg.parse().ok())
        .unwrap_or(9);
    let mut table = Table {
        repeats,
        memory: machine::Memory::new(),
        multiply_adds: Vec::new(),
        copies: Vec::new(),
        rows: Vec::new(),
    };
    convolutions(&mut table);
    blocks(&mut table);
    tangents(&mut table);
    joins(&mut table);
    pairs(&mut table);
    coordinates(&mut table);
    memory(&mut table);
    table.print();
}

/// Convolutions and their gradients alone, both ways.
fn convolutions(table: &mut Table) {
    for side in [14, 7] {
        let shape = BlockShape {
            norm: false,
            pool: false,
            activation: Activation::Identity,
            ..block(120, side, 64)
        };
        let (x, w, dout) = (
            values(shape.input_len(), 1),
            values(shape.weight_len(), 2),
            values(shape.output_len(), 3),
        );
        let (ones, zeros) = (vec![1.0; 64], vec![0.0; 64]);
        let (mut out, saved) = kshot_kernels::forward_new(&shape, &x, &w, &[], &zeros, 0.0);
        let maps = x.len() + out.len() + w.len();
        for algorithm in [Algorithm::Direct, Algorithm::Winograd] {
            let name = |what: &str| {
                let algorithm = format!("{algorithm:?}").to_lowercase();
                format!("convolution 64→64, 120 images of {side}×{side}, {algorithm}: {what}")
            };
            table.measure(name("forward"), shape.flops(), maps, || {
                with_algorithm(algorithm, || {
                    kshot_kernels::infer(&shape, &x, &w, &ones, &zeros, &mut out)
                });
            });
            let backward = |want_input| {
                black_box(with_algorithm(algorithm, || {
                    kshot_kernels::backward(&shape, &x, &w, &[], &saved, &dout, want_input)
                }));
            };
            table.measure(name("weight gradient"), shape.flops(), maps, || backward(false));
            table.measure(
                name("weight and input gradient"),
                2.0 * shape.flops(),
                2 * maps,
                || backward(true),
            );
            // The input gradient is never formed alone: what is left of the two.
            let seconds = |back: usize| table.rows[table.rows.len() - back].1;
            let left = std::array::from_fn(|k| seconds(1)[k] - seconds(2)[k]);
            let work = Work {
                name: name("input gradient (the difference)"),
                flops: shape.flops(),
                floats: maps,
            };
            table.rows.push((work, left));
        }
    }
}

/// Whole blocks: training forward and backward, inference.
fn blocks(table: &mut Table) {
    let residual = BlockShape {
        c_out: 128,
        kernel: 1,
        padding: 0,
        activation: Activation::Identity,
        pool: false,
        ..block(32, 42, 64)
    };
    let wide = BlockShape {
        c_out: 640,
        activation: Activation::LeakyRelu(0.1),
        pool: false,
        ..block(32, 10, 320)
    };
    for (name, shape) in [
        ("block 1→64, 28×28, 120 images", block(120, 28, 1)),
        ("block 3→64, 84×84, 8 images", block(8, 84, 3)),
        ("block 64→64, 14×14, 120 images", block(120, 14, 64)),
        ("block 64→64, 7×7, 120 images", block(120, 7, 64)),
        ("block 64→64, 3×3, 120 images", block(120, 3, 64)),
        ("block 64→64, 14×14, 5 images", block(5, 14, 64)),
        ("block 64→128, 1×1 window, 42×42, 32 images", residual),
        ("block 320→640, 10×10, 32 images", wide),
    ] {
        let (x, w, dout) = (
            values(shape.input_len(), 1),
            values(shape.weight_len(), 2),
            values(shape.output_len(), 3),
        );
        let (gamma, beta) = (vec![1.0; shape.c_out], vec![0.1; shape.c_out]);
        let (mut out, saved) = kshot_kernels::forward_new(&shape, &x, &w, &gamma, &beta, 1e-5);
        let maps = x.len() + out.len() + w.len();
        let first = shape.c_in < 16;
        table.measure(format!("{name}: forward"), shape.flops(), maps, || {
            black_box(kshot_kernels::forward(
                &shape, &x, &w, &gamma, &beta, 1e-5, &mut out,
            ));
        });
        let times = if first { 1.0 } else { 2.0 };
        let gradients = if first {
            "weight gradient"
        } else {
            "both gradients"
        };
        table.measure(
            format!("{name}: {gradients}"),
            times * shape.flops(),
            2 * maps,
            || {
                black_box(kshot_kernels::backward(
                    &shape, &x, &w, &gamma, &saved, &dout, !first,
                ));
            },
        );
        table.measure(format!("{name}: inference"), shape.flops(), maps, || {
            kshot_kernels::infer(&shape, &x, &w, &gamma, &beta, &mut out);
        });
    }
}

/// Tasks with parameters of their own, and their directional derivatives.
fn tangents(table: &mut Table) {
    let groups = 32;
    let shape = BlockShape {
        groups,
        ..block(5 * groups, 14, 64)
    };
    let (x, w) = (
        values(shape.input_len(), 1),
        values(groups * shape.weight_len(), 2),
    );
    let (gamma, beta) = (vec![1.0; groups * 64], vec![0.1; groups * 64]);
    let dout = values(shape.output_len(), 3);
    let [mut out, mut tangent_out] = [(); 2].map(|()| vec![0.0; shape.output_len()]);
    let maps = x.len() + out.len() + w.len();
    let name = "32 tasks of 5 images, 64→64, 14×14";
    let tangents = Tangents {
        input: Some(&x),
        weight: &w,
        gamma: &gamma,
        beta: &beta,
    };
    // y and ẏ = x∗ẇ + ẋ∗w, then the gradients of all operands of both.
    table.measure(
        format!("{name}: forward with tangent"),
        3.0 * shape.flops(),
        2 * maps,
        || {
            let outs = (&mut out, &mut tangent_out);
            black_box(kshot_kernels::tangent_forward(
                &shape, &x, &w, &gamma, &beta, &tangents, 1e-5, outs.0, outs.1,
            ));
        },
    );
    let saved = kshot_kernels::tangent_forward(
        &shape,
        &x,
        &w,
        &gamma,
        &beta,
        &tangents,
        1e-5,
        &mut out,
        &mut tangent_out,
    );
    table.measure(
        format!("{name}: gradients of both"),
        6.0 * shape.flops(),
        4 * maps,
        || {
            black_box(kshot_kernels::tangent_backward(
                &shape, &x, &w, &gamma, &tangents, &saved, &dout, &dout, true,
            ));
        },
    );
}

/// The end of a residual block: an addition, a comparison and a product for each pixel, three comparisons for each window.
fn joins(table: &mut Table) {
    let shape = JoinShape {
        images: 32,
        height: 42,
        width: 42,
        channels: 64,
        slope: 0.1,
    };
    let (a, b, dout) = (
        values(shape.input_len(), 1),
        values(shape.input_len(), 2),
        values(shape.output_len(), 3),
    );
    let (_, codes) = kshot_kernels::join_forward(&shape, &a, &b);
    let flops = (3 * a.len() + 3 * dout.len()) as f64;
    table.measure(
        "residual end, 32 maps of 42×42×64: forward",
        flops,
        2 * a.len() + dout.len(),
        || {
            black_box(kshot_kernels::join_forward(&shape, &a, &b));
        },
    );
    table.measure(
        "residual end: gradient",
        dout.len() as f64,
        a.len() + dout.len(),
        || {
            black_box(kshot_kernels::join_backward(&shape, &codes, &dout));
        },
    );
}

/// Sum, norm, ReLU and pool of all pairs of maps: an addition, a product and an addition for each pixel, four comparisons for each
/// window.
fn pairs(table: &mut Table) {
    let shape = PairsShape {
        left: 20,
        right: 200,
        height: 5,
        width: 5,
        channels: 64,
    };
    let map = shape.height * shape.width * shape.channels;
    let (left, right) = (values(shape.left * map, 1), values(shape.right * map, 2));
    let (gamma, beta) = (vec![1.0; 64], vec![0.1; 64]);
    let (out, saved) = kshot_kernels::pairs_forward(&shape, &left, &right, &gamma, &beta, 1e-5);
    let dout = values(out.len(), 3);
    let flops = (3 * shape.left * shape.right * map + 4 * out.len()) as f64;
    let floats = left.len() + right.len() + out.len();
    table.measure("4,000 pairs of maps of 5×5×64: forward", flops, floats, || {
        black_box(kshot_kernels::pairs_forward(
            &shape, &left, &right, &gamma, &beta, 1e-5,
        ));
    });
    table.measure("pairs: gradients", flops, floats, || {
        black_box(kshot_kernels::pairs_backward(
            &shape, &left, &right, &gamma, &saved, &dout,
        ));
    });
    table.measure("pairs: inference", flops, floats, || {
        black_box(kshot_kernels::pairs_infer(&shape, &left, &right, &gamma, &beta));
    });
}

/// Small networks on each of 100,000 coordinates, and an update rule of 20 units. A gradient is counted as twice its forward pass,
/// which it also takes again.
fn coordinates(table: &mut Table) {
    let (n, steps, units) = (100_000, 5, COORDINATE_HIDDEN);
    let x = values(steps * 2 * n, 1);
    let dy = values(n, 2);
    let [weight, bias, output] = [(2 + units) * 4 * units, 4 * units, units].map(|len| values(len, 3));
    let lstm = CoordinateLstm {
        weight: &weight,
        bias: &bias,
        output: &output,
        output_bias: &[0.0],
    };
    let flops = (2 * n * (steps * weight.len() + units)) as f64;
    table.measure(
        "LSTM of 20 units on 100,000 coordinates, 5 steps: forward",
        flops,
        x.len() + n,
        || {
            black_box(lstm.forward(steps, &x));
        },
    );
    table.measure(
        "LSTM on coordinates: gradients",
        3.0 * flops,
        x.len() + 2 * n,
        || {
            black_box(lstm.gradients(steps, &x, &dy));
        },
    );
    let [first, second] = [2 * units, units * units].map(|len| values(len, 4));
    let mlp = CoordinateMlp {
        first: &first,
        first_bias: &output,
        second: &second,
        second_bias: &output,
        output: &output,
        output_bias: &[0.0],
    };
    let (x, flops) = (&x[..2 * n], (2 * n * (first.len() + second.len() + units)) as f64);
    table.measure(
        "perceptron of 20 units on 100,000 coordinates: forward",
        flops,
        x.len() + n,
        || {
            black_box(mlp.forward(x));
        },
    );
    table.measure(
        "perceptron on coordinates: gradients",
        3.0 * flops,
        x.len() + 2 * n,
        || {
            black_box(mlp.gradients(x, &dy));
        },
    );
    let [weight, gate] = [(4 + units) * 4 * units, units + 2].map(|len| values(len, 5));
    let rule = UpdateRule {
        units,
        weight: &weight,
        bias: &bias,
        forget: (&gate, 4.0),
        input: (&gate, -5.0),
    };
    let told = RuleInputs {
        shared: [0.1, 0.2],
        inputs: x,
        gradient: &dy,
    };
    let flops = (2 * n * (weight.len() + 2 * gate.len())) as f64;
    let mut state = rule.start(&dy);
    table.measure(
        "update rule of 20 units on 100,000 coordinates: a step",
        flops,
        (4 + 4 * units) * n,
        || {
            rule.step(&mut state, told);
        },
    );
    table.measure(
        "update rule: gradients over 5 steps",
        15.0 * flops,
        5 * 4 * n,
        || {
            black_box(rule.gradients(&dy, &[told; 5], &dy));
        },
    );
}

/// An LSTM of 200 units with a memory of 128 rows by 40 and 4 heads, 16 sequences of 50 steps.
fn memory(table: &mut Table) {
    let (hidden, rows, width, heads, n, steps) = (200, 128, 40, 4, 16, 50);
    let emitted = heads * (width + 2);
    let columns = hidden + heads * width;
    let [recurrent, emit, bias] = [columns * 4 * hidden, hidden * emitted, emitted].map(|len| values(len, 1));
    let network = MemoryNetwork {
        hidden,
        rows,
        width,
        heads,
        usage_decay: 0.95,
        vectors: false,
        sharpened: true,
        recurrent: &recurrent,
        emit: &emit,
        emit_bias: &bias,
    };
    assert_eq!(network.emitted(), emitted);
    let gates = values(steps * n * 4 * hidden, 2);
    let slope = values(steps * n * columns, 3);
    let (_, tape) = network.forward(n, &gates);
    // The weights, then for each head similarities, reading and writing: three passes over the memory.
    let flops = (2 * n * steps * (recurrent.len() + emit.len() + 3 * heads * rows * width)) as f64;
    let floats = gates.len() + slope.len() + recurrent.len() + emit.len();
    table.measure(
        "LSTM of 200 units with a memory, 16 sequences of 50: forward",
        flops,
        floats,
        || {
            black_box(network.forward(n, &gates));
        },
    );
    table.measure("LSTM with a memory: gradients", 2.0 * flops, 2 * floats, || {
        black_box(network.backward(&tape, &slope));
    });
}
