//! One file per kind: reads the API types, writes the plan, and reports findings for parts that cannot be lowered.

mod access_tokens;
mod api_key;
pub(crate) mod backend;
pub(crate) mod backend_tls;
pub(crate) mod baseline;
mod call;
mod care;
pub(crate) mod config_map;
mod cors;
pub(crate) mod credential;
mod database;
pub(crate) mod directory;
pub(crate) mod federation;
mod filters;
pub(crate) mod held_keys;
mod hmac_jwt;
pub(crate) mod jose;
pub(crate) mod keys;
mod ldap;
pub(crate) mod limits;
mod methods;
pub(crate) mod mtls;
pub(crate) mod password;
pub(crate) mod policy;
mod redirect;
mod resource;
mod rest;
mod restrictions;
pub(crate) mod role_binding;
pub(crate) mod rotation;
pub(crate) mod route;
pub(crate) mod saml;
pub(crate) mod secret;
pub(crate) mod sign_in;
mod signature;
mod source;
mod sql;
mod streams;
pub(crate) mod token_service;

use crate::{Cause, Condition, ObjectId, Report};

/// Writes findings about one object, with a field path that grows on the way down.
pub(crate) struct Notes<'r> {
    pub(crate) report: &'r mut Report,
    pub(crate) object: ObjectId,
    pub(crate) failed: bool,
}

impl<'r> Notes<'r> {
    pub(crate) fn new(report: &'r mut Report, object: ObjectId) -> Self {
        Self { report, object, failed: false }
    }

    /// Whether the last finding is about a reference. Only what has the reference fails then.
    pub(crate) fn ends_unresolved(&self) -> bool {
        self.report.findings().last().is_some_and(|finding| finding.condition == Condition::ResolvedRefs)
    }

    /// Records a finding that keeps the object from being in force. Returns `None` for use with `?`.
    pub(crate) fn fail<T>(&mut self, path: impl Into<String>, cause: Cause, message: impl Into<String>) -> Option<T> {
        let condition = match cause {
            Cause::RefNotFound
            | Cause::RefNotPermitted
            | Cause::InvalidRef
            | Cause::InvalidKind
            | Cause::InvalidClientCertificateRef
            | Cause::InvalidRouteKinds
            | Cause::UnsupportedProtocol => Condition::ResolvedRefs,
            _ => Condition::Accepted,
        };
        self.report.push(&self.object, path, condition, cause, message);
        self.failed = true;
        None
    }
}
