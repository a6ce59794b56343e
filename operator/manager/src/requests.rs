//! Requests for Credentials at a cluster, asked and answered with the rights of a person. `idm credential` and the API
//! call this. The API server checks every name; what is written here is the person's own.

use idm_api::v1alpha1::RequestDecision;
use idm_compile::request_hash;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::credential::CredentialError;

const KIND: &str = "CredentialRequest";
/// Requests of a page.
const PAGE: u32 = 500;
/// Requests of a namespace that are read.
const MOST: usize = 10_000;

/// A wish for a Credential.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewRequest {
    /// The name of the request and of the Credential: lower-case letters, digits, `-` and `.`, at most 63.
    pub name: String,
    /// The purpose, for the approver.
    pub purpose: String,
    /// The team of the Credential.
    pub team: Option<String>,
    /// Labels that the Credential shall have, for example of a tier.
    #[serde(default)]
    pub labels: Vec<LabelView>,
    /// Roles that the caller shall have.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Where, how and when it may be used, as `spec.access` of a Credential; with `policies`.
    pub access: Value,
    /// The time from which on it is refused.
    pub expire_time: String,
    /// The public key to which the key is encrypted, as a JWK of the curve P-256 or X25519.
    pub recipient: Value,
}

/// A label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LabelView {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// A request, for the person who looks at it. Everything that people wrote is made visible.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestView {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid, by which it is withdrawn.
    pub uid: String,
    /// Its team.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    /// The one who asks.
    pub requester: String,
    /// Whether that is the person who looks.
    pub mine: bool,
    /// The purpose.
    pub purpose: String,
    /// The wanted Credential, as the request has it.
    pub credential: Value,
    /// The public key to which the key is encrypted, as JSON text.
    pub recipient: String,
    /// The state in one word: `Pending`, `Rejected`, `Expired`, `Issued`, `Received` and others.
    pub state: String,
    /// The state in words.
    pub message: String,
    /// What an answer names; unset where it cannot be answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// From this time on it cannot be answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer_until_time: Option<String>,
    /// `Approved` or `Rejected`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// The one who answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered_by: Option<String>,
    /// The reason of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The Credential that was made: `name` and `keyId`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made: Option<Value>,
    /// The key as a JWE, for the requester alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encrypted_key: Option<String>,
    /// The ciphertext is removed at this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_until_time: Option<String>,
    /// The time of the request.
    pub created_time: String,
    /// Whether the person who looks may answer it.
    pub may_answer: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why_not: Option<String>,
}

impl RequestView {
    /// What a person sees of a request. Whether they may answer is known here as far as the request tells it.
    pub fn of(object: &Value, person: &str) -> Self {
        let at = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
        let shown = |pointer: &str| at(pointer).map(|text| idm_types::visible(text).into_owned());
        let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
        let ready = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
        let of_ready = |field: &str| ready.and_then(|ready| ready[field].as_str());
        let mine = at("/spec/requester/username") == Some(person);
        // What is shown is what an answer is bound to: a hash of something else is none.
        let hash = at("/status/hash").filter(|hash| *hash == request_hash(object)).map(str::to_owned);
        let decision = shown("/spec/approval/decision");
        let why_not = match (&hash, &decision) {
            _ if mine => Some("nobody answers their own request"),
            (_, Some(_)) => Some("it is answered"),
            (None, None) => Some("it cannot be answered now"),
            (Some(_), None) => None,
        };
        Self {
            namespace: shown("/metadata/namespace").unwrap_or_default(),
            name: shown("/metadata/name").unwrap_or_default(),
            uid: shown("/metadata/uid").unwrap_or_default(),
            team: object["metadata"]["labels"][idm_permission::TEAM_LABEL].as_str().map(str::to_owned),
            requester: shown("/spec/requester/username").unwrap_or_default(),
            mine,
            purpose: shown("/spec/purpose").unwrap_or_default(),
            credential: object["spec"]["credential"].clone(),
            recipient: shown("/spec/recipient/jwk").unwrap_or_default(),
            state: of_ready("reason").unwrap_or("Unknown").to_owned(),
            message: of_ready("message").unwrap_or("the operator has not read it yet").to_owned(),
            hash,
            answer_until_time: shown("/status/answerUntilTime"),
            decision,
            answered_by: shown("/spec/approval/by/username"),
            reason: shown("/spec/approval/reason"),
            made: object.pointer("/status/credential").cloned(),
            encrypted_key: shown("/status/encryptedKey").filter(|_| mine),
            key_until_time: shown("/status/keyUntilTime"),
            created_time: shown("/metadata/creationTimestamp").unwrap_or_default(),
            may_answer: why_not.is_none(),
            why_not: why_not.map(str::to_owned),
        }
    }
}

/// The requests of one namespace.
pub struct ClusterRequests {
    client: Client,
    namespace: String,
    api: Api<DynamicObject>,
}

fn failed(error: kube::Error, what: String) -> CredentialError {
    match error {
        kube::Error::Api(status) => CredentialError::Api { what, code: status.code, message: status.message.clone() },
        other => CredentialError::NotConnected(Box::new(other)),
    }
}

fn value(object: &DynamicObject) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

fn named(name: &str) -> String {
    format!("{KIND} '{name}'")
}

impl ClusterRequests {
    /// As kubectl would: of the namespace named, or of that of the kubeconfig.
    ///
    /// # Errors
    /// No cluster is known.
    pub async fn connect(namespace: Option<&str>) -> Result<Self, CredentialError> {
        let client = Client::try_default().await.map_err(|error| CredentialError::NotConnected(Box::new(error)))?;
        let namespace = namespace.unwrap_or(client.default_namespace()).to_owned();
        Ok(Self::with(client, &namespace))
    }

    /// With the rights of a client.
    pub fn with(client: Client, namespace: &str) -> Self {
        let kind = GroupVersionKind::gvk(idm_api::GROUP, "v1alpha1", KIND);
        let resource = ApiResource::from_gvk_with_plural(&kind, "credentialrequests");
        let api = Api::namespaced_with(client.clone(), namespace, &resource);
        Self { client, namespace: namespace.to_owned(), api }
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The person, as the API server names them.
    ///
    /// # Errors
    /// The API server says no, or does not answer.
    pub async fn whoami(&self) -> Result<String, CredentialError> {
        let kind = GroupVersionKind::gvk("authentication.k8s.io", "v1", "SelfSubjectReview");
        let resource = ApiResource::from_gvk_with_plural(&kind, "selfsubjectreviews");
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
        let review = api.create(&PostParams::default(), &DynamicObject::new("", &resource)).await;
        let review = review.map_err(|error| failed(error, "your name".to_owned()))?;
        let name = review.data.pointer("/status/userInfo/username").and_then(Value::as_str);
        Ok(name.unwrap_or_default().to_owned())
    }

    /// All requests, the newest first.
    ///
    /// # Errors
    /// The API server says no, or does not answer.
    pub async fn all(&self) -> Result<Vec<Value>, CredentialError> {
        let (mut all, mut params) = (Vec::<Value>::new(), ListParams::default().limit(PAGE));
        loop {
            let page = self.api.list(&params).await.map_err(|error| failed(error, format!("{KIND}s")))?;
            all.extend(page.items.iter().map(value));
            match page.metadata.continue_.filter(|next| !next.is_empty() && all.len() < MOST) {
                Some(next) => params = params.continue_token(&next),
                None => break,
            }
        }
        let time = |object: &Value| object["metadata"]["creationTimestamp"].as_str().unwrap_or_default().to_owned();
        all.sort_by_key(|object| std::cmp::Reverse(time(object)));
        Ok(all)
    }

    /// One request.
    ///
    /// # Errors
    /// The API server says no, or does not answer.
    pub async fn one(&self, name: &str) -> Result<Value, CredentialError> {
        Ok(value(&self.api.get(name).await.map_err(|error| failed(error, named(name)))?))
    }

    /// Asks, in the name of the person whose rights these are.
    ///
    /// # Errors
    /// The API server says no, or does not answer.
    pub async fn ask(&self, person: &str, new: NewRequest) -> Result<Value, CredentialError> {
        let NewRequest { name, purpose, team, labels, roles, access, expire_time, recipient } = new;
        let mut credential = json!({"apiKey": {}, "access": access, "expireTime": expire_time});
        if !labels.is_empty() {
            credential["labels"] = json!(labels);
        }
        if !roles.is_empty() {
            credential["roles"] = json!(roles);
        }
        let mut object = json!({
            "apiVersion": format!("{}/v1alpha1", idm_api::GROUP), "kind": KIND, "metadata": {"name": name},
            "spec": {"requester": {"username": person}, "purpose": purpose, "credential": credential,
                "recipient": {"jwk": recipient.to_string()}},
        });
        if let Some(team) = team {
            object["metadata"]["labels"] = json!({idm_permission::TEAM_LABEL: team});
        }
        let object = serde_json::from_value(object).map_err(|error| CredentialError::Refused(error.to_string()))?;
        let made = self.api.create(&params(), &object).await;
        Ok(value(&made.map_err(|error| failed(error, named(&name)))?))
    }

    /// Answers a request that the person has read: `hash` is that of what they read.
    ///
    /// # Errors
    /// It is another request now, or the API server says no, or does not answer.
    pub async fn answer(
        &self,
        person: &str,
        name: &str,
        decision: RequestDecision,
        hash: &str,
        reason: Option<&str>,
    ) -> Result<Value, CredentialError> {
        let stored = self.one(name).await?;
        if request_hash(&stored) != hash {
            let message = format!("{}: it is another request than the one that was read: read it again", named(name));
            return Err(CredentialError::Refused(message));
        }
        let mut answer = json!({"decision": decision, "by": {"username": person}, "hash": hash});
        if let Some(reason) = reason {
            answer["reason"] = reason.into();
        }
        self.patch(name, json!({"spec": {"approval": answer}})).await
    }

    /// Says that the requester has the key.
    ///
    /// # Errors
    /// It is another request now, or the API server says no, or does not answer.
    pub async fn received(&self, name: &str, uid: &str) -> Result<Value, CredentialError> {
        self.patch(name, json!({"metadata": {"uid": uid}, "spec": {"received": true}})).await
    }

    /// Withdraws a request; what it gave ends with it.
    ///
    /// # Errors
    /// It is another request now, or the API server says no, or does not answer.
    pub async fn withdraw(&self, name: &str, uid: &str) -> Result<(), CredentialError> {
        let preconditions = Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None });
        let params = DeleteParams { preconditions, ..DeleteParams::default() };
        self.api.delete(name, &params).await.map(drop).map_err(|error| failed(error, named(name)))
    }

    async fn patch(&self, name: &str, patch: Value) -> Result<Value, CredentialError> {
        let params = PatchParams { field_manager: Some("idm".into()), ..PatchParams::default() };
        let patched = self.api.patch(name, &params, &Patch::Merge(patch)).await;
        Ok(value(&patched.map_err(|error| failed(error, named(name)))?))
    }
}

fn params() -> PostParams {
    PostParams { field_manager: Some("idm".into()), ..PostParams::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_shown_to_the_requester_alone_and_only_a_true_hash_can_be_answered() {
        let mut object = json!({
            "metadata": {"name": "a", "namespace": "shop", "uid": "u"},
            "spec": {"requester": {"username": "ana"}, "purpose": "x\u{1b}[2J", "credential": {"apiKey": {}}},
            "status": {"encryptedKey": "e.y.J", "hash": "0"},
        });
        let own = RequestView::of(&object, "ana");
        assert_eq!((own.mine, own.encrypted_key.as_deref(), own.may_answer), (true, Some("e.y.J"), false));
        assert_eq!(own.purpose, "x\\u{1b}[2J");
        let other = RequestView::of(&object, "omar");
        assert_eq!((other.mine, other.encrypted_key, other.may_answer), (false, None, false), "the hash is another");
        object["status"]["hash"] = request_hash(&object).into();
        assert!(RequestView::of(&object, "omar").may_answer && !RequestView::of(&object, "ana").may_answer);
        object["spec"]["approval"] = json!({"decision": "Rejected", "by": {"username": "olga"}, "reason": "no"});
        let answered = RequestView::of(&object, "omar");
        assert_eq!((answered.may_answer, answered.answered_by.as_deref()), (false, Some("olga")));
    }
}
