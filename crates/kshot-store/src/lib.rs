//! Where enrolled classes lie: the model, pictures, embeddings and names, kept when the process ends.
//!
//! A [`ClassStore`] is one SQLite file ([`sqlite::SqliteStore`]) or a database of a PostgreSQL server
//! (feature `postgres`), behind one trait. A [`Library`] is a store and a classifier in step with it:
//!
//! ```
//! use kshot::{classifier::Head, trained::Trained};
//! use kshot_store::{Library, open, open_or_create};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # std::env::set_current_dir(&folder)?;
//! # image::GrayImage::from_fn(40, 40, |x, y| image::Luma([if x == y { 0 } else { 255 }])).save("a1.png")?;
//! let model = Trained::find("glyphs-conv4")?;
//! let mut library = Library::with_model(open_or_create("letters.kshot")?, model, Head::Model)?;
//! library.add("alpha", vec![("a1.png".to_owned(), std::fs::read("a1.png")?)])?;
//! drop(library);
//! let library = Library::open(open("letters.kshot")?, Head::Model)?;
//! assert_eq!(library.classifier().classes().len(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! What a store has said to be added is on the disk: neither a killed process nor a power cut loses it.

mod error;
mod library;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod sqlite;
mod store;

pub use error::StoreError;
pub use library::Library;
pub use store::{
    Change, ClassStore, Contents, NewExample, Quotas, StoredClass, StoredExample, StoredModel, Usage,
    Watcher, is_address, open, open_or_create,
};
