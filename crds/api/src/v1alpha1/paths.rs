use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The paths that callers may ask for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Paths {
    /// The forms that are taken though not every server reads them alike. A path with one of them is refused all the
    /// same where an upstream that reads it otherwise would find another rule.
    #[schemars(length(min = 1, max = 6), extend("x-kubernetes-list-type" = "set"))]
    pub allow: Vec<PathForm>,
}

/// A form of paths that not all servers read alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PathForm {
    /// `%2F`, which stays what it is: a slash inside a segment. The upstream must split paths before it decodes them.
    EncodedSlash,
    /// `%25`, a percent sign. The upstream must decode once. `%252F` needs `EncodedSlash` too.
    EncodedPercent,
    /// `%3F`, a question mark that begins no query.
    EncodedQuestionMark,
    /// `%23`, a number sign.
    EncodedHash,
    /// `;` and what follows in the last segment, such as `;jsessionid=1`. Routes, rules and records see the path
    /// without them; the upstream gets them, and must take them for parameters.
    Parameters,
    /// `//`, which becomes `/` everywhere, also for the upstream.
    EmptySegments,
}
