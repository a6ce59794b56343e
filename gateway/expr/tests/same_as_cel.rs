//! Our evaluation has the results of the `cel` crate's interpreter, on generated expressions and values.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use cel::{Context, Env, ExecutionError};
use idm_expr::{EvaluationError, Expression, Known, Scope, parse};
use idm_plan::Variable;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

struct Given(Value);

impl Scope for Given {
    fn variable(&self, variable: Variable) -> Option<Known<'_>> {
        self.0.get(variable.name()).map(|value| Known::Value(Cow::Borrowed(value)))
    }
}

/// Whole numbers as `int`, as we take them.
struct Signed<'v>(&'v Value);

impl Serialize for Signed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Number(number) => match number.as_i64() {
                Some(whole) => serializer.serialize_i64(whole),
                None => number.serialize(serializer),
            },
            Value::Array(items) => serializer.collect_seq(items.iter().map(Signed)),
            Value::Object(members) => serializer.collect_map(members.iter().map(|(name, value)| (name, Signed(value)))),
            plain => plain.serialize(serializer),
        }
    }
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Value(Value),
    Missing,
    Failed,
    TooCostly,
}

fn environment() -> &'static Arc<Env> {
    static ENVIRONMENT: OnceLock<Arc<Env>> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| {
        let mut env = Env::stdlib();
        env.add_extension(cel::extensions::strings).expect("the functions on strings are new");
        Arc::new(env)
    })
}

fn theirs(text: &str, given: &Value) -> Outcome {
    let program = environment().compile(text).expect(text);
    let mut context = Context::with_env(environment().clone());
    for variable in Variable::ALL {
        let value = given.get(variable.name()).cloned().unwrap_or(json!({}));
        context.add_variable(variable.name(), Signed(&value)).expect("JSON is a value of CEL");
    }
    match program.execute(&context) {
        Ok(value) => value.json().map_or(Outcome::Failed, Outcome::Value),
        Err(ExecutionError::NoSuchKey(_)) => Outcome::Missing,
        Err(_) => Outcome::Failed,
    }
}

fn ours(text: &str, given: &Value) -> Outcome {
    let expression = Expression::arm(&idm_plan::Expr::Cel(text.to_owned())).expect(text);
    match expression.value(&Given(given.clone())) {
        Ok(value) => Outcome::Value(value),
        Err(EvaluationError::Missing(_)) => Outcome::Missing,
        Err(EvaluationError::Failed(_)) => Outcome::Failed,
        Err(EvaluationError::TooCostly(_)) => Outcome::TooCostly,
    }
}

fn given() -> Value {
    json!({
        "token": {
            "n": 7, "neg": -3, "big": u64::MAX, "max": i64::MAX, "min": i64::MIN, "d": 1.5, "whole": 2.0,
            "t": "añb, b,ñ", "empty": "", "yes": true, "no": false, "nil": null, "digits": "42",
            "l": [1, "a", 2.0, null, [1], {"a": 1}], "strings": ["a", "b", "ñ"], "numbers": [3, 1, 2],
            "m": {"a": 1, "b": {"c": "d"}, "ñ": null}, "none": [],
        },
        "identity": {"roles": ["a", "b"], "username": "ana"},
        "request": {"method": "POST", "headers": {"x-a": "1"}, "parameters": {"a": "b"}},
        "now": 1_700_000_000,
    })
}

/// Expressions of every kind of value and operation, right and wrong ones.
fn expression() -> impl Strategy<Value = String> {
    let leaves = [
        "token.n",
        "token.neg",
        "token.big",
        "token.max",
        "token.min",
        "token.d",
        "token.whole",
        "token.t",
        "token.empty",
        "token.yes",
        "token.no",
        "token.nil",
        "token.digits",
        "token.l",
        "token.strings",
        "token.numbers",
        "token.m",
        "token.none",
        "token.missing",
        "token.m.b.c",
        "token.m.missing",
        "token.?n",
        "token.?missing",
        "token.m[?'a']",
        "token.l[?9]",
        "identity.roles",
        "request.headers['x-a']",
        "now",
        "token",
        "jose",
        "0",
        "1",
        "-1",
        "2",
        "3u",
        "0u",
        "1.0",
        "0.0",
        "-2.5",
        "'a'",
        "'b,'",
        "''",
        "'ñ'",
        "b'ab'",
        "true",
        "false",
        "null",
        "[]",
        "[1, 2]",
        "['a', 'b']",
        "{'a': 1}",
        "{1: 'x', 2u: 'y'}",
        "{true: 1}",
        "{}",
        "x",
        "y",
        "has(token.n)",
        "has(token.missing)",
        "has(token.m.a)",
        "has(token.m.z)",
        "has(identity.z)",
    ];
    let leaf = prop::sample::select(leaves.to_vec()).prop_map(str::to_owned);
    leaf.prop_recursive(4, 24, 3, |inner| {
        let operators = ["&&", "||", "==", "!=", "<", "<=", ">", ">=", "+", "-", "*", "/", "%", "in"];
        let binary = (inner.clone(), prop::sample::select(operators.to_vec()), inner.clone())
            .prop_map(|(one, operator, other)| format!("({one} {operator} {other})"));
        let global = ["size", "int", "uint", "double", "string", "bytes", "bool", "dyn", "type"];
        let global =
            (prop::sample::select(global.to_vec()), inner.clone()).prop_map(|(name, of)| format!("{name}({of})"));
        let none = ["size", "join", "lowerAscii", "upperAscii", "trim", "reverse", "hasValue", "value"];
        let none =
            (inner.clone(), prop::sample::select(none.to_vec())).prop_map(|(of, name)| format!("({of}).{name}()"));
        let one = [
            "contains",
            "startsWith",
            "endsWith",
            "charAt",
            "indexOf",
            "lastIndexOf",
            "join",
            "split",
            "substring",
            "or",
            "orValue",
        ];
        let one = (inner.clone(), prop::sample::select(one.to_vec()), inner.clone())
            .prop_map(|(of, name, given)| format!("({of}).{name}({given})"));
        let two = ["indexOf", "lastIndexOf", "replace", "split", "substring"];
        let two = (inner.clone(), prop::sample::select(two.to_vec()), inner.clone(), inner.clone())
            .prop_map(|(of, name, a, b)| format!("({of}).{name}({a}, {b})"));
        let three = (inner.clone(), inner.clone(), inner.clone(), -1..4)
            .prop_map(|(of, a, b, times)| format!("({of}).replace({a}, {b}, {times})"));
        let conditional =
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})"));
        let macros = ["all", "exists", "exists_one", "filter", "map"];
        let loops =
            (inner.clone(), prop::sample::select(macros.to_vec()), prop::sample::select(vec!["x", "y"]), inner.clone())
                .prop_map(|(of, name, variable, body)| format!("({of}).{name}({variable}, {body})"));
        let filtered =
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(of, a, b)| format!("({of}).map(x, {a}, {b})"));
        let index = (inner.clone(), inner.clone()).prop_map(|(of, at)| format!("({of})[{at}]"));
        let index_optional = (inner.clone(), inner.clone()).prop_map(|(of, at)| format!("({of})[?{at}]"));
        let select =
            (inner.clone(), prop::sample::select(vec![".a", ".?a", ".b.c"])).prop_map(|(of, at)| format!("({of}){at}"));
        let has = inner.clone().prop_map(|of| format!("has(({of}).a)"));
        let list = (inner.clone(), inner.clone(), any::<bool>())
            .prop_map(|(a, b, optional)| format!("[{a}, {}{b}]", if optional { "?" } else { "" }));
        let map = (inner.clone(), inner.clone(), any::<bool>())
            .prop_map(|(a, b, optional)| format!("{{{}'k': {a}, 'l': {b}}}", if optional { "?" } else { "" }));
        let unary =
            (prop::sample::select(vec!["!", "-"]), inner).prop_map(|(operator, of)| format!("{operator}({of})"));
        prop_oneof![
            4 => binary, 1 => global, 1 => none, 2 => one, 1 => two, 1 => three, 2 => conditional, 4 => loops,
            1 => filtered, 2 => index, 1 => index_optional, 1 => select, 1 => has, 1 => list, 1 => map, 1 => unary,
        ]
    })
}

/// The loop variables that an expression uses outside of loops stand for members of the token.
fn bound(text: &str) -> String {
    format!("[[1, 'a'], 'ab', 2].map(x, ['b', 3].map(y, {text}))")
}

/// Some seconds' worth, or as many as `PROPTEST_CASES` says.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(1_000)
}

/// The same expressions each time, so that a change is blamed only for what it changed; `PROPTEST_RNG_SEED` has others.
fn seed() -> RngSeed {
    let given = std::env::var("PROPTEST_RNG_SEED").ok().and_then(|seed| seed.parse().ok());
    RngSeed::Fixed(given.unwrap_or(1))
}

fn agree(text: &str) {
    let given = given();
    let (ours, theirs_now) = (ours(text, &given), theirs(text, &given));
    if ours == theirs_now || has_no_result_of_its_own(text, &given, &theirs_now) {
        return;
    }
    assert_eq!(ours, theirs_now, "{text}");
}

/// CEL leaves open in which order a loop goes through the keys of a map; `cel` takes them at random, so that what
/// depends on it differs from one of its runs to the next. Nothing else does.
fn has_no_result_of_its_own(text: &str, given: &Value, first: &Outcome) -> bool {
    (0..24).any(|_| theirs(text, given) != *first)
}

/// The order that CEL leaves open is ours to choose: the same for every request.
#[test]
fn the_keys_of_a_map_are_gone_through_in_order() {
    for (text, expected) in [
        ("{'b': 1, 'a': 2}.map(k, k)", json!(["a", "b"])),
        ("{2u: 'y', 1: 'x', true: 'z'}.map(k, k)", json!([true, 1, 2])),
        ("token.m.map(k, k)", json!(["a", "b", "ñ"])),
    ] {
        assert_eq!(ours(text, &given()), Outcome::Value(expected), "{text}");
    }
}

/// `cel` has `format`, this crate does not: its cost cannot be bounded by the size of its arguments.
#[test]
fn format_is_refused_when_a_policy_is_read() {
    let refused = parse("'%s'.format(['a']) == 'a'", Variable::ALL).unwrap_err();
    assert!(refused.contains("there is no function `format`"), "{refused}");
    assert_eq!(theirs("'%s'.format(['a']) == 'a'", &given()), Outcome::Value(json!(true)));
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        rng_seed: seed(),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_expression_has_the_same_result(text in expression()) {
        // As it is where no loop variable is free, and within two loops where one may be.
        if parse(&text, Variable::ALL).is_ok() && idm_plan::Expr::member(&text).is_none() {
            agree(&text);
        }
        agree(&bound(&text));
    }
}

#[test]
fn the_corners_have_the_same_result() {
    let corners = [
        "token.max + 1",
        "token.min - 1",
        "-token.min",
        "token.min / -1",
        "token.min % -1",
        "1 / 0",
        "1 % 0",
        "1u - 2u",
        "1.0 / 0.0",
        "token.big > token.max",
        "1 == 1.0 && 1u == 1 && 1.0 == 1u",
        "1 < 1.5",
        "token.nil == null",
        "(0.0 / 0.0) == (0.0 / 0.0)",
        "(0.0 / 0.0) < 1.0",
        "1 / 0 == 1 || true",
        "true || 1 / 0 == 1",
        "1 / 0 == 1 && false",
        "token.missing && false",
        "token.missing || false",
        "'a' || true",
        "true && 'a'",
        "[1, 0].all(x, 1 / x == 1)",
        "[0, 2].all(x, 1 / x == 1)",
        "[0, 1].exists(x, 1 / x == 1)",
        "[0, 2].exists(x, 1 / x == 1)",
        "[1, 1].exists_one(x, x == 1)",
        "[1, 2].exists_one(x, x == 1)",
        "{'a': 1}.map(k, k)",
        "1 in [1.0]",
        "1u in {1: 2}",
        "1.5 in {1: 2}",
        "'x' in 'xyz'",
        "null in {'a': 1}",
        "{1: 'a', 1u: 'b'}",
        "{'a': 1, 'a': 2}",
        "{1.0: 2}",
        "{1: 'a'}[1.0]",
        "{1: 'a'}[1u]",
        "[1, 2][1.0]",
        "[1, 2][1.5]",
        "[1, 2][2]",
        "[1][-1]",
        "{'a': 1}['b']",
        "{'a': 1}[null]",
        "'abc'[0]",
        "[1].a",
        "null.a",
        "token.?m.b.c",
        "token.?m.b.z.orValue('q')",
        "token.?z.b.orValue('q')",
        "token.?z.or(token.?n).value()",
        "token.?z.value()",
        "token.?n",
        "[?token.?z, 1]",
        "{?'a': token.?z}",
        "has(token.?m.a)",
        "has(token.?z.a)",
        "b'\\xff' + b'a'",
        "string(b'\\xff')",
        "string(b'ab')",
        "bytes('ñ')",
        "size(b'ab')",
        "size('ñ')",
        "int('x')",
        "int(1e30)",
        "int(-1.9)",
        "uint(-1)",
        "uint('7')",
        "double('1e400')",
        "double('x')",
        "string(1e300)",
        "string(-0.0)",
        "bool('T')",
        "bool('t')",
        "type(1) == type(2)",
        "type(1) == type(1u)",
        "type(1)",
        "[1] + {'a': 1}",
        "'tacocat'.charAt(7)",
        "'tacocat'.charAt(8)",
        "'©αT'.charAt(1)",
        "'ta©o©αT'.indexOf('©', 3)",
        "'hello mellow'.lastIndexOf('ello', 6)",
        "'ta©o©αT'.lastIndexOf('©', 3)",
        "'abc'.indexOf('', 20)",
        "'abc'.lastIndexOf('')",
        "'abc'.lastIndexOf('', 2)",
        "'a©a©'.lastIndexOf('©a', 1)",
        "'aaa'.lastIndexOf('aa', 1)",
        "'a,b,c'.split(',', 2)",
        "'a,b'.split(',', 0)",
        "'abc'.split('')",
        "'abc'.split('', 2)",
        "''.split('')",
        "''.split(',')",
        "','.split(',')",
        "'abc'.replace('', '-')",
        "'aaa'.replace('a', 'b', 2)",
        "'aaa'.replace('a', 'b', 0)",
        "'aaa'.replace('a', 'b', -1)",
        "'añb'.substring(1)",
        "'añb'.substring(1, 2)",
        "'añb'.substring(2, 1)",
        "'añb'.substring(4)",
        "'  a\\u00a0'.trim()",
        "'ñab'.reverse()",
        "'aÑB'.lowerAscii()",
        "['a', 1].join()",
        "[].join(',')",
        "token.l == [1, 'a', 2, null, [1], {'a': 1.0}]",
        "0.0 / 0.0",
        "18446744073709551615u",
        "token.big",
        "token.big + 1u",
        "jose",
        "jose.a",
        "has(jose.a)",
        "!1",
        "-'a'",
        "-1u",
        "1 ? 2 : 3",
        "'a'.map(x, x)",
        "1 + 1.0",
        "token.d * 2.0",
        "token.d % 1.0",
    ];
    let given = given();
    let differ = corners.into_iter().filter_map(|text| {
        let (ours, theirs) = (ours(text, &given), theirs(text, &given));
        (ours != theirs).then(|| format!("{text}: {ours:?}, and not {theirs:?}"))
    });
    assert_eq!(differ.collect::<Vec<_>>(), Vec::<String>::new());
}
