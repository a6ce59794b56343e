//! What expressions may know about one request: borrowed from it, gone with it.

use http::HeaderMap;
use idm_expr::Scope;
use idm_jose::Claims;
use idm_plan::{ObjectKey, Variable};
use idm_types::Timestamp;
use serde_json::{Map, Value, json};

use crate::{Identity, RequestView};

/// The values of the variables for one request. What is absent has no members.
#[derive(Clone, Copy, Default)]
pub struct Facts<'r> {
    /// The caller, once it is known.
    pub identity: Option<&'r Identity>,
    /// The claims of its token; unless given, those that the identity kept.
    pub claims: Option<&'r Claims>,
    /// The request.
    pub request: Option<RequestView<'r>>,
    /// The policy that decides.
    pub policy: Option<&'r ObjectKey>,
    /// The gateway's name.
    pub gateway: &'r str,
    /// What JOSE steps found, by their names.
    pub jose: Option<&'r Value>,
    /// The time of the request.
    pub now: Option<Timestamp>,
}

impl Facts<'_> {
    fn claims(&self) -> Option<&Claims> {
        self.claims.or_else(|| self.identity?.claims.as_ref())
    }
}

impl Scope for Facts<'_> {
    fn variable(&self, variable: Variable) -> Option<Value> {
        match variable {
            Variable::Token => self.claims().map(|claims| Value::Object(claims.members().clone())),
            Variable::Identity => self.identity.map(identity),
            Variable::Credential => credential(self.identity?),
            Variable::Request => self.request.map(request),
            Variable::Source => self.request.map(|request| json!({"address": request.address.to_string()})),
            Variable::Env => self
                .policy
                .map(|policy| json!({"namespace": policy.namespace, "policy": policy.name, "gateway": self.gateway})),
            Variable::Jose => self.jose.cloned(),
            Variable::Now => self.now.map(|now| now.seconds().into()),
        }
    }

    fn at(&self, variable: Variable, path: &[String]) -> Option<Value> {
        match (variable, path) {
            // The usual ones, without building the whole variable first.
            (Variable::Token, path) => self.claims()?.at(path).cloned(),
            (Variable::Request, [first, name]) if first == "headers" => {
                header(self.request?.headers, &name.to_ascii_lowercase())
            }
            _ => path
                .iter()
                .try_fold(self.variable(variable)?, |mut value, member| value.get_mut(member).map(Value::take)),
        }
    }
}

/// Only what is there: an empty name or list is absent.
fn present(members: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    };
    members
        .into_iter()
        .filter(|(_, value)| !is_empty(value))
        .map(|(name, value)| (name.to_owned(), value))
        .collect::<Map<_, _>>()
        .into()
}

fn identity(identity: &Identity) -> Value {
    present([
        ("id", identity.id.as_str().into()),
        ("username", identity.username.as_str().into()),
        ("roles", identity.roles.as_slice().into()),
        ("groups", identity.groups.as_slice().into()),
        ("scopes", identity.scopes.as_slice().into()),
        ("issuer", identity.issuer.as_deref().into()),
        ("method", identity.method.as_str().into()),
        ("attributes", attributes(identity)),
    ])
}

fn credential(identity: &Identity) -> Option<Value> {
    let name = identity.credential.as_deref()?;
    let owner = identity.owner.as_deref();
    Some(present([
        ("name", name.into()),
        ("owner", owner.into()),
        ("roles", identity.roles.as_slice().into()),
        ("attributes", attributes(identity)),
    ]))
}

fn attributes(identity: &Identity) -> Value {
    identity
        .attributes
        .iter()
        .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
        .collect::<Map<_, _>>()
        .into()
}

fn request(request: RequestView<'_>) -> Value {
    let headers: Map<String, Value> = request
        .headers
        .keys()
        .filter_map(|name| Some((name.as_str().to_owned(), header(request.headers, name.as_str())?)))
        .collect();
    // Of a parameter that is given twice nobody can say which one counts, so it is not there.
    let mut parameters = Map::new();
    let mut twice = Vec::new();
    for (name, value) in form_urlencoded::parse(request.query.unwrap_or_default().as_bytes()) {
        if parameters.insert(name.to_string(), value.into_owned().into()).is_some() {
            twice.push(name.into_owned());
        }
    }
    twice.iter().for_each(|name| drop(parameters.remove(name)));
    json!({
        "method": request.method, "host": request.host, "path": request.path, "query": request.query.unwrap_or_default(),
        "headers": headers, "parameters": parameters,
    })
}

/// The values of a header, joined as RFC 9110 §5.3 allows.
fn header(headers: &HeaderMap, name: &str) -> Option<Value> {
    let mut values = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).peekable();
    values.peek()?;
    Some(values.collect::<Vec<_>>().join(", ").into())
}
