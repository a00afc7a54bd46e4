//! A store and a classifier in step with it.

mod common;

use std::path::Path;

use common::{files, new_example, png, untrained};
use kshot::classifier::{Added, Head, Unknown};
use kshot_store::{Library, StoreError, open, open_or_create};

fn library(place: &str, method: &str) -> Library {
    let mut library =
        Library::with_model(open_or_create(place).unwrap(), untrained(method, 1), Head::Model).unwrap();
    for place in 0..3 {
        library.add(&format!("bar{place}"), files(place)).unwrap();
    }
    library
}

fn labels(library: &Library) -> Vec<(String, f64)> {
    let input = library.classifier().model().input();
    let queries: Vec<_> = (0..3)
        .map(|place| input.decode(&png(place, 6), Path::new("q")).unwrap())
        .collect();
    let answers = library.classifier().classify(&queries).unwrap();
    answers
        .into_iter()
        .map(|answer| (answer.ranked[0].label.clone(), answer.ranked[0].probability))
        .collect()
}

#[test]
fn a_store_opened_again_answers_as_before_whatever_the_method() {
    for method in ["prototypical", "matching", "relation"] {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("s").display().to_string();
        let mut first = library(&place, method);
        let before = labels(&first);
        assert_eq!(
            labels(&Library::open(open(&place).unwrap(), Head::Model).unwrap()),
            before,
            "{method}"
        );
        assert_eq!(first.add("bar0", files(0)).unwrap(), [Added::Known; 3]);
        assert_eq!(labels(&first), before, "{method}");
    }
}

#[test]
fn a_holder_sees_what_another_has_changed() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("s").display().to_string();
    let mut first = library(&place, "prototypical");
    let mut second = Library::open(open(&place).unwrap(), Head::Model).unwrap();
    second.set_unknown(Unknown::Never).unwrap();
    assert!(!second.refresh().unwrap());
    first.rename_class("bar0", "first bar").unwrap();
    first.remove_class("bar1").unwrap();
    let hash = first.classifier().class("bar2").unwrap().examples()[0].hash();
    first.remove_example("bar2", hash).unwrap();
    assert!(second.refresh().unwrap());
    assert_eq!(second.change(), first.change());
    assert_eq!(labels(&second), labels(&first));
    assert_eq!(second.classifier().unknown(), Unknown::Never);
    // A change by one who has not seen the other's brings both.
    second.add("bar1", files(1)).unwrap();
    first.add("bar3", files(3)).unwrap();
    let names: Vec<_> = first
        .classifier()
        .classes()
        .map(|class| class.name().to_owned())
        .collect();
    assert_eq!(names, ["bar1", "bar2", "bar3", "first bar"]);
    // All at once, with another's change in between.
    first.add_class("empty").unwrap();
    second.clear().unwrap();
    assert_eq!(second.classifier().n_examples(), 0);
    assert!(second.empty_classes().is_empty());
    assert_eq!(second.classifier().unknown(), Unknown::Never);
    assert!(first.refresh().unwrap());
    assert_eq!(first.classifier().n_examples(), 0);
    first.add("bar1", files(1)).unwrap();
    assert!(second.refresh().unwrap());
    assert_eq!(labels(&second), labels(&first));
}

#[test]
fn a_picture_that_cannot_be_read_leaves_store_and_classifier_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("s").display().to_string();
    let mut library = library(&place, "prototypical");
    let before = (library.change(), library.classifier().n_examples());
    let mut some = files(3);
    some[1].1.truncate(40);
    assert!(library.add("bar3", some).is_err());
    assert!(library.add("", files(3)).is_err());
    assert!(library.rename_class("bar0", "bar1").is_err());
    assert!(library.remove_class("bar9").is_err());
    assert_eq!((library.change(), library.classifier().n_examples()), before);
    assert_eq!(library.store().change().unwrap(), before.0);
}

#[test]
fn another_model_is_refused_until_everything_is_embedded_by_it() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("s").display().to_string();
    let mut first = library(&place, "prototypical");
    let other = || untrained("prototypical", 2);
    let error = Library::with_model(open(&place).unwrap(), other(), Head::Model)
        .err()
        .unwrap();
    assert!(matches!(error, StoreError::OtherModel { .. }), "{error}");
    let again = Library::re_embed(open(&place).unwrap(), other(), Head::Model).unwrap();
    assert_eq!(again.classifier().n_examples(), 9);
    // Who held the store with the old model finds the new one.
    assert!(first.refresh().unwrap());
    assert_eq!(first.classifier().model().id(), other().id());
    assert_eq!(labels(&first), labels(&again));
}

#[test]
fn who_has_not_seen_the_new_model_adds_by_it_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("s").display().to_string();
    let mut first = library(&place, "prototypical");
    let mut second = Library::open(open(&place).unwrap(), Head::Model).unwrap();
    let other = untrained("prototypical", 2);
    drop(Library::re_embed(open(&place).unwrap(), other, Head::Model).unwrap());
    assert_eq!(first.add("bar3", files(3)).unwrap(), [Added::New; 3]);
    let decoded = files(2);
    let input = *second.classifier().model().input();
    let pictures = decoded
        .iter()
        .map(|(name, bytes)| input.decode(bytes, Path::new(name)).unwrap());
    let pictures = pictures.collect();
    assert_eq!(
        second.add_decoded("once more", decoded, pictures).unwrap(),
        [Added::New; 3]
    );
    assert_eq!(second.change(), second.store().change().unwrap());
    let fresh = Library::open(open(&place).unwrap(), Head::Model).unwrap();
    assert_eq!(fresh.classifier().classes().len(), 5);
    assert_eq!(labels(&second), labels(&fresh));
}

#[test]
fn a_store_without_a_model_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("s").display().to_string();
    let error = Library::open(open_or_create(&place).unwrap(), Head::Model)
        .err()
        .unwrap();
    assert!(matches!(error, StoreError::NoModel { .. }), "{error}");
}

#[test]
fn a_class_without_examples_is_kept_and_every_holder_knows_it() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("s").display().to_string();
    let mut first = library(&place, "prototypical");
    let mut second = Library::open(open(&place).unwrap(), Head::Model).unwrap();
    let empty = |library: &Library| library.empty_classes().iter().cloned().collect::<Vec<_>>();
    first.add_class("bar3").unwrap();
    assert!(first.add_class("bar3").is_err() && first.add_class("a\u{7}").is_err());
    first.add_class("bar4").unwrap();
    first.rename_class("bar4", "last").unwrap();
    assert!(second.refresh().unwrap());
    assert_eq!(empty(&second), ["bar3", "last"]);
    second.add("bar3", files(3)).unwrap();
    second.remove_class("last").unwrap();
    assert!(empty(&second).is_empty());
    for hash in hashes(&second, "bar0") {
        second.remove_example("bar0", hash).unwrap();
    }
    assert_eq!(empty(&second), ["bar0"]);
    first.refresh().unwrap();
    assert_eq!((empty(&first), first.change()), (empty(&second), second.change()));
    assert_eq!(first.classifier().classes().len(), 3);
    let fresh = Library::open(open(&place).unwrap(), Head::Model).unwrap();
    assert_eq!(empty(&fresh), ["bar0"]);
    assert_eq!(labels(&fresh), labels(&second));
}

fn hashes(library: &Library, class: &str) -> Vec<kshot::classifier::ContentHash> {
    let class = library.classifier().class(class).unwrap();
    class.examples().iter().map(|example| example.hash()).collect()
}

#[test]
fn a_library_becomes_a_copy_of_another_model_and_all() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).display().to_string();
    let mut first = library(&place("a"), "prototypical");
    first.set_unknown(Unknown::Never).unwrap();
    let mut second = Library::open(open(&place("a")).unwrap(), Head::Model).unwrap();
    let store = open_or_create(&place("b")).unwrap();
    let mut other = Library::with_model(store, untrained("prototypical", 2), Head::Model).unwrap();
    other.add("bar0", files(0)).unwrap();
    other.add("bar2", files(2)).unwrap();
    other.add_class("none").unwrap();
    first.replace(&other).unwrap();
    assert_eq!(first.classifier().unknown(), Unknown::Never);
    assert_eq!(first.change(), first.store().change().unwrap());
    assert!(second.refresh().unwrap());
    for library in [&first, &second] {
        assert_eq!(library.classifier().model().id(), other.classifier().model().id());
        assert_eq!(library.empty_classes(), other.empty_classes());
        assert_eq!(library.classifier().n_examples(), 6);
    }
    second.add("bar1", files(1)).unwrap();
    assert!(first.refresh().unwrap());
}

#[test]
fn embeddings_that_the_model_cannot_have_made_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("s").display().to_string();
    drop(library(&place, "prototypical"));
    let store = open(&place).unwrap();
    let id = store.model().unwrap().unwrap().id;
    store.add(&id, "short", &[new_example(1)]).unwrap();
    let error = Library::open(store, Head::Model).err().unwrap().to_string();
    assert!(error.contains("`short` has 2 features"), "{error}");
}
