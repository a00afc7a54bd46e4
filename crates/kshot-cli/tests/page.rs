//! The web page in a real browser: classes are taught, drawings are recognised, and everything is still there later.

mod browser;
mod common;
mod server;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use browser::{Browser, DESKTOP, PHONE, Screen};
use server::Server;

/// Seconds from the page's opening to the first right recognition, at most.
const FIRST_RESULT: f64 = 20.0;

/// A tick, and the same drawn by a hand that trembles.
const TICK: [[f64; 2]; 7] = [
    [0.2, 0.45],
    [0.28, 0.58],
    [0.38, 0.75],
    [0.5, 0.6],
    [0.6, 0.45],
    [0.7, 0.3],
    [0.8, 0.18],
];
const TICK_AGAIN: [[f64; 2]; 7] = [
    [0.24, 0.5],
    [0.3, 0.6],
    [0.4, 0.72],
    [0.52, 0.58],
    [0.6, 0.47],
    [0.69, 0.34],
    [0.77, 0.24],
];

fn ring(radius: f64, wobble: f64) -> Vec<[f64; 2]> {
    (0..=24)
        .map(|step| {
            let angle = f64::from(step) * std::f64::consts::TAU / 24.0;
            let radius = radius + wobble * (3.0 * angle).sin();
            [0.5 + radius * angle.sin(), 0.5 - radius * angle.cos()]
        })
        .collect()
}

/// A browser on the page of a fresh server.
fn start(screen: Screen) -> Option<(Browser, Server, tempfile::TempDir)> {
    start_timed(screen).map(|(browser, server, folder, _)| (browser, server, folder))
}

/// As [`start`], and when the page began to open.
fn start_timed(screen: Screen) -> Option<(Browser, Server, tempfile::TempDir, Instant)> {
    start_with(screen, &[])
}

/// As [`start_timed`], with further arguments of the server.
fn start_with(screen: Screen, arguments: &[&str]) -> Option<(Browser, Server, tempfile::TempDir, Instant)> {
    let mut browser = Browser::start(screen)?;
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("classes.kshot"), arguments);
    let opened = Instant::now();
    browser.open(&server.page());
    browser.wait_for("document.getElementById('classes').textContent.includes('No classes yet')");
    Some((browser, server, folder, opened))
}

/// Draws on the pad and gives the drawing a new name.
#[track_caller]
fn teach(browser: &mut Browser, stroke: &[[f64; 2]], name: &str) {
    browser.draw("#pad", stroke);
    browser.click("#new-name");
    browser.wait_for("document.activeElement.id === 'new-name'");
    browser.write(name);
    browser.press("Enter");
    browser.wait_for(&format!("[...document.querySelectorAll('.chip')].some((chip) => chip.textContent.startsWith('{name}') && chip.textContent.endsWith('1'))"));
    browser.wait_for("document.getElementById('undo').disabled");
}

/// Takes away the messages of earlier actions, whose undo buttons look the same.
fn forget_toasts(browser: &mut Browser) {
    browser.evaluate("document.getElementById('toasts').replaceChildren()");
}

/// Takes back the last action, when the page offers it.
#[track_caller]
fn undo(browser: &mut Browser) {
    browser.wait_for("[...document.querySelectorAll('.toast button')].some((b) => b.textContent === 'Undo')");
    browser.evaluate(
        "[...document.querySelectorAll('.toast button')].find((b) => b.textContent === 'Undo').click()",
    );
}

#[track_caller]
fn expect_verdict(browser: &mut Browser, name: &str) {
    browser.wait_for(&format!(
        "document.querySelector('.verdict strong')?.textContent === '{name}'"
    ));
}

#[track_caller]
fn expect_no_complaints(browser: &mut Browser) {
    assert!(browser.complaints.is_empty(), "{:#?}", browser.complaints);
}

/// Pictures as files: dark crosses on light paper.
fn crosses(folder: &Path, count: u32) -> Vec<PathBuf> {
    (0..count)
        .map(|index| {
            let picture = image::GrayImage::from_fn(64, 64, |x, y| {
                let near = |a: u32, b: u32| a.abs_diff(b) < 3;
                let bar = near(x, 32 + index) && (12..52).contains(&y)
                    || near(y, 32 - index) && (12..52).contains(&x);
                image::Luma([if bar { 0 } else { 255 }])
            });
            let path = folder.join(format!("cross{index}.png"));
            picture.save(&path).unwrap();
            path
        })
        .collect()
}

#[test]
fn two_drawn_classes_tell_a_third_drawing_apart_and_outlive_a_reload() {
    let Some((mut browser, server, folder, opened)) = start_timed(DESKTOP) else {
        return;
    };
    browser.screenshot("desktop-empty");
    teach(&mut browser, &TICK, "tick");
    teach(&mut browser, &ring(0.3, 0.0), "ring");
    browser.draw("#pad", &TICK_AGAIN);
    expect_verdict(&mut browser, "tick");
    let first = opened.elapsed().as_secs_f64();
    eprintln!("from the page's opening to the first right recognition: {first:.1} s");
    assert!(first < FIRST_RESULT, "{first} s");
    browser.screenshot("desktop-tick");
    // The probabilities and the examples that decided.
    assert_eq!(browser.count(".bars li"), 3);
    assert!(browser.count(".evidence img") >= 1);
    browser.wait_for(
        "document.querySelectorAll('#map image').length === 2 && document.querySelector('#map .here')",
    );

    browser.press("Escape");
    browser.draw("#pad", &ring(0.25, 0.02));
    expect_verdict(&mut browser, "ring");

    // Teaching by correction: the number of the class on the pad adds an example, and the toast takes it back.
    forget_toasts(&mut browser);
    browser.press("2");
    browser.wait_for("document.getElementById('classes-count').textContent === '2 classes, 3 examples'");
    undo(&mut browser);
    browser.wait_for("document.getElementById('classes-count').textContent === '2 classes, 2 examples'");

    browser.open(&server.page());
    browser.wait_for("document.getElementById('classes-count').textContent === '2 classes, 2 examples'");
    browser.draw("#pad", &TICK_AGAIN);
    expect_verdict(&mut browser, "tick");

    // A server that was killed starts where it was.
    let store = folder.path().join("classes.kshot");
    browser.open("about:blank#left");
    server.kill();
    let server = Server::start(&store, &[]);
    browser.open(&server.page());
    browser.wait_for("document.getElementById('classes-count').textContent === '2 classes, 2 examples'");
    browser.draw("#pad", &ring(0.33, 0.01));
    expect_verdict(&mut browser, "ring");
    expect_no_complaints(&mut browser);
}

#[test]
fn files_are_dropped_into_a_class_and_recognised_and_classes_are_renamed_and_deleted() {
    let Some((mut browser, _server, folder)) = start(DESKTOP) else {
        return;
    };
    teach(&mut browser, &ring(0.3, 0.0), "ring");
    let files = crosses(folder.path(), 4);
    browser.click("#new-name");
    browser.wait_for("document.activeElement.id === 'new-name'");
    browser.write("cross");
    browser.press("Enter");
    browser.wait_for("document.querySelectorAll('.class-card').length === 2");
    browser.drop_files(".class-card:nth-child(2)", &files[..3]);
    browser.wait_for("document.querySelectorAll('.class-card:nth-child(2) .thumb-button').length === 3");
    browser.drop_files("#pad", &files[3..]);
    expect_verdict(&mut browser, "cross");
    browser.drop_files("#pad", &files[1..]);
    browser.wait_for("document.querySelectorAll('.batch li').length === 3");
    browser.screenshot("desktop-batch");
    let not_a_picture = folder.path().join("notes.txt");
    std::fs::write(&not_a_picture, "not a picture").unwrap();
    browser.drop_files("#pad", &[not_a_picture]);
    browser.wait_for("document.querySelector('.toast.error')?.textContent.includes('notes.txt')");
    browser
        .complaints
        .retain(|complaint| !complaint.contains("notes.txt"));

    browser.click(".class-card:nth-child(2) .class-name");
    browser.evaluate("document.activeElement.select()");
    browser.write("plus");
    browser.press("Enter");
    browser.wait_for(
        "[...document.querySelectorAll('.chip')].some((chip) => chip.textContent.startsWith('plus'))",
    );
    forget_toasts(&mut browser);
    browser.click(".class-card:nth-child(2) [aria-label='Delete plus']");
    browser.wait_for("document.querySelectorAll('.class-card').length === 1");
    undo(&mut browser);
    browser.wait_for("document.getElementById('classes-count').textContent === '2 classes, 4 examples'");
    expect_no_complaints(&mut browser);
}

#[test]
fn more_pictures_than_one_request_takes_go_in_several() {
    // Two of them.
    let Some((mut browser, _server, folder, _)) = start_with(DESKTOP, &["--max-body", "600000"]) else {
        return;
    };
    teach(&mut browser, &ring(0.3, 0.0), "ring");
    let files: Vec<PathBuf> = (0..5)
        .map(|seed| {
            let path = folder.path().join(format!("noise{seed}.png"));
            server::noise(seed, 500).save(&path).unwrap();
            assert!(path.metadata().unwrap().len() > 200_000);
            path
        })
        .collect();
    browser.drop_files(".class-card:nth-child(1)", &files);
    browser.wait_for("document.getElementById('classes-count').textContent === '1 class, 6 examples'");
    browser.drop_files("#pad", &files);
    browser.wait_for("document.querySelectorAll('.batch li').length === 5");
    expect_no_complaints(&mut browser);
}

#[test]
fn on_a_phone_an_example_set_and_a_finger_are_enough() {
    let Some((mut browser, _server, _folder)) = start(PHONE) else {
        return;
    };
    browser.screenshot("phone-empty");
    browser.click(".guide button");
    browser.wait_for("document.querySelectorAll('.chip').length === 5");
    let opened = Instant::now();
    browser.click(".guide button");
    browser.wait_for("document.querySelector('.verdict strong')");
    eprintln!(
        "an unseen sign answered in {:.1} s",
        opened.elapsed().as_secs_f64()
    );
    browser.screenshot("phone-unseen");
    browser.draw("#pad", &ring(0.3, 0.0));
    browser.wait_for("document.querySelector('.verdict strong')");
    assert_eq!(
        browser.evaluate("document.documentElement.scrollWidth <= innerWidth"),
        true
    );
    browser.evaluate("document.getElementById('new-name').focus()");
    browser.write("ring");
    browser.press("Enter");
    browser.wait_for("document.querySelectorAll('.chip').length === 6");
    browser.draw("#pad", &ring(0.27, 0.015));
    browser.wait_for("document.querySelector('.verdict strong')");
    browser.screenshot("phone-ring");
    expect_no_complaints(&mut browser);
}

/// Moves the focus by the tab key until it is where an expression says.
#[track_caller]
fn tab_to(browser: &mut Browser, selector: &str) {
    for _ in 0..60 {
        if browser.evaluate(&format!(
            "document.activeElement?.matches(\"{selector}\") ?? false"
        )) == true
        {
            return;
        }
        browser.press("Tab");
    }
    panic!("the tab key does not lead to {selector}");
}

#[test]
fn the_keyboard_alone_is_enough_and_everything_has_a_name() {
    let Some((mut browser, _server, _folder)) = start(DESKTOP) else {
        return;
    };
    let sign = |browser: &mut Browser, moves: &[(&str, usize)], name: &str| {
        tab_to(browser, "#pad");
        browser.press(" ");
        for (key, times) in moves {
            (0..*times).for_each(|_| browser.press(key));
        }
        browser.press(" ");
        if !name.is_empty() {
            tab_to(browser, "#new-name");
            browser.write(name);
            browser.press("Enter");
            browser
                .wait_for("document.activeElement.id === 'pad' && document.getElementById('undo').disabled");
        }
    };
    sign(&mut browser, &[("ArrowRight", 8), ("ArrowDown", 8)], "corner");
    sign(
        &mut browser,
        &[("ArrowUp", 6), ("ArrowLeft", 6), ("ArrowUp", 5)],
        "stair",
    );
    sign(&mut browser, &[("ArrowRight", 7), ("ArrowDown", 9)], "");
    expect_verdict(&mut browser, "corner");
    browser.wait_for("document.getElementById('announce').textContent.startsWith('corner')");
    let nameless: Vec<_> = browser
        .controls()
        .into_iter()
        .filter(|(_, name)| name.trim().is_empty())
        .collect();
    assert!(nameless.is_empty(), "{nameless:?}");
    browser.screenshot("keyboard");
    expect_no_complaints(&mut browser);
}

#[test]
fn the_camera_is_looked_through_and_taught_from() {
    let Some((mut browser, _server, _folder)) = start(DESKTOP) else {
        return;
    };
    teach(&mut browser, &ring(0.3, 0.0), "ring");
    browser.click("[value=camera] + span");
    browser.wait_for("document.getElementById('camera').videoWidth > 0");
    browser.wait_for("document.querySelector('.verdict strong')");
    browser.click("#new-name");
    browser.wait_for("document.activeElement.id === 'new-name'");
    browser.write("test card");
    browser.press("Enter");
    browser.wait_for("document.getElementById('classes-count').textContent.startsWith('2 classes')");
    browser.screenshot("camera");
    browser.click("[value=draw] + span");
    browser.wait_for("document.getElementById('camera').srcObject === null");
    expect_no_complaints(&mut browser);
}

#[test]
fn a_store_is_downloaded_started_over_and_uploaded_again() {
    let Some((mut browser, _server, _folder)) = start(Screen {
        dark: true,
        ..DESKTOP
    }) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    teach(&mut browser, &TICK, "tick");
    teach(&mut browser, &ring(0.3, 0.0), "ring");
    browser.screenshot("dark");
    browser.save_downloads_in(folder.path());
    browser.click("#menu summary");
    browser.click("#download");
    // The page gives the file its name once all of it is there.
    let file = folder.path().join("classes.kshot");
    let clicked = Instant::now();
    while !file.exists() {
        assert!(clicked.elapsed() < browser::PATIENCE, "nothing was downloaded");
        std::thread::sleep(Duration::from_millis(30));
    }
    browser.click("#menu summary");
    browser.click("#start-over");
    browser.wait_for("document.getElementById('dialog').open");
    browser.click("#dialog .danger");
    browser.wait_for("document.querySelectorAll('.class-card').length === 0");
    let node = browser.call(
        "Runtime.evaluate",
        serde_json::json!({"expression": "document.getElementById('store-input')"}),
    );
    browser.call(
        "DOM.setFileInputFiles",
        serde_json::json!({"files": [file], "objectId": node["result"]["objectId"]}),
    );
    browser.wait_for("document.getElementById('classes-count').textContent === '2 classes, 2 examples'");
    browser.draw("#pad", &TICK_AGAIN);
    expect_verdict(&mut browser, "tick");
    expect_no_complaints(&mut browser);
}

#[test]
fn a_server_with_a_token_asks_the_page_for_it() {
    let Some(mut browser) = Browser::start(DESKTOP) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "correct-horse-battery\n").unwrap();
    let server = Server::start(
        &folder.path().join("s.kshot"),
        &["--token-file", token.to_str().unwrap()],
    );
    browser.open(&server.page());
    for given in ["wrong-token-altogether", "correct-horse-battery"] {
        browser.wait_for("document.querySelector('#dialog[open] input') !== null && document.querySelector('#dialog input').value === ''");
        browser.click("#dialog input");
        browser.write(given);
        browser.press("Enter");
    }
    browser.wait_for("document.getElementById('tagline').textContent.includes('×')");
    teach(&mut browser, &TICK, "tick");
    // The browser itself notes each 401.
    browser.complaints.retain(|complaint| !complaint.contains("401"));
    expect_no_complaints(&mut browser);
}
