//! Limits on the cost of a document, checked before it is parsed: one linear pass over its characters.
//!
//! Nesting is counted as a YAML reader sees it: brackets outside quotes, comments and block scalars, and the steps of
//! indentation. No object of these CRDs nests deeper than twenty levels.

/// The largest file.
pub(crate) const MAX_FILE: usize = 4 << 20;
/// The largest document: a Kubernetes API server accepts no larger object.
const MAX_DOCUMENT: usize = 3 << 19;
/// The deepest nesting of mappings and lists.
const MAX_DEPTH: usize = 64;
/// `*name`: each alias can stand for everything before it.
const MAX_ALIASES: usize = 32;
/// The largest document that has aliases.
const MAX_WITH_ALIASES: usize = 64 << 10;

/// A limit that a document exceeds, and the line within it, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Excess {
    pub(crate) line: usize,
    pub(crate) message: String,
}

#[derive(Default)]
struct Scan {
    /// Indentations of the block mappings and lists that are open.
    indents: Vec<usize>,
    /// Brackets that are open.
    flow: usize,
    /// The number of open brackets if quotes are ignored: a check that quotes cannot deceive.
    raw: usize,
    quote: Option<char>,
    /// Lines that are indented more than this belong to a block scalar.
    scalar: Option<usize>,
    aliases: usize,
}

/// Whether a document may be parsed.
pub(crate) fn check(document: &str) -> Result<(), Excess> {
    let over = |line, message: String| Err(Excess { line, message });
    if document.len() > MAX_DOCUMENT {
        return over(1, format!("the document is larger than {MAX_DOCUMENT} bytes: split it"));
    }
    let mut scan = Scan::default();
    for (number, line) in document.lines().enumerate() {
        scan.line(line);
        if scan.depth() > MAX_DEPTH || scan.raw > 16 * MAX_DEPTH {
            return over(number + 1, format!("it nests deeper than {MAX_DEPTH} levels: flatten it"));
        }
        if scan.aliases > MAX_ALIASES {
            return over(number + 1, format!("it has more than {MAX_ALIASES} aliases (`*name`): write them out"));
        }
        if scan.aliases > 0 && document.len() > MAX_WITH_ALIASES {
            return over(
                number + 1,
                format!("a document with aliases (`*name`) must not be larger than {MAX_WITH_ALIASES} bytes"),
            );
        }
    }
    Ok(())
}

impl Scan {
    fn depth(&self) -> usize {
        self.indents.len() + self.flow
    }

    fn line(&mut self, line: &str) {
        let indent = line.len() - line.trim_start_matches(' ').len();
        let blank = line.trim().is_empty();
        if let Some(of) = self.scalar {
            if blank || indent > of {
                return;
            }
            self.scalar = None;
        }
        let in_block = self.flow == 0 && self.quote.is_none();
        if in_block && !blank && !line.trim_start().starts_with('#') {
            self.indented(line, indent);
        }
        self.characters(line);
        let opens = |text: &str| {
            let last = text.rsplit(' ').next().unwrap_or(text);
            last.starts_with(['|', '>']) && last.chars().skip(1).all(|c| matches!(c, '+' | '-' | '0'..='9'))
        };
        if self.flow == 0 && self.quote.is_none() && opens(without_comment(line).trim_end()) {
            // The content of a list's item is indented more than its dash.
            self.scalar = Some(indent);
        }
    }

    /// Closes the collections that end with this indentation, and opens those that begin, also `- - -` on one line.
    fn indented(&mut self, line: &str, indent: usize) {
        let mut at = indent;
        self.open_at(at);
        let mut rest = line.get(indent..).unwrap_or_default();
        while let Some(inner) = rest.strip_prefix("- ").or_else(|| rest.strip_prefix("? ")) {
            let inner_rest = inner.trim_start_matches(' ');
            at += rest.len() - inner_rest.len();
            rest = inner_rest;
            self.indents.push(at);
            // Enough for a refusal; the rest of the line does not matter.
            if self.indents.len() > MAX_DEPTH {
                return;
            }
        }
    }

    fn open_at(&mut self, at: usize) {
        while self.indents.last().is_some_and(|open| *open > at) {
            self.indents.pop();
        }
        if self.indents.last() != Some(&at) {
            self.indents.push(at);
        }
    }

    fn characters(&mut self, line: &str) {
        let mut before = ' ';
        // True at positions where a value can begin. At other positions of block context, quotes and brackets are text.
        let mut begins = true;
        let mut characters = line.chars().peekable();
        while let Some(c) = characters.next() {
            match c {
                '[' | '{' => self.raw += 1,
                ']' | '}' => self.raw = self.raw.saturating_sub(1),
                _ => {}
            }
            match (self.quote, c) {
                (Some('"'), '\\') => drop(characters.next()),
                (Some('\''), '\'') if characters.peek() == Some(&'\'') => drop(characters.next()),
                (Some(quote), c) if quote == c => self.quote = None,
                (Some(_), _) => {}
                (None, '#') if before.is_whitespace() => return,
                (None, '"' | '\'') if begins => self.quote = Some(c),
                (None, '*') if begins => self.aliases += 1,
                (None, '[' | '{') if begins || self.flow > 0 => self.flow += 1,
                (None, ']' | '}') => self.flow = self.flow.saturating_sub(1),
                (None, _) => {}
            }
            begins = match c {
                ' ' | '\t' => begins || before == ':' || matches!(before, '-' | '?') && self.quote.is_none(),
                // In flow context a colon needs no space after a quoted key.
                ':' | ',' | '[' | '{' => self.flow > 0 && self.quote.is_none(),
                // A tag or an anchor precedes the node that it belongs to.
                '!' | '&' => begins,
                _ if matches!(before, '!' | '&') || begins && before != ' ' && !matches!(before, '[' | '{' | ',') => {
                    begins
                }
                _ => false,
            };
            before = c;
        }
    }
}

fn without_comment(line: &str) -> &str {
    line.find(" #").map_or(line, |end| line.get(..end).unwrap_or(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line_of(document: &str) -> Option<usize> {
        check(document).err().map(|over| over.line)
    }

    #[test]
    fn depth_is_bounded_in_every_way_of_writing_it() {
        for deep in [
            format!("a: {}", "[".repeat(10_000)),
            format!("a: {}", "{a: ".repeat(10_000)),
            format!("a: {}", "{\"a\":".repeat(10_000)),
            format!("a: {}", "[a, ".repeat(10_000)),
            format!("a: {}", "[\"]\", ".repeat(10_000)),
            format!("a: {}", "[']', # ]\n  ".repeat(10_000)),
            "- ".repeat(10_000),
            "? ".repeat(10_000),
            (0..1000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect(),
        ] {
            assert!(line_of(&deep).is_some(), "{}", &deep[..40]);
            let shifted = format!("# one\n# two\n{deep}");
            assert!(line_of(&shifted).is_some_and(|line| line >= 3));
        }
    }

    #[test]
    fn what_only_looks_deep_is_read() {
        let quoted =
            (0..200).map(|n| format!("- 'it''s [ {n}'\n- \"[ \\\" {{\"\n- don't [\n- a b: c # [ {{\n")).collect();
        let scalar: String =
            ["a: |\n".to_owned(), "  [ { \" '\n".repeat(60), "b: >-\n  x\nc: [d]\n".to_owned()].concat();
        let siblings = (0..5000).map(|n| format!("k{n}:\n  - a: [b, {{c: d}}]\n    e: f\n")).collect();
        for document in [quoted, scalar, siblings] {
            assert_eq!(check(&document), Ok(()));
        }
    }

    #[test]
    fn aliases_and_sizes_are_bounded() {
        assert_eq!(line_of("a: &a [x]\nb: [*a, *a]\nc: a * b\n"), None);
        assert_eq!(line_of(&format!("a: &a [x]\nb: [{}]\n", "*a, ".repeat(MAX_ALIASES + 1))), Some(2));
        assert_eq!(line_of(&format!("a: &a [x]\nb: *a\nc: {}\n", "x".repeat(MAX_WITH_ALIASES))), Some(2));
        assert_eq!(line_of(&"x".repeat(MAX_DOCUMENT + 1)), Some(1));
    }
}
