use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The object a policy is attached to, in the policy's own namespace; a GatewayClass is of the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "(self.group == 'gateway.networking.k8s.io' && self.kind in ['HTTPRoute', 'GRPCRoute', 'Gateway', \
        'GatewayClass']) || (self.group == '' && self.kind == 'Service')",
     "message": "target must be an HTTPRoute, GRPCRoute, Gateway or GatewayClass of group \
         'gateway.networking.k8s.io', or a Service of group ''"},
    {"rule": "self.kind != 'GatewayClass' || !has(self.sectionName)",
     "message": "`sectionName` must not be set for a GatewayClass: it has no parts"}]))]
pub struct TargetReference {
    /// API group of the target: `gateway.networking.k8s.io`, or an empty string for a Service.
    #[schemars(length(max = 253))]
    pub group: String,
    /// Kind of the target: `HTTPRoute`, `GRPCRoute`, `Gateway` or `Service`; or `GatewayClass`, for a `baseline` of the
    /// operator's namespace that holds for all Gateways of the class.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Name of the target.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Part of the target: the name of a rule of a route, of a listener of a Gateway, or of a port of a Service.
    /// Unset means all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub section_name: Option<String>,
}

/// An object of our own kinds in the same namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectReference {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// One key of a Secret in the same namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyReference {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key in the Secret's data. The field that holds this reference says which key is read when this is unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub key: Option<String>,
}

/// Certificates of authorities, in PEM, in an object of the same namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrustBundleReference {
    /// Kind of the object: `Secret`, or `ConfigMap` as trust-manager writes it. Unset means `Secret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<TrustBundleKind>,
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key in the object's data; `ca.crt` unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub key: Option<String>,
}

/// Kinds of objects that hold certificates of authorities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TrustBundleKind {
    /// A Secret.
    #[default]
    Secret,
    /// A ConfigMap: certificates of authorities are public.
    ConfigMap,
}

/// The source of an issuer's public keys: exactly one of the members.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "(has(self.discovery) ? 1 : 0) + (has(self.jwksUri) ? 1 : 0) + (has(self.inline) ? 1 : 0) + \
        (has(self.secretRef) ? 1 : 0) == 1",
     "message": "keys must have exactly one of `discovery`, `jwksUri`, `inline`, `secretRef`"},
    {"rule": "!has(self.tls) || has(self.discovery) || has(self.jwksUri)",
     "message": "`tls` must be set only with `discovery` or `jwksUri`: nothing else is fetched"}]))]
pub struct KeySources {
    /// Read the issuer's OpenID configuration (`{issuer}/.well-known/openid-configuration`) and fetch the keys it
    /// names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discovery: Option<Discovery>,
    /// Fetch the keys from this URL, for example `https://idp.example/keys`. Refreshed in the background every 30
    /// seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 2048), extend("x-kubernetes-validations" = [
        {"rule": "self.startsWith('https://') || self.startsWith('http://')",
         "message": "jwksUri must be an http or https URL"}]))]
    pub jwks_uri: Option<String>,
    /// The JWKS itself, as JSON text with public keys only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 65536))]
    pub inline: Option<String>,
    /// A Secret that holds the JWKS; the key is `jwks.json` unless named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<KeyReference>,
    /// TLS settings for the server, where it is not one of the public web. Unset trusts the system's authorities and
    /// shows no certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<OutgoingTls>,
}

impl KeySources {
    /// The keys that the issuer's own discovery document names.
    pub fn discovered(tls: Option<OutgoingTls>) -> Self {
        Self { discovery: Some(Discovery {}), jwks_uri: None, inline: None, secret_ref: None, tls }
    }
}

/// TLS towards a server with authorities of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.trustBundleRef) || has(self.clientCertificateRef)",
     "message": "tls must have `trustBundleRef`, `clientCertificateRef` or both"}]))]
pub struct OutgoingTls {
    /// The Secret or ConfigMap with the authorities to trust instead of the system's, in PEM; the key is `ca.crt`
    /// unless named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_bundle_ref: Option<TrustBundleReference>,
    /// The Secret of type `kubernetes.io/tls` with the certificate that the gateway shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate_ref: Option<ObjectReference>,
}

/// Discovery needs no settings: write `discovery: {}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Discovery {}

/// A header that carries a credential.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeaderSource {
    /// Name of the header, for example `Authorization`.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[A-Za-z0-9-]+$"))]
    pub name: String,
    /// Scheme before the value, for example `Bearer`; compared without regard to case. Unset means that the header
    /// holds the credential alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), regex(pattern = "^[A-Za-z0-9-]+$"))]
    pub scheme: Option<String>,
}

/// A cookie or query parameter that carries a credential.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NamedSource {
    /// Its name.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[A-Za-z0-9_-]+$"))]
    pub name: String,
}

/// A named value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Attribute {
    /// Name of the attribute: letters, digits and underscores.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub name: String,
    /// Its value.
    #[schemars(length(max = 1024))]
    pub value: String,
}

/// One signing key, without the key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SigningKeyStatus {
    /// Its name in tokens and in the published keys.
    pub kid: String,
    /// The algorithm that it signs with.
    pub algorithm: String,
    /// From this time on it signs, until a newer one does.
    pub signs_from: String,
    /// Until this time it is published. Unset: while it signs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_until: Option<String>,
}

/// The state of an object, as the operator reports it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The keys of a policy's token service, oldest first. A new one is published before it signs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub signing_keys: Vec<SigningKeyStatus>,
    /// Standard conditions, all of positive polarity: Accepted, ResolvedRefs, Programmed (where it applies) and their
    /// summary Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
}

pub(crate) fn conditions_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let mut schema = <Vec<Condition>>::json_schema(generator);
    schema.insert("x-kubernetes-list-type".into(), json!("map"));
    schema.insert("x-kubernetes-list-map-keys".into(), json!(["type"]));
    schema.insert("maxItems".into(), json!(16));
    schema
}
