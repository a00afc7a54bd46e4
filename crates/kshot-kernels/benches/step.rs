//! One training step through four blocks of 64 channels, block by block: `cargo bench -p kshot-kernels --bench step
//! [-- IMAGES [REPEATS]]`.
//!
//! Every time is printed twice: on the wall, and as processor time over all threads, which other programs on the machine
//! disturb much less. Both are medians, and so are the limits, which are measured between the steps.

mod machine;

use kshot_kernels::SimdLevel;
use machine::clock::{Moment, median};
use machine::step::Encoder;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let numbers: Vec<usize> = std::env::args()
        .skip(1)
        .filter_map(|arg| arg.parse().ok())
        .collect();
    let (images, repeats) = (*numbers.first().unwrap_or(&600), *numbers.get(1).unwrap_or(&21));
    let threads = rayon::current_num_threads() as f64;
    let encoder = Encoder::new(images);
    let inference = encoder.inference();
    let mut memory = machine::Memory::new();
    let (mut limit, mut copies, mut steps, mut inferences) = (vec![], vec![], vec![], vec![]);
    let mut parts = vec![[vec![], vec![]]; 4];
    for round in 0..repeats + 2 {
        let start = Moment::now();
        machine::multiply_add();
        let elapsed = start.elapsed();
        let copy = Moment::now();
        memory.copy();
        let copied = copy.elapsed();
        let (start, mut last) = (Moment::now(), Moment::now());
        encoder.step(|block, backward| {
            if round >= 2 {
                parts[block][usize::from(backward)].push(last.elapsed());
            }
            last = Moment::now();
        });
        let stepped = start.elapsed();
        let start = Moment::now();
        std::hint::black_box(inference.run(encoder.images()));
        if round >= 2 {
            limit.push(elapsed);
            copies.push(copied);
            steps.push(stepped);
            inferences.push(start.elapsed());
        }
    }
    let per_core = machine::multiply_add_flops() / median(&limit)[1] / 1e9;
    println!(
        "{images} images, {threads} threads, {}; multiply-add limit {:.0} GFLOP/s on the wall, {per_core:.0} per processor \
         second; copy {:.1} GB/s",
        SimdLevel::current().name(),
        machine::multiply_add_flops() / median(&limit)[0] / 1e9,
        machine::Memory::bytes() as f64 / median(&copies)[0] / 1e9,
    );
    println!(
        "{:28} {:>10} {:>10} {:>12} {:>10}",
        "", "wall ms", "cpu ms", "GFLOP/cpu s", "of limit"
    );
    let row = |name: &str, flops: f64, time: [f64; 2]| {
        let rate = flops / time[1] / 1e9;
        let [wall, cpu] = time.map(|seconds| seconds * 1e3);
        println!(
            "{name:28} {wall:>10.2} {cpu:>10.2} {rate:>12.0} {:>10.2}",
            rate / per_core
        );
    };
    for (k, [forward, backward]) in parts.iter().enumerate() {
        let shape = &encoder.blocks[k];
        let name = format!("block {} ({}x{})", k + 1, shape.height, shape.width);
        row(&format!("{name} forward"), shape.flops(), median(forward));
        row(
            &format!("{name} backward"),
            if k > 0 { 2.0 } else { 1.0 } * shape.flops(),
            median(backward),
        );
    }
    row("step", encoder.flops(), median(&steps));
    row("inference", encoder.flops() / 3.0, median(&inferences));
    let [wall, cpu] = median(&steps).map(|seconds| images as f64 / seconds);
    println!("step: {wall:.0} images/s on the wall, {cpu:.0} per processor second");
    let [wall, cpu] = median(&inferences).map(|seconds| images as f64 / seconds);
    println!("inference: {wall:.0} images/s on the wall, {cpu:.0} per processor second");
}
