//! `kshot enroll`, `classify` and `export` through the real binary.

mod common;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use common::{fail, kshot, succeed, tiny_training};
use serde_json::Value;

/// A drawing: the class is a shape, the example its place.
fn drawing(class: usize, example: u32) -> image::GrayImage {
    image::GrayImage::from_fn(48, 40, |x, y| {
        let (x, y) = (x as i32 - 20 - example as i32, y as i32 - 20);
        let inside = x.abs() < 14 && y.abs() < 14;
        let on = match class {
            0 => x.abs() < 2 || y.abs() < 2,
            1 => x.abs().max(y.abs()) > 10,
            _ => (x - y).abs() < 2,
        };
        image::Luma([if on && inside { 10 } else { 245 }])
    })
}

const CLASSES: [&str; 3] = ["cross", "square", "slash"];

/// `letters/<class>/*.png`, four of each, and one more of each to be recognised, `new-<class>.png`.
fn letters(folder: &Path) -> PathBuf {
    let root = folder.join("letters");
    for (class, name) in CLASSES.iter().enumerate() {
        fs::create_dir_all(root.join(name)).unwrap();
        for example in 0..4 {
            drawing(class, example)
                .save(root.join(name).join(format!("{example}.png")))
                .unwrap();
        }
        drawing(class, 6)
            .save(folder.join(format!("new-{name}.png")))
            .unwrap();
    }
    root
}

fn lines(output: &[u8]) -> Vec<Value> {
    let text = String::from_utf8(output.to_vec()).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect()
}

fn enroll(store: &Path, folder: &Path) -> std::process::Command {
    let mut command = kshot();
    command.arg("enroll").arg(store).arg(folder);
    command
}

fn classify(store: &Path) -> std::process::Command {
    let mut command = kshot();
    command.arg("classify").arg(store);
    command
}

#[test]
fn what_is_enrolled_is_recognised_and_the_json_has_the_promised_keys() {
    let folder = tempfile::tempdir().unwrap();
    let (root, store) = (letters(folder.path()), folder.path().join("s.kshot"));
    let enrolled = lines(&succeed(enroll(&store, &root).arg("--json")).stdout);
    assert_eq!(enrolled.len(), 4);
    assert_eq!(
        (&enrolled[3]["classes"], &enrolled[3]["examples"]),
        (&3.into(), &12.into())
    );
    let again = lines(&succeed(enroll(&store, &root).arg("--json")).stdout);
    assert_eq!((&again[0]["added"], &again[0]["known"]), (&0.into(), &4.into()));

    let pattern = folder.path().join("new-*.png");
    let answers = lines(
        &succeed(
            classify(&store)
                .arg(&pattern)
                .args(["--json", "--top", "2", "--unknown", "never"]),
        )
        .stdout,
    );
    assert_eq!(answers.len(), 3);
    for (answer, class) in answers.iter().zip(["cross", "slash", "square"]) {
        assert!(
            answer["image"]
                .as_str()
                .unwrap()
                .ends_with(&format!("new-{class}.png"))
        );
        assert_eq!(answer["label"], class);
        assert_eq!(answer["known"], true);
        assert_eq!(answer["ranked"].as_array().unwrap().len(), 2);
        assert_eq!(answer["ranked"][0]["label"], class);
        assert_eq!(answer["ranked"][0]["probability"], answer["probability"]);
        let evidence = &answer["evidence"][0];
        assert_eq!(evidence["label"], class);
        assert!(evidence["example"].as_str().unwrap().ends_with(".png") && evidence["weight"].is_f64());
    }
    let keys: Vec<_> = answers[0]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let mut expected = ["image", "label", "probability", "known", "ranked", "evidence"];
    expected.sort_unstable();
    assert_eq!(keys, expected);

    let csv =
        String::from_utf8(succeed(classify(&store).arg(&root).args(["--csv", "--top", "1"])).stdout).unwrap();
    assert_eq!(csv.lines().count(), 13);
    assert_eq!(
        csv.lines().next(),
        Some("image,label,probability,known,label_1,probability_1")
    );
    let table = String::from_utf8(succeed(classify(&store).arg(&pattern)).stdout).unwrap();
    assert!(table.contains("cross") && table.contains('%'), "{table}");
}

#[test]
fn a_picture_comes_on_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    let (root, store) = (letters(folder.path()), folder.path().join("s"));
    succeed(&mut enroll(&store, &root));
    let mut child = classify(&store)
        .args(["-", "--json", "--unknown", "never"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let bytes = fs::read(folder.path().join("new-cross.png")).unwrap();
    child.stdin.take().unwrap().write_all(&bytes).unwrap();
    let answer = &lines(&child.wait_with_output().unwrap().stdout)[0];
    assert_eq!(
        (&answer["image"], &answer["label"]),
        (&"-".into(), &"cross".into())
    );
}

#[test]
fn none_of_the_classes_is_null() {
    let folder = tempfile::tempdir().unwrap();
    let (root, store) = (letters(folder.path()), folder.path().join("s"));
    succeed(&mut enroll(&store, &root));
    let new = folder.path().join("new-cross.png");
    let answer = &lines(&succeed(classify(&store).arg(&new).args(["--json", "--unknown", "1"])).stdout)[0];
    assert_eq!(
        (&answer["label"], &answer["known"]),
        (&Value::Null, &false.into())
    );
    assert_eq!(answer["ranked"].as_array().unwrap().len(), 3);
    let table = succeed(classify(&store).arg(&new).args(["--unknown", "1"])).stdout;
    assert!(String::from_utf8(table).unwrap().contains("(none of these)"));
    let error = fail(classify(&store).arg(&new).args(["--unknown", "perhaps"]), 2);
    assert!(error.contains("`auto`, `never` or a probability"), "{error}");
}

#[test]
fn corrupt_pictures_end_it_or_are_left_out_as_told() {
    let folder = tempfile::tempdir().unwrap();
    let (root, store) = (letters(folder.path()), folder.path().join("s"));
    let whole = fs::read(root.join("square/1.png")).unwrap();
    fs::write(root.join("square/1.png"), &whole[..whole.len() / 2]).unwrap();
    fs::write(root.join("square/text.png"), "no picture").unwrap();
    let error = fail(&mut enroll(&store, &root), 1);
    assert!(
        error.contains("square/1.png") && error.contains("--unreadable skip"),
        "{error}"
    );
    let output = succeed(enroll(&store, &root).args(["--unreadable", "skip", "--json"]));
    let summary = lines(&output.stdout).pop().unwrap();
    assert_eq!(summary["examples"], 11);
    assert_eq!(
        String::from_utf8_lossy(&output.stderr)
            .matches("left out")
            .count(),
        2
    );

    // The readable ones are answered all the same.
    let output = classify(&store)
        .arg(root.join("square"))
        .arg("--json")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(lines(&output.stdout).len(), 3);
    assert!(String::from_utf8_lossy(&output.stderr).contains("2 of 5 pictures can't be read"));
}

#[test]
fn a_picture_of_a_gigapixel_is_refused_before_it_is_decoded() {
    let folder = tempfile::tempdir().unwrap();
    let (root, store) = (letters(folder.path()), folder.path().join("s"));
    succeed(&mut enroll(&store, &root));
    // A PNG whose header claims 30000 x 30000 RGBA: 3.6 GB.
    let mut png = fs::read(folder.path().join("new-cross.png")).unwrap();
    png[16..20].copy_from_slice(&30_000u32.to_be_bytes());
    png[20..24].copy_from_slice(&30_000u32.to_be_bytes());
    (png[24], png[25]) = (8, 6);
    let checksum = crc32fast::hash(&png[12..29]);
    png[29..33].copy_from_slice(&checksum.to_be_bytes());
    let bomb = folder.path().join("bomb.png");
    fs::write(&bomb, png).unwrap();
    let error = fail(classify(&store).arg(&bomb), 1);
    assert!(error.contains("30000x30000"), "{error}");
}

#[test]
fn wrong_places_give_one_clear_error_and_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (root, store) = (letters(folder.path()), folder.path().join("s"));
    let error = fail(classify(&store).arg("x.png"), 1);
    assert!(error.contains("no store is there"), "{error}");
    let error = fail(enroll(&store, &folder.path().join("nowhere")).arg("--json"), 1);
    assert!(
        error.contains("nowhere") && error.contains("not a folder"),
        "{error}"
    );
    let error = fail(enroll(&store, &root).args(["--encoder", "glyps-conv4"]), 1);
    assert!(error.contains("did you mean `glyphs-conv4`"), "{error}");
    assert!(!store.exists());
    let error = fail(classify(&root.join("cross/0.png")).arg("x.png"), 1);
    assert!(error.contains("not a store"), "{error}");

    fs::create_dir(root.join("empty")).unwrap();
    let error = fail(&mut enroll(&store, &root), 1);
    assert!(error.contains("empty") && error.contains("no picture"), "{error}");
    fs::remove_dir(root.join("empty")).unwrap();

    succeed(&mut enroll(&store, &root));
    let error = fail(classify(&store).arg(folder.path().join("none-*.png")), 1);
    assert!(error.contains("no file matches"), "{error}");
    fs::create_dir(folder.path().join("bare")).unwrap();
    let error = fail(classify(&store).arg(folder.path().join("bare")), 1);
    assert!(error.contains("no picture"), "{error}");
    let error = fail(classify(&store).arg("none.png"), 1);
    assert!(error.contains("1 of 1 pictures"), "{error}");
    fail(classify(&store).args(["-", "--head", "nose"]), 2);
}

#[test]
fn a_store_keeps_its_model_until_everything_is_embedded_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (root, store, run) = (
        letters(folder.path()),
        folder.path().join("s"),
        folder.path().join("run"),
    );
    succeed(&mut enroll(&store, &root));
    succeed(&mut tiny_training(&run));
    let error = fail(enroll(&store, &root).arg("--encoder").arg(&run), 1);
    assert!(
        error.contains("--re-embed") && error.contains("omniglot-conv4"),
        "{error}"
    );
    let output = succeed(
        kshot()
            .arg("enroll")
            .arg(&store)
            .arg("--re-embed")
            .arg("--encoder")
            .arg(&run)
            .arg("--json"),
    );
    let summary = lines(&output.stdout).pop().unwrap();
    assert_eq!(
        (&summary["encoder"], &summary["examples"]),
        (&"run".into(), &12.into())
    );
    let error = fail(kshot().arg("enroll").arg(&store).arg("--re-embed"), 1);
    assert!(error.contains("--encoder"), "{error}");

    // Exported and taken as a model again it is the same one.
    let file = folder.path().join("m.safetensors");
    succeed(kshot().arg("export").arg(&run).arg("--to").arg(&file));
    succeed(enroll(&store, &root).arg("--encoder").arg(&file));
    let with_classes = folder.path().join("c.safetensors");
    let said = succeed(kshot().arg("export").arg(&store).arg("--to").arg(&with_classes)).stdout;
    assert!(String::from_utf8_lossy(&said).contains("prototypes of 3 classes"));
    succeed(enroll(&store, &root).arg("--encoder").arg(&with_classes));
    let onnx = folder.path().join("e.onnx");
    succeed(kshot().arg("export").arg(&store).arg("--to").arg(&onnx));
    assert!(
        std::fs::read(&onnx)
            .unwrap()
            .windows(10)
            .any(|part| part == b"embeddings")
    );
    fail(kshot().arg("export").arg(&store).args(["--to", "x.pth"]), 1);
}

#[test]
fn what_was_acknowledged_before_a_kill_is_in_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("many");
    for class in 0..150 {
        let folder = root.join(format!("class{class:03}"));
        fs::create_dir_all(&folder).unwrap();
        for example in 0..2u32 {
            let mut picture = drawing(class % 3, example);
            picture.put_pixel(class as u32 % 40, class as u32 / 40, image::Luma([0]));
            picture.save(folder.join(format!("{example}.png"))).unwrap();
        }
    }
    let mut interrupted = 0;
    let kills = common::kills(30);
    for trial in 0..kills {
        let store = folder.path().join(format!("store{trial}"));
        let mut child = enroll(&store, &root)
            .arg("--json")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Kill after so many lines have come, at another moment within the next one each time.
        let mut reader = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut acknowledged = Vec::new();
        let mut line = String::new();
        while acknowledged.len() < 3 * trial as usize % 140 + 1
            && std::io::BufRead::read_line(&mut reader, &mut line).unwrap() > 0
        {
            acknowledged.push(serde_json::from_str::<Value>(&line).unwrap());
            line.clear();
        }
        std::thread::sleep(std::time::Duration::from_micros(trial * 137 % 2000));
        child.kill().unwrap();
        child.wait().unwrap();
        // Whole lines that were on their way when it died count as acknowledged too.
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut reader, &mut rest).unwrap();
        acknowledged.extend(
            rest.split_inclusive('\n')
                .filter_map(|line| serde_json::from_str(line).ok()),
        );
        let library = kshot_store::Library::open(
            kshot_store::open(&store.display().to_string()).unwrap(),
            kshot::classifier::Head::Model,
        )
        .unwrap();
        for line in acknowledged.iter().filter(|line| line.get("class").is_some()) {
            let class = library.classifier().class(line["class"].as_str().unwrap());
            assert_eq!(
                class.map(|class| class.examples().len()),
                Some(2),
                "trial {trial}: {line}"
            );
        }
        interrupted += u64::from(library.classifier().classes().len() < 150);
        // No class is there in part.
        assert!(
            library
                .classifier()
                .classes()
                .all(|class| class.examples().len() == 2)
        );
    }
    assert!(
        interrupted >= kills * 2 / 3,
        "only {interrupted} of {kills} were killed in the middle"
    );
}

#[test]
fn completions_and_manuals_name_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = String::from_utf8(succeed(kshot().args(["completions", shell])).stdout).unwrap();
        for command in ["train", "eval", "enroll", "classify", "export"] {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    succeed(kshot().arg("man").arg("--out").arg(folder.path()));
    for page in ["kshot.1", "kshot-enroll.1", "kshot-classify.1"] {
        let text = fs::read_to_string(folder.path().join(page)).unwrap();
        assert!(text.starts_with(".ie") || text.contains(".TH"), "{page}");
    }
}

#[test]
fn heads_work_on_features_of_another_program() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.npy");
    let mut data = Vec::new();
    let mut labels = String::new();
    for class in 0..12u32 {
        for example in 0..8u32 {
            labels += &format!("class{class}\n");
            for feature in 0..16u32 {
                let noise = ((class * 31 + example * 17 + feature * 7) % 13) as f32 / 40.0;
                data.extend((if feature == class { 3.0f32 } else { 0.0 } + noise).to_le_bytes());
            }
        }
    }
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (96, 16), }\n";
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(&data);
    fs::write(&path, bytes).unwrap();
    fs::write(folder.path().join("f.labels.txt"), labels).unwrap();
    let set = format!("features:{}", path.display());
    let run = folder.path().join("run");
    let options = [
        "--encoder",
        "identity",
        "--way",
        "2",
        "--query",
        "2",
        "--episodes",
        "20",
        "--val-interval",
        "10",
        "--val-episodes",
        "3",
        "--test-episodes",
        "5",
        "--test-query",
        "2",
        "--json",
    ];
    let error = fail(
        kshot()
            .args(["train", "prototypical", "--data", &set])
            .args(options)
            .arg("--out")
            .arg(&run),
        2,
    );
    assert!(error.contains("nothing to train"), "{error}");
    for (method, project, run) in [
        ("matching", "0", "a"),
        ("prototypical", "8", "b"),
        ("siamese", "0", "c"),
    ] {
        let run = folder.path().join(run);
        let trained = succeed(
            kshot()
                .args(["train", method, "--data", &set, "--project", project])
                .args(options)
                .arg("--out")
                .arg(&run),
        );
        let record = &lines(&trained.stdout)[0];
        let least = [("matching", 0.99), ("prototypical", 0.8), ("siamese", 0.5)];
        let (_, least) = least.iter().find(|(name, _)| *name == method).unwrap();
        assert!(
            record["accuracy"].as_f64().unwrap() >= *least,
            "{method}: {record}"
        );
        succeed(kshot().arg("eval").arg(&run).args(["--episodes", "3", "--json"]));
    }
    let error = fail(
        kshot()
            .args(["train", "prototypical", "--data", &set])
            .arg("--out")
            .arg(folder.path().join("d")),
        1,
    );
    assert!(error.contains("--encoder identity"), "{error}");
}

/// The bytes of an `.npy` file of rows.
fn npy(rows: &[Vec<f32>]) -> Vec<u8> {
    let header = format!(
        "{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}\n",
        rows.len(),
        rows[0].len()
    );
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(rows.iter().flatten().flat_map(|value| value.to_le_bytes()));
    bytes
}

#[test]
fn features_of_another_program_are_enrolled_and_recognised() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let features = |name: &str| format!("features:{}", at(name).display());
    let row = |class: usize, example: usize| -> Vec<f32> {
        let noise = |feature: usize| ((class * 31 + example * 17 + feature * 7) % 13) as f32 / 40.0;
        (0..8)
            .map(|feature| if feature == class { 3.0 } else { 0.0 } + noise(feature))
            .collect()
    };
    let rows: Vec<_> = (0..12).map(|index| row(index % 3, index)).collect();
    fs::write(at("clip.npy"), npy(&rows)).unwrap();
    let names = ["wren", "owl", "kite"];
    let labels: Vec<&str> = (0..12).map(|index| names[index % 3]).collect();
    let store = at("birds.kshot");
    let enroll = |store: &Path, what: &str| {
        let mut command = kshot();
        command.arg("enroll").arg(store).arg(what).arg("--json");
        command
    };
    let error = fail(&mut enroll(&store, &features("clip.npy")), 1);
    assert!(
        error.contains("no labels lie beside it") && !store.exists(),
        "{error}"
    );
    fs::write(at("clip.labels.txt"), labels.join("\n")).unwrap();
    for added in [4, 0] {
        let output = succeed(&mut enroll(&store, &features("clip.npy")));
        let lines = lines(&output.stdout);
        assert_eq!(
            (&lines[0]["class"], &lines[0]["added"]),
            (&"kite".into(), &added.into())
        );
        let last = &lines[lines.len() - 1];
        assert_eq!(
            (&last["encoder"], &last["examples"]),
            (&"features of 8 numbers".into(), &12.into())
        );
        assert_eq!(last["expected_accuracy"], 1.0);
    }

    // Without labels.
    fs::write(at("new.npy"), npy(&[row(2, 77), row(0, 78), row(1, 79)])).unwrap();
    for head in ["model", "prototypes", "nearest", "learned"] {
        let mut command = kshot();
        command.arg("classify").arg(&store).arg(features("new.npy"));
        let answers = lines(&succeed(command.args(["--json", "--head", head])).stdout);
        for (index, name) in ["kite", "wren", "owl"].into_iter().enumerate() {
            assert_eq!(answers[index]["image"], format!("new.npy[{index}]"));
            assert_eq!(answers[index]["ranked"][0]["label"], name, "{head}");
        }
        if head == "model" {
            let example = answers[0]["evidence"][0]["example"].as_str().unwrap();
            assert!(example.starts_with("clip.npy["), "{example}");
        }
    }
    let to = at("birds.safetensors");
    succeed(kshot().arg("export").arg(&store).arg("--to").arg(&to));

    // What doesn't go together is said.
    fs::write(at("other.npy"), npy(&[vec![1.0; 5], vec![2.0; 5]])).unwrap();
    fs::write(at("other.labels.txt"), "a\nb\n").unwrap();
    let error = fail(&mut enroll(&store, &features("other.npy")), 1);
    assert!(
        error.contains("takes 8 features") && error.contains("vectors of 5"),
        "{error}"
    );
    fs::create_dir_all(at("pictures/a")).unwrap();
    image::GrayImage::new(8, 8).save(at("pictures/a/1.png")).unwrap();
    let pictures = at("pictures").display().to_string();
    let error = fail(&mut enroll(&store, &pictures), 1);
    assert!(error.contains("takes 8 numbers, not pictures"), "{error}");
    let of_pictures = at("pictures.kshot");
    succeed(&mut enroll(&of_pictures, &pictures));
    let error = fail(&mut enroll(&of_pictures, &features("clip.npy")), 1);
    assert!(
        error.contains("takes pictures") && error.contains("vectors of 8"),
        "{error}"
    );
    let error = fail(
        kshot().arg("serve").arg(&store).args(["--addr", "127.0.0.1:0"]),
        1,
    );
    assert!(
        error.contains("features of 8 numbers") && error.contains("kshot classify"),
        "{error}"
    );
}

#[test]
fn what_is_exported_is_a_model_and_not_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let pictures = folder.path().join("pictures");
    fs::create_dir_all(pictures.join("a")).unwrap();
    drawing(0, 0).save(pictures.join("a/0.png")).unwrap();
    for ending in ["onnx", "safetensors"] {
        let to = folder.path().join("x").with_extension(ending);
        let error = fail(kshot().arg("export").arg(&pictures).arg("--to").arg(&to), 1);
        assert!(
            error.contains("export takes a run folder") && error.contains("omniglot-conv4") && !to.exists(),
            "{error}"
        );
    }
    let error = fail(
        kshot()
            .arg("enroll")
            .arg(folder.path().join("s"))
            .arg("--encoder")
            .arg(&pictures)
            .arg(&pictures),
        1,
    );
    assert!(
        error.contains("neither a run folder nor a checkpoint folder"),
        "{error}"
    );
}
