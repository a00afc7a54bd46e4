//! Seeded randomness: everything random in kshot is a pure function of a seed and a path of numbers.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// A generator for the place named by `path` under `seed`: the same arguments give the same stream on every
/// machine, and different paths give unrelated streams.
pub fn stream(seed: u64, path: &[u64]) -> ChaCha8Rng {
    let mut key = mix(seed ^ 0x6b73_686f_745f_7631);
    for &step in path {
        key = mix(key ^ mix(step.wrapping_add(0x9e37_79b9_7f4a_7c15)));
    }
    ChaCha8Rng::seed_from_u64(key)
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection in which every input bit moves every output bit.
fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::stream;
    use rand_chacha::rand_core::Rng;

    #[test]
    fn a_path_names_one_stream() {
        let draw = |seed, path: &[u64]| stream(seed, path).next_u64();
        assert_eq!(draw(1, &[2, 3]), draw(1, &[2, 3]));
        assert_ne!(draw(1, &[2, 3]), draw(1, &[3, 2]));
        assert_ne!(draw(1, &[2]), draw(1, &[2, 0]));
        assert_ne!(draw(1, &[2]), draw(2, &[2]));
    }
}
