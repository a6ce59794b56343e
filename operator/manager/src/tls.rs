//! The certificate of the server. Its files are looked at again from time to time, because those who issue
//! certificates replace them; a new one that is broken leaves the old one in use, and is logged.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use idm_types::{Clock, Uptime};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The files are looked at again after this time.
const LOOK_AGAIN_MS: u64 = 10_000;

/// Why there is no TLS. Its texts hold nothing of a key.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file holds something else.
    #[error("{path} must be {wanted} in PEM")]
    Content {
        /// The file.
        path: PathBuf,
        /// Its content.
        wanted: &'static str,
    },
    /// They do not fit together.
    #[error("the certificate cannot be used: {0}")]
    Certificate(#[from] rustls::Error),
}

/// TLS with the certificate of two files.
pub struct ServerTls {
    certificate: PathBuf,
    key: PathBuf,
    clock: Clock,
    current: Mutex<Current>,
}

struct Current {
    config: Arc<ServerConfig>,
    stamp: Stamp,
    looked: Uptime,
}

/// The facts that tell whether a file was replaced.
type Stamp = [Option<(SystemTime, u64)>; 2];

impl ServerTls {
    /// Reads certificate and key.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn open(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        Self::with_clock(certificate, key, Clock::of_process())
    }

    fn with_clock(certificate: &Path, key: &Path, clock: Clock) -> Result<Self, TlsError> {
        let stamp = stamp(certificate, key);
        let config = Arc::new(read(certificate, key)?);
        let current = Mutex::new(Current { config, stamp, looked: clock.uptime() });
        Ok(Self { certificate: certificate.to_owned(), key: key.to_owned(), clock, current })
    }

    fn config(&self) -> Arc<ServerConfig> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.uptime();
        if now.since(current.looked) < LOOK_AGAIN_MS {
            return current.config.clone();
        }
        current.looked = now;
        let stamp = stamp(&self.certificate, &self.key);
        if stamp != current.stamp {
            match read(&self.certificate, &self.key) {
                Ok(config) => (current.config, current.stamp) = (Arc::new(config), stamp),
                Err(error) => tracing::warn!(%error, "the new certificate of the manager is not used"),
            }
        }
        current.config.clone()
    }

    /// The handshake; `None` where the other side breaks it off.
    pub(crate) async fn accept(&self, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        TlsAcceptor::from(self.config()).accept(stream).await.ok()
    }
}

fn stamp(certificate: &Path, key: &Path) -> Stamp {
    [certificate, key].map(|path| {
        let data = std::fs::metadata(path).ok()?;
        Some((data.modified().ok()?, data.len()))
    })
}

fn read(certificate: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let file = |path: &Path| std::fs::read(path).map_err(|source| TlsError::Io { path: path.to_owned(), source });
    let content = |path: &Path, wanted| TlsError::Content { path: path.to_owned(), wanted };
    let pem = file(certificate)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    let chain = chain.ok_or_else(|| content(certificate, "a certificate, with its chain"))?;
    let private = PrivateKeyDer::from_pem_slice(&file(key)?).map_err(|_| content(key, "a private key"))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_no_client_auth().with_single_cert(chain, private)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// A certificate with its key, as openssl makes them.
    fn make(dir: &Path) -> (PathBuf, PathBuf) {
        let (certificate, key) = (dir.join("tls.crt"), dir.join("tls.key"));
        let done = std::process::Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"])
            .args(["-subj", "/CN=idm", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .output()
            .expect("openssl runs");
        assert!(done.status.success());
        (certificate, key)
    }

    #[test]
    fn a_new_certificate_is_taken_and_a_broken_one_is_not() {
        let dir = tempfile::tempdir().expect("a folder");
        let (certificate, key) = make(dir.path());
        let time = Arc::new(AtomicU64::new(0));
        let tls = ServerTls::with_clock(&certificate, &key, Clock::set_by(time.clone())).expect("it is in order");
        let first = tls.config();
        std::fs::write(&certificate, "broken").expect("written");
        time.store(LOOK_AGAIN_MS, Ordering::Relaxed);
        assert!(Arc::ptr_eq(&first, &tls.config()), "the old one stays in use");
        make(dir.path());
        assert!(Arc::ptr_eq(&first, &tls.config()), "it is not looked at with every connection");
        time.store(2 * LOOK_AGAIN_MS, Ordering::Relaxed);
        assert!(!Arc::ptr_eq(&first, &tls.config()));
    }

    #[test]
    fn files_that_hold_something_else_are_named() {
        let dir = tempfile::tempdir().expect("a folder");
        let (certificate, key) = make(dir.path());
        let error = ServerTls::open(&key, &certificate).err().expect("an error").to_string();
        assert!(error.contains("tls.key must be a certificate"), "{error}");
        let error = ServerTls::open(&certificate, &dir.path().join("none")).err().expect("an error").to_string();
        assert!(error.contains("cannot read") && error.contains("none"), "{error}");
    }
}
