//! From what the parser read to what is evaluated: names become slots, macros become loops, and a function that
//! there is not is an error now and not when a caller comes.

use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr as Read, IdedExpr, LiteralValue, SelectExpr, operators,
};
use idm_plan::Variable;

use crate::functions::Function;

/// An operation on two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Equals,
    NotEquals,
    Less,
    LessEquals,
    Greater,
    GreaterEquals,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    In,
}

/// A node of an expression.
#[derive(Debug)]
pub(crate) enum Node {
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    /// A value of the request, by its place in [`Lowered::roots`].
    Root(usize),
    /// Whether there is a value of the request.
    HasRoot(usize),
    /// The variable of a loop.
    Slot(usize),
    Select(Box<Node>, String),
    Has(Box<Node>, String),
    OptionalSelect(Box<Node>, Box<Node>),
    Index(Box<Node>, Box<Node>),
    OptionalIndex(Box<Node>, Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Not(Box<Node>),
    Negate(Box<Node>),
    Conditional(Box<[Node; 3]>),
    Binary(Operator, Box<Node>, Box<Node>),
    /// A function, what it is called on, and what it is given.
    Call(Function, Option<Box<Node>>, Vec<Node>),
    /// Elements, each with whether it is optional.
    List(Vec<(Node, bool)>),
    /// Keys and values, each with whether it is optional.
    Map(Vec<(Node, Node, bool)>),
    Loop(Box<Loop>),
}

/// A loop over a list or over the keys of a map.
#[derive(Debug)]
pub(crate) struct Loop {
    pub(crate) range: Node,
    pub(crate) slot: usize,
    pub(crate) kind: LoopKind,
}

/// The result of a loop.
#[derive(Debug)]
pub(crate) enum LoopKind {
    All(Node),
    Exists(Node),
    ExistsOne(Node),
    Collect { guard: Option<Node>, item: Node },
}

/// A value that an expression asks the scope for: a variable, or one member of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Root {
    pub(crate) variable: Variable,
    pub(crate) member: Option<String>,
}

/// An expression, ready to be evaluated.
#[derive(Debug)]
pub(crate) struct Lowered {
    pub(crate) node: Node,
    pub(crate) roots: Vec<Root>,
}

/// Lowers what the parser read.
pub(crate) fn lower(read: &IdedExpr) -> Result<Lowered, String> {
    let mut lowering = Lowering { roots: Vec::new(), names: Vec::new() };
    let node = lowering.node(read)?;
    Ok(Lowered { node, roots: lowering.roots })
}

struct Lowering<'a> {
    roots: Vec<Root>,
    /// The variables of the loops around, outermost first.
    names: Vec<&'a str>,
}

impl<'a> Lowering<'a> {
    fn boxed(&mut self, read: &'a IdedExpr) -> Result<Box<Node>, String> {
        self.node(read).map(Box::new)
    }

    fn node(&mut self, read: &'a IdedExpr) -> Result<Node, String> {
        match &read.expr {
            Read::Literal(literal) => Ok(match literal {
                LiteralValue::Null => Node::Null,
                LiteralValue::Boolean(truth) => Node::Bool(*truth.inner()),
                LiteralValue::Int(number) => Node::Int(*number.inner()),
                LiteralValue::UInt(number) => Node::UInt(*number.inner()),
                LiteralValue::Double(number) => Node::Double(*number.inner()),
                LiteralValue::String(text) => Node::Text(text.inner().to_owned()),
                LiteralValue::Bytes(bytes) => Node::Bytes(bytes.inner().to_vec()),
            }),
            Read::Ident(name) => match self.names.iter().rposition(|known| known == name) {
                Some(slot) => Ok(Node::Slot(slot)),
                None => self.root(name, None),
            },
            Read::Select(SelectExpr { operand, field, test }) => self.select(operand, field, *test),
            Read::Call(call) => self.call(call),
            Read::List(list) => {
                let elements = list.elements.iter().enumerate();
                let elements = elements.map(|(at, one)| Ok((self.node(one)?, list.optional_indices.contains(&at))));
                elements.collect::<Result<_, String>>().map(Node::List)
            }
            Read::Map(map) => {
                let entries = map.entries.iter().map(|entry| match &entry.expr {
                    EntryExpr::MapEntry(entry) => {
                        Ok((self.node(&entry.key)?, self.node(&entry.value)?, entry.optional))
                    }
                    EntryExpr::StructField(_) => Err(NO_MESSAGES.to_owned()),
                });
                entries.collect::<Result<_, String>>().map(Node::Map)
            }
            Read::Comprehension(read) => self.comprehension(read),
            Read::Struct(_) | Read::Unspecified => Err(NO_MESSAGES.to_owned()),
        }
    }

    fn root(&mut self, name: &str, member: Option<&str>) -> Result<Node, String> {
        let variable = Variable::from_name(name).ok_or_else(|| format!("`{name}` is not known here"))?;
        let root = Root { variable, member: member.map(str::to_owned) };
        let at = self.roots.iter().position(|known| *known == root).unwrap_or_else(|| {
            self.roots.push(root);
            self.roots.len() - 1
        });
        Ok(Node::Root(at))
    }

    fn select(&mut self, operand: &'a IdedExpr, field: &str, test: bool) -> Result<Node, String> {
        // `request.headers` asks for the headers, and not for everything that is known about the request.
        if let Read::Ident(name) = &operand.expr
            && !self.names.contains(&name.as_str())
            && name != Variable::Now.name()
        {
            let at = self.root(name, Some(field))?;
            return Ok(match at {
                Node::Root(at) if test => Node::HasRoot(at),
                root => root,
            });
        }
        let operand = self.boxed(operand)?;
        Ok(if test { Node::Has(operand, field.to_owned()) } else { Node::Select(operand, field.to_owned()) })
    }

    fn call(&mut self, call: &'a CallExpr) -> Result<Node, String> {
        let name = call.func_name.as_str();
        if call.target.is_none() {
            match call.args.as_slice() {
                [one] if name == operators::LOGICAL_NOT => return self.boxed(one).map(Node::Not),
                [one] if name == operators::NEGATE => return self.boxed(one).map(Node::Negate),
                [one, other] => {
                    if let Some(node) = self.binary(name, one, other)? {
                        return Ok(node);
                    }
                }
                [condition, yes, no] if name == operators::CONDITIONAL => {
                    let all = [self.node(condition)?, self.node(yes)?, self.node(no)?];
                    return Ok(Node::Conditional(Box::new(all)));
                }
                _ => {}
            }
        }
        let function = Function::named(name, call.target.is_some())
            .ok_or_else(|| format!("there is no function `{name}` that is called like this"))?;
        let on = call.target.as_deref().map(|target| self.boxed(target)).transpose()?;
        let given = call.args.iter().map(|one| self.node(one)).collect::<Result<_, _>>()?;
        Ok(Node::Call(function, on, given))
    }

    fn binary(&mut self, name: &str, one: &'a IdedExpr, other: &'a IdedExpr) -> Result<Option<Node>, String> {
        let operator = match name {
            operators::LOGICAL_AND => return Ok(Some(Node::And(self.boxed(one)?, self.boxed(other)?))),
            operators::LOGICAL_OR => return Ok(Some(Node::Or(self.boxed(one)?, self.boxed(other)?))),
            operators::INDEX => return Ok(Some(Node::Index(self.boxed(one)?, self.boxed(other)?))),
            operators::OPT_INDEX => return Ok(Some(Node::OptionalIndex(self.boxed(one)?, self.boxed(other)?))),
            operators::OPT_SELECT => return Ok(Some(Node::OptionalSelect(self.boxed(one)?, self.boxed(other)?))),
            operators::EQUALS => Operator::Equals,
            operators::NOT_EQUALS => Operator::NotEquals,
            operators::LESS => Operator::Less,
            operators::LESS_EQUALS => Operator::LessEquals,
            operators::GREATER => Operator::Greater,
            operators::GREATER_EQUALS => Operator::GreaterEquals,
            operators::ADD => Operator::Add,
            operators::SUBSTRACT => Operator::Subtract,
            operators::MULTIPLY => Operator::Multiply,
            operators::DIVIDE => Operator::Divide,
            operators::MODULO => Operator::Modulo,
            operators::IN => Operator::In,
            _ => return Ok(None),
        };
        Ok(Some(Node::Binary(operator, self.boxed(one)?, self.boxed(other)?)))
    }

    /// A macro's loop, known by the step that the parser wrote for it.
    fn comprehension(&mut self, read: &'a ComprehensionExpr) -> Result<Node, String> {
        let range = self.node(&read.iter_range)?;
        let slot = self.names.len();
        self.names.push(&read.iter_var);
        let kind = self.kind(read);
        self.names.pop();
        Ok(Node::Loop(Box::new(Loop { range, slot, kind: kind?.ok_or(NO_MESSAGES)? })))
    }

    fn kind(&mut self, read: &'a ComprehensionExpr) -> Result<Option<LoopKind>, String> {
        let is_result = |one: &IdedExpr| matches!(&one.expr, Read::Ident(name) if *name == read.accu_var);
        let Read::Call(step) = &read.loop_step.expr else { return Ok(None) };
        Ok(match (step.func_name.as_str(), step.args.as_slice()) {
            (operators::LOGICAL_AND, [result, body]) if is_result(result) => Some(LoopKind::All(self.node(body)?)),
            (operators::LOGICAL_OR, [result, body]) if is_result(result) => Some(LoopKind::Exists(self.node(body)?)),
            (operators::ADD, [result, list]) if is_result(result) => match single(list) {
                Some(item) => Some(LoopKind::Collect { guard: None, item: self.node(item)? }),
                None => None,
            },
            (operators::CONDITIONAL, [guard, then, result]) if is_result(result) => {
                let Read::Call(then) = &then.expr else { return Ok(None) };
                match then.args.as_slice() {
                    [_, added] => match single(added) {
                        Some(item) => {
                            Some(LoopKind::Collect { guard: Some(self.node(guard)?), item: self.node(item)? })
                        }
                        None => Some(LoopKind::ExistsOne(self.node(guard)?)),
                    },
                    _ => None,
                }
            }
            _ => None,
        })
    }
}

const NO_MESSAGES: &str = "messages and other constructs of Protocol Buffers are not offered";

fn single(list: &IdedExpr) -> Option<&IdedExpr> {
    match &list.expr {
        Read::List(list) => list.elements.first(),
        _ => None,
    }
}
