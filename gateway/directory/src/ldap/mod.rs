//! People of LDAP (RFC 4511), Active Directory among its servers.
//!
//! A login is a search on a connection on which the gateway is bound, then one bind on a connection of its own, then
//! the search for groups. Start at [`Ldap`]. `servers.rs` chooses the server, `connection.rs` speaks with it over the
//! frames of `frame.rs` and the messages of `message.rs`, `reader.rs` makes searches whole, and `person.rs`,
//! `account.rs` and `groups.rs` say what entries mean.

mod account;
mod change;
mod connection;
mod entry;
mod filter;
mod frame;
mod groups;
mod message;
mod person;
mod probe;
mod reader;
mod referrals;
mod root;
mod servers;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use idm_plan::{DistinguishedName, LdapBind, LdapDirectory, LdapFilter, LdapLookup, Secrets, escape_dn_value};
use idm_trust::{DirectoryError, DirectoryErrorKind, Login, LoginAnswer, LoginRefused, Password, Person, Steps};
use idm_types::Redacted;

pub(crate) use probe::{probe, read_certificate};

use crate::Reach;
use crate::driver::{Driver, Running};
use account::Moment;
use entry::Entry;
use person::Match;
use reader::Reader;
use referrals::Referrals;
use servers::{OwnBind, Servers};

/// The time before the deadline that is left for saying so, and for telling the server that nobody waits any more.
const MARGIN: Duration = Duration::from_millis(50);

/// A directory that speaks LDAP.
pub(crate) struct Ldap {
    plan: LdapDirectory,
    servers: Servers,
    referrals: Referrals,
    /// The attributes of a person that are read.
    attributes: Vec<String>,
}

/// The settings of a search for people.
#[derive(Clone, Copy)]
struct People<'a> {
    base: &'a str,
    filter: Option<&'a LdapFilter>,
    login_attributes: &'a [String],
}

impl Ldap {
    /// A directory that nobody has asked yet. The error shows no secret.
    pub(crate) fn new(plan: &LdapDirectory, secrets: &Secrets, reach: Reach) -> Result<Self, String> {
        let bind = match &plan.lookup {
            LdapLookup::Search { bind: LdapBind::Anonymous, .. } => Some(OwnBind::Anonymous),
            LdapLookup::Search { bind: LdapBind::Simple { dn, password }, .. } => {
                // Files end with a line feed, and so do many Secrets.
                let text = secrets.text(password)?.trim_end_matches(['\r', '\n']).to_owned();
                let empty = || format!("the secret `{}` is empty, and a bind with it would be anonymous", password.0);
                if dn.is_empty() {
                    return Err("the gateway's bind has no name, and would be anonymous".into());
                }
                let password = Password::new(Redacted::new(text)).ok_or_else(empty)?;
                Some(OwnBind::Simple { name: dn.clone(), password })
            }
            LdapLookup::Template { before, after, .. } => {
                let example = format!("{before}x{after}");
                DistinguishedName::parse(&example)
                    .ok_or_else(|| format!("the template makes `{example}`, which is no distinguished name"))?;
                None
            }
        };
        let (tls, bind) = (Arc::new(idm_trust::client_config(plan.tls.as_ref(), secrets)?), bind.map(Arc::new));
        let referrals = Referrals::new(&plan.referrals, tls.clone(), reach.clone(), bind.clone());
        let servers = Servers::new(&plan.servers, tls, reach, bind)?;
        Ok(Self { plan: plan.clone(), servers, referrals, attributes: person::attributes(plan) })
    }

    async fn check(&self, login: &Login, deadline: Instant) -> Result<LoginAnswer, DirectoryError> {
        match &self.plan.lookup {
            LdapLookup::Search { bind: _, base, filter, login_attributes } => {
                let people = People { base, filter: filter.as_ref(), login_attributes };
                let mut reader = Reader::of_gateway(&self.servers, &self.referrals, &login.steps, deadline);
                let answer = self.search_then_bind(&mut reader, people, login, deadline).await?;
                reader.finish().await;
                Ok(answer)
            }
            LdapLookup::Template { before, after, login_attribute } => {
                let name = login.bare.as_ref().unwrap_or(&login.username);
                let name = format!("{before}{}{after}", escape_dn_value(name));
                self.bind_then_read(&name, std::slice::from_ref(login_attribute), login, deadline).await
            }
        }
    }

    async fn search_then_bind(
        &self,
        reader: &mut Reader<'_>,
        people: People<'_>,
        login: &Login,
        deadline: Instant,
    ) -> Result<LoginAnswer, DirectoryError> {
        let entry = match self.find(reader, people, login).await? {
            Ok(entry) => entry,
            Err(answer) => return Ok(answer),
        };
        let login_attributes = people.login_attributes;
        // The server that has the entry checks its password.
        let home = reader.goes_home(&entry)?;
        let servers = home.as_deref().unwrap_or(&self.servers);
        let bound = servers.bind_as(&entry.dn, &login.password, &login.steps, deadline).await?;
        let (connection, outcome, policy) = bound;
        let refused = account::of_bind(&connection.label, &outcome, policy);
        connection.close().await;
        if let Some(refused) = refused? {
            return Ok(LoginAnswer::Refused(refused));
        }
        self.judge(reader, entry, login_attributes, Moment::Bound).await
    }

    /// The one entry that has the name that was typed; the inner error: the answer where there is none.
    async fn find(
        &self,
        reader: &mut Reader<'_>,
        people: People<'_>,
        login: &Login,
    ) -> Result<Result<Entry, LoginAnswer>, DirectoryError> {
        let People { base, filter, login_attributes } = people;
        let wanted = person::by_name(login_attributes, login);
        let entry = match person::find(reader, base, filter, wanted, self.attributes.clone()).await? {
            Match::Nobody => return Ok(Err(LoginAnswer::Unknown)),
            Match::Several => return Ok(Err(LoginAnswer::Refused(LoginRefused::Ambiguous))),
            Match::One(entry) => entry,
        };
        if !person::has_login(&entry, login_attributes, login) {
            login.steps.note(|| "the entry that was found has another user name than the one that was typed".into());
            return Ok(Err(LoginAnswer::Unknown));
        }
        if entry.dn.trim().is_empty() {
            return Err(reader.unusable("the entry that was found has no name, and a bind would be anonymous"));
        }
        Ok(Ok(entry))
    }

    async fn bind_then_read(
        &self,
        name: &str,
        login_attributes: &[String],
        login: &Login,
        deadline: Instant,
    ) -> Result<LoginAnswer, DirectoryError> {
        let bound = self.servers.bind_as(name, &login.password, &login.steps, deadline).await?;
        let (connection, outcome, policy) = bound;
        if let Some(refused) = account::of_bind(&connection.label, &outcome, policy)? {
            connection.close().await;
            return Ok(LoginAnswer::Refused(refused));
        }
        let mut reader = Reader::of_person(&self.servers, &self.referrals, connection, &login.steps, deadline);
        let Some(entry) = reader.read(name, self.attributes.clone()).await? else {
            return Err(reader.unusable(&format!("`{name}` may not read its own entry; give people that right")));
        };
        let answer = match person::has_login(&entry, login_attributes, login) {
            true => self.judge(&mut reader, entry, login_attributes, Moment::Bound).await?,
            false => LoginAnswer::Unknown,
        };
        reader.finish().await;
        Ok(answer)
    }

    async fn read_again(&self, id: &str, steps: &Steps, deadline: Instant) -> Result<LoginAnswer, DirectoryError> {
        let LdapLookup::Search { bind: _, base, filter, login_attributes } = &self.plan.lookup else {
            let detail = "nobody can be read again without their password, because people bind by a template; let the \
                          Federation search for people with a bind of its own";
            return Err(DirectoryError::new(DirectoryErrorKind::Unusable, detail));
        };
        let Some(wanted) = person::by_id(&self.plan.person, id) else { return Ok(LoginAnswer::Unknown) };
        let mut reader = Reader::of_gateway(&self.servers, &self.referrals, steps, deadline);
        let found = person::find(&mut reader, base, filter.as_ref(), wanted, self.attributes.clone()).await?;
        let answer = match found {
            Match::Nobody => LoginAnswer::Unknown,
            Match::Several => return Err(reader.unusable("several entries have the id; it is not unique")),
            Match::One(entry) if person::id(&self.plan.person, &entry)? != id => LoginAnswer::Unknown,
            Match::One(entry) => {
                reader.goes_home(&entry)?;
                self.judge(&mut reader, entry, login_attributes, Moment::LookedUp).await?
            }
        };
        reader.finish().await;
        Ok(answer)
    }

    /// Judges the account, then reads the whole person.
    async fn judge(
        &self,
        reader: &mut Reader<'_>,
        mut entry: Entry,
        login_attributes: &[String],
        moment: Moment,
    ) -> Result<LoginAnswer, DirectoryError> {
        if let Some(state) = account::state(&entry, SystemTime::now(), moment) {
            return Ok(LoginAnswer::Refused(LoginRefused::Account(state)));
        }
        let plan = &self.plan.person;
        let id = person::id(plan, &entry)?;
        let username = person::username(plan, login_attributes, &entry)?;
        let claims = person::claims(reader, &plan.attributes, &mut entry).await?;
        let groups = match &self.plan.groups {
            Some(groups) => groups::read(reader, groups, &mut entry).await?,
            None => Vec::new(),
        };
        Ok(LoginAnswer::Verified(Box::new(Person { id, username, claims, groups })))
    }
}

/// Reads octets as the messages of a server, with everything that is read of an entry, until one of them is broken. The
/// fuzzer's way in.
pub(crate) fn read_stream(mut octets: &[u8]) {
    while let Ok(Some(length)) = frame::length(octets) {
        let Some((message, rest)) = octets.split_at_checked(length) else { return };
        let Ok(message) = message::decode(message) else { return };
        octets = rest;
        match message.answer {
            message::Answer::Entry(entry) => {
                let mut entry = Entry::from(entry);
                let _ = (entry.name(), account::state(&entry, SystemTime::UNIX_EPOCH, Moment::LookedUp));
                let _ = (person::group_ids(&entry), entry.take_range("memberOf"), root::Root::read(Some(&entry)));
            }
            message::Answer::Bind(outcome) => {
                let _ = account::of_bind("fuzz", &outcome, message.policy);
                let _ = account::own_bind("fuzz", "fuzz", &outcome);
            }
            _ => {}
        }
    }
}

fn before(deadline: Instant) -> Instant {
    deadline.checked_sub(MARGIN).unwrap_or(deadline)
}

impl Driver for Ldap {
    fn change(&self, login: Login, new: Password, deadline: Instant) -> Running<'_> {
        Box::pin(async move { self.replace(&login, &new, before(deadline)).await })
    }

    fn verify(&self, login: Login, deadline: Instant) -> Running<'_> {
        Box::pin(async move { self.check(&login, before(deadline)).await })
    }

    fn look_up(&self, id: String, _username: String, deadline: Instant) -> Running<'_> {
        Box::pin(async move { self.read_again(&id, &Steps::default(), before(deadline)).await })
    }
}
