//! A connection to MySQL or MariaDB (the client/server protocol with protocol 4.1).
//!
//! Written here, because what there is sends the password under an RSA key of the server's choosing where there is no
//! TLS, reads rests of answers without a deadline, and panics on some broken messages. Only what is needed is here:
//! prepared statements, and neither several statements in one, nor files of the client's, nor compression.

mod login;
mod packet;
mod values;

use std::time::Duration;

use idm_plan::Statement;
use idm_trust::DirectoryErrorKind;

use super::failure::{Cause, Failure};
use super::statement::Values;
use super::table::Table;
use super::wire::Wire;
use packet::{Packet, Packets};

pub(super) use login::open;

const COM_QUIT: u8 = 0x01;
const COM_QUERY: u8 = 0x03;
const COM_STMT_PREPARE: u8 = 0x16;
const COM_STMT_EXECUTE: u8 = 0x17;

/// The type of all parameters: a text in the connection's character set.
const VAR_STRING: u8 = 0xfd;

/// Statements that a connection keeps prepared: a directory has no more.
const MOST_PREPARED: usize = 8;

/// A connection that is logged in.
pub(super) struct MySql {
    packets: Packets,
    mariadb: bool,
    /// Seconds after which the server ends a statement; 0: not set yet.
    limit: u128,
    prepared: Vec<(String, Prepared)>,
}

#[derive(Clone, Copy)]
struct Prepared {
    id: u32,
    parameters: u16,
}

impl MySql {
    pub(super) fn wire(&mut self) -> &mut Wire {
        &mut self.packets.wire
    }

    /// Begins a transaction that reads one state of the database and cannot write. A statement that takes longer than
    /// the limit is ended by the server, so that nothing goes on there when nobody waits for it any more.
    pub(super) async fn begin(&mut self, limit: Duration) -> Result<(), Failure> {
        // Whole seconds, so that most questions find their limit set.
        let seconds = limit.as_millis().div_ceil(1000).max(1);
        if self.limit != seconds {
            self.limit = seconds;
            let set = if self.mariadb {
                format!("SET SESSION max_statement_time={seconds}")
            } else {
                format!("SET SESSION max_execution_time={}", seconds * 1000)
            };
            self.simple(&set).await?;
        }
        self.simple("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY").await
    }

    /// Ends the transaction.
    pub(super) async fn end(&mut self) -> Result<(), Failure> {
        self.simple("COMMIT").await
    }

    /// Runs a statement within the transaction, and returns its first rows; `false`: there are more of them, and the
    /// connection can be used for nothing else.
    pub(super) async fn rows(
        &mut self,
        statement: &Statement,
        values: &Values<'_>,
        most: usize,
    ) -> Result<(Table, bool), Failure> {
        let first = self.execute(statement, values).await?;
        let count = match first.head() {
            Some(0x00) => return Ok((Table { columns: Vec::new(), rows: Vec::new() }, true)),
            Some(0xfb) => return Err(Failure::broken("it wants a file")),
            _ => first.count().ok_or_else(|| Failure::broken("the number of columns"))?,
        };
        let mut columns = Vec::new();
        for _ in 0..count {
            let column = self.packets.next().await?;
            columns.push(values::column(&column).ok_or_else(|| Failure::broken("a column"))?);
        }
        self.packets.next().await?.is_eof().then_some(()).ok_or_else(|| Failure::broken("too many columns"))?;
        let mut table = Table { columns: columns.iter().map(|column| column.name.clone()).collect(), rows: Vec::new() };
        loop {
            let packet = self.packets.next().await?;
            if packet.head() == Some(0xff) {
                return Err(reported(&packet));
            }
            if packet.is_eof() {
                return Ok((table, true));
            }
            if table.rows.len() == most {
                return Ok((table, false));
            }
            table.rows.push(values::row(&packet, &columns).ok_or_else(|| Failure::broken("a row"))?);
        }
    }

    /// Runs a statement in a transaction of its own; returns the number of rows that it changed.
    pub(super) async fn change(&mut self, statement: &Statement, values: &Values<'_>) -> Result<u64, Failure> {
        let first = self.execute(statement, values).await?;
        match first.head() {
            Some(0x00) => first.changed().ok_or_else(|| Failure::broken("the number of changed rows")),
            _ => Err(Failure::unusable("a statement returns rows where it should change one")),
        }
    }

    /// Ends the connection.
    pub(super) async fn quit(&mut self) -> Result<(), Failure> {
        self.packets.command(&[COM_QUIT]).await
    }

    async fn execute(&mut self, statement: &Statement, values: &Values<'_>) -> Result<Packet, Failure> {
        let values = values.bind(statement)?;
        let Prepared { id, parameters } = self.prepare(&statement.text).await?;
        if usize::from(parameters) != values.len() {
            let why = format!("a statement has {parameters} parameters for the server, and {} here", values.len());
            return Err(Failure::unusable(why));
        }
        let mut out = vec![COM_STMT_EXECUTE];
        out.extend(id.to_le_bytes());
        out.extend([0, 1, 0, 0, 0]); // no cursor, one time
        if !values.is_empty() {
            out.extend(std::iter::repeat_n(0, values.len().div_ceil(8))); // none is NULL
            out.push(1); // their types follow
            values.iter().for_each(|_| out.extend([VAR_STRING, 0]));
            values.iter().for_each(|value| packet::put_text(value.as_bytes(), &mut out));
        }
        self.packets.command(&out).await?;
        let first = self.packets.next().await?;
        if first.head() == Some(0xff) { Err(reported(&first)) } else { Ok(first) }
    }

    async fn prepare(&mut self, text: &str) -> Result<Prepared, Failure> {
        if let Some((_, prepared)) = self.prepared.iter().find(|(known, _)| known == text) {
            return Ok(*prepared);
        }
        self.packets.command(&[&[COM_STMT_PREPARE], text.as_bytes()].concat()).await?;
        let first = self.packets.next().await?;
        if first.head() == Some(0xff) {
            return Err(reported(&first));
        }
        let mut fields = first.fields();
        let read = (|| {
            fields.u8().filter(|ok| *ok == 0)?;
            let id = u32::from_le_bytes(fields.array()?);
            let columns = u16::from_le_bytes(fields.array()?);
            Some((Prepared { id, parameters: u16::from_le_bytes(fields.array()?) }, columns))
        })();
        let (prepared, columns) = read.ok_or_else(|| Failure::broken("a prepared statement"))?;
        for count in [prepared.parameters, columns] {
            // Descriptions come again with each answer.
            for _ in 0..count {
                self.packets.next().await?;
            }
            if count > 0 && !self.packets.next().await?.is_eof() {
                return Err(Failure::broken("too many descriptions"));
            }
        }
        if self.prepared.len() < MOST_PREPARED {
            self.prepared.push((text.to_owned(), prepared));
        }
        Ok(prepared)
    }

    /// Runs a statement that returns no rows.
    async fn simple(&mut self, text: &str) -> Result<(), Failure> {
        self.packets.command(&[&[COM_QUERY], text.as_bytes()].concat()).await?;
        let answer = self.packets.next().await?;
        match answer.head() {
            Some(0x00) => Ok(()),
            Some(0xff) => Err(reported(&answer)),
            _ => Err(Failure::broken("an answer with rows")),
        }
    }
}

/// An error of the server, by its number (MySQL, "Server Error Message Reference").
fn reported(packet: &Packet) -> Failure {
    let Some((code, message)) = packet.error() else { return Failure::broken("an error") };
    let kind = match code {
        // Too many connections, shutdown, the time limit (MySQL, MariaDB), a killed connection.
        1040 | 1203 | 1226 | 1053 | 1129 | 3024 | 1969 | 1317 | 1927 | 3159 => DirectoryErrorKind::Unavailable,
        // Access denied for the account, for the database, for a plugin; TLS is wanted; the account is locked.
        1044 | 1045 | 1130 | 1251 | 1275 | 1698 | 1862 | 3118 | 4151 => DirectoryErrorKind::RefusesUs,
        _ => DirectoryErrorKind::Unusable,
    };
    // Messages of these errors are about names and syntax. Others may quote a value of a row.
    let shown = kind != DirectoryErrorKind::Unusable
        || matches!(code, 1046 | 1049 | 1052 | 1054 | 1064 | 1142 | 1143 | 1146 | 1267 | 1290 | 1305 | 1370 | 1792);
    let failure = Failure::reported(kind, &code.to_string(), shown.then_some(message.as_str()));
    let cause = match code {
        // Collations that do not go together, or a text that cannot be written in the column's character set.
        1267 | 3854 => Cause::ImpossibleName,
        1053 | 1927 => Cause::Lost,
        _ => Cause::Other,
    };
    Failure { cause, ..failure }
}
