use idm_types::RoleName;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::conditions_schema;
use super::rotation::{ApiKeyCredential, KeyStatus, Rotation, RotationStatus};
use super::{
    Access, Attribute, HmacJwtCredential, KeyReference, Limit, OauthClientCredential, ObjectReference,
    SignatureCredential,
};

/// Credential is one caller: its key, its roles, and where it may be used.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(group = "identity-manager.io", version = "v1alpha1", kind = "Credential", plural = "credentials", namespaced)]
#[kube(status = "CredentialStatus", shortname = "idcred", category = "idm", derive = "PartialEq")]
#[kube(printcolumn(name = "Prefix", type_ = "string", json_path = ".status.prefix"))]
#[kube(printcolumn(name = "Secret", type_ = "string", json_path = ".spec.secretRef.name"))]
#[kube(printcolumn(name = "Suspended", type_ = "boolean", json_path = ".spec.suspend"))]
#[kube(printcolumn(name = "Expires", type_ = "string", json_path = ".spec.expireTime"))]
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
    {"rule": "[has(self.apiKey), has(self.password), has(self.oauthClient), has(self.person), \
        has(self.signature), has(self.hmacJwt)].filter(is, is).size() == 1",
     "message": "credential must have exactly one of `apiKey`, `password`, `oauthClient`, `person`, `signature`, \
         `hmacJwt`"},
    {"rule": "!has(self.rotation) || (has(self.apiKey) && !has(self.apiKey.sha256))",
     "message": "`rotation` must be used with an `apiKey` that the operator makes: other keys and passwords are \
         replaced where they are made"},
    {"rule": "!has(self.revokedKeys) || has(self.apiKey)", "message": "`revokedKeys` must be used with an `apiKey`"},
    {"rule": "has(self.secretRef) != (has(self.person) || has(self.signature) || has(self.hmacJwt) || \
        (has(self.oauthClient) && !has(self.oauthClient.clientSecret)))",
     "message": "`secretRef` must be set, except for a `person`, for `signature` and `hmacJwt`, whose keys name \
         theirs, and for clients with `privateKeyJwt` or `tlsClientAuth`, which have no secret"}]))]
pub struct CredentialSpec {
    /// The owner of the credential; shown in the audit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// An API key: 256 random bits as `idm_…` with a checksum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<ApiKeyCredential>,
    /// A user name with a password, for the methods `basic`, `digest` and `base64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<PasswordCredential>,
    /// An OAuth client, which gets tokens from the token services of IdentityPolicies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth_client: Option<OauthClientCredential>,
    /// A person who signs in at a Federation, for the method `signIn` with `credentials`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<PersonCredential>,
    /// Keys with which the caller signs its requests, for the method `signature`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<SignatureCredential>,
    /// Secrets with which the caller signs its JWTs, for the method `hmacJwt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hmac_jwt: Option<HmacJwtCredential>,
    /// The Secret with the API key (in its key `key` unless named), the password (`password` unless named; an argon2id
    /// hash in PHC form is taken too, and a line of htpasswd with bcrypt or `{SHA}`) or the client secret
    /// (`clientSecret` unless named; a hash is taken too). The operator writes it when it does not exist, and replaces
    /// the key in it when that is due; one that others wrote is read and never changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<KeyReference>,
    /// Roles the caller has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), extend("x-kubernetes-list-type" = "set"))]
    pub roles: Option<Vec<RoleName>>,
    /// Attributes the caller has, for mapped headers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub attributes: Option<Vec<Attribute>>,
    /// Policies, requests, addresses and hours it may be used with. Unset means with every policy of the namespace that
    /// accepts API keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// Its own limits, which count together with those of its UsagePlans, whatever policies its requests are for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub limits: Option<Vec<Limit>>,
    /// From this time on it is refused, in RFC 3339 UTC, for example `2027-01-01T00:00:00Z`. Unset means never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 20, max = 30),
        regex(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?Z$")
    )]
    pub expire_time: Option<String>,
    /// Refuse it for now, without forgetting it. Unset means false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// How the operator replaces the key of an `apiKey` whose Secret it made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,
    /// Ids of keys that are refused for good, as `status.keys` and records show them. Taking an id out again does not
    /// bring its key back where an operator has seen it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 64),
        inner(length(min = 12, max = 12), regex(pattern = "^[0-9a-f]{12}$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub revoked_keys: Option<Vec<String>>,
}

impl CredentialSpec {
    /// The member that says how the caller proves itself: the first one, where several are written.
    pub fn kind(&self) -> &'static str {
        let Self { api_key, password, oauth_client, signature, hmac_jwt, .. } = self;
        let kinds = [
            ("apiKey", api_key.is_some()),
            ("password", password.is_some()),
            ("oauthClient", oauth_client.is_some()),
            ("signature", signature.is_some()),
            ("hmacJwt", hmac_jwt.is_some()),
        ];
        kinds.into_iter().find(|(_, is)| *is).map_or("person", |(kind, _)| kind)
    }
}

/// A person whom a Federation vouches for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PersonCredential {
    /// The value that the policy's `signIn.credentials.user` must yield, for example an e-mail address.
    #[schemars(length(min = 1, max = 512))]
    pub user: String,
    /// The Federation that must vouch for the person. Unset takes every Federation of the policy: then make sure that
    /// they mean the same person by the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub federation_ref: Option<ObjectReference>,
}

/// A user name whose password is in the Secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PasswordCredential {
    /// The user name. Unset means the name of the Credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = "^[^:]+$"))]
    pub username: Option<String>,
}

/// The owner of a credential: exactly one of the members.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.user) != has(self.application)",
     "message": "owner must have exactly one of `user` and `application`"}]))]
pub struct Owner {
    /// A person, for example by e-mail address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub user: Option<String>,
    /// A program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub application: Option<String>,
}

/// The state of a Credential, as the operator reports it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CredentialStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The first characters of the key, to tell keys apart. Reveals nothing that helps guessing the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// The keys: those that work, and the last that do not any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub keys: Vec<KeyStatus>,
    /// The state of requests for a new key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<RotationStatus>,
    /// Standard conditions, all of positive polarity: Accepted, ResolvedRefs and their summary Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
}
