//! The one table of endpoints. The router, the check of permissions, the description in OpenAPI and the tests of
//! coverage are made of it: an address that is not in it does not exist.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::Method;
use idm_permission::{Kind, Permission, Verb};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api;
use crate::call::{Call, Reply};
use crate::failure::Failure;

/// A result that comes later.
pub(crate) type Later<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;

type Handler = Box<dyn Fn(Call, Value) -> Later<'static, Reply> + Send + Sync>;
type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// The people who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Everybody who reaches the server: to open a session.
    Nobody,
    /// A person with a session; the answer has what they may see.
    Session,
    /// A verb on this kind.
    Verb(Verb, Kind),
    /// A verb on the kind that the path names.
    OnKind(Verb),
    /// To create the object that the path names, or to update it where the body has a version.
    Save,
}

impl Needs {
    /// The permission that a request needs, if it is one on kinds of ours.
    pub(crate) fn permission(self, kind: Option<Kind>, body: &Value) -> Option<Permission> {
        match self {
            Needs::Nobody | Needs::Session => None,
            Needs::Verb(verb, kind) => Permission::new(verb, kind),
            Needs::OnKind(verb) => Permission::new(verb, kind?),
            Needs::Save if body["version"].is_null() => Permission::new(Verb::Create, kind?),
            Needs::Save => Permission::new(Verb::Update, kind?),
        }
    }
}

/// An address with a method.
pub(crate) struct Endpoint {
    pub(crate) id: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) needs: Needs,
    /// The parameters that it reads; any other is refused.
    pub(crate) query: Vec<&'static str>,
    pub(crate) request: Option<SchemaOf>,
    pub(crate) answer: Option<SchemaOf>,
    pub(crate) media_type: &'static str,
    pub(crate) handler: Handler,
}

impl Endpoint {
    fn new(id: &'static str, method: Method, path: &'static str, needs: Needs, handler: Handler) -> Self {
        let (summary, media_type) = ("", "application/json");
        Self { id, summary, method, path, needs, query: Vec::new(), request: None, answer: None, media_type, handler }
    }

    /// Answers with JSON.
    fn get<A, F>(id: &'static str, path: &'static str, needs: Needs, handler: fn(Call) -> F) -> Self
    where
        A: Serialize + JsonSchema,
        F: Future<Output = Result<A, Failure>> + Send + 'static,
    {
        let run: Handler = Box::new(move |call, _| {
            let answer = handler(call);
            Box::pin(async move { Reply::json(&answer.await?) })
        });
        let new = Self::new(id, Method::GET, path, needs, run);
        Self { answer: Some(|generator| generator.subschema_for::<A>()), ..new }
    }

    /// Takes JSON and answers with it.
    fn with<B, A, F>(
        id: &'static str,
        method: Method,
        path: &'static str,
        needs: Needs,
        handler: fn(Call, B) -> F,
    ) -> Self
    where
        B: DeserializeOwned + JsonSchema + Send + 'static,
        A: Serialize + JsonSchema,
        F: Future<Output = Result<A, Failure>> + Send + 'static,
    {
        let run: Handler = Box::new(move |call, body| {
            let answer = read(body).map(|body| handler(call, body));
            Box::pin(async move { Reply::json(&answer?.await?) })
        });
        let new = Self::new(id, method, path, needs, run);
        let request: SchemaOf = |generator| generator.subschema_for::<B>();
        Self { request: Some(request), answer: Some(|generator| generator.subschema_for::<A>()), ..new }
    }

    /// Takes JSON and answers in its own way.
    fn taking<B, F>(
        id: &'static str,
        method: Method,
        path: &'static str,
        needs: Needs,
        handler: fn(Call, B) -> F,
    ) -> Self
    where
        B: DeserializeOwned + JsonSchema + Send + 'static,
        F: Future<Output = Result<Reply, Failure>> + Send + 'static,
    {
        let run: Handler = Box::new(move |call, body| {
            let answer = read(body).map(|body| handler(call, body));
            Box::pin(async move { answer?.await })
        });
        let new = Self::new(id, method, path, needs, run);
        Self { request: Some(|generator| generator.subschema_for::<B>()), ..new }
    }

    /// Answers in its own way.
    fn plain<F>(id: &'static str, method: Method, path: &'static str, needs: Needs, handler: fn(Call) -> F) -> Self
    where
        F: Future<Output = Result<Reply, Failure>> + Send + 'static,
    {
        Self::new(id, method, path, needs, Box::new(move |call, _| Box::pin(handler(call))))
    }

    fn reads(mut self, query: &[&'static str]) -> Self {
        self.query.extend(query);
        self
    }

    fn of_type(self, media_type: &'static str) -> Self {
        Self { media_type, ..self }
    }

    fn says(self, summary: &'static str) -> Self {
        Self { summary, ..self }
    }
}

fn read<B: DeserializeOwned>(body: Value) -> Result<B, Failure> {
    serde_json::from_value(body).map_err(|error| Failure::invalid(format!("the body: {error}")))
}

/// Every endpoint there is.
pub(crate) fn endpoints() -> Arc<[Endpoint]> {
    objects().into_iter().chain(requests()).chain(questions()).collect()
}

/// Requests for Credentials.
fn requests() -> Vec<Endpoint> {
    use Needs::Session;
    let one = "/api/v1/requests/{namespace}/{name}";
    let asks = Needs::Verb(Verb::Create, Kind::CredentialRequest);
    let answers = Needs::Verb(Verb::Approve, Kind::Credential);
    let post = || Method::POST;
    vec![
        Endpoint::get("listRequests", "/api/v1/requests", Session, api::requests::list)
            .reads(&["namespace", "whose"])
            .says("Requests for Credentials, the newest first: mine, those of others, or all"),
        Endpoint::get("getRequest", one, Needs::Verb(Verb::Read, Kind::CredentialRequest), api::requests::get)
            .says("One request; for its requester with the encrypted key, until it was received"),
        Endpoint::with("askForCredential", post(), "/api/v1/requests/{namespace}", asks, api::requests::ask)
            .says("Asks for a Credential, in the name of the person of the session"),
        Endpoint::with(
            "withdrawRequest",
            post(),
            "/api/v1/requests/{namespace}/{name}/withdraw",
            asks,
            api::requests::withdraw,
        )
        .says("Withdraws an own request; what it gave ends with it"),
        Endpoint::with(
            "receivedKey",
            post(),
            "/api/v1/requests/{namespace}/{name}/received",
            asks,
            api::requests::received,
        )
        .says("The requester has the key: its ciphertext is removed"),
        Endpoint::with(
            "approveRequest",
            post(),
            "/api/v1/requests/{namespace}/{name}/approve",
            answers,
            api::requests::approve,
        )
        .says("Approves the request of this hash, which is somebody else's: the operator makes the Credential"),
        Endpoint::with(
            "rejectRequest",
            post(),
            "/api/v1/requests/{namespace}/{name}/reject",
            answers,
            api::requests::reject,
        )
        .says("Rejects the request of this hash, with a reason that the requester reads"),
    ]
}

/// Sessions, and objects with their keys.
fn objects() -> Vec<Endpoint> {
    use Needs::{Nobody, OnKind, Save, Session};
    let (post, put, delete) = (Method::POST, Method::PUT, Method::DELETE);
    let object = "/api/v1/objects/{kind}/{namespace}/{name}";
    let of_credential = |verb| Needs::Verb(verb, Kind::Credential);
    vec![
        Endpoint::taking("openSession", post.clone(), "/api/v1/session", Nobody, api::session::open)
            .says("Opens a session by the code that was printed at the start, or by a token of the API server"),
        Endpoint::get("signInWay", "/api/v1/session", Nobody, api::session::way).says("How people sign in here"),
        Endpoint::plain("endSession", delete.clone(), "/api/v1/session", Session, api::session::end)
            .says("Ends the session"),
        Endpoint::get("me", "/api/v1/me", Session, api::me::me)
            .reads(&["namespace"])
            .says("The person of the session, and what they may do in a namespace"),
        Endpoint::get("gateways", "/api/v1/gateways", Session, api::objects::gateways)
            .reads(&["namespace"])
            .says("The gateways, and whether they serve the newest configuration"),
        Endpoint::get("listObjects", "/api/v1/objects/{kind}", OnKind(Verb::Read), api::objects::list)
            .reads(&["namespace", "team", "search", "limit", "after"])
            .says("Objects of a kind, in the order of their names"),
        Endpoint::get("getObject", object, OnKind(Verb::Read), api::objects::get)
            .says("One object with its YAML and what the compiler says about it"),
        Endpoint::with("check", post.clone(), "/api/v1/check", Session, api::objects::check)
            .says("What a change would do; nothing is written"),
        Endpoint::with("saveObject", put, object, Save, api::objects::save)
            .says("Makes an object, or changes the one of the version given"),
        Endpoint::plain("deleteObject", delete, object, OnKind(Verb::Delete), api::objects::delete)
            .reads(&["version"])
            .says("Deletes the object of the version given"),
        Endpoint::with(
            "createCredential",
            post.clone(),
            "/api/v1/credentials/{namespace}",
            of_credential(Verb::Create),
            api::credentials::create,
        )
        .says("Makes a Credential with an API key, which is shown this once"),
        Endpoint::with(
            "rotateCredential",
            post.clone(),
            "/api/v1/credentials/{namespace}/{name}/rotate",
            of_credential(Verb::Rotate),
            api::credentials::rotate,
        )
        .says("Makes the next key; the old one still works for a while"),
        Endpoint::with(
            "revokeCredential",
            post.clone(),
            "/api/v1/credentials/{namespace}/{name}/revoke",
            of_credential(Verb::Revoke),
            api::credentials::revoke,
        )
        .says("Refuses keys from now on, for good"),
    ]
}

/// Questions about objects, requests and records; nothing is written.
fn questions() -> Vec<Endpoint> {
    use Needs::Session;
    let post = Method::POST;
    vec![
        Endpoint::with(
            "tryLogin",
            post.clone(),
            "/api/v1/federations/{namespace}/{name}/try",
            Needs::Verb(Verb::Update, Kind::Federation),
            api::federations::try_login,
        )
        .says("Tries a login at a directory and tells each step; nobody is let in, and the password is not kept"),
        Endpoint::with("readProvider", post.clone(), "/api/v1/providers", Session, api::federations::read)
            .says("What the document of a provider means for a Federation; nothing is fetched"),
        Endpoint::get("home", "/api/v1/home", Session, api::home::home)
            .says("Whether identity is healthy: gateways, decisions of the last hour, what needs attention"),
        Endpoint::get("searchAudit", "/api/v1/audit", Session, api::audit::search)
            .reads(api::audit::FILTERS)
            .reads(&["limit", "before"])
            .says("Records of decisions and changes, the newest first"),
        Endpoint::plain("followAudit", Method::GET, "/api/v1/audit/stream", Session, api::audit::stream)
            .reads(api::audit::FILTERS)
            .of_type("text/event-stream")
            .says("Records as they are written; goes on behind `Last-Event-ID`"),
        Endpoint::plain("exportAudit", Method::GET, "/api/v1/audit/export", Session, api::audit::export)
            .reads(api::audit::FILTERS)
            .reads(&["format"])
            .of_type("application/jsonl")
            .says("All records of a query as a file"),
        Endpoint::get("getRecord", "/api/v1/audit/{id}", Session, api::audit::entry)
            .says("One record with its explanation"),
        Endpoint::get("languageModels", "/api/v1/llm", Session, api::llm::usage)
            .reads(&["namespace", "since", "until", "limit", "after"])
            .says("Tokens of language models by caller and model, refused prompts, and the use of quotas"),
        Endpoint::with("decodeToken", post.clone(), "/api/v1/decode", Session, api::explain::decode)
            .says("What a token says, and how a policy checks it; the token is not kept"),
        Endpoint::with("explainRequest", post.clone(), "/api/v1/explain", Session, api::explain::explain)
            .says("How a request that nobody sends would be decided"),
        Endpoint::with("previewPolicy", post.clone(), "/api/v1/preview", Session, api::preview::preview)
            .says("The objects that the JOSE steps of a draft would make of a sample, without signatures"),
        Endpoint::get("topology", "/api/v1/topology", Session, api::views::topology)
            .reads(&["namespace"])
            .says("Gateways, routes, policies and Services of a namespace, and their relations"),
        Endpoint::get("matrix", "/api/v1/matrix", Session, api::views::matrix)
            .reads(&["namespace"])
            .says("Who may do what: roles in each tier, and the RoleBindings"),
        Endpoint::get("schema", "/api/v1/schemas/{kind}", Session, api::schemas::schema)
            .says("The schema of a kind, as in its CRD"),
        Endpoint::get("openapi", "/api/v1/openapi.json", Session, api::schemas::openapi)
            .says("This API, as OpenAPI 3.1"),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn addresses_and_ids_are_unique_and_only_signing_in_needs_no_session() {
        let all = endpoints();
        let ids: BTreeSet<_> = all.iter().map(|of| of.id).collect();
        let addresses: BTreeSet<_> = all.iter().map(|of| (of.method.as_str(), of.path)).collect();
        assert_eq!((ids.len(), addresses.len()), (all.len(), all.len()));
        let open: Vec<_> = all.iter().filter(|of| of.needs == Needs::Nobody).map(|of| of.id).collect();
        assert_eq!(open, ["openSession", "signInWay"]);
        assert!(all.iter().all(|of| !of.summary.is_empty() && of.path.starts_with("/api/v1/")));
    }

    #[test]
    fn whatever_writes_names_the_permission_that_it_needs() {
        for of in endpoints().iter().filter(|of| of.method != Method::GET) {
            let body = serde_json::json!({"version": "1"});
            let own = [
                "openSession",
                "endSession",
                "check",
                "decodeToken",
                "explainRequest",
                "readProvider",
                "previewPolicy",
            ];
            let is_own = own.contains(&of.id);
            assert_eq!(of.needs.permission(Some(Kind::Credential), &body).is_none(), is_own, "{}", of.id);
        }
    }
}
