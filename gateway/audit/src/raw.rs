//! Parts of a JSON text as the bytes that they are: hashes cover bytes, and a parsed value has lost them.

use serde::de::IgnoredAny;

/// The members of an object, each with the bytes of its value; `None` where the text is no object.
pub(crate) fn members(text: &str) -> Option<Vec<(&str, &str)>> {
    let text = text.trim();
    serde_json::from_str::<IgnoredAny>(text).ok()?;
    let inner = text.strip_prefix('{')?.strip_suffix('}')?;
    parts(inner).map(member).collect()
}

/// The items of an array; `None` where the text is none.
pub(crate) fn items(text: &str) -> Option<Vec<&str>> {
    let text = text.trim();
    serde_json::from_str::<IgnoredAny>(text).ok()?;
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    Some(parts(inner).collect())
}

/// The member of this name, which no other member may have.
pub(crate) fn member_of<'t>(members: &[(&'t str, &'t str)], name: &str) -> Option<&'t str> {
    let mut found = members.iter().filter(|(known, _)| *known == name);
    let (_, value) = found.next()?;
    found.next().is_none().then_some(*value)
}

/// A name without escapes, and the value behind it.
fn member(part: &str) -> Option<(&str, &str)> {
    let (name, rest) = part.trim_start().strip_prefix('"')?.split_once('"')?;
    Some((name, rest.trim_start().strip_prefix(':')?.trim()))
}

/// The parts between the commas that are in no string, object or array.
fn parts(inner: &str) -> impl Iterator<Item = &str> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    inner
        .split(move |c: char| {
            match c {
                _ if escaped => escaped = false,
                '\\' if in_string => escaped = true,
                '"' => in_string = !in_string,
                '{' | '[' if !in_string => depth += 1,
                '}' | ']' if !in_string => depth = depth.saturating_sub(1),
                ',' if !in_string && depth == 0 => return true,
                _ => {}
            }
            false
        })
        .map(str::trim)
        .filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn parts_are_the_bytes_that_they_were() {
        let text = r#" {"a" : {"b":[1, 2,{"c":"},\"]"}]} ,"d":"x,\\","e":[ "," , []]} "#;
        let found = members(text).unwrap();
        assert_eq!(found[0], ("a", r#"{"b":[1, 2,{"c":"},\"]"}]}"#));
        assert_eq!(found[1], ("d", r#""x,\\""#));
        assert_eq!(items(found[2].1).unwrap(), [r#"",""#, "[]"]);
        assert_eq!((items("[]").unwrap().len(), members("{}").unwrap().len()), (0, 0));
        for wrong in ["", "{", "[1", "{\"a\"}", "1", "{\"a\":1}x"] {
            assert!(members(wrong).is_none() && items(wrong).is_none(), "{wrong}");
        }
        assert_eq!(member_of(&[("a", "1"), ("a", "2")], "a"), None, "two are none");
    }

    proptest! {
        #[test]
        fn any_value_comes_back_as_it_was(texts in proptest::collection::vec(".{0,12}", 0..6)) {
            let whole = json!({"list": texts, "nested": {"texts": texts}});
            let text = whole.to_string();
            let found = members(&text).unwrap();
            let list = items(member_of(&found, "list").unwrap()).unwrap();
            let read: Vec<Value> = list.iter().map(|item| serde_json::from_str(item).unwrap()).collect();
            prop_assert_eq!(Value::Array(read), whole["list"].clone());
            prop_assert_eq!(member_of(&found, "nested").unwrap(), whole["nested"].to_string());
        }
    }
}
