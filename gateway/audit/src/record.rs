use idm_types::{DecisionId, Reason, Stage, Timestamp, TraceId};
use serde::Serialize;

use crate::line;

/// Version of the record's fields; grows when one changes its meaning.
pub const SCHEMA: u32 = 1;

/// One record, borrowed from its creator.
#[derive(Serialize)]
#[serde(tag = "kind")]
#[expect(clippy::large_enum_variant, reason = "it lives on the stack for as long as it takes to write it")]
pub enum Record<'r> {
    /// A gateway's decision about one request.
    Decision(Decision<'r>),
    /// A change of one of our objects.
    Change(Change<'r>),
}

/// The outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Outcome {
    /// Let through; the upstream answered.
    Permitted,
    /// Refused.
    Denied,
    /// Let through, and then a failure occurred.
    Failed,
}

/// A decision.
#[derive(Serialize)]
pub struct Decision<'r> {
    /// The time when the request arrived.
    #[serde(rename = "@timestamp", serialize_with = "rfc3339")]
    pub time: Timestamp,
    /// The id shown to a refused caller.
    pub id: DecisionId,
    /// See [`SCHEMA`].
    pub schema: u32,
    /// The gateway's namespace.
    pub namespace: &'r str,
    /// The gateway process, a pod's name in a cluster.
    pub gateway: &'r str,
    /// The generation of the configuration that decided.
    pub generation: u64,
    /// The outcome.
    pub outcome: Outcome,
    /// The status the caller got; 0 when the caller had disconnected.
    pub status: u16,
    /// The stage that the request reached.
    pub stage: Stage,
    /// The reason of the refusal or failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The values that were compared.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub detail: &'r str,
    /// From arrival to the head of the answer, in microseconds.
    pub duration_us: u64,
    /// The request.
    pub request: DecisionRequest<'r>,
    /// The distributed trace that the request is part of, as the caller says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<DecisionTrace>,
    /// The rule of the route that matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<&'r str>,
    /// The policy that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<DecisionPolicy<'r>>,
    /// The caller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<DecisionIdentity<'r>>,
    /// The block of the caller's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<DecisionBlock>,
    /// The limit that refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<&'r str>,
    /// The backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<&'r str>,
    /// The mirrors that a copy was for.
    #[serde(skip_serializing_if = "<[&str]>::is_empty")]
    pub mirrors: &'r [&'r str],
    /// The tokens that a call to a language model used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<DecisionUsage<'r>>,
    /// The token that was issued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issued: Option<DecisionIssued<'r>>,
    /// The verdicts of policies in shadow, which changed nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shadow: Vec<DecisionShadow<'r>>,
}

/// The verdict of a policy that is not enforced.
#[derive(Serialize)]
pub struct DecisionShadow<'r> {
    /// The policy, with its namespace.
    pub policy: &'r str,
    /// Its generation.
    pub generation: i64,
    /// It is the policy's baseline that judged.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub baseline: bool,
    /// `Permitted`, `Denied` or `NotJudged`.
    pub outcome: &'r str,
    /// The reason of a refusal, or why there is no verdict.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub reason: &'r str,
    /// The rule that would have granted or refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<&'r str>,
    /// The values that were compared.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub detail: &'r str,
}

/// The block of an address that was in force when the request arrived.
#[derive(Serialize)]
pub struct DecisionBlock {
    /// The rule by which it began.
    pub rule: &'static str,
    /// The time when it ends.
    #[serde(serialize_with = "rfc3339")]
    pub ends: Timestamp,
    /// It was only observed, and refused nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub observed: bool,
}

/// The distributed trace of a request.
#[derive(Serialize)]
pub struct DecisionTrace {
    /// Its id.
    pub id: TraceId,
}

/// A token that was issued.
#[derive(Serialize)]
pub struct DecisionIssued<'r> {
    /// The `grant_type`.
    pub grant: &'r str,
    /// The subject of the token.
    pub subject: &'r str,
    /// Its `jti`.
    pub token: &'r str,
    /// Its scopes.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub scopes: &'r [String],
    /// Its audiences.
    pub audiences: &'r [String],
    /// Its lifetime.
    pub lifetime_seconds: u64,
}

/// The tokens that a call to a language model used.
#[derive(Serialize)]
pub struct DecisionUsage<'r> {
    /// The model, as the provider names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<&'r str>,
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens of the answer.
    pub completion_tokens: u64,
    /// Whether the provider reported no usage and the numbers are estimated from the sizes.
    pub estimated: bool,
}

/// The request of a decision. Query and body are not recorded: they may hold secrets.
#[derive(Serialize)]
pub struct DecisionRequest<'r> {
    /// The method.
    pub method: &'r str,
    /// The host, canonical if it could be made so.
    pub host: &'r str,
    /// The path, canonical if it could be made so; bounded.
    pub path: &'r str,
    /// The caller's address, from the connection.
    pub source: std::net::IpAddr,
}

/// The policy of a decision.
#[derive(Serialize)]
pub struct DecisionPolicy<'r> {
    /// Its name.
    pub name: &'r str,
    /// Its generation.
    pub generation: i64,
    /// The authentication method that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<&'r str>,
    /// The authorization rule that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<&'r str>,
    /// The credential was in the query, where logs in front of the gateway may have kept it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub in_query: bool,
    /// The policies whose baselines hold, too.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub baselines: &'r [String],
}

/// The caller of a decision.
#[derive(Serialize)]
pub struct DecisionIdentity<'r> {
    /// `jwt`, `apiKey` or `anonymous`.
    pub kind: &'r str,
    /// Unique id.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub id: &'r str,
    /// The human-readable name.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub username: &'r str,
    /// The issuer that vouches for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<&'r str>,
    /// Its roles.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub roles: &'r [String],
    /// The names among its roles that are none, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roles_dropped: Option<&'r str>,
    /// The Credential.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<&'r str>,
    /// The owner that the Credential names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<&'r str>,
    /// The key that verified the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kid: Option<&'r str>,
    /// Whether the verdict came from the cache.
    pub cached: bool,
}

/// The kind of change of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Action {
    /// It appeared.
    Created,
    /// Its spec, a label, an annotation, a finalizer or an owner changed, or its deletion was asked for.
    Updated,
    /// It is gone.
    Deleted,
    /// It was there already when the records of changes began.
    Found,
}

/// How sure it is that a change was made by the one whom the record names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Evidence {
    /// The API server, or the Manager of a folder, authenticated the one who asked for exactly this change.
    Authenticated,
    /// The API server authenticated everybody who asked for such a change, and it is not certain whose request it was
    /// that took effect.
    Inferred,
    /// The object names its writer. Whoever writes an object chooses that name.
    Asserted,
    /// Nothing says who it was.
    Unknown,
}

impl Evidence {
    /// All, the surest first.
    pub const ALL: [Self; 4] = [Self::Authenticated, Self::Inferred, Self::Asserted, Self::Unknown];

    /// Its name in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Authenticated => "authenticated",
            Self::Inferred => "inferred",
            Self::Asserted => "asserted",
            Self::Unknown => "unknown",
        }
    }
}

/// A change of one of our objects.
#[derive(Serialize)]
pub struct Change<'r> {
    /// The time when it was observed; of a change that was found later, when the object says it happened.
    #[serde(rename = "@timestamp", serialize_with = "rfc3339")]
    pub time: Timestamp,
    /// Derived from the object's uid and all its changes so far, so that two observers of one change write one record.
    pub id: &'r str,
    /// See [`SCHEMA`].
    pub schema: u32,
    /// The kind of change.
    pub action: Action,
    /// The object.
    pub object: ObjectName<'r>,
    /// The name of the one who made it, for people; [`ChangeBy`] says how sure that is.
    pub actor: &'r str,
    /// Its author.
    pub by: ChangeBy<'r>,
    /// The tool that it was made with. Clients choose what they say here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<ChangeOrigin<'r>>,
    /// The time in which it happened, where nobody watched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub between: Option<ChangeBetween>,
    /// The fields that changed. Values are there only where the schema excludes that they are secrets.
    pub diff: &'r [String],
}

/// The author of a change.
#[derive(Serialize)]
pub struct ChangeBy<'r> {
    /// How sure that is.
    pub evidence: Evidence,
    /// The names by which the API server knows them: one, or all who may have been it.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub names: &'r [String],
    /// The API server's uid of the one.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub uid: &'r str,
    /// The groups of the one.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub groups: &'r [String],
    /// The field manager, which the client chose.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub manager: &'r str,
}

/// The tool that a change was made with, as client and object say.
#[derive(Serialize)]
pub struct ChangeOrigin<'r> {
    /// `kubectl`, `argocd`, `flux`, `helm`, `idm`, `idm-operator`, `idm-manager` or `api`.
    pub tool: &'r str,
    /// Always [`Evidence::Asserted`].
    pub evidence: Evidence,
    /// The Application, Kustomization or HelmRelease, as `namespace/name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application: Option<&'r str>,
    /// The revision that it says it applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<&'r str>,
    /// The object names an application that says it tracks another object: the mark was copied.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub mismatched: bool,
}

/// The time in which a change happened.
#[derive(Serialize)]
pub struct ChangeBetween {
    /// The object was seen as it had been; unknown where no operator ran before.
    #[serde(serialize_with = "rfc3339_or_null")]
    pub from: Option<Timestamp>,
    /// The change was found.
    #[serde(serialize_with = "rfc3339")]
    pub to: Timestamp,
}

/// The object of a change.
#[derive(Serialize)]
pub struct ObjectName<'r> {
    /// Its kind.
    pub kind: &'r str,
    /// Its namespace.
    pub namespace: &'r str,
    /// Its name.
    pub name: &'r str,
    /// Its uid.
    pub uid: &'r str,
    /// Its generation.
    pub generation: i64,
    /// Its resource version after the change.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub version: &'r str,
}

fn rfc3339_or_null<S: serde::Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => rfc3339(time, serializer),
        None => serializer.serialize_none(),
    }
}

fn rfc3339<S: serde::Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.rfc3339())
}

impl Record<'_> {
    /// Appends the record as one line of JSON. Control characters are escaped, so text from a caller cannot begin a
    /// line of its own.
    pub fn write_line(&self, out: &mut Vec<u8>) {
        let start = out.len();
        match line::write(self, out) {
            Ok(()) => out.push(b'\n'),
            // Every record has a shape that can be written; if one had not, a partial line must not remain.
            Err(_) => out.truncate(start),
        }
    }
}
