//! The kinds of objects that the API shows.

use std::str::FromStr;

use idm_permission::Kind;

use crate::failure::{Code, Failure};

/// A kind of ours, which can be changed here, or one of others, which is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ObjectKind {
    /// One of ours.
    Ours(Kind),
    /// A Gateway of the Gateway API.
    Gateway,
    /// An HTTPRoute of the Gateway API.
    HttpRoute,
    /// A Service.
    Service,
}

impl ObjectKind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            ObjectKind::Ours(kind) => kind.name(),
            ObjectKind::Gateway => "Gateway",
            ObjectKind::HttpRoute => "HTTPRoute",
            ObjectKind::Service => "Service",
        }
    }

    /// The kind, where it is one of ours.
    pub(crate) const fn ours(self) -> Option<Kind> {
        match self {
            ObjectKind::Ours(kind) => Some(kind),
            ObjectKind::Gateway | ObjectKind::HttpRoute | ObjectKind::Service => None,
        }
    }

    /// The kind, where it can be changed here.
    pub(crate) fn editable(self) -> Result<Kind, Failure> {
        self.ours()
            .ok_or_else(|| Failure::invalid(format!("{} is shown only: change it where it is made", self.name())))
    }
}

impl FromStr for ObjectKind {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        if let Some(kind) = Kind::ALL.iter().find(|kind| kind.name() == text) {
            return Ok(ObjectKind::Ours(*kind));
        }
        match text {
            "Gateway" => Ok(ObjectKind::Gateway),
            "HTTPRoute" => Ok(ObjectKind::HttpRoute),
            "Service" => Ok(ObjectKind::Service),
            _ => Err(Failure::new(
                Code::NotFound,
                "there are the kinds IdentityPolicy, Credential, Federation, RoleBinding, UsagePlan, \
                 CredentialRequest, Gateway, HTTPRoute and Service",
            )),
        }
    }
}
