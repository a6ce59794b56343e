//! Records as they are shown, and the page that begins with them.

use std::collections::BTreeMap;

use idm_audit::{RecordKind, StoredRecord};
use idm_permission::Denial;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::GatewayView;

/// A record in a list.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AuditItem {
    /// Its id.
    pub(crate) id: String,
    /// Its time.
    pub(crate) time: String,
    /// `Decision` or `Change`.
    pub(crate) kind: String,
    /// How a decision came out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) outcome: Option<String>,
    /// The kind of change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) action: Option<String>,
    /// The reason of a refusal or failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// The status that the caller got.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<u16>,
    /// The caller, or the author.
    pub(crate) who: String,
    /// The namespace.
    pub(crate) namespace: String,
    /// The request, or the change.
    pub(crate) title: String,
    /// How sure the author of a change is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) evidence: Option<String>,
}

impl AuditItem {
    pub(crate) fn of(record: &StoredRecord) -> Self {
        let is_change = record.kind() == Some(RecordKind::Change);
        let outcome = record.outcome().to_owned();
        let (outcome, action) = if is_change { (None, Some(outcome)) } else { (Some(outcome), None) };
        let title = match &action {
            Some(action) => format!("{action} {}", record.title()),
            None => record.title(),
        };
        Self {
            id: record.id().to_owned(),
            time: record.time().to_owned(),
            kind: record.kind().map(RecordKind::name).unwrap_or_default().to_owned(),
            outcome,
            action,
            reason: record.reason().map(str::to_owned),
            status: record.status(),
            who: record.who().to_owned(),
            namespace: record.namespace().to_owned(),
            title,
            evidence: record.evidence().map(str::to_owned),
        }
    }
}

/// Records, the newest first.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AuditPage {
    /// The records.
    pub(crate) items: Vec<AuditItem>,
    /// Older ones may be before it: give it as `before`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
    /// False when the page is short because looking for more takes longer: ask on with `next`.
    pub(crate) complete: bool,
}

/// One record.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AuditEntry {
    /// As in a list.
    pub(crate) item: AuditItem,
    /// The verdict, the checks in order, the remedy.
    pub(crate) explanation: String,
    /// The whole record.
    pub(crate) record: Value,
}

/// Whether identity is healthy.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Home {
    /// The time of this answer.
    pub(crate) as_of: String,
    /// The gateways.
    pub(crate) gateways: Vec<GatewayView>,
    /// Decisions of the last hour.
    pub(crate) decisions: Decisions,
    /// The most frequent reasons of refusals of the last hour.
    pub(crate) reasons: Vec<ReasonCount>,
    /// The last 60 minutes.
    pub(crate) per_minute: Vec<Minute>,
    /// Objects that are not in force.
    pub(crate) failing: Vec<Failing>,
    /// The credentials and keys that end within 14 days.
    pub(crate) expiring: Vec<Expiring>,
    /// The newest changes.
    pub(crate) changes: Vec<AuditItem>,
    /// Why there are no records to count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) audit_note: Option<String>,
}

/// Numbers of decisions.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Decisions {
    /// Counted from here on.
    pub(crate) since: String,
    /// Let through.
    pub(crate) permitted: u64,
    /// Refused.
    pub(crate) denied: u64,
    /// Let through, and then failed.
    pub(crate) failed: u64,
}

/// A reason with its number.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReasonCount {
    /// The reason.
    pub(crate) reason: String,
    /// How often.
    pub(crate) count: u64,
}

/// The decisions of a minute.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Minute {
    /// Its beginning.
    pub(crate) time: String,
    /// Let through.
    pub(crate) permitted: u64,
    /// Refused.
    pub(crate) denied: u64,
    /// Let through, and then failed.
    pub(crate) failed: u64,
}

/// An object that is not in force.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Failing {
    /// Its kind.
    pub(crate) kind: String,
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// The reason, in one word.
    pub(crate) reason: String,
    /// The fault and its remedy.
    pub(crate) message: String,
}

/// Something that ends soon.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Expiring {
    /// The object's kind.
    pub(crate) kind: String,
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// The thing that ends: `the Credential`, or a key by its id.
    pub(crate) what: String,
    /// When.
    pub(crate) time: String,
}

/// The roles and who has them.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Matrix")]
pub(crate) struct MatrixView {
    /// The built-in roles by tier.
    pub(crate) roles: Vec<MatrixRole>,
    /// The RoleBindings that give permissions.
    pub(crate) bindings: Vec<MatrixBinding>,
    /// The permissions that the person lacks: what they are for is not in the table.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) missing: Vec<Denial>,
    /// Every verb.
    pub(crate) verbs: Vec<&'static str>,
    /// Every kind.
    pub(crate) kinds: Vec<&'static str>,
}

/// A role in a tier.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MatrixRole {
    /// The role.
    pub(crate) role: &'static str,
    /// `System`, `Project` or `Team`.
    pub(crate) scope: String,
    /// Verbs by kind.
    pub(crate) cells: BTreeMap<&'static str, Vec<&'static str>>,
}

/// A RoleBinding.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MatrixBinding {
    /// As `namespace/name`.
    pub(crate) binding: String,
    /// Its role; `listed` where it lists permissions itself.
    pub(crate) role: &'static str,
    /// The scope in words.
    pub(crate) scope: String,
    /// To whom it gives the role.
    pub(crate) subjects: Vec<String>,
    /// Verbs by kind.
    pub(crate) cells: BTreeMap<&'static str, Vec<&'static str>>,
}
