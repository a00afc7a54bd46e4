//! Text from outside (class names, paths, option values) made safe to stand in a page or a table.

/// Longest name that a report shows, in characters.
const LONGEST: usize = 100;

/// `text` as it may stand between tags and inside quoted attributes, in HTML as in XML.
///
/// Control characters, which XML forbids and which could reorder a line, become `U+FFFD`.
pub fn html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(visible(character)),
        }
    }
    escaped
}

/// `text` as it may stand in a cell of a Markdown table: nothing in it is markup and it stays on one line.
pub fn markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\\' | '`' | '*' | '_' | '|' | '[' | ']' | '#' | '~' | '$' => {
                escaped.push('\\');
                escaped.push(character);
            }
            '\n' | '\t' => escaped.push(' '),
            _ => escaped.push(visible(character)),
        }
    }
    escaped
}

/// `text` on one line of a terminal.
pub fn line(text: &str) -> String {
    text.chars()
        .map(|character| match character {
            '\n' | '\t' => ' ',
            _ => visible(character),
        })
        .collect()
}

/// `name` cut to a length that leaves a page readable, its middle left out.
pub fn short(name: &str) -> String {
    let count = name.chars().count();
    if count <= LONGEST {
        return name.to_owned();
    }
    let half = LONGEST / 2;
    let head: String = name.chars().take(half).collect();
    let tail: String = name.chars().skip(count - half).collect();
    format!("{head}…{tail}")
}

/// A word of a shell's command line: quoted unless it is plain.
pub fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+%@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The words of a command line that [`shell`] wrote, without their quotes.
pub fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' if !quoted => word.get_or_insert_default().extend(characters.next()),
            _ if character.is_whitespace() && !quoted => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}

fn visible(character: char) -> char {
    match character {
        '\n' | '\t' => character,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}' => '\u{fffd}',
        _ if character.is_control() => '\u{fffd}',
        _ => character,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{html, line, markdown, shell, short, words};

    #[test]
    fn nothing_in_a_name_is_markup() {
        assert_eq!(
            html("<b onload=\"x\">&'\u{0}\u{202e}</b>"),
            "&lt;b onload=&quot;x&quot;&gt;&amp;&#39;\u{fffd}\u{fffd}&lt;/b&gt;"
        );
        assert_eq!(markdown("a|b\n*c* <d> `e`"), "a\\|b \\*c\\* &lt;d&gt; \\`e\\`");
        assert_eq!(line("a\n\u{1b}[31mb"), "a \u{fffd}[31mb");
    }

    #[test]
    fn a_long_name_keeps_its_ends() {
        let long = format!("start{}end", "x".repeat(1000));
        let cut = short(&long);
        assert!(cut.starts_with("start") && cut.ends_with("end"));
        assert_eq!(cut.chars().count(), 101);
        assert_eq!(short("short"), "short");
    }

    #[test]
    fn a_word_of_a_command_line_stays_one_word() {
        assert_eq!(shell("runs/a-b_1.2"), "runs/a-b_1.2");
        assert_eq!(shell("my runs; rm"), "'my runs; rm'");
        assert_eq!(shell("it's"), r"'it'\''s'");
        assert_eq!(shell(""), "''");
        assert_eq!(
            words(" kshot  train 'it'\\''s' '' "),
            ["kshot", "train", "it's", ""]
        );
    }

    proptest! {
        #[test]
        fn the_words_of_a_command_line_come_back(given in proptest::collection::vec("\\PC{0,8}|[ '\\\\\n]{0,4}", 0..6)) {
            let line = given.iter().map(|word| shell(word)).collect::<Vec<_>>().join(" ");
            prop_assert_eq!(words(&line), given);
        }
    }
}
