//! All that the verbs print. Parts of it were written by others, so that no control character gets past here.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use idm_types::{Visible, visible_json, visible_lines};
use serde_json::Value;

/// One line on standard output; a line feed within it is shown and not done.
pub(crate) fn line(text: impl Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{}", Visible(text))
}

/// Lines of ours on standard output. Nobody is left to be told when they cannot be written.
pub(crate) fn lines(text: &str) {
    let _ = io::stdout().lock().write_all(visible_lines(text).as_bytes());
}

/// A JSON value on standard output, with a name in front.
pub(crate) fn json(name: &str, value: &Value) {
    let _ = writeln!(io::stdout().lock(), "{name}{}", visible_json(&format!("{value:#}")));
}

/// Content as it is, for a file or a program; a terminal gets it made visible.
pub(crate) fn content(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if out.is_terminal() {
        out.write_all(visible_lines(&String::from_utf8_lossy(bytes)).as_bytes())
    } else {
        out.write_all(bytes)
    }
}

/// Lines of ours on standard error.
pub(crate) fn problem(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", visible_lines(text));
}

/// Log lines: each event is one line, whatever is in its fields.
pub(crate) struct Log(io::Stderr);

impl Log {
    pub(crate) fn new() -> Self {
        Self(io::stderr())
    }
}

impl Write for Log {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        // An event arrives whole, with the line feed that ends it.
        let text = String::from_utf8_lossy(event);
        let ended = text.strip_suffix('\n');
        let end = if ended.is_some() { "\n" } else { "" };
        write!(self.0.lock(), "{}{end}", Visible(ended.unwrap_or(&text)))?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Prints one line, like `println!`.
macro_rules! say {
    ($($text:tt)*) => {{ let _ = $crate::print::line(format_args!($($text)*)); }};
}

/// Prints to standard error, like `eprintln!`.
macro_rules! complain {
    ($($text:tt)*) => { $crate::print::problem(&format!($($text)*)) };
}
