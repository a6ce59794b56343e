//! A substitute for an API server with the parts that the Manager uses: it knows people by their tokens, answers
//! reviews of their rights, and stores objects with versions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use kube::Client;
use serde_json::{Value, json};

/// The namespace of the objects.
pub(super) const NAMESPACE: &str = "shop";

/// A right: `verb resource`, with `*` for every verb or every resource.
type Rights = BTreeSet<String>;

#[derive(Default)]
struct State {
    /// People by their tokens, with their rights.
    people: BTreeMap<String, (String, Rights)>,
    /// Objects by their address.
    objects: BTreeMap<String, Value>,
    version: u64,
    /// The status is written so often between a read and the write behind it.
    restless: u32,
    /// The writes: method, address with its query, body.
    written: Vec<(String, String, Value)>,
    /// Reviews of rights that were answered.
    reviews: usize,
}

/// Objects as an API server stores them.
#[derive(Default)]
pub(super) struct ApiServer(Mutex<State>);

fn status(code: u16, reason: &str, message: &str) -> (u16, Value) {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason,
        "message": message, "code": code});
    (code, status)
}

/// Resource, with its subresource, and name of an address.
fn parts(path: &str) -> (&str, &str, bool) {
    let after = path.split("/namespaces/").nth(1).and_then(|rest| rest.split_once('/')).map(|(_, rest)| rest);
    let in_namespace = after.is_some();
    let rest = after.unwrap_or_else(|| path.rsplit('/').next().unwrap_or_default());
    let (resource, name) = rest.split_once('/').unwrap_or((rest, ""));
    (resource, name, in_namespace)
}

fn merge(target: &mut Value, patch: &Value) {
    let Some(members) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in members {
        if value.is_null() {
            target.as_object_mut().expect("an object").remove(name);
        } else {
            merge(&mut target[name], value);
        }
    }
}

impl ApiServer {
    pub(super) fn person(&self, token: &str, name: &str, rights: &[&str]) {
        let rights = rights.iter().map(|right| (*right).to_owned()).collect();
        self.lock().people.insert(token.to_owned(), (name.to_owned(), rights));
    }

    /// The token is no longer taken.
    pub(super) fn expire(&self, token: &str) {
        self.lock().people.remove(token);
    }

    /// Stores an object, as `kubectl apply` does.
    pub(super) fn store(&self, root: &str, resource: &str, mut object: Value) {
        let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
        object["metadata"]["namespace"] = NAMESPACE.into();
        object["metadata"]["uid"] = format!("uid-{name}").into();
        object["metadata"]["generation"] = 1.into();
        let mut state = self.lock();
        state.version += 1;
        object["metadata"]["resourceVersion"] = state.version.to_string().into();
        state.objects.insert(format!("{root}/namespaces/{NAMESPACE}/{resource}/{name}"), object);
    }

    /// Stores an object of the cluster under its address.
    pub(super) fn store_of_cluster(&self, address: &str, object: Value) {
        self.lock().objects.insert(address.to_owned(), object);
    }

    /// An object of ours by its resource and name.
    pub(super) fn ours(&self, resource: &str, name: &str) -> Option<Value> {
        let path = format!("/apis/identity-manager.io/v1alpha1/namespaces/{NAMESPACE}/{resource}/{name}");
        self.lock().objects.get(&path).cloned()
    }

    pub(super) fn be_restless(&self, times: u32) {
        self.lock().restless = times;
    }

    pub(super) fn written(&self) -> Vec<(String, String, Value)> {
        std::mem::take(&mut self.lock().written)
    }

    pub(super) fn reviews(&self) -> usize {
        self.lock().reviews
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("no test panics in it")
    }

    /// Its client, without an identity.
    pub(super) fn client(self: &Arc<Self>) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let server = server.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                let token = head.headers.get("authorization").and_then(|value| value.to_str().ok());
                let token = token.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default().to_owned();
                let body = serde_json::from_slice(&body).unwrap_or_default();
                let address = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
                let (code, answer) = server.lock().answer(&head.method, &address, &token, body);
                let mut response = Response::new(Full::new(Bytes::from(answer.to_string())));
                *response.status_mut() = StatusCode::from_u16(code).expect("a status");
                if address.contains("fieldValidation=Strict") {
                    response.headers_mut().insert("warning", "299 - \"this is old\"".parse().expect("a value"));
                }
                Ok::<_, kube::Error>(response)
            }
        });
        Client::new(service, "default")
    }
}

impl State {
    fn answer(&mut self, method: &Method, address: &str, token: &str, body: Value) -> (u16, Value) {
        let Some((name, rights)) = self.people.get(token).cloned() else {
            return status(401, "Unauthorized", "Unauthorized");
        };
        let path = address.split('?').next().unwrap_or_default();
        if path.ends_with("/selfsubjectreviews") {
            let user = json!({"username": name, "uid": "1", "groups": ["system:authenticated"]});
            return (201, json!({"status": {"userInfo": user}}));
        }
        if path.ends_with("/selfsubjectaccessreviews") {
            self.reviews += 1;
            let asked = &body["spec"]["resourceAttributes"];
            let text = |name: &str| asked[name].as_str().unwrap_or_default();
            let resource = match text("subresource") {
                "" => text("resource").to_owned(),
                sub => format!("{}/{sub}", text("resource")),
            };
            let team = text("name");
            let resource = if team.is_empty() { resource } else { format!("{resource}:{team}") };
            let allowed = has(&rights, text("verb"), &resource, text("namespace") == NAMESPACE);
            return (201, json!({"status": {"allowed": allowed}}));
        }
        let (resource, object, in_namespace) = parts(path);
        let verb = match (method.as_str(), object) {
            ("GET", "") => "list",
            ("GET", _) => "get",
            ("POST", _) => "create",
            ("PATCH", _) => "patch",
            _ => "delete",
        };
        if !has(&rights, verb, resource, in_namespace) {
            let told = format!("{resource} is forbidden: User \"{name}\" cannot {verb} resource \"{resource}\"");
            return status(403, "Forbidden", &told);
        }
        if method != Method::GET {
            self.written.push((method.to_string(), address.to_owned(), body.clone()));
        }
        match verb {
            "list" => self.listed(path, address),
            "get" => self.objects.get(path).map_or_else(|| gone(path), |object| (200, object.clone())),
            "create" => self.created(path, address, body),
            "patch" => self.patched(path, address, &body),
            _ => self.deleted(path, &body),
        }
    }

    /// Pages of the size that is asked for, without the kinds of the items.
    fn listed(&self, path: &str, address: &str) -> (u16, Value) {
        let parameter = |name: &str| address.split(['?', '&']).find_map(|pair| pair.strip_prefix(&format!("{name}=")));
        let from: usize = parameter("continue").and_then(|from| from.parse().ok()).unwrap_or(0);
        let limit: usize = parameter("limit").and_then(|limit| limit.parse().ok()).unwrap_or(500);
        let plain = |object: &Value| {
            let mut object = object.clone();
            object.as_object_mut().expect("an object").retain(|name, _| name != "kind" && name != "apiVersion");
            object
        };
        let within = format!("{path}/");
        let is_in = |at: &str| at.strip_prefix(&within).is_some_and(|name| !name.contains('/'));
        let all: Vec<Value> =
            self.objects.iter().filter(|(at, _)| is_in(at)).map(|(_, object)| plain(object)).collect();
        let items: Vec<_> = all.iter().skip(from).take(limit).cloned().collect();
        let next = if from + items.len() < all.len() { (from + limit).to_string() } else { String::new() };
        (200, json!({"metadata": {"continue": next}, "items": items}))
    }

    fn created(&mut self, path: &str, address: &str, mut object: Value) -> (u16, Value) {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let at = format!("{path}/{name}");
        if self.objects.contains_key(&at) {
            return status(409, "AlreadyExists", &format!("{name} already exists"));
        }
        object["metadata"]["uid"] = format!("uid-{name}").into();
        self.keep(at, address, object)
    }

    fn patched(&mut self, path: &str, address: &str, patch: &Value) -> (u16, Value) {
        if self.restless > 0 {
            self.restless -= 1;
            self.version += 1;
            let (version, restless) = (self.version.to_string(), self.restless);
            if let Some(object) = self.objects.get_mut(path) {
                object["status"]["tries"] = restless.into();
                object["metadata"]["resourceVersion"] = version.into();
            }
        }
        let Some(known) = self.objects.get(path) else { return gone(path) };
        let asked = &patch["metadata"]["resourceVersion"];
        if asked.is_string() && *asked != known["metadata"]["resourceVersion"] {
            return status(409, "Conflict", "the object has been modified");
        }
        if patch["metadata"]["uid"].is_string() && patch["metadata"]["uid"] != known["metadata"]["uid"] {
            return status(409, "Conflict", "the uid in the precondition is another");
        }
        if patch["spec"]["bad"].is_string() {
            let (code, mut told) = status(422, "Invalid", "it is invalid");
            told["details"]["causes"] =
                json!([{"field": "spec.bad", "reason": "FieldValueInvalid", "message": "must be good"}]);
            return (code, told);
        }
        let mut object = known.clone();
        merge(&mut object, patch);
        self.keep(path.to_owned(), address, object)
    }

    fn keep(&mut self, at: String, address: &str, mut object: Value) -> (u16, Value) {
        if !address.contains("dryRun=All") {
            self.version += 1;
            object["metadata"]["resourceVersion"] = self.version.to_string().into();
            self.objects.insert(at, object.clone());
        }
        (200, object)
    }

    fn deleted(&mut self, path: &str, options: &Value) -> (u16, Value) {
        let Some(known) = self.objects.get(path) else { return gone(path) };
        let asked = &options["preconditions"];
        let fits = |name: &str| asked[name].is_null() || asked[name] == known["metadata"][name];
        if asked.is_null() || !fits("uid") || !fits("resourceVersion") {
            return status(409, "Conflict", "the precondition fails");
        }
        self.objects.remove(path);
        (200, json!({"kind": "Status", "status": "Success"}))
    }
}

fn gone(path: &str) -> (u16, Value) {
    status(404, "NotFound", &format!("{path} not found"))
}

/// Rights are of the namespace, or with `@` of the cluster.
fn has(rights: &Rights, verb: &str, resource: &str, in_namespace: bool) -> bool {
    let mark = if in_namespace { "" } else { "@" };
    let candidates = [(verb, resource), ("*", resource), (verb, "*"), ("*", "*")];
    candidates.iter().any(|(verb, resource)| rights.contains(&format!("{mark}{verb} {resource}")))
}
