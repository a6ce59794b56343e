//! The webhook: the API server tells here who asks for what. It refuses nothing, and nothing waits for it longer than
//! the second that its configuration says.
//!
//! A caller who knows the path can tell us anything. So it is made of random bits at every start and with every
//! certificate, and written only into the webhook's configuration, which administrators of the cluster can read.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use idm_diff::Content;
use idm_types::Redacted;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;

use super::certificate::Certificate;
use super::join::{Attempt, Note, Person};

/// Two objects of the greatest size and their frame.
const MOST_BYTES: usize = 8 << 20;
/// Requests whose bodies are held at the same time, and connections: in sum, and of one address, so that a pod that
/// holds connections open does not keep the API server out.
const MOST_REQUESTS: usize = 8;
const MOST_CONNECTIONS: usize = 256;
const MOST_OF_ADDRESS: usize = 16;
const HANDSHAKE: Duration = Duration::from_secs(5);
const HEAD: Duration = Duration::from_secs(30);
/// Notes that wait for the recorder.
const NOTES: usize = 10_000;
/// How the names of canaries begin.
pub(super) const CANARY: &str = "idm-canary-";
/// Groups and characters of a name that are kept.
const MOST_GROUPS: usize = 256;
const MOST_CHARS: usize = 256;

/// How changes get their authors.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct ChangesOptions {
    /// Address of the webhook that the API server tells who changes our objects
    #[arg(long, default_value = "0.0.0.0:9443")]
    pub(crate) changes_listen: SocketAddr,
    /// Name of the ValidatingWebhookConfiguration that leads to it; empty for none
    #[arg(long, default_value = "")]
    pub(crate) changes_webhook: String,
    /// The pod's address, for the EndpointSlice of the webhook's Service
    #[arg(long, env = "POD_IP")]
    pub(crate) changes_address: Option<IpAddr>,
    /// Ask Applications of Argo CD and Kustomizations and HelmReleases of Flux for the revisions they apply
    #[arg(long)]
    pub(crate) changes_gitops: bool,
}

/// The secret path and the certificate in use.
#[derive(Clone)]
pub(crate) struct Key {
    /// The last part of the path.
    pub(crate) path: Redacted<String>,
    pub(crate) certificate: Arc<Certificate>,
}

/// The state that the server and the canary share.
pub(crate) struct Door {
    /// The key in use, and the one before, whose path is still taken.
    keys: Mutex<Vec<Key>>,
    notes: mpsc::Sender<Note>,
    /// The names of the objects of canaries that came.
    canaries: watch::Sender<String>,
    requests: Semaphore,
}

impl Door {
    /// A door without a key, which is shut, and the notes that come through it.
    pub(crate) fn new() -> (Arc<Self>, mpsc::Receiver<Note>) {
        let (notes, receiver) = mpsc::channel(NOTES);
        let canaries = watch::Sender::new(String::new());
        let requests = Semaphore::new(MOST_REQUESTS);
        (Arc::new(Self { keys: Mutex::default(), notes, canaries, requests }), receiver)
    }

    /// Takes a new key; the one before still opens until the next one comes.
    pub(crate) fn renew(&self, key: Key) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.insert(0, key);
        keys.truncate(2);
    }

    /// The objects of canaries that came.
    pub(crate) fn canaries(&self) -> watch::Receiver<String> {
        self.canaries.subscribe()
    }

    fn keys(&self) -> Vec<Key> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn opens(&self, path: &str) -> bool {
        let given = path.trim_start_matches('/').as_bytes();
        let same =
            |key: &Key| aws_lc_rs::constant_time::verify_slices_are_equal(given, key.path.reveal().as_bytes()).is_ok();
        self.keys().iter().any(same)
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::POST || !self.opens(request.uri().path()) {
            return plain(StatusCode::NOT_FOUND);
        }
        // The API server goes on without us when we are busy.
        let Ok(_place) = self.requests.try_acquire() else { return plain(StatusCode::SERVICE_UNAVAILABLE) };
        let Ok(body) = Limited::new(request.into_body(), MOST_BYTES).collect().await else {
            return plain(StatusCode::BAD_REQUEST);
        };
        let Ok(review) = serde_json::from_slice::<Review>(&body.to_bytes()) else {
            return plain(StatusCode::BAD_REQUEST);
        };
        let uid = review.request.uid.clone();
        self.take(review.request);
        let answer = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "response": {"uid": uid, "allowed": true},
        });
        let mut response = Response::new(Full::new(Bytes::from(answer.to_string())));
        response.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static("application/json"));
        response
    }

    fn take(&self, asked: Asked) {
        if asked.dry_run {
            // Dry runs of others would only push the canary out.
            if asked.name.starts_with(CANARY) {
                self.canaries.send_modify(|last| *last = asked.name);
            }
        } else if let Some(note) = note(asked)
            && self.notes.try_send(note).is_err()
        {
            tracing::warn!("a note of the webhook was left out: changes come faster than they are recorded");
        }
    }
}

fn plain(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

#[derive(Deserialize)]
struct Review {
    request: Asked,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    uid: String,
    operation: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    user_info: UserInfo,
    #[serde(default)]
    object: Value,
    #[serde(default)]
    old_object: Value,
    #[serde(default)]
    options: Value,
}

#[derive(Default, Deserialize)]
struct UserInfo {
    #[serde(default)]
    username: String,
    #[serde(default)]
    uid: String,
    #[serde(default)]
    groups: Vec<String>,
}

/// The change that a request asks for; `None` for one that makes no change of ours.
fn note(asked: Asked) -> Option<Note> {
    let text =
        |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let cut = |text: String| text.chars().take(MOST_CHARS).collect::<String>();
    let (attempt, of) = match &*asked.operation {
        "CREATE" => (Attempt::Create, &asked.object),
        "UPDATE" => {
            let to = Content::of_json(&asked.object);
            let ends = to.is_ending() && to.is_free();
            (Attempt::Update { to: to.digest(), ends }, &asked.old_object)
        }
        "DELETE" => (Attempt::Delete, &asked.old_object),
        _ => return None,
    };
    let uid = text(of, "/metadata/uid");
    let base = if attempt == Attempt::Create { String::new() } else { text(of, "/metadata/resourceVersion") };
    let UserInfo { username, uid: user_uid, groups } = asked.user_info;
    let groups = groups.into_iter().take(MOST_GROUPS).map(cut).collect();
    let person = Arc::new(Person { name: cut(username), uid: cut(user_uid), groups });
    let manager = cut(text(&asked.options, "/fieldManager"));
    (!uid.is_empty()).then_some(Note { uid, base, attempt, person, manager })
}

/// The connections of an address, counted while it is held.
struct Place(IpAddr, Arc<Mutex<HashMap<IpAddr, usize>>>);

impl Place {
    fn take(address: IpAddr, all: &Arc<Mutex<HashMap<IpAddr, usize>>>) -> Option<Self> {
        let mut counts = all.lock().unwrap_or_else(PoisonError::into_inner);
        let sum: usize = counts.values().sum();
        if sum >= MOST_CONNECTIONS || counts.get(&address).is_some_and(|count| *count >= MOST_OF_ADDRESS) {
            return None;
        }
        *counts.entry(address).or_default() += 1;
        Some(Self(address, all.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.0) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.0);
            }
        }
    }
}

/// Serves the webhook for ever.
pub(crate) async fn serve(door: Arc<Door>, listener: TcpListener) {
    let counts = Arc::default();
    loop {
        let Ok((stream, from)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (place, key) = (Place::take(from.ip(), &counts), door.keys().into_iter().next());
        let (Some(place), Some(key)) = (place, key) else { continue };
        let (door, acceptor) = (door.clone(), TlsAcceptor::from(key.certificate.config.clone()));
        tokio::spawn(async move {
            let _place = place;
            let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await else { return };
            let service = service_fn(|request| {
                let door = door.clone();
                async move { Ok::<_, Infallible>(door.answer(request).await) }
            });
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEAD);
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(value: Value) -> Option<Note> {
        note(serde_json::from_value::<Review>(json!({"request": value})).unwrap().request)
    }

    #[test]
    fn requests_are_read_as_the_api_server_writes_them() {
        let user = json!({"username": "ana", "uid": "7", "groups": ["devs"], "extra": {"x": ["y"]}});
        let object = json!({"metadata": {"uid": "u", "resourceVersion": "5"}, "spec": {"apiKey": {}}});
        let of = |operation: &str, object: &Value, old: &Value| {
            asked(json!({
                "uid": "r", "operation": operation, "name": "a", "userInfo": user, "object": object, "oldObject": old,
                "dryRun": false, "options": {"fieldManager": "kubectl-edit"},
            }))
        };
        let created = of("CREATE", &object, &Value::Null).unwrap();
        assert_eq!((created.attempt, &*created.uid, &*created.base), (Attempt::Create, "u", ""));
        assert_eq!(
            (&*created.person.name, &*created.person.groups, &*created.manager),
            ("ana", &["devs".to_owned()][..], "kubectl-edit")
        );
        let updated = of("UPDATE", &object, &object).unwrap();
        let to = Content::of_json(&object).digest();
        assert_eq!((updated.attempt, &*updated.base), (Attempt::Update { to, ends: false }, "5"));
        assert_eq!(of("DELETE", &Value::Null, &object).unwrap().attempt, Attempt::Delete);
        assert!(of("CONNECT", &object, &object).is_none());
        assert!(of("CREATE", &json!({}), &Value::Null).is_none());
    }

    #[test]
    fn the_last_finalizer_of_an_object_that_is_being_deleted_ends_it() {
        let of = |finalizers: Value| {
            let object = json!({"metadata": {"uid": "u", "deletionTimestamp": "2027-01-01T00:00:00Z",
                "finalizers": finalizers}});
            let note =
                asked(json!({"uid": "r", "operation": "UPDATE", "object": object, "oldObject": object})).unwrap();
            matches!(note.attempt, Attempt::Update { ends: true, .. })
        };
        assert!(of(json!([])) && of(Value::Null) && !of(json!(["x"])));
    }

    #[test]
    fn an_address_that_holds_connections_keeps_no_other_one_out() {
        let counts = Arc::default();
        let (pod, server): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let mut held: Vec<_> = (0..2 * MOST_OF_ADDRESS).filter_map(|_| Place::take(pod, &counts)).collect();
        assert_eq!(held.len(), MOST_OF_ADDRESS);
        assert!(Place::take(server, &counts).is_some());
        held.pop();
        assert!(Place::take(pod, &counts).is_some());
        drop(held);
        assert!(counts.lock().unwrap().is_empty());
    }

    /// Over TLS: who does not know the path is told nothing and tells nothing; nobody is refused.
    #[tokio::test]
    async fn only_who_knows_the_path_is_heard() {
        let (door, mut notes) = Door::new();
        let certificate = Arc::new(Certificate::make("127.0.0.1", idm_types::Timestamp::now()).unwrap());
        door.renew(Key { path: Redacted::new("old".into()), certificate: certificate.clone() });
        door.renew(Key { path: Redacted::new("secret".into()), certificate: certificate.clone() });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(door.clone(), listener));
        let root = reqwest::Certificate::from_pem(certificate.pem.as_bytes()).unwrap();
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([root]).build().unwrap();
        let review = |dry_run: bool| {
            json!({"request": {
                "uid": "r", "operation": "CREATE", "name": "idm-canary-1", "dryRun": dry_run,
                "userInfo": {"username": "ana"}, "object": {"metadata": {"uid": "u"}},
            }})
        };
        let send = async |path: &str, body: String| {
            client.post(format!("https://{address}/{path}")).body(body).send().await.unwrap()
        };
        for wrong in ["", "secre", "secret/x", "other"] {
            assert_eq!(send(wrong, review(false).to_string()).await.status(), 404);
        }
        assert!(notes.try_recv().is_err());
        for path in ["secret?timeout=1s", "old"] {
            let answer = send(path, review(false).to_string()).await;
            assert_eq!(answer.status(), 200);
            let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
            assert_eq!(answer["response"], json!({"uid": "r", "allowed": true}));
            assert_eq!(notes.try_recv().unwrap().person.name, "ana");
        }
        let mut canaries = door.canaries();
        assert_eq!(send("secret", review(true).to_string()).await.status(), 200);
        assert!(notes.try_recv().is_err(), "a dry run makes no note");
        assert_eq!(*canaries.borrow_and_update(), "idm-canary-1");
        assert_eq!(send("secret", "{}".into()).await.status(), 400);
        server.abort();
    }
}
