//! The rows that a statement returns.

use serde_json::Value;

/// Rows with the names of their columns.
pub(super) struct Table {
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Vec<Cell>>,
}

/// A value of a row.
#[derive(Clone)]
pub(super) enum Cell {
    /// SQL's NULL.
    Null,
    /// A value.
    Value(Value),
    /// A value of a type that is not taken, by the type's name.
    OfOtherType(String),
}

impl Cell {
    pub(super) fn text(text: &str) -> Self {
        Self::Value(Value::String(text.to_owned()))
    }
}

/// A decimal number: as a number of JSON where that says the same, otherwise as text.
pub(super) fn decimal(text: &str) -> Cell {
    if let Ok(number) = text.parse::<i64>() {
        return Cell::Value(number.into());
    }
    if let Ok(number) = text.parse::<u64>() {
        return Cell::Value(number.into());
    }
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    match text.parse::<f64>() {
        Ok(number) if digits <= 15 && number.is_finite() => Cell::Value(number.into()),
        _ => Cell::text(text),
    }
}

/// A floating-point number; what JSON cannot say is text.
pub(super) fn real(number: f64) -> Cell {
    serde_json::Number::from_f64(number).map_or_else(|| Cell::text(&number.to_string()), |n| Cell::Value(n.into()))
}

/// JSON, which may have 128 levels.
pub(super) fn json(text: &[u8]) -> Cell {
    serde_json::from_slice(text).map_or_else(|_| Cell::OfOtherType("JSON that cannot be read".into()), Cell::Value)
}
