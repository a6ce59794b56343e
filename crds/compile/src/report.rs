use std::fmt;

use idm_types::Reason;
use serde::Serialize;

/// The object that a finding is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ObjectId {
    /// Its kind, for example `IdentityPolicy`.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ObjectId {
    /// The object of this kind and name.
    pub fn new(kind: &str, namespace: &str, name: &str) -> Self {
        Self { kind: kind.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// The condition that a finding turns false.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Condition {
    /// The spec is valid and its target exists.
    Accepted,
    /// All objects that it refers to exist and are usable.
    ResolvedRefs,
    /// It is in force.
    Programmed,
    /// The directory that it describes answers.
    Connected,
}

impl Condition {
    /// The condition's type in status.
    pub const fn name(self) -> &'static str {
        match self {
            Condition::Accepted => "Accepted",
            Condition::ResolvedRefs => "ResolvedRefs",
            Condition::Programmed => "Programmed",
            Condition::Connected => "Connected",
        }
    }
}

/// The reason why an object is not, or not completely, in force: the condition's `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Cause {
    /// A field has a value that cannot be used.
    Invalid,
    /// A field requests a feature that this version does not have.
    UnsupportedValue,
    /// No target exists.
    TargetNotFound,
    /// Another policy holds the same target.
    Conflicted,
    /// More specific policies cover every part of the target.
    Overridden,
    /// More specific policies cover a part of the target.
    PartiallyProgrammed,
    /// A referenced object does not exist.
    RefNotFound,
    /// A referenced object belongs to another namespace.
    RefNotPermitted,
    /// A referenced object exists and cannot be used.
    InvalidRef,
    /// The change is not valid and the previous version stays in force.
    InvalidKeptPrevious,
    /// The object is in force, and a part of it is dangerous.
    DangerousOption,
    /// A listener requests a feature that this gateway does not have.
    UnsupportedListener,
    /// The protocol of a listener or of a backend is not one that this gateway speaks.
    UnsupportedProtocol,
    /// Another listener of the namespace has taken another port for the same protocol.
    PortUnavailable,
    /// A listener allows kinds of routes that this gateway does not serve.
    InvalidRouteKinds,
    /// A Gateway refers to parameters, and this gateway has none.
    InvalidParameters,
    /// A Gateway asks for a type of addresses that this gateway does not have.
    UnsupportedAddress,
    /// A referenced object is of a kind that cannot be used there.
    InvalidKind,
    /// A Gateway refers to a certificate for backends that cannot be used.
    InvalidClientCertificateRef,
    /// A BackendTLSPolicy refers to authorities that cannot be used.
    InvalidCaCertificateRef,
    /// No authority that a BackendTLSPolicy refers to can be used.
    NoValidCaCertificate,
    /// No listener of the Gateway has the route's section name and port.
    NoMatchingParent,
    /// No listener that could take the route has a hostname in common with it.
    NoMatchingListenerHostname,
    /// A route of another kind has the hostname at the same listener.
    HostnameConflict,
    /// No listener allows routes of this kind from this namespace.
    NotAllowedByListeners,
    /// Every key of a Credential has ended.
    KeysEnded,
    /// A new key was asked for, and cannot be made.
    NotRotated,
    /// The API server has not got the permissions of a RoleBinding yet.
    NotGranted,
    /// The policy of the API server that narrows permissions to teams and actions is not in force.
    GuardNotInForce,
    /// The baseline of a Gateway demands more than the policy does.
    UnderBaseline,
    /// A stored Secret does not open, or a new one cannot be sealed.
    SealingFailed,
    /// The policy judges requests and is not enforced.
    Shadow,
    /// A policy in shadow has a target that nothing enforced decides about.
    Unprotected,
    /// The object does nothing without a cluster.
    ClusterOnly,
    /// A directory gave no usable answer to the last question.
    Directory(Reason),
}

impl Cause {
    /// The condition's reason in status.
    pub const fn name(self) -> &'static str {
        match self {
            Cause::Invalid => "Invalid",
            Cause::UnsupportedValue => "UnsupportedValue",
            Cause::TargetNotFound => "TargetNotFound",
            Cause::Conflicted => "Conflicted",
            Cause::Overridden => "Overridden",
            Cause::PartiallyProgrammed => "PartiallyProgrammed",
            Cause::RefNotFound => "RefNotFound",
            Cause::RefNotPermitted => "RefNotPermitted",
            Cause::InvalidRef => "InvalidRef",
            Cause::InvalidKeptPrevious => "InvalidKeptPrevious",
            Cause::DangerousOption => "DangerousOption",
            Cause::UnsupportedListener => "UnsupportedListener",
            Cause::UnsupportedProtocol => "UnsupportedProtocol",
            Cause::PortUnavailable => "PortUnavailable",
            Cause::InvalidRouteKinds => "InvalidRouteKinds",
            Cause::InvalidParameters => "InvalidParameters",
            Cause::UnsupportedAddress => "UnsupportedAddress",
            Cause::InvalidKind => "InvalidKind",
            Cause::InvalidClientCertificateRef => "InvalidClientCertificateRef",
            Cause::InvalidCaCertificateRef => "InvalidCACertificateRef",
            Cause::NoValidCaCertificate => "NoValidCACertificate",
            Cause::NoMatchingParent => "NoMatchingParent",
            Cause::NoMatchingListenerHostname => "NoMatchingListenerHostname",
            Cause::HostnameConflict => "HostnameConflict",
            Cause::NotAllowedByListeners => "NotAllowedByListeners",
            Cause::KeysEnded => "KeysEnded",
            Cause::NotRotated => "NotRotated",
            Cause::NotGranted => "NotGranted",
            Cause::GuardNotInForce => "GuardNotInForce",
            Cause::UnderBaseline => "UnderBaseline",
            Cause::SealingFailed => "SealingFailed",
            Cause::Shadow => "Shadow",
            Cause::Unprotected => "Unprotected",
            Cause::ClusterOnly => "ClusterOnly",
            Cause::Directory(reason) => reason.code(),
        }
    }
}

/// One fact that a user should know about one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// The object.
    pub object: ObjectId,
    /// The field, from `spec` on, for example `spec.authentication.methods[0].jwt.issuers[0].keys`.
    pub path: String,
    /// The condition it concerns.
    pub condition: Condition,
    /// The condition's reason.
    pub cause: Cause,
    /// The fault and its remedy.
    pub message: String,
}

impl Finding {
    /// True when the object is in force nevertheless.
    pub fn is_note(&self) -> bool {
        let of_keys = matches!(self.cause, Cause::KeysEnded | Cause::NotRotated);
        of_keys
            || matches!(
                self.cause,
                Cause::PartiallyProgrammed
                    | Cause::DangerousOption
                    | Cause::UnderBaseline
                    | Cause::Shadow
                    | Cause::ClusterOnly
            )
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.object)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{} ({})", idm_types::Visible(&self.message), self.cause.name())
    }
}

/// All findings of one compilation, ordered by object.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    findings: Vec<Finding>,
}

impl Report {
    /// Adds a finding.
    pub fn push(
        &mut self,
        object: &ObjectId,
        path: impl Into<String>,
        condition: Condition,
        cause: Cause,
        message: impl Into<String>,
    ) {
        self.findings.push(Finding {
            object: object.clone(),
            path: path.into(),
            condition,
            cause,
            message: message.into(),
        });
    }

    /// Removes the findings about objects of a kind.
    pub(crate) fn forget(&mut self, kind: &str) {
        self.findings.retain(|finding| finding.object.kind != kind);
    }

    /// Adds the findings of another report.
    pub fn extend(&mut self, other: Report) {
        self.findings.extend(other.findings);
    }

    /// All findings.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The findings about one object.
    pub fn about<'a>(&'a self, object: &'a ObjectId) -> impl Iterator<Item = &'a Finding> {
        self.findings.iter().filter(move |finding| finding.object == *object)
    }

    /// The findings that keep an object from being in force.
    pub fn errors(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| !finding.is_note())
    }

    pub(crate) fn sort(&mut self) {
        self.findings.sort();
        self.findings.dedup();
    }
}
