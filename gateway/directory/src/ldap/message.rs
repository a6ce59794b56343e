//! Messages (RFC 4511 §4): those that are sent, and those that a server may send. The codec is `ldap3_proto`'s; it gets
//! only what [`frame::check`] found whole, and only operations of servers.

use bytes::BytesMut;
use idm_trust::Password;
use ldap3_lber::common::TagClass;
use ldap3_lber::structure::{PL, StructureTag};
use ldap3_lber::{Parser, write};
use ldap3_proto::control::LdapControl;
use ldap3_proto::proto::{
    LdapBindCred, LdapBindRequest, LdapDerefAliases, LdapExtendedRequest, LdapFilter, LdapModify, LdapModifyRequest,
    LdapModifyType, LdapMsg, LdapOp, LdapPartialAttribute, LdapPasswordModifyRequest, LdapResult, LdapResultCode,
    LdapSearchRequest, LdapSearchResultEntry, LdapSearchScope,
};
use zeroize::Zeroize;

use super::filter::Filter;
use super::frame::{self, Broken};

/// The name of the StartTLS operation (RFC 4511 §4.14.1).
const START_TLS: &str = "1.3.6.1.4.1.1466.20037";
/// The name of the password modify operation (RFC 3062 §2).
pub(super) const PASSWORD_MODIFY: &str = "1.3.6.1.4.1.4203.1.11.1";
/// Password policy (draft-behera-ldap-password-policy-10 §6.2).
const PASSWORD_POLICY: &[u8] = b"1.3.6.1.4.1.42.2.27.8.5.1";
/// Netscape's answer that a password has expired, or must be changed, without a value that matters.
const PASSWORD_EXPIRED: &[u8] = b"2.16.840.1.113730.3.4.4";
/// Simple paged results (RFC 2696).
pub(super) const PAGED_RESULTS: &str = "1.2.840.113556.1.4.319";
/// The results of one page.
const PAGE: i64 = 500;

/// A search without what concerns one connection.
#[derive(Clone, Debug)]
pub(super) struct Search<'a> {
    pub(super) base: &'a str,
    pub(super) scope: LdapSearchScope,
    pub(super) filter: Filter,
    pub(super) attributes: Vec<String>,
    /// The most entries that are asked for and taken; 0: as many as [`Search::most`].
    pub(super) size_limit: i32,
    /// The most entries that are taken.
    pub(super) most: usize,
}

/// A request.
pub(super) enum Request<'a> {
    StartTls,
    /// Without a password: anonymous.
    Bind {
        name: &'a str,
        password: Option<&'a Password>,
        policy: bool,
    },
    Search {
        search: &'a Search<'a>,
        /// The cookie of the page before; empty for the first page; `None`: without pages.
        cookie: Option<Vec<u8>>,
        seconds: i32,
    },
    /// The password modify operation (RFC 3062).
    PasswordModify(NewPassword<'a>),
    /// A change of `unicodePwd`, in which the old value proves the old password (MS-ADTS §3.1.1.3.1.5).
    UnicodePwd(NewPassword<'a>),
    Abandon(i32),
    Unbind,
}

/// A password that becomes another one.
#[derive(Clone, Copy)]
pub(super) struct NewPassword<'a> {
    /// The entry.
    pub(super) dn: &'a str,
    pub(super) old: &'a Password,
    pub(super) new: &'a Password,
}

/// Octets that are sent and then wiped: a password is among those of a bind. What the codec builds on the way is wiped
/// by the allocator of the process.
pub(super) struct Encoded(BytesMut);

impl Encoded {
    pub(super) fn octets(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Encoded {
    fn drop(&mut self) {
        self.0.as_mut().zeroize();
    }
}

impl Request<'_> {
    /// The message with this id.
    pub(super) fn encode(self, id: i32) -> Result<Encoded, Broken> {
        let unsent = Broken("a request cannot be encoded");
        let (op, controls, filter) = self.operation();
        let mut tag = StructureTag::from(LdapMsg::new_with_ctrls(id, op, controls));
        if let Some(filter) = filter {
            // The codec keeps the values of filters as text, and ids may be any octets.
            *filter_of(&mut tag).ok_or(unsent)? = filter;
        }
        let mut encoded = Encoded(BytesMut::new());
        write::encode_into(&mut encoded.0, tag).map_err(|_| unsent)?;
        Ok(encoded)
    }

    fn operation(self) -> (LdapOp, Vec<LdapControl>, Option<StructureTag>) {
        match self {
            Self::StartTls => {
                (LdapOp::ExtendedRequest(LdapExtendedRequest { name: START_TLS.into(), value: None }), Vec::new(), None)
            }
            Self::Bind { name, password, policy } => {
                let password = password.map(|password| password.reveal().to_owned()).unwrap_or_default();
                let bind = LdapBindRequest { version: 3, dn: name.to_owned(), cred: LdapBindCred::Simple(password) };
                let control = LdapControl::PasswordPolicyRequest { criticality: false };
                (LdapOp::BindRequest(bind), if policy { vec![control] } else { Vec::new() }, None)
            }
            Self::Search { search, cookie, seconds } => {
                let request = LdapSearchRequest {
                    base: search.base.to_owned(),
                    scope: search.scope.clone(),
                    aliases: LdapDerefAliases::Never,
                    sizelimit: search.size_limit,
                    timelimit: seconds,
                    typesonly: false,
                    filter: LdapFilter::Present(String::new()),
                    attrs: search.attributes.clone(),
                };
                let page = cookie.map(|cookie| LdapControl::SimplePagedResults { size: PAGE, cookie });
                (LdapOp::SearchRequest(request), page.into_iter().collect(), Some(search.filter.tag()))
            }
            Self::PasswordModify(NewPassword { dn, old, new }) => {
                let request = LdapPasswordModifyRequest {
                    user_identity: Some(dn.to_owned()),
                    old_password: Some(old.reveal().to_owned()),
                    new_password: Some(new.reveal().to_owned()),
                };
                (LdapOp::ExtendedRequest(request.into()), Vec::new(), None)
            }
            Self::UnicodePwd(NewPassword { dn, old, new }) => {
                let change = |operation, password: &Password| LdapModify {
                    operation,
                    modification: LdapPartialAttribute { atype: "unicodePwd".into(), vals: vec![quoted(password)] },
                };
                let changes = vec![change(LdapModifyType::Delete, old), change(LdapModifyType::Add, new)];
                (LdapOp::ModifyRequest(LdapModifyRequest { dn: dn.to_owned(), changes }), Vec::new(), None)
            }
            Self::Abandon(id) => (LdapOp::AbandonRequest(id), Vec::new(), None),
            Self::Unbind => (LdapOp::UnbindRequest, Vec::new(), None),
        }
    }
}

/// A password as Active Directory takes it: in quotes, as UTF-16 in little-endian order.
fn quoted(password: &Password) -> Vec<u8> {
    let units = std::iter::once(u16::from(b'"')).chain(password.reveal().encode_utf16()).chain([u16::from(b'"')]);
    units.flat_map(u16::to_le_bytes).collect()
}

/// The filter of a search request: the seventh part of its operation (RFC 4511 §4.5.1).
fn filter_of(message: &mut StructureTag) -> Option<&mut StructureTag> {
    let PL::C(parts) = &mut message.payload else { return None };
    let PL::C(operation) = &mut parts.get_mut(1)?.payload else { return None };
    operation.get_mut(6)
}

/// A message of a server.
#[derive(Debug)]
pub(super) struct Message {
    /// The message that it answers; 0: none.
    pub(super) id: i32,
    /// The octets that it takes in memory, about.
    pub(super) memory: usize,
    pub(super) answer: Answer,
    /// The cookie of the next page, empty after the last one; `None`: there are no pages.
    pub(super) cookie: Option<Vec<u8>>,
    pub(super) policy: PasswordPolicy,
}

/// A response.
#[derive(Debug)]
pub(super) enum Answer {
    Bind(Outcome),
    Entry(LdapSearchResultEntry),
    /// Another server may know more: URIs of the same place.
    Reference(Vec<String>),
    Done(Outcome),
    Extended(Outcome),
    Modified(Outcome),
    /// Something on the way to an answer.
    Intermediate,
}

/// The result of an operation.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outcome {
    pub(super) code: LdapResultCode,
    /// The diagnostic message of the server.
    pub(super) diagnostic: String,
    /// URIs of the place that the server refers to, with the code for that.
    pub(super) referral: Vec<String>,
}

/// The state of the password, as the answer to a bind tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PasswordPolicy {
    /// The error, by its number.
    pub(super) error: Option<u8>,
    /// The password has expired, and so many binds are allowed all the same.
    pub(super) grace_left: Option<u32>,
    /// Netscape's control that it has expired.
    pub(super) expired: bool,
}

impl From<LdapResult> for Outcome {
    fn from(result: LdapResult) -> Self {
        // Diagnostics of Active Directory end with NUL.
        let diagnostic: String = result.message.chars().filter(|character| !character.is_control()).take(300).collect();
        Self { code: result.code, diagnostic, referral: Vec::new() }
    }
}

/// Reads a message, which is whole by its length.
pub(super) fn decode(message: &[u8]) -> Result<Message, Broken> {
    let broken = Broken("a message is not one of RFC 4511");
    let memory = message.len() + frame::check(message)? * frame::OF_ELEMENT;
    let (_, mut tag) = Parser::new(frame::MAX_DEPTH + 1).parse(message).map_err(|_| broken)?;
    let PL::C(parts) = &mut tag.payload else { return Err(broken) };
    // Everything but what servers answer is refused here, and the codec's notes about it do not reach the log.
    let operation = match parts.as_slice() {
        [id, operation, ..] if is_id(id) && operation.class == TagClass::Application => operation,
        _ => return Err(broken),
    };
    let intermediate = operation.id == 25;
    let referral = referral_of(operation);
    let answers = matches!((operation.id, &operation.payload), (1 | 4 | 5 | 7 | 19 | 24 | 25, PL::C(_)));
    if !answers {
        return Err(Broken("a message is no answer of a server"));
    }
    let controls = if parts.len() > 2 { parts.drain(2..).collect() } else { Vec::new() };
    let (cookie, policy) = read_controls(controls)?;
    if intermediate {
        *parts.get_mut(1).ok_or(broken)? = StructureTag { class: TagClass::Application, id: 2, payload: PL::P(vec![]) };
    }
    let LdapMsg { msgid, op, ctrl: _ } = LdapMsg::try_from(tag).map_err(|_| broken)?;
    let answer = match op {
        LdapOp::BindResponse(bind) => Answer::Bind(Outcome { referral, ..bind.res.into() }),
        LdapOp::SearchResultEntry(entry) => Answer::Entry(entry),
        LdapOp::SearchResultReference(reference) => Answer::Reference(reference.uris),
        LdapOp::SearchResultDone(result) => Answer::Done(Outcome { referral, ..result.into() }),
        LdapOp::ExtendedResponse(extended) => Answer::Extended(Outcome { referral, ..extended.res.into() }),
        LdapOp::ModifyResponse(result) => Answer::Modified(Outcome { referral, ..result.into() }),
        LdapOp::UnbindRequest => Answer::Intermediate,
        _ => return Err(broken),
    };
    Ok(Message { id: msgid, memory, answer, cookie, policy })
}

/// The URIs of the place that a result refers to (RFC 4511 §4.1.10), which the codec leaves out.
fn referral_of(operation: &StructureTag) -> Vec<String> {
    let PL::C(parts) = &operation.payload else { return Vec::new() };
    let found = parts.iter().find(|part| (part.class, part.id) == (TagClass::Context, 3));
    let Some(PL::C(uris)) = found.map(|part| &part.payload) else { return Vec::new() };
    let text = |uri: &StructureTag| match &uri.payload {
        PL::P(octets) => String::from_utf8(octets.clone()).ok(),
        PL::C(_) => None,
    };
    uris.iter().filter_map(text).collect()
}

/// Whether it is a message id: an integer that is not negative, of four octets at most.
fn is_id(tag: &StructureTag) -> bool {
    let PL::P(octets) = &tag.payload else { return false };
    (tag.class, tag.id) == (TagClass::Universal, 2)
        && (1..=4).contains(&octets.len())
        && octets.first().is_some_and(|first| first & 0x80 == 0)
}

/// Reads the controls that mean something here; others are not looked into.
fn read_controls(tags: Vec<StructureTag>) -> Result<(Option<Vec<u8>>, PasswordPolicy), Broken> {
    let (mut cookie, mut policy) = (None, PasswordPolicy::default());
    let controls = tags.into_iter().filter(|tag| (tag.class, tag.id) == (TagClass::Context, 0));
    for control in controls.filter_map(StructureTag::expect_constructed).flatten() {
        let PL::C(parts) = &control.payload else { continue };
        let Some(PL::P(name)) = parts.first().map(|part| &part.payload) else { continue };
        // The value is the last part; before it there may be the criticality.
        let value = match parts.last().map(|part| (part.id, &part.payload)) {
            Some((4, PL::P(value))) if parts.len() > 1 => Some(value.as_slice()),
            _ => None,
        };
        if name == PASSWORD_POLICY {
            let read = value.and_then(password_policy).ok_or(Broken("the password policy control cannot be read"))?;
            (policy.error, policy.grace_left) = read;
        } else if name == PASSWORD_EXPIRED {
            policy.expired = true;
        } else if name == PAGED_RESULTS.as_bytes() {
            // Read by the codec, which knows this one.
            match LdapControl::try_from(control) {
                Ok(LdapControl::SimplePagedResults { cookie: next, .. }) => cookie = Some(next),
                _ => return Err(Broken("the control of paged results cannot be read")),
            }
        }
    }
    Ok((cookie, policy))
}

/// `SEQUENCE { warning [0] CHOICE { timeBeforeExpiration [0], graceAuthNsRemaining [1] }, error [1] ENUMERATED }`, both
/// optional. The codec takes it for the request, which has no value.
fn password_policy(value: &[u8]) -> Option<(Option<u8>, Option<u32>)> {
    frame::check(value).ok()?;
    let (_, sequence) = Parser::new(8).parse(value).ok()?;
    let (mut error, mut grace_left) = (None, None);
    for part in sequence.expect_constructed()? {
        match (part.class, part.id, part.payload) {
            (TagClass::Context, 0, PL::C(warning)) => {
                let [StructureTag { class: TagClass::Context, id, payload: PL::P(octets) }] = warning.as_slice() else {
                    return None;
                };
                let number =
                    octets.iter().try_fold(0_u32, |sum, octet| Some(sum.checked_mul(256)? + u32::from(*octet)));
                if *id == 1 {
                    grace_left = Some(number?);
                }
            }
            (TagClass::Context, 1, PL::P(octets)) => {
                let [number] = octets.as_slice() else { return None };
                error = Some(*number);
            }
            _ => return None,
        }
    }
    Some((error, grace_left))
}

#[cfg(test)]
mod tests;
