//! The searches of one login, on one connection.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use idm_plan::DirectoryServer;
use idm_trust::{DirectoryError, DirectoryErrorKind, Steps};
use ldap3_proto::proto::{LdapResultCode, LdapSearchScope};

use super::connection::{Connection, Fault, FaultKind, Found};
use super::entry::{Entry, Range};
use super::filter::any_entry;
use super::message::Search;
use super::referrals::{Referrals, Trail};
use super::root::Root;
use super::servers::Servers;

/// The octets of memory that the entries of one login may take.
const BUDGET: usize = 16 << 20;
/// The time in which a kept connection must begin to answer. One that was cut off without a word is left early enough
/// for another one.
const KEPT_ANSWERS: Duration = Duration::from_secs(1);
/// The references of one login that are followed.
const MOST_FOLLOWED: usize = 16;
/// The most pages of one search.
const PAGES: usize = 200;

/// Reads entries.
pub(super) struct Reader<'a> {
    servers: &'a Servers,
    referrals: &'a Referrals,
    /// The person's entry by its name, and the servers that have it, where a reference led to it.
    home: Option<(String, Arc<Servers>)>,
    /// The references that were followed.
    followed: usize,
    pub(super) steps: &'a Steps,
    deadline: Instant,
    connection: Option<Connection>,
    /// The connection is a person's, and no other one will do.
    of_person: bool,
    /// The connection was kept from another login, and has not answered yet.
    kept: bool,
    /// Another connection may be taken, once.
    may_retry: bool,
    budget: usize,
}

/// The entries of a search, with the code that the caller must judge.
pub(super) struct Answered {
    pub(super) entries: Vec<Entry>,
    pub(super) code: LdapResultCode,
    pub(super) too_many: bool,
    /// Places on other servers where there may be more.
    references: Vec<Vec<String>>,
}

impl Answered {
    /// The references, which are followed or ignored.
    pub(super) fn take_references(&mut self) -> Vec<Vec<String>> {
        std::mem::take(&mut self.references)
    }

    /// Adds entries of another server. One that is here already is the same entry.
    fn take(&mut self, entries: Vec<Entry>, origin: DirectoryServer, most: usize) {
        for mut entry in entries {
            if !self.entries.iter().any(|known| known.dn.eq_ignore_ascii_case(&entry.dn)) {
                entry.origin = Some(origin.clone());
                self.entries.push(entry);
            }
        }
        self.too_many |= self.entries.len() > most;
    }
}

impl<'a> Reader<'a> {
    /// Reads on connections on which the gateway is bound.
    pub(super) fn of_gateway(
        servers: &'a Servers,
        referrals: &'a Referrals,
        steps: &'a Steps,
        deadline: Instant,
    ) -> Self {
        Self {
            servers,
            referrals,
            home: None,
            followed: 0,
            steps,
            deadline,
            connection: None,
            of_person: false,
            kept: false,
            may_retry: true,
            budget: BUDGET,
        }
    }

    /// Reads on the connection on which a person has just bound, and on no other one.
    pub(super) fn of_person(
        servers: &'a Servers,
        referrals: &'a Referrals,
        connection: Connection,
        steps: &'a Steps,
        deadline: Instant,
    ) -> Self {
        let connection = Some(connection);
        Self { connection, of_person: true, may_retry: false, ..Self::of_gateway(servers, referrals, steps, deadline) }
    }

    /// From now on the person's own entry is read where a reference led to it; the servers that have it.
    pub(super) fn goes_home(&mut self, entry: &Entry) -> Result<Option<Arc<Servers>>, DirectoryError> {
        let Some(origin) = &entry.origin else { return Ok(None) };
        let servers = self.referrals.servers(origin)?;
        self.home = Some((entry.dn.clone(), servers.clone()));
        Ok(Some(servers))
    }

    /// The reader has come to its end in good order: the gateway's connection is kept, a person's is closed.
    pub(super) async fn finish(self) {
        match self.connection {
            Some(connection) if self.of_person => connection.close().await,
            Some(connection) => self.servers.give_back(connection),
            None => {}
        }
    }

    /// The entry at `base`; `None`: there is none on this server, or it may not be seen.
    pub(super) async fn read(&mut self, base: &str, attributes: Vec<String>) -> Result<Option<Entry>, DirectoryError> {
        let filter = any_entry();
        let search = Search { base, scope: LdapSearchScope::Base, filter, attributes, size_limit: 0, most: 1 };
        let mut answered = match self.home.clone().filter(|(own, _)| own == base) {
            Some((_, servers)) => self.search_at(&servers, &search, false).await?,
            None => self.search(&search, false).await?,
        };
        match answered.code {
            LdapResultCode::Success => Ok(answered.entries.pop()),
            LdapResultCode::NoSuchObject | LdapResultCode::Referral => Ok(None),
            _ => Err(self.refused(&search, &answered)),
        }
    }

    /// All entries below a base, in pages where the server gives them. They are whole, or there is an error.
    pub(super) async fn all(&mut self, search: &Search<'_>) -> Result<Vec<Entry>, DirectoryError> {
        let pages = self.root().await?.pages;
        let answered = self.search(search, pages).await?;
        if answered.too_many {
            return Err(too_many_groups());
        }
        match answered.code {
            LdapResultCode::Success => Ok(answered.entries),
            _ => Err(self.refused(search, &answered)),
        }
    }

    /// One search; what the code of it means is the caller's concern, and with another one than success there are no
    /// entries, unless there were too many. References to servers that are listed are followed.
    pub(super) async fn search(&mut self, search: &Search<'_>, pages: bool) -> Result<Answered, DirectoryError> {
        let mut answered = self.search_here(search, pages).await?;
        if self.of_person || !self.referrals.follows() {
            return Ok(answered);
        }
        let mut trail = Trail::from(self.servers.list(), search);
        let mut next = trail.places(self.referrals, &mut answered, search)?;
        while let Some(level) = next.take().filter(|level| !level.is_empty()) {
            trail.deeper().map_err(|why| self.unusable(why))?;
            let mut further = Vec::new();
            for place in level {
                self.followed += 1;
                if self.followed > MOST_FOLLOWED {
                    return Err(self.unusable("more than 16 references of one login were to be followed"));
                }
                let servers = self.referrals.servers(&place.server)?;
                let there = Search { base: &place.base, scope: place.scope.clone(), ..search.clone() };
                let mut more = self.search_at(&servers, &there, pages).await?;
                further.extend(trail.places(self.referrals, &mut more, &there)?.into_iter().flatten());
                match more.code {
                    LdapResultCode::Success => {}
                    LdapResultCode::NoSuchObject if there.scope == LdapSearchScope::Base => {}
                    _ => return Err(self.refused(&there, &more)),
                }
                answered.take(more.entries, place.server, search.most);
            }
            next = Some(further);
        }
        Ok(answered)
    }

    /// One search at the servers to which a reference led.
    async fn search_at(
        &mut self,
        servers: &Servers,
        search: &Search<'_>,
        pages: bool,
    ) -> Result<Answered, DirectoryError> {
        let mut there = Reader::of_gateway(servers, self.referrals, self.steps, self.deadline);
        there.budget = self.budget;
        let answered = there.search_here(search, pages).await;
        self.budget = there.budget;
        there.finish().await;
        answered
    }

    /// One search at the servers of this reader.
    async fn search_here(&mut self, search: &Search<'_>, pages: bool) -> Result<Answered, DirectoryError> {
        let (mut entries, mut references): (Vec<Entry>, Vec<Vec<String>>) = (Vec::new(), Vec::new());
        let (mut cookie, mut seen) = (pages.then(Vec::new), HashSet::new());
        for _ in 0..PAGES {
            let Found { entries: page, references: more, outcome, cookie: next, too_many } =
                self.page(search, cookie).await?;
            references.extend(more);
            references.extend(Some(outcome.referral).filter(|uris| !uris.is_empty()));
            let known = seen.len();
            seen.extend(page.iter().map(|entry| entry.dn.clone()));
            let advances = seen.len() > known;
            entries.extend(page);
            let too_many = too_many || entries.len() > search.most;
            if outcome.code != LdapResultCode::Success || too_many {
                // Part of an answer is no answer; how many there were says enough where somebody is ambiguous.
                return Ok(Answered { entries, code: outcome.code, too_many, references });
            }
            match next {
                Some(next) if pages && !next.is_empty() => {
                    if !advances {
                        return Err(self.unusable("the server repeats a page of results; it does not do RFC 2696"));
                    }
                    cookie = Some(next);
                }
                _ => return Ok(Answered { entries, code: LdapResultCode::Success, too_many: false, references }),
            }
        }
        Err(self.unusable("the server gives more than 200 pages of results"))
    }

    /// One search operation. A connection that is lost before it answers is replaced once.
    async fn page(&mut self, search: &Search<'_>, cookie: Option<Vec<u8>>) -> Result<Found, DirectoryError> {
        let first_page = cookie.as_ref().is_none_or(Vec::is_empty);
        loop {
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None if self.of_person => return Err(self.unusable("the person's connection has ended")),
                None => {
                    let (connection, kept) = self.servers.lease(self.steps, self.deadline).await?;
                    self.kept = kept;
                    connection
                }
            };
            let began = Instant::now();
            let first = if self.kept { began + KEPT_ANSWERS } else { self.deadline };
            match connection.search(search, cookie.clone(), &mut self.budget, first, self.deadline).await {
                Ok(found) => {
                    self.kept = false;
                    self.note(&connection, search, &found, began);
                    if !found.too_many {
                        self.connection = Some(connection);
                    }
                    return Ok(found);
                }
                Err(fault) => {
                    self.note_fault(&connection, search, &fault, began);
                    let error = connection.error(&fault);
                    self.lost(&connection, &fault);
                    let again = fault.kind == FaultKind::Silent && first_page && self.may_retry;
                    if !again || Instant::now() >= self.deadline {
                        return Err(error);
                    }
                    self.may_retry = false;
                }
            }
        }
    }

    /// Remembers that a connection was lost.
    fn lost(&self, connection: &Connection, fault: &Fault) {
        match fault.kind {
            // Its age may be the reason, so nothing is held against the server.
            FaultKind::Silent if self.kept => self.servers.forget_idle(connection.server),
            FaultKind::Silent | FaultKind::Cut => self.servers.failed(connection.server),
            FaultKind::Broken => {}
        }
    }

    /// The root DSE of the server.
    pub(super) async fn root(&mut self) -> Result<Root, DirectoryError> {
        if let Some(root) = self.connection.as_ref().and_then(|connection| self.servers.root(connection.server)) {
            return Ok(root);
        }
        let answered = self.search(&Root::search(), false).await?;
        let root = Root::read(answered.entries.first().filter(|_| answered.code == LdapResultCode::Success));
        if let Some(connection) = &self.connection {
            self.servers.know_root(connection.server, root.clone());
        }
        Ok(root)
    }

    /// Reads the values of an attribute that the server gives in parts (`member;range=0-1499`), up to the last one.
    pub(super) async fn complete(&mut self, entry: &mut Entry, attribute: &str) -> Result<(), DirectoryError> {
        let incomplete =
            |reader: &Self| reader.unusable(&format!("the server does not give all values of `{attribute}`"));
        let (mut next, mut values) = match entry.take_range(attribute) {
            None => return Ok(()),
            Some(Range { start: 0, next, values }) => (next, values),
            Some(_) => return Err(incomplete(self)),
        };
        while let Some(position) = next {
            let wanted = format!("{attribute};range={position}-*");
            let more = self.read(&entry.dn, vec![wanted]).await?.and_then(|mut entry| entry.take_range(attribute));
            match more {
                // Each range brings something, so that there is an end.
                Some(more) if more.start == position && more.next.is_none_or(|next| next > position) => {
                    values.extend(more.values);
                    next = more.next;
                }
                _ => return Err(incomplete(self)),
            }
        }
        entry.set(attribute, values);
        Ok(())
    }

    /// The error for a search whose code says that it did not succeed.
    pub(super) fn refused(&self, search: &Search<'_>, answered: &Answered) -> DirectoryError {
        use DirectoryErrorKind::{RefusesUs, Unavailable, Unusable};
        let (code, base) = (&answered.code, search.base);
        let (kind, what) = match code {
            LdapResultCode::NoSuchObject => {
                (Unusable, format!("there is no entry `{base}`, or the gateway may not see it; correct the base"))
            }
            LdapResultCode::Referral => {
                (Unusable, format!("`{base}` is on another server; name that server, or another base"))
            }
            LdapResultCode::StrongerAuthRequired | LdapResultCode::ConfidentialityRequired => {
                (RefusesUs, WANTS_TLS.to_owned())
            }
            LdapResultCode::InsufficentAccessRights
            | LdapResultCode::InappropriateAuthentication
            | LdapResultCode::InvalidCredentials => {
                (RefusesUs, format!("the gateway may not search below `{base}`; give its account that right"))
            }
            LdapResultCode::OperationsError => {
                (RefusesUs, format!("the search below `{base}` is refused; Active Directory wants a bind with a name"))
            }
            LdapResultCode::SizeLimitExceeded | LdapResultCode::AdminLimitExceeded => {
                (Unusable, "the directory does not give all entries; raise its limit for the gateway's account".into())
            }
            LdapResultCode::TimeLimitExceeded | LdapResultCode::Busy | LdapResultCode::Unavailable => {
                (Unavailable, format!("the search below `{base}` did not come to its end"))
            }
            _ => (Unusable, format!("the search below `{base}` is refused")),
        };
        let label = self.connection.as_ref().map(|connection| connection.label.as_str()).unwrap_or("the directory");
        DirectoryError::new(kind, format!("{label}: {what} (code {} {code:?})", code.clone() as i64))
    }

    /// An answer that cannot be used.
    pub(super) fn unusable(&self, what: &str) -> DirectoryError {
        let label = self.connection.as_ref().map(|connection| connection.label.as_str()).unwrap_or("the directory");
        DirectoryError::new(DirectoryErrorKind::Unusable, format!("{label}: {what}"))
    }

    fn note(&self, connection: &Connection, search: &Search<'_>, found: &Found, began: Instant) {
        self.steps.note(|| {
            let Found { entries, references, outcome, .. } = found;
            let ignored = match references.len() {
                0 => String::new(),
                count if self.referrals.follows() => format!(", {count} references"),
                count => format!(", {count} references ignored"),
            };
            let (count, ms, code) = (entries.len(), began.elapsed().as_millis(), outcome.code.clone() as i64);
            let said = format!("code {code} ({:?}) {}", outcome.code, outcome.diagnostic);
            format!("{}: {}: {count} entries{ignored}, {}, {ms} ms", connection.label, asked(search), said.trim_end())
        });
    }

    fn note_fault(&self, connection: &Connection, search: &Search<'_>, fault: &Fault, began: Instant) {
        let ms = began.elapsed().as_millis();
        self.steps.note(|| format!("{}: {}: {}, {ms} ms", connection.label, asked(search), fault.detail));
    }
}

/// The advice for a server that refuses a connection without TLS.
pub(super) const WANTS_TLS: &str = "the server wants TLS; write its address with `ldaps://`, or set `startTls` to true";

/// More groups than are taken.
pub(super) fn too_many_groups() -> DirectoryError {
    DirectoryError::new(
        DirectoryErrorKind::TooManyGroups,
        "the person is in more than 5,000 groups; narrow the base of groups",
    )
}

fn asked(search: &Search<'_>) -> String {
    let Search { base, scope, filter, .. } = search;
    format!("search base `{base}` scope {scope:?} filter `{}`", filter.text())
}
