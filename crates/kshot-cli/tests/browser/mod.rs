//! A real browser, driven over its debugging pipe (Chrome DevTools Protocol): JSON messages that end in a zero byte.
#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::common::skipped::skipped;

pub const PATIENCE: Duration = Duration::from_secs(60);

/// A browser with one tab.
pub struct Browser {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    next: u64,
    session: Option<String>,
    /// What the page complained of: exceptions, errors on the console, violations of its policy.
    pub complaints: VecDeque<String>,
    touch: bool,
    _profile: tempfile::TempDir,
}

/// How the tab looks like.
#[derive(Clone, Copy)]
pub struct Screen {
    pub width: u32,
    pub height: u32,
    pub phone: bool,
    pub dark: bool,
}

pub const DESKTOP: Screen = Screen {
    width: 1280,
    height: 900,
    phone: false,
    dark: false,
};
pub const PHONE: Screen = Screen {
    width: 390,
    height: 844,
    phone: true,
    dark: false,
};

/// Chromium or Chrome: `KSHOT_CHROMIUM`, or what the search path has.
pub fn find() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("KSHOT_CHROMIUM") {
        return Some(PathBuf::from(path)).filter(|path| path.is_file());
    }
    let names = [
        "chromium",
        "chromium-browser",
        "google-chrome",
        "google-chrome-stable",
    ];
    let folders: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH")?).collect();
    let mut places = names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    places.find(|path| path.is_file())
}

impl Browser {
    /// A tab; `None`, with a line that says so, where there is no browser.
    pub fn start(screen: Screen) -> Option<Self> {
        let Some(program) = find().filter(|_| cfg!(unix)) else {
            skipped("no Chromium; install it, or say where it is by KSHOT_CHROMIUM");
            return None;
        };
        let profile = tempfile::tempdir().unwrap();
        // The browser reads commands from descriptor 3 and answers on 4.
        let mut child = Command::new("sh")
            .args([
                "-c",
                "exec \"$0\" \"$@\" 3<&0 4>&1 0</dev/null 1>/dev/null 2>/dev/null",
            ])
            .arg(program)
            .args([
                "--headless",
                "--remote-debugging-pipe",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
            ])
            .args([
                "--disable-quic",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ])
            .args([
                "--disable-dev-shm-usage",
                "--use-fake-device-for-media-stream",
                "--use-fake-ui-for-media-stream",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let to = child.stdin.take().unwrap();
        let mut pipe = BufReader::new(child.stdout.take().unwrap());
        let (sender, from) = channel();
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while pipe.read_until(0, &mut message).is_ok_and(|n| n > 0) {
                message.pop();
                let value = serde_json::from_slice(&message).unwrap_or(Value::Null);
                if sender.send(value).is_err() {
                    break;
                }
                message.clear();
            }
        });
        let mut browser = Self {
            child,
            to,
            from,
            next: 0,
            session: None,
            complaints: VecDeque::new(),
            touch: screen.phone,
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attached = browser.call(
            "Target.attachToTarget",
            json!({"targetId": target["targetId"], "flatten": true}),
        );
        browser.session = Some(attached["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page", "Runtime", "Log", "DOM"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser.call(
            "Emulation.setDeviceMetricsOverride",
            json!({"width": screen.width, "height": screen.height, "deviceScaleFactor": 1, "mobile": screen.phone}),
        );
        browser.call(
            "Emulation.setTouchEmulationEnabled",
            json!({"enabled": screen.phone}),
        );
        let scheme = if screen.dark { "dark" } else { "light" };
        browser.call(
            "Emulation.setEmulatedMedia",
            json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]}),
        );
        Some(browser)
    }

    /// One command and its answer.
    #[track_caller]
    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.next += 1;
        let mut message = json!({"id": self.next, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.to.write_all(message.to_string().as_bytes()).unwrap();
        self.to.write_all(&[0]).unwrap();
        loop {
            let message = self
                .from
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|_| panic!("no answer to {method}"));
            if message["id"] == self.next {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].clone();
            }
            self.note(&message);
        }
    }

    fn note(&mut self, event: &Value) {
        let parameters = &event["params"];
        let complaint = match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => Some(parameters["exceptionDetails"].to_string()),
            Some("Runtime.consoleAPICalled") if parameters["type"] == "error" => {
                Some(parameters["args"].to_string())
            }
            Some("Log.entryAdded") if parameters["entry"]["level"] == "error" => {
                Some(parameters["entry"].to_string())
            }
            _ => None,
        };
        self.complaints.extend(complaint);
    }

    /// Opens an address and waits until it is loaded.
    #[track_caller]
    pub fn open(&mut self, address: &str) {
        self.call("Page.navigate", json!({"url": address}));
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'");
    }

    /// The value of an expression.
    #[track_caller]
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let result = self.call(
            "Runtime.evaluate",
            json!({"expression": expression, "awaitPromise": true, "returnByValue": true}),
        );
        assert!(
            result["exceptionDetails"].is_null(),
            "{expression}: {}",
            result["exceptionDetails"]
        );
        result["result"]["value"].clone()
    }

    /// The text of the first element that a selector finds; empty if it finds none.
    #[track_caller]
    pub fn text(&mut self, selector: &str) -> String {
        let value = self.evaluate(&format!(
            "document.querySelector({})?.textContent ?? ''",
            json!(selector)
        ));
        value.as_str().unwrap_or_default().to_owned()
    }

    /// How many elements a selector finds.
    #[track_caller]
    pub fn count(&mut self, selector: &str) -> u64 {
        self.evaluate(&format!("document.querySelectorAll({}).length", json!(selector)))
            .as_u64()
            .unwrap()
    }

    /// Waits until an expression is true.
    #[track_caller]
    pub fn wait_for(&mut self, expression: &str) {
        let start = Instant::now();
        while self.evaluate(&format!("Boolean({expression})")) != true {
            if start.elapsed() > PATIENCE {
                let page = self.evaluate("document.body.innerText");
                panic!(
                    "waited in vain for {expression}; the page complained of {:?} and says\n{page}",
                    self.complaints
                );
            }
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Left, top, width and height of an element, which is scrolled into view.
    #[track_caller]
    pub fn place(&mut self, selector: &str) -> [f64; 4] {
        let value = self.evaluate(&format!(
            "(() => {{ const e = document.querySelector({}); e.scrollIntoView({{block: 'nearest'}}); const r = e.getBoundingClientRect(); return [r.x, r.y, r.width, r.height]; }})()",
            json!(selector)
        ));
        [0usize, 1, 2, 3].map(|index| value[index].as_f64().unwrap())
    }

    /// A click or tap in the middle of an element.
    #[track_caller]
    pub fn click(&mut self, selector: &str) {
        let [x, y, width, height] = self.place(selector);
        self.stroke(&[[x + width / 2.0, y + height / 2.0]]);
    }

    /// A stroke on an element by pointer or finger, through points as shares of its sides.
    #[track_caller]
    pub fn draw(&mut self, selector: &str, points: &[[f64; 2]]) {
        let [x, y, width, height] = self.place(selector);
        let points: Vec<[f64; 2]> = points
            .iter()
            .map(|[u, v]| [x + u * width, y + v * height])
            .collect();
        self.stroke(&points);
    }

    fn stroke(&mut self, points: &[[f64; 2]]) {
        let last = points.len() - 1;
        if self.touch {
            for (index, [x, y]) in points.iter().enumerate() {
                let kind = if index == 0 { "touchStart" } else { "touchMove" };
                self.call(
                    "Input.dispatchTouchEvent",
                    json!({"type": kind, "touchPoints": [{"x": x, "y": y}]}),
                );
            }
            self.call(
                "Input.dispatchTouchEvent",
                json!({"type": "touchEnd", "touchPoints": []}),
            );
            return;
        }
        let mut mouse = |kind: &str, [x, y]: [f64; 2], buttons: u8| {
            self.call(
                "Input.dispatchMouseEvent",
                json!({"type": kind, "x": x, "y": y, "button": "left", "buttons": buttons, "clickCount": 1}),
            );
        };
        mouse("mouseMoved", points[0], 0);
        mouse("mousePressed", points[0], 1);
        points
            .iter()
            .skip(1)
            .for_each(|&point| mouse("mouseMoved", point, 1));
        mouse("mouseReleased", points[last], 0);
    }

    /// Text into what has the focus.
    #[track_caller]
    pub fn write(&mut self, text: &str) {
        self.call("Input.insertText", json!({"text": text}));
    }

    /// A key on what has the focus: `Tab`, `Enter`, `ArrowLeft`, `1`.
    #[track_caller]
    pub fn press(&mut self, key: &str) {
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            "Escape" => 27,
            " " => 32,
            "ArrowLeft" => 37,
            "ArrowUp" => 38,
            "ArrowRight" => 39,
            "ArrowDown" => 40,
            "Backspace" => 8,
            key => u32::from(key.as_bytes()[0]),
        };
        let text = match key {
            "Enter" => Some("\r"),
            key if key.chars().count() == 1 => Some(key),
            _ => None,
        };
        let mut event = json!({"type": if text.is_some() { "keyDown" } else { "rawKeyDown" }, "key": key, "windowsVirtualKeyCode": code});
        if let Some(text) = text {
            event["text"] = json!(text);
        }
        self.call("Input.dispatchKeyEvent", event);
        self.call(
            "Input.dispatchKeyEvent",
            json!({"type": "keyUp", "key": key, "windowsVirtualKeyCode": code}),
        );
    }

    /// Lets the page save files in a folder without asking.
    #[track_caller]
    pub fn save_downloads_in(&mut self, folder: &Path) {
        // The browser's matter, and not a tab's.
        let session = self.session.take();
        self.call(
            "Browser.setDownloadBehavior",
            json!({"behavior": "allow", "downloadPath": folder}),
        );
        self.session = session;
    }

    /// Drops files from the computer on an element.
    #[track_caller]
    pub fn drop_files(&mut self, selector: &str, files: &[PathBuf]) {
        let [x, y, width, height] = self.place(selector);
        for kind in ["dragEnter", "dragOver", "drop"] {
            self.call(
                "Input.dispatchDragEvent",
                json!({"type": kind, "x": x + width / 2.0, "y": y + height / 2.0,
                       "data": {"items": [], "files": files, "dragOperationsMask": 1}}),
            );
        }
    }

    /// The names and roles of everything that can be used, as a screen reader gets them.
    pub fn controls(&mut self) -> Vec<(String, String)> {
        let tree = self.call("Accessibility.getFullAXTree", json!({}));
        let nodes = tree["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|node| node["ignored"] != true);
        let text = |value: &Value| value["value"].as_str().unwrap_or_default().to_owned();
        let used = [
            "button",
            "textbox",
            "radio",
            "link",
            "application",
            "image",
            "DisclosureTriangle",
        ];
        nodes
            .map(|node| (text(&node["role"]), text(&node["name"])))
            .filter(|(role, _)| used.contains(&role.as_str()))
            .collect()
    }

    /// Saves what the tab shows where `KSHOT_SCREENSHOTS` says, if it does.
    pub fn screenshot(&mut self, name: &str) {
        let Some(folder) = std::env::var_os("KSHOT_SCREENSHOTS") else {
            return;
        };
        let shot = self.call("Page.captureScreenshot", json!({"format": "png"}));
        let data = shot["data"].as_str().unwrap();
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(Path::new(&folder).join(format!("{name}.png")), base64(data)).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Standard base64 without a check.
fn base64(text: &str) -> Vec<u8> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let (mut bytes, mut bits, mut n) = (Vec::new(), 0u32, 0);
    for six in text.bytes().filter_map(value) {
        bits = (bits << 6) | u32::from(six);
        n += 6;
        if n >= 8 {
            n -= 8;
            bytes.push((bits >> n) as u8);
        }
    }
    bytes
}
