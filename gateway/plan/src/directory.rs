use serde::{Deserialize, Serialize};

use crate::{DigestAlgorithm, DirectoryTls, DistinguishedName, Expr, LdapFilter, SecretHandle, Selector};

/// A directory: an outside source that checks passwords and says who people are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    /// The protocol, with its settings.
    pub source: DirectorySource,
    /// The forms of user names that belong to this directory alone. Empty: names without a realm, and those whose realm
    /// nobody declares.
    pub realms: Vec<Realm>,
    /// The time for which a verified password is not checked again; 0: it always is.
    pub cache_seconds: u64,
    /// The time after which a session's person is looked up again; `None`: people cannot be looked up.
    pub recheck_ms: Option<u64>,
    /// Sessions go on while the directory does not answer.
    pub keeps_sessions: bool,
    /// People may choose a new password in the sign-in form where the directory wants it.
    pub changes_passwords: bool,
    /// The time that one login may take, over all servers and attempts.
    pub deadline_ms: u64,
    /// Logins that may be under way at the same time.
    pub concurrency: u32,
    /// The groups that role mappings name; those that a person has become the claim `mappedGroups`.
    pub groups: Vec<NamedGroup>,
}

/// A group as a role mapping names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedGroup {
    /// Its text: the value in the claim.
    pub text: String,
    /// The text as a distinguished name; `None`: it is an id or a short name.
    pub dn: Option<DistinguishedName>,
}

/// A source of people whose passwords a method checks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Validator {
    /// Credentials that the selector accepts.
    Credentials(Selector),
    /// A directory: the name of one of [`crate::Plan::federations`].
    Directory(String),
}

/// The protocol of a directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum DirectorySource {
    /// LDAP (RFC 4511), Active Directory among its servers.
    Ldap(Box<LdapDirectory>),
    /// A table of a database.
    Database(Box<DatabaseDirectory>),
    /// A service that is asked over HTTP.
    Rest(Box<RestDirectory>),
}

/// A form of user names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Realm {
    /// `DOMAIN\name`; compared without regard to case. The directory is asked for the name alone.
    Domain(String),
    /// `name@suffix`; compared without regard to case. LDAP directories and databases are asked for the whole name and
    /// for the name alone, services for the whole name.
    Suffix(String),
}

/// How a connection to a server is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Protection {
    /// TLS from the first byte; the certificate is verified against the host as it is written.
    Tls,
    /// TLS begun in the protocol, before anything else is sent, and verified in the same way.
    StartTls,
    /// None: the host is this machine.
    Loopback,
}

/// A host and port as they are written, with the protection of connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectoryServer {
    /// A DNS name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The protection.
    pub protection: Protection,
}

/// People of an LDAP directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LdapDirectory {
    /// Servers with the same content, the preferred one first. Never empty.
    pub servers: Vec<DirectoryServer>,
    /// TLS settings; `None`: the system's authorities.
    pub tls: Option<DirectoryTls>,
    /// The servers to which references are followed. Empty: none
    /// is.
    pub referrals: Vec<ReferralHost>,
    /// How people are found, and how the gateway binds for it.
    pub lookup: LdapLookup,
    /// The attributes that are read of a person.
    pub person: LdapPerson,
    /// How groups are found; `None`: nobody has any.
    pub groups: Option<LdapGroups>,
}

/// A host to which references may lead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferralHost {
    /// A DNS name or an address, in lower case and without brackets.
    pub host: String,
    /// The port; `None`: the usual one of the reference's scheme.
    pub port: Option<u16>,
    /// Connections are not protected: the host is this machine.
    pub plain: bool,
}

/// How the entry of a person is found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum LdapLookup {
    /// A search, then a bind as the entry that was found.
    Search {
        /// The bind of the gateway itself.
        bind: LdapBind,
        /// The entry below which people are.
        base: String,
        /// A condition that people must meet.
        filter: Option<LdapFilter>,
        /// The attributes of which one must be equal to the user name. Never empty.
        login_attributes: Vec<String>,
    },
    /// A bind as the name that the template makes, which reads its own entry.
    Template {
        /// The text before the user name, which is escaped as RFC 4514 §2.4 says.
        before: String,
        /// The text after it.
        after: String,
        /// The attribute that must be equal to the user name.
        login_attribute: String,
    },
}

/// The bind of the gateway itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum LdapBind {
    /// A name with a password (RFC 4513 §5.1.3).
    Simple {
        /// The distinguished name, or what the server takes for one.
        dn: String,
        /// The password. Never empty.
        password: SecretHandle,
    },
    /// An anonymous bind (RFC 4513 §5.1.1), because the Federation says so.
    Anonymous,
}

/// The attributes that are read of a person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LdapPerson {
    /// The attribute that never changes; `None`: `objectGUID`, `entryUUID`, `nsUniqueId` or `ipaUniqueID`, whichever
    /// the server has.
    pub id_attribute: Option<String>,
    /// The attribute whose value is the user name; `None`: the first login attribute that a person has.
    pub username_attribute: Option<String>,
    /// Further attributes, which become claims.
    pub attributes: Vec<LdapAttribute>,
}

/// An attribute of a person that becomes a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LdapAttribute {
    /// The claim.
    pub claim: String,
    /// The attribute.
    pub attribute: String,
    /// How its octets are read.
    pub syntax: LdapSyntax,
    /// All values, as a list; otherwise the first one.
    pub all: bool,
}

/// How the octets of a value are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LdapSyntax {
    /// UTF-8.
    Text,
    /// A GUID in Microsoft's mixed byte order (MS-DTYP §2.3.4.2).
    Guid,
    /// A security identifier (MS-DTYP §2.4.2.2), written `S-1-…`.
    Sid,
    /// Base64 of the octets.
    Base64,
}

/// How the groups of a person are found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LdapGroups {
    /// The strategy.
    pub strategy: GroupStrategy,
    /// The entry below which groups are; others do not count. `None`: everywhere.
    pub base: Option<DistinguishedName>,
    /// The attribute with a group's short name.
    pub name_attribute: String,
}

/// How the groups of a person are found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum GroupStrategy {
    /// Active Directory's own expansion: one read of `tokenGroups`, which has nested and primary groups.
    TokenGroups,
    /// The values of the person's `memberOf`, and of those groups' where `nested`.
    MemberOf {
        /// Also the groups that these are in.
        nested: bool,
    },
    /// A search with Active Directory's rule `LDAP_MATCHING_RULE_IN_CHAIN`.
    InChain,
    /// A search for groups that name the person.
    Search {
        /// A condition that groups must meet.
        filter: Option<LdapFilter>,
        /// The attribute of a group that names its members.
        member_attribute: String,
        /// The attribute of the person that it names; `None`: the distinguished name.
        user_attribute: Option<String>,
        /// Also the groups that these are in, which they must name by distinguished name.
        nested: bool,
    },
}

/// People of a database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseDirectory {
    /// The product.
    pub product: DatabaseProduct,
    /// The server.
    pub server: DirectoryServer,
    /// TLS settings; `None`: the system's authorities.
    pub tls: Option<DirectoryTls>,
    /// The database.
    pub database: String,
    /// The user of the gateway there.
    pub user: String,
    /// The password of this user.
    pub password: SecretHandle,
    /// Returns a person by user name: one row with the columns `username` and `password`, `enabled` unless
    /// `always_enabled`, `id` where there is one; further columns become claims.
    pub person: Statement,
    /// The same by `id`, with the same columns; `None`: people are looked up by user name.
    pub by_id: Option<Statement>,
    /// Returns the groups of a person by user name: the first column of each row.
    pub groups: Option<Statement>,
    /// Everyone who is in the table is enabled.
    pub always_enabled: bool,
    /// User names that differ in case alone are the same.
    pub ignores_case: bool,
    /// Formats of passwords that are accepted besides the good ones.
    pub legacy_formats: Vec<LegacyFormat>,
    /// The statements for people also return `ha1`; `None`: Digest cannot be used.
    pub digest: Option<DigestColumn>,
    /// Replaces a password's hash by a new one: the new hash, the user name and the old hash are its parameters.
    pub upgrade: Option<Statement>,
}

/// The column with `H(username:realm:password)` in hexadecimal (RFC 7616 §3.4.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DigestColumn {
    /// The realm.
    pub realm: String,
    /// The algorithm.
    pub algorithm: DigestAlgorithm,
}

/// A database product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DatabaseProduct {
    /// PostgreSQL.
    PostgreSql,
    /// MySQL and MariaDB.
    MySql,
}

/// An SQL statement with parameters, which travel apart from its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// The text in the product's own notation: `$1` or `?`.
    pub text: String,
    /// The parameters in the order of their places in the text (`?`) or of their numbers (`$1`).
    pub parameters: Vec<Parameter>,
}

/// A parameter of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Parameter {
    /// The user name.
    Username,
    /// The id.
    Id,
    /// The new hash.
    NewHash,
    /// The hash that was read.
    OldHash,
}

/// A format of stored passwords that is too weak for today, or of no known cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LegacyFormat {
    /// `$P$` and `$H$`: iterated MD5 of phpass.
    Phpass,
    /// `{SSHA}`, `{SSHA256}`, `{SSHA512}` and the same without salt: one round of SHA.
    LdapSha,
    /// `$1$`: md5-crypt.
    Md5Crypt,
    /// Django's `pbkdf2_sha1$` and `sha1$`.
    DjangoSha1,
    /// The password itself.
    PlainText,
}

/// People of a service that is asked over HTTP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestDirectory {
    /// The question whether a password is right.
    pub verify: RestRequest,
    /// The question about a person by id; `None`: nobody is looked up again.
    pub look_up: Option<RestRequest>,
    /// TLS settings; `None`: the system's authorities.
    pub tls: Option<DirectoryTls>,
    /// Repetitions of a question that found no server. A question without a password is also repeated after a
    /// connection that ended, and after 502, 503 and 504.
    pub retries: u32,
    /// How answers are read.
    pub answer: RestAnswer,
}

/// A request, in which values stand at leaves and are never pasted into text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestRequest {
    /// `GET`, `POST` or `PUT`.
    pub method: String,
    /// Scheme, host and port, with the segments of the path that do not change.
    pub url: String,
    /// Segments that are added to the path.
    pub segments: Vec<RestValue>,
    /// Parameters of the query.
    pub query: Vec<(String, RestValue)>,
    /// Headers by lower-case name.
    pub headers: Vec<(String, RestValue)>,
    /// The body.
    pub body: RestBody,
}

/// The body of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum RestBody {
    /// None.
    Nothing,
    /// JSON.
    Json(RestJson),
    /// `application/x-www-form-urlencoded`.
    Form(Vec<(String, RestValue)>),
}

/// JSON whose texts may be values of the login.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum RestJson {
    /// A text.
    Text(RestValue),
    /// `null`, a truth value or a number.
    Constant(serde_json::Value),
    /// A list.
    List(Vec<RestJson>),
    /// An object.
    Object(Vec<(String, RestJson)>),
}

/// A value in a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum RestValue {
    /// This text.
    Text(String),
    /// The user name.
    Username,
    /// The password.
    Password,
    /// `Basic` with user name and password: in the header `authorization` alone.
    Basic,
    /// The id.
    Id,
    /// A secret of the Federation, with this text before it.
    Secret(String, SecretHandle),
}

/// How answers of a service are read. Expressions see `token.status`, a number, and `token.body`, the JSON of the
/// answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestAnswer {
    /// True for the answer that a person is who they say they are.
    pub success: Expr,
    /// True for the answer that the password is wrong or the person unknown. An answer for which neither this nor
    /// `success` is true is an error of the service.
    pub failure: Expr,
    /// The id that never changes.
    pub id: Expr,
    /// The user name.
    pub username: Expr,
    /// Groups: a list of names.
    pub groups: Option<Expr>,
    /// Further claims.
    pub claims: Vec<(String, Expr)>,
}
