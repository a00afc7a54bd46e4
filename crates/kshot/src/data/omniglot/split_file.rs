//! Vinyals' split as released with Prototypical Networks: files of lines `Alphabet/characterNN/rotRRR`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::drawings::Character;
use super::rotation::Rotation;
use super::split::Turned;
use crate::data::DataError;

/// Longest split file that is read, in bytes (the published ones have at most about 160,000).
const MAX_LENGTH: u64 = 4 << 20;

/// The files of the train, validation and test part.
pub const FILES: [&str; 3] = ["train.txt", "val.txt", "test.txt"];

/// The classes that `train.txt`, `val.txt` and `test.txt` in `folder` list.
///
/// # Errors
/// A missing file, a malformed line, an unknown character, or a class listed twice, each with its line.
pub fn read_all(folder: &Path, characters: &[Character]) -> Result<[Vec<Turned>; 3], DataError> {
    let known: BTreeMap<(&str, &str), usize> = characters
        .iter()
        .enumerate()
        .map(|(index, character)| ((&*character.alphabet, &*character.name), index))
        .collect();
    let mut listed: BTreeMap<Turned, String> = BTreeMap::new();
    let mut parts = [const { Vec::new() }; 3];
    for (name, part) in FILES.into_iter().zip(&mut parts) {
        let path = folder.join(name);
        let text = read(&path)?;
        for (number, line) in text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
        {
            let number = number + 1;
            let class = parse(line.trim(), &known).map_err(|problem| DataError::Damaged {
                path: path.clone(),
                problem: format!("line {number}: {problem}"),
            })?;
            if let Some(before) = listed.insert(class, format!("{name} line {number}")) {
                return Err(DataError::Damaged {
                    path,
                    problem: format!(
                        "line {number}: `{}` is listed before, in {before}; remove one",
                        line.trim()
                    ),
                });
            }
            part.push(class);
        }
    }
    Ok(parts)
}

/// The text of a split file.
///
/// # Errors
/// A file that is missing (with where to get it), too long or no text.
pub fn read(path: &Path) -> Result<String, DataError> {
    let file = File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => DataError::Missing {
            dataset: "omniglot".to_owned(),
            path: path.to_owned(),
            hint: "put train.txt, val.txt and test.txt there from data/omniglot/splits/vinyals of \
                   https://github.com/jakesnell/prototypical-networks, or choose the partition official or random"
                .to_owned(),
        },
        _ => DataError::io(path, error),
    })?;
    let mut bytes = Vec::new();
    file.take(MAX_LENGTH + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| DataError::io(path, error))?;
    let damaged = |problem: String| DataError::Damaged {
        path: path.to_owned(),
        problem,
    };
    if bytes.len() as u64 > MAX_LENGTH {
        return Err(damaged(format!(
            "longer than the {MAX_LENGTH} bytes that a split file may have; is it the right file?"
        )));
    }
    String::from_utf8(bytes).map_err(|_| damaged("not UTF-8 text; is it the right file?".to_owned()))
}

/// The class on a line; a line without rotation means the character as drawn.
fn parse(line: &str, known: &BTreeMap<(&str, &str), usize>) -> Result<Turned, String> {
    let expected =
        || format!("expected Alphabet/characterNN/rotRRR with RRR 000, 090, 180 or 270, found `{line}`");
    let mut parts = line.split('/');
    let (Some(alphabet), Some(name)) = (parts.next(), parts.next()) else {
        return Err(expected());
    };
    let rotation = parts.next().map_or(Some(Rotation::R0), Rotation::from_name);
    let (Some(rotation), None) = (rotation, parts.next()) else {
        return Err(expected());
    };
    let character = known.get(&(alphabet, name)).ok_or_else(|| {
        format!(
            "no character `{alphabet}/{name}` in the images; correct the line or get the published images"
        )
    })?;
    Ok((*character, rotation))
}
