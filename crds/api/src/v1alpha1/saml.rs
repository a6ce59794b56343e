use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{KeyReference, ObjectReference, OutgoingTls};

/// A SAML 2.0 identity provider, and the service provider that the gateway is there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SamlProvider {
    /// The provider's entity id, exactly as its metadata and assertions have it.
    #[schemars(length(min = 1, max = 1024))]
    pub entity_id: String,
    /// The source of the provider's endpoints and certificates.
    pub metadata: SamlMetadata,
    /// The gateway as a service provider. Unset means an entity id of
    /// `{origin}{basePath}/saml/metadata/{federation}`, unsigned requests and no encryption.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_provider: Option<SamlServiceProvider>,
    /// The assertion itself must be signed, and not only the response around it. Unset means true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_signed_assertions: Option<bool>,
    /// The format of the name that is asked for. Unset takes what the provider gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_id_format: Option<NameIdFormat>,
    /// The binding of requests. Unset means `Redirect` where the provider takes that, and otherwise `Post`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_binding: Option<SamlBinding>,
    /// The treatment of unsolicited responses (sign-in that begins at the provider). Unset means `Refuse`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsolicited: Option<Unsolicited>,
}

/// The source of a provider's metadata: exactly one of the members.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "[has(self.uri), has(self.inline), has(self.secretRef)].filter(is, is).size() == 1",
     "message": "metadata must have exactly one of `uri`, `inline`, `secretRef`"},
    {"rule": "!has(self.tls) || has(self.uri)",
     "message": "`tls` must be set only with `uri`: nothing else is fetched"}]))]
pub struct SamlMetadata {
    /// Fetch it from this URL, and again every few minutes, so that new certificates arrive by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 2048))]
    pub uri: Option<String>,
    /// The document itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 16, max = 131_072))]
    pub inline: Option<String>,
    /// A Secret with the document; the key is `metadata.xml` unless named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<KeyReference>,
    /// TLS settings for its server, where it is not one of the public web.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<OutgoingTls>,
}

/// The gateway as a service provider of SAML.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SamlServiceProvider {
    /// Its entity id. Unset means `{origin}{basePath}/saml/metadata/{federation}`, where its metadata is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub entity_id: Option<String>,
    /// A Secret of type `kubernetes.io/tls`: requests are signed with it, and assertions that are encrypted for it are
    /// opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_ref: Option<ObjectReference>,
}

/// Formats of names (SAML Core §8.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NameIdFormat {
    /// An opaque name that stays.
    Persistent,
    /// An opaque name for one session.
    Transient,
    /// An e-mail address.
    EmailAddress,
    /// Whatever the provider thinks best.
    Unspecified,
}

/// A binding: the way of messages through the browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SamlBinding {
    /// In the query of a redirect.
    Redirect,
    /// In a form; the person presses a button, for no page here runs a script.
    Post,
}

/// The treatment of unsolicited responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Unsolicited {
    /// They are refused.
    Refuse,
    /// They begin a session: then anyone can sign another person's browser in as themselves.
    DangerAccept,
}
