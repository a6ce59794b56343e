//! Objects of a folder as they are shown.

use std::path::Path;

use idm_compile::effective;
use idm_gateway::Gateway;
use idm_permission::Kind;
use idm_plan::{ObjectKey, key_state};
use idm_types::Timestamp;
use serde_json::Value;

use super::super::summary::{MOST_SHOWN, SOON_MS, summary};
use super::super::{ListQuery, ObjectRef};
use super::snapshot::{KeyOf, Row, Snapshot};
use crate::failure::{Code, Failure};
use crate::kind::ObjectKind;
use crate::session::Person;
use crate::wire::audit::{Expiring, Failing};
use crate::wire::{FindingView, GatewayView, Item, KeyView, ObjectView, Page, Ready};

/// The owner of a folder, by the name that the system has for them.
pub(super) fn owner(dir: &Path) -> Person {
    use std::os::unix::fs::MetadataExt;
    let uid = std::fs::metadata(dir).map(|data| data.uid().to_string()).unwrap_or_default();
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let of = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        (fields.nth(1)? == uid).then_some(name)
    };
    let name = users.lines().find_map(of).unwrap_or_else(|| format!("uid {uid}"));
    Person { name, uid, groups: Vec::new(), access: None }
}

pub(super) fn page(snapshot: &Snapshot, query: &ListQuery) -> Page {
    let ListQuery { kind, namespace: _, team, search, limit, after } = query;
    let found = snapshot.page(*kind, team.as_deref(), search.as_deref(), after.as_deref(), *limit);
    let items = found.rows.iter().map(|row| item(snapshot, row)).collect();
    Page { items, next: found.next, total: Some(found.total) }
}

pub(super) fn object(snapshot: &Snapshot, object: &ObjectRef) -> Result<ObjectView, Failure> {
    let row = row(snapshot, object)?;
    let is_credential = object.kind == ObjectKind::Ours(Kind::Credential);
    Ok(ObjectView {
        item: item(snapshot, row),
        yaml: snapshot.text(row).to_owned(),
        file: snapshot.files.get(row.file).map(|(name, _)| name.clone()),
        line: Some(row.span.lines_before + 1),
        findings: snapshot.findings(row),
        keys: is_credential.then(|| keys(snapshot, row, Timestamp::now())),
        effective: effective_of(snapshot, object),
    })
}

/// The settings of a policy that are in force, each with its source.
fn effective_of(snapshot: &Snapshot, object: &ObjectRef) -> Option<Value> {
    let is_policy = object.kind == ObjectKind::Ours(Kind::IdentityPolicy);
    let read = snapshot.read.as_ref().ok().filter(|_| is_policy)?;
    let key = ObjectKey::new(&object.namespace, &object.name);
    effective(&read.world, &read.compiled, &key).and_then(|policy| serde_json::to_value(policy).ok())
}

pub(super) fn row<'s>(snapshot: &'s Snapshot, object: &ObjectRef) -> Result<&'s Row, Failure> {
    let missing = || {
        let message = format!("there is no {} `{}` in this folder", object.kind.name(), object.name);
        Failure::new(Code::NotFound, message)
    };
    snapshot.row(object.kind, &object.name).ok_or_else(missing)
}

fn item(snapshot: &Snapshot, row: &Row) -> Item {
    Item {
        kind: row.head.kind.name().to_owned(),
        namespace: snapshot.namespace.clone(),
        name: row.head.name.clone(),
        team: row.head.team.clone(),
        ready: ready(&snapshot.findings(row)),
        summary: summary(&snapshot.value(row), row.head.kind, &keys(snapshot, row, Timestamp::now())),
        version: row.head.version.clone(),
        managed_by: None,
    }
}

fn ready(findings: &[FindingView]) -> Ready {
    let (status, reason, message) = match findings.iter().find(|finding| !finding.is_note).or(findings.first()) {
        None => ("True", "Ready", ""),
        Some(finding) if finding.is_note => ("True", finding.reason.as_str(), finding.message.as_str()),
        Some(finding) => ("False", finding.reason.as_str(), finding.message.as_str()),
    };
    Ready { status: status.to_owned(), reason: reason.to_owned(), message: message.to_owned() }
}

fn keys(snapshot: &Snapshot, row: &Row, now: Timestamp) -> Vec<KeyView> {
    let shown = |(id, end): &KeyOf| {
        let until_time = end.filter(|end| end.at.0 > 0).map(|end| end.at.rfc3339());
        KeyView { id: id.clone(), state: key_state(*end, now).to_owned(), until_time }
    };
    let known = snapshot.keys.get(&row.head.name).filter(|_| row.head.kind == ObjectKind::Ours(Kind::Credential));
    known.into_iter().flatten().map(shown).collect()
}

/// Objects that are not in force, and what ends within two weeks.
pub(super) fn attention(snapshot: &Snapshot, now: Timestamp) -> (Vec<Failing>, Vec<Expiring>) {
    let named = |row: &Row| (row.head.kind.name().to_owned(), snapshot.namespace.clone(), row.head.name.clone());
    let mut failing = Vec::new();
    for row in snapshot.rows.values() {
        if failing.len() >= MOST_SHOWN {
            break;
        }
        let ready = ready(&snapshot.findings(row));
        if ready.status == "False" {
            let (kind, namespace, name) = named(row);
            failing.push(Failing { kind, namespace, name, reason: ready.reason, message: ready.message });
        }
    }
    let soon = |at: Timestamp| now < at && at.0 - now.0 <= SOON_MS;
    let mut expiring = Vec::new();
    let credentials = snapshot.read.iter().flat_map(|read| &read.world.credentials);
    for credential in credentials {
        let of = |what: String, at: Timestamp| Expiring {
            kind: "Credential".to_owned(),
            namespace: snapshot.namespace.clone(),
            name: credential.meta.name.clone(),
            what,
            time: at.rfc3339(),
        };
        let end = credential.spec.expire_time.as_deref().and_then(Timestamp::parse_rfc3339);
        expiring.extend(end.filter(|at| soon(*at)).map(|at| of("the Credential".to_owned(), at)));
        let keys = snapshot.keys.get(&credential.meta.name).into_iter().flatten();
        let ending = keys.filter_map(|(id, end)| end.filter(|end| soon(end.at)).map(|end| (id, end.at)));
        expiring.extend(ending.map(|(id, at)| of(format!("key {id}"), at)));
    }
    expiring.sort_by(|a, b| (&a.time, &a.name).cmp(&(&b.time, &b.name)));
    expiring.truncate(MOST_SHOWN);
    (failing, expiring)
}

/// The gateway of this process: it serves the folder when its digest is that of the folder.
pub(super) fn gateway(snapshot: &Snapshot, gateway: &Gateway) -> GatewayView {
    let (generation, digest) = gateway.version().unwrap_or_default();
    let is_newest = !snapshot.digest.is_empty() && digest == snapshot.digest;
    let message = match (&snapshot.read, gateway.error()) {
        (_, Some(error)) => error,
        (Err(_), None) => "a file of the folder is broken; the last good configuration keeps serving".to_owned(),
        (Ok(read), None) if read.compiled.report.errors().next().is_some() => {
            "an object of the folder is broken; the last good configuration keeps serving".to_owned()
        }
        _ if is_newest => String::new(),
        _ => "the newest configuration is not in force yet".to_owned(),
    };
    GatewayView {
        namespace: snapshot.namespace.clone(),
        name: gateway.name().to_owned(),
        generation,
        digest,
        ready: u32::from(is_newest),
        wanted: 1,
        message: idm_types::visible(&message).into_owned(),
    }
}
