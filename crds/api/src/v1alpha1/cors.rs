use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The pages of other origins whose scripts may call (the Fetch standard's CORS protocol), with the members of the
/// Gateway API's filter `CORS`. The gateway answers preflights itself, before anyone authenticates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "!self.allowOrigins.exists(o, o == '*') || self.allowOrigins.size() == 1",
     "message": "`*` in `allowOrigins` must stand alone"},
    {"rule": "!has(self.allowCredentials) || !self.allowCredentials || \
              !self.allowOrigins.exists(o, o == '*' || o.contains('://*:') || o.endsWith('://*'))",
     "message": "`allowCredentials` must not be set for every host: any page could act with a person's session; list \
                 the origins"}]))]
pub struct Cors {
    /// The origins, each `https://app.example.com`, `http://localhost:3000` or `https://*.example.com` (every name
    /// below the domain); or `*` alone for every origin.
    #[schemars(
        length(min = 1, max = 64),
        inner(
            length(min = 1, max = 270),
            regex(pattern = r"^(\*|https?://(\*|(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*)(:[1-9][0-9]{0,4})?)$")
        ),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub allow_origins: Vec<String>,
    /// Browsers may send cookies and client certificates. Unset means that they may not; a token that a script puts
    /// into `Authorization` needs no such permission.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_credentials: Option<bool>,
    /// Methods besides GET, HEAD and POST, which are always allowed; `*` alone for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 1, max = 32), regex(pattern = "^(\\*|[A-Z][A-Z-]*)$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub allow_methods: Option<Vec<String>>,
    /// Request headers that scripts may set, such as `Authorization` and `Content-Type`; `*` alone for all. Unset
    /// allows those that browsers always allow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 64),
        inner(length(min = 1, max = 128), regex(pattern = "^(\\*|[A-Za-z0-9_-]+)$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub allow_headers: Option<Vec<String>>,
    /// Headers of answers that scripts may read besides those that browsers always show; `*` alone for all. Of the
    /// gateway's own answers scripts also read `X-Decision-Id`, `WWW-Authenticate` and `Retry-After`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 64),
        inner(length(min = 1, max = 128), regex(pattern = "^(\\*|[A-Za-z0-9_-]+)$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub expose_headers: Option<Vec<String>>,
    /// The time for which a browser may keep the answer to a preflight, in seconds (1 to 86400). Unset means 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86400))]
    pub max_age: Option<i64>,
}
