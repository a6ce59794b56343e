//! The part of a policy on a Gateway that holds for all of its routes.

use idm_types::RuleName;
use serde::{Deserialize, Serialize};

use crate::{Access, Expr, Limit};

/// Demands on every request of a Gateway, beside those of the policy that covers its route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// The kinds of methods that may let callers in, by [`crate::MethodKind::label`]; `None`: all.
    pub methods: Option<Vec<String>>,
    /// The issuers that may vouch for callers; `None`: all.
    pub issuers: Option<Vec<String>>,
    /// The requests, addresses and hours that are allowed.
    pub access: Access,
    /// Conditions that must hold.
    pub conditions: Vec<(RuleName, Expr)>,
    /// Limits of the requests of all routes together.
    pub limits: Vec<Limit>,
}
