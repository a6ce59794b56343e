//! Drafts that people hand in, read and checked in the same way wherever the objects are.

use idm_compile::yaml::parse_document;
use serde_json::{Value, json};

use super::Draft;
use super::folder::documents::documents;
use crate::credential::{CredentialError, is_credential_name};
use crate::failure::{Code, Failure};
use crate::wire::NewCredential;

/// A field that must be this.
pub(super) fn wrong(field: &str, wanted: &str) -> Failure {
    Failure::invalid(format!("`{field}` must be `{wanted}`")).at(field)
}

/// The object of a draft, with its text. `unset` is the namespace of a document that names none.
///
/// # Errors
/// It is no single document of the object that the draft is for.
pub(super) fn content_of<'d>(draft: &'d Draft, unset: &str) -> Result<(Value, &'d str), Failure> {
    let Draft { object, yaml, version: _ } = draft;
    object.kind.editable()?;
    let spans = documents(yaml);
    let [span] = &spans[..] else {
        return Err(Failure::invalid("give one document, without `---` lines between several").at("yaml"));
    };
    let document = yaml.get(span.bytes.clone()).unwrap_or_default();
    let value = parse_document(document)
        .map_err(|error| Failure::invalid(format!("line {}: {}", error.line, error.message)).at("yaml"))?;
    let own = value["metadata"]["namespace"].as_str().filter(|own| !own.is_empty()).unwrap_or(unset);
    let parts = [
        ("apiVersion", value["apiVersion"].as_str(), "identity-manager.io/v1alpha1"),
        ("kind", value["kind"].as_str(), object.kind.name()),
        ("metadata.name", value["metadata"]["name"].as_str(), &object.name),
        ("metadata.namespace", Some(own), &object.namespace),
    ];
    for (field, given, wanted) in parts {
        if given != Some(wanted) {
            return Err(wrong(field, wanted));
        }
    }
    Ok((value, document))
}

/// Name and spec of a new Credential.
///
/// # Errors
/// The name is none.
pub(super) fn credential_spec(new: NewCredential) -> Result<(String, Value), Failure> {
    let NewCredential { name, owner, expire_time, roles } = new;
    if !is_credential_name(&name) {
        let message = "`name` must be lower-case letters, digits, `-` and `.`, at most 240 of them";
        return Err(Failure::invalid(message).at("name"));
    }
    let mut spec = json!({"secretRef": {"name": format!("{name}-key")}});
    if let Some(owner) = owner {
        let (whose, owner) = match owner.split_once(':') {
            Some((whose @ ("user" | "application"), owner)) => (whose.to_owned(), owner.to_owned()),
            _ => ("application".to_owned(), owner),
        };
        spec["owner"] = json!({whose: owner});
    }
    if !roles.is_empty() {
        spec["roles"] = roles.into();
    }
    if let Some(time) = expire_time {
        spec["expireTime"] = time.into();
    }
    Ok((name, spec))
}

/// Why something was not done with a Credential, as a failure of the API.
pub(super) fn failed(error: CredentialError) -> Failure {
    let code = match &error {
        CredentialError::NotFound(_) => Code::NotFound,
        CredentialError::Exists(_) => Code::Conflict,
        CredentialError::Refused(_) | CredentialError::Folder(_) => Code::Refused,
        CredentialError::Io { .. }
        | CredentialError::Api { .. }
        | CredentialError::NotConnected(_)
        | CredentialError::NoRandom => Code::Unavailable,
    };
    Failure::new(code, error.to_string())
}
