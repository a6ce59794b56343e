//! Logins that are tried at a directory, and documents in which providers describe themselves.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A login that is tried. Nothing of it is logged or kept, and no answer has the password.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TryLogin {
    /// The user name.
    pub(crate) username: String,
    /// The password, which the directory gets once.
    pub(crate) password: String,
}

/// The course of a tried login.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "TriedLogin")]
pub(crate) struct TriedLoginView {
    /// `Verified`, `Refused`, or `Unknown` where the directory could not be asked.
    pub(crate) outcome: &'static str,
    /// The steps, in their order.
    pub(crate) steps: Vec<String>,
    /// The reason of a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<&'static str>,
    /// The facts behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<String>,
    /// Its remedy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fix: Option<&'static str>,
    /// The person, where the password is right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) person: Option<TriedPersonView>,
}

/// A person of a directory.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "TriedPerson")]
pub(crate) struct TriedPersonView {
    /// The claims, as `token` in expressions.
    pub(crate) claims: Map<String, Value>,
    /// The roles that the role mappings give.
    pub(crate) roles: Vec<String>,
    /// The groups.
    pub(crate) groups: Vec<TriedGroupView>,
    /// Groups that role mappings name, and that the person is not in.
    pub(crate) unmatched: Vec<String>,
    /// The role that a first login in a cluster would give; unset where it makes nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) provisions: Option<String>,
}

/// A group of a person.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "TriedGroup")]
pub(crate) struct TriedGroupView {
    /// Its short name.
    pub(crate) name: String,
    /// Its distinguished name, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dn: Option<String>,
    /// The names by which role mappings mean it.
    pub(crate) mapped_by: Vec<String>,
}

/// A document in which a provider describes itself. Nothing is fetched.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ProviderDocument {
    /// The configuration of an OpenID provider as JSON, or SAML metadata as XML.
    pub(crate) document: String,
    /// The provider, where a SAML document describes several.
    pub(crate) entity_id: Option<String>,
}

/// The content of such a document.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Provider")]
pub(crate) struct ProviderView {
    /// `oidc` or `saml`.
    pub(crate) kind: &'static str,
    /// The fields of a Federation of this kind that follow from it.
    pub(crate) fields: Map<String, Value>,
    /// The facts in it, and what is wrong with them.
    pub(crate) facts: Vec<ProviderFact>,
    /// The providers of a SAML document that has several: name one of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) entities: Vec<String>,
}

/// A fact about a provider.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProviderFact {
    /// Its name.
    pub(crate) name: &'static str,
    /// Whether signing in can work with it.
    pub(crate) ok: bool,
    /// The fact.
    pub(crate) text: String,
}
