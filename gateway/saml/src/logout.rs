//! Single logout (SAML Core §3.7): a provider that ends sessions here, and we who ask it to.

use idm_types::Timestamp;
use roxmltree::Node;

use crate::SamlError;
use crate::binding::posted;
use crate::key::{OwnKey, VerifyingKey};
use crate::request::instant;
use crate::response::{NameId, name_id};
use crate::signature::{signed, verified};
use crate::xml::{ASSERTION, PROTOCOL, attribute, children, escaped, is, parse, text, wanted};

/// A request to end sessions whose signature held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogoutRequest {
    /// Its unique name, for the answer and because it is good once.
    pub id: String,
    /// The subject whose sessions end.
    pub name: NameId,
    /// Which of them; empty: all.
    pub sessions: Vec<String>,
}

impl LogoutRequest {
    /// A request that was posted, with a signature of its own.
    pub fn posted(
        value: &str,
        keys: &[VerifyingKey],
        issuer: &str,
        destination: &str,
        now: Timestamp,
    ) -> Result<Self, SamlError> {
        let message = posted(value)?;
        let document = parse(&message)?;
        let signed = verified(document.root_element(), keys)?;
        Self::read(&signed, issuer, destination, now)
    }

    /// A request whose text was verified as a whole.
    pub fn read(verified: &str, issuer: &str, destination: &str, now: Timestamp) -> Result<Self, SamlError> {
        let document = parse(verified)?;
        let root = document.root_element();
        if !is(root, PROTOCOL, "LogoutRequest") || attribute(root, "Version") != Some("2.0") {
            return Err(SamlError::Malformed("it is not a logout request"));
        }
        if text(wanted(root, ASSERTION, "Issuer")?)? != issuer {
            return Err(SamlError::WrongIssuer);
        }
        if attribute(root, "Destination").is_some_and(|to| to != destination) {
            return Err(SamlError::NotForUs("`Destination` is another address"));
        }
        check_time(root, now)?;
        let id =
            attribute(root, "ID").filter(|id| !id.is_empty() && id.len() <= 256).ok_or(SamlError::Missing("ID"))?;
        let sessions = children(root, PROTOCOL, "SessionIndex").map(text).collect::<Result<_, _>>()?;
        Ok(Self { id: id.to_owned(), name: name_id(wanted(root, ASSERTION, "NameID")?)?, sessions })
    }
}

/// The greatest distance from now of the time at which a message was issued.
const LIFE_MS: u64 = 300_000;

/// A few minutes at the most: what is not used at once is not used.
fn check_time(root: Node<'_, '_>, now: Timestamp) -> Result<(), SamlError> {
    let time = |name: &str| attribute(root, name).and_then(Timestamp::parse_rfc3339);
    let issued = time("IssueInstant").ok_or(SamlError::Missing("IssueInstant"))?;
    if issued.0.saturating_add(LIFE_MS) < now.0 || issued.0 > now.0.saturating_add(LIFE_MS) {
        return Err(SamlError::NotNow("it was not issued just now"));
    }
    if time("NotOnOrAfter").is_some_and(|end| now.0 >= end.0.saturating_add(30_000)) {
        return Err(SamlError::NotNow("it has expired"));
    }
    Ok(())
}

/// Our own request that the provider end a session of a person.
pub fn logout_request(
    id: &str,
    entity_id: &str,
    destination: &str,
    name: &NameId,
    session: Option<&str>,
    now: Timestamp,
) -> String {
    let NameId { value, format, qualifier, sp_qualifier } = name;
    let optional = |name: &str, value: &Option<String>| {
        value.as_ref().map(|value| format!(" {name}=\"{}\"", escaped(value))).unwrap_or_default()
    };
    let attributes =
        [optional("Format", format), optional("NameQualifier", qualifier), optional("SPNameQualifier", sp_qualifier)]
            .concat();
    let session = session
        .map(|session| format!("<samlp:SessionIndex>{}</samlp:SessionIndex>", escaped(session)))
        .unwrap_or_default();
    format!(
        "<samlp:LogoutRequest xmlns:samlp=\"{PROTOCOL}\" xmlns:saml=\"{ASSERTION}\" ID=\"{}\" Version=\"2.0\" \
            IssueInstant=\"{}\" Destination=\"{}\">\
         <saml:Issuer>{}</saml:Issuer><saml:NameID{attributes}>{}</saml:NameID>{session}</samlp:LogoutRequest>",
        escaped(id),
        instant(now),
        escaped(destination),
        escaped(entity_id),
        escaped(value),
    )
}

/// Our answer to the provider's request; with a key it is signed, for the binding that carries it in a form.
pub fn logout_response(
    id: &str,
    entity_id: &str,
    destination: &str,
    request: &str,
    now: Timestamp,
    key: Option<&OwnKey>,
) -> Result<String, SamlError> {
    let text = format!(
        "<samlp:LogoutResponse xmlns:samlp=\"{PROTOCOL}\" xmlns:saml=\"{ASSERTION}\" ID=\"{}\" Version=\"2.0\" \
            IssueInstant=\"{}\" Destination=\"{}\" InResponseTo=\"{}\">\
         <saml:Issuer>{}</saml:Issuer><samlp:Status><samlp:StatusCode \
         Value=\"urn:oasis:names:tc:SAML:2.0:status:Success\"></samlp:StatusCode></samlp:Status>\
         </samlp:LogoutResponse>",
        escaped(id),
        instant(now),
        escaped(destination),
        escaped(request),
        escaped(entity_id),
    );
    key.map_or(Ok(text.clone()), |key| signed(&text, id, key))
}
