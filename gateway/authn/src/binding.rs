//! Tokens that are valid only together with a key: DPoP (RFC 9449) and certificates (RFC 8705 §3).

use aws_lc_rs::digest;
use idm_jose::{Proof, to_base64url};
use idm_plan::Confirmation;
use idm_request::{Binding, Identity, RequestView};
use idm_store::Key;
use idm_types::{Reason, Refusal, Timestamp};

use crate::Memory;
use crate::method::{MethodContext, Recheck};

/// The greatest age of a proof, and the greatest lead of its maker's clock, in seconds (RFC 9449 §11.1).
const MAX_AGE: u64 = 60;
const MAX_AHEAD: u64 = 10;

/// Checks that the sender of the token also holds the key that it is bound to. A bound token is never accepted without
/// its key, whatever the policy says; the policy may demand that tokens are bound.
pub(crate) fn check<'a>(
    confirmation: Confirmation,
    identity: &'a Identity,
    token: &'a str,
    scheme_is_dpop: bool,
    context: MethodContext<'a>,
) -> Recheck<'a> {
    let MethodContext { view, memory, now, .. } = context;
    match wanted_proof(confirmation, identity, scheme_is_dpop, view) {
        Ok(Some(jkt)) => Recheck::Wait(Box::pin(async move {
            proof(Some(jkt), Some(token), view, memory, now).await?;
            certificate(confirmation, identity, view)
        })),
        Ok(None) => Recheck::Done(Ok(())),
        Err(refusal) => Recheck::Done(Err(refusal)),
    }
}

/// The same for a policy in shadow: whether the proof was used before is not asked, because the policy that let the
/// request in has used it up.
pub(crate) fn judge(
    confirmation: Confirmation,
    identity: &Identity,
    token: &str,
    scheme_is_dpop: bool,
    context: MethodContext<'_>,
) -> Result<(), Refusal> {
    let MethodContext { view, now, .. } = context;
    if let Some(jkt) = wanted_proof(confirmation, identity, scheme_is_dpop, view)? {
        read_proof(Some(jkt), Some(token), view, now)?;
        certificate(confirmation, identity, view)?;
    }
    Ok(())
}

/// The thumbprint of the key whose proof the token needs; `None` where it needs none and everything else is right.
fn wanted_proof<'i>(
    confirmation: Confirmation,
    identity: &'i Identity,
    scheme_is_dpop: bool,
    view: RequestView<'_>,
) -> Result<Option<&'i str>, Refusal> {
    let not_bound = |why: &str| Err(Refusal::new(Reason::TokenNotBound, why));
    let Binding { jkt, x5t: _, other } = &identity.binding;
    if *other {
        return not_bound("the token is bound in a way that is not known here");
    }
    match (jkt, scheme_is_dpop) {
        (Some(jkt), true) => Ok(Some(jkt)),
        (Some(_), false) => not_bound("the token is bound to a DPoP key and was sent with another scheme"),
        (None, true) => not_bound("the token is not bound to a DPoP key"),
        (None, false) if confirmation.dpop => not_bound("the policy wants tokens that are bound to a DPoP key"),
        (None, false) => certificate(confirmation, identity, view).map(|()| None),
    }
}

/// RFC 8705 §3: a token that is bound to a certificate is accepted only on a connection with this certificate.
fn certificate(confirmation: Confirmation, identity: &Identity, view: RequestView<'_>) -> Result<(), Refusal> {
    let not_bound = |why: &str| Err(Refusal::new(Reason::TokenNotBound, why));
    match (&identity.binding.x5t, view.certificate) {
        (Some(expected), Some(certificate)) if *expected == certificate.thumbprint => Ok(()),
        (Some(_), Some(_)) => not_bound("the token is bound to another certificate"),
        (Some(_), None) => not_bound("the token is bound to a certificate, and the connection has none"),
        (None, _) if confirmation.certificate => {
            not_bound("the policy wants tokens that are bound to the client's certificate")
        }
        (None, _) => Ok(()),
    }
}

/// RFC 9449 §4.3: checks the proof of a request, made with the key of this thumbprint and for this token, where they
/// are given. Returns the thumbprint of the proof's key.
pub(crate) async fn proof(
    jkt: Option<&str>,
    token: Option<&str>,
    view: RequestView<'_>,
    memory: &Memory,
    now: Timestamp,
) -> Result<String, Refusal> {
    let (thumbprint, used) = read_proof(jkt, token, view, now)?;
    match memory.store.claim(&used, (MAX_AGE + MAX_AHEAD + 1) * 1000, now).await {
        Ok(true) => Ok(thumbprint),
        Ok(false) => Err(Refusal::new(Reason::InvalidProof, "the proof was used before")),
        Err(error) => Err(Refusal::new(Reason::StoreUnavailable, error.to_string())),
    }
}

/// Checks a proof but for its being used once. Returns the thumbprint of its key, and the name under which it is used
/// up.
fn read_proof(
    jkt: Option<&str>,
    token: Option<&str>,
    view: RequestView<'_>,
    now: Timestamp,
) -> Result<(String, Key), Refusal> {
    let invalid = |why: &str| Refusal::new(Reason::InvalidProof, why.to_owned());
    let mut proofs = view.headers.get_all("dpop").iter();
    let text = match (proofs.next().map(http::HeaderValue::to_str), proofs.next()) {
        (Some(Ok(text)), None) => text,
        (None, _) => return Err(invalid("there is no DPoP header")),
        _ => return Err(invalid("there must be exactly one readable DPoP header")),
    };
    let Proof { claims, thumbprint } =
        Proof::verify(text).map_err(|error| Refusal::new(Reason::InvalidProof, error.to_string()))?;
    if jkt.is_some_and(|jkt| thumbprint != jkt) {
        return Err(invalid("the proof is made with another key than the token is bound to"));
    }
    if claims.text("htm") != Some(view.method) {
        return Err(invalid("`htm` is not the method of the request"));
    }
    if !claims.text("htu").is_some_and(|htu| is_target(htu, view)) {
        return Err(invalid("`htu` is not the URI of the request"));
    }
    let issued = claims.date("iat").map_err(|why| invalid(&format!("`iat` {why}")))?;
    let issued = issued.ok_or_else(|| invalid("`iat` is absent"))?;
    if issued > now.seconds() + MAX_AHEAD || issued + MAX_AGE < now.seconds() {
        return Err(invalid("the proof is too old, or from the future"));
    }
    if let Some(token) = token {
        let expected = to_base64url(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
        if claims.text("ath") != Some(expected.as_str()) {
            return Err(invalid("`ath` is not the hash of the token"));
        }
    }
    let id =
        claims.text("jti").filter(|id| !id.is_empty() && id.len() <= 256).ok_or_else(|| invalid("`jti` is missing"))?;
    let used = Key::of(&["dpop", &thumbprint, id]);
    Ok((thumbprint, used))
}

/// Host and path must agree (RFC 9449 §4.3 step 9). The scheme is left out: TLS may end in front of the gateway.
fn is_target(htu: &str, view: RequestView<'_>) -> bool {
    let Ok(uri) = htu.parse::<http::Uri>() else { return false };
    let scheme = uri.scheme_str().is_some_and(|scheme| scheme == "https" || scheme == "http");
    let host = uri.host().map(|host| host.trim_end_matches('.').to_ascii_lowercase());
    scheme
        && host.as_deref() == Some(view.host)
        && uri.query().is_none()
        && idm_plan::read_path(uri.path()).is_ok_and(|path| path.decided() == view.path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn htu_is_compared_by_host_and_path() {
        let headers = http::HeaderMap::new();
        let view = RequestView {
            headers: &headers,
            query: Some("a=b"),
            method: "GET",
            host: "api.example",
            authority: "api.example",
            secure: true,
            path: "/orders",
            target: "/orders?a=b",
            forwarded: Default::default(),
            address: [192, 0, 2, 1].into(),
            body: None,
            certificate: None,
        };
        for good in ["https://api.example/orders", "http://API.example:8443/orders", "https://api.example/%6frders"] {
            assert!(is_target(good, view), "{good}");
        }
        for wrong in [
            "https://evil.example/orders",
            "https://api.example/",
            "https://api.example/orders/",
            "/orders",
            "ftp://api.example/orders",
            "https://api.example/orders?a=b",
        ] {
            assert!(!is_target(wrong, view), "{wrong}");
        }
    }
}
