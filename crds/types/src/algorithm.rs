use std::fmt;

use serde::{Deserialize, Serialize};

/// Declares a closed set of registered algorithm names (RFC 7518 §7.1, RFC 8037).
macro_rules! names {
    ($(#[$doc:meta])* $enum:ident { $($(#[$variant_doc:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
            schemars::JsonSchema)]
        #[allow(missing_docs)] // the names are the RFC's
        pub enum $enum { $($(#[$variant_doc])* #[serde(rename = $name)] $variant,)* }

        impl $enum {
            /// Every one.
            pub const ALL: &'static [$enum] = &[$($enum::$variant,)*];

            /// The registered name.
            pub const fn name(self) -> &'static str {
                match self { $($enum::$variant => $name,)* }
            }

            /// The one with this name; case matters (RFC 7515 §4.1.1).
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.name() == name)
            }
        }

        impl fmt::Display for $enum {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

names! {
    /// JWS algorithms (RFC 7518 §3, RFC 8037). `none` is not one.
    Algorithm {
        RS256 = "RS256",
        RS384 = "RS384",
        RS512 = "RS512",
        PS256 = "PS256",
        PS384 = "PS384",
        PS512 = "PS512",
        ES256 = "ES256",
        ES384 = "ES384",
        ES512 = "ES512",
        EdDSA = "EdDSA",
        HS256 = "HS256",
        HS384 = "HS384",
        HS512 = "HS512",
    }
}

impl Algorithm {
    /// Whether signer and verifier share one secret key, so that whoever verifies can also sign.
    pub const fn is_symmetric(self) -> bool {
        matches!(self, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512)
    }
}

names! {
    /// JWE key management algorithms (RFC 7518 §4). `RSA1_5` is not one: its padding tells attackers too much.
    KeyManagement {
        RsaOaep = "RSA-OAEP",
        RsaOaep256 = "RSA-OAEP-256",
        EcdhEs = "ECDH-ES",
        EcdhEsA128Kw = "ECDH-ES+A128KW",
        EcdhEsA192Kw = "ECDH-ES+A192KW",
        EcdhEsA256Kw = "ECDH-ES+A256KW",
        A128Kw = "A128KW",
        A192Kw = "A192KW",
        A256Kw = "A256KW",
        A128GcmKw = "A128GCMKW",
        A192GcmKw = "A192GCMKW",
        A256GcmKw = "A256GCMKW",
        Dir = "dir",
        Pbes2Hs256A128Kw = "PBES2-HS256+A128KW",
        Pbes2Hs384A192Kw = "PBES2-HS384+A192KW",
        Pbes2Hs512A256Kw = "PBES2-HS512+A256KW",
    }
}

impl KeyManagement {
    /// Whether the key is made of a password, which costs whoever decrypts as much work as the sender likes.
    pub const fn is_password_based(self) -> bool {
        matches!(
            self,
            KeyManagement::Pbes2Hs256A128Kw | KeyManagement::Pbes2Hs384A192Kw | KeyManagement::Pbes2Hs512A256Kw
        )
    }
}

names! {
    /// JWE content encryption algorithms (RFC 7518 §5).
    ContentEncryption {
        A128CbcHs256 = "A128CBC-HS256",
        A192CbcHs384 = "A192CBC-HS384",
        A256CbcHs512 = "A256CBC-HS512",
        A128Gcm = "A128GCM",
        A192Gcm = "A192GCM",
        A256Gcm = "A256GCM",
    }
}

impl ContentEncryption {
    /// The size of the content encryption key in bytes.
    pub const fn key_bytes(self) -> usize {
        match self {
            ContentEncryption::A128Gcm => 16,
            ContentEncryption::A192Gcm => 24,
            ContentEncryption::A256Gcm | ContentEncryption::A128CbcHs256 => 32,
            ContentEncryption::A192CbcHs384 => 48,
            ContentEncryption::A256CbcHs512 => 64,
        }
    }

    /// The size of the initialization vector in bytes.
    pub const fn iv_bytes(self) -> usize {
        match self {
            ContentEncryption::A128Gcm | ContentEncryption::A192Gcm | ContentEncryption::A256Gcm => 12,
            _ => 16,
        }
    }
}
