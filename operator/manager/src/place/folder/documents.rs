//! The documents of a YAML file by the bytes they stand at, so that one is replaced and every other byte stays: other
//! documents, their comments, the order of the file.

use std::ops::Range;

/// A document: its bytes, without the lines of `---` around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) bytes: Range<usize>,
    /// Lines of the file before it.
    pub(crate) lines_before: usize,
}

fn is_separator(line: &str) -> bool {
    line.trim_end() == "---" || line.starts_with("--- ")
}

fn has_content(text: &str) -> bool {
    text.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
}

/// All parts between separators, also those without content.
fn parts(text: &str) -> Vec<Span> {
    let mut parts = Vec::new();
    let (mut begin, mut lines_before, mut at) = (0, 0, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let next = at + line.len();
        if is_separator(line.strip_suffix('\n').unwrap_or(line)) {
            parts.push(Span { bytes: begin..at, lines_before });
            (begin, lines_before) = (next, number + 1);
        }
        at = next;
    }
    parts.push(Span { bytes: begin..text.len(), lines_before });
    parts
}

/// The documents of a file that have content, in its order; the same ones that the compiler reads.
pub(crate) fn documents(text: &str) -> Vec<Span> {
    let content = |span: &Span| has_content(text.get(span.bytes.clone()).unwrap_or_default());
    parts(text).into_iter().filter(content).collect()
}

/// The file with one document replaced.
pub(crate) fn replaced(text: &str, span: &Span, document: &str) -> String {
    let (before, after) = around(text, span);
    let is_last = after.is_empty();
    let end = if document.ends_with('\n') || (is_last && document.is_empty()) { "" } else { "\n" };
    [before, document, end, after].concat()
}

/// The file without one document and without one separator; `None` where nothing with content is left.
pub(crate) fn removed(text: &str, span: &Span) -> Option<String> {
    if documents(text).len() <= 1 {
        return None;
    }
    let (before, after) = around(text, span);
    let last_line = before.trim_end_matches('\n').rfind('\n').map_or(0, |end| end + 1);
    let separator = before.get(last_line..).unwrap_or_default();
    if is_separator(separator.trim_end_matches('\n')) {
        // The separator before it goes with it; the one behind it, if any, now ends the document before.
        return Some([before.get(..last_line).unwrap_or_default(), after].concat());
    }
    // It is the first one and has no separator before it: the one behind it goes.
    let end = after.find('\n').map_or(after.len(), |end| end + 1);
    Some([before, after.get(end..).unwrap_or_default()].concat())
}

fn around<'t>(text: &'t str, span: &Span) -> (&'t str, &'t str) {
    (text.get(..span.bytes.start).unwrap_or_default(), text.get(span.bytes.end..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part() -> impl Strategy<Value = String> {
        let line = prop_oneof![
            Just("# a comment, kept".to_owned()),
            Just(String::new()),
            Just("--".to_owned()),
            Just("a: '---'".to_owned()),
            Just(" ---".to_owned()),
            "[a-z]{1,8}: [a-zäö0-9 ]{0,12}",
        ];
        let end = prop_oneof![Just("\n"), Just("\r\n")];
        (prop::collection::vec(line, 0..5), end)
            .prop_map(|(lines, end)| lines.iter().map(|line| format!("{line}{end}")).collect())
    }

    fn file() -> impl Strategy<Value = (Vec<String>, String)> {
        let separator = prop_oneof![Just("---\n"), Just("---  \n"), Just("--- # kept\n"), Just("---\r\n")];
        (prop::collection::vec((part(), separator), 1..6)).prop_map(|parts| {
            let texts: Vec<String> = parts.iter().map(|(part, _)| part.clone()).collect();
            let mut text = String::new();
            for (number, (part, separator)) in parts.iter().enumerate() {
                if number > 0 {
                    text += separator;
                }
                text += part;
            }
            (texts, text)
        })
    }

    proptest! {
        /// Whatever is written into one document, every byte around it stays.
        #[test]
        fn every_byte_outside_the_replaced_document_stays((parts, text) in file(), chosen in 0usize..6) {
            let spans = documents(&text);
            let content: Vec<_> = parts.iter().filter(|part| has_content(part)).collect();
            let found: Vec<_> = spans.iter().map(|span| &text[span.bytes.clone()]).collect();
            prop_assert_eq!(&found, &content.iter().map(|part| part.as_str()).collect::<Vec<_>>());
            if spans.is_empty() {
                return Ok(());
            }
            let chosen = chosen % spans.len();
            let span = &spans[chosen];
            prop_assert_eq!(text[..span.bytes.start].matches('\n').count(), span.lines_before);
            let new = replaced(&text, span, "new: 1 # with a comment\n");
            prop_assert!(new.starts_with(&text[..span.bytes.start]) && new.ends_with(&text[span.bytes.end..]));
            let mut expected = content.clone();
            let inserted = "new: 1 # with a comment\n".to_owned();
            expected[chosen] = &inserted;
            let now: Vec<_> = documents(&new).iter().map(|span| new[span.bytes.clone()].to_owned()).collect();
            prop_assert_eq!(&now, &expected.into_iter().cloned().collect::<Vec<_>>());
            // The same document again gives the same file.
            prop_assert_eq!(replaced(&new, &documents(&new)[chosen], &text[span.bytes.clone()]), text);
        }

        /// A removed document takes no other with it.
        #[test]
        fn the_other_documents_stay_when_one_is_removed((_, text) in file(), chosen in 0usize..6) {
            let spans = documents(&text);
            if spans.is_empty() {
                return Ok(());
            }
            let chosen = chosen % spans.len();
            let mut others: Vec<_> = spans.iter().map(|span| text[span.bytes.clone()].to_owned()).collect();
            others.remove(chosen);
            let left = removed(&text, &spans[chosen]);
            prop_assert_eq!(left.is_none(), others.is_empty());
            if let Some(left) = left {
                let now: Vec<_> = documents(&left).iter().map(|span| left[span.bytes.clone()].to_owned()).collect();
                let trimmed = |all: Vec<String>| all.iter().map(|text| content_of(text)).collect::<Vec<_>>();
                prop_assert_eq!(trimmed(now), trimmed(others));
            }
        }
    }

    /// The lines with content: a part that only had comments may have joined its neighbour.
    fn content_of(text: &str) -> Vec<String> {
        let is_content = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
        text.lines().filter(is_content).map(str::to_owned).collect()
    }
}
