//! Expressions: any text is read or refused, and what is read can be evaluated on anything.
#![no_main]

use idm_expr::{Expression, Scope, parse};
use idm_plan::Variable;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

struct Given;

impl Scope for Given {
    fn variable(&self, variable: Variable) -> Option<Value> {
        Some(match variable {
            Variable::Now => json!(1),
            _ => json!({"a": "b", "roles": ["x", "y"], "n": 7, "deep": {"er": [1, null, true]}}),
        })
    }
}

fuzz_target!(|text: &str| {
    if let Ok(expr) = parse(text, Variable::ALL) {
        let expression = Expression::arm(&expr).expect("what was read can be armed");
        let _ = expression.value(&Given);
        let _ = expression.holds(&Given);
    }
});
