//! An expression over the values of one request.

use std::sync::{Arc, OnceLock};

use cel::{Context, Env, ExecutionError, Program};
use idm_plan::{Expr, Variable};
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::check;

/// The functions there are: CEL's own, and those on strings.
pub(crate) fn environment() -> &'static Arc<Env> {
    static ENVIRONMENT: OnceLock<Arc<Env>> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| {
        let mut env = Env::stdlib();
        // Fails only when a function is declared twice, which the tests would show.
        let _ = env.add_extension(cel::extensions::strings);
        Arc::new(env)
    })
}

/// Knows the values of the variables of one request.
pub trait Scope {
    /// The whole value of a variable; `None` where there is none.
    fn variable(&self, variable: Variable) -> Option<Value>;

    /// The value at a path below a variable.
    fn at(&self, variable: Variable, path: &[String]) -> Option<Value> {
        path.iter().try_fold(self.variable(variable)?, |mut value, member| value.get_mut(member).map(Value::take))
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
}

/// Whole numbers as CEL's `int`: to JSON there is one kind of number, and `now + 60` should just work.
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

/// An expression, ready to be evaluated. Shared by all cores.
#[derive(Debug)]
pub struct Expression {
    plan: Expr,
    program: Option<Program>,
    uses: Vec<Variable>,
}

impl Expression {
    /// Arms an expression that [`check::parse`] let through.
    pub fn arm(plan: &Expr) -> Result<Self, String> {
        let (program, uses) = match plan {
            Expr::Member { variable, .. } => (None, vec![*variable]),
            Expr::Cel(text) => {
                let program = check::compile(text)?;
                let uses = program.references().variables().into_iter().filter_map(Variable::from_name).collect();
                (Some(program), uses)
            }
        };
        Ok(Self { plan: plan.clone(), program, uses })
    }

    /// As it was written.
    pub fn plan(&self) -> &Expr {
        &self.plan
    }

    /// Whether it depends on a variable.
    pub fn uses(&self, variable: Variable) -> bool {
        self.uses.contains(&variable)
    }

    /// Its value for one request.
    pub fn value(&self, scope: &dyn Scope) -> Result<Value, EvaluationError> {
        let missing = || EvaluationError::Missing(self.plan.to_string());
        let program = match (&self.plan, &self.program) {
            (Expr::Member { variable, path }, _) => return scope.at(*variable, path).ok_or_else(missing),
            (Expr::Cel(_), Some(program)) => program,
            (Expr::Cel(_), None) => return Err(missing()),
        };
        let failed = || EvaluationError::Failed(self.plan.to_string());
        let mut context = Context::with_env(environment().clone());
        for &variable in &self.uses {
            let value = scope.variable(variable).unwrap_or_else(|| Value::Object(Default::default()));
            context.add_variable(variable.name(), Signed(&value)).map_err(|_| failed())?;
        }
        match program.execute(&context) {
            Ok(value) => value.json().map_err(|_| failed()),
            Err(ExecutionError::NoSuchKey(_)) => Err(missing()),
            Err(_) => Err(failed()),
        }
    }

    /// Whether a condition holds. What has no value, or one that is not a truth value, is an error: a
    /// rule that cannot be decided must not be taken for one that does not apply.
    pub fn holds(&self, scope: &dyn Scope) -> Result<bool, EvaluationError> {
        self.value(scope)?.as_bool().ok_or_else(|| EvaluationError::Failed(self.plan.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::parse;

    struct Given(Value);

    impl Scope for Given {
        fn variable(&self, variable: Variable) -> Option<Value> {
            self.0.get(variable.name()).cloned()
        }
    }

    fn value(text: &str, given: Value) -> Result<Value, EvaluationError> {
        Expression::arm(&parse(text, Variable::ALL).unwrap()).unwrap().value(&Given(given))
    }

    #[test]
    fn expressions_have_the_values_one_expects() {
        let given = json!({"identity": {"roles": ["a", "b"], "username": "ana"}, "request": {"method": "POST", "headers": {"x-a": "1"}}, "token": {"n": 7, "deep": {"er": [1, 2]}}, "now": 100});
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

    /// What one request's values are is never seen by another's, however many run at once.
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
                        let given = Given(json!({"identity": {"username": format!("u{thread}-{i}")}, "request": {"path": format!("/{thread}/{i}")}}));
                        assert_eq!(expression.value(&given), Ok(json!(format!("u{thread}-{i}:/{thread}/{i}"))));
                    }
                });
            }
        });
    }
}
