//! The beginning of a connection to MySQL: TLS and the gateway's own login.

use std::sync::Arc;
use std::time::Instant;

use aws_lc_rs::digest::{Algorithm, Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use idm_plan::DirectoryServer;
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::account::Account;
use super::super::failure::Failure;
use super::super::wire::{Fields, LONGEST_MESSAGE, Wire};
use super::packet::{Packet, Packets, numbered, put_text};
use super::{MySql, reported};
use crate::connect::begin_tls;

// Capabilities.
const LONG_PASSWORD: u32 = 1;
const LONG_FLAG: u32 = 4;
const CONNECT_WITH_DB: u32 = 8;
const PROTOCOL_41: u32 = 0x200;
const SSL: u32 = 0x800;
const TRANSACTIONS: u32 = 0x2000;
const SECURE_CONNECTION: u32 = 0x8000;
const PLUGIN_AUTH: u32 = 0x8_0000;
const PLUGIN_AUTH_LENENC_DATA: u32 = 0x20_0000;

/// The capabilities that a server must have: MySQL 5.6 and MariaDB 10 can.
const WANTED: u32 = PROTOCOL_41 | SECURE_CONNECTION | PLUGIN_AUTH | CONNECT_WITH_DB | TRANSACTIONS;
/// utf8mb4_general_ci, which all servers have.
const UTF8MB4: u8 = 45;
/// The octets of a first message.
const LONGEST_GREETING: usize = 1024;
/// The messages that a login may take.
const MOST_MESSAGES: usize = 8;

const NATIVE: &str = "mysql_native_password";
const CACHING_SHA2: &str = "caching_sha2_password";
const CLEAR: &str = "mysql_clear_password";

/// Opens a connection. Nothing but the request for TLS is sent in clear text, unless no TLS is wanted.
pub(in super::super) async fn open(
    mut stream: TcpStream,
    server: &DirectoryServer,
    tls: Option<&Arc<ClientConfig>>,
    account: &Account,
    deadline: Instant,
) -> Result<MySql, Failure> {
    let greeting = Greeting::read(&mut stream).await?;
    let ours = WANTED | LONG_PASSWORD | LONG_FLAG | (greeting.capabilities & PLUGIN_AUTH_LENENC_DATA);
    let mut packets = match tls {
        None => Packets::new(Wire::new(stream), 1),
        Some(_) if greeting.capabilities & SSL == 0 => {
            return Err(Failure::untrusted("the server does not offer TLS, so it gets no password"));
        }
        Some(config) => {
            let request = numbered(&settings(ours | SSL), 1)?;
            let sent = stream.write_all(&request).await;
            sent.map_err(|error| Failure::lost(format!("the connection ended before TLS: {error}")))?;
            Packets::new(Wire::new(begin_tls(stream, server, config, deadline).await?), 2)
        }
    };
    let ours = if tls.is_some() { ours | SSL } else { ours };
    let mut login = Login { packets: &mut packets, account, secure: tls.is_some() };
    login.run(&greeting, ours).await?;
    let mariadb = greeting.mariadb;
    let mut mysql = MySql { packets, mariadb, limit: 0, prepared: Vec::new() };
    // Some servers ignore the character set of the login.
    let set = "SET character_set_client=utf8mb4, character_set_results=utf8mb4, time_zone='+00:00'";
    mysql.simple(set).await?;
    Ok(mysql)
}

/// The first message of a server (`HandshakeV10`).
#[derive(Debug)]
struct Greeting {
    capabilities: u32,
    nonce: Vec<u8>,
    plugin: String,
    mariadb: bool,
}

impl Greeting {
    /// Reads exactly this message: what follows it belongs to TLS.
    async fn read(stream: &mut TcpStream) -> Result<Self, Failure> {
        let lost = |error: std::io::Error| Failure::lost(format!("the connection ended before a greeting: {error}"));
        let mut head = [0; 4];
        stream.read_exact(&mut head).await.map_err(lost)?;
        let [a, b, c, number] = head;
        let length = usize::try_from(u32::from_le_bytes([a, b, c, 0])).unwrap_or(usize::MAX);
        if length > LONGEST_GREETING || number != 0 {
            return Err(Failure::broken("the greeting"));
        }
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await.map_err(lost)?;
        Self::parse(&payload)
    }

    fn parse(payload: &[u8]) -> Result<Self, Failure> {
        if payload.first() == Some(&0xff) {
            return Err(reported(&Packet::of(payload)));
        }
        let greeting = Self::fields(payload).ok_or_else(|| Failure::broken("the greeting"))?;
        if greeting.capabilities & WANTED != WANTED {
            return Err(Failure::unusable("the server is older than MySQL 5.6 and MariaDB 10"));
        }
        Ok(greeting)
    }

    fn fields(payload: &[u8]) -> Option<Self> {
        let mut fields = Fields(payload);
        fields.u8().filter(|version| *version == 10)?;
        let version = fields.until_nul()?;
        fields.take(4)?; // the connection's number
        let mut nonce = fields.take(8)?.to_vec();
        fields.take(1)?;
        let low = u16::from_le_bytes(fields.array()?);
        fields.take(3)?; // character set and status
        let high = u16::from_le_bytes(fields.array()?);
        let length = usize::from(fields.u8()?);
        fields.take(10)?;
        let rest = fields.take(length.saturating_sub(8).max(13))?;
        nonce.extend(rest.split_last()?.1);
        let plugin = String::from_utf8_lossy(fields.until_nul().unwrap_or(fields.0)).into_owned();
        let mariadb = version.windows(7).any(|part| part == b"MariaDB");
        let capabilities = u32::from(low) | u32::from(high) << 16;
        (nonce.len() == 20).then_some(Self { capabilities, nonce, plugin, mariadb })
    }
}

/// The beginning of a request for TLS and of an answer to the greeting.
fn settings(capabilities: u32) -> Vec<u8> {
    let mut out = capabilities.to_le_bytes().to_vec();
    out.extend(u32::try_from(LONGEST_MESSAGE).unwrap_or(u32::MAX).to_le_bytes());
    out.push(UTF8MB4);
    out.extend([0; 23]);
    out
}

/// The gateway's own login.
struct Login<'a> {
    packets: &'a mut Packets,
    account: &'a Account,
    secure: bool,
}

impl Login<'_> {
    async fn run(&mut self, greeting: &Greeting, capabilities: u32) -> Result<(), Failure> {
        let Account { user, password, database } = self.account;
        // A plugin that is not known here may not be the account's: the server tells which is.
        let mut plugin = if greeting.plugin == CACHING_SHA2 { CACHING_SHA2 } else { NATIVE };
        let proof = proof(plugin, password.reveal(), &greeting.nonce);
        let mut out = settings(capabilities);
        out.extend([user.as_bytes(), &[0]].concat());
        put_text(&proof, &mut out);
        out.extend([database.as_bytes(), &[0], plugin.as_bytes(), &[0]].concat());
        self.packets.send(&out).await?;
        for _ in 0..MOST_MESSAGES {
            let packet = self.packets.next().await?;
            match packet.head() {
                Some(0x00) => return Ok(()),
                Some(0xff) => return Err(reported(&packet)),
                Some(0xfe) => plugin = self.switch(&packet).await?,
                Some(0x01) if plugin == CACHING_SHA2 => self.go_on(&packet).await?,
                _ => return Err(Failure::broken("a message that no login has")),
            }
        }
        Err(Failure::broken("a login that does not end"))
    }

    /// The account has another plugin.
    async fn switch(&mut self, packet: &Packet) -> Result<&'static str, Failure> {
        let mut fields = packet.fields();
        fields.take(1);
        let name = fields.until_nul().ok_or_else(|| Failure::broken("a plugin"))?;
        let nonce = fields.0.strip_suffix(&[0]).unwrap_or(fields.0);
        let known = [NATIVE, CACHING_SHA2, CLEAR].into_iter().find(|known| known.as_bytes() == name);
        let plugin = known.ok_or_else(|| {
            let name: String = String::from_utf8_lossy(name).chars().filter(|c| !c.is_control()).take(40).collect();
            Failure::refused(format!("the account wants the plugin `{name}`; give it {CACHING_SHA2} or {NATIVE}"))
        })?;
        if plugin != CLEAR && nonce.len() != 20 {
            return Err(Failure::broken("a nonce"));
        }
        if plugin == CLEAR {
            self.send_password().await?;
        } else {
            let proof = proof(plugin, self.account.password.reveal(), nonce);
            self.packets.send(&proof).await?;
        }
        Ok(plugin)
    }

    /// The server knows the proof (3), or has forgotten its part of it (4) and wants the password itself.
    async fn go_on(&mut self, packet: &Packet) -> Result<(), Failure> {
        match packet.fields().0 {
            [1, 3] => Ok(()),
            [1, 4] => self.send_password().await,
            _ => Err(Failure::broken("a message of caching_sha2_password")),
        }
    }

    /// Sends the password itself. Without TLS MySQL would take it under an RSA key that it sends itself, which says
    /// nothing about who has sent it: so it is not sent.
    async fn send_password(&mut self) -> Result<(), Failure> {
        if !self.secure {
            return Err(Failure::refused("the server wants the password itself, which is sent in TLS alone"));
        }
        let password = [self.account.password.reveal().as_bytes(), &[0]].concat();
        self.packets.send(&password).await
    }
}

fn digest(algorithm: &'static Algorithm, parts: &[&[u8]]) -> Vec<u8> {
    let mut context = Context::new(algorithm);
    parts.iter().for_each(|part| context.update(part));
    context.finish().as_ref().to_vec()
}

/// The proof of a password: its digest, under one that only who knows the digest of the digest can make.
fn proof(plugin: &str, password: &str, nonce: &[u8]) -> Vec<u8> {
    let native = plugin == NATIVE;
    let algorithm = if native { &SHA1_FOR_LEGACY_USE_ONLY } else { &SHA256 };
    let once = digest(algorithm, &[password.as_bytes()]);
    let twice = digest(algorithm, &[&once]);
    let pad = digest(algorithm, &if native { [nonce, &twice] } else { [&twice, nonce] });
    once.iter().zip(pad).map(|(left, right)| left ^ right).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(octets: &[u8]) -> String {
        octets.iter().map(|octet| format!("{octet:02x}")).collect()
    }

    /// As PyMySQL 2.2 makes them of `canary` and a nonce of 20 times `n`.
    #[test]
    fn proofs_are_those_of_another_client() {
        let nonce = [b'n'; 20];
        assert_eq!(hex(&proof(NATIVE, "canary", &nonce)), "6d98d2106ab155a83edfbbc8187286f4eff69d1d");
        let sha2 = "e4827e4c4e5db74b61275e4cda6e6d419a9c6c5062ef1fe55d174ca28a97801e";
        assert_eq!(hex(&proof(CACHING_SHA2, "canary", &nonce)), sha2);
    }

    #[test]
    fn greetings_that_are_cut_or_too_old_are_refused() {
        let mut whole = b"\x0a5.5.5-10.11.6-MariaDB\0\x01\0\0\0nnnnnnnn\0\xfe\xf7\x2d\x02\0\xff\x81\x15".to_vec();
        whole.extend([0; 10]);
        whole.extend(b"nnnnnnnnnnnn\0mysql_native_password\0");
        let greeting = Greeting::parse(&whole).unwrap();
        assert!(greeting.mariadb && greeting.plugin == NATIVE && greeting.nonce == [b'n'; 20]);
        for length in 0..whole.len() - 22 {
            assert!(Greeting::parse(whole.get(..length).unwrap()).is_err(), "{length}");
        }
        let old = whole.iter().map(|octet| if *octet == 0xff { 0xf7 } else { *octet }).collect::<Vec<_>>();
        assert!(Greeting::parse(&old).is_err_and(|failure| failure.why.contains("older")));
    }
}
