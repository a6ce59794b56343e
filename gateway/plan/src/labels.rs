use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Labels of an object that many of are held: in order, without the room that a map keeps for more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct Labels(Box<[(Box<str>, Box<str>)]>);

/// Has labels.
pub trait Labelled {
    /// The value of the label of this name.
    fn label(&self, name: &str) -> Option<&str>;
}

impl Labelled for Labels {
    fn label(&self, name: &str) -> Option<&str> {
        let position = self.0.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        self.0.get(position).map(|(_, value)| &**value)
    }
}

impl Labelled for BTreeMap<String, String> {
    fn label(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}

impl From<BTreeMap<String, String>> for Labels {
    fn from(labels: BTreeMap<String, String>) -> Self {
        Self(labels.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl From<Labels> for BTreeMap<String, String> {
    fn from(labels: Labels) -> Self {
        labels.0.into_iter().map(|(name, value)| (name.into(), value.into())).collect()
    }
}
