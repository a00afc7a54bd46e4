//! Contact sheets: rows of small pictures with captions, to see what a dataset or an episode holds.

use image::Rgb;
pub use image::RgbImage;
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

use super::{DataError, ImageShape};

/// Shown pictures have sides near this many pixels.
const SHOWN: usize = 64;
/// Space around everything, and between captions and pictures.
const MARGIN: usize = 14;
/// Width of the coloured frame around a picture.
const FRAME: usize = 2;
/// Space between pictures.
const GAP: usize = 4;
/// Additional space where the colour of the frame changes along a row.
const BREAK: usize = 12;
/// Height of a line of text.
const LINE: usize = 22;
/// Longer captions are shortened in the middle.
const LONGEST_CAPTION: usize = 48;
/// A title on a narrow sheet may make it this many characters wide.
const NARROWEST_TITLE: usize = 48;
/// Most pixels of a sheet.
const MOST_PIXELS: usize = 1 << 26;

const PAPER: [u8; 3] = [255, 255, 255];
const TEXT: [u8; 3] = [32, 33, 36];
const PLAIN: [u8; 3] = [205, 207, 212];

/// Colour for pictures that the learner is shown with their labels.
pub const SUPPORT: [u8; 3] = [42, 111, 187];
/// Colour for pictures that the learner is asked about.
pub const QUERY: [u8; 3] = [224, 130, 40];

/// A sheet under construction: [`ContactSheet::new`], a [`ContactSheet::row`] per class, [`ContactSheet::render`].
#[derive(Clone, Debug)]
pub struct ContactSheet {
    title: String,
    shape: ImageShape,
    dark_ink: bool,
    legend: Vec<(String, [u8; 3])>,
    rows: Vec<Row>,
}

#[derive(Clone, Debug)]
struct Row {
    caption: String,
    cells: Vec<Cell>,
}

/// One picture of a sheet.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// `[height, width, channels]` row-major, in `[0, 1]`; what lies outside is clamped.
    pub pixels: Vec<f32>,
    /// Colour of its frame, when it has one.
    pub border: Option<[u8; 3]>,
}

impl ContactSheet {
    /// A sheet of pictures of one shape, with 1 (grey) or 3 (colour) channels.
    pub fn new(title: impl Into<String>, shape: ImageShape) -> Self {
        Self {
            title: title.into(),
            shape,
            dark_ink: false,
            legend: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// Whether 1 is dark and 0 light, as in line drawings, whose ink is 1.
    pub fn dark_ink(mut self, dark_ink: bool) -> Self {
        self.dark_ink = dark_ink;
        self
    }

    /// Explains a frame's colour below the title.
    pub fn legend(mut self, text: impl Into<String>, colour: [u8; 3]) -> Self {
        self.legend.push((text.into(), colour));
        self
    }

    /// Appends a row of pictures; the caption stands to their left.
    ///
    /// # Errors
    /// A picture whose number of values isn't that of the sheet's shape.
    pub fn row(&mut self, caption: impl Into<String>, cells: Vec<Cell>) -> Result<(), DataError> {
        let (caption, expected) = (caption.into(), self.shape.len());
        if let Some(cell) = cells.iter().find(|cell| cell.pixels.len() != expected) {
            let found = cell.pixels.len();
            let shape = self.shape;
            return Err(problem(format!(
                "row `{caption}`: a picture of {found} values, expected {expected} ({shape})"
            )));
        }
        self.rows.push(Row { caption, cells });
        Ok(())
    }

    /// Draws the sheet.
    ///
    /// # Errors
    /// A shape that is empty or has neither 1 nor 3 channels, or a sheet of more than 2^26 pixels.
    pub fn render(&self) -> Result<RgbImage, DataError> {
        if self.shape.is_empty() || !matches!(self.shape.channels, 1 | 3) {
            return Err(problem(format!(
                "pictures of {}, expected 1 or 3 channels and a size",
                self.shape
            )));
        }
        let layout = Layout::new(self);
        let (width, height) = (layout.width, layout.height());
        if width.saturating_mul(height) > MOST_PIXELS {
            return Err(problem(format!(
                "{width}x{height} pixels are too many; show fewer pictures"
            )));
        }
        let mut sheet = RgbImage::from_pixel(width as u32, height as u32, Rgb(PAPER));
        let mut top = MARGIN;
        for line in &layout.title {
            write(&mut sheet, line, MARGIN, top, FontWeight::Bold);
            top += LINE;
        }
        for (text, colour, left, line) in &layout.legend {
            let y = top + line * LINE;
            fill(&mut sheet, *left, y + 3, 10, 10, *colour);
            write(&mut sheet, text, left + 16, y, FontWeight::Regular);
        }
        top += layout.legend_lines * LINE + GAP;
        for (row, caption) in self.rows.iter().zip(&layout.captions) {
            write(
                &mut sheet,
                caption,
                MARGIN,
                top + (layout.row - 16) / 2,
                FontWeight::Regular,
            );
            let mut left = layout.first_cell;
            let mut before = None;
            for cell in &row.cells {
                left += if before.is_some_and(|before| before != cell.border) {
                    BREAK
                } else {
                    0
                };
                before = Some(cell.border);
                self.picture(&mut sheet, &layout, cell, left, top);
                left += layout.picture[0] + 2 * FRAME + GAP;
            }
            top += layout.row + GAP;
        }
        Ok(sheet)
    }

    fn picture(&self, sheet: &mut RgbImage, layout: &Layout, cell: &Cell, left: usize, top: usize) {
        let [width, height] = layout.picture;
        fill(
            sheet,
            left,
            top,
            width + 2 * FRAME,
            height + 2 * FRAME,
            cell.border.unwrap_or(PLAIN),
        );
        let ImageShape {
            height: rows,
            width: columns,
            channels,
        } = self.shape;
        // The source pixels under a shown one: one where it is enlarged, several where it is made smaller.
        let span = |at: usize, shown: usize, n: usize| {
            let first = at * n / shown;
            first..((at + 1) * n / shown).max(first + 1)
        };
        for y in 0..height {
            for x in 0..width {
                let mut sums = [0.0f32; 3];
                let (ys, xs) = (span(y, height, rows), span(x, width, columns));
                let count = (ys.len() * xs.len()) as f32;
                for row in ys {
                    for column in xs.clone() {
                        let pixel = &cell.pixels[(row * columns + column) * channels..][..channels];
                        for (k, sum) in sums.iter_mut().enumerate() {
                            *sum += pixel[k % channels].clamp(0.0, 1.0);
                        }
                    }
                }
                let colour = sums.map(|sum| {
                    let value = sum / count;
                    (255.0 * if self.dark_ink { 1.0 - value } else { value } + 0.5) as u8
                });
                sheet.put_pixel((left + FRAME + x) as u32, (top + FRAME + y) as u32, Rgb(colour));
            }
        }
    }
}

/// Where everything lies.
struct Layout {
    title: Vec<String>,
    /// Text, colour, left edge and line.
    legend: Vec<(String, [u8; 3], usize, usize)>,
    legend_lines: usize,
    captions: Vec<String>,
    /// Width and height of a shown picture.
    picture: [usize; 2],
    first_cell: usize,
    width: usize,
    /// Height of a row.
    row: usize,
}

impl Layout {
    fn new(sheet: &ContactSheet) -> Self {
        let (height, width) = (sheet.shape.height, sheet.shape.width);
        let longer = height.max(width);
        // Whole multiples when enlarged, so that every pixel has the same size.
        let shown = |n: usize| {
            if longer <= SHOWN {
                n * (SHOWN / longer)
            } else {
                (n * 2 * SHOWN).div_ceil(longer.max(2 * SHOWN))
            }
        };
        let picture = [shown(width).max(1), shown(height).max(1)];
        let captions: Vec<String> = sheet
            .rows
            .iter()
            .map(|row| shorten(&row.caption, LONGEST_CAPTION))
            .collect();
        let caption = captions
            .iter()
            .map(|caption| text_width(caption))
            .max()
            .unwrap_or(0);
        let first_cell = MARGIN + if caption == 0 { 0 } else { caption + MARGIN };
        let cells = |row: &Row| {
            let breaks = row
                .cells
                .windows(2)
                .filter(|pair| pair[0].border != pair[1].border)
                .count();
            row.cells.len() * (picture[0] + 2 * FRAME + GAP) + breaks * BREAK
        };
        let body = first_cell + sheet.rows.iter().map(cells).max().unwrap_or(0);
        let entry = |text: &String| text_width(text) + 16 + MARGIN;
        let title_width = text_width(&sheet.title).min(NARROWEST_TITLE * character_width());
        let widest_entry = sheet
            .legend
            .iter()
            .map(|(text, _)| entry(text))
            .max()
            .unwrap_or(0);
        let inner = (body - MARGIN).max(title_width).max(widest_entry);
        let (mut left, mut line) = (0, 0);
        let mut legend = Vec::with_capacity(sheet.legend.len());
        for (text, colour) in &sheet.legend {
            if left + entry(text) > inner && left > 0 {
                (left, line) = (0, line + 1);
            }
            legend.push((text.clone(), *colour, MARGIN + left, line));
            left += entry(text);
        }
        Self {
            title: wrap(&sheet.title, inner / character_width()),
            legend_lines: if legend.is_empty() { 0 } else { line + 1 },
            legend,
            captions,
            picture,
            first_cell,
            width: inner + 2 * MARGIN,
            row: (picture[1] + 2 * FRAME).max(LINE),
        }
    }

    fn height(&self) -> usize {
        2 * MARGIN
            + (self.title.len() + self.legend_lines) * LINE
            + GAP
            + self.captions.len() * (self.row + GAP)
    }
}

fn problem(problem: String) -> DataError {
    DataError::OutOfRange {
        dataset: "contact sheet".to_owned(),
        problem,
    }
}

fn character_width() -> usize {
    get_raster_width(FontWeight::Regular, RasterHeight::Size16)
}

fn text_width(text: &str) -> usize {
    text.chars().count() * character_width()
}

/// Keeps the beginning and the end of a text of more than `most` characters.
fn shorten(text: &str, most: usize) -> String {
    let n = text.chars().count();
    if n <= most {
        return text.to_owned();
    }
    let head = (most - 3) / 2;
    let tail = most - 3 - head;
    text.chars()
        .take(head)
        .chain("...".chars())
        .chain(text.chars().skip(n - tail))
        .collect()
}

/// Lines of at most `most` characters, broken between words where there are any.
fn wrap(text: &str, most: usize) -> Vec<String> {
    let most = most.max(1);
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.len() <= most => {
                line.push(' ');
                line.extend(word);
                continue;
            }
            _ => {}
        }
        while word.len() > most {
            let rest = word.split_off(most);
            lines.push(word.into_iter().collect());
            word = rest;
        }
        lines.push(word.into_iter().collect());
    }
    lines
}

fn fill(sheet: &mut RgbImage, left: usize, top: usize, width: usize, height: usize, colour: [u8; 3]) {
    for y in top..top + height {
        for x in left..left + width {
            sheet.put_pixel(x as u32, y as u32, Rgb(colour));
        }
    }
}

/// Writes one line; characters that the font lacks become `?`.
fn write(sheet: &mut RgbImage, text: &str, left: usize, top: usize, weight: FontWeight) {
    let size = RasterHeight::Size16;
    for (index, character) in text.chars().enumerate() {
        let Some(raster) = get_raster(character, weight, size).or_else(|| get_raster('?', weight, size))
        else {
            continue;
        };
        for (y, row) in raster.rows().enumerate() {
            for (x, &strength) in row.iter().enumerate() {
                let at = ((left + index * character_width() + x) as u32, (top + y) as u32);
                if let Some(pixel) = sheet.get_pixel_mut_checked(at.0, at.1) {
                    for (value, ink) in pixel.0.iter_mut().zip(TEXT) {
                        let (paper, ink, strength) = (u32::from(*value), u32::from(ink), u32::from(strength));
                        *value = ((paper * (255 - strength) + ink * strength) / 255) as u8;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(shape: ImageShape, value: f32, border: Option<[u8; 3]>) -> Cell {
        Cell {
            pixels: vec![value; shape.len()],
            border,
        }
    }

    #[test]
    fn ink_is_dark_and_frames_have_their_colour() {
        let shape = ImageShape::square(28, 1);
        let mut sheet = ContactSheet::new("one", shape).dark_ink(true);
        sheet
            .row(
                "a",
                vec![cell(shape, 1.0, Some(SUPPORT)), cell(shape, 0.0, Some(QUERY))],
            )
            .unwrap();
        let image = sheet.render().unwrap();
        let count = |colour| image.pixels().filter(|pixel| pixel.0 == colour).count();
        assert_eq!(count([0, 0, 0]), 56 * 56);
        assert_eq!(count(SUPPORT), 60 * 60 - 56 * 56);
        assert_eq!(count(QUERY), 60 * 60 - 56 * 56);
    }

    #[test]
    fn no_text_or_picture_reaches_the_margin() {
        let shape = ImageShape {
            height: 40,
            width: 300,
            channels: 3,
        };
        let long = "a caption that goes on and on until nobody can remember how it began".repeat(2);
        for title in ["", "short", &long, &"x".repeat(300)] {
            let mut sheet = ContactSheet::new(title, shape)
                .legend(&long[..60], QUERY)
                .legend("support", SUPPORT);
            sheet.row(&long, vec![cell(shape, 0.5, None); 3]).unwrap();
            sheet
                .row("Ünïcode 字", vec![cell(shape, 0.5, Some(QUERY))])
                .unwrap();
            let image = sheet.render().unwrap();
            let margin = MARGIN as u32 - 1;
            for (x, y, pixel) in image.enumerate_pixels() {
                let inside = (margin..image.width() - margin).contains(&x)
                    && (margin..image.height() - margin).contains(&y);
                assert!(inside || pixel.0 == PAPER, "{title}: {x},{y}");
            }
        }
    }

    #[test]
    fn a_title_keeps_all_its_words_when_it_is_broken() {
        let text = "five ways and one shot out of a thousand alphabets";
        let lines = wrap(text, 12);
        assert!(lines.iter().all(|line| line.len() <= 12), "{lines:?}");
        assert_eq!(lines.join(" "), text);
    }

    #[test]
    fn a_large_picture_is_averaged_down() {
        let shape = ImageShape::square(512, 1);
        let pixels = (0..512 * 512).map(|i| ((i / 512 + i) % 2) as f32).collect();
        let mut sheet = ContactSheet::new("", shape);
        sheet.row("", vec![Cell { pixels, border: None }]).unwrap();
        let image = sheet.render().unwrap();
        assert_eq!(
            image.pixels().filter(|pixel| pixel.0 == [128; 3]).count(),
            128 * 128
        );
    }

    #[test]
    fn wrong_shapes_and_endless_sheets_are_refused() {
        let shape = ImageShape::square(4, 1);
        let mut sheet = ContactSheet::new("", shape);
        let error = sheet
            .row(
                "cat",
                vec![Cell {
                    pixels: vec![0.0; 15],
                    border: None,
                }],
            )
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "contact sheet: row `cat`: a picture of 15 values, expected 16 (4x4x1)"
        );
        for _ in 0..40_000 {
            sheet.row("x", vec![cell(shape, 0.0, None); 2]).unwrap();
        }
        assert!(
            sheet
                .render()
                .unwrap_err()
                .to_string()
                .ends_with("show fewer pictures")
        );
        assert!(ContactSheet::new("", ImageShape::square(4, 2)).render().is_err());
        assert!(ContactSheet::new("", ImageShape::square(0, 1)).render().is_err());
        assert!(ContactSheet::new("", shape).render().is_ok());
    }
}
