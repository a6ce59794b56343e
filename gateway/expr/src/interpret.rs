//! Evaluates a lowered expression: each step is paid for before it is taken.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::cmp::Ordering;
use std::rc::Rc;

use idm_plan::Variable;
use serde_json::{Map, Value};

use crate::budget::Meter;
use crate::evaluate::Scope;
use crate::lower::{Loop, LoopKind, Lowered, Node, Operator, Root};
use crate::value::{Abort, Dict, Key, Outcome, Text, Val};

/// A value of a [`Scope`], borrowed where it can be.
pub enum Known<'r> {
    /// A value.
    Value(Cow<'r, Value>),
    /// An object, of which there are the members.
    Members(&'r Map<String, Value>),
    /// A text.
    Text(&'r str),
}

impl<'r> Known<'r> {
    /// The value at a path below this one.
    pub fn below(self, path: &[String]) -> Option<Known<'r>> {
        match self {
            Known::Value(Cow::Owned(mut value)) => {
                path.iter().try_fold(&mut value, |value, name| value.get_mut(name)).map(|value| value.take().into())
            }
            Known::Value(Cow::Borrowed(value)) => path
                .iter()
                .try_fold(value, |value, name| value.get(name))
                .map(|value| Known::Value(Cow::Borrowed(value))),
            Known::Text(_) => path.is_empty().then_some(self),
            Known::Members(members) => match path.split_first() {
                Some((first, rest)) => Known::Value(Cow::Borrowed(members.get(first)?)).below(rest),
                None => Some(self),
            },
        }
    }

    /// As a value of its own.
    pub fn into_value(self) -> Value {
        match self {
            Known::Value(value) => value.into_owned(),
            Known::Members(members) => Value::Object(members.clone()),
            Known::Text(text) => text.into(),
        }
    }

    fn val(&self) -> Val<'_> {
        match self {
            Known::Value(value) => Val::of(value),
            Known::Members(members) => Val::Dict(Dict::Of(members)),
            Known::Text(text) => Val::Text(Text::Of(text)),
        }
    }
}

impl From<Value> for Known<'_> {
    fn from(value: Value) -> Self {
        Known::Value(Cow::Owned(value))
    }
}

/// The value of an expression that names a member: what is long is paid for before it is copied.
pub(crate) fn member(variable: Variable, path: &[String], scope: &dyn Scope, meter: &Meter) -> Outcome<Value> {
    meter.spend(scope.cost(variable, path))?;
    match scope.at(variable, path).ok_or(Abort::Missing)? {
        // It was made, and paid for.
        Known::Value(Cow::Owned(value)) => Ok(value),
        known => known.val().json(meter),
    }
}

/// The value of an expression.
pub(crate) fn run(lowered: &Lowered, scope: &dyn Scope, meter: &Meter) -> Outcome<Value> {
    let known: Vec<_> = lowered.roots.iter().map(|_| OnceCell::new()).collect();
    let mut run = Run { roots: &lowered.roots, known: &known, scope, meter, slots: Vec::new() };
    run.node(&lowered.node)?.json(meter)
}

struct Run<'v, 's> {
    roots: &'v [Root],
    known: &'v [OnceCell<Option<Known<'s>>>],
    scope: &'s dyn Scope,
    meter: &'v Meter,
    /// The variables of the loops that run, outermost first.
    slots: Vec<Val<'v>>,
}

impl<'v, 's: 'v> Run<'v, 's> {
    fn node(&mut self, node: &'v Node) -> Outcome<Val<'v>> {
        self.meter.spend(1)?;
        Ok(match node {
            Node::Null => Val::Null,
            Node::Bool(truth) => Val::Bool(*truth),
            Node::Int(number) => Val::Int(*number),
            Node::UInt(number) => Val::UInt(*number),
            Node::Double(number) => Val::Double(*number),
            Node::Text(text) => Val::Text(Text::Of(text)),
            Node::Bytes(bytes) => Val::Bytes(bytes.as_slice().into()),
            Node::Root(at) => return self.root(*at),
            Node::HasRoot(at) => Val::Bool(match self.root(*at) {
                Err(Abort::Missing) => false,
                other => other.map(|_| true)?,
            }),
            Node::Slot(at) => self.slots.get(*at).cloned().ok_or(Abort::Failed)?,
            Node::Select(operand, field) => return select(self.node(operand)?, field, self.meter),
            Node::Has(operand, field) => return has(&self.node(operand)?, field, self.meter),
            Node::OptionalSelect(operand, field) | Node::OptionalIndex(operand, field) => {
                let Some(operand) = unwrap(self.node(operand)?) else { return Ok(Val::optional(None)) };
                let key = self.node(field)?;
                optional(self.index(&operand, &key))?
            }
            Node::Index(operand, key) => match self.node(operand)? {
                // Indexing an optional gives an optional.
                Val::Optional(None) => Val::Optional(None),
                Val::Optional(Some(operand)) => {
                    let key = self.node(key)?;
                    optional(self.index(&operand, &key))?
                }
                operand => {
                    let key = self.node(key)?;
                    return self.index(&operand, &key);
                }
            },
            Node::And(one, other) => Val::Bool(self.logical(one, other, false)?),
            Node::Or(one, other) => Val::Bool(self.logical(one, other, true)?),
            Node::Not(operand) => Val::Bool(!self.node(operand)?.truth()?),
            Node::Negate(operand) => match self.node(operand)? {
                Val::Int(number) => Val::Int(number.checked_neg().ok_or(Abort::Failed)?),
                Val::Double(number) => Val::Double(-number),
                _ => return Err(Abort::Failed),
            },
            Node::Conditional(all) => {
                let [condition, yes, no] = &**all;
                let truth = self.node(condition)?.truth()?;
                return self.node(if truth { yes } else { no });
            }
            Node::Binary(operator, one, other) => {
                let (one, other) = (self.node(one)?, self.node(other)?);
                return self.binary(*operator, &one, &other);
            }
            Node::Call(function, on, given) => {
                // The list of what is given is memory that is taken, too.
                self.meter.allocated()?;
                let mut given = given.iter().map(|one| self.node(one)).collect::<Outcome<Vec<_>>>()?;
                if let Some(on) = on {
                    given.insert(0, self.node(on)?);
                }
                return function.call(&given, self.meter);
            }
            Node::List(elements) => {
                self.meter.allocated()?;
                self.meter.made(elements.len())?;
                let mut items = Vec::with_capacity(elements.len());
                for (element, is_optional) in elements {
                    let value = self.node(element)?;
                    items.extend(if *is_optional { unwrap(value) } else { Some(value) });
                }
                Val::list(items)
            }
            Node::Map(entries) => return self.map(entries),
            Node::Loop(each) => return self.each(each),
        })
    }

    /// A value of the scope, looked up at most once for each evaluation. A missing variable is an empty map; a missing
    /// member is an error.
    fn root(&self, at: usize) -> Outcome<Val<'v>> {
        let (Some(root), Some(cell)) = (self.roots.get(at), self.known.get(at)) else { return Err(Abort::Failed) };
        if cell.get().is_none() {
            self.meter.spend(self.scope.cost(root.variable, root.member.as_slice()))?;
        }
        let known = cell.get_or_init(|| match &root.member {
            Some(member) => self.scope.member(root.variable, member),
            None => self.scope.variable(root.variable),
        });
        match (known, &root.member) {
            (Some(known), _) => Ok(known.val()),
            (None, Some(_)) => Err(Abort::Missing),
            (None, None) => Ok(Val::Dict(Dict::Empty)),
        }
    }

    /// `&&` (decided by `false`) and `||` (decided by `true`). What decides does so also beside an error, but not
    /// beside a budget that is used up.
    fn logical(&mut self, one: &'v Node, other: &'v Node, decides: bool) -> Outcome<bool> {
        let first = self.node(one).and_then(|value| value.truth());
        match first {
            Ok(truth) if truth == decides => return Ok(decides),
            Err(Abort::Costly) => return Err(Abort::Costly),
            _ => {}
        }
        match (first, self.node(other)?) {
            (_, Val::Bool(truth)) if truth == decides => Ok(decides),
            (Ok(_), value) => value.truth(),
            (Err(stop), _) => Err(stop),
        }
    }

    fn index(&self, operand: &Val<'v>, key: &Val<'v>) -> Outcome<Val<'v>> {
        match operand {
            Val::Dict(dict) => dict.get(key, self.meter)?.ok_or(Abort::Missing),
            Val::List(list) => {
                let at = match key {
                    Val::Int(at) => usize::try_from(*at).ok(),
                    Val::UInt(at) => usize::try_from(*at).ok(),
                    Val::Double(at) => crate::value::whole(*at).and_then(|at| usize::try_from(at).ok()),
                    _ => None,
                };
                at.and_then(|at| list.get(at)).ok_or(Abort::Failed)
            }
            _ => Err(Abort::Failed),
        }
    }

    fn binary(&self, operator: Operator, one: &Val<'v>, other: &Val<'v>) -> Outcome<Val<'v>> {
        let compared = || one.compare(other, self.meter);
        Ok(match operator {
            Operator::Equals => Val::Bool(one.equals(other, self.meter)?),
            Operator::NotEquals => Val::Bool(!one.equals(other, self.meter)?),
            Operator::Less => Val::Bool(compared()? == Ordering::Less),
            Operator::LessEquals => Val::Bool(compared()? != Ordering::Greater),
            Operator::Greater => Val::Bool(compared()? == Ordering::Greater),
            Operator::GreaterEquals => Val::Bool(compared()? != Ordering::Less),
            Operator::In => Val::Bool(self.is_in(one, other)?),
            Operator::Add => match (one, other) {
                (Val::Text(one), Val::Text(other)) => {
                    self.meter.allocated()?;
                    self.meter.bytes(one.len() + other.len())?;
                    Val::made([&**one, &**other].concat())
                }
                (Val::Bytes(one), Val::Bytes(other)) => {
                    self.meter.bytes(one.len() + other.len())?;
                    Val::Bytes([&**one, &**other].concat().into())
                }
                (Val::List(one), other) => {
                    let other = other.items()?;
                    let mut items = Vec::new();
                    for item in one.iter().chain(other.iter()) {
                        self.meter.made(1)?;
                        items.push(item);
                    }
                    Val::list(items)
                }
                _ => return arithmetic(operator, one, other),
            },
            _ => return arithmetic(operator, one, other),
        })
    }

    fn is_in(&self, one: &Val<'v>, container: &Val<'v>) -> Outcome<bool> {
        match container {
            Val::List(list) => {
                for item in list.iter() {
                    self.meter.spend(1)?;
                    if item.equals(one, self.meter)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Val::Dict(dict) => dict.get(one, self.meter).map(|value| value.is_some()),
            _ => Err(Abort::Failed),
        }
    }

    fn map(&mut self, entries: &'v [(Node, Node, bool)]) -> Outcome<Val<'v>> {
        self.meter.allocated()?;
        let mut map: Vec<(Key, (Val<'v>, Val<'v>))> = Vec::with_capacity(entries.len());
        for (key, value, is_optional) in entries {
            let name = self.node(key)?;
            // Its key is a copy of its name.
            self.meter.allocated()?;
            self.meter.made(3)?;
            self.meter.bytes(name.size())?;
            let key = name.key()?;
            let value = self.node(value)?;
            let value = if *is_optional { unwrap(value) } else { Some(value) };
            if let Some(value) = value {
                // A map has few entries: they are written in the expression.
                match map.binary_search_by(|(other, _)| other.cmp(&key)) {
                    Ok(_) => return Err(Abort::Failed),
                    Err(at) => map.insert(at, (key, (name, value))),
                }
            }
        }
        Ok(Val::Dict(Dict::Made(Rc::new(map))))
    }

    fn each(&mut self, each: &'v Loop) -> Outcome<Val<'v>> {
        let range = self.node(&each.range)?;
        let items = range.items()?;
        self.slots.truncate(each.slot);
        let result = match &each.kind {
            LoopKind::All(body) => Val::Bool(self.decide(each, items.iter(), body, false)?),
            LoopKind::Exists(body) => Val::Bool(self.decide(each, items.iter(), body, true)?),
            LoopKind::ExistsOne(body) => {
                let mut found = 0_usize;
                for item in items.iter() {
                    self.enter(each, item)?;
                    found += usize::from(self.node(body)?.truth()?);
                }
                Val::Bool(found == 1)
            }
            LoopKind::Collect { guard, item: made } => {
                let mut collected = Vec::new();
                for item in items.iter() {
                    self.enter(each, item)?;
                    let passes = match guard {
                        Some(guard) => self.node(guard)?.truth()?,
                        None => true,
                    };
                    if passes {
                        self.meter.made(1)?;
                        collected.push(self.node(made)?);
                    }
                }
                Val::list(collected)
            }
        };
        self.slots.truncate(each.slot);
        Ok(result)
    }

    fn enter(&mut self, each: &Loop, item: Val<'v>) -> Outcome<()> {
        self.meter.spend(1)?;
        self.slots.truncate(each.slot);
        self.slots.push(item);
        Ok(())
    }

    /// `all` and `exists`: the element that decides does so also where another cannot be decided.
    fn decide(
        &mut self,
        each: &Loop,
        items: impl Iterator<Item = Val<'v>>,
        body: &'v Node,
        decides: bool,
    ) -> Outcome<bool> {
        let mut undecided = None;
        for item in items {
            self.enter(each, item)?;
            match self.node(body).and_then(|value| value.truth()) {
                Ok(truth) if truth == decides => return Ok(decides),
                Ok(_) => {}
                Err(Abort::Costly) => return Err(Abort::Costly),
                Err(stop) => undecided = Some(stop),
            }
        }
        undecided.map_or(Ok(!decides), Err)
    }
}

fn unwrap(value: Val<'_>) -> Option<Val<'_>> {
    match value {
        Val::Optional(value) => value.map(|value| (*value).clone()),
        value => Some(value),
    }
}

/// The value as an optional: empty where it is missing or failed. An exceeded budget stays an error.
fn optional(outcome: Outcome<Val<'_>>) -> Outcome<Val<'_>> {
    match outcome {
        Err(Abort::Costly) => Err(Abort::Costly),
        other => Ok(Val::optional(other.ok())),
    }
}

fn select<'v>(operand: Val<'v>, field: &str, meter: &Meter) -> Outcome<Val<'v>> {
    match operand {
        Val::Dict(dict) => dict.member(field, meter)?.ok_or(Abort::Missing),
        Val::Optional(None) => Ok(Val::Optional(None)),
        Val::Optional(Some(operand)) => match &*operand {
            Val::Dict(dict) => Ok(Val::optional(dict.member(field, meter)?)),
            Val::List(_) => Ok(Val::optional(None)),
            _ => Err(Abort::Missing),
        },
        _ => Err(Abort::Failed),
    }
}

fn has<'v>(operand: &Val<'v>, field: &str, meter: &Meter) -> Outcome<Val<'v>> {
    match operand {
        Val::Dict(dict) => Ok(Val::Bool(dict.member(field, meter)?.is_some())),
        Val::Optional(None) => Ok(Val::Bool(false)),
        Val::Optional(Some(operand)) => match &**operand {
            Val::Dict(dict) => Ok(Val::Bool(dict.member(field, meter)?.is_some())),
            Val::List(_) => Ok(Val::Bool(false)),
            _ => Err(Abort::Missing),
        },
        _ => Err(Abort::Failed),
    }
}

/// One operation of whole numbers of either type; `None` for what leaves the range and for what is no arithmetic.
macro_rules! checked {
    ($operator:expr, $one:expr, $other:expr) => {
        match $operator {
            Operator::Add => $one.checked_add(*$other),
            Operator::Subtract => $one.checked_sub(*$other),
            Operator::Multiply => $one.checked_mul(*$other),
            Operator::Divide => $one.checked_div(*$other),
            Operator::Modulo => $one.checked_rem(*$other),
            _ => None,
        }
    };
}

/// Arithmetic within one type. A result outside its range is an error.
fn arithmetic<'v>(operator: Operator, one: &Val<'v>, other: &Val<'v>) -> Outcome<Val<'v>> {
    match (one, other) {
        (Val::Int(one), Val::Int(other)) => checked!(operator, one, other).map(Val::Int).ok_or(Abort::Failed),
        (Val::UInt(one), Val::UInt(other)) => checked!(operator, one, other).map(Val::UInt).ok_or(Abort::Failed),
        (Val::Double(one), Val::Double(other)) => Ok(Val::Double(match operator {
            Operator::Add => one + other,
            Operator::Subtract => one - other,
            Operator::Multiply => one * other,
            Operator::Divide => one / other,
            _ => return Err(Abort::Failed),
        })),
        _ => Err(Abort::Failed),
    }
}
