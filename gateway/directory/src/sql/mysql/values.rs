//! Columns and rows of the binary protocol.

use serde_json::Value;

use super::super::table::{Cell, decimal, json, real};
use super::super::wire::Fields;
use super::packet::{self, Packet};

/// The character set of octets that are no text.
const BINARY: u16 = 63;
const UNSIGNED: u16 = 0x20;

/// A column of a result.
pub(super) struct Column {
    pub(super) name: String,
    charset: u16,
    length: u32,
    kind: u8,
    unsigned: bool,
}

/// Reads the description of a column.
pub(super) fn column(packet: &Packet) -> Option<Column> {
    let mut fields = packet.fields();
    for _ in 0..4 {
        packet::text(&mut fields)?; // catalogue, schema, table, original table
    }
    let name = String::from_utf8_lossy(packet::text(&mut fields)?).into_owned();
    packet::text(&mut fields)?; // original name
    packet::length(&mut fields)?;
    let charset = u16::from_le_bytes(fields.array()?);
    let length = u32::from_le_bytes(fields.array()?);
    let kind = fields.u8()?;
    let unsigned = u16::from_le_bytes(fields.array()?) & UNSIGNED != 0;
    Some(Column { name, charset, length, kind, unsigned })
}

/// Reads a row.
pub(super) fn row(packet: &Packet, columns: &[Column]) -> Option<Vec<Cell>> {
    let mut fields = packet.fields();
    fields.u8().filter(|head| *head == 0)?;
    // The first two bits are not used.
    let nulls = fields.take((columns.len() + 2).div_ceil(8))?;
    let null = |index: usize| nulls.get((index + 2) / 8).map(|octet| octet >> ((index + 2) % 8) & 1 == 1);
    let mut row = Vec::with_capacity(columns.len());
    for (index, column) in columns.iter().enumerate() {
        row.push(if null(index)? { Cell::Null } else { value(column, &mut fields)? });
    }
    fields.is_empty().then_some(row)
}

/// A value by the type of its column.
fn value(column: &Column, fields: &mut Fields<'_>) -> Option<Cell> {
    let Column { name: _, charset, length, kind, unsigned } = column;
    let integer = |signed: i64, width: u32| {
        // The octets are read with their sign.
        let number = if *unsigned && width < 64 { signed & ((1 << width) - 1) } else { signed };
        Cell::Value(if *unsigned && width == 64 { number.cast_unsigned().into() } else { number.into() })
    };
    Some(match kind {
        // TINYINT(1) is how BOOLEAN is stored.
        0x01 => match i8::from_le_bytes(fields.array()?) {
            flag @ (0 | 1) if *length == 1 => Cell::Value(Value::Bool(flag == 1)),
            number => integer(number.into(), 8),
        },
        0x02 | 0x0d => integer(i16::from_le_bytes(fields.array()?).into(), 16),
        0x03 | 0x09 => integer(i32::from_le_bytes(fields.array()?).into(), 32),
        0x08 => integer(i64::from_le_bytes(fields.array()?), 64),
        0x04 => shortest(f32::from_le_bytes(fields.array()?)),
        0x05 => real(f64::from_le_bytes(fields.array()?)),
        0x07 | 0x0c | 0x0a => time(fields, *kind == 0x0a)?,
        0x0b => {
            packet::text(fields)?;
            Cell::OfOtherType("TIME".into())
        }
        0x10 => bits(packet::text(fields)?),
        _ => text(*kind, *charset, packet::text(fields)?),
    })
}

/// A number of single precision with the digits that it is known by.
fn shortest(number: f32) -> Cell {
    number.to_string().parse().map_or_else(|_| Cell::text(&number.to_string()), real)
}

/// A value that is sent as text or octets.
fn text(kind: u8, charset: u16, octets: &[u8]) -> Cell {
    match (kind, std::str::from_utf8(octets)) {
        (0x00 | 0xf6, Ok(text)) => decimal(text),
        (0xf5, _) => json(octets),
        // A BINARY(n) is filled up with NUL.
        (0xfe, Ok(text)) if charset == BINARY => Cell::text(text.trim_end_matches('\0')),
        // VARCHAR, ENUM, SET, BLOB and TEXT of all sizes, VAR_STRING and STRING. Octets that are a text are taken for
        // one: hashes are often stored so.
        (0x0f | 0xf7..=0xfe, Ok(text)) => Cell::text(text),
        (0x0f | 0xf7..=0xfe, Err(_)) if charset == BINARY => Cell::OfOtherType("octets that are no text".into()),
        (0x0f | 0xf7..=0xfe, Err(_)) => Cell::OfOtherType("text that is not UTF-8".into()),
        _ => Cell::OfOtherType(format!("a type with the number {kind}")),
    }
}

/// BIT(1) is a truth value, and a longer one a number.
fn bits(octets: &[u8]) -> Cell {
    match octets {
        [flag @ (0 | 1)] => Cell::Value(Value::Bool(*flag == 1)),
        octets if octets.len() <= 8 => {
            Cell::Value(octets.iter().fold(0u64, |number, octet| number << 8 | u64::from(*octet)).into())
        }
        _ => Cell::OfOtherType("BIT".into()),
    }
}

/// DATE, DATETIME and TIMESTAMP as RFC 3339 writes them. The session's zone is UTC, and values without a zone are taken
/// for UTC. The date of zeros, which stands for none, is NULL.
fn time(fields: &mut Fields<'_>, date_only: bool) -> Option<Cell> {
    let octets = packet::text(fields)?;
    let mut fields = Fields(octets);
    if fields.is_empty() {
        return Some(Cell::Null);
    }
    let (year, month, day) = (u16::from_le_bytes(fields.array()?), fields.u8()?, fields.u8()?);
    if (year, month, day) == (0, 0, 0) {
        return Some(Cell::Null);
    }
    let date = format!("{year:04}-{month:02}-{day:02}");
    if date_only {
        return Some(Cell::text(&date));
    }
    let (hour, minute, second) = if fields.is_empty() { (0, 0, 0) } else { (fields.u8()?, fields.u8()?, fields.u8()?) };
    let fraction = match if fields.is_empty() { 0 } else { u32::from_le_bytes(fields.array()?) } {
        0 => String::new(),
        micro => format!(".{micro:06}"),
    };
    Some(Cell::text(&format!("{date}T{hour:02}:{minute:02}:{second:02}{fraction}Z")))
}
