//! Whatever a caller sends, the work of an expression ends, and what it makes meanwhile is bounded.

use std::borrow::Cow;

use idm_expr::{Budget, EvaluationError, Expression, Known, Scope, UNITS_OF_A_REQUEST, UNITS_OF_AN_EXPRESSION, parse};
use idm_plan::Variable;
use serde_json::{Map, Value, json};

struct Given {
    value: Value,
    budget: Budget,
}

impl Scope for Given {
    fn variable(&self, variable: Variable) -> Option<Known<'_>> {
        self.value.get(variable.name()).map(|value| Known::Value(Cow::Borrowed(value)))
    }

    fn budget(&self) -> Option<&Budget> {
        Some(&self.budget)
    }
}

/// A request whose parameters take this many bytes, and a text and a list as long.
fn sent(bytes: usize) -> Given {
    let parameters: Map<_, _> = (0..bytes / 6).map(|at| (format!("p{at:03}"), json!("v"))).collect();
    let items: Vec<_> = (0..bytes / 3).map(|at| json!(at % 10)).collect();
    let value = json!({
        "request": {"parameters": parameters, "query": "ab".repeat(bytes / 2), "path": "/"},
        "token": {"list": items},
    });
    Given { value, budget: Budget::default() }
}

fn expression(text: &str) -> Expression {
    Expression::arm(&parse(text, Variable::ALL).unwrap()).unwrap()
}

#[test]
fn nested_loops_over_what_a_caller_sends_are_cut_off() {
    for bytes in [5 * 1024, 31 * 1024] {
        for text in [
            "request.parameters.all(a, request.parameters.all(b, a != b || a == b))",
            "request.parameters.map(a, request.parameters.filter(b, a != b)).size() > 0",
            "token.list.exists(a, token.list.exists(b, a + b == 100))",
            "request.query.split('').all(a, request.query.contains('ba' + a + 'x') == false)",
            "token.list.exists(a, token.missing || token.list.all(b, b != 11) && false)",
            "token.list.all(a, token.missing == a || token.list.exists(b, b == 11))",
        ] {
            let given = sent(bytes);
            let outcome = expression(text).value(&given);
            assert_eq!(outcome, Err(EvaluationError::TooCostly(text.to_owned())), "{text} with {bytes} bytes");
            assert_eq!(given.budget.left(), UNITS_OF_A_REQUEST - UNITS_OF_AN_EXPRESSION, "{text}");
        }
    }
}

#[test]
fn what_is_made_is_paid_for_before_it_is_made() {
    for text in [
        "request.query.replace('', request.query).size() > 0",
        "request.query.replace('a', request.query.replace('b', request.query)).size() > 0",
        "token.list.map(a, request.query + request.query).size() > 0",
        "token.list.map(a, token.list + token.list).size() > 0",
        "token.list.map(a, request.query).map(b, b + b).join(request.query).size() > 0",
        "[token.list].map(a, [a, a, a, a, a, a]).map(a, [a, a, a, a, a, a]) == []",
        "token.list.map(a, token.list)",
    ] {
        let outcome = expression(text).value(&sent(31 * 1024));
        assert!(!matches!(&outcome, Err(EvaluationError::Missing(_) | EvaluationError::Failed(_))), "{text}");
        if !text.starts_with("[token") {
            assert_eq!(outcome, Err(EvaluationError::TooCostly(text.to_owned())));
        }
    }
}

/// `has`, `&&`, `||`, optionals and macros take an error for something else; never this one.
#[test]
fn nothing_absorbs_a_budget_that_is_used_up() {
    let costly = "token.list.all(a, token.list.all(b, b != 11))";
    for text in [
        format!("{costly} || true"),
        format!("{costly} && false"),
        "[1, 2].exists(x, token.list.map(a, request.query + request.query) == [] || x == 2)".to_owned(),
        format!("token[?{costly} ? 'list' : 'none'].hasValue()"),
        format!("has({{'a': {costly}}}.a)"),
    ] {
        let outcome = expression(&text).value(&sent(5 * 1024));
        assert_eq!(outcome, Err(EvaluationError::TooCostly(text.clone())), "{text}");
    }
}

#[test]
fn ordinary_loops_over_much_are_served() {
    for text in [
        "request.parameters.all(name, name.startsWith('p'))",
        "'p000' in request.parameters && token.list.exists(a, a == 9)",
        "!request.query.contains('ca') && request.query.split('b').size() > 1",
    ] {
        assert_eq!(expression(text).value(&sent(16 * 1024)), Ok(json!(true)), "{text}");
    }
}

/// Twenty conditions of a policy do not cost twenty times what one may.
#[test]
fn the_expressions_of_a_request_have_one_budget() {
    let given = sent(31 * 1024);
    let one = expression("request.parameters.all(name, name.startsWith('p'))");
    let outcomes: Vec<_> = (0..20).map(|_| one.holds(&given)).collect();
    assert_eq!(outcomes.first(), Some(&Ok(true)));
    assert!(matches!(outcomes.last(), Some(Err(EvaluationError::TooCostly(_)))));
    assert_eq!(given.budget.left(), 0);
}

/// Prints what a whole budget costs on this machine: `cargo test -p idm-expr --release -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, for release builds"]
fn a_whole_budget_takes_no_more_than_a_millisecond() {
    for text in [
        "token.list.all(a, token.list.all(b, a != b || a == b))",
        "request.parameters.all(a, request.parameters.all(b, a != b || a == b))",
        "request.parameters.map(a, request.parameters.filter(b, a != b)).size() > 0",
        "token.list.map(a, request.query + request.query).size() > 0",
        "token.list.map(a, token.list + token.list).size() > 0",
        "request.query.split('').map(a, request.query.indexOf('aa' + a)).size() > 0",
        "token.list.map(a, {string(a): a, 'b': [a]}).map(a, a.b).size() > 0 && token.list.all(a, string(1.5) != '')",
        "token.list.map(a, request.query.replace('ab', 'cd')).size() > 0",
    ] {
        let armed = expression(text);
        let took = (0..20).map(|_| {
            let given = sent(31 * 1024);
            let begun = std::time::Instant::now();
            let outcome = armed.value(&given);
            (begun.elapsed(), outcome.is_err())
        });
        let (took, refused) = took.min().unwrap();
        println!("{took:>10.1?} {refused} {text}");
        assert!(took.as_micros() < 1_500, "{text}");
    }
}
