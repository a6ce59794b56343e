//! The models that a call names, in the places where the provider reads them.

use http::HeaderMap;
use idm_plan::{LlmProvider, ModelList};
use idm_types::{Reason, Refusal, percent_decoded};
use serde_json::Value;

use crate::LlmCall;
use crate::price::shown;
use crate::prompt::parsed;

/// The models that a call names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedModels {
    /// It has neither a model nor a body, so no model answers it: lists of models, or answers of earlier calls.
    NoModel,
    /// These; empty where it names none, and the provider may choose one.
    Named(Vec<String>),
    /// Its body cannot be read, and why.
    Unreadable(String),
}

impl NamedModels {
    /// Those of a call. `body` is what the provider would get; it is needed where [`are_in_body`] says so.
    pub(crate) fn of(provider: LlmProvider, call: LlmCall<'_>, headers: &HeaderMap, body: Option<&[u8]>) -> Self {
        if let Some(query) = call.realtime {
            return NamedModels::Named(of_query(query));
        }
        if let Some(model) = of_path(provider, call.path) {
            return NamedModels::Named(vec![model]);
        }
        match body.filter(|body| !body.is_empty()) {
            _ if call.length == Some(0) => NamedModels::NoModel,
            // A form names its model in a part, and a provider that reads the path got none.
            _ if !are_in_body(provider, call) => NamedModels::Named(vec![]),
            None => NamedModels::NoModel,
            Some(body) => match parsed(headers, body) {
                Ok(body) => NamedModels::Named(of_body(&body)),
                Err(why) => NamedModels::Unreadable(why),
            },
        }
    }
}

impl NamedModels {
    /// Whether a list permits all of them; `whose` names the object that has the list. A call that names none is
    /// refused: nobody knows which model the provider would take.
    pub fn permitted_by(&self, list: &ModelList, whose: &dyn Fn() -> String) -> Result<(), Refusal> {
        let refused = |why: String| Err(Refusal::new(Reason::ModelNotAllowed, format!("{}: {why}", whose())));
        match self {
            NamedModels::NoModel => Ok(()),
            NamedModels::Named(models) if models.is_empty() => {
                refused("it lists models, and the call names none".to_owned())
            }
            NamedModels::Named(models) => match models.iter().find(|model| !list.allows(model)) {
                Some(model) => refused(format!("it does not permit the model `{}`", shown(model))),
                None => Ok(()),
            },
            NamedModels::Unreadable(why) => refused(format!("it lists models, and that of the call is unknown: {why}")),
        }
    }
}

/// Whether the body of a call says which models it is for.
pub(crate) fn are_in_body(provider: LlmProvider, call: LlmCall<'_>) -> bool {
    if call.realtime.is_some() {
        return false;
    }
    let reads_path = provider == LlmProvider::Bedrock || of_path(provider, call.path).is_some();
    call.length != Some(0) && !reads_path && !call.is_form()
}

/// The model in the path, where the provider reads it there: for Bedrock, and for deployments of Azure, whose paths are
/// the same in every case of the letters.
pub(crate) fn of_path(provider: LlmProvider, path: &str) -> Option<String> {
    let before = match provider {
        LlmProvider::Bedrock => "model",
        LlmProvider::AzureOpenAi => "deployments",
        LlmProvider::OpenAi | LlmProvider::Anthropic => return None,
    };
    let decoded = |segment: &str| {
        let bytes = percent_decoded(segment)?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    let mut segments = path.split('/');
    segments.find(|segment| decoded(segment).is_some_and(|segment| segment.eq_ignore_ascii_case(before)))?;
    let name = segments.next().filter(|name| !name.is_empty())?;
    Some(decoded(name).unwrap_or_else(|| name.to_owned()))
}

/// Every model that the query of a realtime connection names: `model`, or `deployment` of Azure.
fn of_query(query: &str) -> Vec<String> {
    let parameters = query.split('&').map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")));
    let decoded = |text: &str| {
        let text = text.replace('+', " ");
        let bytes = percent_decoded(&text);
        bytes.map_or_else(|| text.clone(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    };
    let is_model = |name: &str| ["model", "deployment"].iter().any(|known| name.eq_ignore_ascii_case(known));
    parameters.filter(|(name, _)| is_model(&decoded(name))).map(|(_, value)| decoded(value)).collect()
}

/// Every model that a body names: the one that answers, others that may answer in its place, those of tools and of the
/// requests of a batch.
fn of_body(body: &Value) -> Vec<String> {
    let list = |name: &str| body.get(name).and_then(Value::as_array).into_iter().flatten();
    let one = body.get("model").into_iter();
    let others = list("models");
    let tools = list("tools").filter_map(|tool| tool.get("model"));
    let batch = list("requests").filter_map(|request| request.pointer("/params/model"));
    let all = one.chain(others).chain(tools).chain(batch);
    // A name that is no text is none that a list could permit.
    all.map(|model| model.as_str().map_or_else(|| model.to_string(), str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn named(provider: LlmProvider, path: &str, kind: &'static str, body: &str) -> NamedModels {
        let kind = HeaderValue::from_static(kind);
        let call = LlmCall {
            method: "POST",
            path,
            content_type: Some(&kind),
            length: Some(body.len() as u64),
            realtime: None,
        };
        NamedModels::of(provider, call, &HeaderMap::new(), Some(body.as_bytes()))
    }

    fn names(list: &[&str]) -> NamedModels {
        NamedModels::Named(list.iter().map(|name| (*name).to_owned()).collect())
    }

    const JSON: &str = "application/json";

    #[test]
    fn the_model_stands_where_each_provider_reads_it() {
        use LlmProvider::*;
        let body = r#"{"model":"m","messages":[{"model":"of-a-message"}]}"#;
        for (provider, path, expected) in [
            (OpenAi, "/v1/chat/completions", "m"),
            (OpenAi, "/v1/responses", "m"),
            (OpenAi, "/openai/deployments/d/chat/completions", "m"),
            (AzureOpenAi, "/openai/deployments/d/chat/completions", "d"),
            (AzureOpenAi, "/openai/Deployments/d/chat/completions", "d"),
            (AzureOpenAi, "/openai/%64eployments/a%62c/chat/completions", "abc"),
            (AzureOpenAi, "/openai/v1/responses", "m"),
            (Anthropic, "/v1/messages", "m"),
            (Bedrock, "/model/anthropic.claude%3A0/converse", "anthropic.claude:0"),
            (Bedrock, "/model/arn%3Aaws%3Ax%2Fy/invoke", "arn:aws:x/y"),
        ] {
            assert_eq!(named(provider, path, JSON, body), names(&[expected]), "{provider:?} {path}");
        }
    }

    #[test]
    fn a_list_permits_a_call_whose_models_it_knows_and_permits() {
        use idm_plan::ModelPattern;
        let pattern = |text: &str| ModelPattern::parse(text).unwrap();
        let list = ModelList { only: vec![pattern("gpt-*")], except: vec![pattern("gpt-5-pro")] };
        let judged = |models: NamedModels| {
            let judged = models.permitted_by(&list, &|| "Credential shop/nightly".to_owned());
            judged.map_err(|refusal| (refusal.reason, refusal.detail))
        };
        assert_eq!(judged(names(&["gpt-5", "GPT-4"])), Ok(()));
        assert_eq!(judged(NamedModels::NoModel), Ok(()));
        let hidden = format!("x{}", '\u{1b}');
        for (models, said) in [
            (names(&["gpt-5", "gpt-5-pro"]), "Credential shop/nightly: it does not permit the model `gpt-5-pro`"),
            (names(&[&hidden]), "it does not permit the model `x\\u{1b}`"),
            (names(&[]), "the call names none"),
            (NamedModels::Unreadable("why".into()), "why"),
        ] {
            let (reason, detail) = judged(models).unwrap_err();
            assert!(reason == Reason::ModelNotAllowed && detail.contains(said), "{detail}");
        }
    }

    #[test]
    fn every_model_that_may_answer_is_named() {
        let body = r#"{"model":"a","models":["b",7],"tools":[{"type":"image_generation","model":"c"},{}],
            "requests":[{"params":{"model":"d"}}]}"#;
        assert_eq!(named(LlmProvider::OpenAi, "/v1/responses", JSON, body), names(&["a", "b", "7", "c", "d"]));
    }

    #[test]
    fn the_query_of_a_realtime_connection_names_its_models() {
        for (query, expected) in [
            ("model=gpt-realtime", &["gpt-realtime"][..]),
            ("api-version=1&deployment=a%2Db", &["a-b"]),
            ("model=a&%6dodel=b&Model=c", &["a", "b", "c"]),
            ("intent=transcription", &[]),
            ("", &[]),
        ] {
            let call = LlmCall {
                method: "GET",
                path: "/v1/realtime",
                content_type: None,
                length: Some(0),
                realtime: Some(query),
            };
            let found = NamedModels::of(LlmProvider::OpenAi, call, &HeaderMap::new(), None);
            assert_eq!(found, names(expected), "{query}");
        }
    }

    #[test]
    fn a_call_that_names_none_is_not_one_without_a_model() {
        let path = "/v1/x";
        assert_eq!(named(LlmProvider::OpenAi, path, JSON, ""), NamedModels::NoModel);
        assert_eq!(named(LlmProvider::OpenAi, path, JSON, "{}"), names(&[]));
        assert_eq!(named(LlmProvider::OpenAi, path, "multipart/form-data; boundary=x", "--x"), names(&[]));
        assert_eq!(named(LlmProvider::Bedrock, path, JSON, r#"{"model":"m"}"#), names(&[]));
        for unreadable in ["[]", "x", r#"{"model":"a","model":"b"}"#] {
            let found = named(LlmProvider::OpenAi, path, JSON, unreadable);
            assert!(matches!(found, NamedModels::Unreadable(_)), "{unreadable}: {found:?}");
        }
    }
}
