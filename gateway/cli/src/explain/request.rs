//! `idm explain --request`: a request that nobody sends, decided by the policies of a folder or a cluster.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use http::{HeaderName, HeaderValue, Method, header};
use idm_decide::{Assumed, Assumption, Hypotheses, Hypothesis, Hypothetical, HypotheticalError, HypotheticalOutcome};
use idm_gateway::source::dir::DirError;
use idm_types::{MethodName, RoleName, Timestamp};
use serde_json::{Value, json};

use super::source::{Prepared, SourceArgs};
use crate::{input, jose, print};

/// A request that nobody sends
#[derive(Args)]
pub(crate) struct RequestArgs {
    /// Decide this request, without sending it: METHOD URL, for example 'POST https://shop.example/orders'
    #[arg(long, value_name = "METHOD URL", value_parser = method_and_url)]
    request: Option<(Method, http::Uri)>,
    /// Assume that this user, or the Credential of this name, is authenticated
    #[arg(long = "as", value_name = "USER", requires = "request", conflicts_with = "token")]
    user: Option<String>,
    /// A role that the user has beside their own; may be repeated
    #[arg(long = "role", requires = "user")]
    roles: Vec<RoleName>,
    /// A claim of the user's token as NAME=VALUE (JSON or plain text); may be repeated
    #[arg(long = "claim", requires = "user", value_parser = jose::member)]
    claims: Vec<(String, Value)>,
    /// The method of the policy by which the user is authenticated [default: the first that could]
    #[arg(long, requires = "user")]
    method: Option<MethodName>,
    /// File with a bearer token that the request carries; `-` is standard input
    #[arg(long, value_name = "FILE", requires = "request")]
    token: Option<PathBuf>,
    /// A header of the request as 'NAME: VALUE'; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE", requires = "request", value_parser = header_line)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The address of the caller [default: 127.0.0.1]
    #[arg(long, requires = "request")]
    address: Option<IpAddr>,
    /// Keys of an issuer, which a gateway would fetch, as ISSUER=FILE with a JWKS; may be repeated
    #[arg(long = "keys", value_name = "ISSUER=FILE", requires = "request", value_parser = issuer_and_file)]
    keys: Vec<(String, PathBuf)>,
}

fn method_and_url(text: &str) -> Result<(Method, http::Uri), String> {
    let wrong = || "give METHOD and URL, for example 'POST https://shop.example/orders'".to_owned();
    let (method, url) = text.trim().split_once(char::is_whitespace).ok_or_else(wrong)?;
    let method = method.parse().map_err(|_| wrong())?;
    let url: http::Uri = url.trim().parse().map_err(|_| wrong())?;
    let is_url = matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some();
    if is_url { Ok((method, url)) } else { Err(wrong()) }
}

fn header_line(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let wrong = || "give 'NAME: VALUE'".to_owned();
    let (name, value) = text.split_once(':').ok_or_else(wrong)?;
    let name = name.trim().parse().map_err(|_| wrong())?;
    Ok((name, HeaderValue::from_str(value.trim()).map_err(|_| wrong())?))
}

fn issuer_and_file(text: &str) -> Result<(String, PathBuf), String> {
    // Issuers are URLs, in which `=` may be.
    let (issuer, file) = text.rsplit_once('=').ok_or("give ISSUER=FILE")?;
    Ok((issuer.to_owned(), file.into()))
}

impl RequestArgs {
    pub(super) async fn run(self, source: &SourceArgs, json: bool) -> anyhow::Result<ExitCode> {
        let keys = self.keys.clone();
        let asked = self.hypothetical()?;
        let prepared = match source.prepare().await {
            Ok(prepared) => prepared,
            Err(error) => {
                let Some(DirError::Files(errors)) = error.downcast_ref() else { return Err(error) };
                errors.iter().for_each(|error| say!("{error}"));
                return Ok(ExitCode::FAILURE);
            }
        };
        let Prepared { compiled, unread, notes, .. } = prepared;
        let mut decisions = Hypotheses::new(compiled.seal(1)).context("the system gives no threads")?;
        decisions.note_unread(unread);
        for (issuer, file) in keys {
            if decisions.supply_keys(&issuer, &jwks(&file)?) == 0 {
                bail!("no policy trusts the issuer `{issuer}` by a JWT: give `--keys` for one that is trusted");
            }
        }
        let hypothesis = match decisions.decide(&asked, Timestamp::now()).await {
            Ok(hypothesis) => hypothesis,
            Err(error @ (HypotheticalError::Url(_) | HypotheticalError::Request(_))) => {
                complain!("error: {error}");
                return Ok(ExitCode::from(2));
            }
            Err(error) => return Err(error.into()),
        };
        notes.iter().for_each(|note| complain!("note: {note}"));
        if json {
            print::json("", &shown(&hypothesis)?);
        } else {
            print::lines(&hypothesis.to_string());
        }
        Ok(match hypothesis.outcome {
            HypotheticalOutcome::Permitted => ExitCode::SUCCESS,
            HypotheticalOutcome::Denied | HypotheticalOutcome::Failed => ExitCode::FAILURE,
            HypotheticalOutcome::Unknown => ExitCode::from(3),
        })
    }

    fn hypothetical(self) -> anyhow::Result<Hypothetical> {
        let Self { request, user, roles, claims, method, token, headers, address, keys: _ } = self;
        let (of, url) = request.context("give `--request`")?;
        let mut asked = Hypothetical { headers, address, ..Hypothetical::new(of, url) };
        asked.caller = user.map(|username| {
            let claims = claims.into_iter().collect();
            Assumed { caller: Assumption { username, claims, method }, roles }
        });
        if let Some(file) = token {
            let text = input::text(&file)?;
            let value = HeaderValue::from_str(&format!("Bearer {}", text.trim()));
            let mut value = value.map_err(|_| anyhow::anyhow!("{} holds no token", file.display()))?;
            value.set_sensitive(true);
            asked.headers.push((header::AUTHORIZATION, value));
        }
        Ok(asked)
    }
}

/// A JWKS, as text.
fn jwks(file: &Path) -> anyhow::Result<String> {
    let text = input::text(file)?;
    let value: Value = serde_json::from_str(&text).with_context(|| format!("{} is not JSON", file.display()))?;
    if value.get("keys").is_some() { Ok(text) } else { Ok(json!({"keys": [value]}).to_string()) }
}

fn shown(hypothesis: &Hypothesis) -> anyhow::Result<Value> {
    let Hypothesis { outcome, status, reason, record, explanation, notes } = hypothesis;
    let record: Value = serde_json::from_str(record.json())?;
    Ok(json!({"outcome": outcome, "status": status, "reason": reason.map(|reason| reason.code()), "notes": notes,
        "steps": explanation.steps, "explanation": hypothesis.to_string(), "record": record}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_headers_and_keys_are_read_as_people_write_them() {
        let (method, url) = method_and_url(" POST  https://shop.example/orders?a=b ").expect("a request");
        assert_eq!((method, url.path()), (Method::POST, "/orders"));
        for wrong in ["", "GET", "https://shop.example/", "GET /orders", "GET ftp://shop.example/", "G@T http://a/"] {
            assert!(method_and_url(wrong).is_err(), "{wrong}");
        }
        let (name, value) = header_line("X-Api-Key: a:b").expect("a header");
        assert_eq!((name.as_str(), value.to_str().ok()), ("x-api-key", Some("a:b")));
        assert!(header_line("X-Api-Key").is_err());
        let (issuer, file) = issuer_and_file("https://idp/?realm=a=keys.json").expect("keys");
        assert_eq!((issuer.as_str(), file), ("https://idp/?realm=a", PathBuf::from("keys.json")));
    }
}
