//! Changes of a folder: what is written compiles, and what compiles is on record.

use std::sync::Arc;

use idm_audit::{Action, Change, ChangeBy, ChangeOrigin, Evidence, ObjectName, Record, SCHEMA, SpoolHandle, Storing};
use idm_diff::{Content, diff};
use idm_permission::Kind;
use idm_types::Timestamp;
use serde_json::{Value, json};

use super::documents::{removed, replaced};
use super::files::{FolderLock, remove, write};
use super::snapshot::Snapshot;
use super::{Inner, made, view};
use crate::credential::FolderCredentials;
use crate::failure::{Code, Failure};
use crate::kind::ObjectKind;
use crate::manager::new_id;
use crate::place::draft::{content_of, failed, wrong};
use crate::place::{Draft, ObjectRef, Understood};
use crate::session::Person;
use crate::wire::{Checked, MadeKey, ObjectView, Revoked};

/// A change that was made, for the audit.
pub(super) struct Recorded {
    action: Action,
    kind: &'static str,
    namespace: String,
    name: String,
    version: String,
    diff: Vec<String>,
}

impl Recorded {
    /// Hands the record to the spool.
    pub(super) fn tell(self, person: &Person, spool: &SpoolHandle) -> Storing {
        let Self { action, kind, namespace, name, version, diff } = self;
        let time = Timestamp::now();
        let id = new_id(time);
        spool.record_durably(&Record::Change(Change {
            time,
            id: &id,
            schema: SCHEMA,
            action,
            object: ObjectName {
                kind,
                namespace: &namespace,
                name: &name,
                uid: &format!("{kind}/{name}"),
                generation: 1,
                version: &version,
            },
            actor: &person.name,
            by: ChangeBy {
                evidence: Evidence::Authenticated,
                names: std::slice::from_ref(&person.name),
                uid: &person.uid,
                groups: &person.groups,
                manager: "idm-manager",
            },
            origin: Some(ChangeOrigin {
                tool: "idm-manager",
                evidence: Evidence::Asserted,
                application: None,
                revision: None,
                mismatched: false,
            }),
            between: None,
            diff: &diff,
        }))
    }
}

/// A folder as a draft would make it.
struct Candidate {
    /// The file and its new content.
    file: String,
    text: String,
    after: Snapshot,
    diff: Vec<String>,
}

/// # Errors
/// The draft is no single document of the object that it is for, or was made of another version.
fn candidate(inner: &Inner, before: &Snapshot, draft: &Draft) -> Result<Candidate, Failure> {
    let Draft { object, version, .. } = draft;
    let (value, document) = content_of(draft, "default")?;
    if object.namespace != before.namespace {
        return Err(wrong("metadata.namespace", &before.namespace));
    }
    let row = before.row(object.kind, &object.name);
    let (file, text) = match (row, version) {
        (Some(row), Some(version)) if row.head.version == *version => {
            let (file, text) = before.files.get(row.file).cloned().unwrap_or_default();
            let text = replaced(&text, &row.span, document);
            (file, text)
        }
        (Some(_), Some(_)) => return Err(stale()),
        (Some(_), None) => {
            let message = format!("{} `{}` exists: change it with its version", object.kind.name(), object.name);
            return Err(Failure::new(Code::Conflict, message));
        }
        (None, Some(_)) => return Err(Failure::new(Code::NotFound, "the object is gone")),
        (None, None) => {
            let file = format!("{}-{}.yaml", object.kind.name().to_ascii_lowercase(), object.name);
            if before.files.iter().any(|(known, _)| *known == file) {
                return Err(Failure::new(Code::Conflict, format!("there is another object in {file}: move it first")));
            }
            let end = if document.ends_with('\n') { "" } else { "\n" };
            (file, [document, end].concat())
        }
    };
    let mut files = before.files.clone();
    match files.iter_mut().find(|(known, _)| *known == file) {
        Some((_, known)) => known.clone_from(&text),
        None => files.push((file.clone(), text.clone())),
    }
    files.sort();
    let after = inner.with(files);
    let old = row.map(|row| Content::of_json(&before.value(row)));
    let diff = diff(object.kind.name(), old.as_ref(), Some(&Content::of_json(&value)));
    Ok(Candidate { file, text, after, diff })
}

fn stale() -> Failure {
    let message = "the object was changed in the meantime: read it again, and make your change to that";
    Failure::new(Code::Conflict, message)
}

pub(super) fn check(inner: &Inner, draft: &Draft) -> Result<Checked, Failure> {
    let before = inner.now()?;
    let Candidate { after, diff, .. } = candidate(inner, &before, draft)?;
    let object = (draft.object.kind, draft.object.name.as_str());
    let own = after.row(object.0, object.1).map(|row| after.findings(row)).unwrap_or_default();
    let mut findings = after.errors(object);
    findings.extend(own.into_iter().filter(|finding| finding.is_note));
    Ok(Checked { unchanged: diff.is_empty(), diff, findings, warnings: Vec::new() })
}

/// The folder as it would be with the draft.
pub(super) fn drafted(inner: &Inner, draft: &Draft) -> Result<Arc<Understood>, Failure> {
    let before = inner.now()?;
    let Candidate { after, .. } = candidate(inner, &before, draft)?;
    let errors = after.errors((draft.object.kind, &draft.object.name));
    match &after.read {
        Ok(read) if errors.is_empty() => Ok(read.clone()),
        _ => Err(Failure::refused(errors)),
    }
}

pub(super) fn save(inner: &Inner, draft: &Draft) -> Result<(ObjectView, Vec<Recorded>), Failure> {
    let _lock = lock(inner)?;
    let before = inner.now()?;
    let Candidate { file, text, after, diff } = candidate(inner, &before, draft)?;
    let object = &draft.object;
    let errors = after.errors((object.kind, &object.name));
    if !errors.is_empty() {
        return Err(Failure::refused(errors));
    }
    write(&inner.dir.join(&file), &text).map_err(|error| not_written(&inner.dir.join(&file), &error))?;
    let shown = view::object(&*inner.now()?, object)?;
    let action = if draft.version.is_some() { Action::Updated } else { Action::Created };
    let changes = recorded(action, object, &shown.item.version, diff);
    Ok((shown, changes))
}

pub(super) fn delete(inner: &Inner, object: &ObjectRef, version: &str) -> Result<((), Vec<Recorded>), Failure> {
    object.kind.editable()?;
    let _lock = lock(inner)?;
    let before = inner.here(&object.namespace)?;
    let row = view::row(&before, object)?;
    if row.head.version != version {
        return Err(stale());
    }
    let (file, text) = before.files.get(row.file).cloned().unwrap_or_default();
    let left = removed(&text, &row.span);
    let mut files = before.files.clone();
    files.retain(|(known, _)| *known != file);
    files.extend(left.iter().map(|left| (file.clone(), left.clone())));
    files.sort();
    let after = inner.with(files);
    let errors = after.errors((object.kind, &object.name));
    if !errors.is_empty() {
        return Err(Failure::refused(errors));
    }
    let path = inner.dir.join(&file);
    match left {
        Some(left) => write(&path, &left),
        None => remove(&path),
    }
    .map_err(|error| not_written(&path, &error))?;
    let old = Content::of_json(&before.value(row));
    let diff = diff(object.kind.name(), Some(&old), None);
    Ok(((), recorded(Action::Deleted, object, "", diff)))
}

fn lock(inner: &Inner) -> Result<FolderLock, Failure> {
    FolderLock::take(&inner.dir).map_err(|error| not_written(&inner.dir, &error))
}

fn not_written(path: &std::path::Path, error: &std::io::Error) -> Failure {
    Failure::unavailable(format!("{} cannot be written: {error}", path.display()))
}

fn recorded(action: Action, object: &ObjectRef, version: &str, diff: Vec<String>) -> Vec<Recorded> {
    let ObjectRef { kind, namespace, name } = object;
    let (namespace, name, version) = (namespace.clone(), name.clone(), version.to_owned());
    vec![Recorded { action, kind: kind.name(), namespace, name, version, diff }]
}

/// A Credential of the folder's namespace, and the keys of the folder.
fn of_credential(inner: &Inner, namespace: &str, name: &str) -> Result<(ObjectRef, FolderCredentials), Failure> {
    inner.here(namespace)?;
    let kind = ObjectKind::Ours(Kind::Credential);
    let object = ObjectRef { kind, namespace: namespace.to_owned(), name: name.to_owned() };
    Ok((object, FolderCredentials::open(&inner.dir).map_err(failed)?))
}

pub(super) fn create_credential(
    inner: &Inner,
    namespace: &str,
    name: &str,
    spec: Value,
) -> Result<(MadeKey, Vec<Recorded>), Failure> {
    let (object, folder) = of_credential(inner, namespace, name)?;
    let new = folder.create(name, spec.clone()).map_err(failed)?;
    let diff = diff(object.kind.name(), None, Some(&Content::of_json(&json!({"metadata": {}, "spec": spec}))));
    let lines = diff.into_iter().chain([format!("keys: added {}", new.id)]).collect();
    Ok((made(new), recorded(Action::Created, &object, "", lines)))
}

pub(super) fn rotate(
    inner: &Inner,
    namespace: &str,
    name: &str,
    overlap_seconds: u64,
) -> Result<(MadeKey, Vec<Recorded>), Failure> {
    let (object, folder) = of_credential(inner, namespace, name)?;
    let overlap = overlap_seconds.saturating_mul(1000);
    let new = folder.rotate(name, overlap, Timestamp::now()).map_err(failed)?;
    let mut lines = vec![format!("keys: added {}", new.id)];
    lines.extend(new.old.as_ref().map(|(id, until)| format!("keys: {id} works until {until}")));
    Ok((made(new), recorded(Action::Updated, &object, "", lines)))
}

pub(super) fn revoke(
    inner: &Inner,
    namespace: &str,
    name: &str,
    key: Option<&str>,
) -> Result<(Revoked, Vec<Recorded>), Failure> {
    let (object, folder) = of_credential(inner, namespace, name)?;
    let revoked = folder.revoke(name, key, Timestamp::now()).map_err(failed)?;
    let lines = vec![format!("keys: revoked {}", revoked.join(", "))];
    Ok((Revoked { revoked }, recorded(Action::Updated, &object, "", lines)))
}
