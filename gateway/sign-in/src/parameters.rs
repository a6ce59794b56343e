//! The parameters of a request to an endpoint: each may occur once.

use std::collections::BTreeMap;

use http::header::CONTENT_TYPE;
use idm_request::RequestView;
use idm_types::{Reason, Redacted};

use crate::Refused;

const MAX_PARAMETERS: usize = 32;

/// Whether the content type of a request is that of a form.
pub(crate) fn is_form(view: RequestView<'_>) -> bool {
    let media = view
        .headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .map(str::trim);
    media.is_some_and(|media| media.eq_ignore_ascii_case("application/x-www-form-urlencoded"))
}

pub(crate) struct Parameters(BTreeMap<String, Redacted<String>>);

impl Parameters {
    /// Reads a query or a form. A parameter that occurs twice is ambiguous.
    pub(crate) fn read(text: &[u8]) -> Result<Self, Refused> {
        let mut all = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(text) {
            let is_twice = all.insert(name.to_string(), Redacted::new(value.into_owned())).is_some();
            if is_twice || all.len() > MAX_PARAMETERS {
                return Err(Refused::new(
                    Reason::MalformedRequest,
                    "a parameter is there twice, or there are too many",
                ));
            }
        }
        Ok(Self(all))
    }

    /// The value of a parameter; an empty one counts as omitted.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.reveal().as_str()).filter(|value| !value.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_there_once() {
        let read = Parameters::read(b"state=a%2Bb&code=&x=1").unwrap();
        assert_eq!((read.text("state"), read.text("code"), read.text("y")), (Some("a+b"), None, None));
        assert!(Parameters::read(b"state=a&state=a").is_err());
        assert!(Parameters::read((0..33).map(|i| format!("p{i}=1&")).collect::<String>().as_bytes()).is_err());
    }
}
