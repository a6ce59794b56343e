//! The objects that the JOSE steps of a policy's draft would make of a sample request, decided and made by the code of
//! the gateway, in memory.
//!
//! The keys are the real ones, so an object that is made here would be believed: neither its signature nor its
//! ciphertext is in the answer, and nothing else of the request that the upstream would get.

use idm_decide::{Assumed, Assumption, Hypotheses, Hypothetical, Rehearsal};
use idm_jose::base64url;
use idm_plan::{Bundle, Destination, JoseStepKind, Message, ObjectKey, Policy, Produce};
use idm_types::{RoleName, Timestamp, visible};
use serde_json::Value;

use super::explain::{hypothetical, undecided};
use crate::call::{Call, blocking};
use crate::failure::{Code, Failure};
use crate::place::Draft;
use crate::wire::preview::{PreviewRequest, PreviewStep, PreviewView};

/// Steps that are tried; each needs an engine of its own.
const MOST_STEPS: usize = 8;
/// Characters of a text that is no JSON.
const MOST_TEXT: usize = 4096;

pub(crate) async fn preview(call: Call, body: PreviewRequest) -> Result<PreviewView, Failure> {
    let key = ObjectKey::new(&body.draft.namespace, &body.draft.name);
    if body.draft.kind != "IdentityPolicy" {
        return Err(Failure::invalid("only an IdentityPolicy has steps").at("draft.kind"));
    }
    let asked = sample(&body)?;
    let read = call.manager.place.drafted(&call.person, Draft::of(body.draft)?).await?;
    let bundle = read.compiled.seal(1);
    let policy = bundle.plan.policies.iter().find(|policy| policy.key == key).cloned();
    let policy = policy.ok_or_else(|| Failure::new(Code::NotFound, "the draft would not be in force: check it"))?;
    let runtime = tokio::runtime::Handle::current();
    // A decision stays on one thread.
    blocking(move || runtime.block_on(made(&bundle, &policy, &asked))).await?
}

fn sample(body: &PreviewRequest) -> Result<Hypothetical, Failure> {
    let PreviewRequest { request, body, caller, .. } = body;
    let invalid = |field: &str, why: &str| Failure::invalid(format!("`{field}`: {why}")).at(field);
    let asked = hypothetical(request)?;
    if caller.username.is_empty() {
        return Err(invalid("caller.username", "it must have a name"));
    }
    let roles: Result<Vec<RoleName>, _> = caller.roles.iter().map(|role| role.parse()).collect();
    let roles = roles.map_err(|_| invalid("caller.roles", "each must be the name of a role"))?;
    let caller = Assumption { username: caller.username.clone(), claims: caller.claims.clone(), method: None };
    let body = body.clone().into_bytes().into();
    Ok(Hypothetical { body, caller: Some(Assumed { caller, roles }), ..asked })
}

async fn made(bundle: &Bundle, policy: &Policy, asked: &Hypothetical) -> Result<PreviewView, Failure> {
    let mut view = PreviewView { steps: Vec::new(), left_out: Vec::new() };
    for (place, step) in policy.jose.iter().enumerate() {
        let JoseStepKind::Produce(produce) = &step.kind else { continue };
        let name = step.name.to_string();
        if produce.message == Message::Response || view.steps.len() >= MOST_STEPS {
            view.left_out.push(name);
            continue;
        }
        let object = object(bundle, policy, place, produce, asked).await?;
        view.steps.push(PreviewStep { name, ..object });
    }
    Ok(view)
}

/// The object of one step. Later steps are left out, so that none of them takes its place.
async fn object(
    bundle: &Bundle,
    policy: &Policy,
    place: usize,
    produce: &Produce,
    asked: &Hypothetical,
) -> Result<PreviewStep, Failure> {
    let to = match &produce.to {
        Destination::Header(name) => name.clone(),
        Destination::Body { .. } | Destination::Nowhere => "body".to_owned(),
    };
    let none =
        PreviewStep { name: String::new(), to, bytes: 0, encrypted: None, signed: None, payload: None, refused: None };
    let text = match run(bundle, policy, place, true, produce, asked).await? {
        Ok(text) => text,
        Err(why) => return Ok(PreviewStep { refused: Some(why), ..none }),
    };
    let encrypted = produce.encrypt.as_ref().map(|_| header_of(&text));
    // The content of an encrypted object is that of the same step without its encryption.
    let inside = match &produce.encrypt {
        None => Ok(text.clone()),
        Some(_) => run(bundle, policy, place, false, produce, asked).await?,
    };
    let Ok(inside) = inside else { return Ok(PreviewStep { bytes: text.len() as u64, encrypted, ..none }) };
    let (signed, payload) = match &produce.sign {
        Some(_) => (Some(header_of(&inside)), payload_of(&inside)),
        None => (None, Some(content(&inside))),
    };
    Ok(PreviewStep { bytes: text.len() as u64, encrypted, signed, payload, ..none })
}

/// The object as text, or why the request is refused.
async fn run(
    bundle: &Bundle,
    policy: &Policy,
    place: usize,
    encrypts: bool,
    produce: &Produce,
    asked: &Hypothetical,
) -> Result<Result<String, String>, Failure> {
    let mut plan = bundle.plan.clone();
    let policies = plan.policies.iter_mut().filter(|known| known.key == policy.key);
    for known in policies {
        known.jose.truncate(place + 1);
        if let (false, Some(JoseStepKind::Produce(last))) = (encrypts, known.jose.last_mut().map(|step| &mut step.kind))
        {
            last.encrypt = None;
        }
    }
    let bundle = Bundle::seal(plan, bundle.secrets.clone(), bundle.credentials.clone(), 1);
    let no_threads = || Failure::unavailable("the system gives no threads");
    let hypotheses = Hypotheses::new(bundle).ok_or_else(no_threads)?;
    let tried = hypotheses.rehearse(asked, Timestamp::now()).await;
    let Rehearsal { told, forwarded } = tried.map_err(undecided)?;
    let by_other = told.record.value()["policy"]["name"].as_str().is_some_and(|name| name != policy.key.name);
    let Some(forwarded) = forwarded.filter(|_| !by_other) else {
        let why = match by_other {
            true => "another policy decides about this request: give a method and a URL that this one protects".into(),
            false => told.to_string(),
        };
        return Ok(Err(why));
    };
    let text = match &produce.to {
        Destination::Header(name) => {
            forwarded.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        }
        Destination::Body { .. } | Destination::Nowhere => String::from_utf8(forwarded.body.to_vec()).ok(),
    };
    Ok(text.ok_or_else(|| "the step made nothing that is text".to_owned()))
}

/// The protected header of a compact or flattened object.
fn header_of(text: &str) -> Value {
    let parsed = serde_json::from_str::<Value>(text).ok();
    let protected = match &parsed {
        Some(object) => object["protected"].as_str(),
        None => text.split('.').next(),
    };
    protected.map_or(Value::Null, decoded)
}

/// The payload of a signed object; `None` where it travels apart from the signature.
fn payload_of(text: &str) -> Option<Value> {
    let parsed = serde_json::from_str::<Value>(text).ok();
    let part = match &parsed {
        Some(object) => object["payload"].as_str(),
        None => text.split('.').nth(1),
    };
    part.filter(|part| !part.is_empty()).map(decoded)
}

fn decoded(part: &str) -> Value {
    let bytes = base64url(part).unwrap_or_default();
    content(&String::from_utf8_lossy(&bytes))
}

/// JSON as it is, and other text bounded, with control characters made visible.
fn content(text: &str) -> Value {
    serde_json::from_str(text)
        .unwrap_or_else(|_| Value::String(visible(&text.chars().take(MOST_TEXT).collect::<String>()).into_owned()))
}
