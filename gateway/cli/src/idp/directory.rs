//! Directories: LDAP servers and databases. Each step is told, and a Federation is printed that fits what was found.

use std::fmt::Write as _;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use idm_gateway::probe::{
    self, DatabaseFacts, DatabaseQuestion, DirectoryErrorKind, LdapFacts, LdapGroupFacts, LdapQuestion, Password,
    Probed, Server,
};
use idm_plan::{DatabaseProduct, DirectoryServer, DirectoryTls, Protection, ServerTrust};
use idm_types::Timestamp;
use reqwest::Url;

use super::Probe;
use super::report::Report;
use super::tables::People;

/// A certificate that ends earlier is told.
const SOON_SECONDS: u64 = 30 * 24 * 3600;

/// The kinds of directories by the scheme of their address.
enum Kind {
    Ldap(Protection),
    Database(DatabaseProduct),
}

fn kind(url: &Url) -> Option<(Kind, u16)> {
    Some(match url.scheme() {
        "ldap" => (Kind::Ldap(Protection::StartTls), 389),
        "ldaps" => (Kind::Ldap(Protection::Tls), 636),
        "postgres" | "postgresql" => (Kind::Database(DatabaseProduct::PostgreSql), 5432),
        "mysql" | "mariadb" => (Kind::Database(DatabaseProduct::MySql), 3306),
        _ => return None,
    })
}

/// Whether the address is one of a directory.
pub(super) fn is_directory(address: &str) -> bool {
    Url::parse(address).is_ok_and(|url| kind(&url).is_some())
}

/// Asks a directory. `None`: something about it must be changed first, and the report says what.
pub(super) async fn probe(asked: &Probe, report: &mut Report) -> anyhow::Result<Option<String>> {
    let url = Url::parse(&asked.url).context("the address is not a URL")?;
    anyhow::ensure!(
        url.password().is_none(),
        "the password must not be in the address, where others see it: give it as the first line of standard input"
    );
    let (kind, usual_port) = kind(&url).context("the address must begin with ldap, ldaps, postgres or mysql")?;
    let host = url.host_str().filter(|host| !host.is_empty()).context("the address has no host")?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    let here = host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    let trust = trust(asked)?;
    let plain = asked.plain;
    anyhow::ensure!(!plain || here, "`--plain` is for a server on this machine alone: passwords travel by TLS");
    let protection = match kind {
        _ if plain => Protection::Loopback,
        Kind::Ldap(protection) => protection,
        Kind::Database(_) => Protection::StartTls,
    };
    let at = DirectoryServer { host, port: url.port().unwrap_or(usual_port), protection };
    let tls = trust.clone().map(|trust| DirectoryTls { trust, certificate: None });
    let server = Server { at, tls };
    let is_anonymous = matches!(kind, Kind::Ldap(_)) && asked.bind.is_none();
    let written = Written { asked, server: server.clone(), trust, is_anonymous };
    Ok(match kind {
        Kind::Ldap(_) => {
            let bind = match &asked.bind {
                Some(name) => Some((name.clone(), password()?)),
                None => None,
            };
            let (base, username) = (asked.base.clone(), asked.username.clone());
            let probed = probe::ldap(LdapQuestion { server, bind, base, username }).await;
            let facts = told(&written, probed, report);
            facts.and_then(|facts| judge_ldap(asked, &facts, report).then(|| written.ldap(&facts)))
        }
        Kind::Database(product) => {
            let user = url.username().to_owned();
            anyhow::ensure!(
                !user.is_empty(),
                "the address must have the gateway's user: postgres://USER@HOST/DATABASE"
            );
            let database = url.path().trim_start_matches('/').to_owned();
            anyhow::ensure!(!database.is_empty(), "the address must have the database: postgres://USER@HOST/DATABASE");
            let login = (user.clone(), password()?);
            let question = DatabaseQuestion { product, server, database: database.clone(), login };
            let facts = told(&written, probe::database(question).await, report);
            facts.and_then(|facts| written.database(product, &database, &user, &facts, report))
        }
    })
}

/// The password of the gateway's own login.
fn password() -> anyhow::Result<Password> {
    let password = super::login::password()?;
    Password::new(password).context("the password, the first line of standard input, must not be empty")
}

fn trust(asked: &Probe) -> anyhow::Result<Option<ServerTrust>> {
    if let Some(text) = &asked.pinned_key {
        let key = STANDARD.decode(text).ok().and_then(|octets| octets.try_into().ok());
        let key = key.context("`--pinned-key` must be a SHA-256 digest in base64, as a probe without it prints it")?;
        return Ok(Some(ServerTrust::Keys(vec![key])));
    }
    let Some(path) = &asked.ca_file else { return Ok(None) };
    let pem = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(Some(ServerTrust::Roots(pem)))
}

/// Reports the steps, the certificate, and why there are no facts.
fn told<T>(written: &Written<'_>, probed: Probed<T>, report: &mut Report) -> Option<T> {
    let Probed { steps, certificate, found } = probed;
    let key = certificate.as_ref().map(|certificate| STANDARD.encode(certificate.key));
    if let Some(certificate) = certificate {
        let names = if certificate.names.is_empty() { "none".to_owned() } else { certificate.names.join(", ") };
        let ends = certificate.not_after.rfc3339();
        report.good("certificate", format!("{}, DNS names {names}, ends {ends}", certificate.subject));
        report.good("issuer", certificate.issuer);
        report.good("key", key.clone().unwrap_or_default());
        if certificate.not_after.seconds() < Timestamp::now().seconds() + SOON_SECONDS
            && !matches!(written.trust, Some(ServerTrust::Keys(_)))
        {
            report.notable("certificate", "it ends within 30 days");
        }
    } else if written.server.at.protection == Protection::Loopback {
        report.notable("transport", "no TLS: gateways take that from a server on their own machine only");
    }
    for (number, step) in steps.into_iter().enumerate() {
        report.step(&format!("step {}", number + 1), step);
    }
    match found {
        Ok(facts) => Some(facts),
        Err(error) => {
            let fix = match (error.kind, key) {
                (DirectoryErrorKind::Untrusted, Some(key)) => format!(
                    "name its authority with `--ca-file`; or compare the key with the server's administrator and trust \
                     it alone with `--pinned-key {key}`"
                ),
                (DirectoryErrorKind::RefusesUs, _) if written.is_anonymous => {
                    "give the gateway's login with `--bind`".to_owned()
                }
                (DirectoryErrorKind::Untrusted, None) => "let the server offer TLS".to_owned(),
                _ => error.reason().fix().to_owned(),
            };
            report.failed(error.reason().code(), &error.to_string(), &fix);
            None
        }
    }
}

/// Whether a Federation can be written.
fn judge_ldap(asked: &Probe, facts: &LdapFacts, report: &mut Report) -> bool {
    report.good("server", facts.product.clone());
    report.good("trees", if facts.contexts.is_empty() { "not told".into() } else { facts.contexts.join("; ") });
    report.good("base", facts.base.clone());
    let yes = |is: bool| if is { "yes" } else { "no" };
    report.good("pages", yes(facts.pages));
    if facts.active_directory {
        report.notable(
            "old passwords",
            "this Active Directory takes the previous password for a while after a change: an hour unless \
             OldPasswordAllowedPeriod says otherwise. It is not a cache of the gateway's",
        );
    } else {
        report.good("changes", format!("of passwords by RFC 3062: {}", yes(facts.changes_passwords)));
    }
    let Some(username) = &asked.username else {
        let found = format!("{} or more were found", facts.people);
        let fix = "give the gateway's login with `--bind`, or the entry below which people are with `--base`";
        match facts.people {
            0 => report.failed("people", "none was found below the base", fix),
            _ => report.good("people", found),
        }
        report.notable("groups", "not looked for: give `--username` of somebody who is in some");
        return facts.people > 0;
    };
    match (facts.people, facts.login_attributes.as_slice()) {
        (0, _) => {
            let fix = "check the name, the base (`--base`) and what the gateway's login may read (`--bind`)";
            report.failed("people", &format!("nobody has the name `{username}`"), fix);
        }
        (1, [_, ..]) => {
            report.good("people", format!("`{username}` is found by {}", facts.login_attributes.join(", ")))
        }
        (1, []) => {
            let fix = "log in with the name as the directory has it";
            report.failed("people", &format!("an entry was found, and none of its names is `{username}`"), fix);
        }
        (count, _) => {
            let fix = "narrow the base (`--base`): two people with one name are both refused";
            report.failed("people", &format!("{count} people have the name `{username}`"), fix);
        }
    }
    if report.has_failed() {
        return false;
    }
    match &facts.id_attribute {
        Some(attribute) => report.good("id", attribute.clone()),
        None => report.failed(
            "id",
            "the entry has none of objectGUID, entryUUID, nsUniqueId, ipaUniqueID",
            "let the gateway's login (`--bind`) read it, or write `users.idAttribute`",
        ),
    }
    match &facts.groups {
        Some(LdapGroupFacts::TokenGroups) => report.good("groups", "tokenGroups: nested and primary groups, too"),
        Some(LdapGroupFacts::MemberOf) => report.good("groups", "memberOf"),
        Some(LdapGroupFacts::Search { base, member_attribute, .. }) => {
            report.good("groups", format!("`{member_attribute}` of groups below {base}"));
        }
        None => report.notable("groups", format!("`{username}` is in none that can be seen")),
    }
    !report.has_failed()
}

/// The parts of every document that is printed.
struct Written<'a> {
    asked: &'a Probe,
    server: Server,
    trust: Option<ServerTrust>,
    /// The gateway binds without a name.
    is_anonymous: bool,
}

impl Written<'_> {
    /// The TLS settings, at this indentation.
    fn tls(&self, indent: &str) -> String {
        let name = &self.asked.name;
        match &self.trust {
            None | Some(ServerTrust::System) => String::new(),
            Some(ServerTrust::Roots(_)) => {
                format!("{indent}tls: {{trustBundleRef: {{kind: ConfigMap, name: {name}-ca}}}}\n")
            }
            Some(ServerTrust::Keys(keys)) => {
                let keys: Vec<String> = keys.iter().map(|key| format!("'{}'", STANDARD.encode(key))).collect();
                format!("{indent}tls: {{pinnedKeys: [{}]}}\n", keys.join(", "))
            }
        }
    }

    /// The objects that the Federation names.
    fn others(&self, password: bool) -> String {
        let name = &self.asked.name;
        let mut out = String::new();
        if password {
            let _ = write!(
                out,
                "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}-login}}\nstringData: {{password: \
                 replace-me}}\n"
            );
        }
        if let Some(ServerTrust::Roots(pem)) = &self.trust {
            let pem: String = pem.lines().map(|line| format!("    {line}\n")).collect();
            let _ = write!(
                out,
                "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}-ca}}\ndata:\n  ca.crt: |\n{pem}"
            );
        }
        out
    }

    fn ldap(&self, facts: &LdapFacts) -> String {
        let DirectoryServer { host, port, protection } = &self.server.at;
        let scheme = if *protection == Protection::Tls { "ldaps" } else { "ldap" };
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let mut out = head(&self.asked.name);
        let _ = writeln!(out, "  ldap:\n    servers: [{}]", quoted(&format!("{scheme}://{host}:{port}")));
        if *protection == Protection::Loopback {
            out.push_str("    startTls: false\n");
        }
        out.push_str(&self.tls("    "));
        let bind = match &self.asked.bind {
            Some(dn) => format!("{{simple: {{dn: {}, passwordRef: {{name: {}-login}}}}}}", quoted(dn), self.asked.name),
            None => "{anonymous: {}}".to_owned(),
        };
        let _ = writeln!(out, "    bind: {bind}");
        let usual: &[&str] = if facts.active_directory { &["sAMAccountName", "userPrincipalName"] } else { &["uid"] };
        let found: Vec<&str> = facts.login_attributes.iter().map(String::as_str).collect();
        let logins = if found.is_empty() { usual } else { &found };
        let _ = writeln!(out, "    users:\n      base: {}", quoted(&facts.base));
        let _ = writeln!(out, "      loginAttributes: [{}]", logins.join(", "));
        let first = logins.first().copied().unwrap_or("uid");
        let _ =
            writeln!(out, "      usernameAttribute: {}", if facts.active_directory { "sAMAccountName" } else { first });
        match &facts.groups {
            Some(LdapGroupFacts::TokenGroups) => out.push_str("    groups: {tokenGroups: {}}\n"),
            Some(LdapGroupFacts::MemberOf) => out.push_str("    groups: {memberOf: {nested: true}}\n"),
            Some(LdapGroupFacts::Search { base, class, member_attribute, user_attribute }) => {
                let user = user_attribute.as_ref().map(|it| format!(", userAttribute: {it}")).unwrap_or_default();
                let filter = quoted(&format!("(objectClass={class})"));
                let _ = writeln!(
                    out,
                    "    groups:\n      base: {}\n      search: {{filter: {filter}, memberAttribute: \
                     {member_attribute}{user}}}",
                    quoted(base)
                );
            }
            None => {}
        }
        out + &self.others(self.asked.bind.is_some())
    }

    /// `None`: no table looks like one of people.
    fn database(
        &self,
        product: DatabaseProduct,
        database: &str,
        user: &str,
        facts: &DatabaseFacts,
        report: &mut Report,
    ) -> Option<String> {
        report.good("server", facts.version.clone());
        report.good("tables", format!("{} can be seen", facts.tables.len()));
        let Some(people) = People::find(&facts.tables) else {
            report.failed(
                "people",
                "no table has a column for a user name and one for a password",
                "give the gateway's user the right to read it (GRANT SELECT), or write `query` by hand",
            );
            return None;
        };
        report.good("people", format!("table {}: {}", people.table, people.told()));
        if people.enabled.is_none() {
            let message =
                "no column says who is enabled: `enabled: Always` is written, and only removal keeps people out";
            report.notable("enabled", message);
        }
        match &people.groups {
            Some((table, ..)) => report.good("groups", format!("table {table}")),
            None => report.notable("groups", "no table looks like one of groups: nobody has any"),
        }
        let name = match product {
            DatabaseProduct::PostgreSql => "PostgreSQL",
            DatabaseProduct::MySql => "MySQL",
        };
        let DirectoryServer { host, port, .. } = &self.server.at;
        let mut out = head(&self.asked.name);
        let _ = write!(
            out,
            "  database:\n    product: {name}\n    host: {}\n    port: {port}\n{}    database: {}\n    user: {}\n    \
             passwordRef: {{name: {}-login}}\n{}",
            quoted(host),
            self.tls("    "),
            quoted(database),
            quoted(user),
            self.asked.name,
            people.queries()
        );
        Some(out + &self.others(true))
    }
}

fn head(name: &str) -> String {
    format!("apiVersion: identity-manager.io/v1alpha1\nkind: Federation\nmetadata: {{name: {name}}}\nspec:\n")
}

/// A text as YAML has it: JSON's notation is a part of YAML.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        probe: Probe,
    }

    /// The printed documents compile without a finding.
    fn lints(documents: &str) {
        let files = [("all.yaml".to_owned(), documents.to_owned())];
        let (world, ..) = idm_compile::yaml::read_files(&files, idm_compile::Settings::of_a_folder(false)).unwrap();
        let report = idm_compile::compile(&world, None).report;
        let findings: Vec<String> = report.findings().iter().map(ToString::to_string).collect();
        assert!(findings.is_empty(), "{findings:?}: {documents}");
    }

    #[test]
    fn the_documents_of_a_database_are_in_order() {
        let facts = DatabaseFacts {
            version: "x".into(),
            tables: vec![
                ("members".into(), ["id", "login", "hash", "active"].map(str::to_owned).to_vec()),
                ("memberships".into(), ["login", "grp"].map(str::to_owned).to_vec()),
            ],
        };
        let asked = Line::parse_from(["idp", "postgres://x", "--name", "shop"]).probe;
        let at = DirectoryServer { host: "db.example".into(), port: 5432, protection: Protection::StartTls };
        for trust in [None, Some(ServerTrust::Keys(vec![[7; 32]]))] {
            let server = Server { at: at.clone(), tls: None };
            let written = Written { asked: &asked, server, trust, is_anonymous: false };
            for product in [DatabaseProduct::PostgreSql, DatabaseProduct::MySql] {
                let mut report = Report::default();
                lints(&written.database(product, "shop", "gateway", &facts, &mut report).unwrap());
                assert!(!report.has_failed());
            }
        }
        let mut report = Report::default();
        let written = Written { asked: &asked, server: Server { at, tls: None }, trust: None, is_anonymous: false };
        let nothing = DatabaseFacts::default();
        assert_eq!(written.database(DatabaseProduct::MySql, "shop", "gateway", &nothing, &mut report), None);
        assert!(report.has_failed());
    }
}
