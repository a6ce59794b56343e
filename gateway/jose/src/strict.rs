//! JSON in which every object names each member once. A reader that takes the first of two `iss`
//! members and one that takes the last would disagree about who issued a token.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Parses JSON and refuses duplicate member names at every level.
pub fn parse_strict(json: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice::<Strict>(json).map(|Strict(value)| value)
}

/// The same for a document that a server publishes: a byte order mark in front of it is left out, as RFC 8259 §8.1
/// allows. Tokens and what callers send have none.
pub fn parse_document(json: &[u8]) -> Result<Value, serde_json::Error> {
    parse_strict(json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(json))
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without duplicate members")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::String(v.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Strict(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some((name, Strict(value))) = map.next_entry::<String, Strict>()? {
            if members.contains_key(&name) {
                return Err(A::Error::custom("duplicate member name"));
            }
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duplicate_member_is_refused_at_any_depth() {
        assert!(parse_strict(br#"{"a":1,"b":{"c":[{"d":1}]}}"#).is_ok());
        assert!(parse_strict(br#"{"iss":"a","iss":"b"}"#).is_err());
        assert!(parse_strict(br#"{"a":[{"b":1,"b":2}]}"#).is_err());
        assert!(parse_strict(b"{\"a\":1,\"\\u0061\":2}").is_err());
    }

    #[test]
    fn a_byte_order_mark_is_left_out_of_a_document_once_and_in_front() {
        assert_eq!(parse_document("\u{feff}{\"a\":1}".as_bytes()).unwrap(), serde_json::json!({"a": 1}));
        assert!(parse_document(b"{\"a\":1}").is_ok());
        for bad in ["\u{feff}\u{feff}{}", "{\u{feff}}", " \u{feff}{}", "\u{feff}{\"a\":1,\"a\":2}", "\u{fffe}{}"] {
            assert!(parse_document(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(parse_strict("\u{feff}{}".as_bytes()).is_err());
    }

    #[test]
    fn depth_is_bounded() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(parse_strict(deep.as_bytes()).is_err());
    }
}
