//! Changes of objects: the fields that differ are written, in the name of the person, and only over the content that
//! the change was made of.

use http::Method;
use idm_compile::{Cause, Finding};
use idm_diff::{Content, diff};
use idm_permission::{Denial, Verb};
use kube::Client;
use serde_json::{Value, json};

use super::request::{Answer, Asked, collection, query, send};
use super::{merge, owner, read, text, world};
use crate::failure::{Code, Failure, OwnedElsewhere};
use crate::place::draft::content_of;
use crate::place::folder::snapshot::view as finding_view;
use crate::place::{Draft, ObjectRef};
use crate::wire::{Checked, FindingView};

/// The name under which the API server knows this writer.
const MANAGER: &str = "idm-manager";
/// A status may be written between a read and a write so often.
const TRIES: usize = 5;

/// A change that is ready to be written.
struct Change {
    /// The object as it is; none for a new one.
    now: Option<Value>,
    /// As it shall be.
    wanted: Value,
    /// The fields that change.
    patch: Value,
}

/// # Errors
/// The draft is of another version, or shall be written over an object that another tool writes.
async fn change(client: &Client, draft: &Draft, run: Run) -> Result<Change, Failure> {
    let (wanted, _) = content_of(draft, &draft.object.namespace)?;
    let mut wanted = merge::plain(&wanted);
    wanted["metadata"]["namespace"] = draft.object.namespace.clone().into();
    let Some(version) = &draft.version else {
        return Ok(Change { now: None, patch: wanted.clone(), wanted });
    };
    let now = read::object(client, &draft.object).await?;
    let patch = merge::patch(&merge::plain(&now), &wanted);
    if let Some(managed_by) = owner::of(&now, draft.object.kind.name()).filter(|_| run == Run::Real) {
        let patch = (!merge::is_empty(&patch)).then(|| to_commit(&draft.object, &patch));
        return Err(owned(managed_by, patch));
    }
    if !merge::is_same(&merge::version(&now), version) {
        let conflicts = merge::conflicts(&now, &patch, version);
        let by: Vec<_> = conflicts.iter().map(|one| format!("`{}` by {}", one.field, one.manager)).collect();
        let by = if by.is_empty() { String::new() } else { format!(" ({})", by.join(", ")) };
        let message =
            format!("the object was changed in the meantime{by}: read it again, and make your change to that");
        let field = conflicts.first().map(|one| one.field.clone());
        return Err(Failure { field, conflicts, ..Failure::new(Code::Conflict, message) });
    }
    Ok(Change { now: Some(now), wanted, patch })
}

fn owned(managed_by: crate::wire::ManagedBy, patch: Option<String>) -> Failure {
    let crate::wire::ManagedBy { tool, owner, path } = &managed_by;
    let place = path.as_deref().map(|path| format!(", in {path}")).unwrap_or_default();
    let message = format!("{tool} ({owner}) writes this object: change it where {tool} takes it from{place}");
    let owned = Some(Box::new(OwnedElsewhere { managed_by, patch }));
    Failure { owned, ..Failure::new(Code::ManagedByGit, message) }
}

/// A change as YAML for a repository.
fn to_commit(object: &ObjectRef, patch: &Value) -> String {
    let mut patch = patch.clone();
    patch["apiVersion"] = "identity-manager.io/v1alpha1".into();
    patch["kind"] = object.kind.name().into();
    patch["metadata"]["name"] = object.name.clone().into();
    patch["metadata"]["namespace"] = object.namespace.clone().into();
    serde_yaml_ng::to_string(&patch).unwrap_or_default()
}

/// Whether a write is tried, or done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Run {
    Dry,
    Real,
}

/// Hands a change to the API server. A conflict with a status, which is no conflict, is looked after by the caller.
async fn write(client: &Client, draft: &Draft, change: &Change, run: Run) -> Result<Answer, Failure> {
    let ObjectRef { kind, namespace, name } = &draft.object;
    let dry = if run == Run::Dry { "All" } else { "" };
    let parameters = query(&[("fieldManager", MANAGER), ("fieldValidation", "Strict"), ("dryRun", dry)]);
    let base = collection(*kind, namespace);
    match &change.now {
        None => send(client, Method::POST, &(base + &parameters), Some(("application/json", &change.wanted))).await,
        Some(now) => {
            let mut patch = change.patch.clone();
            for member in ["uid", "resourceVersion"] {
                patch["metadata"][member] = now["metadata"][member].clone();
            }
            let path = format!("{base}/{name}{parameters}");
            send(client, Method::PATCH, &path, Some(("application/merge-patch+json", &patch))).await
        }
    }
}

/// Whether the API server says that the object is of another version by now.
fn is_stale(answer: &Answer, change: &Change) -> bool {
    answer.status == 409 && change.now.is_some() && text(&answer.body, "/reason") == "Conflict"
}

/// Does or tries the change of a draft, and again where only a status came in between.
async fn attempt(client: &Client, draft: &Draft, run: Run) -> Result<(Change, Option<Answer>), Failure> {
    let ObjectRef { kind, namespace, name } = &draft.object;
    for tried in 1.. {
        let change = change(client, draft, run).await?;
        if change.now.is_some() && merge::is_empty(&change.patch) {
            return Ok((change, None));
        }
        let answer = write(client, draft, &change, run).await?;
        if is_stale(&answer, &change) && tried < TRIES {
            continue;
        }
        let verb = if change.now.is_some() { Verb::Update } else { Verb::Create };
        let what = format!("{} `{name}` in namespace {namespace}", kind.name());
        if run == Run::Dry && matches!(answer.status, 400 | 422) {
            return Ok((change, Some(answer)));
        }
        let answer = answer.done(&Asked::on(verb, *kind, namespace, &what))?;
        return Ok((change, Some(answer)));
    }
    Err(Failure::unavailable("the object changes all the time: try again"))
}

/// Makes or changes an object; returns it as the API server has it.
pub(super) async fn save(client: &Client, draft: &Draft) -> Result<Value, Failure> {
    let (change, answer) = attempt(client, draft, Run::Real).await?;
    Ok(answer.map(|answer| answer.body).or(change.now).unwrap_or_default())
}

/// The effects of a change: the API server tries it, and the compiler reads the namespace as it would be.
pub(super) async fn check(client: &Client, draft: &Draft) -> Result<Checked, Failure> {
    let (change, answer) = attempt(client, draft, Run::Dry).await?;
    let kind = draft.object.kind.name();
    let (mut findings, mut warnings) = (Vec::new(), Vec::new());
    let mut wanted = change.wanted.clone();
    if let Some(answer) = answer {
        warnings.clone_from(&answer.warnings);
        let what = format!("{kind} `{}`", draft.object.name);
        match answer.done(&Asked::plain(&what)) {
            // With the defaults of the schema.
            Ok(answer) => wanted = answer.body,
            Err(Failure { findings: told, message, field, .. }) => findings.extend(match told.is_empty() {
                false => told,
                true => vec![FindingView {
                    field: field.unwrap_or_default(),
                    reason: "Invalid".into(),
                    message,
                    is_note: false,
                }],
            }),
        }
    }
    if findings.is_empty() {
        let (told, unread) = compiled(client, draft, wanted).await?;
        findings.extend(told);
        warnings.extend(unread);
    }
    let before = change.now.as_ref().map(Content::of_json);
    let lines = diff(kind, before.as_ref(), Some(&Content::of_json(&change.wanted)));
    let is_unchanged = change.now.is_some() && merge::is_empty(&change.patch);
    Ok(Checked { diff: lines, findings, warnings, unchanged: is_unchanged })
}

/// The findings about the object, and those about others that it would cause; and what could not be read for them.
async fn compiled(client: &Client, draft: &Draft, wanted: Value) -> Result<(Vec<FindingView>, Vec<String>), Failure> {
    let ObjectRef { kind, namespace, name } = &draft.object;
    let objects = world::Objects::read(client, namespace).await?;
    let before = objects.compiled(client, None).await?;
    let after = objects.compiled(client, Some(&wanted)).await?;
    let id = idm_compile::ObjectId::new(kind.name(), namespace, name);
    let own = after.compiled.report.about(&id).map(|finding| as_far_as_known(finding, &after.missing));
    let known: Vec<_> = before.compiled.report.errors().collect();
    let new = after.compiled.report.errors().filter(|finding| finding.object != id && !known.contains(finding));
    let others = new.map(|finding| {
        let message = format!("{}: {}", finding.object, finding_view(finding).message);
        FindingView { field: String::new(), message, ..finding_view(finding) }
    });
    let unread = after
        .missing
        .iter()
        .map(|missing| format!("without `{}` in {} this is not checked whole", missing.permission, missing.scope));
    Ok((own.chain(others).collect(), unread.collect()))
}

/// A finding that something is not there is none where the person may not read its kind, which the finding names.
fn as_far_as_known(finding: &Finding, missing: &[Denial]) -> FindingView {
    let shown = finding_view(finding);
    let looks = [Cause::TargetNotFound, Cause::RefNotFound, Cause::RefNotPermitted, Cause::InvalidRef];
    let is_named = |missing: &&Denial| match missing.kind.as_deref() {
        // A Gateway of no class is nobody's, and neither are its routes.
        Some("GatewayClass") => ["Gateway", "Route"].iter().any(|kind| shown.message.contains(kind)),
        kind => kind.is_some_and(|kind| shown.message.contains(kind)),
    };
    let lacking: Vec<_> = missing.iter().filter(is_named).map(|missing| missing.permission.as_str()).collect();
    if lacking.is_empty() || !looks.contains(&finding.cause) {
        return shown;
    }
    let message = format!("{} (or you may not read it: you lack {})", shown.message, lacking.join(", "));
    FindingView { message, is_note: true, ..shown }
}

/// Deletes the object of a version.
pub(super) async fn delete(client: &Client, object: &ObjectRef, version: &str) -> Result<(), Failure> {
    let ObjectRef { kind, namespace, name } = object;
    kind.editable()?;
    let what = format!("{} `{name}` in namespace {namespace}", kind.name());
    for tried in 1.. {
        let now = read::object(client, object).await?;
        if let Some(managed_by) = owner::of(&now, kind.name()) {
            return Err(owned(managed_by, None));
        }
        if !merge::is_same(&merge::version(&now), version) {
            let message = "the object was changed in the meantime: read it again, and decide then";
            return Err(Failure::new(Code::Conflict, message));
        }
        let exactly = json!({"uid": now["metadata"]["uid"], "resourceVersion": now["metadata"]["resourceVersion"]});
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": exactly});
        let path = format!("{}/{name}", collection(*kind, namespace));
        let answer = send(client, Method::DELETE, &path, Some(("application/json", &options))).await?;
        if answer.status == 409 && text(&answer.body, "/reason") == "Conflict" && tried < TRIES {
            continue;
        }
        return answer.done(&Asked::on(Verb::Delete, *kind, namespace, &what)).map(drop);
    }
    Err(Failure::unavailable("the object changes all the time: try again"))
}
