//! Scripts of pages of other origins: the answer to a preflight, and the headers by which a browser lets a script read
//! an answer (the Fetch standard, section "CORS protocol").
//!
//! A browser enforces it; the gateway tells. What a caller may do is decided by the policy alone.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use idm_plan::{Cors, Names};
use idm_types::{Reason, Refusal};

use crate::engine::EngineError;

/// Headers of the gateway's own answers that scripts also read: they explain a refusal.
const OF_OWN_ANSWERS: [&str; 3] = ["x-decision-id", "www-authenticate", "retry-after"];
/// The most headers that a preflight may announce.
const MAX_ANNOUNCED: usize = 64;

/// The settings of a rule, with the values that do not depend on the request.
#[derive(Debug)]
pub(crate) struct ArmedCors {
    cors: Cors,
    methods: Option<HeaderValue>,
    headers: Option<HeaderValue>,
    exposed: Option<HeaderValue>,
    exposed_of_own: Option<HeaderValue>,
    max_age: HeaderValue,
}

/// A preflight: a browser asks whether a script's request may be sent.
pub(crate) struct Preflight {
    /// The method of the request that it announces.
    pub(crate) method: Method,
}

impl Preflight {
    /// `OPTIONS` with one origin and one announced method. Anything else is a request like others.
    pub(crate) fn of(head: &Parts) -> Option<Self> {
        if head.method != Method::OPTIONS || only(&head.headers, &header::ORIGIN).is_none() {
            return None;
        }
        let method = only(&head.headers, &header::ACCESS_CONTROL_REQUEST_METHOD)?;
        Some(Self { method: Method::from_bytes(method.as_bytes()).ok()? })
    }
}

/// The words of the answer to one request to browsers.
#[derive(Clone, Debug)]
pub(crate) struct Sharing {
    cors: Arc<ArmedCors>,
    /// The origin of the request, where it is listed.
    origin: Option<HeaderValue>,
}

impl ArmedCors {
    pub(crate) fn arm(cors: &Cors) -> Result<Arc<Self>, EngineError> {
        let credentials = cors.takes_credentials();
        let value = |names: Vec<&str>| {
            let text = names.join(", ");
            let value = (!text.is_empty()).then(|| HeaderValue::from_str(&text)).transpose();
            value.map_err(|_| EngineError::Plan("a name of `cors` cannot travel".into()))
        };
        // With credentials `*` is the name of a header or method.
        let listed = |names: &Names, more: &[&'static str]| match names {
            Names::Any => value(if credentials { vec![] } else { vec!["*"] }),
            Names::Listed(listed) => value(listed.iter().map(String::as_str).chain(more.iter().copied()).collect()),
        };
        Ok(Arc::new(Self {
            methods: listed(&cors.methods, &[])?,
            headers: listed(&cors.headers, &[])?,
            exposed: listed(&cors.exposed, &[])?,
            exposed_of_own: listed(&cors.exposed, &OF_OWN_ANSWERS)?,
            max_age: HeaderValue::from(cors.max_age_seconds),
            cors: cors.clone(),
        }))
    }

    /// The words of the answer to a request with these headers.
    pub(crate) fn sharing(self: &Arc<Self>, headers: &HeaderMap) -> Sharing {
        let listed = |origin: &&HeaderValue| origin.to_str().is_ok_and(|origin| self.cors.lists(origin));
        Sharing { cors: self.clone(), origin: only(headers, &header::ORIGIN).filter(listed).cloned() }
    }

    /// The answer to a preflight. What is not allowed is refused without a header that allows anything.
    pub(crate) fn answer(
        self: &Arc<Self>,
        preflight: &Preflight,
        headers: &HeaderMap,
    ) -> Result<Response<Bytes>, Refusal> {
        let refused = |why: String| Refusal::new(Reason::CrossOriginRefused, why);
        let sharing = self.sharing(headers);
        if sharing.origin.is_none() && !self.cors.takes_any_origin() {
            let origin = only(headers, &header::ORIGIN).map(HeaderValue::as_bytes).unwrap_or_default();
            return Err(refused(format!("`allowOrigins` does not list `{}`", String::from_utf8_lossy(origin))));
        }
        let method = &preflight.method;
        let is_simple = matches!(*method, Method::GET | Method::HEAD | Method::POST);
        if !is_simple && !allows(&self.cors.methods, method.as_str()) {
            return Err(refused(format!("`allowMethods` does not list {method}")));
        }
        let announced = announced(headers).map_err(refused)?;
        if let Some(name) = announced.iter().find(|name| !allows(&self.cors.headers, name.as_str())) {
            return Err(refused(format!("`allowHeaders` does not list `{name}`")));
        }
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let told = response.headers_mut();
        sharing.allow_origin(told);
        let methods = match self.cors.methods {
            Names::Any if self.cors.takes_credentials() => HeaderValue::from_str(method.as_str()).ok(),
            _ => self.methods.clone(),
        };
        told.extend(methods.map(|methods| (header::ACCESS_CONTROL_ALLOW_METHODS, methods)));
        let allowed = self.allowed_headers(&announced);
        told.extend(allowed.map(|allowed| (header::ACCESS_CONTROL_ALLOW_HEADERS, allowed)));
        told.insert(header::ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        Ok(response)
    }

    /// The value of `Access-Control-Allow-Headers`. Every name of `announced` is allowed.
    fn allowed_headers(&self, announced: &[HeaderName]) -> Option<HeaderValue> {
        if self.cors.headers != Names::Any {
            return self.headers.clone();
        }
        let mut names: Vec<&str> = announced.iter().map(HeaderName::as_str).collect();
        if !self.cors.takes_credentials() {
            // `*` does not stand for `Authorization` (the Fetch standard, "CORS non-wildcard request-header name").
            names.retain(|name| *name == header::AUTHORIZATION.as_str());
            names.insert(0, "*");
        }
        (!names.is_empty()).then(|| HeaderValue::from_str(&names.join(", ")).ok()).flatten()
    }
}

impl Sharing {
    /// Replaces what an answer tells browsers. `own`: the gateway made the answer.
    pub(crate) fn write(&self, headers: &mut HeaderMap, own: bool) {
        let told: Vec<_> =
            headers.keys().filter(|name| name.as_str().starts_with("access-control-")).cloned().collect();
        for name in told {
            headers.remove(name);
        }
        if !self.allow_origin(headers) {
            return;
        }
        let ArmedCors { cors, exposed, exposed_of_own, .. } = &*self.cors;
        let exposed = match cors.exposed {
            Names::Any if cors.takes_credentials() => {
                let names = headers.keys().map(HeaderName::as_str);
                let names: Vec<_> = names.filter(|name| !name.starts_with("access-control-")).collect();
                HeaderValue::from_str(&names.join(", ")).ok()
            }
            _ if own => exposed_of_own.clone(),
            _ => exposed.clone(),
        };
        headers.extend(exposed.map(|exposed| (header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed)));
    }

    /// Whether the origin is allowed, which is told.
    fn allow_origin(&self, headers: &mut HeaderMap) -> bool {
        if self.cors.cors.takes_any_origin() {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            return true;
        }
        // A cache must not give the answer for one origin to another, nor the answer for none.
        vary_by_origin(headers);
        let Some(origin) = &self.origin else { return false };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if self.cors.cors.takes_credentials() {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        true
    }
}

/// The one value of a header.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

fn allows(names: &Names, name: &str) -> bool {
    match names {
        Names::Any => true,
        Names::Listed(listed) => listed.iter().any(|listed| listed == name),
    }
}

/// The headers that a preflight announces.
fn announced(headers: &HeaderMap) -> Result<Vec<HeaderName>, String> {
    let mut names = Vec::new();
    for value in headers.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        for name in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if name.is_empty() {
                continue;
            }
            let name = HeaderName::from_bytes(name)
                .map_err(|_| "the preflight announces a header whose name is malformed".to_owned())?;
            if names.len() == MAX_ANNOUNCED {
                return Err(format!("the preflight announces more than {MAX_ANNOUNCED} headers"));
            }
            names.push(name);
        }
    }
    Ok(names)
}

fn vary_by_origin(headers: &mut HeaderMap) {
    let is_said = |value: &HeaderValue| {
        let mut names = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        names.any(|name| name == b"*" || name.eq_ignore_ascii_case(b"origin"))
    };
    if !headers.get_all(header::VARY).iter().any(is_said) {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
}
