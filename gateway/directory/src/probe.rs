//! Questions of people who are about to write a Federation: what a directory is like. Nothing is kept, and nobody is
//! let in.

use std::time::{Duration, Instant};

use idm_plan::{DatabaseProduct, DirectoryServer, DirectoryTls};
pub use idm_trust::{DirectoryError, DirectoryErrorKind, Password, ServerCertificateFacts};
use idm_trust::{ShownCertificates, Steps};

use crate::{Reach, ldap, sql};

/// The time that a probe takes at most.
const LIMIT: Duration = Duration::from_secs(15);

/// The outcome of a probe.
#[derive(Debug)]
pub struct Probed<T> {
    /// The steps, in which nothing secret is written.
    pub steps: Vec<String>,
    /// The certificate that the server shows, where TLS is begun. It was read and not verified.
    pub certificate: Option<ServerCertificateFacts>,
    /// The facts, or why there are none.
    pub found: Result<T, DirectoryError>,
}

/// A server that is asked.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its address, and how connections to it are protected.
    pub at: DirectoryServer,
    /// TLS settings; `None`: the system's authorities.
    pub tls: Option<DirectoryTls>,
}

/// A question to an LDAP server.
#[derive(Debug)]
pub struct LdapQuestion {
    /// The server.
    pub server: Server,
    /// The name and password with which it is asked; `None`: anonymously.
    pub bind: Option<(String, Password)>,
    /// The entry below which people are; `None`: the server's own tree.
    pub base: Option<String>,
    /// Somebody who is looked for.
    pub username: Option<String>,
}

/// The facts about an LDAP server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LdapFacts {
    /// It is an Active Directory.
    pub active_directory: bool,
    /// The product, as far as the server says.
    pub product: String,
    /// The trees.
    pub contexts: Vec<String>,
    /// The entry below which was searched.
    pub base: String,
    /// Results come in pages (RFC 2696).
    pub pages: bool,
    /// Passwords can be changed by RFC 3062.
    pub changes_passwords: bool,
    /// People, or `username` alone, that the search brought.
    pub people: usize,
    /// The attributes by which `username` was found.
    pub login_attributes: Vec<String>,
    /// The attribute that never changes.
    pub id_attribute: Option<String>,
    /// How the groups of `username` are found; `None`: it is not known.
    pub groups: Option<LdapGroupFacts>,
}

/// How groups are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LdapGroupFacts {
    /// By Active Directory's `tokenGroups`.
    TokenGroups,
    /// By the person's `memberOf`.
    MemberOf,
    /// By a search for groups that name the person.
    Search {
        /// The entry that the first of them is below.
        base: String,
        /// The class of the groups.
        class: String,
        /// The attribute that names members.
        member_attribute: String,
        /// The attribute of the person that it names; `None`: the distinguished name.
        user_attribute: Option<String>,
    },
}

/// A question to a database.
#[derive(Debug)]
pub struct DatabaseQuestion {
    /// The product.
    pub product: DatabaseProduct,
    /// The server.
    pub server: Server,
    /// The database.
    pub database: String,
    /// The gateway's user there, with its password.
    pub login: (String, Password),
}

/// The facts about a database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DatabaseFacts {
    /// The version, as the server says it.
    pub version: String,
    /// The tables that the user may see, with their columns.
    pub tables: Vec<(String, Vec<String>)>,
}

/// Asks an LDAP server. Must be called on a runtime of tokio.
pub async fn ldap(question: LdapQuestion) -> Probed<LdapFacts> {
    let (steps, deadline) = (Steps::kept(), Instant::now() + LIMIT);
    let shown = ShownCertificates::default();
    if question.server.at.protection != idm_plan::Protection::Loopback {
        ldap::read_certificate(&question.server.at, &shown, &reach(), deadline).await;
    }
    let found = ldap::probe(&question, reach(), &steps, deadline).await;
    Probed { steps: steps.read(), certificate: shown.facts(), found }
}

/// Asks a database. Must be called on a runtime of tokio.
pub async fn database(question: DatabaseQuestion) -> Probed<DatabaseFacts> {
    let (steps, deadline) = (Steps::kept(), Instant::now() + LIMIT);
    let shown = ShownCertificates::default();
    if question.server.at.protection != idm_plan::Protection::Loopback {
        sql::read_certificate(&question, &shown, reach(), deadline).await;
    }
    let found = sql::probe(&question, reach(), &steps, deadline).await;
    Probed { steps: steps.read(), certificate: shown.facts(), found }
}

/// A person asks from their own machine, and may ask what is on it.
fn reach() -> Reach {
    Reach { local: true, api_server: None }
}
