//! What expressions may know about one request: borrowed from it, gone with it.

use std::borrow::Cow;
use std::cell::OnceCell;

use http::HeaderMap;
use idm_expr::{Budget, Known, Scope};
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
    /// What its expressions share; without it, each makes what it asks for and has a budget of its own.
    pub shared: Option<&'r SharedFacts>,
}

/// What all expressions of one request share: the values that are costly to make, made once and only where one asks
/// for them, and the budget. Never to be handed on to another request.
#[derive(Default)]
pub struct SharedFacts {
    headers: OnceCell<Value>,
    parameters: OnceCell<Value>,
    budget: Budget,
}

impl Facts<'_> {
    fn claims(&self) -> Option<&Claims> {
        self.claims.or_else(|| self.identity?.claims.as_ref())
    }

    fn of_request(&self, request: RequestView<'_>, name: &str) -> Option<Known<'_>> {
        let make = |request: RequestView<'_>| match name {
            "headers" => headers(request.headers),
            _ => parameters(request.query.unwrap_or_default()),
        };
        match (name, self.shared) {
            ("headers", Some(shared)) => {
                Some(Known::Value(Cow::Borrowed(shared.headers.get_or_init(|| make(request)))))
            }
            ("parameters", Some(shared)) => {
                Some(Known::Value(Cow::Borrowed(shared.parameters.get_or_init(|| make(request)))))
            }
            ("headers" | "parameters", None) => Some(make(request).into()),
            _ => None,
        }
    }
}

impl Scope for Facts<'_> {
    fn variable(&self, variable: Variable) -> Option<Known<'_>> {
        Some(match variable {
            Variable::Token => Known::Members(self.claims()?.members()),
            Variable::Identity => identity(self.identity?).into(),
            Variable::Credential => credential(self.identity?)?.into(),
            Variable::Request => {
                self.request?;
                let members = ["method", "host", "path", "query", "headers", "parameters"];
                let values = members.iter().filter_map(|name| Some((*name, self.member(variable, name)?.into_value())));
                Value::Object(values.map(|(name, value)| (name.to_owned(), value)).collect()).into()
            }
            Variable::Source => json!({"address": self.request?.address.to_string()}).into(),
            Variable::Env => {
                let policy = self.policy?;
                json!({"namespace": policy.namespace, "policy": policy.name, "gateway": self.gateway}).into()
            }
            Variable::Jose => Known::Value(Cow::Borrowed(self.jose?)),
            Variable::Now => Value::from(self.now?.seconds()).into(),
        })
    }

    fn member(&self, variable: Variable, name: &str) -> Option<Known<'_>> {
        let text = |text| Some(Known::Text(text));
        let list = |items: &[String]| Some(Value::from(items).into()).filter(|_| !items.is_empty());
        match (variable, name) {
            (Variable::Token, name) => {
                self.claims()?.members().get(name).map(|value| Known::Value(Cow::Borrowed(value)))
            }
            (Variable::Jose, name) => self.jose?.get(name).map(|value| Known::Value(Cow::Borrowed(value))),
            (Variable::Identity, "username") => {
                Some(&*self.identity?.username).filter(|name| !name.is_empty()).and_then(text)
            }
            (Variable::Identity, "roles") => list(&self.identity?.roles),
            (Variable::Identity, "groups") => list(&self.identity?.groups),
            (Variable::Identity, "scopes") => list(&self.identity?.scopes),
            (Variable::Request, "method") => text(self.request?.method),
            (Variable::Request, "host") => text(self.request?.host),
            (Variable::Request, "path") => text(self.request?.path),
            (Variable::Request, "query") => text(self.request?.query.unwrap_or_default()),
            (Variable::Request, name) => self.of_request(self.request?, name),
            (variable, name) => match self.variable(variable)?.into_value() {
                Value::Object(mut members) => members.remove(name).map(Known::from),
                _ => None,
            },
        }
    }

    fn at(&self, variable: Variable, path: &[String]) -> Option<Value> {
        match (variable, path) {
            // The usual ones, without making more than what is asked for.
            (Variable::Token, path) => self.claims()?.at(path).cloned(),
            (Variable::Request, [first, name]) if first == "headers" => {
                header(self.request?.headers, &name.to_ascii_lowercase())
            }
            (variable, [first, rest @ ..]) => match self.member(variable, first)? {
                Known::Value(Cow::Borrowed(value)) => {
                    rest.iter().try_fold(value, |value, name| value.get(name)).cloned()
                }
                other => {
                    rest.iter().try_fold(other.into_value(), |mut value, member| value.get_mut(member).map(Value::take))
                }
            },
            (variable, []) => self.variable(variable).map(Known::into_value),
        }
    }

    fn budget(&self) -> Option<&Budget> {
        self.shared.map(|shared| &shared.budget)
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

fn headers(headers: &HeaderMap) -> Value {
    headers
        .keys()
        .filter_map(|name| Some((name.as_str().to_owned(), header(headers, name.as_str())?)))
        .collect::<Map<_, _>>()
        .into()
}

/// Of a parameter that is given twice nobody can say which one counts, so it is not there.
fn parameters(query: &str) -> Value {
    let mut parameters = Map::new();
    let mut twice = Vec::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if parameters.insert(name.to_string(), value.into_owned().into()).is_some() {
            twice.push(name.into_owned());
        }
    }
    twice.iter().for_each(|name| drop(parameters.remove(name)));
    parameters.into()
}

/// The values of a header, joined as RFC 9110 §5.3 allows.
fn header(headers: &HeaderMap, name: &str) -> Option<Value> {
    let mut values = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).peekable();
    values.peek()?;
    Some(values.collect::<Vec<_>>().join(", ").into())
}
