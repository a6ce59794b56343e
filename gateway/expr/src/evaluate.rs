//! An expression over the values of one request.

use std::borrow::Cow;

use idm_plan::{Expr, Variable};
use serde_json::Value;

use crate::budget::{Budget, Meter, UNITS_OF_AN_EXPRESSION};
use crate::interpret::{self, Known};
use crate::lower::Lowered;
use crate::value::Abort;
use crate::{check, lower};

/// Knows the values of the variables of one request.
pub trait Scope {
    /// The whole value of a variable; `None` where there is none.
    fn variable(&self, variable: Variable) -> Option<Known<'_>>;

    /// One member of a variable. Expressions ask for members where they can, so that the rest need not be made.
    fn member(&self, variable: Variable, name: &str) -> Option<Known<'_>> {
        match self.variable(variable)? {
            Known::Text(_) => None,
            Known::Members(members) => members.get(name).map(|value| Known::Value(Cow::Borrowed(value))),
            Known::Value(Cow::Borrowed(value)) => value.get(name).map(|value| Known::Value(Cow::Borrowed(value))),
            Known::Value(Cow::Owned(mut value)) => value.get_mut(name).map(|value| value.take().into()),
        }
    }

    /// The units that making the value at a path below a variable costs; none where it is there already. Asked before
    /// the value is asked for, so that what cannot be paid for is not made.
    fn cost(&self, _variable: Variable, _path: &[String]) -> usize {
        0
    }

    /// The value at a path below a variable.
    fn at(&self, variable: Variable, path: &[String]) -> Option<Known<'_>> {
        let Some((first, rest)) = path.split_first() else { return self.variable(variable) };
        self.member(variable, first)?.below(rest)
    }

    /// The budget that all expressions of the request share; `None` bounds each expression alone.
    fn budget(&self) -> Option<&Budget> {
        None
    }
}

/// Why an expression has no value.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EvaluationError {
    /// It asks for something that is not there.
    #[error("`{0}` asks for a member that is not there")]
    Missing(String),
    /// It cannot be evaluated on these values. Says nothing about the values.
    #[error("`{0}` cannot be evaluated on these values")]
    Failed(String),
    /// It, or all expressions of the request together, did all the work that they may do. Never to be taken for a
    /// value that is missing: the request is to be refused.
    #[error("`{0}` costs more on these values than an expression may")]
    TooCostly(String),
}

impl EvaluationError {
    /// The value, or nothing where there is none; a budget that is used up stays an error.
    pub fn absent<T>(outcome: Result<T, Self>) -> Result<Option<T>, Self> {
        match outcome {
            Err(error @ Self::TooCostly(_)) => Err(error),
            other => Ok(other.ok()),
        }
    }

    /// The reason that the request is refused for, where `otherwise` is the one for what has no value.
    pub fn reason(&self, otherwise: idm_types::Reason) -> idm_types::Reason {
        match self {
            Self::TooCostly(_) => idm_types::Reason::ExpressionTooCostly,
            Self::Missing(_) | Self::Failed(_) => otherwise,
        }
    }
}

/// An expression, ready to be evaluated. Shared by all cores.
#[derive(Debug)]
pub struct Expression {
    plan: Expr,
    lowered: Option<Lowered>,
    uses: Vec<Variable>,
}

impl Expression {
    /// Arms an expression that [`check::parse`] let through.
    pub fn arm(plan: &Expr) -> Result<Self, String> {
        let (lowered, uses) = match plan {
            Expr::Member { variable, .. } => (None, vec![*variable]),
            Expr::Cel(text) => {
                let lowered = lower::lower(check::compile(text)?.expression())?;
                let mut uses: Vec<_> = lowered.roots.iter().map(|root| root.variable).collect();
                uses.dedup();
                (Some(lowered), uses)
            }
        };
        Ok(Self { plan: plan.clone(), lowered, uses })
    }

    /// As it was written.
    pub fn plan(&self) -> &Expr {
        &self.plan
    }

    /// Whether it depends on a variable.
    pub fn uses(&self, variable: Variable) -> bool {
        self.uses.contains(&variable)
    }

    /// Its value for one request. The work is bounded: see [`Budget`].
    pub fn value(&self, scope: &dyn Scope) -> Result<Value, EvaluationError> {
        let budget = scope.budget();
        let meter = Meter::new(budget.map_or(UNITS_OF_AN_EXPRESSION, |all| all.left().min(UNITS_OF_AN_EXPRESSION)));
        let outcome = match (&self.plan, &self.lowered) {
            (Expr::Member { variable, path }, _) => interpret::member(*variable, path, scope, &meter),
            (Expr::Cel(_), Some(lowered)) => interpret::run(lowered, scope, &meter),
            (Expr::Cel(_), None) => Err(Abort::Missing),
        };
        if let Some(budget) = budget {
            budget.take(meter.used());
        }
        outcome.map_err(|stop| match stop {
            Abort::Missing => EvaluationError::Missing(self.plan.to_string()),
            Abort::Failed => EvaluationError::Failed(self.plan.to_string()),
            Abort::Costly => EvaluationError::TooCostly(self.plan.to_string()),
        })
    }

    /// Whether a condition holds. What has no value, or one that is not a truth value, is an error: a
    /// rule that cannot be decided must not be taken for one that does not apply.
    pub fn holds(&self, scope: &dyn Scope) -> Result<bool, EvaluationError> {
        self.value(scope)?.as_bool().ok_or_else(|| EvaluationError::Failed(self.plan.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::parse;

    struct Given(Value);

    impl Scope for Given {
        fn variable(&self, variable: Variable) -> Option<Known<'_>> {
            self.0.get(variable.name()).map(|value| Known::Value(Cow::Borrowed(value)))
        }
    }

    fn value(text: &str, given: Value) -> Result<Value, EvaluationError> {
        Expression::arm(&parse(text, Variable::ALL).unwrap()).unwrap().value(&Given(given))
    }

    #[test]
    fn expressions_have_the_values_one_expects() {
        let given = json!({"identity": {"roles": ["a", "b"], "username": "ana"},
            "request": {"method": "POST", "headers": {"x-a": "1"}}, "token": {"n": 7, "deep": {"er": [1, 2]}},
            "now": 100});
        for (text, expected) in [
            ("identity.username", json!("ana")),
            ("token.deep.er", json!([1, 2])),
            ("identity.roles.join(',')", json!("a,b")),
            ("request.method == 'POST' && 'b' in identity.roles", json!(true)),
            ("token.n > 6 ? 'high' : 'low'", json!("high")),
            ("request.headers['x-a']", json!("1")),
            ("has(token.missing)", json!(false)),
            ("{'sub': identity.username, 'exp': now + 60}", json!({"sub": "ana", "exp": 160})),
            ("identity.roles.map(r, r + '!')", json!(["a!", "b!"])),
        ] {
            assert_eq!(value(text, given.clone()), Ok(expected), "{text}");
        }
        assert!(matches!(value("token.missing.deeper", given.clone()), Err(EvaluationError::Missing(_))));
        assert!(matches!(value("token.missing == 'x'", given.clone()), Err(EvaluationError::Missing(_))));
        assert!(matches!(value("token.n + 'x'", given.clone()), Err(EvaluationError::Failed(_))));
        let condition = Expression::arm(&parse("identity.username", Variable::ALL).unwrap()).unwrap();
        assert!(condition.holds(&Given(given)).is_err(), "a text is not a truth value");
    }

    /// No evaluation sees values of another request, however many run at once.
    #[test]
    fn nothing_leaks_between_evaluations() {
        let expression = Arc::new(
            Expression::arm(&parse("identity.username + ':' + request.path", Variable::ALL).unwrap()).unwrap(),
        );
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let expression = expression.clone();
                scope.spawn(move || {
                    for i in 0..2_000 {
                        let given = Given(json!({"identity": {"username": format!("u{thread}-{i}")},
                            "request": {"path": format!("/{thread}/{i}")}}));
                        assert_eq!(expression.value(&given), Ok(json!(format!("u{thread}-{i}:/{thread}/{i}"))));
                    }
                });
            }
        });
    }
}
