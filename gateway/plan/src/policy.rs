use idm_types::{RoleName, RuleName};
use serde::{Deserialize, Serialize};

use crate::{
    Baseline, Care, Cors, Expr, JoseStep, Limit, Llm, Method, ObjectKey, PathForm, ProtectedResource, SecretHandle,
    TokenService,
};

/// One IdentityPolicy, resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The object.
    pub key: ObjectKey,
    /// Its uid. Together with the generation it is part of every cache key, so that no cached verdict outlives its
    /// policy.
    pub uid: String,
    /// Its generation.
    pub generation: i64,
    /// The methods in order; the first that recognises its credential decides. Never empty.
    pub methods: Vec<Method>,
    /// The mapping of a verified caller to attributes.
    pub identity: IdentityMapping,
    /// Authorization: every rule that applies must allow the request. If there are rules and none applies, the request
    /// is denied. If there are no rules, an authenticated caller is permitted.
    pub rules: Vec<Rule>,
    /// Limits of the requests that the rules permit; all must allow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<Limit>,
    /// JOSE objects that are opened and made, in order.
    pub jose: Vec<JoseStep>,
    /// The upstream is a language model's API.
    pub llm: Option<Llm>,
    /// The tokens it issues.
    pub token_service: Option<TokenService>,
    /// The data about the caller that the upstream receives.
    pub upstream: UpstreamSettings,
    /// The amount of detail that a refused caller receives.
    pub disclosure: Disclosure,
    /// The pages of other origins whose scripts may call, where a rule does not say it itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    /// The forms of paths that are taken though not every server reads them alike.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<PathForm>,
    /// The metadata of the targets for OAuth clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<ProtectedResource>,
    /// The time for which streams may go on when their caller's right ends, in milliseconds; 0: they are cut.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub drain_streams_ms: u64,
    /// Demands on every request of the Gateways that it targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Baseline>,
    /// Whether a baseline or a policy in shadow may ask for claims of its callers' tokens.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keeps_claims: bool,
    /// It judges requests that others decide about, and refuses none: no rule's handler names it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shadow: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde passes a reference
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The amount of detail that a refused caller receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Disclosure {
    /// The fields that RFC 6750 and RFC 9457 require, and no others.
    #[default]
    Minimal,
    /// Also the reason code and its sentence.
    Detailed,
}

/// The mapping of a verified caller to attributes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityMapping {
    /// The user name. A token without it is refused.
    pub username: Option<Expr>,
    /// Roles: a list, or text split at spaces.
    pub roles: Option<Expr>,
    /// Groups, which RoleBindings turn into roles.
    pub groups: Option<Expr>,
    /// Further attributes by name.
    pub attributes: Vec<(String, Expr)>,
}

/// One authorization rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The name in audit records and in `explain`.
    pub name: RuleName,
    /// The request methods it covers; empty: all.
    pub methods: Vec<String>,
    /// The condition under which it covers a request; `None`: it always does.
    pub when: Option<Expr>,
    /// The roles and scopes that it requires.
    pub require: Require,
}

/// The roles and scopes that a rule requires of the caller.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Require {
    /// Roles.
    pub roles: NameSet,
    /// OAuth scopes.
    pub scopes: NameSet,
}

/// Names that must be held: one of `any` (when not empty) and all of `all`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NameSet {
    /// At least one of these.
    pub any: Vec<String>,
    /// Every one of these.
    pub all: Vec<String>,
}

/// The data about the caller that the upstream receives.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamSettings {
    /// Headers made from the identity, in order.
    pub headers: Vec<HeaderMapping>,
    /// The treatment of the caller's own credential.
    pub credential: CredentialForwarding,
    /// The exchange of the caller's token for one that the upstream accepts.
    pub exchange: Option<TokenExchange>,
    /// The treatment of the backends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub care: Option<Care>,
}

/// A token for the upstream in exchange for the caller's (RFC 8693).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenExchange {
    /// The token endpoint.
    pub endpoint: String,
    /// The client id of the gateway there.
    pub client_id: String,
    /// The secret of this client.
    pub client_secret: SecretHandle,
    /// The `audience` of the requested token.
    pub audience: Option<String>,
    /// The `scope` of the requested token.
    pub scopes: Vec<String>,
    /// The time for which an exchanged token may be reused.
    pub cache_seconds: u64,
}

/// One header for the upstream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderMapping {
    /// Lower-case header name.
    pub name: String,
    /// Its value; lists are joined with `,`. A missing value sends no header.
    pub value: Expr,
}

/// The treatment of the verified credential before a request is forwarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CredentialForwarding {
    /// The credential is removed.
    #[default]
    Remove,
    /// The credential is forwarded to the upstream.
    Forward,
}

/// A role given to someone in this project.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The RoleBinding object.
    pub key: ObjectKey,
    /// The role.
    pub role: RoleName,
    /// The subjects that receive the role.
    pub subjects: Vec<Subject>,
}

/// A subject of a grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Subject {
    /// A user by `identity.username` from one issuer (a name is only unique within its issuer).
    User {
        /// The user name.
        name: String,
        /// The issuer that vouches for it; `None`: any issuer the policy trusts.
        issuer: Option<String>,
    },
    /// Everyone in a group.
    Group {
        /// The group.
        name: String,
        /// The issuer that vouches for it; `None`: any issuer the policy trusts.
        issuer: Option<String>,
    },
    /// A Credential of this namespace.
    Credential {
        /// Its name.
        name: String,
    },
}
