//! Rows of PostgreSQL in the text format.

use serde_json::Value;

use super::super::table::{Cell, decimal, json, real};
use super::super::wire::Fields;

/// The first number of types that the server did not come with: those of extensions, and of the database itself.
const FIRST_OTHER: u32 = 16_384;

/// The names of the columns and the numbers of their types.
pub(super) fn columns(body: &[u8]) -> Option<(Vec<String>, Vec<u32>)> {
    let mut fields = Fields(body);
    let count = u16::from_be_bytes(fields.array()?);
    let (mut names, mut types) = (Vec::new(), Vec::new());
    for _ in 0..count {
        names.push(String::from_utf8_lossy(fields.until_nul()?).into_owned());
        fields.take(6)?; // table and attribute
        types.push(u32::from_be_bytes(fields.array()?));
        fields.take(8)?; // size, modifier and format
    }
    fields.is_empty().then_some((names, types))
}

/// The values of a row.
pub(super) fn row(body: &[u8], types: &[u32]) -> Option<Vec<Cell>> {
    let mut fields = Fields(body);
    if usize::from(u16::from_be_bytes(fields.array()?)) != types.len() {
        return None;
    }
    let mut row = Vec::with_capacity(types.len());
    for kind in types {
        let length = i32::from_be_bytes(fields.array()?);
        row.push(match usize::try_from(length) {
            Ok(length) => value(*kind, fields.take(length)?),
            Err(_) if length == -1 => Cell::Null,
            Err(_) => return None,
        });
    }
    fields.is_empty().then_some(row)
}

/// A value by the number of its type (`pg_type.dat`).
fn value(kind: u32, octets: &[u8]) -> Cell {
    let Ok(text) = std::str::from_utf8(octets) else { return Cell::OfOtherType("text that is not UTF-8".into()) };
    match kind {
        16 => Cell::Value(Value::Bool(text == "t")),
        // int8, int2, int4, oid and numeric.
        20 | 21 | 23 | 26 | 1700 => decimal(text),
        700 | 701 => text.parse().map_or_else(|_| Cell::text(text), real),
        // The blanks at the end of a char(n) say nothing (SQL:2016, 4.2.2).
        1042 => Cell::text(text.trim_end_matches(' ')),
        // char, name, text, unknown, varchar, uuid and date.
        18 | 19 | 25 | 705 | 1043 | 2950 | 1082 => Cell::text(text),
        1114 | 1184 => Cell::Value(Value::String(timestamp(text))),
        114 | 3802 => json(octets),
        // citext and enumerations are text, and other types have a text too.
        _ if kind >= FIRST_OTHER => Cell::text(text),
        _ => Cell::OfOtherType(format!("a type with the number {kind}")),
    }
}

/// A timestamp of DateStyle ISO as RFC 3339 writes it. One without a zone is taken for UTC; `infinity` stays.
fn timestamp(text: &str) -> String {
    let Some((date, time)) = text.split_once(' ').filter(|(date, _)| date.len() == 10) else { return text.into() };
    if time.ends_with("BC") {
        return text.into();
    }
    match time.split_once(['+', '-']) {
        None => format!("{date}T{time}Z"),
        Some((time, "00")) => format!("{date}T{time}Z"),
        Some((clock, zone)) => {
            let sign = if time.contains('+') { '+' } else { '-' };
            let minutes = if zone.len() == 2 { ":00" } else { "" };
            format!("{date}T{clock}{sign}{zone}{minutes}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_written_as_rfc_3339_has_them() {
        for (text, written) in [
            ("2026-01-02 03:04:05.678+00", "2026-01-02T03:04:05.678Z"),
            ("2026-01-02 03:04:05", "2026-01-02T03:04:05Z"),
            ("2026-01-02 03:04:05+02", "2026-01-02T03:04:05+02:00"),
            ("2026-01-02 03:04:05-03:30", "2026-01-02T03:04:05-03:30"),
            ("infinity", "infinity"),
            ("0044-03-15 00:00:00 BC", "0044-03-15 00:00:00 BC"),
        ] {
            assert_eq!(timestamp(text), written);
        }
    }

    #[test]
    fn broken_rows_are_noticed() {
        let columns_of = |octets: &[u8]| columns(octets);
        assert!(columns_of(&[0, 1, b'a']).is_none() && columns_of(&[0]).is_none());
        assert!(row(&[0, 1, 0, 0, 0, 9, b'x'], &[25]).is_none(), "shorter than it says");
        assert!(row(&[0, 1, 0, 0, 0, 1, b'x', 0], &[25]).is_none(), "longer than it says");
        assert!(row(&[0, 1, 0xff, 0xff, 0xff, 0xfe], &[25]).is_none(), "a negative length");
        assert!(row(&[0, 2, 0xff, 0xff, 0xff, 0xff], &[25]).is_none(), "another number of columns");
        assert!(matches!(row(&[0, 1, 0xff, 0xff, 0xff, 0xff], &[25]).as_deref(), Some([Cell::Null])));
    }
}
