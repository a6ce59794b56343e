//! Requests in which values stand at leaves: each is encoded for its place, and none is pasted into text.

use std::fmt::Write as _;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderName, HeaderValue, Method, Request};
use http_body_util::Full;
use idm_plan::{DirectoryServer, Protection, RestBody, RestJson, RestRequest, RestValue, Secrets};
use idm_trust::{Password, secret_text};
use idm_types::Redacted;
use serde_json::{Map, Value};
use url::{Host, Url};

use super::encode::{basic, encoded, header, segment};

/// The person who is asked about.
#[derive(Clone, Copy)]
pub(super) enum Subject<'v> {
    /// A login.
    Login { username: &'v str, password: &'v Password },
    /// A person who is known already.
    Known { username: &'v str, id: &'v str },
}

/// The subject of a request, which decides which values it may hold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Verify,
    LookUp,
}

/// Why a request is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotSent {
    /// The user name that no user of the service can have.
    Username(&'static str),
    /// The password that no user of the service can have.
    Password(&'static str),
    /// The request asks for a value that is not known.
    NoValue,
}

/// A request that is ready to be sent.
pub(super) struct Prepared {
    pub(super) request: Request<Full<Bytes>>,
    /// Method and URL for logs: without the values of the query, and without secrets.
    pub(super) shown: String,
}

/// A request but for the values of one login.
pub(super) struct Template {
    pub(super) server: DirectoryServer,
    method: Method,
    /// The scheme, for logs.
    scheme: String,
    /// Host, and port where it is not the scheme's own.
    authority: HeaderValue,
    /// The part of the path that does not change, without a slash at its end where segments follow.
    path: String,
    segments: Vec<Leaf>,
    query: Vec<(String, Leaf)>,
    headers: Vec<(HeaderName, Leaf)>,
    body: Body,
}

enum Leaf {
    Text(String),
    Username,
    Password,
    Basic,
    Id,
    Secret(Redacted<String>),
}

enum Body {
    Nothing,
    Json(Json),
    Form(Vec<(String, Leaf)>),
}

enum Json {
    Text(Leaf),
    Constant(Value),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// The places of a request in which a value may stand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place<'p> {
    Url,
    Header(&'p HeaderName),
    Body,
}

/// Headers that frame the message, concern the connection or are made of the URL.
const OWN_HEADERS: [&str; 9] =
    ["connection", "content-length", "expect", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];

impl Template {
    /// Arms a request. The error says what cannot be sent, and shows no secret.
    pub(super) fn arm(plan: &RestRequest, purpose: Purpose, secrets: &Secrets) -> Result<Self, String> {
        let RestRequest { method, url, segments, query, headers, body } = plan;
        let arming = Arming { purpose, secrets };
        let method = match method.as_str() {
            "GET" => Method::GET,
            "POST" => Method::POST,
            "PUT" => Method::PUT,
            other => return Err(format!("the method `{other}` is none of GET, POST and PUT")),
        };
        if method == Method::GET && *body != RestBody::Nothing {
            return Err("a GET request has no body".into());
        }
        let (url, server) = read_url(url)?;
        let mut path = url.path().to_owned();
        if !segments.is_empty() {
            path.truncate(path.trim_end_matches('/').len());
        }
        Ok(Self {
            server,
            method,
            scheme: url.scheme().to_owned(),
            authority: HeaderValue::from_str(url.authority()).map_err(|_| "the URL's host cannot be sent")?,
            path,
            segments: segments.iter().map(|segment| arming.segment(segment)).collect::<Result<_, _>>()?,
            query: arming.pairs(query, Place::Url)?,
            headers: arming.headers(headers)?,
            body: match body {
                RestBody::Nothing => Body::Nothing,
                RestBody::Json(json) => Body::Json(arming.json(json)?),
                RestBody::Form(pairs) => Body::Form(arming.pairs(pairs, Place::Body)?),
            },
        })
    }

    /// The request about a person.
    pub(super) fn prepare(&self, subject: Subject<'_>) -> Result<Prepared, NotSent> {
        // No directory has such a name, and each place would carry it in another way.
        let (Subject::Login { username, .. } | Subject::Known { username, .. }) = subject;
        if username.chars().any(char::is_control) {
            return Err(NotSent::Username("it holds a control character"));
        }
        let (mut path, mut shown_path) = (self.path.clone(), self.path.clone());
        for leaf in &self.segments {
            let segment = segment(leaf.text(subject)?.reveal())?;
            let shown = if matches!(leaf, Leaf::Secret(_)) { "…" } else { &segment };
            let _ = (write!(path, "/{segment}"), write!(shown_path, "/{shown}"));
        }
        let (mut query, mut shown_query) = (String::new(), String::new());
        for (name, leaf) in &self.query {
            let mark = if query.is_empty() { '?' } else { '&' };
            let (name, value) = (encoded(name), encoded(leaf.text(subject)?.reveal()));
            let _ = (write!(query, "{mark}{name}={value}"), write!(shown_query, "{mark}{name}=…"));
        }
        let (content_type, body) = self.body.bytes(subject)?;
        let mut request =
            Request::builder().method(self.method.clone()).uri(format!("{path}{query}")).header(HOST, &self.authority);
        if let Some(headers) = request.headers_mut() {
            headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
            headers.insert(USER_AGENT, HeaderValue::from_static("idm-gateway"));
            if let Some(content_type) = content_type {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
            }
            for (name, leaf) in &self.headers {
                headers.insert(name.clone(), leaf.header(subject)?);
            }
        }
        let too_long = |_| NotSent::Username("it is too long for an address");
        let request = request.body(Full::new(body)).map_err(too_long)?;
        let Self { method, scheme, authority, .. } = self;
        let authority = authority.to_str().unwrap_or_default();
        Ok(Prepared { request, shown: format!("{method} {scheme}://{authority}{shown_path}{shown_query}") })
    }
}

/// A URL of scheme, host, port and path alone, and the server of it.
fn read_url(text: &str) -> Result<(Url, DirectoryServer), String> {
    let url = Url::parse(text).map_err(|error| format!("`{text}` is not a URL: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err("the URL has a user, a query or a fragment: leave them out, and write parameters in `query`".into());
    }
    let protection = match url.scheme() {
        "https" => Protection::Tls,
        "http" => Protection::Loopback,
        other => return Err(format!("the scheme `{other}` of the URL is neither https nor http")),
    };
    let host = match url.host() {
        Some(Host::Domain(name)) => name.to_owned(),
        Some(Host::Ipv4(ip)) => ip.to_string(),
        Some(Host::Ipv6(ip)) => ip.to_string(),
        None => return Err(format!("`{text}` names no host")),
    };
    let port = url.port_or_known_default().ok_or_else(|| format!("`{text}` names no port"))?;
    Ok((url, DirectoryServer { host, port, protection }))
}

struct Arming<'a> {
    purpose: Purpose,
    secrets: &'a Secrets,
}

impl Arming<'_> {
    fn leaf(&self, value: &RestValue, place: Place<'_>) -> Result<Leaf, String> {
        let login_alone = |leaf: Leaf| match self.purpose {
            Purpose::Verify => Ok(leaf),
            Purpose::LookUp => Err("no password is known when a person is looked up".to_owned()),
        };
        match value {
            RestValue::Text(text) => Ok(Leaf::Text(text.clone())),
            RestValue::Username => Ok(Leaf::Username),
            // URLs are written to logs everywhere.
            RestValue::Password if place == Place::Url => Err("a password has no place in a URL".into()),
            RestValue::Password => login_alone(Leaf::Password),
            RestValue::Basic if place == Place::Header(&AUTHORIZATION) => login_alone(Leaf::Basic),
            RestValue::Basic => Err("`Basic` stands in the header `authorization` alone".into()),
            RestValue::Id if self.purpose == Purpose::LookUp => Ok(Leaf::Id),
            RestValue::Id => Err("no id is known before the password is verified".into()),
            RestValue::Secret(before, handle) => {
                let secret = secret_text(handle, self.secrets)?;
                Ok(Leaf::Secret(Redacted::new([before, secret.reveal().as_str()].concat())))
            }
        }
    }

    fn segment(&self, value: &RestValue) -> Result<Leaf, String> {
        let leaf = self.leaf(value, Place::Url)?;
        match &leaf {
            Leaf::Text(text) if segment(text).is_err() => Err(format!("`{text}` cannot be a segment of a path")),
            Leaf::Secret(secret) if segment(secret.reveal()).is_err() => {
                Err("a secret cannot be the segment of a path that it is used as".into())
            }
            _ => Ok(leaf),
        }
    }

    fn pairs(&self, pairs: &[(String, RestValue)], place: Place<'_>) -> Result<Vec<(String, Leaf)>, String> {
        pairs.iter().map(|(name, value)| Ok((name.clone(), self.leaf(value, place)?))).collect()
    }

    fn headers(&self, headers: &[(String, RestValue)]) -> Result<Vec<(HeaderName, Leaf)>, String> {
        let mut armed: Vec<(HeaderName, Leaf)> = Vec::with_capacity(headers.len());
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is not a header"))?;
            if OWN_HEADERS.contains(&name.as_str()) {
                return Err(format!("the header `{name}` is made by the gateway"));
            }
            if armed.iter().any(|(other, _)| *other == name) {
                return Err(format!("the header `{name}` is written twice"));
            }
            let leaf = self.leaf(value, Place::Header(&name))?;
            let fixed = match &leaf {
                Leaf::Text(text) => Some(text),
                Leaf::Secret(secret) => Some(secret.reveal()),
                Leaf::Username | Leaf::Password | Leaf::Basic | Leaf::Id => None,
            };
            if fixed.is_some_and(|text| header(text).is_none()) {
                return Err(format!("the value of the header `{name}` cannot be sent"));
            }
            armed.push((name, leaf));
        }
        Ok(armed)
    }

    fn json(&self, json: &RestJson) -> Result<Json, String> {
        Ok(match json {
            RestJson::Text(value) => Json::Text(self.leaf(value, Place::Body)?),
            RestJson::Constant(value) => Json::Constant(value.clone()),
            RestJson::List(items) => Json::List(items.iter().map(|item| self.json(item)).collect::<Result<_, _>>()?),
            RestJson::Object(members) => {
                let members = members.iter().map(|(name, member)| Ok((name.clone(), self.json(member)?)));
                Json::Object(members.collect::<Result<_, String>>()?)
            }
        })
    }
}

impl Leaf {
    fn text(&self, subject: Subject<'_>) -> Result<Redacted<String>, NotSent> {
        let text = match (self, subject) {
            (Leaf::Text(text), _) => text.clone(),
            (Leaf::Secret(secret), _) => return Ok(secret.clone()),
            (Leaf::Username, Subject::Login { username, .. } | Subject::Known { username, .. }) => username.to_owned(),
            (Leaf::Password, Subject::Login { password, .. }) => password.reveal().to_owned(),
            (Leaf::Basic, Subject::Login { username, password }) => return basic(username, password),
            (Leaf::Id, Subject::Known { id, .. }) => id.to_owned(),
            (Leaf::Password | Leaf::Basic, Subject::Known { .. }) | (Leaf::Id, Subject::Login { .. }) => {
                return Err(NotSent::NoValue);
            }
        };
        Ok(Redacted::new(text))
    }

    fn header(&self, subject: Subject<'_>) -> Result<HeaderValue, NotSent> {
        let mut value = header(self.text(subject)?.reveal()).ok_or(match self {
            Leaf::Password => NotSent::Password("a header cannot hold it as it is"),
            _ => NotSent::Username("a header cannot hold it as it is"),
        })?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl Body {
    /// The media type and the octets.
    fn bytes(&self, subject: Subject<'_>) -> Result<(Option<&'static str>, Bytes), NotSent> {
        Ok(match self {
            Body::Nothing => (None, Bytes::new()),
            Body::Json(json) => (Some("application/json"), json.value(subject)?.to_string().into()),
            Body::Form(pairs) => {
                let mut form = String::new();
                for (name, leaf) in pairs {
                    let mark = if form.is_empty() { "" } else { "&" };
                    let _ = write!(form, "{mark}{}={}", encoded(name), encoded(leaf.text(subject)?.reveal()));
                }
                (Some("application/x-www-form-urlencoded"), form.into())
            }
        })
    }
}

impl Json {
    fn value(&self, subject: Subject<'_>) -> Result<Value, NotSent> {
        Ok(match self {
            Json::Text(leaf) => leaf.text(subject)?.reveal().as_str().into(),
            Json::Constant(value) => value.clone(),
            Json::List(items) => items.iter().map(|item| item.value(subject)).collect::<Result<_, _>>()?,
            Json::Object(members) => {
                let members = members.iter().map(|(name, member)| Ok((name.clone(), member.value(subject)?)));
                Value::Object(members.collect::<Result<Map<_, _>, NotSent>>()?)
            }
        })
    }
}

#[cfg(test)]
mod tests;
