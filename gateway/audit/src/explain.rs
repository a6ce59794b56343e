//! A record in plain words.

use std::fmt::Write;

use idm_types::Reason;
use serde_json::Value;

/// The verdict, then what was checked in order, then what to do.
pub fn explain(record: &Value) -> String {
    let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let mut out = String::new();
    if record["kind"] == "Change" {
        let _ = writeln!(
            out,
            "{} {} {}/{} by {} at {}",
            text("/action"),
            text("/object/kind"),
            text("/object/namespace"),
            text("/object/name"),
            text("/actor"),
            text("/@timestamp")
        );
        for line in record["diff"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let _ = writeln!(out, "  {line}");
        }
        return out;
    }
    let reason = Reason::from_code(text("/reason"));
    let verdict = text("/outcome").to_ascii_uppercase();
    let _ = writeln!(
        out,
        "{verdict} {}{}   {} {}{}",
        record["status"],
        reason.map(|r| format!(" {r}")).unwrap_or_default(),
        text("/request/method"),
        text("/request/host"),
        text("/request/path")
    );
    let _ = writeln!(
        out,
        "decision {} at {} by gateway {} in namespace {} (configuration {})",
        text("/id"),
        text("/@timestamp"),
        text("/gateway"),
        text("/namespace"),
        record["generation"]
    );
    let _ = writeln!(out);
    let mut step = 0;
    let mut line = |good: bool, name: &str, what: String| {
        step += 1;
        let _ = writeln!(out, " {step} {} {name:<13} {what}", if good { "✓" } else { "✗" });
    };
    let stage = reason.map(stage_of);
    line(stage != Some(Stage::Request), "request", format!("from {}", text("/request/source")));
    if stage != Some(Stage::Request) {
        let route = if text("/route").is_empty() { "none".to_owned() } else { text("/route").to_owned() };
        line(stage != Some(Stage::Route), "route", route);
    }
    if !text("/policy/name").is_empty() {
        let policy = format!(
            "IdentityPolicy {}/{} (generation {})",
            text("/namespace"),
            text("/policy/name"),
            record["policy"]["generation"]
        );
        let method = if text("/policy/method").is_empty() {
            String::new()
        } else {
            format!(", method {}", text("/policy/method"))
        };
        line(stage != Some(Stage::Authenticate), "authenticate", format!("{policy}{method}{}", who(record)));
        if stage != Some(Stage::Authenticate) {
            let rule = if text("/policy/rule").is_empty() {
                "being authenticated is enough".to_owned()
            } else {
                format!("rule {}", text("/policy/rule"))
            };
            let rule = if reason == Some(Reason::CredentialNotAllowedHere) {
                "the credential's access list".to_owned()
            } else {
                rule
            };
            line(stage != Some(Stage::Authorize), "authorize", rule);
        }
    }
    if record["upstream"].is_string() {
        line(stage != Some(Stage::Serve), "upstream", text("/upstream").to_owned());
    }
    if record["usage"].is_object() {
        let estimated =
            if record["usage"]["estimated"] == true { " (estimated: the provider told nothing)" } else { "" };
        let (prompt, completion) = (&record["usage"]["prompt_tokens"], &record["usage"]["completion_tokens"]);
        line(
            true,
            "usage",
            format!("{} prompt and completion tokens: {prompt} + {completion}{estimated}", text("/usage/model")),
        );
    }
    if record["issued"].is_object() {
        let scopes = record["issued"]["scopes"]
            .as_array()
            .map(|all| all.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "))
            .unwrap_or_default();
        let scopes = if scopes.is_empty() { String::new() } else { format!(", scope {scopes}") };
        line(
            true,
            "issued",
            format!(
                "token {} for {} by {}{scopes}",
                text("/issued/token"),
                text("/issued/subject"),
                text("/issued/grant")
            ),
        );
    }
    if let Some(reason) = reason {
        let _ = writeln!(out, "\nwhy: {}", reason.plain());
        if !text("/detail").is_empty() {
            let _ = writeln!(out, "     {}", text("/detail"));
        }
        let _ = writeln!(out, "fix: {}", reason.fix());
        let _ = writeln!(out, "see: docs/reasons.md#{}", reason.code().to_ascii_lowercase());
    }
    out
}

fn who(record: &Value) -> String {
    let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str);
    match (text("/identity/username"), text("/identity/issuer"), text("/identity/kind")) {
        (Some(name), Some(issuer), _) => format!(": {name}, vouched for by {issuer}"),
        (Some(name), None, Some(kind)) => format!(": {name} ({kind})"),
        (None, _, Some("anonymous")) => ": anonymous".to_owned(),
        _ => String::new(),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Request,
    Route,
    Authenticate,
    Authorize,
    Serve,
}

fn stage_of(reason: Reason) -> Stage {
    use Reason::*;
    match reason {
        AmbiguousPath
        | InvalidHost
        | MalformedRequest
        | MisdirectedRequest
        | MethodNotAllowed
        | HeadTooLarge
        | BodyTooSlow
        | BodiesBusy
        | TooManyRequestsAtOnce => Stage::Request,
        NoRoute | NotConfigured | NoPolicy | PolicyInvalid | RouteInvalid | NoBackend => Stage::Route,
        AmbiguousCredential
        | NoCredentials
        | MalformedToken
        | TokenTooLarge
        | UnknownIssuer
        | AlgorithmNotAllowed
        | WrongTokenType
        | UnsupportedCritical
        | UnknownKey
        | BadSignature
        | TokenExpired
        | TokenNotYetValid
        | WrongAudience
        | UnusableClaim
        | KeysUnavailable
        | UnknownApiKey
        | MalformedApiKey
        | CredentialSuspended
        | CredentialExpired
        | CannotDecrypt
        | MalformedCredential
        | WrongPassword
        | TooManyAttempts
        | UntrustedCertificate
        | CertificateExpired
        | CertificateRevoked
        | CertificateNotAllowed
        | TokenInactive
        | IntrospectionFailed
        | TokenNotBound
        | InvalidProof
        | MissingObject
        | ObjectNotMade
        | PasswordChecksBusy
        | StaleNonce
        | ReplayedNonce
        | PayloadTooLarge
        | MalformedTokenRequest
        | InvalidClient
        | InvalidGrant
        | RefreshTokenReused
        | TokenRevoked
        | TooManyQueryTokens
        | SessionEnded
        | StepUpRequired
        | OriginNotAllowed
        | UnknownSignIn
        | SignInRefused
        | UntrustedSignIn
        | ProviderUnavailable
        | SignInLoop
        | TooManySignIns
        | FederationSuspended
        | InvalidLogoutToken
        | StoreUnavailable => Stage::Authenticate,
        CredentialNotAllowedHere
        | ClaimRequired
        | NoPersonCredential
        | CrossSiteRequest
        | UnsupportedGrant
        | GrantNotAllowed
        | ScopeNotAllowed
        | AudienceNotAllowed
        | TokenQuotaExceeded
        | UpgradeNotAllowed
        | RuleUndecided
        | MissingRole
        | InsufficientScope
        | ExpressionTooCostly
        | NoRuleMatched => Stage::Authorize,
        TokenExchangeFailed | TokenExchangeRefused | AuditUnavailable | UpstreamUnreachable | UpstreamFailed
        | UpstreamTimeout | ClientGone | InternalError => Stage::Serve,
    }
}
