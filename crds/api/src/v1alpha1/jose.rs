use idm_types::{Algorithm, ContentEncryption, KeyManagement, RuleName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{KeyReference, KeySources, TrustedCertificates};

/// One JOSE step: something is opened (`consume`) or made (`produce`). Exactly one of the two.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.consume) != has(self.produce)",
     "message": "jose step must have exactly one of `consume` and `produce`"}]))]
pub struct JoseStep {
    /// Name of the step in audit records; what it finds is `jose.NAME` in expressions.
    pub name: RuleName,
    /// Decrypt and verify a part of the request, before it is authorized.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consume: Option<JoseConsume>,
    /// Sign and encrypt a part of the request for the upstream, or of the response for the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub produce: Option<JoseProduce>,
}

/// The place where content is found: exactly one of the members.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "[has(self.body), has(self.header), has(self.value)].filter(is, is).size() == 1",
     "message": "set exactly one of `body`, `header`, `value`"}]))]
pub struct ContentSource {
    /// The body, which is held until it was checked (1 MiB at most): write `body: {}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<WholeBody>,
    /// The value of this header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[A-Za-z0-9-]+$"))]
    pub header: Option<String>,
    /// The value of a CEL expression; what is not text becomes JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub value: Option<String>,
}

/// The whole body: write `body: {}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WholeBody {}

/// The place where content is written: exactly one of the members.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.body) != has(self.header)",
     "message": "set exactly one of `body` and `header`"}]))]
pub struct ContentDestination {
    /// It becomes the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<NewBody>,
    /// It becomes this header. A header of that name from outside is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[A-Za-z0-9-]+$"))]
    pub header: Option<String>,
}

/// A body that replaces the one that was sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewBody {
    /// Its `Content-Type`. Unset leaves the one that was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 128))]
    pub content_type: Option<String>,
}

/// Serializations of JOSE objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Serialization {
    /// Parts between dots.
    Compact,
    /// JSON: flattened, or with several signatures or recipients.
    Json,
}

/// Opens what a caller sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.decrypt) || has(self.verify)",
     "message": "consume must `decrypt`, `verify` or both"}]))]
pub struct JoseConsume {
    /// The place of the object. A request without it is refused.
    pub from: ContentSource,
    /// Its serialization. Unset means `Compact`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serialization: Option<Serialization>,
    /// Decrypt it, first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decrypt: Option<JoseDecrypt>,
    /// Verify it, or what was encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<JoseVerify>,
    /// The place for the plain payload. Unset: it is checked, is `jose.NAME.claims` where it is JSON, and goes nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<ContentDestination>,
}

/// Settings of decryption. Algorithms and keys that are not named are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JoseDecrypt {
    /// The Secret with the private or symmetric keys as JWKS or JWK; the key is `jwks.json` unless named.
    pub secret_ref: KeyReference,
    /// Accepted key management algorithms. Password-based ones let a sender make the gateway work hard.
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub algorithms: Vec<KeyManagement>,
    /// Accepted content encryption algorithms.
    #[schemars(length(min = 1, max = 6), extend("x-kubernetes-list-type" = "set"))]
    pub encryptions: Vec<ContentEncryption>,
}

/// Settings of verification. Algorithms and keys that are not named are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.keys) != has(self.certificates)",
     "message": "verify must have exactly one of `keys` and `certificates`"}]))]
pub struct JoseVerify {
    /// The keys; in a Secret they may be symmetric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<KeySources>,
    /// The key is that of the certificate in the object's `x5c`, if its chain leads to one of these authorities and it
    /// has one of these names. A certificate that says what it may be used for must name client authentication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates: Option<TrustedCertificates>,
    /// Accepted algorithms.
    #[schemars(length(min = 1, max = 13), extend("x-kubernetes-list-type" = "set"))]
    pub algorithms: Vec<Algorithm>,
    /// The signature travels in this header and the payload apart from it (RFC 7515 appendix F).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[A-Za-z0-9-]+$"))]
    pub detached_header: Option<String>,
    /// The payload is a JWT and must say this. `issuer` is needed for `keys.discovery`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims: Option<ExpectedClaims>,
}

/// The claims that a JWT must have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExpectedClaims {
    /// The exact `iss`.
    #[schemars(length(min = 1, max = 2048))]
    pub issuer: String,
    /// Accepted audiences; one must be in `aud`.
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 512)), extend("x-kubernetes-list-type" = "set"))]
    pub audiences: Vec<String>,
    /// Accepted `typ` values. Unset accepts none, `JWT` and `at+jwt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8), inner(length(min = 1, max = 64)), extend("x-kubernetes-list-type" = "set"))]
    pub types: Option<Vec<String>>,
    /// The allowed clock skew, in seconds (0 to 300). Unset means 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 300))]
    pub clock_skew_seconds: Option<i64>,
}

/// Which message a step works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum JoseMessage {
    /// The request, on its way to the upstream.
    Request,
    /// The response, on its way to the caller; it is held as a whole (1 MiB at most).
    Response,
}

/// Makes a signed or encrypted object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.sign) || has(self.encrypt)", "message": "produce must `sign`, `encrypt` or both"},
    {"rule": "has(self.from) || (has(self.sign) && has(self.sign.claims))",
     "message": "produce needs `from`, unless `sign.claims` make the whole payload"}]))]
pub struct JoseProduce {
    /// The message that changes. Unset means `Request`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<JoseMessage>,
    /// The content that is signed or encrypted. Unset: the claims alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<ContentSource>,
    /// Sign it, first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign: Option<JoseSign>,
    /// Encrypt it, or the signed object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encrypt: Option<JoseEncrypt>,
    /// The place for the object.
    pub to: ContentDestination,
}

/// Settings of signing: with `keyRef`, or with one of `keys` that `keyFor` chooses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.keyRef) != has(self.keys)", "message": "sign must have exactly one of `keyRef` and `keys`"},
    {"rule": "has(self.keys) == has(self.keyFor)", "message": "`keys` and `keyFor` belong together"}]))]
pub struct JoseSign {
    /// The Secret with the private key as JWK or in PEM, in its key `key` unless named; its certificate chain,
    /// where one is wanted, in `tls.crt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_ref: Option<KeyReference>,
    /// A CEL expression whose value chooses among `keys`, for example `identity.issuer`. A value without a key refuses
    /// the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub key_for: Option<String>,
    /// The keys that `keyFor` chooses from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["value"]))]
    pub keys: Option<Vec<ChosenKey>>,
    /// The algorithm.
    pub algorithm: Algorithm,
    /// Its serialization. Unset means `Compact`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub form: Option<SignedForm>,
    /// The `typ` header parameter. Unset means `JWT` with `claims`, else none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub typ: Option<String>,
    /// The `cty` header parameter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub cty: Option<String>,
    /// Header parameters about the key's certificate. Unset means none; `kid` is there whenever the key has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 3), extend("x-kubernetes-list-type" = "set"))]
    pub certificate: Option<Vec<CertificateHeader>>,
    /// Make a JWT: these claims over the payload's own members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims: Option<MadeClaims>,
}

/// A key and the value that chooses it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChosenKey {
    /// The value.
    #[schemars(length(min = 1, max = 2048))]
    pub value: String,
    /// The Secret with the key; see `keyRef`.
    pub key_ref: KeyReference,
}

/// Serializations of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SignedForm {
    /// Three parts between dots.
    Compact,
    /// Compact without the payload, which travels apart.
    Detached,
    /// Flattened JSON.
    Json,
}

/// Header parameters about a certificate (RFC 7515 §4.1.6 to §4.1.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CertificateHeader {
    /// The chain itself.
    #[serde(rename = "x5c")]
    X5c,
    /// Its SHA-1 thumbprint.
    #[serde(rename = "x5t")]
    X5t,
    /// Its SHA-256 thumbprint.
    #[serde(rename = "x5t#S256")]
    X5tS256,
}

/// Claims of a JWT that is made; `iat` is always there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MadeClaims {
    /// `iss`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub issuer: Option<String>,
    /// `aud`: one becomes text, several a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 512)), extend("x-kubernetes-list-type" = "set"))]
    pub audiences: Option<Vec<String>>,
    /// `sub`, a CEL expression such as `identity.id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub subject: Option<String>,
    /// `exp`, this many seconds after `iat`. Unset makes an object that never expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31536000))]
    pub expire_after_seconds: Option<i64>,
    /// `exp` counts from now instead of from `iat` with its offset. Unset means false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_from_now: Option<bool>,
    /// `iat` lies this many seconds from now, for receivers whose clocks are late. Unset means 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -3600, max = 3600))]
    pub issued_at_offset_seconds: Option<i64>,
    /// Add a `jti` that is never used twice. Unset means false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<bool>,
    /// Further claims, by CEL expressions. A missing value adds no claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub custom: Option<Vec<CustomClaim>>,
}

/// A claim by expression.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "!(self.name in ['iss', 'aud', 'sub', 'exp', 'nbf', 'iat', 'jti'])",
     "message": "a custom claim must not have the name of a registered one: use the field for it"}]))]
pub struct CustomClaim {
    /// Name of the claim.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
    /// A CEL expression, for example `identity.roles` or `token.tenant`.
    #[schemars(length(min = 1, max = 1024))]
    pub value: String,
}

/// Settings of encryption: for a public key written here, or with a key in a Secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.jwk) != has(self.keyRef)", "message": "encrypt must have exactly one of `jwk` and `keyRef`"}]))]
pub struct JoseEncrypt {
    /// The recipient's public key as JWK.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 8192))]
    pub jwk: Option<String>,
    /// The Secret with a symmetric key, or with a key pair, as JWK or in PEM; the key is `key` unless named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_ref: Option<KeyReference>,
    /// The key management algorithm (`alg`): the way in which the content key travels.
    pub algorithm: KeyManagement,
    /// The content encryption algorithm (`enc`).
    pub encryption: ContentEncryption,
    /// The `cty` header parameter. Unset means `JWT` for a signed JWT, else none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub cty: Option<String>,
    /// Its serialization. Unset means `Compact`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serialization: Option<Serialization>,
}
