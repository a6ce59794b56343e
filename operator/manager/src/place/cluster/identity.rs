//! The identity of a person: the API server tells it of their token. The connections to it are shared and carry no
//! identity of their own; each request gets the token of the person for whom it is made.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderValue};
use http::{Method, Request, Response};
use kube::client::Body;
use kube::{Client, Config};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;
use tower::Service;

use super::ClusterOptions;
use super::request::{Asked, send};
use super::text;
use crate::failure::{Code, Failure};
use crate::manager::StartError;
use crate::session::{Access, Person};

/// For a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// No token of an API server is longer.
const MOST_BYTES: usize = 32 << 10;
/// Namespaces that a person may name.
const MOST_NAMES: usize = 64;

/// An API server, reached without an identity.
pub(super) struct ApiServer {
    anonymous: Client,
}

impl ApiServer {
    pub(super) fn connect(options: &ClusterOptions) -> Result<Self, StartError> {
        let failed = |why: String| StartError::ApiServer(why);
        let address = options.api_server.parse::<http::Uri>();
        let address = address.map_err(|error| failed(format!("`{}`: {error}", options.api_server)))?;
        if address.scheme_str() != Some("https") {
            return Err(failed(format!("`{}` must begin with https://: tokens are sent there", options.api_server)));
        }
        let mut config = Config::new(address);
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        if let Some(path) = &options.api_server_ca_file {
            let pem = std::fs::read(path).map_err(|error| failed(format!("{}: {error}", path.display())))?;
            let read = CertificateDer::pem_slice_iter(&pem).map(|one| one.map(|der| der.to_vec()));
            let all = read.collect::<Result<Vec<_>, _>>();
            let all = all.ok().filter(|all| !all.is_empty());
            config.root_cert = Some(all.ok_or_else(|| failed(format!("{} has no certificates", path.display())))?);
        }
        let anonymous = Client::try_from(config).map_err(|error| failed(error.to_string()))?;
        Ok(Self { anonymous })
    }

    #[cfg(test)]
    pub(super) fn over(anonymous: Client) -> Self {
        Self { anonymous }
    }

    /// A client with the rights of a person. It is made for one request of theirs, and goes with it.
    pub(super) fn client_of(&self, access: &Access) -> Result<Client, Failure> {
        let token = access.token.reveal();
        let header = HeaderValue::from_str(&format!("Bearer {token}"));
        let is_token = !token.is_empty() && token.len() <= MOST_BYTES && token.bytes().all(|b| b.is_ascii_graphic());
        let mut authorization = header.ok().filter(|_| is_token).ok_or_else(|| {
            Failure::invalid("`token` must be a bearer token of the API server, without spaces").at("token")
        })?;
        authorization.set_sensitive(true);
        let service = WithToken { inner: self.anonymous.clone(), authorization };
        Ok(Client::new(service, "default"))
    }

    /// The person whose token it is.
    pub(super) async fn whoami(&self, access: Access) -> Result<Person, Failure> {
        if access.namespaces.len() > MOST_NAMES {
            return Err(Failure::invalid(format!("name {MOST_NAMES} namespaces at most")).at("namespaces"));
        }
        if let Some(bad) = access.namespaces.iter().find(|name| !is_namespace(name)) {
            return Err(Failure::invalid(format!("`{bad}` is no name of a namespace")).at("namespaces"));
        }
        let client = self.client_of(&access)?;
        let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
        let asked = Asked::plain("who you are");
        let answer = send(&client, Method::POST, path, Some(("application/json", &body))).await?;
        if answer.status == 401 {
            let message = "the API server does not take this token: make a new one, and sign in with that";
            return Err(Failure::new(Code::NoSession, message));
        }
        let review = answer.done(&asked)?.body;
        let name = text(&review, "/status/userInfo/username").to_owned();
        // A person who is not known has no session, whatever the API server lets everybody do.
        if name.is_empty() || name == "system:anonymous" {
            return Err(Failure::new(Code::NoSession, "the API server does not know whose token this is"));
        }
        let groups = review.pointer("/status/userInfo/groups").and_then(serde_json::Value::as_array);
        let groups = groups.into_iter().flatten().filter_map(|group| group.as_str().map(str::to_owned)).collect();
        let uid = text(&review, "/status/userInfo/uid").to_owned();
        Ok(Person { name, uid, groups, access: Some(Arc::new(access)) })
    }
}

pub(super) fn is_namespace(text: &str) -> bool {
    let is_end = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    let is_plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    bytes.len() <= 63 && is_end(bytes.first()) && is_end(bytes.last()) && bytes.iter().all(is_plain)
}

/// The shared connections, with somebody's token on each request.
struct WithToken {
    inner: Client,
    authorization: HeaderValue,
}

impl Service<Request<Body>> for WithToken {
    type Response = Response<Body>;
    type Error = kube::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, kube::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), kube::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        request.headers_mut().insert(AUTHORIZATION, self.authorization.clone());
        let inner = self.inner.clone();
        Box::pin(async move { inner.send(request).await })
    }
}
