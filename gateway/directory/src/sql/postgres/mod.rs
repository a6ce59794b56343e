//! A connection to PostgreSQL (its protocol 3.0).
//!
//! Statements run without a name, so that PgBouncer may give each transaction another connection. Parameters have no
//! declared type, so that the server takes each for the type of the column that it is compared with, and values come as
//! text, so that no type needs to be looked up.

mod login;
mod values;

use std::time::Duration;

use bytes::{Buf, BytesMut};
use idm_plan::Statement;
use idm_trust::DirectoryErrorKind;
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend;

use super::failure::{Cause, Failure};
use super::statement::Values;
use super::table::Table;
use super::wire::{Fields, Wire};

pub(super) use login::open;

/// A connection that is logged in.
pub(super) struct Postgres {
    wire: Wire,
}

/// The answer to one statement.
struct Answer {
    table: Table,
    changed: u64,
}

impl Postgres {
    pub(super) fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    /// Begins a transaction that reads one state of the database and cannot write. A statement that takes longer than
    /// the limit is ended by the server, so that nothing goes on there when nobody waits for it any more.
    pub(super) async fn begin(&mut self, limit: Duration) -> Result<(), Failure> {
        let limit = limit.as_millis().max(1);
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        self.simple(&format!("{begin}; SET LOCAL statement_timeout = {limit}"), b'T').await
    }

    /// Ends the transaction.
    pub(super) async fn end(&mut self) -> Result<(), Failure> {
        self.simple("COMMIT", b'I').await
    }

    /// Runs a statement within the transaction, and returns its first rows.
    pub(super) async fn rows(
        &mut self,
        statement: &Statement,
        values: &Values<'_>,
        most: usize,
    ) -> Result<Table, Failure> {
        let most = i32::try_from(most).unwrap_or(i32::MAX);
        Ok(self.extended(statement, values, most, b'T').await?.table)
    }

    /// Runs a statement in a transaction of its own; returns the number of rows that it changed.
    pub(super) async fn change(&mut self, statement: &Statement, values: &Values<'_>) -> Result<u64, Failure> {
        Ok(self.extended(statement, values, 0, b'I').await?.changed)
    }

    /// Ends the connection.
    pub(super) async fn quit(&mut self) -> Result<(), Failure> {
        let mut out = BytesMut::new();
        frontend::terminate(&mut out);
        self.wire.send(&out).await
    }

    async fn simple(&mut self, text: &str, state: u8) -> Result<(), Failure> {
        let mut out = BytesMut::new();
        frontend::query(text, &mut out).map_err(|_| Failure::unusable("a statement has a NUL in it"))?;
        self.wire.send(&out).await?;
        self.answer(state).await.map(|_| ())
    }

    /// Parse, Bind, Describe, Execute and Sync, all without names. The portal ends with the Sync, and with it the rows
    /// that were not wanted.
    async fn extended(
        &mut self,
        statement: &Statement,
        values: &Values<'_>,
        most: i32,
        state: u8,
    ) -> Result<Answer, Failure> {
        let nul = |_| Failure::unusable("a statement has a NUL in it");
        let (values, mut out) = (values.bind(statement)?, BytesMut::new());
        frontend::parse("", &statement.text, [], &mut out).map_err(nul)?;
        let text = |value: &str, out: &mut BytesMut| {
            out.extend_from_slice(value.as_bytes());
            Ok(IsNull::No)
        };
        frontend::bind("", "", [0], values, text, [0], &mut out)
            .map_err(|_| Failure::unusable("a statement has too many parameters"))?;
        frontend::describe(b'P', "", &mut out).map_err(nul)?;
        frontend::execute("", most, &mut out).map_err(nul)?;
        frontend::sync(&mut out);
        self.wire.send(&out).await?;
        self.answer(state).await
    }

    /// Reads until the server is ready, in this state of the transaction.
    async fn answer(&mut self, state: u8) -> Result<Answer, Failure> {
        let mut answer = Answer { table: Table { columns: Vec::new(), rows: Vec::new() }, changed: 0 };
        let mut types = Vec::new();
        loop {
            let Message { tag, body } = read(&mut self.wire).await?;
            match tag {
                b'T' => {
                    (answer.table.columns, types) =
                        values::columns(&body).ok_or_else(|| Failure::broken("a RowDescription"))?;
                }
                b'D' => {
                    let row = values::row(&body, &types).ok_or_else(|| Failure::broken("a DataRow"))?;
                    answer.table.rows.push(row);
                }
                b'C' => {
                    let text = String::from_utf8_lossy(body.strip_suffix(&[0]).unwrap_or(&body)).into_owned();
                    answer.changed = text.rsplit(' ').next().and_then(|count| count.parse().ok()).unwrap_or(0);
                }
                b'E' => return Err(reported(&body)),
                b'Z' if *body == [state] => return Ok(answer),
                b'Z' => return Err(Failure::unusable("a statement begins or ends a transaction, which it must not")),
                // ParseComplete, BindComplete, NoData, PortalSuspended, EmptyQueryResponse, and what is about no
                // question: NoticeResponse, ParameterStatus, NotificationResponse.
                b'1' | b'2' | b'n' | b's' | b'I' | b'N' | b'S' | b'A' => {}
                _ => return Err(Failure::broken("a message that no query has")),
            }
        }
    }
}

/// A message of the server.
struct Message {
    tag: u8,
    body: BytesMut,
}

/// Reads one message: its tag, its length with the length itself, its body.
async fn read(wire: &mut Wire) -> Result<Message, Failure> {
    let mut head = Fields(wire.peek(5).await?);
    let (tag, length) = (head.u8().unwrap_or_default(), head.array().map(u32::from_be_bytes).unwrap_or_default());
    let length = usize::try_from(length).ok().filter(|length| *length >= 4);
    let length = length.ok_or_else(|| Failure::broken("the length of a message"))?;
    let mut body = wire.take(length.saturating_add(1)).await?;
    body.advance(5);
    Ok(Message { tag, body })
}

/// An error of the server, by its SQLSTATE (PostgreSQL, appendix A).
fn reported(body: &[u8]) -> Failure {
    let (mut code, mut message) = (String::new(), String::new());
    let mut fields = Fields(body);
    while let Some(kind) = fields.u8().filter(|kind| *kind != 0) {
        let Some(value) = fields.until_nul() else { return Failure::broken("an ErrorResponse") };
        match kind {
            b'C' => code = String::from_utf8_lossy(value).into_owned(),
            b'M' => message = String::from_utf8_lossy(value).into_owned(),
            _ => {}
        }
    }
    let class = |class: &str| code.starts_with(class);
    let kind = match code.as_str() {
        // Shutdown, start-up, a lost connection, a full server, and a statement that took too long.
        "57P01" | "57P02" | "57P03" | "57P05" | "57014" => DirectoryErrorKind::Unavailable,
        _ if class("08") || class("53") => DirectoryErrorKind::Unavailable,
        _ if class("28") => DirectoryErrorKind::RefusesUs,
        _ => DirectoryErrorKind::Unusable,
    };
    // Messages of these classes are about names and syntax. Others may quote a value of a row.
    let shown = ["08", "25", "28", "3D", "42", "53", "57"].into_iter().any(class);
    let failure = Failure::reported(kind, &code, shown.then_some(message.as_str()));
    let cause = match code.as_str() {
        // The user name cannot be written in the database's encoding.
        "22P05" => Cause::ImpossibleName,
        "57P01" | "57P02" | "57P05" => Cause::Lost,
        _ => Cause::Other,
    };
    Failure { cause, ..failure }
}
