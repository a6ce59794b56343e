//! References to other servers (RFC 4511 §4.1.10 and §4.5.3): which of them are followed, and where they lead. A
//! server that answers with a reference chooses neither a host nor a protection that the Federation does not: hosts are
//! listed, and a connection is protected as at the directory's own servers.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use idm_plan::{DirectoryServer, Protection, ReferralHost};
use idm_trust::{DirectoryError, DirectoryErrorKind};
use ldap3_proto::proto::{LdapResultCode, LdapSearchScope};
use rustls::ClientConfig;
use url::Url;

use super::message::Search;
use super::reader::Answered;
use super::servers::{OwnBind, Servers};
use crate::Reach;

/// References that lead to references, at most.
const DEPTH: usize = 3;

/// The servers to which references are followed.
pub(super) struct Referrals {
    hosts: Vec<ReferralHost>,
    tls: Arc<ClientConfig>,
    reach: Reach,
    bind: Option<Arc<OwnBind>>,
    /// Those that were needed until now; there are two for a host at most.
    known: Mutex<HashMap<DirectoryServer, Arc<Servers>>>,
}

/// The place that a reference leads to.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Place {
    pub(super) server: DirectoryServer,
    pub(super) base: String,
    pub(super) scope: LdapSearchScope,
}

impl Referrals {
    pub(super) fn new(
        hosts: &[ReferralHost],
        tls: Arc<ClientConfig>,
        reach: Reach,
        bind: Option<Arc<OwnBind>>,
    ) -> Self {
        Self { hosts: hosts.to_vec(), tls, reach, bind, known: Mutex::default() }
    }

    /// Whether any reference is followed.
    pub(super) fn follows(&self) -> bool {
        !self.hosts.is_empty()
    }

    /// The server of a reference. It has a state of its own, as the directory's servers have.
    pub(super) fn servers(&self, server: &DirectoryServer) -> Result<Arc<Servers>, DirectoryError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(servers) = known.get(server) {
            return Ok(servers.clone());
        }
        let opened =
            Servers::new(std::slice::from_ref(server), self.tls.clone(), self.reach.clone(), self.bind.clone());
        let opened = Arc::new(opened.map_err(|why| DirectoryError::new(DirectoryErrorKind::Unusable, why))?);
        known.insert(server.clone(), opened.clone());
        Ok(opened)
    }

    /// The first of the URIs that may be followed: they all mean the same place.
    fn place(&self, uris: &[String], search: &Search<'_>) -> Option<Place> {
        uris.iter().find_map(|uri| self.read(uri, search))
    }

    /// An LDAP URL (RFC 4516): `ldap://HOST:PORT/BASE?ATTRIBUTES?SCOPE?FILTER?EXTENSIONS`. One that asks for another
    /// filter or for an extension is not followed, because it would search for somebody else.
    fn read(&self, uri: &str, search: &Search<'_>) -> Option<Place> {
        let url = Url::parse(uri).ok()?;
        let is_tls = match url.scheme() {
            "ldaps" => true,
            "ldap" => false,
            _ => return None,
        };
        let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let usual = if is_tls { 636 } else { 389 };
        let port = url.port().unwrap_or(usual);
        let listed = self.hosts.iter().find(|known| known.host == host && known.port.unwrap_or(usual) == port)?;
        let protection = match (listed.plain, is_tls) {
            (true, false) => Protection::Loopback,
            (_, true) => Protection::Tls,
            (false, false) => Protection::StartTls,
        };
        let parts: Vec<&str> = url.query().unwrap_or_default().split('?').collect();
        let part = |at: usize| parts.get(at).copied().unwrap_or_default();
        if !part(2).is_empty() || !part(3).is_empty() {
            return None;
        }
        // Without a scope, one level becomes the entry itself (RFC 4511 §4.5.3).
        let scope = match part(1) {
            "base" => LdapSearchScope::Base,
            "one" => LdapSearchScope::OneLevel,
            "sub" => LdapSearchScope::Subtree,
            "" if search.scope == LdapSearchScope::OneLevel => LdapSearchScope::Base,
            "" => search.scope.clone(),
            _ => return None,
        };
        let base = decoded(url.path().trim_start_matches('/'))?;
        let base = if base.is_empty() { search.base.to_owned() } else { base };
        Some(Place { server: DirectoryServer { host, port, protection }, base, scope })
    }
}

/// A text without its percent-encoding; `None`: it is broken, or is not UTF-8 then.
fn decoded(text: &str) -> Option<String> {
    String::from_utf8(idm_types::percent_decoded(text)?).ok()
}

/// The places that one search has been to, so that it comes to its end.
pub(super) struct Trail {
    seen: HashSet<(String, u16, String, i64)>,
    depth: usize,
}

impl Trail {
    /// A search begins at these servers, which have the same content.
    pub(super) fn from(servers: &[DirectoryServer], search: &Search<'_>) -> Self {
        let seen = servers.iter().map(|server| key(server, search.base, &search.scope)).collect();
        Self { seen, depth: 0 }
    }

    /// The places that an answer refers to and that were not searched before. An answer that is nothing but a reference
    /// counts as a success where it is followed; one to a place that was searched already would never end.
    pub(super) fn places(
        &mut self,
        referrals: &Referrals,
        answered: &mut Answered,
        search: &Search<'_>,
    ) -> Result<Option<Vec<Place>>, DirectoryError> {
        let is_referral = answered.code == LdapResultCode::Referral;
        if !is_referral && answered.code != LdapResultCode::Success {
            return Ok(None);
        }
        let references = answered.take_references();
        let listed: Vec<Place> = references.iter().filter_map(|uris| referrals.place(uris, search)).collect();
        let mut new = Vec::new();
        for place in &listed {
            if self.seen.insert(key(&place.server, &place.base, &place.scope)) {
                new.push(place.clone());
            }
        }
        if is_referral && !listed.is_empty() {
            if new.is_empty() {
                let detail = format!("servers refer to each other for `{}`; correct their references", search.base);
                return Err(DirectoryError::new(DirectoryErrorKind::Unusable, detail));
            }
            answered.code = LdapResultCode::Success;
        }
        Ok(Some(new))
    }

    /// References of references are followed. The error says that they lead too far.
    pub(super) fn deeper(&mut self) -> Result<(), &'static str> {
        self.depth += 1;
        if self.depth > DEPTH { Err("references lead to references more than 3 times") } else { Ok(()) }
    }
}

fn key(server: &DirectoryServer, base: &str, scope: &LdapSearchScope) -> (String, u16, String, i64) {
    (server.host.clone(), server.port, base.to_lowercase(), scope.clone() as i64)
}

#[cfg(test)]
mod tests {
    use super::super::filter::any_entry;
    use super::*;

    fn referrals() -> Referrals {
        let host = |host: &str, port, plain| ReferralHost { host: host.into(), port, plain };
        let hosts = [host("b.test", None, false), host("c.test", Some(3269), false), host("127.0.0.1", Some(99), true)];
        let tls = idm_trust::client_config(None, &idm_plan::Secrets::default()).unwrap();
        Referrals::new(&hosts, Arc::new(tls), Reach { local: false, api_server: None }, None)
    }

    fn search(scope: LdapSearchScope) -> Search<'static> {
        Search { base: "dc=a", scope, filter: any_entry(), attributes: Vec::new(), size_limit: 2, most: 2 }
    }

    #[test]
    fn r28_a_reference_leads_to_listed_hosts_and_ports_alone_and_chooses_no_protection() {
        let read = |uri: &str| {
            let Place { server, base, .. } = referrals().read(uri, &search(LdapSearchScope::Subtree))?;
            Some((server.host, server.port, server.protection, base))
        };
        let place = |host: &str, port, protection, base: &str| Some((host.into(), port, protection, base.into()));
        assert_eq!(read("ldap://B.test/ou=x,dc=b"), place("b.test", 389, Protection::StartTls, "ou=x,dc=b"));
        assert_eq!(read("ldaps://b.test"), place("b.test", 636, Protection::Tls, "dc=a"));
        assert_eq!(read("ldaps://c.test:3269/dc=c%2Cdc=d??sub"), place("c.test", 3269, Protection::Tls, "dc=c,dc=d"));
        assert_eq!(read("ldap://127.0.0.1:99/"), place("127.0.0.1", 99, Protection::Loopback, "dc=a"));
        assert_eq!(read("ldaps://127.0.0.1:99/"), place("127.0.0.1", 99, Protection::Tls, "dc=a"));
        for elsewhere in [
            "ldap://other.test/dc=b",
            "ldap://b.test:1389/dc=b",
            "ldap://c.test/dc=c",
            "ldap://127.0.0.1/",
            "ldap://b.test.evil/dc=b",
            "ldap://b.test@evil.test/dc=b",
            "ldapi://b.test/dc=b",
            "http://b.test/dc=b",
            "ldap://b.test/dc=b??sub?(uid=admin)",
            "ldap://b.test/dc=b???(uid=admin)",
            "ldap://b.test/dc=b??sub??!x-bind",
            "ldap://b.test/%zz",
            "ldap:///dc=b",
            "b.test",
        ] {
            assert_eq!(read(elsewhere), None, "{elsewhere}");
        }
    }

    #[test]
    fn r28_one_level_of_a_place_that_is_elsewhere_is_the_entry_there() {
        let scope = |uri: &str, scope| referrals().read(uri, &search(scope)).map(|place| place.scope);
        assert_eq!(scope("ldap://b.test/dc=b", LdapSearchScope::OneLevel), Some(LdapSearchScope::Base));
        assert_eq!(scope("ldap://b.test/dc=b", LdapSearchScope::Base), Some(LdapSearchScope::Base));
        assert_eq!(scope("ldap://b.test/dc=b??one", LdapSearchScope::Subtree), Some(LdapSearchScope::OneLevel));
    }
}
