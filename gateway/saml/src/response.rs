//! Responses, which a browser carries from the provider (SAML Core §3.3.3, §2; SAML Profiles §4.1.4).

use idm_types::{Skew, Timestamp};
use roxmltree::Node;

use crate::key::{OwnKey, VerifyingKey};
use crate::signature::{is_signed, verified};
use crate::xml::{ASSERTION, PROTOCOL, attribute, child, children, is, parse, text, wanted};
use crate::{SamlError, binding, encryption};

const BEARER: &str = "urn:oasis:names:tc:SAML:2.0:cm:bearer";
const SUCCESS: &str = "urn:oasis:names:tc:SAML:2.0:status:Success";
const MAX_VALUES: usize = 2000;

/// The values that a response must have.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The provider's entity id.
    pub issuer: &'a str,
    /// The keys that it signs with.
    pub keys: &'a [VerifyingKey],
    /// Our entity id.
    pub audience: &'a str,
    /// The assertion consumer service that received the response.
    pub consumer: &'a str,
    /// The key that decrypts assertions.
    pub own_key: Option<&'a OwnKey>,
    /// The assertion itself must be signed, and not only the response around it.
    pub signed_assertions: bool,
    /// Answers that nobody asked for are taken.
    pub unsolicited: bool,
    /// Tolerance for times.
    pub skew: Skew,
    /// The time.
    pub now: Timestamp,
}

/// The name of a person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameId {
    /// The name.
    pub value: String,
    /// Its format, a URI.
    pub format: Option<String>,
    /// Within whose names it is unique.
    pub qualifier: Option<String>,
    /// For which service it was made.
    pub sp_qualifier: Option<String>,
}

/// A verified assertion. Everything in it was covered by a verified signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assertion {
    /// Its unique name, which is good once.
    pub id: String,
    /// From then on it is worthless, so that its name need be remembered no longer.
    pub ends: Timestamp,
    /// The subject's name.
    pub name: NameId,
    /// The request that it answers.
    pub in_response_to: Option<String>,
    /// The provider's name of its session.
    pub session: Option<String>,
    /// The end of the provider's session.
    pub session_ends: Option<Timestamp>,
    /// The time at which the person authenticated.
    pub proved: Timestamp,
    /// How.
    pub context: Option<String>,
    /// Attributes by name, with their values.
    pub attributes: Vec<(String, Vec<String>)>,
}

/// A response as it was posted. Nothing of it is believed yet.
#[derive(Debug)]
pub struct Response(String);

impl Response {
    /// Reads the value of the form field `SAMLResponse`.
    pub fn posted(value: &str) -> Result<Self, SamlError> {
        binding::posted(value).map(Self)
    }

    /// The one assertion, if everything about it is right.
    pub fn accept(&self, expected: &Expected<'_>) -> Result<Assertion, SamlError> {
        let document = parse(&self.0)?;
        let root = document.root_element();
        if !is(root, PROTOCOL, "Response") {
            return Err(SamlError::Malformed("it is not a response"));
        }
        // If the response is signed, everything is read from what was signed; otherwise the assertion must be signed.
        if is_signed(root) {
            let signed = verified(root, expected.keys)?;
            let document = parse(&signed)?;
            return open(document.root_element(), true, expected);
        }
        open(root, false, expected)
    }
}

/// The response's own word, and its assertion.
fn open(response: Node<'_, '_>, covered: bool, expected: &Expected<'_>) -> Result<Assertion, SamlError> {
    if attribute(response, "Version") != Some("2.0") {
        return Err(SamlError::Malformed("its version is not 2.0"));
    }
    // The response itself may be unsigned. Its attributes can only make the check stricter: the assertion is asked the
    // same.
    match attribute(response, "Destination") {
        Some(destination) if destination != expected.consumer => {
            return Err(SamlError::NotForUs("`Destination` is another address"));
        }
        None if covered => return Err(SamlError::Missing("Destination")),
        _ => {}
    }
    if let Some(issuer) = child(response, ASSERTION, "Issuer")? {
        check_issuer(issuer, expected)?;
    }
    check_status(response)?;
    let (plain, encrypted) =
        (child(response, ASSERTION, "Assertion")?, child(response, ASSERTION, "EncryptedAssertion")?);
    // An assertion anywhere else is one that somebody hopes will be read in place of the right one.
    let count = |name: &str| response.descendants().filter(|node| is(*node, ASSERTION, name)).count();
    if count("Assertion") + count("EncryptedAssertion") > 1 {
        return Err(SamlError::Malformed("there is more than one assertion"));
    }
    match (plain, encrypted) {
        (Some(assertion), None) => checked(assertion, covered, expected),
        (None, Some(encrypted)) => {
            let key = expected
                .own_key
                .filter(|key| key.opens())
                .ok_or(SamlError::Key("the assertion is encrypted, and there is no RSA key to open it"))?;
            let inside = encryption::open(encrypted, key)?;
            let document = parse(&inside).map_err(|_| SamlError::CannotDecrypt)?;
            let assertion = document.root_element();
            if !is(assertion, ASSERTION, "Assertion")
                || document.descendants().filter(|node| is(*node, ASSERTION, "Assertion")).count() != 1
            {
                return Err(SamlError::CannotDecrypt);
            }
            checked(assertion, covered, expected)
        }
        _ => Err(SamlError::Missing("Assertion")),
    }
}

/// The assertion, from what was signed and from nothing else.
fn checked(assertion: Node<'_, '_>, covered: bool, expected: &Expected<'_>) -> Result<Assertion, SamlError> {
    if is_signed(assertion) {
        let signed = verified(assertion, expected.keys)?;
        let document = parse(&signed)?;
        return read(document.root_element(), expected);
    }
    match (covered, expected.signed_assertions) {
        (false, _) => Err(SamlError::NotSigned),
        (true, true) => Err(SamlError::AssertionNotSigned),
        (true, false) => read(assertion, expected),
    }
}

fn check_issuer(issuer: Node<'_, '_>, expected: &Expected<'_>) -> Result<(), SamlError> {
    let is_entity =
        attribute(issuer, "Format").is_none_or(|format| format == "urn:oasis:names:tc:SAML:2.0:nameid-format:entity");
    if is_entity && text(issuer)? == expected.issuer { Ok(()) } else { Err(SamlError::WrongIssuer) }
}

fn check_status(response: Node<'_, '_>) -> Result<(), SamlError> {
    let outer = wanted(wanted(response, PROTOCOL, "Status")?, PROTOCOL, "StatusCode")?;
    let code = attribute(outer, "Value").unwrap_or_default();
    if code == SUCCESS {
        return Ok(());
    }
    // The inner code says more: the last word of a URN, and nothing that a provider could write freely.
    let inner = child(outer, PROTOCOL, "StatusCode")?.and_then(|inner| attribute(inner, "Value"));
    let word = inner.unwrap_or(code).rsplit(':').next().unwrap_or_default();
    Err(SamlError::Status(word.chars().filter(char::is_ascii_alphanumeric).take(64).collect()))
}

fn time(node: Node<'_, '_>, name: &str) -> Result<Option<Timestamp>, SamlError> {
    let parsed = |text: &str| Timestamp::parse_rfc3339(text).ok_or(SamlError::Malformed("a time is not one"));
    attribute(node, name).map(parsed).transpose()
}

impl Expected<'_> {
    fn has_begun(&self, from: Timestamp) -> bool {
        from.0 <= self.now.0.saturating_add(self.skew.seconds() * 1000)
    }

    fn has_ended(&self, until: Timestamp) -> bool {
        self.now.0 >= until.0.saturating_add(self.skew.seconds() * 1000)
    }
}

fn read(assertion: Node<'_, '_>, expected: &Expected<'_>) -> Result<Assertion, SamlError> {
    if attribute(assertion, "Version") != Some("2.0") {
        return Err(SamlError::Malformed("the assertion's version is not 2.0"));
    }
    check_issuer(wanted(assertion, ASSERTION, "Issuer")?, expected)?;
    let id =
        attribute(assertion, "ID").filter(|id| !id.is_empty() && id.len() <= 256).ok_or(SamlError::Missing("ID"))?;
    let issued = time(assertion, "IssueInstant")?.ok_or(SamlError::Missing("IssueInstant"))?;
    if !expected.has_begun(issued) {
        return Err(SamlError::NotNow("it was issued in the future"));
    }
    let subject = wanted(assertion, ASSERTION, "Subject")?;
    if child(subject, ASSERTION, "EncryptedID")?.is_some() {
        return Err(SamlError::Malformed("encrypted names are not taken; encrypt the assertion instead"));
    }
    let (in_response_to, ends) = confirmed(subject, expected)?;
    check_conditions(wanted(assertion, ASSERTION, "Conditions")?, expected)?;
    let statement =
        children(assertion, ASSERTION, "AuthnStatement").next().ok_or(SamlError::Missing("AuthnStatement"))?;
    let session_ends = time(statement, "SessionNotOnOrAfter")?;
    if session_ends.is_some_and(|end| expected.has_ended(end)) {
        return Err(SamlError::NotNow("the provider's session has ended"));
    }
    let proved = time(statement, "AuthnInstant")?.ok_or(SamlError::Missing("AuthnInstant"))?;
    if !expected.has_begun(proved) {
        return Err(SamlError::NotNow("the person will prove themselves in the future"));
    }
    let context = child(statement, ASSERTION, "AuthnContext")?
        .map(|context| child(context, ASSERTION, "AuthnContextClassRef"))
        .transpose()?
        .flatten();
    Ok(Assertion {
        id: id.to_owned(),
        ends,
        name: name_id(wanted(subject, ASSERTION, "NameID")?)?,
        in_response_to,
        session: attribute(statement, "SessionIndex")
            .filter(|index| !index.is_empty() && index.len() <= 255)
            .map(str::to_owned),
        session_ends,
        proved,
        context: context.map(text).transpose()?,
        attributes: attributes(assertion)?,
    })
}

pub(crate) fn name_id(node: Node<'_, '_>) -> Result<NameId, SamlError> {
    let value = text(node)?;
    if value.is_empty() || value.len() > 255 || value.chars().any(char::is_control) {
        return Err(SamlError::Missing("NameID"));
    }
    let of = |name: &str| attribute(node, name).map(str::to_owned);
    Ok(NameId { value, format: of("Format"), qualifier: of("NameQualifier"), sp_qualifier: of("SPNameQualifier") })
}

/// Which request it answers, and until when it may be brought here: the first bearer confirmation that is for us, now.
fn confirmed(subject: Node<'_, '_>, expected: &Expected<'_>) -> Result<(Option<String>, Timestamp), SamlError> {
    let mut why = SamlError::Missing("SubjectConfirmation");
    for confirmation in
        children(subject, ASSERTION, "SubjectConfirmation").filter(|node| attribute(*node, "Method") == Some(BEARER))
    {
        match bearer(confirmation, expected) {
            Ok(found) => return Ok(found),
            Err(error) => why = error,
        }
    }
    Err(why)
}

fn bearer(confirmation: Node<'_, '_>, expected: &Expected<'_>) -> Result<(Option<String>, Timestamp), SamlError> {
    let data = wanted(confirmation, ASSERTION, "SubjectConfirmationData")?;
    if attribute(data, "Recipient") != Some(expected.consumer) {
        return Err(SamlError::NotForUs("`Recipient` is another address"));
    }
    let ends = time(data, "NotOnOrAfter")?.ok_or(SamlError::Missing("NotOnOrAfter"))?;
    if expected.has_ended(ends) {
        return Err(SamlError::NotNow("it was brought too late"));
    }
    if time(data, "NotBefore")?.is_some_and(|from| !expected.has_begun(from)) {
        return Err(SamlError::NotNow("it was brought too early"));
    }
    match attribute(data, "InResponseTo") {
        None if !expected.unsolicited => Err(SamlError::Unsolicited),
        request => Ok((request.map(str::to_owned), ends)),
    }
}

fn check_conditions(conditions: Node<'_, '_>, expected: &Expected<'_>) -> Result<(), SamlError> {
    if time(conditions, "NotBefore")?.is_some_and(|from| !expected.has_begun(from)) {
        return Err(SamlError::NotNow("it is not valid yet"));
    }
    if time(conditions, "NotOnOrAfter")?.is_some_and(|until| expected.has_ended(until)) {
        return Err(SamlError::NotNow("it has expired"));
    }
    let mut restricted = false;
    for condition in conditions.children().filter(Node::is_element) {
        if is(condition, ASSERTION, "AudienceRestriction") {
            restricted = true;
            let mut ours = false;
            for audience in children(condition, ASSERTION, "Audience") {
                ours |= text(audience)? == expected.audience;
            }
            if !ours {
                return Err(SamlError::NotForUs("`Audience` is another service"));
            }
        } else if !is(condition, ASSERTION, "OneTimeUse") && !is(condition, ASSERTION, "ProxyRestriction") {
            return Err(SamlError::UnknownCondition);
        }
    }
    // Profiles §4.1.4.2: without one, an assertion for any service would do.
    if restricted { Ok(()) } else { Err(SamlError::Missing("AudienceRestriction")) }
}

fn attributes(assertion: Node<'_, '_>) -> Result<Vec<(String, Vec<String>)>, SamlError> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    let mut count = 0;
    for statement in children(assertion, ASSERTION, "AttributeStatement") {
        for node in children(statement, ASSERTION, "Attribute") {
            let Some(name) = attribute(node, "Name").filter(|name| !name.is_empty() && name.len() <= 256) else {
                continue;
            };
            let mut values = Vec::new();
            for value in children(node, ASSERTION, "AttributeValue") {
                count += 1;
                if count > MAX_VALUES {
                    return Err(SamlError::TooLarge);
                }
                // A value that is itself XML means nothing to us.
                if let Ok(value) = text(value) {
                    values.push(value);
                }
            }
            match found.iter_mut().find(|(known, _)| known == name) {
                Some((_, known)) => known.extend(values),
                None => found.push((name.to_owned(), values)),
            }
        }
    }
    Ok(found)
}
