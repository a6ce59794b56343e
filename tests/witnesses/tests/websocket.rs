//! A realtime connection to a language model, with `tungstenite` as the program that calls and as the provider.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use idm_tests::{Gateway, eventually, open_to_address, secret};
use serde_json::{Value, json};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket, accept, client};

/// A provider that answers each message with an event that tells 50 tokens.
fn provider() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let Ok(mut socket) = accept(stream) else { return };
                let _ = socket.send(Message::text(r#"{"type":"session.created","session":{"model":"rt-1"}}"#));
                while let Ok(message) = socket.read() {
                    if message.is_text() {
                        let said = message.into_text().expect("text");
                        let done = json!({"type": "response.done", "said": said.as_str(),
                            "response": {"usage": {"input_tokens": 10, "output_tokens": 40}}});
                        let _ = socket.send(Message::text(done.to_string()));
                    }
                }
            });
        }
    });
    address
}

fn open(gateway: &Gateway) -> Result<WebSocket<TcpStream>, u16> {
    let stream = TcpStream::connect(gateway.address).expect("it listens");
    match client("ws://a/v1/realtime?model=rt-1", stream) {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(answer))) => Err(answer.status().as_u16()),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_program_speaks_until_its_budget_is_used_up() {
    let limits =
        "  limits: [{name: month, key: AllCallers, tokens: {tokens: 240, per: Month, defaultOutputTokens: 45}}]";
    let yaml = format!(
        "{}  llm: {{keyRef: {{name: provider}}, provider: OpenAI}}\n{limits}\n{}",
        open_to_address(provider(), "    - {name: everyone, anonymous: {}}\n"),
        secret("provider", &[("apiKey", "sk-1".to_owned())])
    );
    let gateway = Gateway::start(&[("all.yaml", &yaml)]);
    let mut socket = open(&gateway).expect("it is open");
    assert!(socket.read().expect("a message").into_text().expect("text").contains("session.created"));
    // A message of each length that frames write differently.
    for length in [5, 1_000, 100_000, 1] {
        let said = "x".repeat(length);
        socket.send(Message::text(said.clone())).expect("it is sent");
        let told: Value =
            serde_json::from_str(&socket.read().expect("an event").into_text().expect("text")).expect("JSON");
        assert_eq!(told["said"], json!(said), "it passes unchanged");
    }
    // 200 of 240 tokens are used, and the next answer may take 45.
    match socket.read().expect("the close frame") {
        Message::Close(Some(frame)) => assert_eq!(frame.code, CloseCode::Policy),
        other => panic!("{other}"),
    }
    let usage = eventually("the record", || {
        let records = gateway.records();
        let found = records.iter().find(|record| record["reason"] == "TokenQuotaExceeded");
        found.map(|record| record["usage"].clone()).ok_or_else(|| format!("{records:?}"))
    });
    assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&json!(40), &json!(160)));
    assert_eq!(open(&gateway).err(), Some(429));
}
