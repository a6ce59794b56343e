//! Peers of the tests' own: a valve in front of a server, and a server that follows a script.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use idm_plan::{DirectoryServer, Protection};
use ldap3_lber::Parser;
use ldap3_proto::control::LdapControl;
use ldap3_proto::proto::{
    LdapBindResponse, LdapExtendedResponse, LdapMsg, LdapOp, LdapPartialAttribute, LdapResult, LdapResultCode,
    LdapSearchResultEntry,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::world::{Certificates, Settings, server};

/// A way to a server, on which connections can be cut off without a word, as a firewall does.
pub(crate) struct Valve {
    port: u16,
    /// Connections before this one are cut off.
    first: Arc<AtomicU64>,
    count: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Valve {
    pub(crate) async fn open(target: (&'static str, u16)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (first, count) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (oldest, number) = (first.clone(), count.clone());
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(target).await.expect("the server answers");
                let (own, oldest) = (number.fetch_add(1, Ordering::SeqCst), oldest.clone());
                let (near_in, near_out) = near.into_split();
                let (far_in, far_out) = far.into_split();
                for (mut from, mut to) in [(near_in, far_out), (far_in, near_out)] {
                    let oldest = oldest.clone();
                    connections.spawn(async move {
                        let mut octets = vec![0; 4096];
                        while let Ok(length @ 1..) = from.read(&mut octets).await {
                            // The octets are read and lost, and neither side is told.
                            if own >= oldest.load(Ordering::SeqCst) && to.write_all(&octets[..length]).await.is_err() {
                                break;
                            }
                        }
                        if own < oldest.load(Ordering::SeqCst) {
                            std::future::pending::<()>().await;
                        }
                    });
                }
            }
        });
        Self { port, first, count, task }
    }

    pub(crate) fn server(&self) -> DirectoryServer {
        server("127.0.0.1", self.port, Protection::Loopback)
    }

    /// Cuts off every connection that there is. New ones work.
    pub(crate) fn swallow(&self) {
        self.first.store(self.count.load(Ordering::SeqCst), Ordering::SeqCst);
    }
}

impl Drop for Valve {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The reaction of a script to a request.
pub(crate) enum Do {
    /// Sends a message that answers the request.
    Answer(LdapOp),
    /// The same, with controls.
    AnswerWith(LdapOp, Vec<LdapControl>),
    /// Sends a message with another id.
    As(i32, LdapOp),
    /// Sends octets.
    Raw(Vec<u8>),
    /// Waits.
    Wait(Duration),
    /// Ends the connection with FIN.
    Close,
    /// Ends it with RST.
    Reset,
    /// Begins TLS, with the certificate of this name.
    BeginTls(&'static str),
}

/// A request, and the connection that it came on: they are counted from 0.
pub(crate) struct Seen {
    pub(crate) connection: usize,
    pub(crate) request: LdapMsg,
}

type Script = dyn Fn(&Seen) -> Vec<Do> + Send + Sync;

/// A server that does what a script says, and remembers what it was asked.
pub(crate) struct Scripted {
    port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

trait Octets: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Octets for T {}

impl Scripted {
    pub(crate) async fn start(script: impl Fn(&Seen) -> Vec<Do> + Send + Sync + 'static) -> Self {
        Self::with(None, Vec::new(), script).await
    }

    /// The same, with what is sent as soon as somebody connects, and an authority for TLS.
    pub(crate) async fn with(
        certificates: Option<&Certificates>,
        greeting: Vec<u8>,
        script: impl Fn(&Seen) -> Vec<Do> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (seen, connections): (Arc<Mutex<Vec<Seen>>>, _) = (Arc::default(), Arc::new(AtomicU64::new(0)));
        let (log, count, script) = (seen.clone(), connections.clone(), Arc::new(script) as Arc<Script>);
        let tls = certificates.map(|certificates| Arc::new(Tls::of(certificates)));
        let task = tokio::spawn(async move {
            let mut served = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let connection = count.fetch_add(1, Ordering::SeqCst) as usize;
                let (log, script, greeting, tls) = (log.clone(), script.clone(), greeting.clone(), tls.clone());
                served.spawn(async move {
                    let _ = serve(stream, connection, &greeting, tls, &log, &*script).await;
                });
            }
        });
        Self { port, seen, connections, task }
    }

    pub(crate) fn at(&self, protection: Protection) -> DirectoryServer {
        server("127.0.0.1", self.port, protection)
    }

    /// People by `uid` below `dc=test`, over this server.
    pub(crate) fn settings(&self) -> Settings {
        Settings::search(self.at(Protection::Loopback), "dc=test", "uid", "cn=gateway,dc=test", "canary-own")
    }

    /// The connections that were made.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }

    /// Counts requests.
    pub(crate) fn count(&self, what: impl Fn(&Seen) -> bool) -> usize {
        self.seen.lock().expect("a log").iter().filter(|seen| what(seen)).count()
    }

    /// The binds with a password that are not the gateway's.
    pub(crate) fn binds_of_people(&self) -> usize {
        self.count(|seen| matches!(&seen.request.op, LdapOp::BindRequest(bind) if !bind.dn.contains("gateway")))
    }

    pub(crate) fn binds(&self) -> usize {
        self.count(|seen| matches!(seen.request.op, LdapOp::BindRequest(_)))
    }

    pub(crate) fn searches(&self) -> usize {
        self.count(|seen| matches!(seen.request.op, LdapOp::SearchRequest(_)))
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Certificates by name.
struct Tls(Vec<(&'static str, Arc<rustls::ServerConfig>)>);

impl Tls {
    fn of(certificates: &Certificates) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = |name: &'static str| {
            let chain = CertificateDer::pem_file_iter(certificates.path(&format!("{name}.crt"))).expect("a file");
            let key = PrivateKeyDer::from_pem_file(certificates.path(&format!("{name}.key"))).expect("a key");
            let config = rustls::ServerConfig::builder_with_provider(provider.clone())
                .with_safe_default_protocol_versions()
                .expect("versions")
                .with_no_client_auth()
                .with_single_cert(chain.collect::<Result<_, _>>().expect("PEM"), key)
                .expect("a certificate");
            (name, Arc::new(config))
        };
        Self(["localhost", "other.test"].map(config).to_vec())
    }
}

async fn serve(
    stream: TcpStream,
    connection: usize,
    greeting: &[u8],
    tls: Option<Arc<Tls>>,
    log: &Mutex<Vec<Seen>>,
    script: &Script,
) -> std::io::Result<()> {
    let stream = stream.into_std()?;
    let handle = socket2::Socket::from(stream.try_clone()?);
    let mut stream: Box<dyn Octets> = Box::new(TcpStream::from_std(stream)?);
    stream.write_all(greeting).await?;
    let mut received = BytesMut::new();
    loop {
        let request = loop {
            // Requests of the gateway are read by the codec alone.
            let parsed = Parser::new(64).parse(&received).ok().map(|(rest, tag)| (received.len() - rest.len(), tag));
            if let Some((length, tag)) = parsed {
                received.advance(length);
                break LdapMsg::try_from(tag).expect("a request of RFC 4511");
            }
            if stream.read_buf(&mut received).await? == 0 {
                return Ok(());
            }
        };
        let id = request.msgid;
        let seen = Seen { connection, request };
        let steps = script(&seen);
        log.lock().expect("a log").push(seen);
        for step in steps {
            match step {
                Do::Answer(op) => stream.write_all(&encoded(id, op, Vec::new())).await?,
                Do::AnswerWith(op, controls) => stream.write_all(&encoded(id, op, controls)).await?,
                Do::As(id, op) => stream.write_all(&encoded(id, op, Vec::new())).await?,
                Do::Raw(octets) => stream.write_all(&octets).await?,
                Do::Wait(time) => tokio::time::sleep(time).await,
                Do::Close => return Ok(()),
                // Closed at once, with RST.
                Do::Reset => return handle.set_linger(Some(Duration::ZERO)),
                Do::BeginTls(name) => {
                    let tls = tls.as_ref().expect("an authority");
                    let (_, config) = tls.0.iter().find(|(known, _)| *known == name).expect("a certificate");
                    let acceptor = tokio_rustls::TlsAcceptor::from(config.clone());
                    stream = Box::new(acceptor.accept(stream).await?);
                }
            }
        }
        stream.flush().await?;
    }
}

pub(crate) fn encoded(id: i32, op: LdapOp, controls: Vec<LdapControl>) -> Vec<u8> {
    let mut octets = BytesMut::new();
    ldap3_lber::write::encode_into(&mut octets, LdapMsg::new_with_ctrls(id, op, controls).into()).expect("encoded");
    octets.to_vec()
}

pub(crate) fn result(code: LdapResultCode) -> LdapResult {
    LdapResult { code, matcheddn: String::new(), message: "by the script".into(), referral: Vec::new() }
}

/// The answer to a bind.
pub(crate) fn bound(code: LdapResultCode) -> LdapOp {
    LdapOp::BindResponse(LdapBindResponse { res: result(code), saslcreds: None })
}

pub(crate) fn done(code: LdapResultCode) -> LdapOp {
    LdapOp::SearchResultDone(result(code))
}

/// The answer to StartTLS, and with id 0 the notice that the connection ends.
pub(crate) fn extended(code: LdapResultCode) -> LdapOp {
    LdapOp::ExtendedResponse(LdapExtendedResponse { res: result(code), name: None, value: None })
}

pub(crate) fn entry(dn: &str, attributes: &[(&str, &[&[u8]])]) -> LdapOp {
    let attribute = |(name, values): &(&str, &[&[u8]])| LdapPartialAttribute {
        atype: (*name).to_owned(),
        vals: values.iter().map(|value| value.to_vec()).collect(),
    };
    let attributes = attributes.iter().map(attribute).collect();
    LdapOp::SearchResultEntry(LdapSearchResultEntry { dn: dn.into(), attributes })
}

/// The entry of `ana`.
pub(crate) fn ana() -> LdapOp {
    entry("uid=ana,dc=test", &[("uid", &[b"ana"]), ("entryUUID", &[b"e-1"])])
}
