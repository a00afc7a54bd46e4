//! The report as one page that needs nothing else: no network, no script. It is well-formed XML too.

mod curves;
mod details;
mod embedding;
mod episodes;
pub(crate) mod headline;
mod pairs;

use super::{Report, escape};

/// The whole page.
pub fn page(report: &Report) -> String {
    let mut html = String::new();
    headline::write(&mut html, report);
    curves::write(&mut html, report);
    episodes::write(&mut html, report);
    embedding::write(&mut html, report);
    pairs::write(&mut html, report);
    details::write(&mut html, report);
    document(&report.title(), &html)
}

/// A page with a title, the style of all pages, and what stands in its main part.
///
/// The policy forbids everything but the page's own style and pictures, whatever a class is called.
pub(crate) fn document(title: &str, main: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <title>{}</title>\n<style>\n{}</style>\n</head>\n<body>\n<main>\n{main}</main>\n</body>\n</html>\n",
        escape::html(&format!("kshot: {title}")),
        include_str!("html/style.css"),
    )
}

/// A name from outside: escaped, kept from changing the direction of what is around it, and broken, if it must be,
/// between its words.
fn name(text: &str) -> String {
    let mut html = String::from("<bdi>");
    for part in text.split_inclusive(['/', '_', '-', '.', '\\']) {
        html.push_str(&escape::html(part));
        html.push_str("<wbr/>");
    }
    html.push_str("</bdi>");
    html
}
