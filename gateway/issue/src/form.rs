//! The parameters of a request, read once and strictly.

use std::collections::BTreeMap;

use http::header::CONTENT_TYPE;
use idm_request::RequestView;
use idm_types::{Reason, Redacted};

use crate::Refused;

const MAX_PARAMETERS: usize = 64;

/// Parameters of a form. Each may occur once; `audience` and `resource` may be repeated.
#[derive(Default)]
pub(crate) struct Form {
    once: BTreeMap<String, Redacted<String>>,
    pub(crate) audiences: Vec<String>,
}

impl Form {
    pub(crate) fn read(view: RequestView<'_>) -> Result<Self, Refused> {
        let malformed = |why: &str| Refused::new(Reason::MalformedTokenRequest, why);
        if view.method != "POST" {
            return Err(malformed("it must be sent with POST"));
        }
        // RFC 6749 §2.3.1: secrets in a URL end up in logs.
        if view.query.is_some() {
            return Err(malformed("parameters must be in the body, not in the URL"));
        }
        let mut types = view.headers.get_all(CONTENT_TYPE).iter();
        let media =
            types.next().and_then(|value| value.to_str().ok()).and_then(|value| value.split(';').next()).map(str::trim);
        if !media.is_some_and(|media| media.eq_ignore_ascii_case("application/x-www-form-urlencoded"))
            || types.next().is_some()
        {
            return Err(malformed("the body must be application/x-www-form-urlencoded"));
        }
        Self::parse(view.body.unwrap_or_default())
    }

    pub(crate) fn parse(body: &[u8]) -> Result<Self, Refused> {
        let malformed = |why: String| Refused::new(Reason::MalformedTokenRequest, why);
        let mut form = Self::default();
        for (i, (name, value)) in form_urlencoded::parse(body).enumerate() {
            if i >= MAX_PARAMETERS {
                return Err(malformed(format!("there are more than {MAX_PARAMETERS} parameters")));
            }
            // RFC 6749 §3.2: a parameter without a value counts as omitted.
            if value.is_empty() {
                continue;
            }
            if name == "audience" || name == "resource" {
                form.audiences.push(value.into_owned());
            } else if form.once.insert(name.to_string(), Redacted::new(value.into_owned())).is_some() {
                return Err(malformed("a parameter is there twice".into()));
            }
        }
        Ok(form)
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.once.get(name).map(|value| value.reveal().as_str())
    }

    pub(crate) fn secret(&self, name: &str) -> Option<&Redacted<String>> {
        self.once.get(name)
    }

    pub(crate) fn wanted(&self, name: &str) -> Result<&Redacted<String>, Refused> {
        self.secret(name).ok_or_else(|| Refused::new(Reason::MalformedTokenRequest, format!("`{name}` is missing")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_counts_once_and_an_empty_one_not_at_all() {
        let form = Form::parse(b"grant_type=password&scope=&audience=a&resource=b&username=a%2Bb+c").unwrap();
        assert_eq!(
            (form.text("grant_type"), form.text("scope"), form.text("username")),
            (Some("password"), None, Some("a+b c"))
        );
        assert_eq!(form.audiences, ["a", "b"]);
        assert!(Form::parse(b"scope=a&scope=b").is_err());
        assert!(Form::parse("a=1&".repeat(65).as_bytes()).is_err());
        assert!(form.wanted("password").is_err());
    }
}
