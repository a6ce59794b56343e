//! Keys of steps, from Secrets and from issuers.

use std::sync::Arc;

use idm_jose::{Jwk, KeySet, private_key};
use idm_plan::{SecretHandle, Secrets, VerificationKeys};
use idm_trust::{IssuerKeys, Signers, Trust};
use idm_types::Algorithm;

/// One private key: a JWK, or PEM.
pub(crate) fn private(secrets: &Secrets, handle: &SecretHandle) -> Result<Jwk, String> {
    private_key(secrets.text(handle)?)
        .ok_or_else(|| format!("the secret `{}` is neither a JWK nor a private key in PEM", handle.0))
}

/// The keys that verify signatures.
pub(crate) enum Verifiers {
    /// Keys that are known in advance.
    Keys(Arc<IssuerKeys>),
    /// Keys of certificates in the objects.
    Certificates(Box<Signers>),
}

/// Live keys to verify with.
pub(crate) fn verification(
    keys: &VerificationKeys,
    algorithms: &[Algorithm],
    trust: &mut Trust<'_>,
) -> Result<Verifiers, String> {
    let keys = match keys {
        VerificationKeys::Certificates(trusted) => {
            return Ok(Verifiers::Certificates(Box::new(Signers::new(trusted)?)));
        }
        VerificationKeys::Published(source) => trust.keys.of(source, algorithms).map_err(|error| error.to_string()),
        VerificationKeys::Secret(handle) => {
            let text = trust.secrets.text(handle)?;
            KeySet::parse_secret(text.as_bytes(), algorithms).map(IssuerKeys::fixed).map_err(|error| error.to_string())
        }
    };
    keys.map(Verifiers::Keys)
}
