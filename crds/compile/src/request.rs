//! Requests for Credentials: what an answer is bound to, whether one can be fulfilled, and what is made for it.
//!
//! Who asked and who answered is data here. It is true where the guard of permissions was in force when it was written;
//! the operator makes sure of that before it calls [`made_credential`].

use idm_api::GROUP;
use idm_api::v1alpha1::{CredentialRequest, CredentialRequestSpec, Recipient, RequestDecision};
use idm_jose::{EncryptionKey, Jwk, JwkError, system_entropy};
use idm_permission::TEAM_LABEL;
use idm_types::{ApiKey, ContentEncryption, KeyManagement, Timestamp, hex};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// On a Credential that was made for a request: the hash that the answer named.
pub const REQUEST_HASH_ANNOTATION: &str = "identity-manager.io/request-hash";
/// On a Credential that was made for a request: who asked for it.
pub const REQUESTED_BY_ANNOTATION: &str = "identity-manager.io/requested-by";
/// On a Credential that was made for a request: who approved it.
pub const APPROVED_BY_ANNOTATION: &str = "identity-manager.io/approved-by";

/// A name is the value of a label, too.
const LONGEST_NAME: usize = 63;
/// Bits of a key that is made here.
const KEY_BITS: i64 = 256;

/// A fault of a request: the field, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestFault {
    /// The field.
    pub path: &'static str,
    /// The fault and its remedy.
    pub message: String,
}

/// The SHA-256 of what a request asks for, in hexadecimal: of the JSON object with `name`, `namespace`, `uid`, `team`
/// (empty for none) and `spec` without `approval` and `received`, with sorted members and no space (RFC 8785).
///
/// The uid is in it, so that no later request of the same name has the same hash.
pub fn request_hash(object: &Value) -> String {
    let metadata = &object["metadata"];
    let mut spec = object["spec"].clone();
    if let Some(spec) = spec.as_object_mut() {
        spec.remove("approval");
        spec.remove("received");
    }
    let team = metadata["labels"][TEAM_LABEL].as_str().unwrap_or_default();
    let asked = json!({
        "name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"], "team": team,
        "spec": spec,
    });
    let mut text = String::new();
    write_sorted(&asked, &mut text);
    hex(&Sha256::digest(text.as_bytes()))
}

/// JSON with sorted members. The names of members are ASCII, and there are no fractions.
fn write_sorted(value: &Value, out: &mut String) {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by(|a, b| a.0.cmp(b.0));
            out.push('{');
            for (number, (name, value)) in members.into_iter().enumerate() {
                out.push_str(if number == 0 { "" } else { "," });
                out.push_str(&Value::from(name.as_str()).to_string());
                out.push(':');
                write_sorted(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (number, item) in items.iter().enumerate() {
                out.push_str(if number == 0 { "" } else { "," });
                write_sorted(item, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

/// Whether a request can be fulfilled. `now` is left out where no time is known.
///
/// # Errors
/// The first fault.
pub fn check_request(name: &str, spec: &CredentialRequestSpec, now: Option<Timestamp>) -> Result<(), RequestFault> {
    let fault = |path, message: String| Err(RequestFault { path, message });
    if name.len() > LONGEST_NAME {
        return fault("metadata.name", format!("must have at most {LONGEST_NAME} characters"));
    }
    if spec.credential.api_key.is_none() {
        return fault("spec.credential", "must have `apiKey`".into());
    }
    if spec.credential.access.policies.is_none() {
        return fault("spec.credential.access.policies", "must name the policies that it is for".into());
    }
    let Some(expiry) = Timestamp::parse_rfc3339(&spec.credential.expire_time) else {
        return fault("spec.credential.expireTime", "must be a time in UTC such as 2027-01-01T00:00:00Z".into());
    };
    if now.is_some_and(|now| expiry <= now) {
        return fault("spec.credential.expireTime", "must lie in the future".into());
    }
    // A point that is not on its curve is found by its use.
    if let Err(why) = encrypted_to(&spec.recipient, b"") {
        return fault("spec.recipient.jwk", format!("must be a public key that can be encrypted to: {why}"));
    }
    Ok(())
}

/// Why nothing can be encrypted to a recipient.
#[derive(Debug, thiserror::Error)]
pub enum RecipientError {
    /// The key is not usable.
    #[error(transparent)]
    Key(#[from] JwkError),
    /// Others know the private part.
    #[error("it has its private part, which others can read now: make another one")]
    Private,
    /// It is of another curve.
    #[error("it must be of type EC with the curve P-256, or of type OKP with the curve X25519")]
    Curve,
    /// The encryption failed.
    #[error(transparent)]
    Encryption(#[from] idm_jose::JweError),
}

/// A text that only the recipient reads: a compact JWE with `ECDH-ES` and `A256GCM`. The random bits are those of the
/// crypto library.
///
/// # Errors
/// The key is broken, or there are no random bits.
pub fn encrypted_to(recipient: &Recipient, text: &[u8]) -> Result<String, RecipientError> {
    let jwk = Jwk::parse(recipient.jwk.as_bytes())?;
    if jwk.is_secret() {
        return Err(RecipientError::Private);
    }
    if !["EC P-256", "OKP X25519"].contains(&jwk.describe().as_str()) {
        return Err(RecipientError::Curve);
    }
    let key = EncryptionKey::from_jwk(&jwk, KeyManagement::EcdhEs)?;
    Ok(key.encrypt(ContentEncryption::A256Gcm, Map::new(), text, &mut system_entropy)?.compact())
}

/// The Secret with the hash of the key that is made for a request.
pub fn hash_secret_name(request: &str) -> String {
    format!("{request}-key-hash")
}

/// The SHA-256 of a key, in hexadecimal, as such a Secret holds it.
pub fn key_hash(key: &ApiKey) -> String {
    hex(&Sha256::digest(key.reveal().as_bytes()))
}

/// The Credential that an approved request gives; `None` where it is not approved, or not as `hash` says. It is owned
/// by the request, so it ends with it.
pub fn made_credential(request: &CredentialRequest, hash: &str, managed_by: &str) -> Option<Value> {
    let metadata = &request.metadata;
    let (name, uid) = (metadata.name.as_deref()?, metadata.uid.as_deref()?);
    let answer = request.spec.approval.as_ref()?;
    if answer.decision != RequestDecision::Approved
        || answer.hash != hash
        || answer.by.username == request.spec.requester.username
    {
        return None;
    }
    let wanted = &request.spec.credential;
    let mut labels: Map<String, Value> =
        wanted.labels.iter().flatten().map(|label| (label.name.clone(), label.value.clone().into())).collect();
    labels.insert("app.kubernetes.io/managed-by".into(), managed_by.into());
    let team = metadata.labels.as_ref().and_then(|labels| labels.get(TEAM_LABEL));
    labels.extend(team.map(|team| (TEAM_LABEL.to_owned(), team.clone().into())));
    let mut spec = json!({
        "owner": {"user": request.spec.requester.username},
        "apiKey": {"sha256": {"entropyBits": KEY_BITS}},
        "secretRef": {"name": hash_secret_name(name)},
        "access": wanted.access, "expireTime": wanted.expire_time,
    });
    if let Some(roles) = &wanted.roles {
        spec["roles"] = json!(roles);
    }
    Some(json!({
        "apiVersion": format!("{GROUP}/v1alpha1"), "kind": "Credential",
        "metadata": {
            "name": name, "namespace": metadata.namespace, "labels": labels,
            "annotations": {
                REQUEST_HASH_ANNOTATION: hash,
                REQUESTED_BY_ANNOTATION: request.spec.requester.username,
                APPROVED_BY_ANNOTATION: answer.by.username,
            },
            "ownerReferences": [{
                "apiVersion": format!("{GROUP}/v1alpha1"), "kind": "CredentialRequest", "name": name, "uid": uid,
                "controller": true,
            }],
        },
        "spec": spec,
    }))
}

#[cfg(test)]
mod tests;
