//! Records as JSON (RFC 8259), appended to a buffer. Each request makes one record, so its cost is a part of each
//! request's: names and nearly all values have nothing to escape, which one pass over their bytes shows.

use serde::Serialize;
use serde::ser::{self, Impossible, SerializeMap, SerializeSeq, SerializeStruct};

/// The value cannot be written: it has a shape that no record has.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unwritable(String);

impl ser::Error for Unwritable {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// Appends a value to `out`. After an error, `out` may end with a part of the value.
pub(crate) fn write<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), Unwritable> {
    value.serialize(Writer(out))
}

struct Writer<'o>(&'o mut Vec<u8>);

/// An array or object that was begun.
struct Begun<'o> {
    out: &'o mut Vec<u8>,
    is_empty: bool,
    end: u8,
}

impl<'o> Begun<'o> {
    fn new(out: &'o mut Vec<u8>, begin: u8, end: u8) -> Self {
        out.push(begin);
        Self { out, is_empty: true, end }
    }

    fn next(&mut self) {
        if !std::mem::replace(&mut self.is_empty, false) {
            self.out.push(b',');
        }
    }

    fn done(self) {
        self.out.push(self.end);
    }
}

/// Whether a text is written as it is between its quotes.
fn is_plain(text: &str) -> bool {
    // Without an early end, so that many bytes are compared at once.
    let escaped = |byte: u8| u8::from(byte < 0x20) | u8::from(byte == b'"') | u8::from(byte == b'\\');
    text.bytes().fold(0, |found, byte| found | escaped(byte)) == 0
}

fn write_text(text: &str, out: &mut Vec<u8>) -> Result<(), Unwritable> {
    if !is_plain(text) {
        return serde_json::to_writer(out, text).map_err(ser::Error::custom);
    }
    out.reserve(text.len() + 2);
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
    Ok(())
}

fn write_number(mut number: u64, out: &mut Vec<u8>) {
    let (mut digits, mut unused) = ([0; 20], 20);
    loop {
        unused -= 1;
        if let Some(digit) = digits.get_mut(unused) {
            *digit = b'0' + (number % 10) as u8;
        }
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(unused..).unwrap_or_default());
}

/// Methods for values that no record has.
macro_rules! none_such {
    ($($method:ident($($type:ty),*) -> $result:ty;)*) => {$(
        fn $method(self $(, _: $type)*) -> Result<$result, Unwritable> {
            Err(ser::Error::custom(concat!("no record has a value for ", stringify!($method))))
        }
    )*};
}

/// Numbers that fit a larger type.
macro_rules! widened {
    ($($method:ident($type:ty) as $to:ident($wide:ty);)*) => {$(
        fn $method(self, number: $type) -> Result<(), Unwritable> {
            self.$to(<$wide>::from(number))
        }
    )*};
}

impl<'o> ser::Serializer for Writer<'o> {
    type Ok = ();
    type Error = Unwritable;
    type SerializeSeq = Begun<'o>;
    type SerializeMap = Begun<'o>;
    type SerializeStruct = Begun<'o>;
    type SerializeTuple = Impossible<(), Unwritable>;
    type SerializeTupleStruct = Impossible<(), Unwritable>;
    type SerializeTupleVariant = Impossible<(), Unwritable>;
    type SerializeStructVariant = Impossible<(), Unwritable>;

    widened! {
        serialize_u8(u8) as serialize_u64(u64);
        serialize_u16(u16) as serialize_u64(u64);
        serialize_u32(u32) as serialize_u64(u64);
        serialize_i8(i8) as serialize_i64(i64);
        serialize_i16(i16) as serialize_i64(i64);
        serialize_i32(i32) as serialize_i64(i64);
    }

    none_such! {
        serialize_f32(f32) -> ();
        serialize_f64(f64) -> ();
        serialize_bytes(&[u8]) -> ();
        serialize_tuple(usize) -> Self::SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeStructVariant;
    }

    fn serialize_u64(self, number: u64) -> Result<(), Unwritable> {
        write_number(number, self.0);
        Ok(())
    }

    fn serialize_i64(self, number: i64) -> Result<(), Unwritable> {
        if number < 0 {
            self.0.push(b'-');
        }
        write_number(number.unsigned_abs(), self.0);
        Ok(())
    }

    fn serialize_bool(self, value: bool) -> Result<(), Unwritable> {
        self.0.extend_from_slice(if value { b"true" } else { b"false" });
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result<(), Unwritable> {
        write_text(value.encode_utf8(&mut [0; 4]), self.0)
    }

    fn serialize_str(self, value: &str) -> Result<(), Unwritable> {
        write_text(value, self.0)
    }

    fn serialize_none(self) -> Result<(), Unwritable> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Unwritable> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Unwritable> {
        self.0.extend_from_slice(b"null");
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Unwritable> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Unwritable> {
        write_text(variant, self.0)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Unwritable> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Unwritable> {
        let mut object = self.serialize_map(Some(1))?;
        object.serialize_entry(variant, value)?;
        SerializeMap::end(object)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Begun<'o>, Unwritable> {
        Ok(Begun::new(self.0, b'[', b']'))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Begun<'o>, Unwritable> {
        Ok(Begun::new(self.0, b'{', b'}'))
    }

    fn serialize_struct(self, _: &'static str, fields: usize) -> Result<Begun<'o>, Unwritable> {
        self.serialize_map(Some(fields))
    }

    /// Writes the text that a value is shown as, without a copy of it.
    fn collect_str<T: std::fmt::Display + ?Sized>(self, value: &T) -> Result<(), Unwritable> {
        use std::io::Write as _;
        let start = self.0.len();
        self.0.push(b'"');
        write!(self.0, "{value}").map_err(ser::Error::custom)?;
        let written = self.0.get(start + 1..).and_then(|bytes| std::str::from_utf8(bytes).ok());
        if written.is_some_and(is_plain) {
            self.0.push(b'"');
            return Ok(());
        }
        self.0.truncate(start);
        write_text(&value.to_string(), self.0)
    }
}

impl SerializeSeq for Begun<'_> {
    type Ok = ();
    type Error = Unwritable;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unwritable> {
        self.next();
        write(value, self.out)
    }

    fn end(self) -> Result<(), Unwritable> {
        self.done();
        Ok(())
    }
}

impl SerializeMap for Begun<'_> {
    type Ok = ();
    type Error = Unwritable;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, name: &T) -> Result<(), Unwritable> {
        self.next();
        let start = self.out.len();
        write(name, self.out)?;
        // The names of an object are texts (RFC 8259 §4).
        if self.out.get(start) != Some(&b'"') {
            return Err(ser::Error::custom("a name in a record is not a text"));
        }
        self.out.push(b':');
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unwritable> {
        write(value, self.out)
    }

    fn end(self) -> Result<(), Unwritable> {
        self.done();
        Ok(())
    }
}

impl SerializeStruct for Begun<'_> {
    type Ok = ();
    type Error = Unwritable;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Unwritable> {
        self.next();
        write_text(name, self.out)?;
        self.out.push(b':');
        write(value, self.out)
    }

    fn end(self) -> Result<(), Unwritable> {
        self.done();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn written(value: &impl Serialize) -> String {
        let mut out = b"before".to_vec();
        write(value, &mut out).unwrap();
        String::from_utf8(out).unwrap().strip_prefix("before").unwrap().to_owned()
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "[\\x00-\\x7f]{0,40}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..8).prop_map(|map| json!(map)),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_text_is_that_of_the_library(value in any_value()) {
            prop_assert_eq!(written(&value), serde_json::to_string(&value).unwrap());
        }
    }

    #[derive(Serialize)]
    #[serde(tag = "kind")]
    enum Tagged<'t> {
        Shown(Shown<'t>),
    }

    #[derive(Serialize)]
    struct Shown<'t> {
        address: std::net::IpAddr,
        name: &'t str,
        #[serde(skip_serializing_if = "Option::is_none")]
        absent: Option<u8>,
        present: Option<i32>,
        stage: idm_types::Stage,
        letter: char,
        plain: Plain,
    }

    #[derive(Serialize)]
    enum Plain {
        #[serde(rename = "one of\nthem")]
        One(u16),
    }

    #[test]
    fn a_record_is_written_as_the_library_writes_it() {
        for name in ["plain", "", "a \"quote\" and \\", "line\nbreak \u{1} \u{7f} \u{2028}", "é\u{10ffff}"] {
            let shown = Tagged::Shown(Shown {
                address: [192, 0, 2, 1].into(),
                name,
                absent: None,
                present: Some(-7),
                stage: idm_types::Stage::Authorize,
                letter: '"',
                plain: Plain::One(9),
            });
            assert_eq!(written(&shown), serde_json::to_string(&shown).unwrap());
        }
        assert!(written(&i64::MIN).ends_with("-9223372036854775808"));
    }

    #[test]
    fn what_no_record_has_is_an_error() {
        assert!(write(&0.5, &mut Vec::new()).is_err());
        assert!(write(&(1, 2), &mut Vec::new()).is_err());
        assert!(write(&BTreeMap::from([(1, 2)]), &mut Vec::new()).is_err());
    }
}
