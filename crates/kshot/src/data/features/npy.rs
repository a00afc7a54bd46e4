//! NumPy's `.npy`: arrays of numbers or text (format 1.0 to 3.0, little-endian, C order).

use super::Label;

/// Longest header.
const MAX_HEADER: usize = 1 << 16;

/// An array.
#[derive(Debug)]
pub struct Array<'a> {
    /// Of which kind each element is: `f4`, `i8`, `U12`.
    kind: &'a str,
    /// Its shape.
    pub shape: Vec<usize>,
    bytes: &'a [u8],
}

impl<'a> Array<'a> {
    /// Of the bytes of a file.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, String> {
        let short = || "shorter than its header says".to_owned();
        let start = bytes.get(..10).ok_or_else(short)?;
        if &start[..6] != b"\x93NUMPY" {
            return Err("not an .npy array".to_owned());
        }
        let (offset, length) = match start[6] {
            1 => (10, usize::from(u16::from_le_bytes([start[8], start[9]]))),
            2 | 3 => {
                let more = bytes.get(8..12).ok_or_else(short)?;
                (
                    12,
                    u32::from_le_bytes([more[0], more[1], more[2], more[3]]) as usize,
                )
            }
            version => return Err(format!(".npy format {version}, expected 1 to 3")),
        };
        if length > MAX_HEADER {
            return Err(format!("a header of {length} bytes; it is damaged"));
        }
        let header = bytes.get(offset..offset + length).ok_or_else(short)?;
        let header = std::str::from_utf8(header).map_err(|_| "a header that is no text".to_owned())?;
        let descr = field(header, "'descr':").ok_or("a header without a type")?;
        let kind = descr
            .strip_prefix('\'')
            .and_then(|text| text.split('\'').next())
            .ok_or("an array of records; save plain numbers")?;
        let kind = match kind.split_at_checked(1) {
            Some(("<" | "|" | "=", kind)) => kind,
            Some((">", _)) => return Err("big-endian numbers; save them by .astype('<f4')".to_owned()),
            _ => return Err(format!("numbers of type `{kind}`, which can't be read")),
        };
        if field(header, "'fortran_order':").is_none_or(|text| !text.starts_with("False")) {
            return Err("an array in Fortran order; save numpy.ascontiguousarray(array)".to_owned());
        }
        let shape = field(header, "'shape':").and_then(|text| text.strip_prefix('(')?.split(')').next());
        let shape = shape.ok_or("a header without a shape")?;
        let sides = shape.split(',').map(str::trim).filter(|side| !side.is_empty());
        let shape = sides
            .map(|side| side.parse::<usize>().map_err(|_| format!("a shape of `{shape}`")))
            .collect::<Result<Vec<_>, _>>()?;
        let array = Self {
            kind,
            shape,
            bytes: &bytes[offset + length..],
        };
        let count = array
            .shape
            .iter()
            .try_fold(1usize, |n, &side| n.checked_mul(side));
        let expected = count.and_then(|n| n.checked_mul(array.width()?));
        if expected != Some(array.bytes.len()) {
            return Err(format!(
                "{} bytes of data where a shape of {:?} of type `{kind}` needs {}",
                array.bytes.len(),
                array.shape,
                expected.map_or_else(|| "more than there can be".to_owned(), |n| n.to_string())
            ));
        }
        Ok(array)
    }

    /// Its elements as 32-bit floats.
    pub fn floats(&self) -> Result<Vec<f32>, String> {
        match self.kind {
            "f4" => Ok(self.each(f32::from_le_bytes)),
            "f8" => Ok(self.each(|bytes: [u8; 8]| f64::from_le_bytes(bytes) as f32)),
            "f2" => Ok(self.each(|bytes: [u8; 2]| half(u16::from_le_bytes(bytes)))),
            kind => Err(format!(
                "features of type `{kind}`, expected f2, f4 or f8; save them by .astype('float32')"
            )),
        }
    }

    /// Its elements as labels.
    pub fn labels(&self) -> Result<Vec<Label>, String> {
        let number = Label::Number;
        Ok(match self.kind {
            "i8" => self.each(|bytes: [u8; 8]| number(i64::from_le_bytes(bytes))),
            "i4" => self.each(|bytes: [u8; 4]| number(i32::from_le_bytes(bytes).into())),
            "i2" => self.each(|bytes: [u8; 2]| number(i16::from_le_bytes(bytes).into())),
            "i1" => self.each(|bytes: [u8; 1]| number(i8::from_le_bytes(bytes).into())),
            "u1" | "b1" => self.each(|[byte]: [u8; 1]| number(byte.into())),
            "u2" => self.each(|bytes: [u8; 2]| number(u16::from_le_bytes(bytes).into())),
            "u4" => self.each(|bytes: [u8; 4]| number(u32::from_le_bytes(bytes).into())),
            kind if kind.starts_with('U') || kind.starts_with('S') => {
                let width = self.width().filter(|&width| width > 0).ok_or("empty labels")?;
                let texts = self.bytes.chunks_exact(width).map(|bytes| {
                    let text: String = if kind.starts_with('U') {
                        let points = bytes
                            .as_chunks::<4>()
                            .0
                            .iter()
                            .map(|point| u32::from_le_bytes(*point));
                        points
                            .take_while(|&point| point != 0)
                            .map(|point| char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER))
                            .collect()
                    } else {
                        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(width);
                        String::from_utf8_lossy(&bytes[..end]).into_owned()
                    };
                    Label::Text(text)
                });
                texts.collect()
            }
            kind => return Err(format!("labels of type `{kind}`, expected whole numbers or text")),
        })
    }

    /// Bytes of an element; `None` for a type that isn't known.
    fn width(&self) -> Option<usize> {
        let number: usize = self.kind.get(1..)?.parse().ok()?;
        match self.kind.as_bytes().first()? {
            b'U' => number.checked_mul(4),
            b'S' => Some(number),
            b'f' | b'i' | b'u' | b'b' if matches!(number, 1 | 2 | 4 | 8) => Some(number),
            _ => None,
        }
    }

    fn each<const N: usize, T>(&self, convert: impl Fn([u8; N]) -> T) -> Vec<T> {
        self.bytes
            .as_chunks::<N>()
            .0
            .iter()
            .map(|bytes| convert(*bytes))
            .collect()
    }
}

/// What stands behind a key of the header.
fn field<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    Some(header.split_once(key)?.1.trim_start())
}

/// A 16-bit float (IEEE 754 binary16).
pub fn half(bits: u16) -> f32 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f32::from(bits & 0x3ff));
    match exponent {
        0 => sign * fraction * 2.0f32.powi(-24),
        31 if fraction == 0.0 => sign * f32::INFINITY,
        31 => f32::NAN,
        _ => sign * (1.0 + fraction / 1024.0) * 2.0f32.powi(exponent - 15),
    }
}
