//! Parquet tables: the features in one column of lists, or in columns of numbers, and the labels in a column.

use std::fs::File;
use std::path::Path;

use parquet::basic::{ConvertedType, LogicalType, Type};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use parquet::data_type::{ByteArray, DataType, FixedLenByteArray};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;

use super::Label;
use super::npy::half;
use super::table::{FEATURES, Found, LABELS};
use crate::data::{DataError, pixels};
use crate::foreign::guarded;

/// Rows that are decoded at once.
const BATCH: usize = 1024;
/// Most values of a page: few bytes can stand for many.
const MAX_PAGE: u32 = 1 << 24;
/// Under such names pandas writes a table's index.
const INDEX: &str = "__index_level_";

/// Reads `path`.
pub fn read(path: &Path) -> Result<Found, DataError> {
    let damaged = |problem: String| DataError::Damaged {
        path: path.to_owned(),
        problem,
    };
    let file = File::open(path).map_err(|error| DataError::io(path, error))?;
    match guarded(|| table(file)) {
        Ok(found) => {
            let (shape, values, labels) = found.map_err(damaged)?;
            Ok((shape, values, labels.map_err(damaged)))
        }
        Err(panic) => Err(damaged(format!(
            "not a readable Parquet file (its reader failed: {panic})"
        ))),
    }
}

/// The shape, the features, and the labels or why there are none.
type Contents = (Vec<usize>, Vec<f32>, Result<Vec<Label>, String>);

fn table(file: File) -> Result<Contents, String> {
    let table = Table(SerializedFileReader::new(file).map_err(unreadable)?);
    let label = table.label();
    let index = label.as_ref().ok().copied();
    let (width, values) = match table.list(index) {
        Some(index) => table.rows_of_lists(index)?,
        None => table.rows_of_columns(&table.numbers(index)?)?,
    };
    let labels = label.and_then(|label| table.labels(label));
    // A width of 0 has no rows to count.
    let n = values.len().checked_div(width).unwrap_or(0);
    Ok((vec![n, width], values, labels))
}

fn unreadable(error: ParquetError) -> String {
    format!("not a readable Parquet file ({error})")
}

/// A table's values, column by column.
struct Table(SerializedFileReader<File>);

impl Table {
    fn columns(&self) -> impl Iterator<Item = (usize, &ColumnDescriptor)> {
        let schema = self.0.metadata().file_metadata().schema_descr();
        schema.columns().iter().map(AsRef::as_ref).enumerate()
    }

    fn column(&self, index: usize) -> &ColumnDescriptor {
        let schema = self.0.metadata().file_metadata().schema_descr();
        &schema.columns()[index]
    }

    fn names(&self) -> String {
        let mut names: Vec<&str> = self.columns().map(|(_, column)| top(column)).collect();
        names.dedup();
        names.join(", ")
    }

    /// The column of the labels.
    fn label(&self) -> Result<usize, String> {
        let named = |wanted: &&'static str| {
            self.columns()
                .find(|(_, column)| is_plain(column) && top(column) == *wanted)
        };
        let found = LABELS.iter().find_map(named);
        found.map(|(index, _)| index).ok_or_else(|| {
            format!(
                "no column called {}; there are {}",
                LABELS.join(", "),
                self.names()
            )
        })
    }

    /// The column of lists that holds the features, if there is one.
    fn list(&self, label: Option<usize>) -> Option<usize> {
        let named = |wanted: &&'static str| {
            let is_it = |column: &ColumnDescriptor| column.max_rep_level() == 1 && top(column) == *wanted;
            self.columns()
                .find(|&(index, column)| Some(index) != label && is_it(column))
        };
        let found = FEATURES.iter().find_map(named);
        found.map(|(index, _)| index)
    }

    /// The columns that are a feature each.
    fn numbers(&self, label: Option<usize>) -> Result<Vec<usize>, String> {
        let mut found = Vec::new();
        for (index, column) in self.columns() {
            if Some(index) == label || !is_plain(column) || top(column).starts_with(INDEX) {
                continue;
            }
            match column.physical_type() {
                Type::INT32 | Type::INT64 => {
                    return Err(format!(
                        "column `{}` holds whole numbers; leave it out, or if it is a feature make it one of \
                         floats (astype('float32'))",
                        top(column)
                    ));
                }
                _ if is_float(column) => found.push(index),
                _ => {}
            }
        }
        if found.is_empty() {
            return Err(format!(
                "no column called {} holds lists of numbers, and none holds floats; there are {}",
                FEATURES.join(", "),
                self.names()
            ));
        }
        Ok(found)
    }

    fn labels(&self, index: usize) -> Result<Vec<Label>, String> {
        let column = self.column(index);
        let unsigned = column.converted_type() == ConvertedType::UINT_32;
        let mut labels = Values::new(column, |label| match label {
            Label::Text(text) => text.len(),
            Label::Number(_) => 0,
        });
        for reader in self.readers(index) {
            match reader? {
                ColumnReader::Int32ColumnReader(reader) => labels.take(reader, |&number| {
                    Label::Number(if unsigned {
                        i64::from(number.cast_unsigned())
                    } else {
                        number.into()
                    })
                })?,
                ColumnReader::Int64ColumnReader(reader) => {
                    labels.take(reader, |&number| Label::Number(number))?;
                }
                ColumnReader::BoolColumnReader(reader) => {
                    labels.take(reader, |&truth| Label::Number(truth.into()))?;
                }
                ColumnReader::ByteArrayColumnReader(reader) => labels.take(reader, |text: &ByteArray| {
                    Label::Text(String::from_utf8_lossy(text.data()).into_owned())
                })?,
                _ => {
                    return Err(format!(
                        "column `{}` of labels holds {}, expected whole numbers or text",
                        top(column),
                        column.physical_type()
                    ));
                }
            }
        }
        Ok(labels.values)
    }

    /// A row for each list.
    fn rows_of_lists(&self, index: usize) -> Result<(usize, Vec<f32>), String> {
        let Values {
            values,
            column,
            lengths,
            ..
        } = self.floats(index)?;
        let width = lengths.first().copied().unwrap_or_default();
        match lengths.iter().position(|&length| length != width) {
            None => Ok((width, values)),
            Some(row) => Err(format!(
                "column `{}` has {width} features in row 0 and {} in row {row}; all rows need as many",
                top(column),
                lengths[row]
            )),
        }
    }

    /// A row across the columns.
    fn rows_of_columns(&self, columns: &[usize]) -> Result<(usize, Vec<f32>), String> {
        let width = columns.len();
        let mut values = Vec::new();
        for (place, &index) in columns.iter().enumerate() {
            let found = self.floats(index)?.values;
            let total = found.len().checked_mul(width);
            if place == 0 {
                check_size(total.and_then(|total| total.checked_mul(4)))?;
                values.resize(total.unwrap_or_default(), 0.0);
            }
            if total != Some(values.len()) {
                return Err("columns of different lengths; the file is damaged".to_owned());
            }
            for (row, value) in values.chunks_exact_mut(width).zip(found) {
                row[place] = value;
            }
        }
        Ok((width, values))
    }

    fn floats(&self, index: usize) -> Result<Values<'_, f32>, String> {
        let column = self.column(index);
        let mut floats = Values::new(column, |_| 0);
        for reader in self.readers(index) {
            match reader? {
                ColumnReader::FloatColumnReader(reader) => floats.take(reader, |&value| value)?,
                ColumnReader::DoubleColumnReader(reader) => floats.take(reader, |&value| value as f32)?,
                ColumnReader::FixedLenByteArrayColumnReader(reader) if is_float(column) => {
                    floats.take(reader, |value: &FixedLenByteArray| match *value.data() {
                        [low, high] => half(u16::from_le_bytes([low, high])),
                        _ => f32::NAN,
                    })?;
                }
                _ => {
                    return Err(format!(
                        "column `{}` of features holds {}, expected floats",
                        top(column),
                        column.physical_type()
                    ));
                }
            }
        }
        Ok(floats)
    }

    /// A reader for the column in each group of rows.
    fn readers(&self, index: usize) -> impl Iterator<Item = Result<ColumnReader, String>> + '_ {
        (0..self.0.num_row_groups()).map(move |group| {
            let schema = self.0.metadata().file_metadata().schema_descr();
            let pages = self
                .0
                .get_row_group(group)
                .and_then(|group| group.get_column_page_reader(index))
                .map_err(unreadable)?;
            Ok(get_column_reader(schema.column(index), Box::new(Bounded(pages))))
        })
    }
}

/// A column's name in the table.
fn top(column: &ColumnDescriptor) -> &str {
    column.path().parts().first().map_or("", String::as_str)
}

/// Whether a column has one value a row.
fn is_plain(column: &ColumnDescriptor) -> bool {
    column.path().parts().len() == 1 && column.max_rep_level() == 0
}

fn is_float(column: &ColumnDescriptor) -> bool {
    match column.physical_type() {
        Type::FLOAT | Type::DOUBLE => true,
        Type::FIXED_LEN_BYTE_ARRAY => matches!(column.logical_type_ref(), Some(LogicalType::Float16)),
        _ => false,
    }
}

fn check_size(bytes: Option<usize>) -> Result<(), String> {
    match bytes {
        Some(bytes) if bytes as u64 <= pixels::MAX_DATASET => Ok(()),
        _ => Err(format!(
            "more than {} MiB of values; split the table",
            pixels::MAX_DATASET >> 20
        )),
    }
}

/// What has been read of a column.
struct Values<'a, T> {
    column: &'a ColumnDescriptor,
    values: Vec<T>,
    /// How many values each row has.
    lengths: Vec<usize>,
    /// What a value takes beside itself, in bytes.
    extra: fn(&T) -> usize,
    /// What all take together.
    bytes: usize,
}

impl<'a, T> Values<'a, T> {
    fn new(column: &'a ColumnDescriptor, extra: fn(&T) -> usize) -> Self {
        Self {
            column,
            values: Vec::new(),
            lengths: Vec::new(),
            extra,
            bytes: 0,
        }
    }

    /// Takes all rows of a reader; none may miss a value.
    fn take<D: DataType>(
        &mut self,
        mut reader: ColumnReaderImpl<D>,
        convert: impl Fn(&D::T) -> T,
    ) -> Result<(), String> {
        let (full, lists) = (self.column.max_def_level(), self.column.max_rep_level() > 0);
        let (mut definitions, mut repetitions, mut batch) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            definitions.clear();
            repetitions.clear();
            batch.clear();
            let (rows, _, _) = reader
                .read_records(BATCH, Some(&mut definitions), Some(&mut repetitions), &mut batch)
                .map_err(unreadable)?;
            if rows == 0 {
                return Ok(());
            }
            if let Some(at) = definitions.iter().position(|&level| level != full) {
                let before = if lists {
                    let starts = repetitions.iter().take(at + 1);
                    starts.filter(|&&level| level == 0).count().saturating_sub(1)
                } else {
                    at
                };
                return Err(format!(
                    "column `{}` has no value in row {} (null{}); leave such rows out",
                    top(self.column),
                    self.lengths.len() + before,
                    if lists { ", or an empty list" } else { "" }
                ));
            }
            if lists {
                for level in &repetitions {
                    match (level, self.lengths.last_mut()) {
                        (1.., Some(length)) => *length += 1,
                        _ => self.lengths.push(1),
                    }
                }
            } else {
                self.lengths.resize(self.lengths.len() + batch.len(), 1);
            }
            for value in batch.iter().map(&convert) {
                self.bytes += size_of::<T>() + (self.extra)(&value);
                check_size(Some(self.bytes))?;
                self.values.push(value);
            }
        }
    }
}

/// Pages that are refused when they claim to hold more values than any has.
struct Bounded(Box<dyn PageReader>);

impl Iterator for Bounded {
    type Item = ParquetResult<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Bounded {
    fn get_next_page(&mut self) -> ParquetResult<Option<Page>> {
        let page = self.0.get_next_page()?;
        match &page {
            Some(page) if page.num_values() > MAX_PAGE => Err(ParquetError::General(format!(
                "a page of {} values, and at most {MAX_PAGE} are read",
                page.num_values()
            ))),
            _ => Ok(page),
        }
    }

    fn peek_next_page(&mut self) -> ParquetResult<Option<PageMetadata>> {
        self.0.peek_next_page()
    }

    fn skip_next_page(&mut self) -> ParquetResult<()> {
        self.0.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> ParquetResult<bool> {
        self.0.at_record_boundary()
    }
}

#[cfg(test)]
mod tests;
