//! Examples as they are shown, with their pictures.

use std::sync::Mutex;

use kshot::classifier::ContentHash;

use super::{Snapshot, Workspace};
use crate::budget::Share;
use crate::convert::{no_class, no_example, store_problem};
use crate::entries::ExampleEntry;
use crate::problem::Problem;
use crate::{decode, large};

impl Workspace {
    /// A class's examples, oldest first, with their pictures as far as the memory for them is in `share` or can be had.
    ///
    /// # Errors
    /// 404; 503 where pictures would take more memory than there is.
    pub fn examples(&self, class: &str, pictures: Option<&mut Share>) -> Result<Vec<ExampleEntry>, Problem> {
        let snapshot = self.snapshot();
        let known = snapshot.index.class(class).ok_or_else(|| no_class(class))?;
        self.entries(&snapshot, class, &known.examples, pictures)
    }

    pub(super) fn entries(
        &self,
        snapshot: &Snapshot,
        class: &str,
        hashes: &[ContentHash],
        mut pictures: Option<&mut Share>,
    ) -> Result<Vec<ExampleEntry>, Problem> {
        let known = snapshot.classifier.class(class);
        let mut memory = 0;
        let entry = |&hash: &ContentHash| {
            let name = known
                .and_then(|known| known.example(hash))
                .map_or("", |example| example.name());
            let mut entry = ExampleEntry {
                id: hash.to_string(),
                name: name.to_owned(),
                ink: None,
                picture: None,
            };
            if let Some(share) = &mut pictures {
                let shown = self.thumbnail(class, hash)?;
                let picture = decode::data_address(&shown.png);
                // It is there twice while the answer is written as text.
                memory += 2 * picture.len();
                if !share.grow(memory) {
                    return Err(large::too_many());
                }
                (entry.ink, entry.picture) = (Some(shown.ink), Some(picture));
            }
            Ok(entry)
        };
        hashes.iter().map(entry).collect()
    }

    /// An example's picture as a PNG of at most [`decode::THUMBNAIL`] pixels a side.
    ///
    /// # Errors
    /// 404.
    pub fn picture(&self, class: &str, example: &str) -> Result<Vec<u8>, Problem> {
        let hash = self.known(class, example)?;
        self.thumbnail(class, hash).map(|shown| shown.png)
    }

    /// Stored pictures are read and made small one after the other, whoever asks: one may be of 32 MiB and 40 million pixels.
    fn thumbnail(&self, class: &str, hash: ContentHash) -> Result<decode::Thumbnail, Problem> {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _alone = ONE_AT_A_TIME.lock();
        let bytes = self.lock().store().picture(class, hash).map_err(store_problem)?;
        let bytes = bytes.ok_or_else(|| no_example(class, &hash.to_string()))?;
        decode::thumbnail(&bytes)
    }
}
