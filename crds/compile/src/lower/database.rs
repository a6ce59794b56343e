//! Tables of people in a database.

use idm_api::v1alpha1 as wire;
use idm_plan::{
    DatabaseDirectory, DatabaseProduct, DigestColumn, DirectoryServer, LegacyFormat, Parameter, Protection, Secrets,
    Statement,
};

use super::Notes;
use super::directory::judge_host;
use super::keys::secret_text;
use super::mtls::lower_directory_tls;
use super::password::lower_algorithm;
use super::sql::{Placeholder, statement};
use crate::{Cause, Condition, World};

const PATH: &str = "spec.database";

pub(crate) fn lower_database(
    world: &World,
    database: &wire::DatabaseDirectory,
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> Option<DatabaseDirectory> {
    let wire::DatabaseDirectory {
        product,
        host,
        port,
        tls,
        database: name,
        user,
        password_ref,
        query,
        id_query,
        group_query,
        enabled,
        ignore_case,
        danger_legacy_formats,
        digest,
        upgrade,
    } = database;
    let (product, usual_port) = match product {
        wire::DatabaseProduct::PostgreSql => (DatabaseProduct::PostgreSql, 5432),
        wire::DatabaseProduct::MySql => (DatabaseProduct::MySql, 3306),
    };
    let server = lower_server(world, host, *port, usual_port, tls.is_some(), notes)?;
    let tls = match tls {
        Some(tls) => Some(lower_directory_tls(world, "spec.database.tls", tls, secrets, notes)?),
        None => None,
    };
    let path = "spec.database.passwordRef";
    let (password, text) = secret_text(world, path, password_ref, "password", secrets, notes)?;
    if text.trim_end_matches(['\r', '\n']).is_empty() {
        let message = format!("Secret '{}' must hold a password that is not empty", password_ref.name);
        return notes.fail(path, Cause::InvalidRef, message);
    }
    let mut read = |field: &str, text: &str, one_of: &[Placeholder]| {
        lower_statement(product, field, text, &["SELECT", "WITH"], one_of, notes)
    };
    let person = read("query", query, &[Placeholder::USERNAME])?;
    let by_id = match id_query {
        Some(query) => Some(read("idQuery", query, &[Placeholder::ID])?),
        None => None,
    };
    let groups = match group_query {
        Some(query) => Some(read("groupQuery", query, &[Placeholder::USERNAME, Placeholder::ID])?),
        None => None,
    };
    Some(DatabaseDirectory {
        product,
        server,
        tls,
        database: name.clone(),
        user: user.clone(),
        password,
        person,
        by_id,
        groups,
        always_enabled: *enabled == Some(wire::DatabaseEnabled::Always),
        ignores_case: *ignore_case == Some(true),
        legacy_formats: lower_legacy(danger_legacy_formats.as_deref().unwrap_or_default(), notes),
        digest: lower_digest_column(digest.as_ref(), notes),
        upgrade: lower_upgrade(product, upgrade.as_deref(), notes)?,
    })
}

/// A server that is reached by TLS, unless it is this machine and no TLS settings are written.
fn lower_server(
    world: &World,
    host: &str,
    port: Option<i64>,
    usual_port: u16,
    wants_tls: bool,
    notes: &mut Notes<'_>,
) -> Option<DirectoryServer> {
    let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    let here = host.parse().map_or(host == "localhost", |address: std::net::IpAddr| address.is_loopback());
    let protection = judge_host(world, "spec.database.host", &host, Protection::StartTls, here && !wants_tls, notes)?;
    let port = match port.map(u16::try_from) {
        None => usual_port,
        Some(Ok(port @ 1..)) => port,
        Some(_) => return notes.fail("spec.database.port", Cause::Invalid, "port must be between 1 and 65535"),
    };
    Some(DirectoryServer { host, port, protection })
}

fn lower_statement(
    product: DatabaseProduct,
    field: &str,
    text: &str,
    verbs: &[&str],
    one_of: &[Placeholder],
    notes: &mut Notes<'_>,
) -> Option<Statement> {
    let path = format!("{PATH}.{field}");
    let statement = match statement(product, text, one_of) {
        Ok(statement) => statement,
        Err(why) => return notes.fail(path, Cause::Invalid, why),
    };
    let first = text.split_whitespace().next().unwrap_or_default();
    if !verbs.iter().any(|verb| first.eq_ignore_ascii_case(verb)) {
        return notes.fail(path, Cause::Invalid, format!("the statement must begin with {}", verbs.join(" or ")));
    }
    if statement.parameters.is_empty() {
        let names: Vec<String> = one_of.iter().map(|placeholder| format!("`:{}`", placeholder.name)).collect();
        let message = format!("the statement must have {}: otherwise it is about everybody", names.join(" or "));
        return notes.fail(path, Cause::Invalid, message);
    }
    Some(statement)
}

fn lower_digest_column(digest: Option<&wire::DatabaseDigest>, notes: &mut Notes<'_>) -> Option<DigestColumn> {
    let wire::DatabaseDigest { realm, algorithm } = digest?;
    let algorithm = lower_algorithm(algorithm.unwrap_or(wire::DigestAlgorithm::Sha256));
    let message = "whoever reads the column `ha1` can log in as everybody in its realm, without any password; Basic \
        over TLS needs no such column";
    notes.report.push(&notes.object, format!("{PATH}.digest"), Condition::Programmed, Cause::DangerousOption, message);
    Some(DigestColumn { realm: realm.clone(), algorithm })
}

/// The inner `None`: nothing is written.
fn lower_upgrade(product: DatabaseProduct, text: Option<&str>, notes: &mut Notes<'_>) -> Option<Option<Statement>> {
    let Some(text) = text else { return Some(None) };
    let known = [Placeholder::NEW_HASH, Placeholder::USERNAME, Placeholder::OLD_HASH];
    let statement = lower_statement(product, "upgrade", text, &["UPDATE"], &known, notes)?;
    let has = |wanted| statement.parameters.contains(&wanted);
    if !has(Parameter::NewHash) || !has(Parameter::OldHash) || !has(Parameter::Username) {
        let message = "the statement must set `:newHash` where the user is `:username` and the hash is `:oldHash`: \
                       otherwise it would undo a change of the password made at the same moment";
        return notes.fail(format!("{PATH}.upgrade"), Cause::Invalid, message);
    }
    Some(Some(statement))
}

fn lower_legacy(formats: &[wire::DatabaseLegacyFormat], notes: &mut Notes<'_>) -> Vec<LegacyFormat> {
    if !formats.is_empty() {
        let message = "these formats are weak: whoever reads the table finds most of the passwords; `upgrade` replaces \
                       them as people log in";
        let at = format!("{PATH}.dangerLegacyFormats");
        notes.report.push(&notes.object, at, Condition::Programmed, Cause::DangerousOption, message);
    }
    let lowered = formats.iter().map(|format| match format {
        wire::DatabaseLegacyFormat::Phpass => LegacyFormat::Phpass,
        wire::DatabaseLegacyFormat::LdapSha => LegacyFormat::LdapSha,
        wire::DatabaseLegacyFormat::Md5Crypt => LegacyFormat::Md5Crypt,
        wire::DatabaseLegacyFormat::DjangoSha1 => LegacyFormat::DjangoSha1,
        wire::DatabaseLegacyFormat::PlainText => LegacyFormat::PlainText,
    });
    lowered.collect()
}
