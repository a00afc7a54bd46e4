//! Chooses the instruction set at run time.

use std::cell::Cell;
use std::sync::OnceLock;

use thiserror::Error;

use crate::kernels::direct::Conv;
use crate::kernels::ending::Ending;
use crate::kernels::epilogue::{Pixels, Pool, Spread};
use crate::kernels::memory::Product;
use crate::kernels::patches::{Planes, Winners};
use crate::kernels::rule::{RuleSlopes, RuleStep, RuleWeights};
use crate::kernels::winograd::{Tiles, Tiling};
use crate::simd::portable::Portable;

/// The environment variable that names the instruction set to use.
pub const SIMD_VARIABLE: &str = "KSHOT_SIMD";

/// Instruction sets that the kernels are compiled for, from the narrowest to the widest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimdLevel {
    /// No instructions beyond the target's own.
    Portable,
    /// 4 lanes, 64-bit ARM.
    Neon,
    /// 8 lanes with fused multiply-add, x86-64.
    Avx2,
    /// 16 lanes, x86-64.
    Avx512,
}

/// This machine, or this build, lacks an instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("instruction set `{}` is not available on this machine", .level.name())]
pub struct UnsupportedSimd {
    /// What was asked for.
    pub level: SimdLevel,
}

impl SimdLevel {
    /// Every level there is, from the narrowest to the widest.
    pub const ALL: [SimdLevel; 4] = [Self::Portable, Self::Neon, Self::Avx2, Self::Avx512];

    /// The name that `KSHOT_SIMD` knows it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Neon => "neon",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// Whether this machine has it.
    pub fn is_available(self) -> bool {
        table(self).is_some()
    }

    /// The level that calls from this thread use: the widest that is available, or what the environment
    /// variable `KSHOT_SIMD` asked for when it was first needed. A value that names no level, or one
    /// that this machine lacks, is reported once on standard error and otherwise ignored.
    pub fn current() -> Self {
        kernels().level
    }
}

/// Runs `body` with the kernels of `level`, whatever the environment says: for tests and measurements.
///
/// It holds for calls that `body` makes on the calling thread, and for the threads that those calls use.
///
/// # Errors
///
/// [`UnsupportedSimd`] where the machine lacks the instructions.
pub fn with_simd_level<R>(level: SimdLevel, body: impl FnOnce() -> R) -> Result<R, UnsupportedSimd> {
    struct Restore(Option<&'static Kernels>);
    impl Drop for Restore {
        fn drop(&mut self) {
            FORCED.set(self.0);
        }
    }
    let kernels = table(level).ok_or(UnsupportedSimd { level })?;
    let _restore = Restore(FORCED.replace(Some(kernels)));
    Ok(body())
}

thread_local! {
    static FORCED: Cell<Option<&'static Kernels>> = const { Cell::new(None) };
}

/// The kernels for calls from this thread.
pub(crate) fn kernels() -> &'static Kernels {
    static CHOSEN: OnceLock<&'static Kernels> = OnceLock::new();
    FORCED.get().unwrap_or_else(|| CHOSEN.get_or_init(choose))
}

fn choose() -> &'static Kernels {
    let widest = SimdLevel::ALL
        .into_iter()
        .rev()
        .find_map(table)
        .unwrap_or(&PORTABLE);
    let Some(asked) = std::env::var_os(SIMD_VARIABLE) else {
        return widest;
    };
    let named = SimdLevel::ALL
        .into_iter()
        .find(|level| asked.to_str() == Some(level.name()));
    named.and_then(table).unwrap_or_else(|| {
        let known: Vec<_> = SimdLevel::ALL
            .into_iter()
            .filter(|l| l.is_available())
            .map(SimdLevel::name)
            .collect();
        eprintln!(
            "{SIMD_VARIABLE}={}: not available on this machine, `{}` is used; choose among: {}",
            asked.to_string_lossy(),
            widest.level.name(),
            known.join(", ")
        );
        widest
    })
}

fn table(level: SimdLevel) -> Option<&'static Kernels> {
    match level {
        SimdLevel::Portable => Some(&PORTABLE),
        #[cfg(target_arch = "aarch64")]
        SimdLevel::Neon => std::arch::is_aarch64_feature_detected!("neon").then_some(&neon::TABLE),
        #[cfg(target_arch = "x86_64")]
        SimdLevel::Avx2 => (std::arch::is_x86_feature_detected!("avx2")
            && std::arch::is_x86_feature_detected!("fma"))
        .then_some(&avx2::TABLE),
        #[cfg(target_arch = "x86_64")]
        SimdLevel::Avx512 => std::arch::is_x86_feature_detected!("avx512f").then_some(&avx512::TABLE),
        #[allow(unreachable_patterns)]
        _ => None,
    }
}

/// Lists every kernel once; `$then` makes something of the list.
macro_rules! with_list {
    ($then:ident, $($first:tt)*) => {
        $then! {
            $($first)*
            coordinates::lstm(steps: usize, x: *const f32, w: (*const f32, *const f32), scratch: *mut f32, y: *mut f32);
            coordinates::lstm_gradients(
                steps: usize, w: (*const f32, *const f32), scratch: *mut f32, dy: *const f32,
                sums: (*mut f32, *mut f32));
            coordinates::mlp(x: *const f32, w: (*const f32, *const f32, *const f32), scratch: *mut f32, y: *mut f32);
            coordinates::mlp_gradients(
                w: (*const f32, *const f32), scratch: *mut f32, dy: *const f32,
                sums: (*mut f32, *mut f32, *mut f32));
            direct::convolve(conv: &Conv, x: *const f32, w: *const f32, y: *mut f32);
            ending::convolve_and_end(
                how: (&Conv, &Ending), from: (*const f32, *const f32, *const f32), codes: *mut u8, out: *mut f32);
            direct::weight_gradient(conv: &Conv, x: *const f32, dy: *const f32, dw: *mut f32);
            epilogue::moments(
                size: (usize, usize, usize), y: *const f32, mean: *mut f32, squares: *mut f32);
            epilogue::products(
                size: (usize, usize, usize), maps: (*const f32, *const f32), first_mean: *const f32,
                results: (*mut f32, *mut f32));
            epilogue::pick(pool: &Pool, y: *const f32, codes: *const u8, picked: *mut f32);
            epilogue::finish_tangent(
                pixels: &Pixels, maps: (*const f32, *const f32), factors: (*const f32, *const f32, *const f32),
                codes: *const u8, out: *mut f32);
            epilogue::pool(
                pool: &Pool, y: *const f32, sign: *const f32, pooled: *mut f32, codes: *mut u8);
            epilogue::finish(
                pixels: &Pixels, y: *const f32, affine: (*const f32, *const f32), codes: (*mut u8, bool),
                out: *mut f32);
            ending::answer(
                size: ((usize, usize), &Ending), from: (*const f32, usize, usize), shift: *const f32, out: *mut f32);
            epilogue::reduce(
                pixels: &Pixels, from: (*const u8, *const f32), dout: *const f32, mean: *const f32,
                sums: (*mut f32, *mut f32));
            epilogue::spread(
                how: (&Spread, &Pixels), from: (*const u8, *const f32), dout: *const f32, dy: *mut f32);
            memory::matmul(size: &Product, x: *const f32, w: *const f32, y: *mut f32);
            memory::matmul_transposed(size: &Product, a: *const f32, b: *const f32, y: *mut f32);
            memory::squash(counts: (usize, usize), x: *const f32, y: *mut f32);
            patches::correlate(planes: &Planes, x: *const f32, sums: *mut f64, products: *mut f64);
            patches::gather(
                how: (&Winners, &Pixels), x: *const f32, from: (*const u8, *const f32), to: (*mut f32, *mut f32));
            rule::rule_step(step: &RuleStep, weights: &RuleWeights);
            rule::rule_gradients(
                step: &RuleStep, weights: &RuleWeights, slopes: &RuleSlopes, sums: (*mut f32, *mut f32));
            winograd::transform_weight(
                tiles: Tiles, channels: (usize, usize), inputs: (usize, usize), g: *const f32, u: *mut f32);
            winograd::transform_weight_adjoint(channels: (usize, usize), u: *const f32, g: *mut f32);
            winograd::transform_input(
                tiling: &Tiling, image: usize, x: (*const f32, usize), v: *mut f32);
            winograd::transform_input_adjoint(
                tiling: &Tiling, image: usize, v: *const f32, dx: (*mut f32, usize));
            winograd::transform_output(
                tiling: &Tiling, image: usize, m: *const f32, y: (*mut f32, usize));
            winograd::transform_output_adjoint(
                tiling: &Tiling, image: usize, dy: (*const f32, usize), m: *mut f32);
            winograd::multiply(
                tiling: &Tiling, images: usize, v: *const f32, u: *const f32, m: *mut f32);
            winograd::gradients(
                tiling: &Tiling, images: usize, from: (*mut f32, *const f32), to: (*mut f32, bool),
                ut: Option<*const f32>);
        }
    };
}

macro_rules! declare {
    ($($module:ident::$name:ident($($arg:ident: $type:ty),* $(,)?);)*) => {
        /// Every kernel, compiled for one instruction set. Each is `unsafe` for the reasons that its generic
        /// version gives; the instructions themselves are there, or [`table`] wouldn't have handed it out.
        pub(crate) struct Kernels {
            pub level: SimdLevel,
            $(pub $name: unsafe fn($($type),*),)*
        }
    };
}

macro_rules! compile {
    (
        ($level:ident, $token:expr, $feature:tt)
        $($module:ident::$name:ident($($arg:ident: $type:ty),* $(,)?);)*
    ) => {
        $(
            #$feature
            unsafe fn $name($($arg: $type),*) {
                // SAFETY: the instructions are switched on for this function, which is called only where the
                // machine has them; the rest is the caller's.
                unsafe { $module::$name($token, $($arg),*) }
            }
        )*
        pub(super) static TABLE: Kernels = Kernels { level: SimdLevel::$level, $($name,)* };
    };
}

with_list!(declare,);

mod portable {
    use super::*;
    use crate::kernels::{coordinates, direct, ending, epilogue, memory, patches, rule, winograd};
    with_list!(compile, (Portable, Portable, [inline(never)]));
}
use portable::TABLE as PORTABLE;

#[cfg(target_arch = "aarch64")]
mod neon {
    use super::*;
    use crate::kernels::{coordinates, direct, ending, epilogue, memory, patches, rule, winograd};
    use crate::simd::neon::Neon;
    with_list!(compile, (Neon, Neon::new(), [target_feature(enable = "neon")]));
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::*;
    use crate::kernels::{coordinates, direct, ending, epilogue, memory, patches, rule, winograd};
    use crate::simd::avx2::Avx2;
    with_list!(
        compile,
        (Avx2, Avx2::new(), [target_feature(enable = "avx2,fma")])
    );
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::*;
    use crate::kernels::{coordinates, direct, ending, epilogue, memory, patches, rule, winograd};
    use crate::simd::avx512::Avx512;
    with_list!(
        compile,
        (Avx512, Avx512::new(), [target_feature(enable = "avx512f")])
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forced_level_holds_inside_the_call_only() {
        let before = SimdLevel::current();
        assert_eq!(
            with_simd_level(SimdLevel::Portable, SimdLevel::current),
            Ok(SimdLevel::Portable)
        );
        assert_eq!(SimdLevel::current(), before);
        for level in SimdLevel::ALL.into_iter().filter(|level| !level.is_available()) {
            assert_eq!(with_simd_level(level, || ()), Err(UnsupportedSimd { level }));
        }
    }
}
