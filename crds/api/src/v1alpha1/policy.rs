use std::collections::BTreeMap;

use idm_types::{Algorithm, RuleName};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Baseline, Confirmation, Cors, HeaderSource, JoseStep, KeySources, Llm, Method, NamedSource, ObjectReference,
    ObjectStatus, OpenStreams, Paths, PolicyLimit, ProtectedResource, QueryTokenSource, TargetReference, TokenExchange,
    TokenProfile, TokenService,
};

/// IdentityPolicy says how callers of its targets authenticate, what they may do, and what the upstream is told about
/// them.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "identity-manager.io",
    version = "v1alpha1",
    kind = "IdentityPolicy",
    plural = "identitypolicies",
    singular = "identitypolicy",
    namespaced
)]
#[kube(status = "ObjectStatus", shortname = "idpol", category = "idm", derive = "PartialEq")]
#[kube(printcolumn(name = "Target", type_ = "string", json_path = ".spec.targetRefs[0].name"))]
#[kube(printcolumn(
    name = "Accepted",
    type_ = "string",
    json_path = ".status.conditions[?(@.type==\"Accepted\")].status"
))]
#[kube(printcolumn(
    name = "Programmed",
    type_ = "string",
    json_path = ".status.conditions[?(@.type==\"Programmed\")].status"
))]
#[kube(printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"))]
#[kube(printcolumn(
    name = "Reason",
    type_ = "string",
    json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
    priority = 1
))]
#[kube(printcolumn(
    name = "Message",
    type_ = "string",
    json_path = ".status.conditions[?(@.type==\"Ready\")].message",
    priority = 1
))]
#[kube(printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "!has(self.baseline) || self.targetRefs.all(target, target.kind in ['Gateway', 'GatewayClass'])",
     "message": "`baseline` must be set only where every target is a Gateway or a GatewayClass: it is for all of their \
         routes"},
    {"rule": "has(self.authentication) || self.targetRefs.all(target, target.kind == 'GatewayClass')",
     "message": "`authentication` must be set, except in a baseline of a GatewayClass"},
    {"rule": "!self.targetRefs.exists(target, target.kind == 'GatewayClass') || (has(self.baseline) && \
        self.targetRefs.all(target, target.kind == 'GatewayClass') && !(has(self.authentication) || \
        has(self.authorization) || has(self.limits) || has(self.jose) || has(self.llm) || has(self.tokenService) || \
        has(self.upstream) || has(self.disclosure) || has(self.cors) || has(self.paths) || has(self.resource) || \
        has(self.openStreams)))",
     "message": "a policy on a GatewayClass must target nothing else, and have a `baseline` and nothing besides but \
         `enforcement`: it decides about no route"},
    {"rule": "!has(self.enforcement) || self.enforcement != 'Shadow' || !has(self.tokenService)",
     "message": "`tokenService` must not be set with `enforcement: Shadow`: it answers, and a shadow answers nobody"}]))]
pub struct IdentityPolicySpec {
    /// The targets that the policy covers. An HTTPRoute wins over a Gateway, and a rule or listener over the whole
    /// object; between equals the older policy wins and the other's status names it.
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub target_refs: Vec<TargetReference>,
    /// Whether the policy decides: `Enforce`, or `Shadow`. One in shadow judges the requests that it would decide about,
    /// records what it would have refused, and changes nothing; another policy, or a class that is open on purpose,
    /// must decide about them. Unset means `Enforce`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforcement: Option<Enforcement>,
    /// The authentication of callers. Must be set, except in a baseline of a GatewayClass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Authentication>,
    /// The rules for authenticated callers. Unset means that being authenticated is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Authorization>,
    /// Limits of the requests that the rules permit; all must allow, and a request that one of them refuses costs
    /// nothing at the others. Limits of Credentials and UsagePlans count beside them. Unset means none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub limits: Option<Vec<PolicyLimit>>,
    /// JOSE objects that are opened before a request is authorized, and made before a message goes on. The steps run in
    /// their order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub jose: Option<Vec<JoseStep>>,
    /// The upstream is a language model's API: the provider's key replaces the caller's credential, and tokens are
    /// counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub llm: Option<Llm>,
    /// Issues tokens beside the targets. Its endpoints need no route of their own and are not covered by
    /// `authentication`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_service: Option<TokenService>,
    /// The headers and credential that the upstream gets. Unset sends `X-Authenticated-UserId` and
    /// `X-Authenticated-UserRoles` and removes the caller's credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Upstream>,
    /// The details that a refused caller may learn: `Minimal` (what the standards need) or `Detailed` (also the
    /// reason). Unset means `Minimal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disclosure: Option<Disclosure>,
    /// The pages of other origins whose scripts may call the targets and the token service. A route's filter `CORS`
    /// wins for its rule. Unset answers no preflight, and leaves the upstream's own headers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    /// The paths that callers may ask for, besides those that every server reads alike. Unset takes no others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paths: Option<Paths>,
    /// Tells clients of OAuth, such as those of the Model Context Protocol, where to get tokens for the targets. Unset
    /// tells them nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<ProtectedResource>,
    /// The treatment of streams that are open when the Credential, the key or the session of their caller ends. Unset
    /// cuts them within a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_streams: Option<OpenStreams>,
    /// Demands on every request of the Gateways and listeners that the policy targets, or of all Gateways of a
    /// GatewayClass, which no policy of a route can weaken. They hold beside another policy of the same
    /// target, too. Unset demands nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Baseline>,
}

/// Whether a policy decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Enforcement {
    /// It decides.
    Enforce,
    /// It judges what another decides about, and refuses nothing.
    Shadow,
}

/// The details that a refused caller may learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Disclosure {
    /// Status, standard challenge and decision id.
    Minimal,
    /// Also the reason code and its sentence. Helps while integrating; tells attackers what to fix.
    Detailed,
}

/// The authentication of callers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Authentication {
    /// The methods in order. The first that recognises its credential decides; a credential that it refuses is not
    /// tried elsewhere.
    #[schemars(length(min = 1, max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub methods: Vec<Method>,
    /// The mapping of a verified caller to attributes, the same for all methods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentityMapping>,
}

/// Anonymous access needs no settings: write `anonymous: {}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnonymousMethod {}

/// JWT validation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JwtMethod {
    /// The trusted issuers.
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub issuers: Vec<JwtIssuer>,
    /// The places where the token travels. Unset means `Authorization: Bearer` and `Authorization: DPoP`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4), extend("x-kubernetes-list-type" = "atomic"))]
    pub sources: Option<Vec<TokenSource>>,
    /// The allowed clock skew between issuer and gateway, in seconds (0 to 300). Unset means 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 300))]
    pub clock_skew_seconds: Option<i64>,
    /// The keys that tokens must be bound to. A token that is bound is refused without what it is bound to, also when
    /// this is unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmation: Option<Confirmation>,
}

/// One trusted issuer: written here, or taken from a Federation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "[has(self.issuer), has(self.federationRef), has(self.tokenServiceRef)].filter(is, is).size() == 1",
     "message": "issuer entry must have exactly one of `issuer`, `federationRef`, `tokenServiceRef`"},
    {"rule": "has(self.audiences) || has(self.clientIds)",
     "message": "issuer entry must have `audiences` or `clientIds`"},
    {"rule": "has(self.issuer) == has(self.keys)",
     "message": "`keys` must be set with `issuer`, and must not be set otherwise"},
    {"rule": "has(self.issuer) || !has(self.algorithms)",
     "message": "`algorithms` must be set only with `issuer`: the Federation or token service names them"}]))]
pub struct JwtIssuer {
    /// The exact `iss` value of its tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub issuer: Option<String>,
    /// A Federation of type `oidc` that describes the issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub federation_ref: Option<ObjectReference>,
    /// An IdentityPolicy of this namespace whose token service issues the tokens; it may be this one. What was revoked
    /// there is refused here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_service_ref: Option<ObjectReference>,
    /// Accepted audiences; a token needs one of them in `aud`. May be left out only where `clientIds` is set; then a
    /// token must have no `aud`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 512)), extend("x-kubernetes-list-type" = "set"))]
    pub audiences: Option<Vec<String>>,
    /// Accepted clients, for issuers that write no `aud`, such as Amazon Cognito: a token needs one of them in
    /// `client_id` or `azp`, and in both where it has both, and `token_use` must be `access` where it is there. Unset
    /// accepts tokens of every client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 512)), extend("x-kubernetes-list-type" = "set"))]
    pub client_ids: Option<Vec<String>>,
    /// The source of the issuer's keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<KeySources>,
    /// Allowed signature algorithms. Unset means RS256 and ES256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 13), extend("x-kubernetes-list-type" = "set"))]
    pub algorithms: Option<Vec<Algorithm>>,
    /// Accepted `typ` header values, for example `at+jwt`; then a token must carry one of them. Unset accepts tokens
    /// without `typ`, with `JWT` and with `at+jwt`, and no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8), inner(length(min = 1, max = 64)), extend("x-kubernetes-list-type" = "set"))]
    pub types: Option<Vec<String>>,
    /// The profile that the issuer's tokens follow; one that breaks it is refused. Unset holds them to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<TokenProfile>,
}

/// The place where a token travels: exactly one of the members.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "[has(self.header), has(self.cookie), has(self.query)].filter(is, is).size() == 1",
     "message": "token source must have exactly one of `header`, `cookie`, `query`"}]))]
pub struct TokenSource {
    /// A header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<HeaderSource>,
    /// A cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<NamedSource>,
    /// A query parameter: dangerous, limited, and named in the audit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<QueryTokenSource>,
}

/// API keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApiKeyMethod {
    /// The places where the key travels. Unset means the header `X-Api-Key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4), extend("x-kubernetes-list-type" = "atomic"))]
    pub sources: Option<Vec<CredentialSource>>,
    /// Which Credentials are accepted, by label. Unset accepts every Credential of the namespace whose own access list
    /// allows the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_selector: Option<CredentialSelector>,
}

/// Selects Credentials by label.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CredentialSelector {
    /// Labels a Credential must have.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 16))]
    pub match_labels: BTreeMap<String, String>,
}

/// The place where an API key travels: exactly one of the members.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "(has(self.header) ? 1 : 0) + (has(self.cookie) ? 1 : 0) + (has(self.query) ? 1 : 0) == 1",
     "message": "key source must have exactly one of `header`, `cookie`, `query`"}]))]
pub struct CredentialSource {
    /// A header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<HeaderSource>,
    /// A cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<NamedSource>,
    /// A query parameter. It is removed before the request goes on, but may stay in logs of machines in front of the
    /// gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<NamedSource>,
}

/// The mapping of a verified caller to attributes. Values are CEL expressions over `token`, mostly member accesses
/// such as `token.preferred_username` or `token["https://example.com/roles"]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IdentityMapping {
    /// The user name of token callers; a token without it is refused. Unset means `token.sub`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub username: Option<String>,
    /// The roles of token callers: a list, or text with roles between spaces. Unset means none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub roles: Option<String>,
    /// The groups of token callers, which RoleBindings turn into roles. Unset means none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub groups: Option<String>,
    /// Further attributes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub attributes: Option<Vec<AttributeMapping>>,
}

/// One attribute made from the caller's token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AttributeMapping {
    /// Name of the attribute: letters, digits and underscores.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub name: String,
    /// The source of its value, for example `token.tid`.
    #[schemars(length(min = 1, max = 512))]
    pub value: String,
}

/// The rules for authenticated callers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Authorization {
    /// Every rule that covers a request must allow it; a request that no rule covers is refused.
    #[schemars(length(min = 1, max = 64),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub rules: Vec<AuthorizationRule>,
}

/// One authorization rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthorizationRule {
    /// Name of the rule in audit records and `idm explain`.
    pub name: RuleName,
    /// Request methods it covers. Unset means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 9), extend("x-kubernetes-list-type" = "set"))]
    pub methods: Option<Vec<RequestMethod>>,
    /// A CEL condition: the rule covers only requests for which it is true, for example
    /// `request.path.startsWith('/admin')`. It may use `identity`, `token`, `credential`, `request`, `source`, `env`
    /// and `now`. A condition that cannot be decided refuses the request. Unset means that it always holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub when: Option<String>,
    /// The roles and scopes that the caller must hold. Unset means nothing beyond being authenticated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require: Option<Require>,
}

/// HTTP methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs)] // the names are RFC 9110's
pub enum RequestMethod {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
    Trace,
    Connect,
}

/// The roles and scopes that a caller must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Require {
    /// Roles, from the token, the Credential or RoleBindings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<NameSet>,
    /// OAuth scopes, from the token's `scope` or `scp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<NameSet>,
}

/// Names to hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.any) || has(self.all)",
     "message": "set `any`, `all` or both"}]))]
pub struct NameSet {
    /// At least one of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 256)), extend("x-kubernetes-list-type" = "set"))]
    pub any: Option<Vec<String>>,
    /// Every one of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 256)), extend("x-kubernetes-list-type" = "set"))]
    pub all: Option<Vec<String>>,
}

/// The headers and credential that the upstream gets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "!has(self.tokenExchange) || !has(self.credential) || self.credential != 'Forward'",
     "message": "`tokenExchange` must not be set with `credential: Forward`: the upstream would get two tokens"}]))]
pub struct Upstream {
    /// Further headers made from the identity, besides `X-Authenticated-UserId` and `X-Authenticated-UserRoles`. Every
    /// spelling of their names is removed from what the caller sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub headers: Option<Vec<HeaderMapping>>,
    /// The treatment of the caller's credential: `Remove` or `Forward`. Unset means `Remove`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialForwarding>,
    /// The upstream gets a token of its own, in exchange for the caller's, in `Authorization: Bearer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_exchange: Option<TokenExchange>,
    /// The most requests that a backend gets at once. Unset means without limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
    /// Addresses of a backend that fail are left alone for a while. Unset means never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ejection: Option<Ejection>,
    /// Requests that are safe to send again are sent again where they failed. Unset means never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
}

/// The most requests of each backend, of one gateway pod, whose cores share them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Capacity {
    /// Requests under way, until their answers have ended.
    #[schemars(range(min = 1, max = 100_000))]
    pub requests: i64,
    /// Requests that wait for a place; further ones are refused (503 `UpstreamBusy`). Unset means 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000))]
    pub waiting: Option<i64>,
}

/// An address fails with no connection, no answer, or 502, 503 or 504. Each core judges by its own requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ejection {
    /// Failures in a row. Unset means 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub failures: Option<i64>,
    /// The first pause in seconds; each further one is twice as long. Unset means 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3600))]
    pub first_seconds: Option<i64>,
    /// The longest pause in seconds. Unset means 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3600))]
    pub longest_seconds: Option<i64>,
    /// The most addresses of a backend that are left alone at once, in percent. A Service with a cluster IP has one
    /// address, which only 100 leaves alone: its requests are refused then (503 `UpstreamEjected`). Unset means 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub max_percent: Option<i64>,
}

/// GET, HEAD, OPTIONS, PUT and DELETE without a body that streams are sent again; WebSockets never are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retry {
    /// Further attempts after the first. Unset means 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 5))]
    pub attempts: Option<i64>,
    /// The time of one attempt until its answer begins, in milliseconds; the route's timeout bounds all together. Unset
    /// means 5000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 60_000))]
    pub per_try_milliseconds: Option<i64>,
    /// Statuses of answers after which there is another attempt. Unset means 502, 503 and 504.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8), inner(range(min = 500, max = 599)), extend("x-kubernetes-list-type" = "set"))]
    pub statuses: Option<Vec<i64>>,
    /// The most further attempts, in percent of the requests that could have some. Unset means 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub budget_percent: Option<i64>,
}

/// The treatment of the caller's credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CredentialForwarding {
    /// It stays at the gateway.
    Remove,
    /// It goes on to the upstream, which could use it elsewhere in the caller's name.
    Forward,
}

/// One header made from the identity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeaderMapping {
    /// Name of the header.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[A-Za-z0-9-]+$"))]
    pub name: String,
    /// The source of its value, for example `identity.attributes.tenant` or `token.email`. Lists are joined with
    /// commas; a missing value sends no header.
    #[schemars(length(min = 1, max = 512))]
    pub value: String,
}
