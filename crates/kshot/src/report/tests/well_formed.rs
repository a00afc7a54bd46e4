//! Whether a page is well-formed XML after its document type, which is more than HTML asks for.

/// Checks that tags are balanced, attributes quoted and not given twice, and nothing is left unescaped.
pub fn check(page: &str) -> Result<(), String> {
    let mut rest = page.strip_prefix("<!DOCTYPE html>").ok_or("no document type")?;
    let mut open: Vec<&str> = Vec::new();
    while let Some(start) = rest.find('<') {
        text(&rest[..start], &open)?;
        let end = rest[start..].find('>').ok_or("a tag without an end")? + start;
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            match open.pop() {
                Some(opened) if opened == name => {}
                opened => return Err(format!("{opened:?} ends as {name}")),
            }
            continue;
        }
        let (tag, closed) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
        let name = attributes(tag)?;
        if !closed {
            open.push(name);
        }
    }
    text(rest, &open)?;
    if open.is_empty() {
        Ok(())
    } else {
        Err(format!("{open:?} without ends"))
    }
}

fn text(text: &str, open: &[&str]) -> Result<(), String> {
    if open.is_empty() && !text.trim().is_empty() {
        return Err(format!("text outside: {text}"));
    }
    if text.contains('>') && open.last() != Some(&"style") {
        return Err(format!("a bare > in {text}"));
    }
    entities(text)
}

fn entities(text: &str) -> Result<(), String> {
    const KNOWN: [&str; 5] = ["amp;", "lt;", "gt;", "quot;", "#39;"];
    for after in text.split('&').skip(1) {
        if !KNOWN.iter().any(|known| after.starts_with(known)) {
            return Err(format!("a bare & before {after}"));
        }
    }
    match text.chars().find(|c| c.is_control() && !"\n\t".contains(*c)) {
        Some(control) => Err(format!("{control:?} in {text}")),
        None => Ok(()),
    }
}

/// Checks ` name="value"` pairs and gives the element's name.
fn attributes(tag: &str) -> Result<&str, String> {
    let (name, mut rest) = tag.split_once(' ').unwrap_or((tag, ""));
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Err(format!("no element: <{tag}>"));
    }
    let mut seen = Vec::new();
    while !rest.is_empty() {
        let (attribute, after) = rest
            .split_once("=\"")
            .ok_or(format!("an attribute without a value in <{tag}>"))?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if attribute.is_empty() || !attribute.chars().all(plain) || seen.contains(&attribute) {
            return Err(format!("attribute {attribute:?} in <{tag}>"));
        }
        let (value, after) = after.split_once('"').ok_or(format!("an open quote in <{tag}>"))?;
        entities(value)?;
        seen.push(attribute);
        rest = match after.strip_prefix(' ') {
            Some(after) => after,
            None if after.is_empty() => after,
            None => return Err(format!("no space between attributes in <{tag}>")),
        };
    }
    Ok(name)
}

#[test]
fn what_is_not_well_formed_is_refused() {
    let page = |body: &str| check(&format!("<!DOCTYPE html>\n<html>{body}</html>\n"));
    page("<p class=\"a\" id=\"b\">x &amp; y<br/></p>").unwrap();
    for bad in [
        "<p>",
        "</p>",
        "<p>a & b</p>",
        "<p a=b></p>",
        "<p a=\"1\" a=\"2\"/>",
        "a > b",
        "<p a=\"1\"b=\"2\"/>",
        "\u{0}",
        "<p hidden/>",
    ] {
        assert!(page(bad).is_err(), "{bad}");
    }
}
