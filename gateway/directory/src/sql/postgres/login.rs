//! The beginning of a connection to PostgreSQL: TLS, start-up and the gateway's own login.

use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use idm_plan::DirectoryServer;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::frontend;
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::account::Account;
use super::super::failure::Failure;
use super::super::wire::{Fields, Wire};
use super::{Message, Postgres, read, reported};
use crate::connect::begin_tls;

/// The messages that a login may take.
const MOST_MESSAGES: usize = 64;

/// Opens a connection. Nothing but the request for TLS is sent in clear text, unless no TLS is wanted.
pub(in super::super) async fn open(
    mut stream: TcpStream,
    server: &DirectoryServer,
    tls: Option<&Arc<ClientConfig>>,
    account: &Account,
    deadline: Instant,
) -> Result<Postgres, Failure> {
    let wire = match tls {
        None => Wire::new(stream),
        Some(config) => {
            let mut request = BytesMut::new();
            frontend::ssl_request(&mut request);
            let answer = async {
                stream.write_all(&request).await?;
                stream.read_u8().await
            };
            match answer.await {
                Ok(b'S') => Wire::new(begin_tls(stream, server, config, deadline).await?),
                Ok(_) => return Err(Failure::untrusted("the server does not begin TLS, so it gets no password")),
                Err(error) => return Err(Failure::lost(format!("the connection ended before TLS: {error}"))),
            }
        }
    };
    let mut postgres = Postgres { wire };
    postgres.log_in(account).await?;
    Ok(postgres)
}

impl Postgres {
    async fn log_in(&mut self, account: &Account) -> Result<(), Failure> {
        let Account { user, password, database } = account;
        // PgBouncer knows these settings and keeps them for each of its clients.
        let settings = [
            ("user", user.as_str()),
            ("database", database.as_str()),
            ("client_encoding", "UTF8"),
            ("DateStyle", "ISO"),
            ("TimeZone", "UTC"),
            ("application_name", "idm"),
        ];
        self.put(|out| frontend::startup_message(settings, out)).await?;
        let mut scram: Option<Scram> = None;
        for _ in 0..MOST_MESSAGES {
            let Message { tag, body } = read(&mut self.wire).await?;
            match tag {
                b'R' => {
                    let mut fields = Fields(&body);
                    let kind = fields.array().map(u32::from_be_bytes);
                    self.authenticate(kind, fields.0, user, password.reveal(), &mut scram).await?;
                }
                b'E' => return Err(reported(&body)),
                b'Z' if !matches!(scram, Some(Scram::Begun(_))) => return Ok(()),
                // NoticeResponse, ParameterStatus, BackendKeyData and NegotiateProtocolVersion.
                b'N' | b'S' | b'K' | b'v' => {}
                _ => return Err(Failure::broken("a message that no login has")),
            }
        }
        Err(Failure::broken("a login that does not end"))
    }

    /// One step of the login, by the number of its request.
    async fn authenticate(
        &mut self,
        kind: Option<u32>,
        data: &[u8],
        user: &str,
        password: &str,
        scram: &mut Option<Scram>,
    ) -> Result<(), Failure> {
        let unproven = || Failure::refused("the server does not prove that it knows the password (SCRAM)");
        match (kind, scram.as_mut()) {
            (Some(0), None | Some(Scram::Proven)) => Ok(()),
            (Some(3), None) => self.put(|out| frontend::password_message(password.as_bytes(), out)).await,
            (Some(5), None) => {
                let salt = Fields(data).array().ok_or_else(|| Failure::broken("a salt for MD5"))?;
                let hash = md5_hash(user.as_bytes(), password.as_bytes(), salt);
                self.put(|out| frontend::password_message(hash.as_bytes(), out)).await
            }
            (Some(10), None) => {
                if !data.split(|octet| *octet == 0).any(|name| name == SCRAM_SHA_256.as_bytes()) {
                    return Err(Failure::refused("the server wants another login than SCRAM-SHA-256"));
                }
                // The certificate is verified against the host, so the channel needs no further proof.
                let begun = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
                self.put(|out| frontend::sasl_initial_response(SCRAM_SHA_256, begun.message(), out)).await?;
                *scram = Some(Scram::Begun(Box::new(begun)));
                Ok(())
            }
            (Some(11), Some(Scram::Begun(begun))) => {
                begun.update(data).map_err(|error| Failure::refused(format!("SCRAM: {error}")))?;
                let answer = begun.message().to_vec();
                self.put(|out| frontend::sasl_response(&answer, out)).await
            }
            (Some(12), Some(Scram::Begun(begun))) => {
                begun.finish(data).map_err(|_| unproven())?;
                *scram = Some(Scram::Proven);
                Ok(())
            }
            (Some(0), Some(Scram::Begun(_))) => Err(unproven()),
            _ => Err(Failure::refused("the server wants a login that is not known here (Kerberos, GSSAPI or SSPI)")),
        }
    }

    async fn put(&mut self, message: impl FnOnce(&mut BytesMut) -> std::io::Result<()>) -> Result<(), Failure> {
        let mut out = BytesMut::new();
        message(&mut out).map_err(|_| Failure::unusable("user, password or database have a NUL in them"))?;
        self.wire.send(&out).await
    }
}

/// The state of a login by SCRAM (RFC 5802).
enum Scram {
    Begun(Box<ScramSha256>),
    Proven,
}
