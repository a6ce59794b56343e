use idm_types::{Algorithm, ContentEncryption, KeyManagement, RuleName, Skew};
use serde::{Deserialize, Serialize};

use crate::{Expr, KeySource, MtlsMethod, SecretHandle};

/// One JOSE step of a policy: it opens or makes an object. Steps run in their order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoseStep {
    /// The name in audit records, in `explain` and in the variable `jose`.
    pub name: RuleName,
    /// The operation of the step.
    pub kind: JoseStepKind,
}

/// The operation of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum JoseStepKind {
    /// Decrypts and verifies a part of the request.
    Consume(Consume),
    /// Signs and encrypts a part of the request or response.
    Produce(Produce),
}

/// The place where content is found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Place {
    /// The body.
    Body,
    /// A header, by its lower-case name.
    Header(String),
    /// The value of an expression; a value that is not text is written as JSON.
    Value(Expr),
}

/// The place where content is put.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Destination {
    /// The content becomes the body.
    Body {
        /// The new `Content-Type`; `None` leaves it unchanged.
        content_type: Option<String>,
    },
    /// The content becomes a header, by its lower-case name.
    Header(String),
    /// The content is checked and then dropped.
    Nowhere,
}

/// Opens an object that a caller sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consume {
    /// The place of the object.
    pub from: Place,
    /// The JSON serialization instead of the compact one.
    pub json: bool,
    /// Decryption, which comes first.
    pub decrypt: Option<Decrypt>,
    /// Verification, which comes after decryption.
    pub verify: Option<Verify>,
    /// The destination of the plain payload.
    pub to: Destination,
}

/// The settings of a decryption.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decrypt {
    /// The secret keys: a JWKS or a JWK.
    pub keys: SecretHandle,
    /// Accepted key management algorithms. Never empty.
    pub algorithms: Vec<KeyManagement>,
    /// Accepted content encryption algorithms. Never empty.
    pub encryptions: Vec<ContentEncryption>,
}

/// The settings of a verification.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verify {
    /// The keys.
    pub keys: VerificationKeys,
    /// Accepted algorithms. Never empty.
    pub algorithms: Vec<Algorithm>,
    /// The signature travels in this header, apart from the payload.
    pub detached: Option<String>,
    /// The payload is a JWT and must have these claims.
    pub claims: Option<ExpectedClaims>,
}

/// Keys to verify with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum VerificationKeys {
    /// Published keys.
    Published(KeySource),
    /// Keys in a Secret, which may include HMAC keys.
    Secret(SecretHandle),
    /// The key of the certificate that the object brings, if the certificate satisfies these authorities and names.
    Certificates(Box<MtlsMethod>),
}

/// The claims that a JWT inside must have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedClaims {
    /// The exact `iss`.
    pub issuer: String,
    /// At least one must be in `aud`. Never empty.
    pub audiences: Vec<String>,
    /// Accepted `typ` values; see [`crate::Issuer::types`].
    pub types: Vec<String>,
    /// Tolerance for times.
    pub skew: Skew,
}

/// The message that a step works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// The request, on its way to the upstream.
    Request,
    /// The response, on its way to the caller.
    Response,
}

/// Signs and encrypts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Produce {
    /// The message.
    pub message: Message,
    /// The content that is signed or encrypted; `None`: claims alone.
    pub from: Option<Place>,
    /// Signing, which comes first.
    pub sign: Option<Sign>,
    /// Encryption, which comes after signing.
    pub encrypt: Option<Encrypt>,
    /// The destination of the object.
    pub to: Destination,
}

/// The settings of a signature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sign {
    /// The key.
    pub key: KeyChoice,
    /// The algorithm.
    pub algorithm: Algorithm,
    /// The serialization.
    pub form: SignedForm,
    /// The `typ` header parameter.
    pub typ: Option<String>,
    /// The `cty` header parameter.
    pub cty: Option<String>,
    /// The header parameters about the key's certificate.
    pub certificate: CertificateHeaders,
    /// The payload becomes a JWT with these claims.
    pub claims: Option<MadeClaims>,
}

/// Serializations of a signature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SignedForm {
    /// RFC 7515 §7.1.
    #[default]
    Compact,
    /// Compact without the payload (RFC 7515 appendix F).
    Detached,
    /// Flattened JSON (RFC 7515 §7.2.2).
    Json,
}

/// One key, or one of several that a value selects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum KeyChoice {
    /// The same key always.
    One(SigningKeyRef),
    /// The key whose name is the value of an expression, such as `identity.issuer`.
    By {
        /// The expression.
        value: Expr,
        /// The keys by value.
        keys: Vec<(String, SigningKeyRef)>,
    },
}

/// A private key, with its certificate chain where there is one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SigningKeyRef {
    /// The private key, as JWK or in PEM.
    pub key: SecretHandle,
    /// The certificates in base64 of DER, the key's own first.
    pub chain: Vec<String>,
}

/// The header parameters that describe the certificate (RFC 7515 §4.1.6 to §4.1.8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateHeaders {
    /// `x5t`: SHA-1.
    pub x5t: bool,
    /// `x5t#S256`.
    pub x5t_s256: bool,
    /// `x5c`: the whole chain.
    pub x5c: bool,
}

/// Claims of a JWT that is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MadeClaims {
    /// `iss`.
    pub issuer: Option<String>,
    /// `aud`: one as text, several as a list.
    pub audiences: Vec<String>,
    /// `sub`.
    pub subject: Option<Expr>,
    /// `exp`, this many seconds after `iat`.
    pub expires_after: Option<u64>,
    /// `exp` counts from now, and not from `iat` with its offset.
    pub expires_from_now: bool,
    /// `iat`, this many seconds from now.
    pub issued_at_offset: i64,
    /// A new random `jti`.
    pub id: bool,
    /// Further claims.
    pub custom: Vec<(String, Expr)>,
}

/// The settings of an encryption.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Encrypt {
    /// The recipient's key.
    pub key: EncryptionKeyRef,
    /// The key management algorithm.
    pub algorithm: KeyManagement,
    /// The content encryption algorithm.
    pub encryption: ContentEncryption,
    /// The `cty` header parameter; where the content is a signed JWT, it is `JWT`.
    pub cty: Option<String>,
    /// The JSON serialization instead of the compact one.
    pub json: bool,
}

/// The key of a recipient.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum EncryptionKeyRef {
    /// A public JWK, written in the policy.
    Public(String),
    /// A symmetric key, or a key pair, in a Secret.
    Secret(SecretHandle),
}
