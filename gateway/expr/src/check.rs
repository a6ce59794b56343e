//! Whether a text is an expression that may stand where it stands.

use std::panic::catch_unwind;

use cel::common::ast::{EntryExpr, Expr as Node, IdedExpr};
use cel::{Env, Program};
use idm_plan::{Expr, Variable};

/// Longer texts are refused.
const MAX_BYTES: usize = 1024;
/// Loops (`all`, `exists`, `map`, `filter`) inside loops; each level multiplies the cost by the length of a list.
const MAX_NESTED_LOOPS: usize = 2;

/// Reads an expression that may use the `allowed` variables. The error says what would be right.
pub fn parse(text: &str, allowed: &[Variable]) -> Result<Expr, String> {
    if text.len() > MAX_BYTES {
        return Err(format!("the expression must not be longer than {MAX_BYTES} bytes"));
    }
    let names = || allowed.iter().map(|variable| format!("`{}`", variable.name())).collect::<Vec<_>>().join(", ");
    let program = compile(text)?;
    if let Some(member) = Expr::member(text) {
        let member = member?;
        let Expr::Member { variable, .. } = &member else { return Ok(member) };
        return if allowed.contains(variable) {
            Ok(member)
        } else {
            Err(format!("`{text}` must use {} here", names()))
        };
    }
    for name in program.references().variables() {
        match Variable::from_name(name) {
            Some(variable) if allowed.contains(&variable) => {}
            // Names that the expression gives itself in a loop.
            None if declares(program.expression(), name) => {}
            _ => {
                let dash =
                    if text.contains(&format!("-{name}")) { ", and members with a dash as `[\"a-b\"]`" } else { "" };
                return Err(format!("`{name}` is not known here: use {}{dash}", names()));
            }
        }
    }
    if let Some((variable, member)) = unknown_member(program.expression(), program.expression()) {
        return Err(no_such_member(variable, member));
    }
    if nesting(program.expression()) > MAX_NESTED_LOOPS {
        return Err(format!("loops must not be nested deeper than {MAX_NESTED_LOOPS}"));
    }
    crate::lower::lower(program.expression()).map_err(|problem| format!("`{text}`: {problem}"))?;
    Ok(Expr::Cel(text.to_owned()))
}

/// The parser is generated code that has panicked on odd input before; a panic here is a finding, not an end.
pub(crate) fn compile(text: &str) -> Result<Program, String> {
    let compiled = catch_unwind(|| Env::stdlib().compile(text).map_err(|errors| errors.to_string()));
    let problem = match compiled {
        Ok(Ok(program)) => return Ok(program),
        Ok(Err(errors)) => errors.lines().next().unwrap_or_default().to_owned(),
        Err(_) => "it cannot be parsed".to_owned(),
    };
    Err(format!("`{text}` is not a CEL expression: {problem}"))
}

pub(crate) fn children(node: &Node) -> Vec<&IdedExpr> {
    match node {
        Node::Call(call) => call.target.iter().map(|target| &**target).chain(&call.args).collect(),
        Node::Comprehension(loop_) => {
            vec![&loop_.iter_range, &loop_.accu_init, &loop_.loop_cond, &loop_.loop_step, &loop_.result]
        }
        Node::List(list) => list.elements.iter().collect(),
        Node::Map(map) => map.entries.iter().flat_map(|entry| parts(&entry.expr)).collect(),
        Node::Struct(of) => of.entries.iter().flat_map(|entry| parts(&entry.expr)).collect(),
        Node::Select(select) => vec![&*select.operand],
        Node::Unspecified | Node::Ident(_) | Node::Literal(_) => Vec::new(),
    }
}

fn parts(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    }
}

/// A member that its variable never has, so that no request could have a value for the expression.
fn unknown_member<'n>(node: &'n IdedExpr, whole: &IdedExpr) -> Option<(Variable, &'n str)> {
    let own = match &node.expr {
        Node::Select(select) => match &select.operand.expr {
            // A loop may give one of its own values the name of a variable.
            Node::Ident(name) if !declares(whole, name) => Variable::from_name(name).zip(Some(select.field.as_str())),
            _ => None,
        },
        _ => None,
    };
    let unknown = own.filter(|(variable, member)| variable.members().is_some_and(|known| !known.contains(member)));
    unknown.or_else(|| children(&node.expr).into_iter().find_map(|child| unknown_member(child, whole)))
}

fn no_such_member(variable: Variable, member: &str) -> String {
    let (name, known) = (variable.name(), variable.members().unwrap_or_default());
    let nearest = known.iter().min_by_key(|one| distance(one, member));
    let nearest = nearest.filter(|one| distance(one, member) <= 1 + member.chars().count() / 3);
    let meant = nearest.map(|one| format!(": `{name}.{one}` may be meant")).unwrap_or_default();
    let all: Vec<_> = known.iter().map(|one| format!("`{one}`")).collect();
    format!("`{name}.{member}` does not exist{meant}; `{name}` has {}", all.join(", "))
}

/// The number of characters to put in, leave out or replace to make one name the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, one) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for (other, (diagonal, above)) in b.chars().zip(row.iter().zip(row.iter().skip(1))) {
            let left = next.last().copied().unwrap_or_default();
            next.push((above + 1).min(left + 1).min(diagonal + usize::from(one != other)));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

fn nesting(node: &IdedExpr) -> usize {
    let inner = children(&node.expr).into_iter().map(nesting).max().unwrap_or(0);
    inner + usize::from(matches!(node.expr, Node::Comprehension(_)))
}

/// A warning about an expression whose cost grows faster than the size of the request: a caller that sends a large
/// request is refused then ([`crate::EvaluationError::TooCostly`]). `None` for other expressions.
pub fn advice(expr: &Expr) -> Option<String> {
    let Expr::Cel(text) = expr else { return None };
    let program = compile(text).ok()?;
    (sent_loops(program.expression()) > 1).then(|| {
        "a loop within a loop, both over what callers send: a caller who sends much is refused with \
         ExpressionTooCostly; prefer `in`, a lookup by key or one loop"
            .to_owned()
    })
}

/// The depth to which loops over values of a request are nested. A loop over a literal list has a
/// length that the policy wrote.
fn sent_loops(node: &IdedExpr) -> usize {
    let Node::Comprehension(each) = &node.expr else {
        return children(&node.expr).into_iter().map(sent_loops).max().unwrap_or(0);
    };
    let is_sent = !matches!(&each.iter_range.expr, Node::List(_) | Node::Map(_));
    // `in` and `contains` look at every item too, but they do so fast: they are not counted.
    let body = sent_loops(&each.loop_step) + usize::from(is_sent);
    body.max(sent_loops(&each.iter_range))
}

fn declares(node: &IdedExpr, name: &str) -> bool {
    let own = match &node.expr {
        Node::Comprehension(loop_) => {
            loop_.iter_var == name || loop_.accu_var == name || loop_.iter_var2.as_deref() == Some(name)
        }
        _ => false,
    };
    own || children(&node.expr).into_iter().any(|child| declares(child, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &[Variable] = Variable::ALL;

    #[test]
    fn what_a_policy_may_say_is_read() {
        for text in [
            "identity.username",
            "request.method in ['POST', 'PUT'] && identity.roles.exists(role, role == 'writer')",
            "identity.roles.join('|')",
            "has(token.tenant) ? token.tenant : 'none'",
            "{'sub': identity.id, 'level': 3}",
            "source.address.startsWith('10.')",
            "now + 60",
            "token.anything == 1 && jose.step.claims.x == 2",
            "identity.roles.exists(request, request.startsWith('a'))",
            "request.headers['x-a'] == 'b' && identity.attributes.tenant == 'c'",
        ] {
            assert!(parse(text, ALL).is_ok(), "{text}: {:?}", parse(text, ALL));
        }
        assert!(matches!(parse("token[\"a b\"].c", ALL), Ok(Expr::Member { .. })));
        assert!(matches!(parse("token.a == 'b'", ALL), Ok(Expr::Cel(_))));
    }

    #[test]
    fn what_is_not_an_expression_or_not_allowed_here_is_refused_with_advice() {
        for (text, advice) in [
            ("", "not a CEL expression"),
            ("identity.", "not a CEL expression"),
            ("a ==", "not a CEL expression"),
            ("secret.key", "`secret` is not known here"),
            ("process.env", "`process` is not known here"),
            ("identity.shoe_size", "must be one of"),
            ("request.metod == 'GET'", "`request.metod` does not exist: `request.method` may be meant"),
            ("now > 1 && source.adress == '::1'", "`source.address` may be meant"),
            ("has(identity.role) && true", "`identity.roles` may be meant"),
            ("[env.namespaces].exists(e, e == 'a')", "`env.namespace` may be meant"),
            ("request.zzzzzz == 1", "`request.zzzzzz` does not exist; `request` has `method`"),
            ("identity.roles.all(a, identity.roles.all(b, identity.roles.all(c, a == b && b == c)))", "nested deeper"),
        ] {
            let error = parse(text, ALL).expect_err(text);
            assert!(error.contains(advice), "{text}: {error}");
        }
        assert!(parse("request.path", &[Variable::Token]).unwrap_err().contains("`token`"));
        assert!(parse("request.path == '/'", &[Variable::Token]).unwrap_err().contains("`token`"));
        assert!(parse(&"1+".repeat(1000), ALL).unwrap_err().contains("longer"));
    }

    #[test]
    fn a_loop_within_a_loop_over_what_callers_send_is_pointed_at() {
        let advised = |text: &str| advice(&parse(text, ALL).unwrap()).is_some();
        assert!(advised("request.parameters.all(a, request.headers.exists(b, a == b))"));
        assert!(advised("token.a.all(a, a.all(b, b == 1))"));
        assert!(!advised("token.a.all(a, ['x', 'y'].exists(b, a == b))"));
        assert!(!advised("token.a.filter(a, a != 'x').all(a, a == 'y')"));
        assert!(!advised("'a' in identity.roles"));
        assert!(!advised("token.a"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[ -~]{0,80}") {
            let _ = parse(&text, ALL);
        }
    }
}
