//! One connection, whatever the product.

use std::sync::Arc;
use std::time::{Duration, Instant};

use idm_plan::{DatabaseDirectory, DatabaseProduct, DirectoryServer, Protection, Secrets, Statement};
use idm_trust::{DirectoryError, client_config};
use idm_types::Redacted;
use rustls::ClientConfig;

use super::account::Account;
use super::failure::Failure;
use super::mysql::{self, MySql};
use super::postgres::{self, Postgres};
use super::statement::Values;
use super::table::Table;
use crate::Reach;
use crate::connect::connect;

/// All that a connection is opened with.
pub(super) struct Opener {
    product: DatabaseProduct,
    server: DirectoryServer,
    tls: Option<Arc<ClientConfig>>,
    account: Account,
    reach: Reach,
}

/// A connection that is logged in.
pub(super) enum Connection {
    Postgres(Postgres),
    MySql(MySql),
}

impl Opener {
    /// Both products begin TLS in their protocol, so [`Protection::Tls`] and [`Protection::StartTls`] are the same.
    pub(super) fn new(plan: &DatabaseDirectory, secrets: &Secrets, reach: Reach) -> Result<Self, String> {
        let tls = match plan.server.protection {
            Protection::Tls | Protection::StartTls => Some(Arc::new(client_config(plan.tls.as_ref(), secrets)?)),
            Protection::Loopback => None,
        };
        // Files end with a line feed, and so do many Secrets.
        let password = secrets.text(&plan.password)?.trim_end_matches(['\r', '\n']);
        if password.is_empty() {
            return Err(format!("the secret `{}` is empty", plan.password.0));
        }
        Self::of(plan.product, &plan.server, tls, (&plan.user, password), &plan.database, reach)
    }

    /// The same from its parts. Without TLS, the server must be this machine.
    pub(super) fn of(
        product: DatabaseProduct,
        server: &DirectoryServer,
        tls: Option<Arc<ClientConfig>>,
        (user, password): (&str, &str),
        database: &str,
        reach: Reach,
    ) -> Result<Self, String> {
        // All of these end with NUL in the protocols.
        if [password, user, database].iter().any(|text| text.contains('\0')) {
            return Err("the user, its password or the name of the database has a NUL in it".into());
        }
        let password = Redacted::new(password.to_owned());
        let account = Account { user: user.to_owned(), password, database: database.to_owned() };
        Ok(Self { product, server: server.clone(), tls, account, reach })
    }

    /// The product and the server, for people.
    pub(super) fn name(&self) -> String {
        let product = match self.product {
            DatabaseProduct::PostgreSql => "PostgreSQL",
            DatabaseProduct::MySql => "MySQL",
        };
        format!("{product} {}:{}", self.server.host, self.server.port)
    }

    /// Opens a connection until the deadline.
    pub(super) async fn open(&self, deadline: Instant) -> Result<Connection, DirectoryError> {
        let Self { product, server, tls, account, reach } = self;
        let name = self.name();
        let stream = connect(server, reach, deadline).await.map_err(|error| Failure::from(error).at(&name))?;
        if tls.is_none() && !stream.peer_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback()) {
            return Err(Failure::untrusted("there is no TLS, and the server is not this machine").at(&name));
        }
        let tls = tls.as_ref();
        let opened = async {
            match product {
                DatabaseProduct::PostgreSql => {
                    postgres::open(stream, server, tls, account, deadline).await.map(Connection::Postgres)
                }
                DatabaseProduct::MySql => {
                    mysql::open(stream, server, tls, account, deadline).await.map(Connection::MySql)
                }
            }
        };
        match tokio::time::timeout_at(deadline.into(), opened).await {
            Ok(opened) => opened.map_err(|failure| failure.at(&name)),
            Err(_) => Err(Failure::lost("the login at the server does not end in time").at(&name)),
        }
    }
}

impl Connection {
    /// Whether the connection is open and the server has sent nothing that nobody asked for.
    pub(super) fn is_quiet(&mut self) -> bool {
        match self {
            Self::Postgres(postgres) => postgres.wire().is_quiet(),
            Self::MySql(mysql) => mysql.wire().is_quiet(),
        }
    }

    /// Says goodbye, so that the server logs no broken connection. Nobody waits for more than it takes to send.
    pub(super) async fn quit(mut self) {
        let quit = async {
            match &mut self {
                Self::Postgres(postgres) => postgres.quit().await,
                Self::MySql(mysql) => mysql.quit().await,
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), quit).await;
    }

    /// Begins a transaction that only reads, whose statements may take so long.
    pub(super) async fn begin(&mut self, limit: Duration) -> Result<(), Failure> {
        match self {
            Self::Postgres(postgres) => {
                postgres.wire().renew_allowance();
                postgres.begin(limit).await
            }
            Self::MySql(mysql) => {
                mysql.wire().renew_allowance();
                mysql.begin(limit).await
            }
        }
    }

    /// Ends the transaction.
    pub(super) async fn end(&mut self) -> Result<(), Failure> {
        match self {
            Self::Postgres(postgres) => postgres.end().await,
            Self::MySql(mysql) => mysql.end().await,
        }
    }

    /// Runs a statement within the transaction, and returns its first rows; `false`: the connection can be used for
    /// nothing else.
    pub(super) async fn rows(
        &mut self,
        statement: &Statement,
        values: &Values<'_>,
        most: usize,
    ) -> Result<(Table, bool), Failure> {
        match self {
            Self::Postgres(postgres) => postgres.rows(statement, values, most).await.map(|table| (table, true)),
            Self::MySql(mysql) => mysql.rows(statement, values, most).await,
        }
    }

    /// Runs a statement that changes rows, in a transaction of its own; returns their number.
    pub(super) async fn change(&mut self, statement: &Statement, values: &Values<'_>) -> Result<u64, Failure> {
        match self {
            Self::Postgres(postgres) => {
                postgres.wire().renew_allowance();
                postgres.change(statement, values).await
            }
            Self::MySql(mysql) => {
                mysql.wire().renew_allowance();
                mysql.change(statement, values).await
            }
        }
    }
}
