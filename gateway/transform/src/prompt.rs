//! The rules about what is asked of a language model.
//!
//! A rule is a CEL condition over the variable `llm`, which is made of the request's body as the provider will read it.
//! Every rule must hold. A body that cannot be read is refused: what is not seen cannot be permitted. The texts of a
//! prompt are in no refusal, log or record.

use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use idm_expr::Expression;
use idm_plan::{LlmProvider, PromptRule};
use idm_request::Facts;
use idm_types::{Reason, Refusal, RuleName};
use serde_json::{Map, Value};

use crate::models::of_path;
use crate::refusal;
use crate::reserve::MOST;

/// The rules of a policy, ready to be asked.
pub(crate) struct PromptRules(Vec<(RuleName, Expression)>);

/// A request to a provider.
pub(crate) struct Prompt<'r> {
    pub(crate) provider: LlmProvider,
    pub(crate) path: &'r str,
    pub(crate) headers: &'r HeaderMap,
    pub(crate) body: &'r [u8],
}

impl PromptRules {
    pub(crate) fn arm(rules: &[PromptRule]) -> Result<Self, String> {
        let arm = |rule: &PromptRule| Ok((rule.name.clone(), Expression::arm(&rule.allow)?));
        rules.iter().map(arm).collect::<Result<_, String>>().map(Self)
    }

    pub(crate) fn are_none(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every rule holds. `facts` are those of the request, without a prompt.
    pub(crate) fn check(&self, prompt: &Prompt<'_>, facts: &Facts<'_>) -> Result<(), Refusal> {
        let described = prompt.described()?;
        let facts = Facts { llm: Some(&described), ..*facts };
        for (name, allow) in &self.0 {
            let refused = |reason, detail: String| Refusal::new(reason, detail).by_rule(name);
            match allow.holds(&facts) {
                Ok(true) => {}
                Ok(false) => return Err(refused(Reason::PromptRefused, "the rule does not hold for it".into())),
                Err(error) => return Err(refused(error.reason(Reason::PromptRefused), error.to_string())),
            }
        }
        Ok(())
    }
}

impl Prompt<'_> {
    /// The variable `llm`.
    fn described(&self) -> Result<Value, Refusal> {
        let parsed = parsed(self.headers, self.body).map_err(|why| refusal("llm", Reason::PromptRefused, why))?;
        let mut described = Map::new();
        if let Some(model) = self.model(&parsed) {
            described.insert("model".into(), model.into());
        }
        if let Some(most) = MOST.iter().filter_map(|place| parsed.pointer(place)?.as_u64()).max() {
            described.insert("maxTokens".into(), most.into());
        }
        described.insert("tools".into(), tools(&parsed).into());
        let streams = parsed.get("stream") == Some(&Value::Bool(true)) || self.path.ends_with("-stream");
        described.insert("stream".into(), streams.into());
        let mut text = String::new();
        texts(&parsed, &mut text);
        described.insert("text".into(), text.into());
        Ok(described.into())
    }

    /// The model, in the place where the provider reads it.
    fn model(&self, body: &Value) -> Option<String> {
        let of_body = || body.get("model").and_then(Value::as_str).map(str::to_owned);
        match self.provider {
            LlmProvider::Bedrock => of_path(self.provider, self.path),
            LlmProvider::AzureOpenAi | LlmProvider::OpenAi | LlmProvider::Anthropic => {
                of_path(self.provider, self.path).or_else(of_body)
            }
        }
    }
}

/// The JSON object in a body. The error says why a provider could read another one, or none.
pub(crate) fn parsed(headers: &HeaderMap, body: &[u8]) -> Result<Value, String> {
    if let Some(coding) = headers.get(CONTENT_ENCODING) {
        return Err(format!("the body has the content coding {coding:?}: send it without one"));
    }
    // Two readers of one body must not disagree about what it asks.
    match idm_jose::parse_strict(body) {
        Ok(parsed @ Value::Object(_)) => Ok(parsed),
        Ok(_) => Err("the body is not a JSON object".into()),
        Err(error) => Err(format!("the body is not JSON that names each member once: {error}")),
    }
}

/// The names of the tools that the model may call: of functions their names, of tools of the provider's own their type.
fn tools(body: &Value) -> Vec<Value> {
    let lists = ["/tools", "/functions", "/toolConfig/tools", "/mcp_servers"];
    let all = lists.iter().filter_map(|place| body.pointer(place)?.as_array()).flatten();
    let name = |tool: &Value| {
        let places = ["/function/name", "/name", "/toolSpec/name", "/server_label", "/type"];
        places.iter().find_map(|place| tool.pointer(place)?.as_str()).unwrap_or_default().to_owned()
    };
    all.map(|tool| Value::String(name(tool))).collect()
}

/// Every text of a value, in order, each on a line of its own: whatever member a provider reads, it is among them.
fn texts(value: &Value, all: &mut String) {
    match value {
        Value::String(text) => {
            all.push_str(text);
            all.push('\n');
        }
        Value::Array(items) => items.iter().for_each(|item| texts(item, all)),
        Value::Object(members) => members.values().for_each(|member| texts(member, all)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use idm_expr::parse;
    use idm_plan::Variable;
    use idm_types::Decider;

    use super::*;

    fn described(provider: LlmProvider, path: &str, body: &str) -> Result<Value, Reason> {
        let headers = HeaderMap::new();
        let prompt = Prompt { provider, path, headers: &headers, body: body.as_bytes() };
        prompt.described().map_err(|refusal| refusal.reason)
    }

    #[test]
    fn the_prompt_is_described_where_each_provider_reads_it() {
        let chat = r#"{"model":"m","max_completion_tokens":9,"stream":true,"messages":[{"role":"user","content":"hi"},
            {"role":"user","content":[{"type":"text","text":"there"}]}],
            "tools":[{"type":"function","function":{"name":"f"}},{"type":"web_search"}]}"#;
        let of = described(LlmProvider::OpenAi, "/v1/chat/completions", chat).unwrap();
        assert_eq!((&of["model"], &of["maxTokens"], &of["stream"]), (&"m".into(), &9.into(), &true.into()));
        assert_eq!(of["tools"], serde_json::json!(["f", "web_search"]));
        let text = of["text"].as_str().unwrap();
        assert!(text.contains("hi\n") && text.contains("there\n"), "{text}");
        let azure = described(LlmProvider::AzureOpenAi, "/openai/deployments/big/chat/completions", chat).unwrap();
        assert_eq!(azure["model"], "big", "the deployment decides, whatever the body says");
        let bedrock = r#"{"inferenceConfig":{"maxTokens":7},"toolConfig":{"tools":[{"toolSpec":{"name":"t"}}]}}"#;
        let bedrock = described(LlmProvider::Bedrock, "/model/a.b%3A0/converse-stream", bedrock).unwrap();
        assert_eq!((&bedrock["model"], &bedrock["maxTokens"]), (&"a.b:0".into(), &7.into()));
        assert_eq!((&bedrock["tools"], &bedrock["stream"]), (&serde_json::json!(["t"]), &true.into()));
        let bare = described(LlmProvider::Anthropic, "/v1/messages", "{}").unwrap();
        assert_eq!(bare, serde_json::json!({"tools": [], "stream": false, "text": ""}));
    }

    #[test]
    fn a_body_that_cannot_be_read_is_refused() {
        for body in ["", "[]", "--x\r\n", r#"{"model":"a","model":"b"}"#] {
            assert_eq!(described(LlmProvider::OpenAi, "/v1/x", body), Err(Reason::PromptRefused), "{body}");
        }
    }

    fn rule_of(refusal: Refusal) -> Option<String> {
        match refusal.by {
            Some(Decider::Rule(name)) => Some(name.to_string()),
            _ => None,
        }
    }

    #[test]
    fn every_rule_must_hold_and_no_refusal_shows_the_prompt() {
        let variables: Vec<Variable> = Variable::ALL.iter().copied().chain([Variable::Llm]).collect();
        let rule = |name: &str, text: &str| PromptRule {
            name: name.parse().unwrap(),
            allow: parse(text, &variables).unwrap(),
        };
        let rules = [
            rule("small", "llm.model == 'small' && llm.maxTokens <= 100"),
            rule("no-secrets", "!llm.text.contains('hunter2')"),
        ];
        let rules = PromptRules::arm(&rules).unwrap();
        let headers = HeaderMap::new();
        let check = |body: &str| {
            let prompt =
                Prompt { provider: LlmProvider::OpenAi, path: "/v1/x", headers: &headers, body: body.as_bytes() };
            rules.check(&prompt, &Facts::default()).map_err(|refusal| {
                assert!(!refusal.detail.contains("hunter2"), "{}", refusal.detail);
                (refusal.reason, rule_of(refusal))
            })
        };
        assert_eq!(check(r#"{"model":"small","max_tokens":100,"input":"hi"}"#), Ok(()));
        let refused = |rule: &str| Err((Reason::PromptRefused, Some(rule.to_owned())));
        assert_eq!(check(r#"{"model":"big","max_tokens":100}"#), refused("small"));
        assert_eq!(check(r#"{"model":"small"}"#), refused("small"), "what is not said is not less");
        assert_eq!(check(r#"{"model":"small","max_tokens":1,"x":[{"y":"hunter2"}]}"#), refused("no-secrets"));
    }
}
