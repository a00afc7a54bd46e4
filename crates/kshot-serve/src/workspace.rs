//! The classes: the store and its classifier, changed one after the other, read by all at any time.
//!
//! Every change goes to the store, and when it is on the disk a new [`Snapshot`] takes the place of the old one. Who reads
//! holds a snapshot, and neither waits for a change nor sees half of one.

mod shown;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use kshot::classifier::{ContentHash, FewShotClassifier, Input, Picture, Polarity, check_name};
use kshot_store::{Library, StoreError, Watcher};
use tempfile::TempDir;

use crate::answer::Found;
use crate::budget::Share;
use crate::config::Limits;
use crate::convert::{no_class, no_example, problem, store_problem, taken};
use crate::decode;
use crate::download::{Download, Downloads};
use crate::entries::{ClassEntry, ExampleEntry, ModelEntry};
use crate::index::{Class, Index};
use crate::plane::Map;
use crate::problem::{CONFLICT, Problem, QUOTA, UNUSABLE};
use crate::transfer;
use crate::upload::Encoded;
use crate::worker::Wish;

/// The classes.
pub struct Workspace {
    library: Mutex<Library>,
    snapshot: RwLock<Arc<Snapshot>>,
    downloads: Downloads,
    place: String,
    limits: Limits,
}

/// The classes at one moment.
#[derive(Debug)]
pub struct Snapshot {
    classifier: FewShotClassifier,
    index: Index,
    /// The store's change number that this is.
    change: u64,
    map: OnceLock<Arc<Map>>,
}

impl std::fmt::Debug for Workspace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workspace")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl Workspace {
    /// The classes of a library.
    ///
    /// # Errors
    /// What the store says.
    pub fn new(mut library: Library, limits: Limits) -> Result<Self, StoreError> {
        let index = in_step(&mut library)?;
        Ok(Self {
            place: library.store().place().to_owned(),
            snapshot: RwLock::new(Arc::new(Snapshot::of(&library, index))),
            library: Mutex::new(library),
            downloads: Downloads::default(),
            limits,
        })
    }

    /// Where the store is.
    pub fn place(&self) -> String {
        self.place.clone()
    }

    /// Waits for what other programs change in the store.
    pub fn watcher(&self) -> Box<dyn Watcher> {
        self.lock().store().watcher()
    }

    /// The classes as they are now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// What pictures the model takes.
    pub fn input(&self) -> Input {
        *self.snapshot().classifier.model().input()
    }

    /// The model.
    pub fn model(&self) -> ModelEntry {
        let snapshot = self.snapshot();
        let model = snapshot.classifier.model();
        ModelEntry {
            name: model.name().to_owned(),
            method: model.settings().method.name.to_owned(),
            image: model.input().shape,
            line_drawing: model.input().polarity == Polarity::Ink,
        }
    }

    /// How many classes there are.
    pub fn n_classes(&self) -> usize {
        self.snapshot().index.classes().len()
    }

    /// Examples of all classes together.
    pub fn n_examples(&self) -> usize {
        self.snapshot().index.n_examples()
    }

    /// Every class, oldest first.
    pub fn classes(&self) -> Vec<ClassEntry> {
        let snapshot = self.snapshot();
        let entry = |class: &Class| ClassEntry {
            name: class.name.clone(),
            n_examples: class.examples.len(),
        };
        snapshot.index.classes().map(entry).collect()
    }

    /// A class.
    ///
    /// # Errors
    /// 404.
    pub fn class(&self, name: &str) -> Result<ClassEntry, Problem> {
        let snapshot = self.snapshot();
        let class = snapshot.index.class(name).ok_or_else(|| no_class(name))?;
        Ok(ClassEntry {
            name: class.name.clone(),
            n_examples: class.examples.len(),
        })
    }

    /// Makes a class without examples.
    ///
    /// # Errors
    /// A name that is taken or can't be one, a quota.
    pub fn add_class(&self, name: &str) -> Result<ClassEntry, Problem> {
        check(name)?;
        let mut library = self.up_to_date()?;
        let snapshot = self.snapshot();
        if snapshot.index.class(name).is_some() {
            return Err(taken(name));
        }
        self.make_class(&mut library, name)
    }

    /// Makes a class of a name that is free.
    fn make_class(&self, library: &mut Library, name: &str) -> Result<ClassEntry, Problem> {
        let snapshot = self.snapshot();
        self.check_classes(&snapshot.index, 1)?;
        library.add_class(name).map_err(store_problem)?;
        let mut index = snapshot.index.clone();
        index.push(name);
        self.publish(library, index);
        self.class(name)
    }

    /// Makes a class called `stem` and the first number that is free.
    ///
    /// # Errors
    /// A quota.
    pub fn add_numbered_class(&self, stem: &str) -> Result<ClassEntry, Problem> {
        let mut library = self.up_to_date()?;
        let snapshot = self.snapshot();
        let taken: HashSet<&str> = snapshot
            .index
            .classes()
            .map(|class| class.name.as_str())
            .collect();
        let free = (1..)
            .map(|number| format!("{stem} {number}"))
            .find(|name| !taken.contains(name.as_str()));
        self.make_class(&mut library, &free.unwrap_or_else(|| stem.to_owned()))
    }

    /// Whether so many more classes and examples would be within the quotas.
    ///
    /// # Errors
    /// 422 that says which one they would break.
    pub fn check_room(&self, classes: usize, examples: usize) -> Result<(), Problem> {
        let snapshot = self.snapshot();
        self.check_classes(&snapshot.index, classes)?;
        let there = snapshot.index.n_examples();
        check_examples("all classes together", there, examples, self.limits.examples)
    }

    /// Renames a class.
    ///
    /// # Errors
    /// A class that isn't there, a name that is taken or can't be one.
    pub fn rename_class(&self, from: &str, to: &str) -> Result<ClassEntry, Problem> {
        check(to)?;
        let mut library = self.up_to_date()?;
        let mut index = self.snapshot().index.clone();
        index.class(from).ok_or_else(|| no_class(from))?;
        if from != to {
            if index.class(to).is_some() {
                return Err(taken(to));
            }
            library.rename_class(from, to).map_err(store_problem)?;
            index.rename(from, to);
            self.publish(&library, index);
        }
        drop(library);
        self.class(to)
    }

    /// Deletes a class with its examples.
    ///
    /// # Errors
    /// A class that isn't there.
    pub fn remove_class(&self, name: &str) -> Result<(), Problem> {
        let mut library = self.up_to_date()?;
        let mut index = self.snapshot().index.clone();
        index.class(name).ok_or_else(|| no_class(name))?;
        library.remove_class(name).map_err(store_problem)?;
        index.remove(name);
        self.publish(&library, index);
        Ok(())
    }

    /// Deletes every class, in one go.
    ///
    /// # Errors
    /// What the store says; everything is as it was then.
    pub fn remove_all(&self) -> Result<(), Problem> {
        let mut library = self.lock();
        library.clear().map_err(store_problem)?;
        self.publish(&library, self.snapshot().index.clone());
        Ok(())
    }

    /// Adds pictures to a class; gives their examples, with their pictures, for which `share` has the memory.
    ///
    /// # Errors
    /// A class that isn't there, a picture that can't be used, a quota; nothing is added then.
    pub fn add_examples(
        &self,
        class: &str,
        pictures: Vec<Encoded>,
        share: &mut Share,
    ) -> Result<Vec<ExampleEntry>, Problem> {
        let mut library = self.up_to_date()?;
        let snapshot = self.snapshot();
        let known = snapshot.index.class(class).ok_or_else(|| no_class(class))?;
        let most = self.limits.examples_per_class;
        check_examples(
            &format!("class `{class}`"),
            known.examples.len(),
            pictures.len(),
            most,
        )?;
        self.check_room(0, pictures.len())?;
        let input = self.input();
        let decoded = pictures
            .iter()
            .map(|one| decode::decode(&input, one))
            .collect::<Result<Vec<_>, _>>()?;
        let hashes: Vec<ContentHash> = decoded.iter().map(Picture::hash).collect();
        let files = pictures
            .into_iter()
            .map(|one| (one.name, one.bytes.to_vec()))
            .collect();
        library
            .add_decoded(class, files, decoded)
            .map_err(store_problem)?;
        let mut index = snapshot.index.clone();
        index.extend(class, &hashes);
        self.publish(&library, index);
        drop(library);
        self.entries(&self.snapshot(), class, &hashes, Some(share))
    }

    /// Deletes an example. A class whose last one it was is kept, without examples.
    ///
    /// # Errors
    /// 404.
    pub fn remove_example(&self, class: &str, example: &str) -> Result<(), Problem> {
        let mut library = self.up_to_date()?;
        let index = self.snapshot().index.clone();
        let hash = self.known(class, example)?;
        library.remove_example(class, hash).map_err(store_problem)?;
        self.publish(&library, index);
        Ok(())
    }

    fn known(&self, class: &str, example: &str) -> Result<ContentHash, Problem> {
        let snapshot = self.snapshot();
        let known = snapshot.index.class(class).ok_or_else(|| no_class(class))?;
        let hash: Option<ContentHash> = example.parse().ok();
        hash.filter(|hash| known.examples.contains(hash))
            .ok_or_else(|| no_example(class, example))
    }

    /// Recognises pictures.
    ///
    /// # Errors
    /// No examples, or pictures made for a model that has been replaced since.
    pub fn recognise(&self, pictures: &[&Picture], wish: Wish) -> Result<Vec<Found>, Problem> {
        let snapshot = self.snapshot();
        let classifier = &snapshot.classifier;
        if classifier.classes().len() == 0 {
            return Err(Problem::new(
                &CONFLICT,
                "no class has an example yet; add some first",
            ));
        }
        if classifier.kernel().is_none() {
            let pictures: Vec<Picture> = pictures.iter().map(|&picture| picture.clone()).collect();
            let answers = classifier.classify_as(&pictures, wish.show).map_err(problem)?;
            return Ok(answers
                .into_iter()
                .map(|answer| Found::new(answer, None))
                .collect());
        }
        let embeddings = classifier.model().embed(pictures).map_err(problem)?;
        let answers = classifier
            .classify_embedded(&embeddings, wish.show)
            .map_err(problem)?;
        let map = wish.place.then(|| snapshot.map());
        let place = |embedding: &[f32]| map.as_ref().and_then(|map| map.place(embedding));
        let found = answers.into_iter().zip(&embeddings);
        Ok(found
            .map(|(answer, embedding)| Found::new(answer, place(embedding)))
            .collect())
    }

    /// Whether no class has an example.
    pub fn is_empty(&self) -> bool {
        self.snapshot().classifier.classes().len() == 0
    }

    /// The examples in two dimensions.
    pub fn map(&self) -> Arc<Map> {
        self.snapshot().map()
    }

    /// The store as one file, which all share who ask for it while nothing changes.
    ///
    /// # Errors
    /// What the store or the disk says; too many older ones that are still being sent.
    pub fn export(&self) -> Result<Arc<Download>, Problem> {
        let library = self.lock();
        let store = library.store();
        let change = store.change().map_err(store_problem)?;
        self.downloads.of(change, |path| transfer::export(store, path))
    }

    /// Replaces everything by what a store's file in a folder of its own holds, in one go.
    ///
    /// # Errors
    /// A file that is no store, quotas, what the store says; everything is as it was then.
    pub fn import(&self, folder: TempDir) -> Result<(), Problem> {
        // Others go on until the file is known to be good.
        let incoming = transfer::read(folder, &self.limits)?;
        let mut library = self.lock();
        library.replace(incoming.library()).map_err(store_problem)?;
        let index = in_step(&mut library).map_err(store_problem)?;
        self.publish(&library, index);
        Ok(())
    }

    /// Takes in what other programs have changed in the store.
    ///
    /// # Errors
    /// What the store says.
    pub fn refresh(&self) -> Result<(), Problem> {
        self.up_to_date().map(drop)
    }

    /// The library with what other programs have changed in the store, which the snapshot shows as well.
    fn up_to_date(&self) -> Result<MutexGuard<'_, Library>, Problem> {
        let mut library = self.lock();
        library.refresh().map_err(store_problem)?;
        let snapshot = self.snapshot();
        // A change that was refused may have refreshed the library as well.
        if library.change() != snapshot.change {
            self.publish(&library, snapshot.index.clone());
        }
        Ok(library)
    }

    fn check_classes(&self, index: &Index, more: usize) -> Result<(), Problem> {
        if index.classes().len() + more > self.limits.classes {
            return Err(Problem::new(
                &QUOTA,
                format!(
                    "there may be {} classes, and there are {}; remove some, or raise the quota",
                    self.limits.classes,
                    index.classes().len()
                ),
            ));
        }
        Ok(())
    }

    /// Shows what the library holds, in the order of an index that was made from the last snapshot's.
    fn publish(&self, library: &Library, mut index: Index) {
        index.follow(
            &self.snapshot().classifier,
            library.classifier(),
            library.empty_classes(),
        );
        let snapshot = Arc::new(Snapshot::of(library, index));
        *self.snapshot.write().unwrap_or_else(PoisonError::into_inner) = snapshot;
    }

    /// A change that panicked has not been published, and the store undid it.
    fn lock(&self) -> MutexGuard<'_, Library> {
        self.library.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether so many more examples would be within a quota.
fn check_examples(what: &str, there: usize, more: usize, most: usize) -> Result<(), Problem> {
    if there + more > most {
        let problem =
            format!("{what} may have {most} examples and has {there}; remove some, or raise the quota");
        return Err(Problem::new(&QUOTA, problem));
    }
    Ok(())
}

/// The order in which everything came, with the library in step with it.
fn in_step(library: &mut Library) -> Result<Index, StoreError> {
    library.refresh()?;
    let mut contents = library.store().contents()?;
    // Another program may change the store in between. Where that goes on and on, the next refresh does the rest.
    for _ in 0..8 {
        if contents.change == library.change() {
            break;
        }
        library.refresh()?;
        contents = library.store().contents()?;
    }
    Ok(Index::of(contents))
}

/// Whether a class can be called so, and has an address: whoever asks for `/v1/classes/..` asks for `/v1/`.
pub fn check(name: &str) -> Result<(), Problem> {
    check_name(name).map_err(problem)?;
    if [".", ".."].contains(&name) {
        return Err(Problem::new(
            &UNUSABLE,
            format!("a class called `{name}` would have no address; choose another name"),
        ));
    }
    Ok(())
}

impl Snapshot {
    fn of(library: &Library, index: Index) -> Self {
        let classifier = library.classifier().clone();
        // Who asks next need not wait for it. A model that adapts to all examples takes too long for who changes them.
        if classifier.kernel().is_some() {
            // What goes wrong is said to who asks.
            let _ = classifier.calibration();
        }
        Self {
            classifier,
            index,
            change: library.change(),
            map: OnceLock::new(),
        }
    }

    fn map(&self) -> Arc<Map> {
        self.map
            .get_or_init(|| Arc::new(Map::of(&self.classifier)))
            .clone()
    }
}
