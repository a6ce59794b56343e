//! Questions to outside servers, asked by whoever may do IO.

use std::borrow::Cow;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use idm_plan::{OutgoingTls, SecretHandle, Secrets};
use idm_types::Redacted;

/// The parameters of a form.
pub type Form = Vec<(Cow<'static, str>, Redacted<String>)>;

/// A question to an outside server.
#[derive(Clone, Debug)]
pub struct OutboundRequest {
    /// Where to ask.
    pub endpoint: String,
    /// How we prove ourselves in `Authorization`.
    pub authorization: Authorization,
    /// The parameters of a form; `None`: a document is read with GET.
    pub form: Option<Form>,
    /// The status of a good answer.
    pub expected: u16,
    /// How long it may take.
    pub deadline: Deadline,
    /// For whom it is asked, so that one caller cannot take every place; `None`: for the gateway itself.
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
    /// Nothing.
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

/// How long an answer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// A few seconds: a request waits, and asking again costs nothing.
    Short,
    /// Longer: what was asked for is given once, and an answer that is not waited for is lost.
    Long,
}

/// Why there is no answer. Holds neither token nor secret.
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
    /// The server was not asked: too many questions wait, or it did not answer those before (its circuit is open).
    #[error("{why}")]
    NotAsked {
        /// Which server, and why.
        why: String,
        /// When the next try may be worth it.
        seconds: u64,
    },
    /// There is none.
    #[error("{0}")]
    Failed(String),
}

impl NoAnswer {
    /// Seconds until the next try, where they are known.
    pub fn retry_after(&self) -> Option<u64> {
        if let NoAnswer::NotAsked { seconds, .. } = self { Some(*seconds) } else { None }
    }
}

/// The body of a good response.
pub type Answer = Pin<Box<dyn Future<Output = Result<Vec<u8>, NoAnswer>> + Send>>;

/// Work that goes on whether or not the request that began it is still there.
pub type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Asks outside servers; lives where IO is allowed. Bounded in time, and in number for each server.
pub trait HttpClient: Send + Sync {
    /// Asks.
    fn ask(&self, question: OutboundRequest) -> Answer;

    /// Whether a URL that the network gave us may be used: https, and not this machine or its link, unless the operator
    /// allowed it. The error says why not.
    fn check(&self, url: &str) -> Result<(), String>;

    /// The same, for a server that is reached with these settings. The error shows no key.
    fn reached_by(&self, tls: &OutgoingTls, secrets: &Secrets) -> Result<Arc<dyn HttpClient>, String>;

    /// Does work to its end, and does not wait for it.
    fn carry_on(&self, work: Work);
}

/// As whom, and where, one method asks.
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
