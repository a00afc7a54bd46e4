//! What is promised of results that are kept from earlier tables.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// A table of `methods` in which every training has ended and every test has `accuracy`, written to a file.
struct Made {
    folder: tempfile::TempDir,
    table: Table,
}

impl Made {
    fn of(methods: &[&str], accuracy: f64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(&folder.path().join("there"), methods, 1.0);
        for run in plan.selected() {
            train(run, run.episodes());
            for trial in &run.trials {
                test(run, trial, accuracy);
            }
        }
        let table = Table::gather(&plan, Vec::new()).unwrap();
        let made = Self { folder, table };
        made.write(&made.table.to_json());
        made
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("table.json")
    }

    fn write(&self, table: &Value) {
        fs::write(self.file(), table.to_string()).unwrap();
    }

    /// A plan with another folder, and with what the file has.
    fn kept(&self, methods: &[&str]) -> (Plan, Vec<String>) {
        let mut plan = plan(&self.folder.path().join("here"), methods, 1.0);
        let notes = plan.keep(&[Earlier::read(&self.file()).unwrap()]);
        (plan, notes)
    }

    /// What the only note says when the file is `table`, in which nothing fits.
    fn note(&self, table: &Value) -> String {
        self.write(table);
        let (plan, notes) = self.kept(&[]);
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(plan.runs.iter().all(|run| run.kept.is_none()));
        notes[0].clone()
    }

    /// The error when the file is `table`.
    fn error(&self, table: &Value) -> String {
        self.write(table);
        let error = Earlier::read(&self.file()).unwrap_err().to_string();
        assert!(
            error.contains("table.json: ") && error.contains("kshot reproduce"),
            "{error}"
        );
        error
    }
}

/// Rows of a status, by what they are of.
fn rows<'a>(table: &'a Value, status: &str) -> Vec<&'a Value> {
    let rows = table["rows"].as_array().unwrap();
    rows.iter().filter(|row| row["status"] == status).collect()
}

#[test]
fn a_table_made_from_a_table_alone_is_that_table() {
    let made = Made::of(&["siamese", "mann"], 0.1 + 0.7 / 3.0);
    let (plan, notes) = made.kept(&["prototypical"]);
    assert!(notes.is_empty(), "{notes:?}");
    let table = Table::gather(&plan, Vec::new()).unwrap();
    // Prototypical networks were asked for, and nothing of them is there.
    assert!(!table.is_finished());
    let (mut plan, _) = made.kept(&[]);
    plan.select_what_is_there();
    let table = Table::gather(&plan, Vec::new()).unwrap();
    assert!(table.is_finished());
    assert_eq!(table.to_json(), made.table.to_json());
    assert_eq!(table.to_markdown(), made.table.to_markdown());
    assert_eq!(table.to_html(), made.table.to_html());
    for run in plan.selected() {
        let state = run.state().unwrap();
        assert!(state.kept && state.ended == Some(Ended::Complete), "{}", run.name);
    }
}

#[test]
fn a_table_from_before_it_said_what_normalises_is_read_as_it_was() {
    let made = Made::of(&["lstm-learner"], 0.8);
    let mut old = made.table.to_json();
    for row in old["rows"].as_array_mut().unwrap() {
        assert!(row.as_object_mut().unwrap().remove("normalised_by").is_some());
    }
    made.write(&old);
    let (mut plan, notes) = made.kept(&[]);
    assert!(notes.is_empty(), "{notes:?}");
    plan.select_what_is_there();
    let table = Table::gather(&plan, Vec::new()).unwrap();
    assert_eq!(table.to_json(), made.table.to_json());
}

#[test]
fn the_table_in_the_documentation_is_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/results/omniglot/table.json");
    assert!(!Earlier::read(&path).unwrap().finished.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// For each training how far it is (nothing, unfinished, finished), and for each of its tests an accuracy or none.
    #[test]
    fn finished_numbers_stay_as_they_are_and_nothing_else_is_taken(
        progress in proptest::collection::vec((0..3u64, proptest::collection::vec(proptest::option::weighted(0.8, 0.0..1.0), 9)), 10)
    ) {
        let folder = tempfile::tempdir().unwrap();
        let methods = ["matching", "relation", "mann"];
        let before = plan(&folder.path().join("a b'c"), &methods, 1.0);
        for (run, (thirds, accuracies)) in before.selected().zip(&progress) {
            if *thirds == 0 {
                continue;
            }
            let episodes = run.episodes();
            train(run, if *thirds == 1 { episodes / 2 } else { episodes });
            for (trial, accuracy) in run.trials.iter().zip(accuracies) {
                if let Some(accuracy) = accuracy { test(run, trial, *accuracy); }
            }
        }
        let first = Table::gather(&before, Vec::new()).unwrap().to_json();
        let file = folder.path().join("table.json");
        fs::write(&file, first.to_string()).unwrap();
        let mut after = plan(&folder.path().join("b"), &methods, 1.0);
        prop_assert_eq!(after.keep(&[Earlier::read(&file).unwrap()]), Vec::<String>::new());
        let second = Table::gather(&after, Vec::new()).unwrap().to_json();
        prop_assert_eq!(rows(&first, "finished"), rows(&second, "finished"));
        prop_assert!(rows(&second, "partial").is_empty());
        let kept = |name: &Value| rows(&first, "finished").iter().any(|row| row["training"] == *name);
        for (a, b) in first["trainings"].as_array().unwrap().iter().zip(second["trainings"].as_array().unwrap()) {
            if kept(&a["name"]) {
                prop_assert_eq!(a, b);
            } else {
                prop_assert_eq!(&b["machine"], &Value::Null);
            }
        }
    }

    #[test]
    fn a_damaged_file_is_an_error_or_has_fewer_results(at in 0.0..1.0f64, bytes in proptest::collection::vec(any::<u8>(), 0..4)) {
        let made = Made::of(&["siamese"], 0.9);
        let mut text = fs::read(made.file()).unwrap();
        let at = (at * text.len() as f64) as usize;
        if bytes.is_empty() {
            text.truncate(at);
        } else {
            let end = (at + bytes.len()).min(text.len());
            text.splice(at..end, bytes);
        }
        fs::write(made.file(), text).unwrap();
        if let Ok(earlier) = Earlier::read(&made.file()) {
            let mut plan = plan(&made.folder.path().join("here"), &["siamese"], 1.0);
            plan.keep(&[earlier]);
            let table = Table::gather(&plan, Vec::new()).unwrap();
            table.to_markdown();
            well_formed::check(&table.to_html()).unwrap();
        }
    }
}

#[test]
fn a_finished_result_stands_in_for_a_run_until_that_is_finished_too() {
    let made = Made::of(&["prototypical"], 0.9);
    let (plan, _) = made.kept(&["prototypical"]);
    let run = run_of(&plan, "prototypical-paper");
    train(run, 5000);
    test(run, &run.trials[0], 0.5);
    assert!(run.state().unwrap().kept);
    let accuracies = || {
        let table = Table::gather(&plan, Vec::new()).unwrap().to_json();
        let rows = table["rows"].as_array().unwrap().clone();
        let of_run = rows
            .into_iter()
            .filter(|row| row["training"] == "prototypical-paper");
        of_run.map(|row| row["accuracy"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(accuracies(), vec![json!(0.9); 4]);
    train(run, 12_000);
    test(run, &run.trials[0], 0.75);
    assert!(!run.state().unwrap().kept);
    assert_eq!(accuracies(), [json!(0.75), Value::Null, Value::Null, Value::Null]);
}

#[test]
fn of_several_tables_the_one_with_more_tests_is_taken_and_what_none_has_is_said() {
    let made = Made::of(&["prototypical"], 0.9);
    let mut fewer = made.table.to_json();
    let of = |value: &mut Value, accuracy: f64| {
        for row in value["rows"].as_array_mut().unwrap() {
            row["accuracy"] = json!(accuracy);
        }
    };
    of(&mut fewer, 0.8);
    let unfinished = |value: &mut Value, column: &str| {
        for row in value["rows"].as_array_mut().unwrap() {
            if row["column"] == column {
                row["status"] = json!("untested");
            }
        }
    };
    unfinished(&mut fewer, "lake");
    unfinished(&mut fewer, "5w5s");
    made.write(&fewer);
    let few = Earlier::read(&made.file()).unwrap();
    let mut more = made.table.to_json();
    unfinished(&mut more, "lake");
    made.write(&more);
    let (mut plan, _) = made.kept(&["prototypical"]);
    assert!(plan.keep(&[few]).is_empty());
    let table = Table::gather(&plan, Vec::new()).unwrap();
    let shown = table.to_json();
    assert_eq!(rows(&shown, "finished").len(), 8);
    assert!(rows(&shown, "finished").iter().all(|row| row["accuracy"] == 0.9));
    assert_eq!(table.notes.len(), 1, "{:?}", table.notes);
    assert!(
        table.notes[0].contains("prototypical-strict") && table.notes[0].contains("lake"),
        "{:?}",
        table.notes
    );
}

#[test]
fn a_result_of_another_training_is_left_out_and_the_note_says_why() {
    let made = Made::of(&["siamese"], 0.9);
    let table = |change: &dyn Fn(&mut Value)| {
        let mut table = made.table.to_json();
        table["trainings"]
            .as_array_mut()
            .unwrap()
            .iter_mut()
            .for_each(change);
        table
    };
    let note = made.note(&table(&|training| training["planned_episodes"] = json!(6)));
    assert!(note.contains("table.json"), "{note}");
    assert!(
        note.contains("siamese-paper (its plan has 6 episodes, this one 12,000)"),
        "{note}"
    );
    let note = made.note(&table(&|training| {
        let command = training["command"]
            .as_str()
            .unwrap()
            .replace(" --out", " --way 7 --out");
        training["command"] = json!(command);
    }));
    assert!(
        note.contains("its command has `--way") && note.contains("nothing more"),
        "{note}"
    );
    let note = made.note(&table(&|training| training["episodes"] = json!(11_000)));
    assert!(
        note.contains("not at its end after 11,000 of 12,000 episodes"),
        "{note}"
    );
    let mut other = made.table.to_json();
    for value in ["trainings", "rows"] {
        for entry in other[value].as_array_mut().unwrap() {
            let key = if value == "rows" { "training" } else { "name" };
            entry[key] = json!(format!("{}\u{1b}[0m", entry[key].as_str().unwrap()));
        }
    }
    let note = made.note(&other);
    assert!(
        note.contains("no such training is planned") && !note.contains('\u{1b}'),
        "{note}"
    );
    let mut other = made.table.to_json();
    for row in other["rows"].as_array_mut().unwrap() {
        row["query"] = json!(3);
    }
    assert!(made.note(&other).contains("none of its tests is planned"));
    // Where the data and the runs lie makes no difference.
    made.write(&table(&|training| {
        let command = training["command"].as_str().unwrap();
        let elsewhere = command.replace(" --out '", " --data-dir 'my data' --out '/else/");
        training["command"] = json!(elsewhere.replace(" --out /", " --data-dir 'my data' --out /else/"));
    }));
    let (plan, notes) = made.kept(&["siamese"]);
    assert!(notes.is_empty(), "{notes:?}");
    let json = Table::gather(&plan, Vec::new()).unwrap().to_json();
    let commands = json["rows"][0]["commands"].to_string();
    assert!(
        commands.contains("--data-dir 'my data'") && commands.contains("kshot eval /else/"),
        "{commands}"
    );
}

#[test]
fn tables_of_versions_that_kept_less_are_read() {
    let made = Made::of(&["siamese"], 0.9);
    let mut old = made.table.to_json();
    let later = [
        "updates",
        "val_task",
        "val_accuracy",
        "best",
        "since_best",
        "validations",
        "machine",
        "weights",
        "encoder",
        "partition",
        "test_seconds",
    ];
    for value in ["trainings", "rows"] {
        for entry in old[value].as_array_mut().unwrap() {
            entry
                .as_object_mut()
                .unwrap()
                .retain(|key, _| !later.contains(&key.as_str()));
        }
    }
    old["system"] = json!("linux <b>");
    old["cores"] = json!(1);
    made.write(&old);
    let (plan, notes) = made.kept(&["siamese"]);
    assert!(notes.is_empty(), "{notes:?}");
    let table = Table::gather(&plan, Vec::new()).unwrap();
    assert_eq!(table.to_markdown(), made.table.to_markdown());
    let json = table.to_json();
    assert_eq!(json["trainings"][0]["validations"], json!([]));
    assert_eq!(json["trainings"][0]["machine"]["system"], "linux <b>");
    assert_eq!(json["rows"][0]["weights"], Value::Null);
    let html = table.to_html();
    well_formed::check(&html).unwrap();
    assert!(
        html.contains("linux &lt;b&gt;, 1 core,"),
        "the machine of its trainings"
    );
}

#[test]
fn a_training_that_its_patience_ended_is_kept_as_that() {
    let made = Made::of(&["siamese"], 0.9);
    let mut old = made.table.to_json();
    for training in old["trainings"].as_array_mut().unwrap() {
        training["ended"] = json!("flat validation");
        training["episodes"] = json!(4000);
        training.as_object_mut().unwrap().remove("since_best");
    }
    made.write(&old);
    let (mut plan, notes) = made.kept(&["siamese"]);
    assert!(
        notes[0].contains("not at its end"),
        "the plan has no patience: {notes:?}"
    );
    for run in &mut plan.runs {
        let mut layer = run.settings.layer();
        layer.insert("patience".to_owned(), "3".to_owned());
        run.settings = Settings::resolve(&[&layer]).unwrap();
    }
    assert!(plan.keep(&[Earlier::read(&made.file()).unwrap()]).is_empty());
    let text = Table::gather(&plan, Vec::new()).unwrap().to_markdown();
    let words = "validation flat after 4,000 of at most 12,000 episodes (3 validations without a better one)";
    assert!(text.contains(words), "{text}");
}

#[test]
fn a_wrong_file_is_one_error_that_says_what_and_where() {
    let made = Made::of(&["siamese"], 0.9);
    let table = made.table.to_json();
    let with = |pointer: &str, value: Value| {
        let mut table = table.clone();
        *table.pointer_mut(pointer).unwrap() = value;
        table
    };
    assert!(made.error(&json!({})).contains("missing field `"));
    assert!(made.error(&json!([1])).contains("line 1"));
    assert!(
        made.error(&with("/data", json!("other")))
            .contains("`other`, expected `omniglot`")
    );
    let error = made.error(&with("/rows/0/accuracy", Value::Null));
    assert!(
        error.contains("row 1: it is finished, but has no `accuracy`"),
        "{error}"
    );
    let error = made.error(&with("/rows/1/accuracy", json!(98.8)));
    assert!(
        error.contains("row 2: `accuracy` is 98.8, expected a share"),
        "{error}"
    );
    assert!(
        made.error(&with("/rows/0/ci95", json!(-1)))
            .contains("no less than 0")
    );
    let error = made.error(&with("/rows/0/training", json!("gone")));
    assert!(error.contains("gone that is not among the trainings"), "{error}");
    assert!(
        made.error(&with("/trainings/0/ended", Value::Null))
            .contains("siamese-paper: has finished tests")
    );
    assert!(
        made.error(&with("/trainings/0/seconds", json!(-2)))
            .contains("`seconds` is -2")
    );
    let curve = json!([{"episode": 1, "accuracy": 2, "ci95": 0}]);
    assert!(
        made.error(&with("/trainings/1/validations", curve))
            .contains("siamese-strict: `accuracy` is 2")
    );
    fs::File::create(made.file())
        .unwrap()
        .set_len((64 << 20) + 1)
        .unwrap();
    let error = Earlier::read(&made.file()).unwrap_err().to_string();
    assert!(error.contains("larger than 64 MiB"), "{error}");
    let error = Earlier::read(&made.folder.path().join("nothing.json"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("nothing.json"), "{error}");
}
