use serde::{Deserialize, Serialize};

/// The stage that a request reached. Ordered: every stage before the one on record went well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// Reading it: its head, its one spelling, the limits that need no configuration.
    #[default]
    Request,
    /// Finding its route.
    Route,
    /// Answering the preflight of a browser, which has no caller. It ends here.
    Preflight,
    /// Finding out who calls. Endpoints of a sign-in method and of a token service end here.
    Authenticate,
    /// Opening what the policy's JOSE steps name.
    Open,
    /// Asking the rules.
    Authorize,
    /// Asking what the caller has left of a quota.
    Limit,
    /// Making what the upstream gets: an exchanged token, signed and encrypted content.
    Prepare,
    /// The upstream.
    Upstream,
    /// Applying the policy's steps to the upstream's response.
    Answer,
}
