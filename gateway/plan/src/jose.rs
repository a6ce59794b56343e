use idm_types::{Algorithm, ContentEncryption, KeyManagement, RuleName, Skew};
use serde::{Deserialize, Serialize};

use crate::{Expr, KeySource, MtlsMethod, SecretHandle};

/// One JOSE step of a policy: something is opened or made. The steps run in their order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoseStep {
    /// What audit, `explain` and the variable `jose` call it.
    pub name: RuleName,
    /// What is done.
    pub kind: JoseStepKind,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum JoseStepKind {
    /// Decrypts and verifies a part of the request.
    Consume(Consume),
    /// Signs and encrypts a part of the request or response.
    Produce(Produce),
}

/// Where content is found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Place {
    /// The body.
    Body,
    /// A header, by its lower-case name.
    Header(String),
    /// The value of an expression; what is not text is taken as JSON.
    Value(Expr),
}

/// Where content goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Destination {
    /// It becomes the body.
    Body {
        /// The new `Content-Type`; `None` leaves it.
        content_type: Option<String>,
    },
    /// It becomes a header, by its lower-case name.
    Header(String),
    /// It is looked at and goes nowhere.
    Nowhere,
}

/// Opens what a caller sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consume {
    /// Where the object is.
    pub from: Place,
    /// The JSON serialization instead of the compact one.
    pub json: bool,
    /// Decrypt first.
    pub decrypt: Option<Decrypt>,
    /// Then verify.
    pub verify: Option<Verify>,
    /// Where the plain payload goes.
    pub to: Destination,
}

/// How to decrypt.
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

/// How to verify.
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
    /// Keys in a Secret, HMAC keys among them.
    Secret(SecretHandle),
    /// The key of the certificate that the object brings, if these authorities and names are its.
    Certificates(Box<MtlsMethod>),
}

/// What a JWT inside must say.
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

/// Which message a step works on.
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
    /// Which message.
    pub message: Message,
    /// What is signed or encrypted; `None`: claims alone.
    pub from: Option<Place>,
    /// Sign first.
    pub sign: Option<Sign>,
    /// Then encrypt.
    pub encrypt: Option<Encrypt>,
    /// Where the object goes.
    pub to: Destination,
}

/// How to sign.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sign {
    /// With which key.
    pub key: KeyChoice,
    /// The algorithm.
    pub algorithm: Algorithm,
    /// The serialization.
    pub form: SignedForm,
    /// The `typ` header parameter.
    pub typ: Option<String>,
    /// The `cty` header parameter.
    pub cty: Option<String>,
    /// What the header says of the key's certificate.
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

/// One key, or one of several by a value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum KeyChoice {
    /// Always this one.
    One(SigningKeyRef),
    /// The one whose name is the value of an expression, such as `identity.issuer`.
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

/// Which header parameters speak of the certificate (RFC 7515 §4.1.6 to §4.1.8).
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
    /// A fresh `jti`.
    pub id: bool,
    /// Further claims.
    pub custom: Vec<(String, Expr)>,
}

/// How to encrypt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Encrypt {
    /// The recipient's key.
    pub key: EncryptionKeyRef,
    /// The key management algorithm.
    pub algorithm: KeyManagement,
    /// The content encryption algorithm.
    pub encryption: ContentEncryption,
    /// The `cty` header parameter; a signed content gets `JWT` where it is one.
    pub cty: Option<String>,
    /// The JSON serialization instead of the compact one.
    pub json: bool,
}

/// The key of a recipient.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum EncryptionKeyRef {
    /// A public JWK, written down.
    Public(String),
    /// A symmetric key, or a key pair, in a Secret.
    Secret(SecretHandle),
}
