//! Which records somebody asks for. One list of tests, read in two ways: over a record, and as a query of a server.

use std::fmt;
use std::str::FromStr;

use idm_types::{Reason, Timestamp};
use serde_json::{Value, json};

use crate::{Action, Outcome, StoredRecord};

/// The kinds of records that people ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// A gateway's decision about one request.
    Decision,
    /// A change of one of our objects.
    Change,
}

impl RecordKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Decision, Self::Change];

    /// Its name in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Decision => "Decision",
            Self::Change => "Change",
        }
    }
}

/// How a decision or a change came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordOutcome {
    /// Of a decision.
    Outcome(Outcome),
    /// Of a change.
    Action(Action),
}

impl RecordOutcome {
    /// All, those of decisions first.
    pub const ALL: [Self; 7] = [
        Self::Outcome(Outcome::Permitted),
        Self::Outcome(Outcome::Denied),
        Self::Outcome(Outcome::Failed),
        Self::Action(Action::Created),
        Self::Action(Action::Updated),
        Self::Action(Action::Deleted),
        Self::Action(Action::Found),
    ];

    /// Its name in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Outcome(Outcome::Permitted) => "Permitted",
            Self::Outcome(Outcome::Denied) => "Denied",
            Self::Outcome(Outcome::Failed) => "Failed",
            Self::Action(Action::Created) => "Created",
            Self::Action(Action::Updated) => "Updated",
            Self::Action(Action::Deleted) => "Deleted",
            Self::Action(Action::Found) => "Found",
        }
    }

    const fn field(self) -> &'static str {
        match self {
            Self::Outcome(_) => "outcome",
            Self::Action(_) => "action",
        }
    }
}

/// How a policy in shadow would have decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShadowedAs {
    /// It would have permitted the request.
    Permitted,
    /// It would have refused it.
    Denied,
    /// It has no verdict.
    NotJudged,
}

impl ShadowedAs {
    /// All.
    pub const ALL: [Self; 3] = [Self::Permitted, Self::Denied, Self::NotJudged];

    /// Its name in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Permitted => "Permitted",
            Self::Denied => "Denied",
            Self::NotJudged => "NotJudged",
        }
    }
}

impl FromStr for ShadowedAs {
    type Err = NoSuchWord;
    fn from_str(text: &str) -> Result<Self, NoSuchWord> {
        chosen(text, &Self::ALL, Self::name)
    }
}

/// The word is none of those that are possible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoSuchWord(Vec<&'static str>);

impl fmt::Display for NoSuchWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "give one of: {}", self.0.join(", "))
    }
}

impl std::error::Error for NoSuchWord {}

fn chosen<T: Copy>(text: &str, all: &[T], name: impl Fn(T) -> &'static str) -> Result<T, NoSuchWord> {
    let found = all.iter().copied().find(|one| name(*one).eq_ignore_ascii_case(text));
    found.ok_or_else(|| NoSuchWord(all.iter().map(|one| name(*one)).collect()))
}

impl FromStr for RecordKind {
    type Err = NoSuchWord;
    fn from_str(text: &str) -> Result<Self, NoSuchWord> {
        chosen(text, &Self::ALL, Self::name)
    }
}

impl FromStr for RecordOutcome {
    type Err = NoSuchWord;
    fn from_str(text: &str) -> Result<Self, NoSuchWord> {
        chosen(text, &Self::ALL, Self::name)
    }
}

/// Which records are asked for; what is not set does not matter.
#[derive(Clone, Debug, Default)]
pub struct RecordFilter {
    /// Decisions or changes.
    pub kind: Option<RecordKind>,
    /// How they came out.
    pub outcome: Option<RecordOutcome>,
    /// The reason of a refusal or failure.
    pub reason: Option<Reason>,
    /// How some policy in shadow would have decided.
    pub shadow: Option<ShadowedAs>,
    /// The namespace of the policy that decided, or of the object that changed.
    pub namespace: Option<String>,
    /// One of these namespaces, beside `namespace`: those that the person who asks may know about.
    pub namespaces: Option<Vec<String>>,
    /// The kind of an object that changed, or by which a request was decided: of decisions the policy and the
    /// Credential are known.
    pub object_kind: Option<String>,
    /// The name of such an object.
    pub name: Option<String>,
    /// A caller by name, id, Credential or owner, the subject of a token, or one who made a change or may have.
    pub who: Option<String>,
    /// A part of a name, an address or a message, without regard to the case of ASCII letters. A server finds whole
    /// words of messages only.
    pub text: Option<String>,
    /// Only calls of language models: those that used tokens, and those that were refused for their prompt or for the
    /// tokens that were used already.
    pub language_models: bool,
    /// Not older than this.
    pub since: Option<Timestamp>,
    /// Older than this.
    pub until: Option<Timestamp>,
}

const WHO: [&str; 7] = [
    "identity.username",
    "identity.id",
    "identity.credential",
    "identity.owner",
    "issued.subject",
    "actor",
    "by.names",
];
/// The reasons of refusals that only calls of language models have.
const MODEL_REASONS: [Reason; 5] = [
    Reason::PromptRefused,
    Reason::TokenQuotaExceeded,
    Reason::CostBudgetExceeded,
    Reason::ModelNotAllowed,
    Reason::ModelPriceUnknown,
];
const USED: &str = "usage.prompt_tokens";
const POLICY: &str = "policy.name";
const CREDENTIAL: &str = "identity.credential";
/// Texts that a server keeps as they are.
const NAMES: [&str; 19] = [
    "id",
    "reason",
    "namespace",
    "gateway",
    "request.host",
    "request.path",
    "route",
    "upstream",
    POLICY,
    "identity.username",
    "identity.id",
    CREDENTIAL,
    "trace.id",
    "object.namespace",
    "object.name",
    "actor",
    "by.names",
    "shadow.policy",
    "shadow.reason",
];
/// Texts that a server keeps as words.
const MESSAGES: [&str; 2] = ["detail", "diff"];

/// A condition that one field fulfils or not.
enum Test<'f> {
    Is(&'static str, &'f str),
    Exists(&'static str),
    Contains(&'static str, &'f str),
    HasWords(&'static str, &'f str),
    Since(String),
    Until(String),
}

impl RecordFilter {
    /// Whether a record is one of them. For many records, make [`Self::tests`] once.
    pub fn matches(&self, record: &StoredRecord) -> bool {
        self.tests().hold(record)
    }

    /// False for lines that cannot hold such a record; cheaper than reading them.
    pub(crate) fn may_be_in(&self, line: &str) -> bool {
        let kind = match self.kind {
            Some(RecordKind::Change) => line.contains(r#""kind":"Change""#),
            Some(RecordKind::Decision) => line.contains(r#""kind":"Decision""#),
            None => true,
        };
        let used = || line.contains(r#""usage":"#) || MODEL_REASONS.iter().any(|reason| line.contains(reason.code()));
        kind && (!self.language_models || used())
            && self.reason.is_none_or(|reason| line.contains(reason.code()))
            && self.outcome.is_none_or(|outcome| line.contains(outcome.name()))
            && self.shadow.is_none_or(|_| line.contains(r#""shadow":["#))
    }

    /// The same as a query of Elasticsearch.
    pub(crate) fn query(&self) -> Value {
        let any = |group: &Vec<Test<'_>>| match &group[..] {
            // An empty `bool` would be fulfilled by everything.
            [] => json!({"match_none": {}}),
            [one] => one.query(),
            many => {
                let should: Vec<Value> = many.iter().map(Test::query).collect();
                json!({"bool": {"should": should, "minimum_should_match": 1}})
            }
        };
        let filter: Vec<Value> = self.tests().0.iter().map(any).collect();
        json!({"bool": {"filter": filter}})
    }

    /// The tests that a record must fulfil to be one of them.
    pub fn tests(&self) -> RecordTests<'_> {
        let kinds = RecordKind::ALL.into_iter().filter(|kind| self.kind.is_none_or(|wanted| wanted == *kind));
        let mut groups = vec![kinds.map(|kind| Test::Is("kind", kind.name())).collect::<Vec<_>>()];
        groups.extend(self.outcome.map(|outcome| vec![Test::Is(outcome.field(), outcome.name())]));
        groups.extend(self.reason.map(|reason| vec![Test::Is("reason", reason.code())]));
        groups.extend(self.shadow.map(|shadow| vec![Test::Is("shadow.outcome", shadow.name())]));
        let namespace = |name| vec![Test::Is("namespace", name), Test::Is("object.namespace", name)];
        groups.extend(self.namespace.as_deref().map(namespace));
        // Of no namespace it is a group without a test, which nothing fulfils.
        groups.extend(self.namespaces.as_ref().map(|all| all.iter().flat_map(|name| namespace(name)).collect()));
        let wanted = self.object_kind.as_deref();
        let of_decisions = [("IdentityPolicy", POLICY), ("Credential", CREDENTIAL)];
        let of_decisions = of_decisions.iter().filter(|(kind, _)| wanted.is_none_or(|wanted| wanted == *kind));
        let of_decisions: Vec<&'static str> = of_decisions.map(|(_, field)| *field).collect();
        if let Some(kind) = wanted {
            let decided = of_decisions.iter().map(|field| Test::Exists(field));
            groups.push(std::iter::once(Test::Is("object.kind", kind)).chain(decided).collect());
        }
        if let Some(name) = &self.name {
            let fields = std::iter::once("object.name").chain(of_decisions);
            groups.push(fields.map(|field| Test::Is(field, name)).collect());
        }
        groups.extend(self.who.as_ref().map(|who| WHO.iter().map(|field| Test::Is(field, who)).collect()));
        if let Some(text) = &self.text {
            let names = NAMES.iter().map(|field| Test::Contains(field, text));
            groups.push(names.chain(MESSAGES.iter().map(|field| Test::HasWords(field, text))).collect());
        }
        if self.language_models {
            let refused = MODEL_REASONS.iter().map(|reason| Test::Is("reason", reason.code()));
            groups.push(refused.chain([Test::Exists(USED)]).collect());
        }
        groups.extend(self.since.map(|since| vec![Test::Since(since.rfc3339())]));
        groups.extend(self.until.map(|until| vec![Test::Until(until.rfc3339())]));
        RecordTests(groups)
    }
}

/// The tests of a [`RecordFilter`], in groups: of each group one must hold.
pub struct RecordTests<'f>(Vec<Vec<Test<'f>>>);

impl RecordTests<'_> {
    /// Whether a record fulfils them.
    pub fn hold(&self, record: &StoredRecord) -> bool {
        self.0.iter().all(|group| group.iter().any(|test| test.holds(record)))
    }
}

impl Test<'_> {
    fn holds(&self, record: &StoredRecord) -> bool {
        match self {
            Self::Is(field, wanted) => record.texts(field).any(|text| text == *wanted),
            Self::Exists(field) => record.has(field),
            Self::Contains(field, part) | Self::HasWords(field, part) => {
                let part = part.to_ascii_lowercase();
                record.texts(field).any(|text| text.to_ascii_lowercase().contains(&part))
            }
            Self::Since(since) => record.time() >= since.as_str(),
            Self::Until(until) => !record.time().is_empty() && record.time() < until.as_str(),
        }
    }

    fn query(&self) -> Value {
        match self {
            Self::Is(field, wanted) => json!({"term": {*field: wanted}}),
            Self::Exists(field) => json!({"exists": {"field": field}}),
            Self::Contains(field, part) => {
                let value = format!("*{}*", literal(part));
                json!({"wildcard": {*field: {"value": value, "case_insensitive": true}}})
            }
            Self::HasWords(field, words) => json!({"match_phrase": {*field: words}}),
            Self::Since(since) => json!({"range": {"@timestamp": {"gte": since}}}),
            Self::Until(until) => json!({"range": {"@timestamp": {"lt": until}}}),
        }
    }
}

/// Nothing in it is a wildcard.
fn literal(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if matches!(c, '*' | '?' | '\\') {
            out.push('\\');
        }
        out.push(c);
        out
    })
}

#[cfg(test)]
mod tests;
