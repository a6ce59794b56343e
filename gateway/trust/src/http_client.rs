//! Requests to outside servers, which a crate that may do IO performs.

use std::borrow::Cow;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use idm_plan::{OutgoingTls, SecretHandle, Secrets};
use idm_types::Redacted;

/// The parameters of a form.
pub type Form = Vec<(Cow<'static, str>, Redacted<String>)>;

/// A request to an outside server.
#[derive(Clone, Debug)]
pub struct OutboundRequest {
    /// The URL.
    pub endpoint: String,
    /// The authentication in `Authorization`.
    pub authorization: Authorization,
    /// The parameters of a form; `None`: a document is read with GET.
    pub form: Option<Form>,
    /// The status of a successful answer.
    pub expected: u16,
    /// The time limit.
    pub deadline: Deadline,
    /// The address of the caller that it is made for, so that one caller cannot take every place; `None`: for the
    /// gateway itself.
    pub caller: Option<IpAddr>,
}

impl OutboundRequest {
    /// A public document, read with GET for a request that waits.
    pub fn document(url: &str) -> Self {
        Self {
            endpoint: url.to_owned(),
            authorization: Authorization::Nothing,
            form: None,
            expected: 200,
            deadline: Deadline::Short,
            caller: None,
        }
    }
}

/// The `Authorization` header of a request.
#[derive(Clone, Debug)]
pub enum Authorization {
    /// No header.
    Nothing,
    /// `client_secret_basic` (RFC 6749 §2.3.1).
    Basic {
        /// The client's id.
        client_id: String,
        /// The client's secret.
        secret: Redacted<String>,
    },
    /// A token (RFC 6750).
    Bearer(Redacted<String>),
}

/// The time that an answer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// A few seconds: a request waits for it, and it can be repeated at no cost.
    Short,
    /// Longer: the server gives the result only once, and it is lost if the gateway stops waiting.
    Long,
}

/// The reason why there is no answer. Contains neither token nor secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// The server answered with another status, and perhaps an OAuth error code.
    #[error("{endpoint} answered {status}{}", .error.as_ref().map(|error| format!(" {error}")).unwrap_or_default())]
    Refused {
        /// The server.
        endpoint: String,
        /// The status.
        status: u16,
        /// The `error` of RFC 6749 §5.2.
        error: Option<String>,
    },
    /// The server was not asked: too many requests wait, or it did not answer earlier ones (its circuit is open).
    #[error("{why}")]
    NotAsked {
        /// The server, and the reason.
        why: String,
        /// The time when the next attempt may succeed.
        seconds: u64,
    },
    /// There is no answer.
    #[error("{0}")]
    Failed(String),
}

impl NoAnswer {
    /// Seconds until the next attempt, where they are known.
    pub fn retry_after(&self) -> Option<u64> {
        if let NoAnswer::NotAsked { seconds, .. } = self { Some(*seconds) } else { None }
    }
}

/// The body of a successful response.
pub type Answer = Pin<Box<dyn Future<Output = Result<Vec<u8>, NoAnswer>> + Send>>;

/// Work that continues even if the request that began it has ended.
pub type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Sends requests to outside servers; implemented where IO is allowed. Limited in time, and in number for each server.
pub trait HttpClient: Send + Sync {
    /// Sends a request.
    fn ask(&self, question: OutboundRequest) -> Answer;

    /// Whether a URL that came from the network may be used: https, and neither this machine nor its link, unless the
    /// operator allowed it. The error gives the reason.
    fn check(&self, url: &str) -> Result<(), String>;

    /// The same, for a server that is reached with these settings. The error shows no key.
    fn reached_by(&self, tls: &OutgoingTls, secrets: &Secrets) -> Result<Arc<dyn HttpClient>, String>;

    /// Runs work to its end in the background.
    fn carry_on(&self, work: Work);
}

/// The client and the addresses that one method uses.
pub struct OutboundClient {
    endpoint: String,
    client_id: String,
    secret: Redacted<String>,
    http: Arc<dyn HttpClient>,
}

/// A secret that is text. The error shows no secret.
pub fn secret_text(handle: &SecretHandle, secrets: &Secrets) -> Result<Redacted<String>, String> {
    Ok(Redacted::new(secrets.text(handle)?.trim_end().to_owned()))
}

impl OutboundClient {
    /// The error shows no secret.
    pub fn new(
        endpoint: &str,
        client_id: &str,
        handle: &SecretHandle,
        secrets: &Secrets,
        http: Arc<dyn HttpClient>,
    ) -> Result<Self, String> {
        Ok(Self {
            endpoint: endpoint.to_owned(),
            client_id: client_id.to_owned(),
            secret: secret_text(handle, secrets)?,
            http,
        })
    }

    /// Posts a form for a caller at this address.
    pub fn ask(&self, form: Vec<(&'static str, Redacted<String>)>, caller: IpAddr) -> Answer {
        let authorization = Authorization::Basic { client_id: self.client_id.clone(), secret: self.secret.clone() };
        let form = form.into_iter().map(|(name, value)| (name.into(), value)).collect();
        self.http.ask(OutboundRequest {
            endpoint: self.endpoint.clone(),
            authorization,
            form: Some(form),
            expected: 200,
            deadline: Deadline::Short,
            caller: Some(caller),
        })
    }
}
