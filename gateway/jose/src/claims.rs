use serde_json::{Map, Value};

/// The claims of a token whose signature and standard claims were checked (RFC 7519 §4).
#[derive(Clone, Debug, PartialEq)]
pub struct Claims(Map<String, Value>);

impl Claims {
    /// Claims whose source somebody else has checked.
    pub fn new(members: Map<String, Value>) -> Self {
        Self(members)
    }

    /// The text of a claim; `None` when absent or not text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    /// A `NumericDate` in whole seconds; `Err` when present and not a usable number.
    pub(crate) fn date(&self, name: &str) -> Result<Option<u64>, ()> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::Number(n)) => match (n.as_u64(), n.as_f64()) {
                (Some(whole), _) => Ok(Some(whole)),
                (None, Some(float)) if float.is_finite() && (0.0..=9e15).contains(&float) => Ok(Some(float as u64)),
                _ => Err(()),
            },
            Some(_) => Err(()),
        }
    }

    /// The value reached by following `path` from the top.
    pub fn at(&self, path: &[String]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.0.get(first)?, |value, member| value.get(member))
    }

    /// All claims.
    pub fn members(&self) -> &Map<String, Value> {
        &self.0
    }
}
