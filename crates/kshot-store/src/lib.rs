//! Where enrolled classes lie: the model, pictures, embeddings and names, kept when the process ends.
//!
//! A [`ClassStore`] is one SQLite file ([`sqlite::SqliteStore`]) or a database of a PostgreSQL server
//! (feature `postgres`), behind one trait. A [`Library`] is a store and a classifier in step with it:
//!
//! ```no_run
//! # fn main() -> Result<(), kshot_store::StoreError> {
//! use kshot::{classifier::Head, trained::Trained};
//! use kshot_store::{Library, open_or_create};
//!
//! let model = Trained::find("glyphs-conv4")?;
//! let mut library = Library::with_model(open_or_create("letters.kshot")?, model, Head::Model)?;
//! library.add("alpha", vec![("a1.png".to_owned(), std::fs::read("a1.png").unwrap_or_default())])?;
//! println!("{} classes", library.classifier().classes().len());
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
