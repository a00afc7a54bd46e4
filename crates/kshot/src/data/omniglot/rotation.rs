//! Quarter turns of square images.

/// A turn counter-clockwise, as PIL's `rotate(90)` and the loaders of Vinyals' split make it: the right edge of the
/// drawing becomes its top edge under [`Rotation::R90`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rotation {
    /// As drawn.
    R0,
    /// A quarter turn counter-clockwise.
    R90,
    /// Upside down.
    R180,
    /// A quarter turn clockwise.
    R270,
}

impl Rotation {
    /// All four, by angle.
    pub const ALL: [Rotation; 4] = [Rotation::R0, Rotation::R90, Rotation::R180, Rotation::R270];

    /// `rot000`, `rot090`, `rot180` or `rot270`, as Vinyals' split files write it.
    pub const fn name(self) -> &'static str {
        match self {
            Rotation::R0 => "rot000",
            Rotation::R90 => "rot090",
            Rotation::R180 => "rot180",
            Rotation::R270 => "rot270",
        }
    }

    /// The rotation of that [`Rotation::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rotation| rotation.name() == name)
    }

    /// `name` as it is called when turned this way: itself, or `name/rot090`.
    pub fn suffix(self, name: &str) -> String {
        match self {
            Rotation::R0 => name.to_owned(),
            _ => format!("{name}/{}", self.name()),
        }
    }

    /// Gives every pixel of the turned image in row order, out of `source`, a square of `side * side` pixels.
    #[inline]
    pub fn for_each_pixel(self, source: &[u8], side: usize, mut give: impl FnMut(u8)) {
        let last = side.saturating_sub(1);
        match self {
            Rotation::R0 => source.iter().for_each(|&pixel| give(pixel)),
            Rotation::R180 => source.iter().rev().for_each(|&pixel| give(pixel)),
            // A row of the turned image is a column of the source: from the right, read downwards, or from the left,
            // read upwards.
            Rotation::R90 => (0..side).rev().for_each(|column| {
                (0..side).for_each(|row| give(source[row * side + column]));
            }),
            Rotation::R270 => (0..side).for_each(|column| {
                (0..side).for_each(|row| give(source[(last - row) * side + column]));
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Rotation;

    #[test]
    fn a_quarter_turn_is_counter_clockwise() {
        let turned = |rotation: Rotation| {
            let mut pixels = Vec::new();
            rotation.for_each_pixel(&[1, 2, 3, 4, 5, 6, 7, 8, 9], 3, |pixel| pixels.push(pixel));
            pixels
        };
        assert_eq!(turned(Rotation::R0), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(turned(Rotation::R90), [3, 6, 9, 2, 5, 8, 1, 4, 7]);
        assert_eq!(turned(Rotation::R180), [9, 8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(turned(Rotation::R270), [7, 4, 1, 8, 5, 2, 9, 6, 3]);
    }

    #[test]
    fn names_are_those_of_the_split_files() {
        for rotation in Rotation::ALL {
            assert_eq!(Rotation::from_name(rotation.name()), Some(rotation));
        }
        assert_eq!(Rotation::from_name("rot45"), None);
        assert_eq!(Rotation::R0.suffix("Greek"), "Greek");
        assert_eq!(Rotation::R270.suffix("Greek"), "Greek/rot270");
    }
}
