//! A store and a classifier in step with it.

use std::path::Path;
use std::sync::Arc;

use kshot::classifier::{Added, ContentHash, Example, FewShotClassifier, Head, Picture, check_name};
use kshot::trained::Trained;
use rayon::prelude::*;

use crate::error::StoreError;
use crate::store::{Change, ClassStore, Contents, NewExample, StoredModel};

/// A store and a classifier in step with it: every change goes to the store first, and to the classifier when it is on
/// the disk.
pub struct Library {
    store: Box<dyn ClassStore>,
    classifier: FewShotClassifier,
    head: Head,
    /// The store's change number that the classifier shows.
    change: u64,
}

impl Library {
    /// What a store holds, with the model that it holds.
    ///
    /// # Errors
    /// [`StoreError::NoModel`] for a store without one, and whatever the store says.
    pub fn open(store: Box<dyn ClassStore>, head: Head) -> Result<Self, StoreError> {
        let Some(model) = store.model()? else {
            return Err(StoreError::NoModel {
                place: store.place().to_owned(),
            });
        };
        let model = Trained::from_bytes(&model.bytes, Path::new(store.place()))?;
        Self::load(store, Arc::new(model), head)
    }

    /// What a store holds, with this model: it is put into a store that has none.
    ///
    /// # Errors
    /// [`StoreError::OtherModel`] for a store with another one; see [`Library::re_embed`].
    pub fn with_model(store: Box<dyn ClassStore>, model: Trained, head: Head) -> Result<Self, StoreError> {
        match store.model()? {
            Some(found) if found.id != model.id() => Err(StoreError::OtherModel {
                place: store.place().to_owned(),
                found: format!("{} ({})", found.name, found.id),
                wanted: format!("{} ({})", model.name(), model.id()),
            }),
            Some(_) => Self::load(store, Arc::new(model), head),
            None => {
                store.set_model(&stored(&model)?, &[])?;
                Self::load(store, Arc::new(model), head)
            }
        }
    }

    /// What a store holds, with this model in place of the store's: every picture is embedded anew.
    ///
    /// # Errors
    /// A picture that can't be decoded for the new model; the store is as it was then.
    pub fn re_embed(store: Box<dyn ClassStore>, model: Trained, head: Head) -> Result<Self, StoreError> {
        let mut embeddings = Vec::new();
        for class in store.contents()?.classes {
            // Class by class, so that not all pictures are in memory at once.
            let mut pictures = Vec::with_capacity(class.examples.len());
            for example in &class.examples {
                pictures.push(decode(
                    store.as_ref(),
                    &model,
                    &class.name,
                    example.hash,
                    &example.name,
                )?);
            }
            let vectors = model.embed(&pictures.iter().collect::<Vec<_>>())?;
            embeddings.extend(class.examples.iter().map(|example| example.id).zip(vectors));
        }
        store.set_model(&stored(&model)?, &embeddings)?;
        Self::load(store, Arc::new(model), head)
    }

    /// The classifier as of the last change or refresh.
    pub fn classifier(&self) -> &FewShotClassifier {
        &self.classifier
    }

    /// The store.
    pub fn store(&self) -> &dyn ClassStore {
        self.store.as_ref()
    }

    /// The store's change number that the classifier shows.
    pub fn change(&self) -> u64 {
        self.change
    }

    /// Sets when a picture is called none of the classes; the store doesn't keep it.
    ///
    /// # Errors
    /// A probability outside `[0, 1]`.
    pub fn set_unknown(&mut self, unknown: kshot::classifier::Unknown) -> Result<(), StoreError> {
        Ok(self.classifier.set_unknown(unknown)?)
    }

    /// Takes in what others have changed in the store; says whether there was anything.
    ///
    /// # Errors
    /// What the store says; the classifier is as it was then.
    pub fn refresh(&mut self) -> Result<bool, StoreError> {
        if self.store.change()? == self.change {
            return Ok(false);
        }
        let model = self.store.model()?.ok_or_else(|| StoreError::NoModel {
            place: self.store.place().to_owned(),
        })?;
        let current = self.classifier.model();
        let model = if model.id == current.id() {
            current.clone()
        } else {
            Arc::new(Trained::from_bytes(&model.bytes, Path::new(self.store.place()))?)
        };
        let (change, mut classifier) = classifier(self.store.as_ref(), model, self.head)?;
        classifier.set_unknown(self.classifier.unknown())?;
        (self.change, self.classifier) = (change, classifier);
        Ok(true)
    }

    /// Adds picture files (name and bytes) to a class; all of them, or none.
    ///
    /// # Errors
    /// A picture that can't be decoded, a quota, a name that can't be a class's, and what the store says.
    pub fn add(&mut self, class: &str, files: Vec<(String, Vec<u8>)>) -> Result<Vec<Added>, StoreError> {
        check_name(class)?;
        self.refresh()?;
        let input = *self.classifier.model().input();
        let pictures = files
            .par_iter()
            .map(|(name, bytes)| input.decode(bytes, Path::new(name)))
            .collect::<Result<Vec<_>, _>>()?;
        self.add_decoded(class, files, pictures)
    }

    /// As [`Library::add`], of files that are decoded already, for this library's model.
    ///
    /// # Errors
    /// As [`Library::add`].
    pub fn add_decoded(
        &mut self,
        class: &str,
        files: Vec<(String, Vec<u8>)>,
        pictures: Vec<Picture>,
    ) -> Result<Vec<Added>, StoreError> {
        check_name(class)?;
        self.refresh()?;
        let model = self.classifier.model().clone();
        let embeddings = model.embed(&pictures.iter().collect::<Vec<_>>())?;
        let mut new = Vec::with_capacity(files.len());
        let mut examples = Vec::with_capacity(files.len());
        for (((name, bytes), picture), embedding) in files.into_iter().zip(&pictures).zip(embeddings) {
            examples.push(Example::new(name.as_str(), picture, embedding.clone()));
            new.push(NewExample {
                name,
                hash: picture.hash(),
                picture: bytes,
                embedding,
            });
        }
        // What the classifier would refuse must not get into the store.
        let mut changed = self.classifier.clone();
        changed.add_examples(class, examples)?;
        let (change, added) = self.store.add(model.id(), class, &new)?;
        self.adopt(change, changed)?;
        Ok(added)
    }

    /// Gives a class another name.
    ///
    /// # Errors
    /// A class that isn't there, a name that is taken, and what the store says.
    pub fn rename_class(&mut self, from: &str, to: &str) -> Result<(), StoreError> {
        check_name(to)?;
        self.refresh()?;
        let change = self.store.rename_class(from, to)?;
        self.apply(change, |classifier| classifier.rename_class(from, to))
    }

    /// Removes a class with its examples.
    ///
    /// # Errors
    /// A class that isn't there, and what the store says.
    pub fn remove_class(&mut self, class: &str) -> Result<(), StoreError> {
        self.refresh()?;
        let change = self.store.remove_class(class)?;
        self.apply(change, |classifier| classifier.remove_class(class))
    }

    /// Removes an example, and its class with the last one.
    ///
    /// # Errors
    /// One that isn't there, and what the store says.
    pub fn remove_example(&mut self, class: &str, hash: ContentHash) -> Result<(), StoreError> {
        self.refresh()?;
        let change = self.store.remove_example(class, hash)?;
        self.apply(change, |classifier| classifier.remove_example(class, hash))
    }

    fn apply(
        &mut self,
        change: Change,
        apply: impl FnOnce(&mut FewShotClassifier) -> Result<(), kshot::Error>,
    ) -> Result<(), StoreError> {
        let mut changed = self.classifier.clone();
        if change.before == self.change {
            apply(&mut changed)?;
        }
        self.adopt(change, changed)
    }

    /// Takes `changed` if nobody else has changed the store in between, else what the store holds now.
    fn adopt(&mut self, change: Change, changed: FewShotClassifier) -> Result<(), StoreError> {
        if change.before == self.change {
            (self.change, self.classifier) = (change.after, changed);
        } else {
            self.refresh()?;
        }
        Ok(())
    }

    fn load(store: Box<dyn ClassStore>, model: Arc<Trained>, head: Head) -> Result<Self, StoreError> {
        let (change, classifier) = classifier(store.as_ref(), model, head)?;
        Ok(Self {
            store,
            classifier,
            head,
            change,
        })
    }
}

fn classifier(
    store: &dyn ClassStore,
    model: Arc<Trained>,
    head: Head,
) -> Result<(u64, FewShotClassifier), StoreError> {
    let Contents { change, classes } = store.contents()?;
    let mut classifier = FewShotClassifier::with_head(model, head);
    for class in classes {
        let mut examples = Vec::with_capacity(class.examples.len());
        for example in class.examples {
            examples.push(if classifier.kernel().is_some() {
                Example::embedded(example.name, example.hash, example.embedding)
            } else {
                let model = classifier.model();
                let picture = decode(store, model, &class.name, example.hash, &example.name)?;
                Example::new(example.name, &picture, example.embedding)
            });
        }
        classifier.add_examples(&class.name, examples)?;
    }
    Ok((change, classifier))
}

fn decode(
    store: &dyn ClassStore,
    model: &Trained,
    class: &str,
    hash: ContentHash,
    name: &str,
) -> Result<Picture, StoreError> {
    let bytes = store.picture(class, hash)?.ok_or_else(|| StoreError::Unusable {
        place: store.place().to_owned(),
        problem: format!("the picture of example `{name}` of class `{class}` is gone; remove the example"),
    })?;
    Ok(model.input().decode(&bytes, Path::new(name))?)
}

fn stored(model: &Trained) -> Result<StoredModel, StoreError> {
    Ok(StoredModel {
        id: model.id().to_owned(),
        name: model.name().to_owned(),
        bytes: model.file().to_bytes()?,
    })
}
