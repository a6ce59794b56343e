//! The use of language models, counted from the records.

use idm_tests::{ANONYMOUS, Upstream, eventually, open_to, raw};
use serde_json::{Value, json};

use crate::bed::{CANARY, Managed};

#[test]
fn tokens_of_language_models_are_counted_and_refused_prompts_named() {
    let body = r#"{"model":"small-1","choices":[],"usage":{"prompt_tokens":30,"completion_tokens":12}}"#;
    let head = format!("Content-Type: application/json\r\nContent-Length: {}", body.len());
    let upstream = Upstream::answering(&format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}"));
    let yaml = format!(
        "{}  llm: {{keyRef: {{name: provider}}, provider: OpenAI,\n    \
         quotas: [{{tokens: 100, perSeconds: 31536000}}],\n    \
         prices: {{currency: USD, models: [{{model: '*', prompt: '1', completion: '2.5'}}]}},\n    \
         rules: [{{name: small-only, allow: \"llm.model.startsWith('small')\"}}]}}\n{}",
        open_to(&upstream, ANONYMOUS),
        idm_tests::secret("provider", &[("apiKey", CANARY.to_owned())])
    );
    let managed = Managed::over(upstream, &yaml, &[]).sign_in();
    let empty = managed.get("/api/v1/llm");
    assert_eq!((&empty["total"]["calls"], &empty["complete"]), (&json!(0), &json!(true)), "{empty:#}");
    assert_eq!((&empty["quotas"][0]["used"], &empty["quotas"][0]["who"]), (&json!(0), &json!("")), "{empty:#}");
    let chat = |model: &str| {
        let asked = json!({"model": model, "messages": []}).to_string();
        let head =
            "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json";
        let request = format!("{head}\r\nContent-Length: {}\r\n\r\n{asked}", asked.len());
        raw(managed.gateway.address, request.as_bytes()).status
    };
    assert_eq!((chat("small-1"), chat("small-1"), chat("large-9")), (200, 200, 403));
    let told = eventually("both calls and the refusal", || {
        let told = managed.get("/api/v1/llm?limit=1");
        let is_counted = told["total"]["calls"] == 2 && told["refused"][0]["count"] == 1;
        if is_counted { Ok(told) } else { Err(told.to_string()) }
    });
    let caller = &told["callers"][0];
    let numbers = (&caller["model"], &caller["promptTokens"], &caller["completionTokens"], &caller["isCredential"]);
    assert_eq!(numbers, (&json!("small-1"), &json!(60), &json!(24), &json!(false)), "{told:#}");
    // 60 and 24 tokens, to the millionth of a dollar.
    assert_eq!(caller["cost"], json!([{"currency": "USD", "amount": "0.00012"}]), "{told:#}");
    assert_eq!(told["total"]["cost"], caller["cost"], "{told:#}");
    let steps: u64 = caller["steps"].as_array().expect("steps").iter().filter_map(Value::as_u64).sum();
    assert_eq!((steps, &told["pairs"], &told["next"]), (84, &json!(1), &Value::Null), "{told:#}");
    let refused = &told["refused"][0];
    assert_eq!((&refused["reason"], &refused["rule"]), (&json!("PromptRefused"), &json!("small-only")), "{told:#}");
    let id = refused["lastId"].as_str().expect("an id");
    assert_eq!(managed.get(&format!("/api/v1/audit/{id}"))["item"]["reason"], "PromptRefused");
    // The year of the quota began before the day that is counted, which the answer says.
    let quota = &told["quotas"][0];
    assert_eq!((&quota["used"], &quota["tokens"], &quota["complete"]), (&json!(84), &json!(100), &json!(false)));
    for wrong in ["since=2027-01-01T00:00:00Z&until=2026-01-01T00:00:00Z", "since=today", "after=x", "limit=0"] {
        assert_eq!(managed.ask("GET", &format!("/api/v1/llm?{wrong}"), &Value::Null).status, 400, "{wrong}");
    }
    assert!(!told.to_string().contains(CANARY));
}
