//! Which headers of a request an expression reads, as far as its text tells.

use std::collections::BTreeSet;

use cel::common::ast::{CallExpr, Expr as Node, IdedExpr, LiteralValue, SelectExpr};
use idm_plan::{Expr, Variable};

use crate::check;

/// The headers that expressions read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeadersRead {
    /// By their lower-case names.
    pub names: BTreeSet<String>,
    /// Some name is only known when the expression is evaluated: any header may be read.
    pub any: bool,
}

impl HeadersRead {
    /// Adds what one expression reads. The error says why it cannot be read.
    pub fn add(&mut self, expr: &Expr) -> Result<(), String> {
        match expr {
            Expr::Member { variable: Variable::Request, path } => match path.as_slice() {
                [first, name, ..] if first == "headers" => drop(self.names.insert(name.to_ascii_lowercase())),
                [first] if first == "headers" => self.any = true,
                [_, ..] => {}
                [] => self.any = true,
            },
            Expr::Member { .. } => {}
            Expr::Cel(text) => self.walk(check::compile(text)?.expression()),
        }
        Ok(())
    }

    fn walk(&mut self, node: &IdedExpr) {
        if is_headers(node) || is_request(node) {
            // The whole map goes somewhere.
            self.any = true;
            return;
        }
        if let Some((of, name)) = member(node) {
            if is_headers(of) {
                self.names.insert(name.to_ascii_lowercase());
                return;
            }
            if is_request(of) {
                return;
            }
        }
        // `'x-a' in request.headers` asks for one name too.
        if let Node::Call(CallExpr { func_name, target: None, args }) = &node.expr {
            if let ("@in", [name, of]) = (func_name.as_str(), args.as_slice()) {
                if let (Some(name), true) = (text(name), is_headers(of)) {
                    self.names.insert(name.to_ascii_lowercase());
                    return;
                }
            }
        }
        check::children(&node.expr).into_iter().for_each(|child| self.walk(child));
    }
}

/// The operand and the member name of a selection: `a.b`, `a["b"]`, and the optional forms of both.
fn member(node: &IdedExpr) -> Option<(&IdedExpr, &str)> {
    match &node.expr {
        Node::Select(SelectExpr { operand, field, test: _ }) => Some((operand, field)),
        Node::Call(CallExpr { func_name, target: None, args })
            if ["_[_]", "_[?_]", "_?._"].contains(&func_name.as_str()) =>
        {
            let [of, name] = args.as_slice() else { return None };
            Some((of, text(name)?))
        }
        _ => None,
    }
}

fn text(node: &IdedExpr) -> Option<&str> {
    match &node.expr {
        Node::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}

fn is_request(node: &IdedExpr) -> bool {
    matches!(&node.expr, Node::Ident(name) if name == Variable::Request.name())
}

fn is_headers(node: &IdedExpr) -> bool {
    member(node).is_some_and(|(of, name)| name == "headers" && is_request(of))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    fn read(text: &str) -> (Vec<String>, bool) {
        let mut read = HeadersRead::default();
        read.add(&parse(text, Variable::ALL).unwrap()).unwrap();
        (read.names.into_iter().collect(), read.any)
    }

    #[test]
    fn a_header_that_is_named_is_found_however_it_is_written() {
        for text in [
            "request.headers[\"x-a\"]",
            "request.headers['X-A'] == 'b'",
            "'x-a' in request.headers && identity.username == 'ana'",
            "identity.roles.exists(role, role == request.headers['x-a'])",
            "request['headers']['x-a'] == 'b'",
            "{'k': [request.headers['x-a'] + request.path]}",
        ] {
            assert_eq!(read(text), (vec!["x-a".to_owned()], false), "{text}");
        }
        assert_eq!(read("has(request.headers.authorization)"), (vec!["authorization".to_owned()], false));
        assert_eq!(read("request.path == '/' && request.parameters['x-a'] == token.headers"), (vec![], false));
    }

    #[test]
    fn a_name_that_is_not_known_beforehand_may_be_any() {
        for text in [
            "request.headers.exists(name, name.startsWith('x-'))",
            "size(request.headers) > 3",
            "request.headers[identity.username] == 'a'",
            "identity.username in request.headers",
            "[request].exists(r, r.path == '/')",
            "request == token",
            "request[identity.username] == 'a'",
        ] {
            assert!(read(text).1, "{text}");
        }
    }
}
