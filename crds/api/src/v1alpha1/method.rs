//! One authentication method of a policy, and the list of the kinds that there are.

use idm_types::MethodName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    AnonymousMethod, ApiKeyMethod, Base64Method, BasicMethod, DigestMethod, HmacJwtMethod, IntrospectionMethod,
    JwtMethod, MtlsMethod, References, ReferredNames, SignInMethod, SignatureMethod,
};

/// One authentication method: a name and exactly one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": exactly_one(), "message": Method::exactly_one_kind()}]))]
pub struct Method {
    /// Name of the method in audit records, metrics and `idm explain`.
    pub name: MethodName,
    /// Accept signed JWTs (RFC 7519).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtMethod>,
    /// Accept JWTs that callers sign themselves, with secrets of their Credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hmac_jwt: Option<HmacJwtMethod>,
    /// Accept opaque tokens, about which their issuer is asked (RFC 7662).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub introspection: Option<IntrospectionMethod>,
    /// Accept API keys of Credentials in this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<ApiKeyMethod>,
    /// Accept client certificates of HTTPS connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtls: Option<MtlsMethod>,
    /// Accept user names and passwords of Credentials with the `Basic` scheme (RFC 7617).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic: Option<BasicMethod>,
    /// Accept passwords of Credentials with the `Digest` scheme (RFC 7616), which proves a password without sending it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<DigestMethod>,
    /// Accept a header or cookie that holds base64 of a user name and password, or of an API key, in a layout of your
    /// own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<Base64Method>,
    /// Accept requests that are signed (RFC 9421) with keys of Credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<SignatureMethod>,
    /// Let people sign in with their browser.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign_in: Option<SignInMethod>,
    /// Let callers without any credential in. A credential that is presented is still checked by the other methods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anonymous: Option<AnonymousMethod>,
}

/// Says once which kinds there are: field, name on the wire, variant, type.
macro_rules! kinds {
    ($($field:ident $name:literal $variant:ident $type:ident;)*) => {
        /// The kind of a method, with its settings.
        #[derive(Clone, Copy, Debug)]
        pub enum MethodKind<'m> {
            $(#[doc = concat!("`", $name, "`.")] $variant(&'m $type),)*
        }

        impl Method {
            /// The names of the kinds, as they are written.
            pub const KINDS: &'static [&'static str] = &[$($name),*];

            /// Its kind; `None` unless exactly one is written.
            pub fn kind(&self) -> Option<MethodKind<'_>> {
                let Self { name: _, $($field),* } = self;
                let mut kinds = [$($field.as_ref().map(MethodKind::$variant)),*].into_iter().flatten();
                match (kinds.next(), kinds.next()) {
                    (Some(kind), None) => Some(kind),
                    _ => None,
                }
            }
        }

        impl References for Method {
            fn refer<'a>(&'a self, names: &mut ReferredNames<'a>) {
                let Self { name: _, $($field),* } = self;
                $($field.refer(names);)*
            }
        }
    };
}

kinds! {
    jwt "jwt" Jwt JwtMethod;
    hmac_jwt "hmacJwt" HmacJwt HmacJwtMethod;
    introspection "introspection" Introspection IntrospectionMethod;
    api_key "apiKey" ApiKey ApiKeyMethod;
    mtls "mtls" Mtls MtlsMethod;
    basic "basic" Basic BasicMethod;
    digest "digest" Digest DigestMethod;
    base64 "base64" Base64 Base64Method;
    signature "signature" Signature SignatureMethod;
    sign_in "signIn" SignIn SignInMethod;
    anonymous "anonymous" Anonymous AnonymousMethod;
}

impl Method {
    /// The sentence for a method that is of no kind, or of several.
    pub fn exactly_one_kind() -> String {
        let kinds: Vec<_> = Self::KINDS.iter().map(|kind| format!("`{kind}`")).collect();
        format!("method must have exactly one of {}", kinds.join(", "))
    }
}

/// The same as a rule of the API server.
fn exactly_one() -> String {
    let kinds: Vec<_> = Method::KINDS.iter().map(|kind| format!("has(self.{kind})")).collect();
    format!("[{}].filter(is, is).size() == 1", kinds.join(", "))
}
