//! The methods of authentication, one file each. A new one is a file here and a line in [`arm`].

pub(crate) mod api_key;
pub(crate) mod basic;
pub(crate) mod bearer;
mod digest;
mod hmac_jwt;
mod introspection;
pub(crate) mod jwt;
pub(crate) mod mtls;
pub(crate) mod sign_in;
mod signature;

use std::sync::Arc;

use idm_plan::{MethodKind, Policy, Source};

use crate::method::Method;
use crate::{PolicyError, Resources};

pub(crate) use digest::read_any as read_digest;

/// A method that is armed.
pub(crate) enum Armed {
    /// It looks for credentials.
    Method(Arc<dyn Method>),
    /// The same, for people with a browser: its endpoints need it as what it is.
    SignIn(Arc<sign_in::ArmedSignIn>),
    /// A caller without any credential is let in.
    Anonymous,
}

/// Arms one method of a policy.
pub(crate) fn arm(policy: &Policy, kind: &MethodKind, resources: &mut Resources<'_>) -> Result<Armed, PolicyError> {
    let secret = |problem| PolicyError::Secret { policy: policy.key.to_string(), problem };
    let http = resources.trust.http.clone();
    let method: Arc<dyn Method> = match kind {
        MethodKind::Jwt(method) => Arc::new(jwt::ArmedJwt::arm(policy, method, &mut resources.trust)?),
        MethodKind::Introspection(method) => {
            let armed = introspection::ArmedIntrospection::new(method, resources.trust.secrets, http);
            Arc::new(armed.map_err(secret)?)
        }
        MethodKind::Mtls(method) => Arc::new(mtls::ArmedMtls::new(method).map_err(secret)?),
        MethodKind::ApiKey(method) => Arc::new(api_key::ApiKeys::new(method)),
        MethodKind::Basic(method) => {
            Arc::new(basic::Basic::arm(method, &policy.key.namespace, resources).map_err(secret)?)
        }
        MethodKind::Base64(method) => {
            Arc::new(basic::Base64::arm(method, &policy.key.namespace, resources).map_err(secret)?)
        }
        MethodKind::Digest(method) => {
            Arc::new(digest::ArmedDigest::arm(method, &policy.key.namespace, resources).map_err(secret)?)
        }
        MethodKind::HmacJwt(method) => Arc::new(hmac_jwt::ArmedHmacJwt::new(method)),
        MethodKind::Signature(method) => Arc::new(signature::ArmedSignature::new(method)),
        MethodKind::SignIn(method) => {
            let armed = sign_in::ArmedSignIn::arm(method, &policy.key.namespace, resources).map_err(secret)?;
            return Ok(Armed::SignIn(Arc::new(armed)));
        }
        MethodKind::Anonymous => return Ok(Armed::Anonymous),
    };
    Ok(Armed::Method(method))
}

/// The place of a scheme in `Authorization`.
fn scheme(name: &str) -> [Source; 1] {
    [Source::Header { name: "authorization".into(), scheme: Some(name.into()) }]
}
