//! Bodies of `POST /classify`: pictures as they are, as a form, in JSON. The first line is the body's type.
#![no_main]

use axum::http::HeaderValue;
use kshot_fuzz::server::ask;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let end = bytes.iter().position(|&byte| byte == b'\n');
    let (kind, body) = end.map_or((&b"image/png"[..], bytes), |end| {
        (&bytes[..end], &bytes[end + 1..])
    });
    if HeaderValue::from_bytes(kind).is_err() {
        return;
    }
    let answer = ask("POST", "/classify", kind, body);
    let text = String::from_utf8_lossy(&answer.body);
    match answer.status {
        200 => {
            let answer: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
            let one = answer.get("ranked").or(answer.get("results"));
            assert!(one.is_some_and(serde_json::Value::is_array), "{answer}");
        }
        400 | 413 | 415 | 422 => assert!(text.contains("\"type\":\"/docs#"), "{text}"),
        other => panic!("{other}: {text}"),
    }
});
