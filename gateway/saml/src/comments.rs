//! Metadata without its comments and CDATA sections.
//!
//! Federations publish their terms as comments in front of what counts. A message must have neither, for a signed text
//! with a comment inside has had two readings; nothing is signed in metadata as it is read here, whose source is
//! trusted as a whole.

use std::borrow::Cow;

use crate::SamlError;
use crate::xml::{MAX_BYTES, escaped};

/// The same document without comments, and with CDATA sections as plain text. Whatever else metadata must not have is
/// left in for [`crate::xml::parse`] to refuse.
pub(crate) fn without_comments(text: &str) -> Result<Cow<'_, str>, SamlError> {
    if text.len() > MAX_BYTES {
        return Err(SamlError::TooLarge);
    }
    if !text.contains("<!--") && !text.contains("<![CDATA[") {
        return Ok(Cow::Borrowed(text));
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, markup)) = rest.split_once('<') {
        plain.push_str(before);
        if let Some(comment) = markup.strip_prefix("!--") {
            let (inside, after) = comment.split_once("-->").ok_or(SamlError::Malformed("a comment does not end"))?;
            // XML 1.0 §2.5.
            if inside.contains("--") || inside.ends_with('-') {
                return Err(SamlError::Malformed("a comment has `--` inside"));
            }
            rest = after;
        } else if let Some(section) = markup.strip_prefix("![CDATA[") {
            let (inside, after) =
                section.split_once("]]>").ok_or(SamlError::Malformed("a CDATA section does not end"))?;
            plain.push_str(&escaped(inside));
            rest = after;
        } else {
            // A tag, whole: quoted values may hold `>`.
            let end = end_of_tag(markup).ok_or(SamlError::Malformed("a tag does not end"))?;
            let (tag, after) = markup.split_at(end);
            plain.push('<');
            plain.push_str(tag);
            rest = after;
        }
    }
    plain.push_str(rest);
    // An escaped character is longer than itself.
    if plain.len() > MAX_BYTES { Err(SamlError::TooLarge) } else { Ok(Cow::Owned(plain)) }
}

fn end_of_tag(markup: &str) -> Option<usize> {
    let mut quote = None;
    markup.char_indices().find_map(|(at, c)| {
        match (quote, c) {
            (Some(open), c) if open == c => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, '>') => return Some(at + 1),
            _ => {}
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::parse;

    #[test]
    fn f24_comments_go_and_sections_become_text() {
        for (written, plain) in [
            ("<!-- terms --><a/>", "<a/>"),
            ("<a><!-- <b> & \"' --><c/></a><!---->", "<a><c/></a>"),
            ("<a><![CDATA[x < y & z]]></a>", "<a>x &lt; y &amp; z</a>"),
            ("<a b='<!-- --'>x</a><!-- y -->", "<a b='<!-- --'>x</a>"),
            ("<a b='>\"'><!-- > --></a>", "<a b='>\"'></a>"),
            ("<a>x</a>", "<a>x</a>"),
        ] {
            assert_eq!(without_comments(written).as_deref(), Ok(plain), "{written}");
        }
        for bad in ["<!-- a", "<!-- a -- b --><a/>", "<!--- a ---><a/>", "<a><![CDATA[x</a>", "<!-- x --><a b='"] {
            assert!(without_comments(bad).is_err(), "{bad}");
        }
        // The other things that have no use stay refused, wherever they hide.
        for bad in [
            "<!-- --><!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>",
            "<a><!-- --><?x y?></a>",
            "<a><![CDATA[<b>]]><b></a>",
            "<![CDATA[x]]><a/>",
            "<!<!-- -->-- x --><a/>",
            "<a><<!-- -->!DOCTYPE b></a>",
        ] {
            assert!(without_comments(bad).and_then(|text| parse(&text).map(drop)).is_err(), "{bad}");
        }
        assert_eq!(without_comments(&"<!-- -->".repeat(MAX_BYTES / 8 + 1)), Err(SamlError::TooLarge));
        assert_eq!(
            without_comments(&format!("<a><![CDATA[{}]]></a>", "<".repeat(MAX_BYTES / 2))),
            Err(SamlError::TooLarge)
        );
    }

    #[test]
    fn f24_a_message_with_a_comment_stays_refused() {
        assert_eq!(parse("<a>ad<!-- x -->min</a>").map(drop), Err(SamlError::Forbidden("a comment")));
        assert_eq!(parse("<a><![CDATA[x]]></a>").map(drop), Err(SamlError::Forbidden("a CDATA section")));
    }
}
