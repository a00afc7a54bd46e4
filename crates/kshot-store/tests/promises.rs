//! What every store promises, whatever keeps it.

mod common;

use common::{new_example, stored_model};
use kshot::classifier::{Added, ContentHash};
use kshot_store::{ClassStore, Quotas, StoreError, Usage};

/// A kind of store: gives two holders of one empty store, as two processes would have.
trait Kind {
    fn two_holders(&self) -> [Box<dyn ClassStore>; 2];
}

struct Sqlite(tempfile::TempDir);

impl Kind for Sqlite {
    fn two_holders(&self) -> [Box<dyn ClassStore>; 2] {
        let place = self.0.path().join("store").display().to_string();
        [(); 2].map(|()| kshot_store::open_or_create(&place).unwrap())
    }
}

#[cfg(all(unix, feature = "postgres"))]
struct Postgres(&'static common::postgres::Server);

#[cfg(all(unix, feature = "postgres"))]
impl Kind for Postgres {
    fn two_holders(&self) -> [Box<dyn ClassStore>; 2] {
        let address = self.0.database();
        [(); 2].map(|()| kshot_store::open_or_create(&address).unwrap())
    }
}

/// Runs a test on every kind of store.
fn on_all(test: impl Fn(&dyn ClassStore, &dyn ClassStore)) {
    #[allow(unused_mut, reason = "without PostgreSQL there is one kind")]
    let mut kinds: Vec<Box<dyn Kind>> = vec![Box::new(Sqlite(tempfile::tempdir().unwrap()))];
    #[cfg(all(unix, feature = "postgres"))]
    kinds
        .extend(common::postgres::Server::shared().map(|server| Box::new(Postgres(server)) as Box<dyn Kind>));
    for kind in kinds {
        let [first, second] = kind.two_holders();
        first.set_model(&stored_model("m"), &[]).unwrap();
        test(first.as_ref(), second.as_ref());
    }
}

fn names(store: &dyn ClassStore) -> Vec<String> {
    let mut names: Vec<_> = store
        .contents()
        .unwrap()
        .classes
        .into_iter()
        .map(|class| class.name)
        .collect();
    names.sort();
    names
}

#[test]
fn what_is_added_is_there_for_every_holder() {
    on_all(|first, second| {
        let before = second.change().unwrap();
        let (change, added) = first
            .add("m", "a", &[new_example(1), new_example(2), new_example(1)])
            .unwrap();
        assert_eq!(added, [Added::New, Added::New, Added::Known]);
        assert!(change.before == before && change.after > before);
        assert_eq!(second.change().unwrap(), change.after);
        let contents = second.contents().unwrap();
        assert_eq!(contents.change, change.after);
        let class = &contents.classes[0];
        assert_eq!((class.name.as_str(), class.examples.len()), ("a", 2));
        assert_eq!(class.examples[1].name, "2.png");
        assert_eq!(class.examples[1].embedding[..], [2.0, 0.5]);
        assert_eq!(
            second.picture("a", ContentHash([2; 16])).unwrap(),
            Some(vec![2; 100])
        );
        assert_eq!(second.picture("a", ContentHash([3; 16])).unwrap(), None);
        assert_eq!(second.picture("b", ContentHash([2; 16])).unwrap(), None);
        assert_eq!(second.model().unwrap(), Some(stored_model("m")));
        let usage = Usage {
            classes: 1,
            examples: 2,
            bytes: 200,
        };
        assert_eq!(second.usage().unwrap(), usage);
    });
}

#[test]
fn classes_are_renamed_and_removed() {
    on_all(|first, second| {
        first.add("m", "a", &[new_example(1), new_example(2)]).unwrap();
        second.add("m", "b", &[new_example(1)]).unwrap();
        let error = first.rename_class("a", "b").unwrap_err();
        assert!(matches!(error, StoreError::Class { .. }), "{error}");
        first.rename_class("a", "c").unwrap();
        assert_eq!(names(second), ["b", "c"]);
        second.remove_example("c", ContentHash([1; 16])).unwrap();
        assert_eq!(names(first), ["b", "c"]);
        second.remove_example("c", ContentHash([2; 16])).unwrap();
        assert_eq!(names(first), ["b", "c"]);
        second.remove_class("c").unwrap();
        second.remove_class("b").unwrap();
        assert_eq!(first.usage().unwrap(), Usage::default());
        for error in [
            first.remove_class("b").unwrap_err(),
            first.rename_class("b", "d").unwrap_err(),
            first.remove_example("b", ContentHash([1; 16])).unwrap_err(),
        ] {
            assert!(matches!(error, StoreError::Class { .. }), "{error}");
        }
    });
}

#[test]
fn all_classes_go_in_one_change_and_the_model_stays() {
    on_all(|first, second| {
        first.add("m", "a", &[new_example(1), new_example(2)]).unwrap();
        first.add("m", "b", &[new_example(1)]).unwrap();
        let last = first.add_class("c").unwrap();
        let change = second.clear().unwrap();
        assert_eq!(change.before, last.after);
        assert_eq!(first.change().unwrap(), change.after);
        assert!(names(first).is_empty());
        assert_eq!(first.usage().unwrap(), Usage::default());
        assert_eq!(first.picture("a", ContentHash([1; 16])).unwrap(), None);
        assert_eq!(first.model().unwrap(), Some(stored_model("m")));
        // Nothing to remove is no error.
        second.clear().unwrap();
        first.add("m", "a", &[new_example(1)]).unwrap();
        assert_eq!(names(second), ["a"]);
    });
}

#[test]
fn a_class_without_examples_is_a_class() {
    on_all(|first, second| {
        let change = first.add_class("b").unwrap();
        assert!(change.after > change.before);
        assert_eq!(second.change().unwrap(), change.after);
        let error = second.add_class("b").unwrap_err();
        assert!(matches!(error, StoreError::Class { .. }), "{error}");
        second.add_class("a").unwrap();
        first.rename_class("b", "c").unwrap();
        let listed: Vec<_> = second.contents().unwrap().classes;
        // In the order in which they were made.
        assert_eq!((listed[0].name.as_str(), listed[1].name.as_str()), ("c", "a"));
        assert!(listed.iter().all(|class| class.examples.is_empty()));
        first.add("m", "c", &[new_example(1)]).unwrap();
        assert_eq!(names(second), ["a", "c"]);
        first.remove_class("a").unwrap();
        first
            .set_quotas(Quotas {
                classes: 1,
                ..Quotas::default()
            })
            .unwrap();
        let error = second.add_class("d").unwrap_err();
        assert!(matches!(error, StoreError::Quota { .. }), "{error}");
        assert_eq!(names(second), ["c"]);
    });
}

#[test]
fn a_store_becomes_a_copy_of_another_or_stays_as_it_was() {
    on_all(|first, second| {
        first.add("m", "a", &[new_example(1), new_example(2)]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("other");
        let other = kshot_store::open_or_create(&path.display().to_string()).unwrap();
        let refused = |why: &str| {
            let before = second.change().unwrap();
            let error = first.replace(other.as_ref()).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
            assert_eq!(second.change().unwrap(), before);
            assert_eq!(second.model().unwrap().unwrap().id, "m");
            assert_eq!(names(second), ["a"]);
            assert_eq!(
                second.picture("a", ContentHash([2; 16])).unwrap(),
                Some(vec![2; 100])
            );
        };
        refused("no model");
        other.set_model(&stored_model("other"), &[]).unwrap();
        other.add_class("z").unwrap();
        other
            .add("other", "b", &[new_example(4), new_example(3)])
            .unwrap();
        other.add("other", "a", &[new_example(5)]).unwrap();
        let quotas = first.quotas().unwrap();
        first.set_quotas(Quotas { bytes: 250, ..quotas }).unwrap();
        refused("bytes of pictures would be 300");
        first.set_quotas(quotas).unwrap();
        let before = second.change().unwrap();
        let change = first.replace(other.as_ref()).unwrap();
        assert!(change.before == before && change.after > before);
        assert_eq!(second.change().unwrap(), change.after);
        let (found, wanted) = (second.contents().unwrap(), other.contents().unwrap());
        assert_eq!(found.model.as_deref(), Some("other"));
        assert_eq!(second.model().unwrap(), Some(stored_model("other")));
        assert_eq!(found.classes.len(), 3);
        for (found, wanted) in found.classes.iter().zip(&wanted.classes) {
            assert_eq!((&found.name, found.created), (&wanted.name, wanted.created));
            let told = |class: &kshot_store::StoredClass| -> Vec<_> {
                let examples = class.examples.iter();
                examples
                    .map(|one| (one.name.clone(), one.hash, one.embedding.to_vec(), one.added))
                    .collect()
            };
            assert_eq!(told(found), told(wanted));
        }
        assert_eq!(
            second.picture("b", ContentHash([4; 16])).unwrap(),
            Some(vec![4; 100])
        );
        assert_eq!(second.usage().unwrap(), other.usage().unwrap());
        assert_eq!(second.quotas().unwrap(), quotas);
        // What lacks a picture in the middle is refused when half of it has been taken.
        rusqlite::Connection::open(&path)
            .unwrap()
            .execute("DELETE FROM pictures WHERE example_id = 2", [])
            .unwrap();
        let before = (second.change().unwrap(), second.usage().unwrap());
        let error = first.replace(other.as_ref()).unwrap_err();
        assert!(matches!(error, StoreError::Unusable { .. }), "{error}");
        assert_eq!((second.change().unwrap(), second.usage().unwrap()), before);
        assert_eq!(names(second), ["a", "b", "z"]);
    });
}

#[test]
fn embeddings_of_another_model_are_refused_and_replaced_as_a_whole() {
    on_all(|first, second| {
        first.add("m", "a", &[new_example(1), new_example(2)]).unwrap();
        let error = second.add("other", "a", &[new_example(3)]).unwrap_err();
        assert!(matches!(error, StoreError::OtherModel { .. }), "{error}");
        let ids: Vec<i64> = first.contents().unwrap().classes[0]
            .examples
            .iter()
            .map(|example| example.id)
            .collect();
        let one = [(ids[0], [9.0f32].as_slice().into())];
        assert!(first.set_model(&stored_model("other"), &one).is_err());
        assert_eq!(second.model().unwrap().unwrap().id, "m");
        let all = [
            (ids[0], [9.0f32].as_slice().into()),
            (ids[1], [8.0f32].as_slice().into()),
        ];
        first.set_model(&stored_model("other"), &all).unwrap();
        assert_eq!(
            second.contents().unwrap().classes[0].examples[1].embedding[..],
            [8.0]
        );
        second.add("other", "a", &[new_example(3)]).unwrap();
    });
}

#[test]
fn quotas_bound_each_class_and_the_whole_and_leave_nothing_half_done() {
    on_all(|first, second| {
        let limits = Quotas {
            classes: 2,
            per_class: 2,
            examples: 3,
            bytes: 10_000,
        };
        first.set_quotas(limits).unwrap();
        assert_eq!(second.quotas().unwrap(), limits);
        second.add("m", "a", &[new_example(1), new_example(2)]).unwrap();
        let before = first.change().unwrap();
        let quota = |class: &str, numbers: &[u8]| {
            let examples: Vec<_> = numbers.iter().map(|&number| new_example(number)).collect();
            second.add("m", class, &examples).unwrap_err().to_string()
        };
        assert!(quota("a", &[3]).contains("examples of class `a` would be 3, and 2 are allowed"));
        assert!(quota("b", &[1, 2]).contains("examples would be 4"));
        second.add("m", "b", &[new_example(1)]).unwrap();
        first
            .set_quotas(Quotas {
                examples: 10,
                bytes: 350,
                ..limits
            })
            .unwrap();
        assert!(quota("b", &[2]).contains("bytes of pictures would be 400"));
        first
            .set_quotas(Quotas {
                examples: 10,
                ..limits
            })
            .unwrap();
        assert!(quota("c", &[2]).contains("classes would be 3"));
        assert_eq!(names(first), ["a", "b"]);
        assert_eq!(
            first.usage().unwrap(),
            Usage {
                classes: 2,
                examples: 3,
                bytes: 300
            }
        );
        assert!(first.change().unwrap() > before);
        // What is there already costs nothing.
        let (_, added) = second.add("m", "a", &[new_example(1)]).unwrap();
        assert_eq!(added, [Added::Known]);
    });
}

#[test]
fn writers_take_turns_and_none_is_lost() {
    on_all(|first, second| {
        std::thread::scope(|scope| {
            for (store, from) in [(first, 0u8), (second, 100)] {
                scope.spawn(move || {
                    for number in from..from + 20 {
                        store.add("m", "a", &[new_example(number)]).unwrap();
                        store
                            .add("m", &format!("only {number}"), &[new_example(number)])
                            .unwrap();
                    }
                });
            }
        });
        assert_eq!(
            first.usage().unwrap(),
            Usage {
                classes: 41,
                examples: 80,
                bytes: 8000
            }
        );
        assert_eq!(first.change().unwrap(), second.change().unwrap());
    });
}

#[test]
fn without_a_model_nothing_is_added() {
    let folder = tempfile::tempdir().unwrap();
    let store = kshot_store::open_or_create(&folder.path().join("s").display().to_string()).unwrap();
    assert_eq!(store.model().unwrap(), None);
    let error = store.add("m", "a", &[new_example(1)]).unwrap_err();
    assert!(matches!(error, StoreError::NoModel { .. }), "{error}");
}
