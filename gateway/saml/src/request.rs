//! Authentication requests, which a browser carries to the provider (SAML Core §3.4.1).

use idm_types::Timestamp;

use crate::SamlError;
use crate::key::OwnKey;
use crate::signature::signed;
use crate::xml::{ASSERTION, PROTOCOL, escaped};

/// A request that a person be signed in.
#[derive(Clone, Debug)]
pub struct AuthnRequest<'a> {
    /// Its unique name; an XML name.
    pub id: &'a str,
    /// Our entity id.
    pub entity_id: &'a str,
    /// The provider's endpoint.
    pub destination: &'a str,
    /// The assertion consumer service for the answer.
    pub consumer: &'a str,
    /// The format of the name that we want; `None`: whatever the provider gives.
    pub name_format: Option<&'a str>,
    /// Accepted authentication contexts; empty: any.
    pub contexts: &'a [String],
    /// The person must prove themselves anew.
    pub force: bool,
}

/// Its text; with a key it is signed, for the binding that carries it in a form.
pub fn authn_request(request: &AuthnRequest<'_>, now: Timestamp, key: Option<&OwnKey>) -> Result<String, SamlError> {
    let AuthnRequest { id, entity_id, destination, consumer, name_format, contexts, force } = request;
    let force = if *force { " ForceAuthn=\"true\"" } else { "" };
    let policy = name_format.map(|format| {
        format!("<samlp:NameIDPolicy AllowCreate=\"true\" Format=\"{}\"></samlp:NameIDPolicy>", escaped(format))
    });
    let classes: String = contexts
        .iter()
        .map(|class| format!("<saml:AuthnContextClassRef>{}</saml:AuthnContextClassRef>", escaped(class)))
        .collect();
    let wanted = if classes.is_empty() {
        String::new()
    } else {
        format!("<samlp:RequestedAuthnContext Comparison=\"exact\">{classes}</samlp:RequestedAuthnContext>")
    };
    let text = format!(
        "<samlp:AuthnRequest xmlns:samlp=\"{PROTOCOL}\" xmlns:saml=\"{ASSERTION}\" ID=\"{}\" Version=\"2.0\" \
            IssueInstant=\"{}\" Destination=\"{}\"{force} \
         AssertionConsumerServiceURL=\"{}\" ProtocolBinding=\"urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST\">\
         <saml:Issuer>{}</saml:Issuer>{}{wanted}</samlp:AuthnRequest>",
        escaped(id),
        instant(now),
        escaped(destination),
        escaped(consumer),
        escaped(entity_id),
        policy.unwrap_or_default(),
    );
    key.map_or(Ok(text.clone()), |key| signed(&text, id, key))
}

/// A time as SAML writes it, in whole seconds.
pub(crate) fn instant(now: Timestamp) -> String {
    Timestamp::from_seconds(now.seconds()).rfc3339()
}
