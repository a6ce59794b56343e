//! Everything that can go wrong with a request, and the one place that says what its caller sees of it.

use idm_permission::Denial;
use idm_types::visible;
use schemars::JsonSchema;
use serde::Serialize;

use crate::wire::{FindingView, ManagedBy};

/// The class of a failure, by which programs tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) enum Code {
    /// The request itself is wrong.
    Invalid,
    /// There is no session, or it has ended.
    NoSession,
    /// The person may not do this.
    Forbidden,
    /// There is no such object, record or address.
    NotFound,
    /// The address knows other methods.
    MethodNotAllowed,
    /// The object changed in the meantime, or somebody else owns the field.
    Conflict,
    /// Another tool takes the object from elsewhere: change it there.
    ManagedByGit,
    /// The body is too large.
    TooLarge,
    /// The body is not JSON.
    UnsupportedMediaType,
    /// The request was sent to a name that is not this server's.
    Misdirected,
    /// The compiler or the API server refuses the object.
    Refused,
    /// The Manager was started without what this needs.
    NotConfigured,
    /// Something that is needed does not answer.
    Unavailable,
}

impl Code {
    /// The status of the answer.
    pub(crate) const fn status(self) -> u16 {
        match self {
            Code::Invalid => 400,
            Code::NoSession => 401,
            Code::Forbidden => 403,
            Code::NotFound => 404,
            Code::MethodNotAllowed => 405,
            Code::Conflict | Code::ManagedByGit => 409,
            Code::TooLarge => 413,
            Code::UnsupportedMediaType => 415,
            Code::Misdirected => 421,
            Code::Refused => 422,
            Code::NotConfigured => 501,
            Code::Unavailable => 503,
        }
    }
}

/// A field that somebody else changed or owns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FieldConflict {
    /// The field.
    pub(crate) field: String,
    /// The name that the other writer goes by at the API server.
    pub(crate) manager: String,
}

/// The tool that owns an object, and what to give it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OwnedElsewhere {
    /// The tool.
    pub(crate) managed_by: ManagedBy,
    /// The change as YAML, to be merged into the object where the tool takes it from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) patch: Option<String>,
}

/// Why a request was not done. Its texts are for the caller: they hold no secret.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) field: Option<String>,
    pub(crate) findings: Vec<FindingView>,
    pub(crate) missing: Option<Box<Denial>>,
    pub(crate) conflicts: Vec<FieldConflict>,
    pub(crate) owned: Option<Box<OwnedElsewhere>>,
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            field: None,
            findings: Vec::new(),
            missing: None,
            conflicts: Vec::new(),
            owned: None,
        }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::Invalid, message)
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Code::Unavailable, message)
    }

    pub(crate) fn no_session() -> Self {
        Self::new(Code::NoSession, "sign in: there is no session, or it has ended")
    }

    /// The object is refused: the first finding is the message, and all come along.
    pub(crate) fn refused(findings: Vec<FindingView>) -> Self {
        let first = findings.iter().find(|finding| !finding.is_note);
        let field = first.map(|finding| finding.field.clone()).filter(|field| !field.is_empty());
        let message = first.map_or_else(|| "the object is refused".to_owned(), |finding| finding.message.clone());
        Self { field, findings, ..Self::new(Code::Refused, message) }
    }

    pub(crate) fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// The answer, with an id under which the log has it too.
    pub(crate) fn body(&self, id: String) -> ErrorBody {
        let Self { code, message, field, findings, missing, conflicts, owned } = self;
        ErrorBody {
            error: ErrorView {
                code: *code,
                message: visible(message).into_owned(),
                field: field.as_deref().map(|field| visible(field).into_owned()),
                findings: findings.clone(),
                missing: missing.as_deref().map(|denial| denial.clone().under(id.clone())),
                conflicts: conflicts.clone(),
                owned: owned.as_deref().cloned(),
                id,
            },
        }
    }
}

/// The body of every answer that says no.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Error")]
pub(crate) struct ErrorBody {
    error: ErrorView,
}

/// Why a request was not done.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ErrorDetail")]
pub(crate) struct ErrorView {
    /// The class of the failure.
    code: Code,
    /// The failure and its remedy.
    message: String,
    /// The field that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// Under this id the log has it.
    id: String,
    /// Everything that the compiler says about the change.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    findings: Vec<FindingView>,
    /// The permission that is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<Denial>,
    /// The fields that somebody else changed or owns.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    conflicts: Vec<FieldConflict>,
    /// The tool that owns the object.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    owned: Option<OwnedElsewhere>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_first_field_and_shows_control_characters() {
        let finding = |field: &str, message: &str, is_note| FindingView {
            field: field.into(),
            reason: "Invalid".into(),
            message: message.into(),
            is_note,
        };
        let all = vec![finding("spec.a", "a note", true), finding("spec.b", "bad \u{1b}[31m", false)];
        let body = serde_json::to_value(Failure::refused(all).body("ID".into())).expect("JSON");
        assert_eq!(body["error"]["field"], "spec.b");
        assert_eq!(body["error"]["code"], "Refused");
        let message = body["error"]["message"].as_str().expect("a text");
        assert!(message.starts_with("bad ") && !message.contains('\u{1b}'), "{message}");
        assert_eq!(body["error"]["findings"].as_array().map(Vec::len), Some(2));
    }
}
