//! Text of others, made fit to be shown: nothing in it moves a cursor, ends a line or reorders what stands beside it.

use std::borrow::Cow;
use std::fmt::{self, Write};

/// True for what a reader cannot see and a terminal or a browser obeys: C0, DEL and C1 controls (Unicode `Cc`), line
/// and paragraph separators, and every bidirectional control of Unicode's annex 9.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{061c}' | '\u{200e}' | '\u{200f}')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text on one line, with `\u{1b}` in place of each character that [`is_hidden`].
pub fn visible(text: &str) -> Cow<'_, str> {
    if text.chars().any(is_hidden) { Cow::Owned(Visible(text).to_string()) } else { Cow::Borrowed(text) }
}

/// Several lines of ours: each as [`visible`] makes it, line feeds kept.
pub fn visible_lines(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| is_hidden(c) && c != '\n') {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.split('\n').map(visible).collect::<Vec<_>>().join("\n"))
}

/// A JSON text that means the same and in which each character that [`is_hidden`] is written as `\u001b`. Line feeds
/// between the members stay.
pub fn visible_json(json: &str) -> Cow<'_, str> {
    let hidden = |c: char| is_hidden(c) && c != '\n';
    if !json.chars().any(hidden) {
        return Cow::Borrowed(json);
    }
    // Each of them lies in the basic plane, so that one escape is enough.
    let mut out = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if hidden(c) {
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Shows the value that it holds, escaped as by [`visible`].
#[derive(Clone, Copy, Debug)]
pub struct Visible<T>(
    /// The value to show.
    pub T,
);

impl<T: fmt::Display> fmt::Display for Visible<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

struct Escaping<'f, 'a>(&'f mut fmt::Formatter<'a>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if is_hidden(c) {
                write!(self.0, "\\u{{{:x}}}", u32::from(c))?;
            } else {
                self.0.write_char(c)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_shown_and_not_done() {
        assert_eq!(visible("\u{1b}[2J\u{7}a\r\nb\u{9b}c\u{7f}"), "\\u{1b}[2J\\u{7}a\\u{d}\\u{a}b\\u{9b}c\\u{7f}");
        assert_eq!(visible("\u{202e}moc\u{2066}\u{2028}\u{200f}"), "\\u{202e}moc\\u{2066}\\u{2028}\\u{200f}");
        assert_eq!(visible_lines("a\n\u{1b}b\n"), "a\n\\u{1b}b\n");
    }

    #[test]
    fn what_people_write_stays_as_it_is() {
        for text in ["", "Jürgen Müller <j@example.org>", "日本語", "עברית", "👩‍🚀", "a\\b\"c"] {
            assert!(matches!(visible(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn escaped_json_means_the_same() {
        let json = "{\n  \"a\": \"x\u{9b}\u{202e}\u{7f}y\"\n}";
        let shown = visible_json(json);
        assert_eq!(shown, "{\n  \"a\": \"x\\u009b\\u202e\\u007fy\"\n}");
        assert!(!shown.chars().any(|c| is_hidden(c) && c != '\n'));
    }
}
