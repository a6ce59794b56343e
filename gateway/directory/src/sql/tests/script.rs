//! A server that does what a script says.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// One step of a scripted server.
#[derive(Clone)]
pub(super) enum Step {
    /// Reads until so many more octets have come.
    Read(usize),
    Send(Vec<u8>),
    /// Sends octets one by one, 20 ms apart.
    Drip(Vec<u8>),
    /// Sends the same again and again.
    Flood(Vec<u8>),
    /// Closes with a reset.
    Reset,
}

/// A server that does the same with every connection; then it reads until the other side closes.
pub(super) struct Scripted {
    pub(super) port: u16,
    seen: Arc<std::sync::Mutex<Vec<u8>>>,
}

impl Scripted {
    pub(super) async fn start(steps: Vec<Step>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, seen) = (listener.local_addr().unwrap().port(), Arc::<std::sync::Mutex<Vec<u8>>>::default());
        let all = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Self::serve(stream, steps.clone(), all.clone()));
            }
        });
        Self { port, seen }
    }

    async fn serve(
        mut stream: tokio::net::TcpStream,
        steps: Vec<Step>,
        seen: Arc<std::sync::Mutex<Vec<u8>>>,
    ) -> std::io::Result<()> {
        for step in steps {
            match step {
                Step::Read(count) => {
                    let mut octets = vec![0; count];
                    stream.read_exact(&mut octets).await?;
                    seen.lock().unwrap().extend(octets);
                }
                Step::Send(octets) => stream.write_all(&octets).await?,
                Step::Drip(octets) => {
                    for octet in octets {
                        stream.write_all(&[octet]).await?;
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
                Step::Flood(octets) => loop {
                    stream.write_all(&octets).await?;
                },
                Step::Reset => {
                    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
                    return Ok(());
                }
            }
        }
        let mut octets = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut octets).await {
            seen.lock().unwrap().extend(&octets[..count]);
        }
        Ok(())
    }

    pub(super) fn seen(&self) -> Vec<u8> {
        self.seen.lock().unwrap().clone()
    }
}

pub(super) fn contains(octets: &[u8], text: &str) -> bool {
    octets.windows(text.len()).any(|part| part == text.as_bytes())
}

/// A message of PostgreSQL.
pub(super) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[tag], &length[..], body].concat()
}

/// A packet of MySQL.
pub(super) fn packet(number: u8, body: &[u8]) -> Vec<u8> {
    let [a, b, c, _] = u32::try_from(body.len()).unwrap().to_le_bytes();
    [&[a, b, c, number], body].concat()
}

/// The greeting of a server with these capabilities, and a nonce of 20 times `n`.
pub(super) fn greeting(capabilities: u32, plugin: &str) -> Vec<u8> {
    let [a, b, c, d] = capabilities.to_le_bytes();
    let mut body = b"\x0a8.0.36\0\x01\0\0\0nnnnnnnn\0".to_vec();
    body.extend([a, b, 45, 2, 0, c, d, 21]);
    body.extend([0; 10]);
    body.extend(b"nnnnnnnnnnnn\0");
    body.extend([plugin.as_bytes(), &[0]].concat());
    packet(0, &body)
}

pub(super) const ALL_BUT_TLS: u32 = 0x00ff_ffff & !0x800;
pub(super) const ALL: u32 = 0x00ff_ffff;

pub(super) fn postgres(port: u16) -> DatabaseDirectory {
    plan(DatabaseProduct::PostgreSql, port, "people", "SELECT 1")
}

pub(super) fn mysql(port: u16) -> DatabaseDirectory {
    plan(DatabaseProduct::MySql, port, "people", "SELECT 1")
}
