//! The values of CEL, borrowed from the request where they can be.

use std::cmp::Ordering;
use std::ops::Deref;
use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::budget::Meter;

/// Why an evaluation ends without a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Abort {
    /// A member is not there.
    Missing,
    /// The operation has no result on these values.
    Failed,
    /// The budget is used up. Nothing absorbs it.
    Costly,
}

pub(crate) type Outcome<T> = Result<T, Abort>;

/// A text of the request or of the expression, or one that was made.
#[derive(Clone, Debug)]
pub(crate) enum Text<'v> {
    Of(&'v str),
    Made(Rc<str>),
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Text::Of(text) => text,
            Text::Made(text) => text,
        }
    }
}

/// A list of the request, or one that was made.
#[derive(Clone, Debug)]
pub(crate) enum List<'v> {
    Of(&'v [Value]),
    Made(Rc<Vec<Val<'v>>>),
}

impl<'v> List<'v> {
    pub(crate) fn len(&self) -> usize {
        match self {
            List::Of(items) => items.len(),
            List::Made(items) => items.len(),
        }
    }

    pub(crate) fn get(&self, at: usize) -> Option<Val<'v>> {
        match self {
            List::Of(items) => items.get(at).map(Val::of),
            List::Made(items) => items.get(at).cloned(),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Val<'v>> + '_ {
        (0..self.len()).map_while(|at| self.get(at))
    }
}

/// The keys that maps of an expression may have. A whole number is one key, whichever type it has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Bool(bool),
    Number(i128),
    Text(Rc<str>),
}

/// An object of the request, or a map that was made; the latter remembers its keys as they were written.
#[derive(Clone, Debug)]
pub(crate) enum Dict<'v> {
    Empty,
    Of(&'v Map<String, Value>),
    /// Sorted by key.
    Made(Rc<Vec<(Key, (Val<'v>, Val<'v>))>>),
}

impl<'v> Dict<'v> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Dict::Empty => 0,
            Dict::Of(members) => members.len(),
            Dict::Made(entries) => entries.len(),
        }
    }

    /// The value of a member, where there is one.
    pub(crate) fn member(&self, name: &str, meter: &Meter) -> Outcome<Option<Val<'v>>> {
        self.pay(name.len(), meter)?;
        Ok(match self {
            Dict::Empty => None,
            Dict::Of(members) => members.get(name).map(Val::of),
            Dict::Made(entries) => found(entries, &Key::Text(name.into())),
        })
    }

    /// The value of a key; `Failed` where the key is of a type that no map has.
    pub(crate) fn get(&self, key: &Val<'v>, meter: &Meter) -> Outcome<Option<Val<'v>>> {
        if let Val::Text(name) = key {
            return self.member(name, meter);
        }
        self.pay(0, meter)?;
        let key = match key {
            Val::Double(number) => whole(*number).map(Key::Number),
            other => Some(other.key()?),
        };
        Ok(match (self, key) {
            (Dict::Made(entries), Some(key)) => found(entries, &key),
            _ => None,
        })
    }

    /// Pays for looking up a key of this many bytes: each step halves what is left to search.
    fn pay(&self, bytes: usize, meter: &Meter) -> Outcome<()> {
        meter.spend(self.len().checked_ilog2().map_or(0, |steps| steps as usize + 1))?;
        meter.bytes(bytes)
    }

    pub(crate) fn entries(&self) -> Box<dyn Iterator<Item = (Val<'v>, Val<'v>)> + '_> {
        match self {
            Dict::Empty => Box::new(std::iter::empty()),
            Dict::Of(members) => {
                Box::new(members.iter().map(|(name, value)| (Val::Text(Text::Of(name)), Val::of(value))))
            }
            Dict::Made(entries) => Box::new(entries.iter().map(|(_, entry)| entry.clone())),
        }
    }
}

fn found<'v>(entries: &[(Key, (Val<'v>, Val<'v>))], key: &Key) -> Option<Val<'v>> {
    let at = entries.binary_search_by(|(other, _)| other.cmp(key)).ok()?;
    entries.get(at).map(|(_, (_, value))| value.clone())
}

/// A double that is a whole number within the range of `int` or `uint`.
pub(crate) fn whole(number: f64) -> Option<i128> {
    let in_range = number >= i64::MIN as f64 && number < u64::MAX as f64;
    (in_range && number.fract() == 0.0).then_some(number as i128)
}

/// A value. Cheap to clone: what is long is shared.
#[derive(Clone, Debug)]
pub(crate) enum Val<'v> {
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Double(f64),
    Text(Text<'v>),
    Bytes(Rc<[u8]>),
    List(List<'v>),
    Dict(Dict<'v>),
    Optional(Option<Rc<Val<'v>>>),
    Type(&'static str),
}

impl<'v> Val<'v> {
    /// The value as it is known. Whole numbers are `int` where they fit: JSON has one kind of number only.
    pub(crate) fn of(value: &'v Value) -> Self {
        match value {
            Value::Null => Val::Null,
            Value::Bool(truth) => Val::Bool(*truth),
            Value::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(whole), _) => Val::Int(whole),
                (None, Some(whole)) => Val::UInt(whole),
                _ => Val::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => Val::Text(Text::Of(text)),
            Value::Array(items) => Val::List(List::Of(items)),
            Value::Object(members) => Val::Dict(Dict::Of(members)),
        }
    }

    pub(crate) fn made(text: String) -> Self {
        Val::Text(Text::Made(text.into()))
    }

    pub(crate) fn list(items: Vec<Val<'v>>) -> Self {
        Val::List(List::Made(Rc::new(items)))
    }

    pub(crate) fn optional(value: Option<Val<'v>>) -> Self {
        Val::Optional(value.map(Rc::new))
    }

    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Val::Null => "null_type",
            Val::Bool(_) => "bool",
            Val::Int(_) => "int",
            Val::UInt(_) => "uint",
            Val::Double(_) => "double",
            Val::Text(_) => "string",
            Val::Bytes(_) => "bytes",
            Val::List(_) => "list",
            Val::Dict(_) => "map",
            Val::Optional(_) => "optional_type",
            Val::Type(_) => "type",
        }
    }

    pub(crate) fn truth(&self) -> Outcome<bool> {
        if let Val::Bool(truth) = self { Ok(*truth) } else { Err(Abort::Failed) }
    }

    /// As the key of a map.
    pub(crate) fn key(&self) -> Outcome<Key> {
        match self {
            Val::Bool(truth) => Ok(Key::Bool(*truth)),
            Val::Int(number) => Ok(Key::Number((*number).into())),
            Val::UInt(number) => Ok(Key::Number((*number).into())),
            Val::Text(text) => Ok(Key::Text((**text).into())),
            _ => Err(Abort::Failed),
        }
    }

    /// The items that a loop iterates over: the items of a list, or the keys of a map.
    pub(crate) fn items(&self) -> Outcome<Items<'_, 'v>> {
        match self {
            Val::List(list) => Ok(Items::List(list)),
            Val::Dict(dict) => Ok(Items::Keys(dict)),
            _ => Err(Abort::Failed),
        }
    }

    /// Order, where there is one.
    pub(crate) fn compare(&self, other: &Self, meter: &Meter) -> Outcome<Ordering> {
        meter.spend(1)?;
        if let (Val::Text(a), Val::Text(b)) = (self, other) {
            meter.bytes(a.len().min(b.len()))?;
            return Ok((**a).cmp(&**b));
        }
        match (self, other) {
            (Val::Bool(a), Val::Bool(b)) => Ok(a.cmp(b)),
            (Val::Bytes(a), Val::Bytes(b)) => {
                meter.bytes(a.len().min(b.len()))?;
                Ok(a.cmp(b))
            }
            _ => self.compare_numbers(other).ok_or(Abort::Failed),
        }
    }

    fn compare_numbers(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Val::Double(a), b) => a.partial_cmp(&b.double()?),
            (a, Val::Double(b)) => a.double()?.partial_cmp(b),
            (a, b) => Some(a.integer()?.cmp(&b.integer()?)),
        }
    }

    fn integer(&self) -> Option<i128> {
        match self {
            Val::Int(number) => Some((*number).into()),
            Val::UInt(number) => Some((*number).into()),
            _ => None,
        }
    }

    fn double(&self) -> Option<f64> {
        match self {
            Val::Int(number) => Some(*number as f64),
            Val::UInt(number) => Some(*number as f64),
            Val::Double(number) => Some(*number),
            _ => None,
        }
    }

    /// Equality: numbers by their value, whatever their type; different types are not equal.
    pub(crate) fn equals(&self, other: &Self, meter: &Meter) -> Outcome<bool> {
        meter.spend(1)?;
        Ok(match (self, other) {
            (Val::Null, Val::Null) => true,
            (Val::Bool(a), Val::Bool(b)) => a == b,
            (Val::Text(a), Val::Text(b)) => {
                let same = a.len() == b.len();
                meter.bytes(if same { a.len() } else { 0 })?;
                same && **a == **b
            }
            (Val::Bytes(a), Val::Bytes(b)) => {
                meter.bytes(a.len().min(b.len()))?;
                a == b
            }
            (Val::Type(a), Val::Type(b)) => a == b,
            (Val::Optional(None), Val::Optional(None)) => true,
            (Val::Optional(Some(a)), Val::Optional(Some(b))) => a.equals(b, meter)?,
            (Val::List(a), Val::List(b)) => {
                if a.len() != b.len() {
                    return Ok(false);
                }
                for (one, other) in a.iter().zip(b.iter()) {
                    meter.spend(2)?;
                    if !one.equals(&other, meter)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Val::Dict(a), Val::Dict(b)) => {
                if a.len() != b.len() {
                    return Ok(false);
                }
                for (key, one) in a.entries() {
                    let Some(other) = b.get(&key, meter)? else { return Ok(false) };
                    if !one.equals(&other, meter)? {
                        return Ok(false);
                    }
                }
                true
            }
            _ => self.compare_numbers(other) == Some(Ordering::Equal),
        })
    }

    /// The bytes of a text; of other values nothing.
    pub(crate) fn size(&self) -> usize {
        if let Val::Text(text) = self { text.len() } else { 0 }
    }

    /// As JSON. What shares its parts is written out, so this is paid for too.
    pub(crate) fn json(&self, meter: &Meter) -> Outcome<Value> {
        meter.spend(1)?;
        Ok(match self {
            Val::Null | Val::Optional(_) => Value::Null,
            Val::Bool(truth) => (*truth).into(),
            Val::Int(number) => (*number).into(),
            Val::UInt(number) => (*number).into(),
            Val::Double(number) => (*number).into(),
            Val::Text(text) => {
                meter.allocated()?;
                meter.bytes(text.len())?;
                (**text).into()
            }
            Val::Bytes(bytes) => {
                meter.bytes(bytes.len() * 2)?;
                STANDARD.encode(bytes).into()
            }
            Val::List(list) => {
                let mut items = Vec::new();
                for item in list.iter() {
                    meter.made(1)?;
                    items.push(item.json(meter)?);
                }
                Value::Array(items)
            }
            Val::Dict(dict) => {
                meter.allocated()?;
                let mut members = Map::new();
                for (key, value) in dict.entries() {
                    meter.allocated()?;
                    meter.bytes(key.size())?;
                    let name = match key {
                        Val::Text(text) => text.to_string(),
                        Val::Bool(truth) => truth.to_string(),
                        Val::Int(number) => number.to_string(),
                        Val::UInt(number) => number.to_string(),
                        _ => return Err(Abort::Failed),
                    };
                    members.insert(name, value.json(meter)?);
                }
                Value::Object(members)
            }
            Val::Type(name) => (*name).into(),
        })
    }
}

/// The items that a loop iterates over.
pub(crate) enum Items<'l, 'v> {
    List(&'l List<'v>),
    Keys(&'l Dict<'v>),
}

impl<'l, 'v> Items<'l, 'v> {
    pub(crate) fn iter(&self) -> Box<dyn Iterator<Item = Val<'v>> + 'l> {
        match *self {
            Items::List(list) => Box::new(list.iter()),
            Items::Keys(dict) => Box::new(dict.entries().map(|(key, _)| key)),
        }
    }
}
