//! A store and a classifier in step with it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use kshot::classifier::{Added, ContentHash, Example, FewShotClassifier, Head, Picture, check_name};
use kshot::trained::Trained;
use rayon::prelude::*;

use crate::error::StoreError;
use crate::store::{Change, ClassStore, Contents, NewExample, StoredModel, picture_of, whole};

/// A store and a classifier in step with it: every change goes to the store first, and to the classifier when it is on
/// the disk.
pub struct Library {
    store: Box<dyn ClassStore>,
    head: Head,
    held: Held,
    /// The store's change number that this shows.
    change: u64,
}

/// The store's classes: those with examples are the classifier's.
#[derive(Clone)]
struct Held {
    classifier: FewShotClassifier,
    empty: BTreeSet<String>,
}

impl Library {
    /// What a store holds, with the model that it holds.
    ///
    /// # Errors
    /// [`StoreError::NoModel`] for a store without one, and whatever the store says.
    pub fn open(store: Box<dyn ClassStore>, head: Head) -> Result<Self, StoreError> {
        Self::load(store, None, head)
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
            Some(_) => Self::load(store, Some(model), head),
            None => {
                store.set_model(&stored(&model)?, &[])?;
                Self::load(store, Some(model), head)
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
        Self::load(store, Some(model), head)
    }

    /// The classifier as of the last change or refresh.
    pub fn classifier(&self) -> &FewShotClassifier {
        &self.held.classifier
    }

    /// The classes without examples, which the classifier doesn't know.
    pub fn empty_classes(&self) -> &BTreeSet<String> {
        &self.held.empty
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
        Ok(self.held.classifier.set_unknown(unknown)?)
    }

    /// Takes in what others have changed in the store; says whether there was anything.
    ///
    /// # Errors
    /// What the store says; the classifier is as it was then.
    pub fn refresh(&mut self) -> Result<bool, StoreError> {
        if self.store.change()? == self.change {
            return Ok(false);
        }
        let (change, mut held) = read(self.store.as_ref(), Some(self.classifier().model()), self.head)?;
        held.classifier.set_unknown(self.classifier().unknown())?;
        (self.change, self.held) = (change, held);
        Ok(true)
    }

    /// Makes a class without examples.
    ///
    /// # Errors
    /// A name that is taken or can't be a class's, a quota, and what the store says.
    pub fn add_class(&mut self, class: &str) -> Result<(), StoreError> {
        check_name(class)?;
        self.refresh()?;
        let change = self.store.add_class(class)?;
        self.apply(change, |held| {
            held.empty.insert(class.to_owned());
            Ok(())
        })
    }

    /// Adds picture files (name and bytes) to a class; all of them, or none.
    ///
    /// # Errors
    /// A picture that can't be decoded, a quota, a name that can't be a class's, and what the store says.
    pub fn add(&mut self, class: &str, files: Vec<(String, Vec<u8>)>) -> Result<Vec<Added>, StoreError> {
        check_name(class)?;
        self.refresh()?;
        let input = *self.classifier().model().input();
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
        let model = self.classifier().model().clone();
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
        let mut changed = self.held.clone();
        changed.classifier.add_examples(class, examples)?;
        if changed.classifier.class(class).is_some() {
            changed.empty.remove(class);
        }
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
        self.apply(change, |held| {
            if held.empty.remove(from) {
                held.empty.insert(to.to_owned());
                return Ok(());
            }
            held.classifier.rename_class(from, to)
        })
    }

    /// Removes a class with its examples.
    ///
    /// # Errors
    /// A class that isn't there, and what the store says.
    pub fn remove_class(&mut self, class: &str) -> Result<(), StoreError> {
        self.refresh()?;
        let change = self.store.remove_class(class)?;
        self.apply(change, |held| {
            if held.empty.remove(class) {
                return Ok(());
            }
            held.classifier.remove_class(class)
        })
    }

    /// Removes every class.
    ///
    /// # Errors
    /// What the store says; everything is as it was then.
    pub fn clear(&mut self) -> Result<(), StoreError> {
        self.refresh()?;
        let change = self.store.clear()?;
        let head = self.head;
        self.apply(change, |held| {
            let model = held.classifier.model().clone();
            let mut classifier = FewShotClassifier::with_head(model, head);
            classifier.set_unknown(held.classifier.unknown())?;
            held.classifier = classifier;
            held.empty.clear();
            Ok(())
        })
    }

    /// Removes an example; its class stays, be it without any.
    ///
    /// # Errors
    /// One that isn't there, and what the store says.
    pub fn remove_example(&mut self, class: &str, hash: ContentHash) -> Result<(), StoreError> {
        self.refresh()?;
        let change = self.store.remove_example(class, hash)?;
        self.apply(change, |held| {
            held.classifier.remove_example(class, hash)?;
            if held.classifier.class(class).is_none() {
                held.empty.insert(class.to_owned());
            }
            Ok(())
        })
    }

    /// Makes it hold what another library holds, model and all, in place of everything.
    ///
    /// # Errors
    /// What either store says; everything is as it was then.
    pub fn replace(&mut self, with: &Library) -> Result<(), StoreError> {
        let unknown = self.classifier().unknown();
        self.change = self.store.replace(with.store())?.after;
        self.held = with.held.clone();
        self.held.classifier.set_unknown(unknown)?;
        Ok(())
    }

    fn apply(
        &mut self,
        change: Change,
        apply: impl FnOnce(&mut Held) -> Result<(), kshot::Error>,
    ) -> Result<(), StoreError> {
        let mut changed = self.held.clone();
        if change.before == self.change {
            apply(&mut changed)?;
        }
        self.adopt(change, changed)
    }

    /// Takes `changed` if nobody else has changed the store in between, else what the store holds now.
    fn adopt(&mut self, change: Change, changed: Held) -> Result<(), StoreError> {
        if change.before == self.change {
            (self.change, self.held) = (change.after, changed);
        } else {
            self.refresh()?;
        }
        Ok(())
    }

    fn load(store: Box<dyn ClassStore>, model: Option<Trained>, head: Head) -> Result<Self, StoreError> {
        let model = model.map(Arc::new);
        let (change, held) = read(store.as_ref(), model.as_ref(), head)?;
        Ok(Self {
            store,
            head,
            held,
            change,
        })
    }
}

/// What a store holds at one moment, with its change number; `known` is a model that may be its own.
fn read(store: &dyn ClassStore, known: Option<&Arc<Trained>>, head: Head) -> Result<(u64, Held), StoreError> {
    let known = |id: &str| known.filter(|model| model.id() == id).cloned();
    let from_store = |model: StoredModel| {
        Ok(Arc::new(Trained::from_bytes(
            &model.bytes,
            Path::new(store.place()),
        )?))
    };
    let (model, Contents { change, classes, .. }) = whole(store, known, from_store)?;
    let mut features = None;
    let mut held = Held {
        classifier: FewShotClassifier::with_head(model, head),
        empty: BTreeSet::new(),
    };
    for class in classes {
        let classifier = &mut held.classifier;
        if class.examples.is_empty() {
            check_name(&class.name)?;
            held.empty.insert(class.name);
            continue;
        }
        let model = classifier.model();
        let features = *match &mut features {
            Some(features) => features,
            none => none.insert(features_of(model)?),
        };
        let mut examples = Vec::with_capacity(class.examples.len());
        for example in class.examples {
            if example.embedding.len() != features {
                return Err(StoreError::Unusable {
                    place: store.place().to_owned(),
                    problem: format!(
                        "example `{}` of class `{}` has {} features, and model {} gives {features}; remove and add it again",
                        example.name,
                        class.name,
                        example.embedding.len(),
                        model.name()
                    ),
                });
            }
            examples.push(if classifier.kernel().is_some() {
                Example::embedded(example.name, example.hash, example.embedding)
            } else {
                let picture = decode(store, model, &class.name, example.hash, &example.name)?;
                Example::new(example.name, &picture, example.embedding)
            });
        }
        classifier.add_examples(&class.name, examples)?;
    }
    Ok((change, held))
}

/// How many features a model gives a picture.
fn features_of(model: &Trained) -> Result<usize, kshot::Error> {
    let blank = Picture::from_values(vec![0.0; model.input().shape.len()])?;
    let embeddings = model.embed(&[&blank])?;
    Ok(embeddings.first().map_or(0, |embedding| embedding.len()))
}

fn decode(
    store: &dyn ClassStore,
    model: &Trained,
    class: &str,
    hash: ContentHash,
    name: &str,
) -> Result<Picture, StoreError> {
    let bytes = picture_of(store, class, hash, name)?;
    Ok(model.input().decode(&bytes, Path::new(name))?)
}

fn stored(model: &Trained) -> Result<StoredModel, StoreError> {
    Ok(StoredModel {
        id: model.id().to_owned(),
        name: model.name().to_owned(),
        bytes: model.file().to_bytes()?,
    })
}
