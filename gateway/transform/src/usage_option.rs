//! The option of a streamed chat completion by which its answer tells the usage: `stream_options.include_usage`.
//!
//! Nothing else of the body changes: numbers, member order and white space reach the provider as the caller wrote them.

use std::ops::Range;

use serde_json::Value;

const OPTION: &str = "\"include_usage\":true";

/// The body with the option set; `None` where it is set already, or where the answer is not streamed. `parsed` is the
/// body, which names each member once.
pub(crate) fn with_usage(body: &[u8], parsed: &Value) -> Option<Vec<u8>> {
    if parsed.get("stream") != Some(&Value::Bool(true)) {
        return None;
    }
    match parsed.get("stream_options") {
        None => insert(body, first_member(body, 0)?, &format!("\"stream_options\":{{{OPTION}}},")),
        Some(Value::Null) => replace(body, member(body, 0, "stream_options")?, &format!("{{{OPTION}}}")),
        Some(Value::Object(options)) => {
            let at = member(body, 0, "stream_options")?.start;
            match options.get("include_usage") {
                Some(Value::Bool(true)) => None,
                Some(_) => replace(body, member(body, at, "include_usage")?, "true"),
                None => {
                    let comma = if options.is_empty() { "" } else { "," };
                    insert(body, first_member(body, at)?, &format!("{OPTION}{comma}"))
                }
            }
        }
        // The provider refuses it.
        Some(_) => None,
    }
}

fn insert(body: &[u8], at: usize, text: &str) -> Option<Vec<u8>> {
    replace(body, at..at, text)
}

fn replace(body: &[u8], range: Range<usize>, text: &str) -> Option<Vec<u8>> {
    Some([body.get(..range.start)?, text.as_bytes(), body.get(range.end..)?].concat())
}

/// The position behind the brace of the object that begins at or after `at`.
fn first_member(body: &[u8], at: usize) -> Option<usize> {
    let brace = skip_space(body, at);
    (body.get(brace) == Some(&b'{')).then_some(brace + 1)
}

/// The place of the value of a member of the object at `at`. The text must be valid JSON.
fn member(body: &[u8], at: usize, name: &str) -> Option<Range<usize>> {
    let mut at = skip_space(body, first_member(body, at)?);
    while body.get(at) == Some(&b'"') {
        let end = skip_value(body, at)?;
        let found: String = serde_json::from_slice(body.get(at..end)?).ok()?;
        let colon = skip_space(body, end);
        let start = skip_space(body, colon + 1);
        let end = skip_value(body, start)?;
        if found == name {
            return Some(start..end);
        }
        // Behind a comma, or at the end of the object.
        at = skip_space(body, skip_space(body, end) + 1);
    }
    None
}

fn skip_space(body: &[u8], at: usize) -> usize {
    let rest = body.get(at..).unwrap_or_default();
    at + rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count()
}

/// The end of the value that begins at `at`.
fn skip_value(body: &[u8], at: usize) -> Option<usize> {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for (position, byte) in body.iter().enumerate().skip(at) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => {
                in_text = !in_text;
                if !in_text && depth == 0 {
                    return Some(position + 1);
                }
            }
            _ if in_text => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return Some(position),
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(position + 1);
                }
            }
            b',' | b' ' | b'\t' | b'\n' | b'\r' if depth == 0 => return Some(position),
            _ => {}
        }
    }
    Some(body.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn asked(body: &str) -> Option<String> {
        let changed = with_usage(body.as_bytes(), &serde_json::from_str(body).expect("JSON"));
        changed.map(|body| String::from_utf8(body).expect("text"))
    }

    #[test]
    fn only_the_option_changes() {
        let usage = r#""include_usage":true"#;
        for (body, changed) in [
            (r#"{"stream":true}"#, format!(r#"{{"stream_options":{{{usage}}},"stream":true}}"#)),
            (
                "{ \"seed\": 1.50e3, \"stream\" : true,\n \"stream_options\": { \"include_usage\" : false , \"x\":1} }",
                "{ \"seed\": 1.50e3, \"stream\" : true,\n \"stream_options\": { \"include_usage\" : true , \"x\":1} }"
                    .to_owned(),
            ),
            (
                r#"{"stream":true,"stream_options":{"x":[1,{"include_usage":false}]}}"#,
                format!(r#"{{"stream":true,"stream_options":{{{usage},"x":[1,{{"include_usage":false}}]}}}}"#),
            ),
            (
                r#"{"stream":true,"a":"\"stream_options\":{","stream\u005foptions": {}}"#,
                format!(r#"{{"stream":true,"a":"\"stream_options\":{{","stream\u005foptions": {{{usage}}}}}"#),
            ),
            (r#"{"stream_options":null,"stream":true}"#, format!(r#"{{"stream_options":{{{usage}}},"stream":true}}"#)),
        ] {
            assert_eq!(asked(body), Some(changed), "{body}");
        }
        for same in [
            r#"{"stream":false}"#,
            r#"{"stream":"true"}"#,
            "{}",
            "[]",
            r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
            r#"{"stream":true,"stream_options":7}"#,
        ] {
            assert_eq!(asked(same), None, "{same}");
        }
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[ -~]{0,8}".prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[a-z\"\\\\{}]{0,6}", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect()))
            ]
        })
    }

    proptest! {
        /// Whatever else a body has, afterwards the option is set and all else is as it was.
        #[test]
        fn a_changed_body_is_the_same_but_for_the_option(
            others in proptest::collection::btree_map("[a-z\"\\\\{}]{0,6}", json_value(), 0..5),
            options in proptest::option::of(prop_oneof![
                Just(json!(null)), Just(json!({})), Just(json!({"include_usage": false})),
                Just(json!({"x": {"y": []}})),
            ]),
            pretty in any::<bool>(),
        ) {
            let mut body: serde_json::Map<String, Value> = others.into_iter().collect();
            body.insert("stream".into(), true.into());
            body.extend(options.map(|options| ("stream_options".to_owned(), options)));
            let mut expected = Value::Object(body.clone());
            let before = Value::Object(body);
            let text = if pretty { serde_json::to_string_pretty(&before) } else { serde_json::to_string(&before) };
            let changed = with_usage(text.expect("JSON").as_bytes(), &before).expect("it was not set");
            if !expected["stream_options"].is_object() {
                expected["stream_options"] = json!({});
            }
            expected["stream_options"]["include_usage"] = true.into();
            prop_assert_eq!(idm_jose::parse_strict(&changed).expect("JSON"), expected);
        }
    }
}
