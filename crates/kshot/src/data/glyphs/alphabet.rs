//! Alphabets: a style and its characters, no two of which look alike.

use super::chance::Chance;
use super::hand::Hand;
use super::program::{Program, Stroke, another};
use super::raster;
use super::style::Style;

/// Fewest characters in an alphabet, as in Omniglot.
pub const FEWEST: usize = 14;
/// Most characters in an alphabet, as in Omniglot.
pub const MOST: usize = 55;

/// Side of the pictures by which characters are compared.
const SIDE: usize = 12;
/// Likeness (cosine) from which a character counts as a duplicate.
const ALIKE: f32 = 0.93;
/// Attempts per character; after these the one least like the others is taken.
const ATTEMPTS: u8 = 24;

/// Kinds of random stream, the second step of every path; the alphabet is the first.
mod purpose {
    pub const COUNT: u64 = 0;
    pub const STYLE: u64 = 1;
    pub const ORIGIN: u64 = 2;
    pub const PROGRAM: u64 = 3;
}

/// An alphabet's style and what all its characters follow from.
pub struct Alphabet {
    seed: u64,
    number: u64,
    /// The style.
    pub style: Style,
    radical: Option<Stroke>,
}

/// How many characters alphabet `number` has.
pub fn n_characters(seed: u64, number: u64) -> usize {
    FEWEST + Chance::new(seed, &[number, purpose::COUNT]).below(MOST - FEWEST + 1)
}

impl Alphabet {
    /// Alphabet `number` under `seed`.
    pub fn new(seed: u64, number: u64) -> Self {
        let chance = &mut Chance::new(seed, &[number, purpose::STYLE]);
        let style = Style::draw(chance);
        let radical = style.radical.then(|| another(&style, &[], 1.0, chance));
        Self {
            seed,
            number,
            style,
            radical,
        }
    }

    /// Which attempt at each of the `n` characters is the first that looks unlike all characters before it.
    pub fn choose(&self, n: usize) -> Box<[u8]> {
        let mut chosen: Vec<u8> = Vec::with_capacity(n);
        let mut pictures: Vec<[f32; SIDE * SIDE]> = Vec::with_capacity(n);
        for character in 0..n {
            let mut best: Option<(f32, u8, [f32; SIDE * SIDE])> = None;
            for attempt in 0..ATTEMPTS {
                chosen.push(attempt);
                let program = self.program(character, &chosen);
                chosen.pop();
                let picture = picture(&program);
                let likeness = pictures
                    .iter()
                    .map(|other| cosine(other, &picture))
                    .fold(0.0, f32::max);
                if best.as_ref().is_none_or(|(least, ..)| likeness < *least) {
                    best = Some((likeness, attempt, picture));
                }
                if likeness < ALIKE {
                    break;
                }
            }
            if let Some((_, attempt, picture)) = best {
                chosen.push(attempt);
                pictures.push(picture);
            }
        }
        chosen.into_boxed_slice()
    }

    /// The program of a character, given the chosen attempts at it and at all before it.
    pub fn program(&self, character: usize, chosen: &[u8]) -> Program {
        match self.origin(character) {
            None => self.original(character, chosen),
            Some(origin) => {
                let chance = &mut self.stream(character, chosen);
                self.original(origin, chosen).vary(&self.style, chance)
            }
        }
    }

    fn original(&self, character: usize, chosen: &[u8]) -> Program {
        Program::draw(
            &self.style,
            self.radical.as_ref(),
            &mut self.stream(character, chosen),
        )
    }

    fn stream(&self, character: usize, chosen: &[u8]) -> Chance {
        let attempt = chosen.get(character).copied().unwrap_or_default();
        Chance::new(
            self.seed,
            &[
                self.number,
                purpose::PROGRAM,
                character as u64,
                u64::from(attempt),
            ],
        )
    }

    /// The earlier character of which this one is a variation, if it is one. A third of an alphabet at least
    /// stands on its own.
    fn origin(&self, character: usize) -> Option<usize> {
        let chance = &mut Chance::new(self.seed, &[self.number, purpose::ORIGIN, character as u64]);
        let originals = character.div_ceil(3);
        let varied = !character.is_multiple_of(3) && chance.happens(self.style.varied * 1.5);
        (varied && originals > 0).then(|| 3 * chance.below(originals))
    }
}

/// The program as drawn by a machine with a broad pen, filling the picture, scaled to length 1.
fn picture(program: &Program) -> [f32; SIDE * SIDE] {
    let mut drawing = Hand::exact().plan(program, &mut Chance::new(0, &[]));
    drawing.fill(0.1);
    let mut pixels = [0.0; SIDE * SIDE];
    raster::draw(&drawing, 0.16, SIDE, &mut pixels);
    let length = pixels.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-6);
    pixels.map(|x| x / length)
}

fn cosine(a: &[f32; SIDE * SIDE], b: &[f32; SIDE * SIDE]) -> f32 {
    let mut sums = [0.0f32; 8];
    for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The greatest likeness of each character to an earlier one, over whole alphabets.
    fn likenesses(seed: u64, numbers: std::ops::Range<u64>) -> Vec<f32> {
        let mut likenesses = Vec::new();
        for number in numbers {
            let alphabet = Alphabet::new(seed, number);
            let chosen = alphabet.choose(n_characters(seed, number));
            let pictures: Vec<_> = (0..chosen.len())
                .map(|i| picture(&alphabet.program(i, &chosen)))
                .collect();
            likenesses.extend((1..pictures.len()).map(|i| {
                pictures[..i]
                    .iter()
                    .map(|other| cosine(other, &pictures[i]))
                    .fold(0.0, f32::max)
            }));
        }
        likenesses
    }

    #[test]
    fn characters_of_an_alphabet_are_alike_but_hardly_any_is_a_duplicate() {
        let likenesses = likenesses(0, 0..100);
        let n = likenesses.len() as f32;
        let share = |least: f32| likenesses.iter().filter(|&&x| x >= least).count() as f32 / n;
        assert!(share(ALIKE) < 0.002, "duplicates: {}", share(ALIKE));
        assert!(share(0.8) > 0.1, "hard pairs: {}", share(0.8));
    }
}
