//! Variables of expressions about one request: they borrow from it and are dropped with it.

use std::borrow::Cow;
use std::cell::OnceCell;

use http::HeaderMap;
use idm_expr::{Budget, Known, Scope};
use idm_jose::Claims;
use idm_plan::{ObjectKey, Variable};
use idm_types::Timestamp;
use serde_json::{Map, Value, json};

use crate::{Identity, RequestView};

/// The values of the variables for one request. An absent value has no members.
#[derive(Clone, Copy, Default)]
pub struct Facts<'r> {
    /// The caller, once it is known.
    pub identity: Option<&'r Identity>,
    /// The claims of its token; if not given, those that the identity kept.
    pub claims: Option<&'r Claims>,
    /// The policy that decides.
    pub policy: Option<&'r ObjectKey>,
    /// The gateway's name.
    pub gateway: &'r str,
    /// The results of JOSE steps, by their names.
    pub jose: Option<&'r Value>,
    /// The request to a language model.
    pub llm: Option<&'r Value>,
    /// The time of the request.
    pub now: Option<Timestamp>,
    /// The request and the state that its expressions share; without it, there is no request, and each expression has a
    /// budget of its own.
    pub shared: Option<&'r SharedFacts<'r>>,
}

/// A request and the state that all its expressions share: the budget, and the values that are costly to compute, which
/// are computed once and only if an expression asks for them. Borrows its request, so that it cannot be used for
/// another request.
#[derive(Default)]
pub struct SharedFacts<'r> {
    request: Option<RequestView<'r>>,
    headers: OnceCell<Value>,
    parameters: OnceCell<Value>,
    budget: Budget,
}

impl<'r> SharedFacts<'r> {
    /// For the expressions of this request; `default` is for expressions without a request.
    pub fn of(request: RequestView<'r>) -> Self {
        Self { request: Some(request), ..Self::default() }
    }
}

/// Units for a member of an object that is made: its place, its name and its value.
const MEMBER: usize = 25;

impl Facts<'_> {
    fn claims(&self) -> Option<&Claims> {
        self.claims.or_else(|| self.identity?.claims.as_ref())
    }

    /// The request, where there is one.
    pub fn request(&self) -> Option<RequestView<'_>> {
        self.shared?.request
    }

    fn of_request(&self, name: &str) -> Option<Known<'_>> {
        let shared = self.shared?;
        let request = shared.request?;
        let value = match name {
            "headers" => shared.headers.get_or_init(|| headers(request.headers)),
            "parameters" => shared.parameters.get_or_init(|| parameters(request.query.unwrap_or_default())),
            _ => return None,
        };
        Some(Known::Value(Cow::Borrowed(value)))
    }

    /// The units for the headers, and those for the parameters: as an object, whether it is made or copied.
    fn headers_cost(&self) -> usize {
        let headers = self.request().map(|request| request.headers);
        headers.into_iter().flatten().map(|(name, value)| member_cost(name.as_str().len() + value.len())).sum()
    }

    fn parameters_cost(&self) -> usize {
        let query = self.request().and_then(|request| request.query).unwrap_or_default();
        query.split('&').map(|parameter| member_cost(parameter.len())).sum()
    }
}

fn member_cost(bytes: usize) -> usize {
    // Each byte is decoded and then copied.
    MEMBER + bytes / 4
}

fn list_cost(items: &[String]) -> usize {
    items.iter().map(|item| item.len() / 8 + 5).sum()
}

fn identity_cost(identity: &Identity) -> usize {
    let Identity { roles, groups, scopes, attributes, .. } = identity;
    let attributes: usize = attributes.iter().map(|(name, value)| member_cost(name.len() + value.len())).sum();
    8 * MEMBER + [roles, groups, scopes].map(|items| list_cost(items)).iter().sum::<usize>() + attributes
}

impl Scope for Facts<'_> {
    fn variable(&self, variable: Variable) -> Option<Known<'_>> {
        Some(match variable {
            Variable::Token => Known::Members(self.claims()?.members()),
            Variable::Identity => identity(self.identity?).into(),
            Variable::Credential => credential(self.identity?)?.into(),
            Variable::Request => {
                self.request()?;
                let members = ["method", "host", "path", "query", "headers", "parameters"];
                let values = members.iter().filter_map(|name| Some((*name, self.member(variable, name)?.into_value())));
                Value::Object(values.map(|(name, value)| (name.to_owned(), value)).collect()).into()
            }
            Variable::Source => json!({"address": self.request()?.address.to_string()}).into(),
            Variable::Env => {
                let policy = self.policy?;
                json!({"namespace": policy.namespace, "policy": policy.name, "gateway": self.gateway}).into()
            }
            Variable::Jose => Known::Value(Cow::Borrowed(self.jose?)),
            Variable::Now => Value::from(self.now?.seconds()).into(),
            Variable::Llm => Known::Value(Cow::Borrowed(self.llm?)),
        })
    }

    fn member(&self, variable: Variable, name: &str) -> Option<Known<'_>> {
        let text = |text| Some(Known::Text(text));
        let list = |items: &[String]| Some(Value::from(items).into()).filter(|_| !items.is_empty());
        match (variable, name) {
            (Variable::Token, name) => {
                self.claims()?.members().get(name).map(|value| Known::Value(Cow::Borrowed(value)))
            }
            (Variable::Llm, name) => self.llm?.get(name).map(|value| Known::Value(Cow::Borrowed(value))),
            (Variable::Jose, name) => self.jose?.get(name).map(|value| Known::Value(Cow::Borrowed(value))),
            (Variable::Identity, "username") => {
                Some(&*self.identity?.username).filter(|name| !name.is_empty()).and_then(text)
            }
            (Variable::Identity, "roles") => list(&self.identity?.roles),
            (Variable::Identity, "groups") => list(&self.identity?.groups),
            (Variable::Identity, "scopes") => list(&self.identity?.scopes),
            (Variable::Request, "method") => text(self.request()?.method),
            (Variable::Request, "host") => text(self.request()?.host),
            (Variable::Request, "path") => text(self.request()?.path),
            (Variable::Request, "query") => text(self.request()?.query.unwrap_or_default()),
            (Variable::Request, name) => self.of_request(name),
            (variable, name) => match self.variable(variable)?.into_value() {
                Value::Object(mut members) => members.remove(name).map(Known::from),
                _ => None,
            },
        }
    }

    fn at(&self, variable: Variable, path: &[String]) -> Option<Known<'_>> {
        match (variable, path) {
            // The common accesses, which compute only the value that is asked for.
            (Variable::Token, path) => self.claims()?.at(path).map(|value| Known::Value(Cow::Borrowed(value))),
            (Variable::Request, [first, name]) if first == "headers" => {
                header(self.request()?.headers, &name.to_ascii_lowercase()).map(Known::from)
            }
            (variable, [first, rest @ ..]) => self.member(variable, first)?.below(rest),
            (variable, []) => self.variable(variable),
        }
    }

    fn cost(&self, variable: Variable, path: &[String]) -> usize {
        // They are computed once; later reads find them there.
        let shared = self.shared;
        let headers = || match shared.and_then(|shared| shared.headers.get()) {
            Some(_) => 0,
            None => self.headers_cost(),
        };
        let parameters = || match shared.and_then(|shared| shared.parameters.get()) {
            Some(_) => 0,
            None => self.parameters_cost(),
        };
        let items =
            |items: fn(&Identity) -> &Vec<String>| self.identity.map_or(0, |identity| list_cost(items(identity)));
        let path = [path.first(), path.get(1)].map(|name| name.map(String::as_str));
        match (variable, path) {
            (Variable::Token | Variable::Jose | Variable::Llm | Variable::Now, _) => 0,
            (Variable::Request, [Some("headers"), Some(name)]) => {
                let values = self.request().map(|request| request.headers.get_all(name));
                values.into_iter().flatten().map(|value| value.len() / 4 + 1).sum()
            }
            (Variable::Request, [Some("headers"), None]) => headers(),
            (Variable::Request, [Some("parameters"), _]) => parameters(),
            (Variable::Request, [Some(_), _]) => 0,
            // They are computed once, and copied into the whole.
            (Variable::Request, [None, _]) => {
                headers() + parameters() + self.headers_cost() + self.parameters_cost() + 6 * MEMBER
            }
            (Variable::Identity, [Some("username"), _]) => 0,
            (Variable::Identity, [Some("roles"), _]) => items(|identity| &identity.roles),
            (Variable::Identity, [Some("groups"), _]) => items(|identity| &identity.groups),
            (Variable::Identity, [Some("scopes"), _]) => items(|identity| &identity.scopes),
            (Variable::Identity | Variable::Credential, _) => self.identity.map_or(0, identity_cost),
            (Variable::Source | Variable::Env, _) => 3 * MEMBER,
        }
    }

    fn budget(&self) -> Option<&Budget> {
        self.shared.map(|shared| &shared.budget)
    }
}

/// Only present values: an empty name or list counts as absent.
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

/// A parameter that is given twice is ambiguous, so it counts as absent.
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
