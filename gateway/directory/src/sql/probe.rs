//! A first look at a database: its version, and the tables that the gateway's user may see.

use std::sync::Arc;
use std::time::Instant;

use idm_plan::{DatabaseProduct, Protection, Secrets, Statement};
use idm_trust::{DirectoryError, DirectoryErrorKind, ShownCertificates, Steps, client_config};
use rustls::ClientConfig;

use super::connection::{Connection, Opener};
use super::statement::Values;
use super::table::{Cell, Table};
use crate::Reach;
use crate::probe::{DatabaseFacts, DatabaseQuestion};

/// The columns that are read.
const MOST_COLUMNS: usize = 5_000;

/// Begins TLS to see the certificate, and says nothing else.
pub(crate) async fn read_certificate(
    question: &DatabaseQuestion,
    shown: &ShownCertificates,
    reach: Reach,
    deadline: Instant,
) {
    let Ok(config) = shown.config() else { return };
    if let Ok(opener) = opener(question, Some(Arc::new(config)), reach) {
        // It always ends as an error: the certificate is all that is wanted.
        let _ = opener.open(deadline).await;
    }
}

fn opener(question: &DatabaseQuestion, tls: Option<Arc<ClientConfig>>, reach: Reach) -> Result<Opener, String> {
    let DatabaseQuestion { product, server, database, login: (user, password) } = question;
    Opener::of(*product, &server.at, tls, (user, password.reveal()), database, reach)
}

/// Connects, logs in, and reads which tables there are.
pub(crate) async fn probe(
    question: &DatabaseQuestion,
    reach: Reach,
    steps: &Steps,
    deadline: Instant,
) -> Result<DatabaseFacts, DirectoryError> {
    let unusable = |why: String| DirectoryError::new(DirectoryErrorKind::Unusable, why);
    let tls = match question.server.at.protection {
        Protection::Loopback => None,
        Protection::Tls | Protection::StartTls => {
            Some(Arc::new(client_config(question.server.tls.as_ref(), &Secrets::default()).map_err(unusable)?))
        }
    };
    let protection = if tls.is_some() { "TLS" } else { "no TLS: this machine" };
    let opener = opener(question, tls, reach).map_err(unusable)?;
    let (name, began) = (opener.name(), Instant::now());
    let ms = || began.elapsed().as_millis();
    let opened = opener.open(deadline).await;
    steps.note(|| match &opened {
        Ok(_) => format!("{name}: connected ({protection}) and logged in as `{}`, {} ms", question.login.0, ms()),
        Err(error) => format!("not connected, {} ms: {error}", ms()),
    });
    let mut connection = opened?;
    let asked = read(&mut connection, question.product, &name, steps, deadline);
    let late = |_| Err(DirectoryError::new(DirectoryErrorKind::Unavailable, format!("{name}: no answer in time")));
    let facts = tokio::time::timeout_at(deadline.into(), asked).await.unwrap_or_else(late);
    connection.quit().await;
    facts
}

async fn read(
    connection: &mut Connection,
    product: DatabaseProduct,
    name: &str,
    steps: &Steps,
    deadline: Instant,
) -> Result<DatabaseFacts, DirectoryError> {
    let limit = deadline.saturating_duration_since(Instant::now());
    connection.begin(limit).await.map_err(|failure| failure.at(name))?;
    let columns = match product {
        DatabaseProduct::PostgreSql => {
            "SELECT CASE WHEN table_schema = current_schema() THEN '' ELSE table_schema || '.' END || table_name, \
             column_name::text FROM information_schema.columns WHERE table_schema NOT IN ('pg_catalog', \
             'information_schema') ORDER BY table_schema, table_name, ordinal_position"
        }
        DatabaseProduct::MySql => {
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = DATABASE() ORDER BY \
             table_name, ordinal_position"
        }
    };
    let version = rows(connection, "version", "SELECT version()", 1, name, steps).await?;
    let columns = rows(connection, "tables", columns, MOST_COLUMNS, name, steps).await?;
    let mut facts = DatabaseFacts {
        version: version.rows.first().and_then(|row| row.first()).and_then(text).unwrap_or_default(),
        tables: Vec::new(),
    };
    for row in &columns.rows {
        let [Some(table), Some(column)] = [row.first().and_then(text), row.get(1).and_then(text)] else { continue };
        match facts.tables.last_mut() {
            Some((last, columns)) if *last == table => columns.push(column),
            _ => facts.tables.push((table, vec![column])),
        }
    }
    Ok(facts)
}

async fn rows(
    connection: &mut Connection,
    what: &str,
    text: &str,
    most: usize,
    name: &str,
    steps: &Steps,
) -> Result<Table, DirectoryError> {
    let statement = Statement { text: text.to_owned(), parameters: Vec::new() };
    let began = Instant::now();
    let answer = connection.rows(&statement, &Values::default(), most).await;
    let ms = began.elapsed().as_millis();
    steps.note(|| match &answer {
        Ok((table, _)) => format!("{name}: {what}: {} rows, {ms} ms", table.rows.len()),
        Err(failure) => format!("{name}: {what}: {}, {ms} ms", failure.why),
    });
    answer.map(|(table, _)| table).map_err(|failure| failure.at(name))
}

fn text(cell: &Cell) -> Option<String> {
    match cell {
        Cell::Value(serde_json::Value::String(text)) => Some(text.clone()),
        _ => None,
    }
}
