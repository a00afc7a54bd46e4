//! Winograd's convolution F(4×4, 3×3) and its exact adjoints; for inference also F(6×6, 3×3).
//!
//! With `d` a tile of input, `g` the window's weights and `Y` a tile of output (Lavin and Gray 2016):
//!
//! ```text
//! Y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A
//! ```
//!
//! where ⊙, summed over the input channels, is one matrix product per point `k`: `M[k] = V[k] U[k]` with a row per
//! tile. Both gradients are the adjoint of the same formula: `dM = A dY Aᵀ`, then `dU[k] = V[k]ᵀ dM[k]` and
//! `dg = Gᵀ dU G` for the weight, `dV[k] = dM[k] U[k]ᵀ` and `dd = B dV Bᵀ`, added up where tiles overlap, for the input.
//!
//! The one-dimensional algorithm interpolates at the points 0, ±a, ±b and ∞ with a = 5/8 and b = 3/2, whose
//! rounding errors are half of those of the usual 0, ±1, ±2, ∞ at the same number of operations. A size that
//! isn't a multiple of 4 ends in a tile of 3, 2 or 1 outputs, which uses the first of these points and ∞ and so needs
//! fewer products; the scale of its input transform makes up for the points that are left out, so that it shares
//! `U` with the others. F(6×6, 3×3) has the points 0, ±1, ±1/2, ±2 and ∞, of all triples of small fractions the one with the
//! least rounding error.

mod line;
mod products;
mod tiles;

pub use products::{gradients, multiply};
pub use tiles::{
    transform_input, transform_input_adjoint, transform_output, transform_output_adjoint, transform_weight,
    transform_weight_adjoint,
};

/// Most points per axis.
pub const POINTS: usize = 8;

/// The points that a tile of `m` outputs uses, in the order 0, a, -a, b, -b, ∞, c, -c.
const USED: [&[usize]; 7] = [
    &[],
    &[0, 1, 5],
    &[0, 1, 2, 5],
    &[0, 1, 2, 3, 5],
    &[0, 1, 2, 3, 4, 5],
    &[],
    &[0, 1, 2, 3, 4, 5, 6, 7],
];

/// How large the tiles are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tiles {
    /// 4×4 outputs, and smaller ones at the end: F(4×4, 3×3), of which there are adjoints.
    Four,
    /// 6×6 outputs, and 4 or 2 at the end of an even size: F(6×6, 3×3), for inference. Fewer products, a weight of 64
    /// points in the place of 36, and four times the rounding error.
    Six,
}

impl Tiles {
    /// Points per axis.
    #[inline(always)]
    pub const fn points(self) -> usize {
        match self {
            Self::Four => 6,
            Self::Six => 8,
        }
    }

    /// Outputs of a whole tile, per axis.
    #[inline(always)]
    const fn outputs(self) -> usize {
        self.points() - 2
    }
}

/// Width of a panel of columns of `U`: its rows lie close together in the cache.
pub const PANEL: usize = 64;

/// One axis of the output, cut into whole tiles and a last one of what remains.
#[derive(Clone, Copy, Debug)]
struct Axis {
    size: usize,
    /// Outputs of a whole tile.
    whole: usize,
    /// For each point the number of tiles that use it.
    counts: [usize; POINTS],
}

impl Axis {
    fn new(size: usize, tiles: Tiles) -> Self {
        let whole = tiles.outputs();
        debug_assert!(
            tiles == Tiles::Four || size.is_multiple_of(2),
            "tiles of 6 are for even sizes"
        );
        let mut counts = [0; POINTS];
        for point in USED[whole] {
            counts[*point] = size / whole;
        }
        for point in USED[size % whole] {
            counts[*point] += 1;
        }
        Self { size, whole, counts }
    }

    #[inline(always)]
    fn tiles(&self) -> usize {
        self.size.div_ceil(self.whole)
    }

    /// Outputs of tile `index`.
    #[inline(always)]
    fn outputs(&self, index: usize) -> usize {
        (self.size - self.whole * index).min(self.whole)
    }
}

/// How a few images of one size are cut into tiles, and where each tile's values lie for each point.
#[derive(Clone, Debug)]
pub struct Tiling {
    tiles: Tiles,
    y: Axis,
    x: Axis,
    /// Input and output channels, multiples of 16.
    pub channels: (usize, usize),
    /// For each point the start of its rows, in `V` and in `M`.
    starts: [[usize; POINTS * POINTS]; 2],
    /// Floats of `V` and `M` for all images.
    lens: [usize; 2],
}

impl Tiling {
    /// For up to `images` images at a time with outputs of `rows` by `columns`.
    pub fn new(
        tiles: Tiles,
        (rows, columns): (usize, usize),
        images: usize,
        channels: (usize, usize),
    ) -> Self {
        let (y, x) = (Axis::new(rows, tiles), Axis::new(columns, tiles));
        let mut starts = [[0; POINTS * POINTS]; 2];
        let mut lens = [0; 2];
        for (side, channels) in [channels.0, channels.1].into_iter().enumerate() {
            let n = tiles.points();
            for k in 0..n * n {
                starts[side][k] = lens[side];
                let rows = images * y.counts[k / n] * x.counts[k % n];
                // Without the extra 5 cache lines, a tile's values for all points could fall into the same sets.
                lens[side] += if rows > 0 {
                    (rows * channels).next_multiple_of(1024) + 80
                } else {
                    0
                };
            }
        }
        Self {
            tiles,
            y,
            x,
            channels,
            starts,
            lens,
        }
    }

    /// Floats of `V`.
    pub fn v_len(&self) -> usize {
        self.lens[0]
    }

    /// Floats of `M`.
    pub fn m_len(&self) -> usize {
        self.lens[1]
    }

    /// Floats of `U`, and of its transpose.
    pub fn u_len(tiles: Tiles, channels: (usize, usize)) -> usize {
        tiles.points() * tiles.points() * channels.0 * channels.1
    }

    /// Products of an input value with a weight per pair of channels, for one image.
    pub fn products(tiles: Tiles, (rows, columns): (usize, usize)) -> usize {
        let (y, x) = (Axis::new(rows, tiles), Axis::new(columns, tiles));
        y.counts.iter().sum::<usize>() * x.counts.iter().sum::<usize>()
    }

    /// Rows of point `k` for `images` images.
    #[inline(always)]
    fn rows(&self, k: usize, images: usize) -> usize {
        let n = self.tiles.points();
        images * self.y.counts[k / n] * self.x.counts[k % n]
    }

    /// For each point the place of the first tile of tile row `ty` of an image, in `V` (side 0) or `M` (side 1).
    #[inline(always)]
    fn places(&self, side: usize, image: usize, ty: usize) -> [usize; POINTS * POINTS] {
        let channels = if side == 0 {
            self.channels.0
        } else {
            self.channels.1
        };
        let (mut places, n) = (self.starts[side], self.tiles.points());
        for (k, place) in places.iter_mut().enumerate().take(n * n) {
            *place += (image * self.y.counts[k / n] + ty) * self.x.counts[k % n] * channels;
        }
        places
    }
}

/// Where `U[k][c][o]` lies: for each point, panels of up to [`PANEL`] columns with `inner` rows each.
#[inline(always)]
fn panel(k: usize, (inner, columns): (usize, usize), c: usize, o: usize) -> usize {
    let first = o / PANEL * PANEL;
    let width = (columns - first).min(PANEL);
    k * inner * columns + first * inner + c * width + (o - first)
}
