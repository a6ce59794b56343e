//! Expressions: any text is read or refused, and what is read is evaluated on hostile values within its budget.
#![no_main]

use std::borrow::Cow;
use std::sync::OnceLock;

use idm_expr::{Budget, Expression, Known, Scope, UNITS_OF_A_REQUEST, UNITS_OF_AN_EXPRESSION, advice, parse};
use idm_plan::Variable;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

/// As much as a caller can send, in every shape.
fn hostile() -> &'static Value {
    static HOSTILE: OnceLock<Value> = OnceLock::new();
    HOSTILE.get_or_init(|| {
        let many: Vec<_> = (0..8_000).map(|at| json!(at % 7)).collect();
        let members: serde_json::Map<_, _> = (0..8_000).map(|at| (format!("m{at}"), json!("v"))).collect();
        json!({
            "a": "b", "roles": many, "n": 7, "deep": {"er": [1, null, true]}, "parameters": members,
            "t": "ab".repeat(16 * 1024), "query": "ab".repeat(16 * 1024),
        })
    })
}

struct Given(Budget);

impl Scope for Given {
    fn variable(&self, variable: Variable) -> Option<Known<'_>> {
        Some(match variable {
            Variable::Now => json!(1).into(),
            Variable::Llm => return None,
            _ => Known::Value(Cow::Borrowed(hostile())),
        })
    }

    fn budget(&self) -> Option<&Budget> {
        Some(&self.0)
    }
}

fuzz_target!(|text: &str| {
    if let Ok(expr) = parse(text, Variable::ALL) {
        let _ = advice(&expr);
        let expression = Expression::arm(&expr).expect("what was read can be armed");
        let given = Given(Budget::default());
        let begun = std::time::Instant::now();
        let _ = expression.value(&given);
        let _ = expression.holds(&given);
        assert!(given.0.left() >= UNITS_OF_A_REQUEST - 2 * UNITS_OF_AN_EXPRESSION);
        // A fuzzer's build is many times slower than a release.
        assert!(begun.elapsed().as_millis() < 500, "{text}");
    }
});
