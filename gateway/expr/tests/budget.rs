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
        "token": {
            "list": items,
            "list2": items,
            "texts": vec!["ab"; bytes / 5],
            "maps": vec![json!({"a": "b"}); bytes / 10],
            "maps2": vec![json!({"a": "b"}); bytes / 10],
            "object": parameters,
            "object2": parameters,
            "query2": "ab".repeat(bytes / 2),
            "wide": "ñ".repeat(bytes / 2),
            "blank": " ".repeat(bytes),
        },
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
    let given = sent(16 * 1024);
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
    // Each repeats one kind of work until the budget is used up.
    let mut slowest = Vec::new();
    for text in [
        "token.list.all(a, token.list.all(b, a != b || a == b))",
        "token.list.all(a, token.list.all(b, true))",
        "token.list.all(a, token.list.all(b, a < b || a + b > -3))",
        "token.list.all(a, !(a in token.texts))",
        "token.list.all(a, token.list == token.list2)",
        "token.list.all(a, token.maps == token.maps2)",
        "token.list.all(a, token.object == token.object2)",
        "request.parameters.all(a, request.parameters.all(b, a != b || a == b))",
        "request.parameters.all(a, request.parameters.all(b, b in request.parameters))",
        "request.parameters.all(a, request.parameters.all(b, request.parameters[b] == 'v'))",
        "request.parameters.map(a, request.parameters.filter(b, a != b)).size() > 0",
        "token.list.all(a, token.list.map(b, b).size() > 0)",
        "token.list.map(a, request.query + request.query).size() > 0",
        "token.list.map(a, token.list + token.list).size() > 0",
        "token.texts.map(a, token.texts + token.texts).size() > 0",
        "token.list.map(a, ['x'] + request.parameters).size() > 0",
        "token.list.map(a, [a, a, a, a, a, a, a, a, a, a])",
        "token.list.map(a, {'a': a, 'b': a, 'c': a, 'd': a})",
        "token.list.map(a, {string(a): a, 'b': [a]}).map(a, a.b).size() > 0 && token.list.all(a, string(1.5) != '')",
        "token.list.all(a, token.list.all(b, {string(a): b} != {'b': a}))",
        "token.list.map(a, token.maps)",
        "token.list.map(a, token.list)",
        "token.list.map(a, request.query)",
        "token.list.map(a, token.texts)",
        "token.list.all(a, token.list.all(b, string(b) != ''))",
        "token.list.all(a, token.list.all(b, string(1.5) != ''))",
        "token.list.all(a, token.list.all(b, double('123456.789e-30') < 2.0))",
        "token.list.all(a, token.list.all(b, int('12345678901234') > 2))",
        "token.list.all(a, token.list.all(b, [a, b].size() == 2))",
        "token.list.all(a, token.list.all(b, token.?object.?x.orValue(a) != null))",
        "token.list.all(a, token.list.all(b, token.?missing.hasValue() == false))",
        "token.list.all(a, token.list.all(b, size(token.object) > 1))",
        "token.list.all(a, token.list.all(b, has(token.object.x) || true))",
        "token.list.all(a, bytes(request.query) + b'a' != b'')",
        "token.list.all(a, string(bytes(request.query)) != '')",
        "token.list.all(a, request.query.contains('bb' + 'ba'))  || true",
        "token.list.all(a, !request.query.contains('bb'))",
        "token.list.all(a, !request.query.contains('ababababababababababababababababc'))",
        "token.list.all(a, request.query.indexOf('bb') < 0)",
        "token.list.all(a, request.query.lastIndexOf('bb') < 0)",
        "token.list.all(a, request.query.indexOf('bb', 30000) < 0)",
        "token.list.all(a, request.query.lastIndexOf('bb', 30000) < 0)",
        "token.list.all(a, token.wide.lastIndexOf('ü', 10000) < 0)",
        "request.query.split('').map(a, request.query.indexOf('aa' + a)).size() > 0",
        "token.list.map(a, request.query.replace('ab', 'cd')).size() > 0",
        "token.list.map(a, request.query.replace('bb', 'cd')).size() > 0",
        "token.list.map(a, request.query.replace('', 'cd')).size() > 0",
        "token.list.map(a, request.query.split('')).size() > 0",
        "token.list.map(a, (request.query + 'a').split('')).size() > 0",
        "token.list.map(a, (request.query + 'a').split('b')).size() > 0",
        "token.list.map(a, token.texts.join(',')).size() > 0",
        "token.list.map(a, token.texts.join('')).size() > 0",
        "token.list.map(a, request.query.reverse()).size() > 0",
        "token.list.map(a, token.wide.reverse()).size() > 0",
        "token.list.map(a, request.query.upperAscii()).size() > 0",
        "token.list.map(a, request.query.substring(30000)).size() > 0",
        "token.list.map(a, request.query.substring(30000, 31000)).size() > 0",
        "token.list.map(a, token.wide.substring(9000, 10000)).size() > 0",
        "token.list.map(a, request.query.charAt(31000)).size() > 0",
        "token.list.map(a, token.blank.trim()).size() > 0",
        "token.list.map(a, token.wide.size()).size() > 0",
        "token.list.all(a, request.query <= request.query)",
        "token.list.all(a, request.query == token.query2)",
    ] {
        let armed = expression(text);
        let took = (0..20).map(|_| {
            let given = sent(31 * 1024);
            let begun = std::time::Instant::now();
            let outcome = armed.value(&given);
            (begun.elapsed(), outcome.is_err(), UNITS_OF_A_REQUEST - given.budget.left())
        });
        let (took, refused, units) = took.min().unwrap();
        let unit = took.as_nanos() as f64 / units as f64;
        println!("{took:>10.1?} {units:>7} units, {unit:>5.1} ns each, refused: {refused} {text}");
        if took.as_micros() > 1_000 {
            slowest.push(text);
        }
    }
    assert!(slowest.is_empty(), "{slowest:#?}");
}
