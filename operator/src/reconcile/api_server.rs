//! A substitute for an API server with the parts that the operator uses: it lists, watches, and stores written objects.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::{Method, Request, Response, StatusCode};
use idm_plan::Bundle;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::gateway;
use crate::objects::Kind;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The namespace of all objects.
pub(crate) const NAMESPACE: &str = "shop";
/// The operator's own.
pub(crate) const HOME: &str = "idm-system";

/// A Service `orders`, with a policy that has these methods.
pub(crate) fn orders(methods: &str) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: orders}}
spec: {{ports: [{{name: http, port: 8080}}]}}
---
apiVersion: identity-manager.io/v1alpha1
kind: IdentityPolicy
metadata: {{name: orders}}
spec:
  targetRefs: [{{group: '', kind: Service, name: orders}}]
  authentication: {{methods: [{methods}]}}
"
    )
}

/// The class of the Gateways, behind other objects.
pub(crate) const CLASS: &str = "---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: idm}
spec: {controllerName: identity-manager.io/gateway-controller}
";

/// Objects as an API server stores them. Every second one of a kind does not exist yet when the kind is listed and
/// arrives by the watch; an object that was listed is deleted in the meantime.
pub(crate) struct ApiServer {
    objects: Vec<Value>,
    deleted: Value,
    secrets: Mutex<Vec<Value>>,
    /// The paths that were written to.
    written: Mutex<Vec<String>>,
    /// Events of Secrets for those who watch them.
    changes: tokio::sync::broadcast::Sender<Value>,
    bundle: watch::Sender<Option<Bundle>>,
    /// The last bundles of all gateways, by name.
    bundles: watch::Sender<BTreeMap<String, Bundle>>,
    /// The other objects that the operator applied, by path; what it deleted is not there any more.
    applied: Mutex<BTreeMap<String, Value>>,
    /// Paths whose writes are refused.
    refused: Mutex<Vec<String>>,
    /// Counts the writes of Secrets: each makes another version.
    writes: std::sync::atomic::AtomicUsize,
    /// The number of writes of Secrets that are taken until the server fails.
    writes_left: std::sync::atomic::AtomicUsize,
    /// CredentialRequests, and the Credentials that were made for them, by path.
    requests: Mutex<BTreeMap<String, Value>>,
    /// The last status of each object, by its path.
    statuses: Mutex<std::collections::BTreeMap<String, Value>>,
}

fn is_of(object: &Value, kind: Kind) -> bool {
    object["kind"] == kind.name()
}

impl ApiServer {
    /// Stores the objects of users, as `kubectl apply` does. `deleted` is deleted while the operator watches.
    pub(crate) fn new(yaml: &str, deleted: &str) -> Arc<Self> {
        let parse = |text: &str| serde_yaml_ng::from_str::<Value>(text).expect("it is YAML");
        let stored: Vec<Value> = yaml.split("\n---\n").enumerate().map(|(i, text)| stored(parse(text), i)).collect();
        let (secrets, objects) = stored.into_iter().partition(|object| object["kind"] == "Secret");
        Arc::new(Self {
            objects,
            deleted: self::stored(parse(deleted), 1000),
            secrets: Mutex::new(secrets),
            written: Mutex::default(),
            changes: tokio::sync::broadcast::Sender::new(1024),
            bundle: watch::Sender::new(None),
            bundles: watch::Sender::new(BTreeMap::new()),
            applied: Mutex::default(),
            refused: Mutex::default(),
            writes: 2000.into(),
            writes_left: usize::MAX.into(),
            requests: Mutex::default(),
            statuses: Mutex::default(),
        })
    }

    /// Its client.
    pub(crate) fn client(self: &Arc<Self>) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let server = server.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                Ok::<_, kube::Error>(server.answer(&head.method, head.uri.path(), head.uri.query(), &body))
            }
        });
        Client::new(service, NAMESPACE)
    }

    /// The last bundles that it wrote, by the name of the gateway.
    pub(super) fn bundles(&self) -> watch::Receiver<BTreeMap<String, Bundle>> {
        self.bundles.subscribe()
    }

    /// The objects of gateways that are there, by kind and name: `services/idm-gateway`.
    pub(super) fn applied(&self) -> BTreeMap<String, Value> {
        let applied = self.applied.lock().unwrap();
        let short =
            |path: &str| path.rsplit('/').take(2).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("/");
        let of_gateways = applied.iter().filter(|(path, _)| path.rsplit('/').next().is_some_and(is_of_gateway));
        of_gateways.map(|(path, object)| (short(path), object.clone())).collect()
    }

    /// Refuses writes at a path that ends so.
    pub(crate) fn refuse(&self, path: &str) {
        self.refused.lock().unwrap().push(path.to_owned());
    }

    /// Refuses nothing any more.
    pub(crate) fn refuse_nothing(&self) {
        self.refused.lock().unwrap().clear();
    }

    /// The last bundle of the namespace's own gateway.
    pub(super) fn bundle(&self) -> watch::Receiver<Option<Bundle>> {
        self.bundle.subscribe()
    }

    /// All objects of users and their Secrets, as `kubectl get --output yaml` shows them.
    pub(super) fn exported(&self) -> String {
        let secrets = self.secrets.lock().unwrap();
        let of_operator = |secret: &&Value| {
            let name = secret["metadata"]["name"].as_str().unwrap_or_default();
            is_of_gateway(name) || name.starts_with("idm-change-ledger-")
        };
        let all = self.objects.iter().chain(secrets.iter().filter(|secret| !of_operator(secret)));
        all.map(|object| serde_yaml_ng::to_string(object).expect("it is YAML")).collect::<Vec<_>>().join("---\n")
    }

    /// Puts all objects into a store, as if they had been listed.
    pub(super) fn fill(&self, store: &crate::watch::Store) {
        for kind in Kind::ALL {
            for object in self.objects.iter().filter(|object| is_of(object, *kind)) {
                let object = serde_json::from_value(object.clone()).expect("it is an object");
                store.replace(*kind, Arc::new(object));
            }
        }
    }

    /// The paths that were written to since this was asked last.
    pub(super) fn written(&self) -> Vec<String> {
        std::mem::take(&mut *self.written.lock().unwrap())
    }

    fn answer(&self, method: &Method, path: &str, query: Option<&str>, body: &[u8]) -> Response<Body> {
        let name = path.rsplit('/').next().unwrap_or_default();
        if method != Method::GET {
            self.written.lock().unwrap().push(path.to_owned());
        }
        if let Some(answer) = self.of_requests(method, path, body) {
            return answer;
        }
        if name == "status" {
            let status: Value = serde_json::from_slice(body).unwrap_or_default();
            self.statuses.lock().unwrap().insert(path.to_owned(), status);
        }
        if path == "/api/v1/secrets" {
            return list("Secret", self.secrets.lock().unwrap().clone());
        }
        if let Some(kind) = Kind::ALL.iter().copied().find(|kind| path == all_of(*kind)) {
            let watches = query.is_some_and(|query| query.contains("watch=true"));
            return if watches { self.watched(kind) } else { self.listed(kind) };
        }
        let watches = query.is_some_and(|query| query.contains("watch=true"));
        match path.strip_prefix(&format!("/api/v1/namespaces/{NAMESPACE}/")) {
            Some("secrets") if method == Method::GET && watches => return self.watched_secrets(),
            Some("secrets") if method == Method::GET => {
                return list("Secret", self.secrets.lock().unwrap().clone());
            }
            // None of them changes.
            Some("configmaps") if watches => return Response::new(StreamBody::new(stream::pending()).boxed_unsync()),
            Some("configmaps") => {
                let maps = self.objects.iter().filter(|object| object["kind"] == "ConfigMap");
                return list("ConfigMap", maps.cloned().collect());
            }
            _ => {}
        }
        if path.starts_with(&format!("/api/v1/namespaces/{NAMESPACE}/configmaps/")) {
            return self.config_map(name);
        }
        // Those of the operator's own namespace are kept among the others.
        let secrets = [NAMESPACE, HOME].map(|namespace| format!("/api/v1/namespaces/{namespace}/secrets"));
        match secrets.iter().find_map(|secrets| path.strip_prefix(secrets)) {
            Some("") => self.keep_secret(body),
            Some(_) if method == Method::GET => self.secret(name),
            Some(_) if method == Method::DELETE => {
                self.secrets.lock().unwrap().retain(|secret| secret["metadata"]["name"] != name);
                answered(StatusCode::OK, &json!({"metadata": {"name": name}}))
            }
            Some(_) => self.keep_secret(body),
            // Objects of gateways, statuses and events.
            None => self.applies(method, path, body),
        }
    }

    /// A request for a Credential as it is stored now.
    pub(crate) fn request(&self, name: &str) -> Option<Value> {
        self.requests.lock().unwrap().get(&of_ours("credentialrequests", name)).cloned()
    }

    /// A Credential that was made for a request.
    pub(crate) fn made(&self, name: &str) -> Option<Value> {
        self.requests.lock().unwrap().get(&of_ours("credentials", name)).cloned()
    }

    /// Stores a request or a Credential, in place of one of its name; returns it in its new version.
    pub(crate) fn put(&self, resource: &str, object: &Value) -> Value {
        let mut object = object.clone();
        self.renew(&mut object);
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        self.requests.lock().unwrap().insert(of_ours(resource, name), object.clone());
        object
    }

    /// Gives an object another version.
    fn renew(&self, object: &mut Value) {
        let number = self.writes.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        object["metadata"]["resourceVersion"] = number.to_string().into();
    }

    /// The work on requests: they are read and get a status, and Credentials are made.
    fn of_requests(&self, method: &Method, path: &str, body: &[u8]) -> Option<Response<Body>> {
        let written: Value = serde_json::from_slice(body).unwrap_or_default();
        let mut all = self.requests.lock().unwrap();
        if path == of_ours("credentials", "").trim_end_matches('/') && method == Method::POST {
            if self.refused.lock().unwrap().iter().any(|end| path.ends_with(end.as_str())) {
                let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 500});
                return Some(answered(StatusCode::INTERNAL_SERVER_ERROR, &status));
            }
            let name = written["metadata"]["name"].as_str().unwrap_or_default();
            all.insert(of_ours("credentials", name), written.clone());
            return Some(answered(StatusCode::CREATED, &written));
        }
        let is_status = path.ends_with("/status");
        let object = path.trim_end_matches("/status");
        let is_request = object.starts_with(&of_ours("credentialrequests", ""));
        let is_credential = object.starts_with(&of_ours("credentials", ""));
        if method == Method::GET && (is_request || is_credential) {
            return Some(Self::found(all.get(object)));
        }
        if !(is_request && is_status) {
            return None;
        }
        let known = all.get_mut(object)?;
        if written["metadata"]["resourceVersion"] != known["metadata"]["resourceVersion"] {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Conflict",
                "code": 409});
            return Some(answered(StatusCode::CONFLICT, &status));
        }
        self.renew(known);
        for (member, value) in written["status"].as_object()? {
            known["status"][member] = value.clone();
        }
        let status = known["status"].as_object_mut()?;
        status.retain(|_, value| !value.is_null());
        Some(answered(StatusCode::OK, known))
    }

    fn applies(&self, method: &Method, path: &str, body: &[u8]) -> Response<Body> {
        if self.refused.lock().unwrap().iter().any(|end| path.ends_with(end.as_str())) {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Invalid",
                "code": 422, "message": "the substitute refuses it"});
            return answered(StatusCode::UNPROCESSABLE_ENTITY, &status);
        }
        let mut written: Value = serde_json::from_slice(body).unwrap_or_default();
        written["metadata"]["name"] = path.rsplit('/').next().unwrap_or_default().into();
        let mut applied = self.applied.lock().unwrap();
        match *method {
            Method::DELETE => drop(applied.remove(path)),
            _ => drop(applied.insert(path.to_owned(), written.clone())),
        }
        answered(StatusCode::OK, &written)
    }

    fn listed(&self, kind: Kind) -> Response<Body> {
        let present = self.objects.iter().filter(|object| is_of(object, kind)).step_by(2);
        let gone = Some(&self.deleted).filter(|object| is_of(object, kind));
        // Items of a list omit their kind and API version.
        let item = |object: &Value| {
            let mut object = object.clone();
            object.as_object_mut().expect("an object").retain(|member, _| member != "kind" && member != "apiVersion");
            object
        };
        let mut items: Vec<Value> = present.chain(gone).map(item).collect();
        items.reverse();
        let resource = kind.resource();
        let list = json!({
            "apiVersion": resource.api_version, "kind": format!("{}List", kind.name()),
            "metadata": {"resourceVersion": "2000"}, "items": items,
        });
        answered(StatusCode::OK, &list)
    }

    fn watched(&self, kind: Kind) -> Response<Body> {
        let late = self.objects.iter().filter(|object| is_of(object, kind)).skip(1).step_by(2);
        let added = late.map(|object| json!({"type": "ADDED", "object": object}));
        let gone = Some(&self.deleted).filter(|object| is_of(object, kind));
        let events = added.chain(gone.map(|object| json!({"type": "DELETED", "object": object})));
        let frames: Vec<_> = events.map(|event| Ok(Frame::data(Bytes::from(format!("{event}\n"))))).collect();
        let body = StreamBody::new(futures::StreamExt::chain(stream::iter(frames), stream::pending()));
        Response::new(body.boxed_unsync())
    }

    fn watched_secrets(&self) -> Response<Body> {
        let changes = self.changes.subscribe();
        let frames = stream::unfold(changes, |mut changes| async move {
            let secret = changes.recv().await.ok()?;
            let event = json!({"type": "MODIFIED", "object": secret});
            Some((Ok(Frame::data(Bytes::from(format!("{event}\n")))), changes))
        });
        Response::new(StreamBody::new(futures::StreamExt::boxed(frames)).boxed_unsync())
    }

    fn secret(&self, name: &str) -> Response<Body> {
        Self::found(self.secrets.lock().unwrap().iter().find(|secret| secret["metadata"]["name"] == name))
    }

    fn config_map(&self, name: &str) -> Response<Body> {
        let mut maps = self.objects.iter().filter(|object| object["kind"] == "ConfigMap");
        Self::found(maps.find(|map| map["metadata"]["name"] == name))
    }

    fn found(object: Option<&Value>) -> Response<Body> {
        match object {
            Some(object) => answered(StatusCode::OK, object),
            None => answered(
                StatusCode::NOT_FOUND,
                &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}),
            ),
        }
    }

    /// The values of a Secret.
    pub(crate) fn values(&self, name: &str) -> Option<std::collections::BTreeMap<String, String>> {
        let secrets = self.secrets.lock().unwrap();
        let secret = secrets.iter().find(|secret| secret["metadata"]["name"] == name)?;
        let secret: Secret = serde_json::from_value(secret.clone()).expect("it is a Secret");
        let text = |value: k8s_openapi::ByteString| String::from_utf8(value.0).expect("it is text");
        Some(secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, text(value))).collect())
    }

    /// All Secrets.
    pub(crate) fn all_secrets(&self) -> Vec<Secret> {
        let secrets = self.secrets.lock().unwrap();
        secrets.iter().map(|secret| serde_json::from_value(secret.clone()).expect("it is a Secret")).collect()
    }

    /// Fails when this many more Secrets were written.
    pub(crate) fn fail_after(&self, writes: usize) {
        self.writes_left.store(writes, std::sync::atomic::Ordering::Relaxed);
    }

    /// The last statuses, as text.
    pub(super) fn statuses(&self) -> String {
        format!("{:?}", self.statuses.lock().unwrap())
    }

    /// Writes a Secret, as `kubectl apply` does.
    pub(crate) fn write(&self, secret: &Value) {
        self.keep_secret(secret.to_string().as_bytes());
    }

    fn keep_secret(&self, body: &[u8]) -> Response<Body> {
        let written: Value = serde_json::from_slice(body).expect("it is JSON");
        let mut secrets = self.secrets.lock().unwrap();
        // A write that carries a version is one of that version.
        let known = secrets.iter().find(|secret| secret["metadata"]["name"] == written["metadata"]["name"]);
        let (asked, stored_now) =
            (&written["metadata"]["resourceVersion"], known.map(|of| &of["metadata"]["resourceVersion"]));
        if asked.is_string() && stored_now != Some(asked) {
            return answered(
                StatusCode::CONFLICT,
                &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Conflict", "code": 409}),
            );
        }
        let left = |left: usize| left.checked_sub(1);
        let order = std::sync::atomic::Ordering::Relaxed;
        if self.writes_left.fetch_update(order, order, left).is_err() {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 500});
            return answered(StatusCode::INTERNAL_SERVER_ERROR, &status);
        }
        let number = self.writes.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        secrets.retain(|secret| secret["metadata"]["name"] != written["metadata"]["name"]);
        let kept = stored(written, number);
        secrets.push(kept.clone());
        let _ = self.changes.send(kept.clone());
        let name = kept["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if gateway::is_name(&name) {
            let secret: Secret = serde_json::from_value(kept.clone()).expect("it is a Secret");
            let packed = secret.data.and_then(|mut data| data.remove("bundle")).expect("it holds a bundle");
            if !idm_envelope::is_sealed(&packed.0) {
                let bundle = Bundle::unpack(&packed.0).expect("it is a bundle");
                if name == gateway::NAME {
                    self.bundle.send_replace(Some(bundle.clone()));
                }
                self.bundles.send_modify(|all| drop(all.insert(name, bundle)));
            }
        }
        answered(StatusCode::OK, &kept)
    }
}

fn of_ours(resource: &str, name: &str) -> String {
    format!("/apis/identity-manager.io/v1alpha1/namespaces/{NAMESPACE}/{resource}/{name}")
}

fn is_of_gateway(name: &str) -> bool {
    name.starts_with(gateway::NAME)
}

fn list(kind: &str, items: Vec<Value>) -> Response<Body> {
    let list = json!({
        "apiVersion": "v1", "kind": format!("{kind}List"), "metadata": {"resourceVersion": "2000"}, "items": items,
    });
    answered(StatusCode::OK, &list)
}

fn all_of(kind: Kind) -> String {
    let resource = kind.resource();
    let root = if resource.group.is_empty() { "/api" } else { "/apis" };
    format!("{root}/{}/{}", resource.api_version, resource.plural)
}

fn answered(status: StatusCode, document: &Value) -> Response<Body> {
    let body = Full::new(Bytes::from(document.to_string())).boxed_unsync();
    Response::builder().status(status).body(body).expect("it has no headers")
}

/// An object as an API server keeps it: with the metadata that only it sets, and a Secret's values encoded.
fn stored(mut object: Value, number: usize) -> Value {
    let is_of_cluster = is_of(&object, Kind::GatewayClass);
    let metadata = &mut object["metadata"];
    if !is_of_cluster {
        metadata["namespace"] = NAMESPACE.into();
    }
    metadata["uid"] = format!("00000000-0000-4000-8000-{number:012}").into();
    metadata["generation"] = 1.into();
    metadata["resourceVersion"] = (1000 + number).to_string().into();
    metadata["creationTimestamp"] = format!("2026-01-01T00:{:02}:{:02}Z", number / 60, number % 60).into();
    if object["kind"] == "Secret" || object.get("stringData").is_some() {
        object["apiVersion"] = "v1".into();
        object["kind"] = "Secret".into();
        let mut secret: Secret = serde_json::from_value(object).expect("it is a Secret");
        let written = secret.string_data.take().into_iter().flatten();
        let values = written.map(|(name, value)| (name, k8s_openapi::ByteString(value.into_bytes())));
        secret.data.get_or_insert_default().extend(values);
        object = serde_json::to_value(secret).expect("it is JSON");
    }
    object
}
