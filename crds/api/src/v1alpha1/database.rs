//! Tables of people in a database.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DigestAlgorithm, DirectoryTls, KeyReference};

/// A table of people in a database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DatabaseDirectory {
    /// The product.
    pub product: DatabaseProduct,
    /// The server: a DNS name or an address. The connection is encrypted and the certificate verified against this
    /// name, unless it is the gateway's own machine.
    #[schemars(length(min = 1, max = 255))]
    pub host: String,
    /// The port (1 to 65535). Unset means the product's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i64>,
    /// TLS settings, where the server's certificate is not of the system's authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<DirectoryTls>,
    /// The database.
    #[schemars(length(min = 1, max = 128))]
    pub database: String,
    /// The gateway's user there. It needs to read what the queries read, and nothing else.
    #[schemars(length(min = 1, max = 128))]
    pub user: String,
    /// The Secret with its password; the key is `password` unless named.
    pub password_ref: KeyReference,
    /// The query for a person by `:username`. It returns the columns `username`, `password` (the hash) and `enabled`,
    /// and perhaps `id`; others become claims. The user name that it returns is compared with the one that was typed.
    #[schemars(length(min = 10, max = 4096))]
    pub query: String,
    /// The same by `:id`, for looking people up again who signed in. Unset means `query`, and that the id must be the
    /// same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 10, max = 4096))]
    pub id_query: Option<String>,
    /// The query for groups by `:username` or `:id`: the first column of each row is a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 10, max = 4096))]
    pub group_query: Option<String>,
    /// Which people are enabled. Unset means `Column`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<DatabaseEnabled>,
    /// Whether user names that differ in case alone are the same. Unset means false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignore_case: Option<bool>,
    /// Weak formats of passwords that are accepted all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 5), extend("x-kubernetes-list-type" = "set"))]
    pub danger_legacy_formats: Option<Vec<DatabaseLegacyFormat>>,
    /// The queries also return the column `ha1`: what the Digest scheme needs, in hexadecimal. Unset: Digest cannot be
    /// used with this table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<DatabaseDigest>,
    /// Replaces the hash of a person who proved the password, if it is not argon2id: an `UPDATE` with `:newHash`,
    /// `:username` and `:oldHash`. Unset: nothing is written. A failure never fails the login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 10, max = 4096))]
    pub upgrade: Option<String>,
}

/// The column `ha1`: `H(username:realm:password)` (RFC 7616 §3.4.2). Whoever reads it can log in as everybody in this
/// realm without any password. It fits one realm and one algorithm alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DatabaseDigest {
    /// The realm that the hashes were made for; the method must have the same.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[ !#-\\[\\]-~]+$"))]
    pub realm: String,
    /// The algorithm that they were made with; the method must have this one alone. Unset means SHA-256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<DigestAlgorithm>,
}

/// A database product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DatabaseProduct {
    /// PostgreSQL.
    #[serde(rename = "PostgreSQL")]
    PostgreSql,
    /// MySQL, and MariaDB.
    #[serde(rename = "MySQL")]
    MySql,
}

/// Which people are enabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DatabaseEnabled {
    /// Those whose column `enabled` says so; a query without it is an error.
    Column,
    /// All that the query returns.
    Always,
}

/// A weak format of passwords.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DatabaseLegacyFormat {
    /// `$P$` and `$H$` of phpass: iterated MD5.
    Phpass,
    /// `{SSHA}`, `{SSHA256}`, `{SSHA512}`, `{SHA}`: one round of SHA.
    LdapSha,
    /// `$1$`: md5-crypt.
    Md5Crypt,
    /// Django's `pbkdf2_sha1$` and `sha1$`.
    DjangoSha1,
    /// The password itself.
    PlainText,
}
