//! A folder as it is now: its files, where each object stands in them, and what the compiler says. It is read again
//! when a file changed; what did not change is not parsed again.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use idm_compile::yaml::{FileError, ParsedDocuments, parse_document, read_files_again};
use idm_compile::{Compiled, ObjectId, Settings, compile};
use idm_gateway::source::dir::{self, DirError};
use idm_permission::TEAM_LABEL;
use idm_plan::{KeyEnd, Proof, key_id};
use idm_types::hex;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::documents::{Span, documents};
use crate::failure::Failure;
use crate::kind::ObjectKind;
use crate::place::Understood;
use crate::wire::FindingView;

pub(crate) type Files = Vec<(String, String)>;

/// The facts of a document that are known without looking at it again.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) kind: ObjectKind,
    pub(crate) name: String,
    pub(crate) team: Option<String>,
    pub(crate) version: String,
    /// Name, owner and team in lower case, for searches.
    searched: String,
}

/// A document of the folder.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) head: Arc<Head>,
    pub(crate) file: usize,
    pub(crate) span: Span,
}

/// A key of a Credential: its id, and its end where it has one.
pub(crate) type KeyOf = (String, Option<KeyEnd>);

/// The facts that tell whether a file changed.
type Stamp = Vec<(std::ffi::OsString, u64, Option<SystemTime>, u64)>;

/// One reading of a folder.
pub(crate) struct Snapshot {
    stamp: Stamp,
    pub(crate) namespace: String,
    pub(crate) files: Files,
    pub(crate) rows: BTreeMap<(ObjectKind, String), Row>,
    /// The world and what it compiles to; none where a file cannot be read.
    pub(crate) read: Result<Arc<Understood>, Vec<FileError>>,
    /// The keys of Credentials, by name; those that ended too.
    pub(crate) keys: HashMap<String, Vec<KeyOf>>,
    pub(crate) digest: String,
}

/// Reads a folder again and again.
#[derive(Default)]
pub(crate) struct FolderReader {
    heads: HashMap<[u8; 32], Option<Arc<Head>>>,
    parsed: ParsedDocuments,
    last: Option<Arc<Snapshot>>,
}

impl FolderReader {
    /// The folder as it is now.
    pub(crate) fn now(&mut self, dir: &Path, settings: Settings) -> Result<Arc<Snapshot>, Failure> {
        let stamp = stamp(dir);
        if let Some(last) = self.last.as_ref().filter(|last| last.stamp == stamp && !stamp.is_empty()) {
            return Ok(last.clone());
        }
        let files = match dir::read(dir) {
            Err(DirError::Empty(_)) => Vec::new(),
            read => read.map_err(|error| Failure::unavailable(error.to_string()))?,
        };
        let snapshot = Arc::new(self.read(stamp, files, settings));
        self.last = Some(snapshot.clone());
        Ok(snapshot)
    }

    /// Files as if they were in the folder.
    pub(crate) fn of(&mut self, files: Files, settings: Settings) -> Snapshot {
        self.read(Vec::new(), files, settings)
    }

    fn read(&mut self, stamp: Stamp, files: Files, settings: Settings) -> Snapshot {
        let before = std::mem::take(&mut self.heads);
        let mut rows = BTreeMap::new();
        for (file, (_, text)) in files.iter().enumerate() {
            for span in documents(text) {
                let document = text.get(span.bytes.clone()).unwrap_or_default();
                let digest: [u8; 32] = Sha256::digest(document).into();
                let head = before.get(&digest).cloned().unwrap_or_else(|| head(document, &digest).map(Arc::new));
                self.heads.insert(digest, head.clone());
                if let Some(head) = head {
                    rows.entry((head.kind, head.name.clone())).or_insert(Row { head, file, span });
                }
            }
        }
        let read = read_files_again(&files, settings, &mut self.parsed).map(|(world, _)| {
            let compiled = compile(&world, None);
            Arc::new(Understood { world, compiled, missing: Vec::new() })
        });
        let compiled = read.as_ref().ok().map(|read| &read.compiled);
        let keys = compiled.map(keys_of).unwrap_or_default();
        let digest = compiled.map(|compiled| compiled.seal(1).digest).unwrap_or_default();
        let namespace = read.as_ref().map_or_else(|_| "default".to_owned(), |read| read.world.namespace.clone());
        Snapshot { stamp, namespace, files, rows, read, keys, digest }
    }
}

fn stamp(dir: &Path) -> Stamp {
    use std::os::unix::fs::MetadataExt;
    let mut all: Stamp = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
        .filter_map(|entry| {
            let data = std::fs::metadata(entry.path()).ok()?;
            Some((entry.file_name(), data.len(), data.modified().ok(), data.ino()))
        })
        .collect();
    all.sort();
    all
}

/// The head of a document; `None` for other kinds.
fn head(document: &str, digest: &[u8; 32]) -> Option<Head> {
    let value = parse_document(document).ok()?;
    let kind: ObjectKind = value["kind"].as_str()?.parse().ok()?;
    let api = value["apiVersion"].as_str().unwrap_or_default();
    let is_it = match kind {
        ObjectKind::Ours(_) => api == "identity-manager.io/v1alpha1",
        ObjectKind::Gateway | ObjectKind::HttpRoute => api.starts_with("gateway.networking.k8s.io/"),
        ObjectKind::Service => api == "v1",
    };
    let name = value["metadata"]["name"].as_str().filter(|_| is_it)?.to_owned();
    let team = value["metadata"]["labels"][TEAM_LABEL].as_str().map(str::to_owned);
    let owner = &value["spec"]["owner"];
    let owner = owner["user"].as_str().or(owner["application"].as_str()).unwrap_or_default();
    let searched = format!("{name}\n{owner}\n{}", team.as_deref().unwrap_or_default()).to_lowercase();
    Some(Head { kind, name, team, version: version_of(digest), searched })
}

/// The version of a document: its digest.
pub(crate) fn version_of(digest: &[u8; 32]) -> String {
    hex(digest).get(..32).unwrap_or_default().to_owned()
}

fn keys_of(compiled: &Compiled) -> HashMap<String, Vec<KeyOf>> {
    let mut all: HashMap<String, Vec<KeyOf>> = HashMap::new();
    for credential in &compiled.credentials.all {
        if let Proof::ApiKey { keys, .. } = &credential.proof {
            let keys = keys.all().map(|(sha256, end)| (key_id(sha256).to_owned(), end));
            all.entry(credential.key.name.clone()).or_default().extend(keys);
        }
    }
    for ended in &compiled.credentials.ended {
        let key = (key_id(&ended.sha256).to_owned(), Some(ended.end));
        all.entry(ended.credential.name.clone()).or_default().push(key);
    }
    all
}

/// The rows of a page, and what there is behind them.
pub(crate) struct Found<'s> {
    pub(crate) rows: Vec<&'s Row>,
    pub(crate) next: Option<String>,
    pub(crate) total: u64,
}

impl Snapshot {
    /// The text of a document.
    pub(crate) fn text(&self, row: &Row) -> &str {
        let text = self.files.get(row.file).map(|(_, text)| text.as_str()).unwrap_or_default();
        text.get(row.span.bytes.clone()).unwrap_or_default()
    }

    /// The document as a value.
    pub(crate) fn value(&self, row: &Row) -> Value {
        parse_document(self.text(row)).unwrap_or_default()
    }

    pub(crate) fn row(&self, kind: ObjectKind, name: &str) -> Option<&Row> {
        self.rows.get(&(kind, name.to_owned()))
    }

    /// Rows of a kind behind a name. Nothing is parsed for them.
    pub(crate) fn page(
        &self,
        kind: ObjectKind,
        team: Option<&str>,
        search: Option<&str>,
        after: Option<&str>,
        limit: usize,
    ) -> Found<'_> {
        let from = (Bound::Included((kind, String::new())), Bound::Unbounded);
        let of_kind = self.rows.range(from).take_while(|((of, _), _)| *of == kind).map(|(_, row)| row);
        let (mut rows, mut total, mut more) = (Vec::new(), 0, false);
        for row in of_kind.filter(|row| self.matches(row, team, search)) {
            total += 1;
            if after.is_some_and(|after| row.head.name.as_str() <= after) {
                continue;
            }
            if rows.len() < limit { rows.push(row) } else { more = true }
        }
        let next = rows.last().filter(|_| more).map(|row| row.head.name.clone());
        Found { rows, next, total }
    }

    fn matches(&self, row: &Row, team: Option<&str>, search: Option<&str>) -> bool {
        let of_team = team.is_none_or(|team| row.head.team.as_deref() == Some(team));
        of_team
            && search.is_none_or(|search| {
                let ids = self.keys.get(&row.head.name).filter(|_| row.head.kind.name() == "Credential");
                row.head.searched.contains(search)
                    || ids.is_some_and(|ids| ids.iter().any(|(id, _)| id.contains(search)))
            })
    }

    /// The compiler's findings about an object. A fault of reading is of the object in whose lines it is.
    pub(crate) fn findings(&self, row: &Row) -> Vec<FindingView> {
        match &self.read {
            Ok(read) => {
                let id = ObjectId::new(row.head.kind.name(), &self.namespace, &row.head.name);
                read.compiled.report.about(&id).map(view).collect()
            }
            Err(errors) => {
                let name = self.files.get(row.file).map(|(name, _)| name.as_str()).unwrap_or_default();
                let lines = row.span.lines_before + 1..=row.span.lines_before + self.text(row).lines().count().max(1);
                let here = errors.iter().filter(|error| error.file == name && lines.contains(&error.line));
                here.map(of_file).collect()
            }
        }
    }

    /// Everything that keeps the folder from being served, the faults of one object first.
    pub(crate) fn errors(&self, object: (ObjectKind, &str)) -> Vec<FindingView> {
        let own =
            |finding: &idm_compile::Finding| finding.object.kind == object.0.name() && finding.object.name == object.1;
        match &self.read {
            Err(errors) => errors.iter().map(of_file).collect(),
            Ok(read) => {
                let (own, others): (Vec<_>, Vec<_>) = read.compiled.report.errors().partition(|finding| own(finding));
                let others = others.into_iter().map(|finding| {
                    let message = format!("{}: {}", finding.object, view(finding).message);
                    FindingView { field: String::new(), message, ..view(finding) }
                });
                own.into_iter().map(view).chain(others).collect()
            }
        }
    }
}

pub(crate) fn view(finding: &idm_compile::Finding) -> FindingView {
    FindingView {
        field: finding.path.clone(),
        reason: finding.cause.name().to_owned(),
        message: idm_types::visible(&finding.message).into_owned(),
        is_note: finding.is_note(),
    }
}

/// A fault of reading; its field is in the words of the reader, where it has one.
fn of_file(error: &FileError) -> FindingView {
    let field = field_of(&error.message).unwrap_or_default();
    FindingView { field, reason: "Invalid".into(), message: error.to_string(), is_note: false }
}

/// The field in a message of the reader: `spec.a[0].b: …`, with the one behind "unknown field", if that is the fault.
pub(crate) fn field_of(message: &str) -> Option<String> {
    let is_path = |text: &&str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '[' | ']' | '_');
        !text.is_empty() && text.chars().all(plain)
    };
    let unknown =
        |text: &str| text.strip_prefix("unknown field `")?.split('`').next().filter(is_path).map(str::to_owned);
    let place = message.split(": ").next().filter(is_path);
    let place = place.filter(|place| place.starts_with("spec") || place.starts_with("metadata"));
    match place {
        None => unknown(message),
        Some(place) => {
            let rest = message.split_once(": ").and_then(|(_, rest)| unknown(rest));
            Some(rest.map_or_else(|| place.to_owned(), |field| format!("{place}.{field}")))
        }
    }
}

#[cfg(test)]
mod tests;
