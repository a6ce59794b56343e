//! Keys behind a command: the client of a key management service (AWS, GCP, Azure, Vault), in a process of its own.
//!
//! It gets one JSON object on standard input: `{"operation": "wrap", "keyId": …, "namespace": …, "plaintext": …}` or
//! `{"operation": "unwrap", "keyId": …, "namespace": …, "ciphertext": …}`, with bytes in base64. It answers with
//! `{"ciphertext": …}` or `{"plaintext": …}` on standard output and exits with 0. It has no environment and no shell,
//! a deadline, and room for 64 KiB. Nothing of its output but a valid answer is used: it may be a key.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use idm_types::Redacted;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use crate::{DataKey, KeyError, KeyFuture, KeyService};

const MAX_OUTPUT: u64 = 64 << 10;
const DEADLINE: Duration = Duration::from_secs(5);

/// A command that wraps and unwraps.
#[derive(Clone, Debug)]
pub struct KeyCommand {
    program: PathBuf,
    arguments: Vec<String>,
    primary: Option<String>,
    deadline: Duration,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Question<'a> {
    operation: &'static str,
    key_id: &'a str,
    namespace: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    plaintext: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ciphertext: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answered {
    key_id: Option<String>,
    plaintext: Option<String>,
    ciphertext: Option<String>,
}

impl KeyCommand {
    /// A program with its arguments; the first word is its path. `primary` is the id of the key for new values: without
    /// one it only opens.
    pub fn new(words: &[String], primary: Option<String>) -> Result<Self, KeyError> {
        let Some((program, arguments)) = words.split_first().filter(|(program, _)| program.starts_with('/')) else {
            return Err(KeyError::Invalid(
                "the command for keys must begin with the absolute path of a program".into(),
            ));
        };
        Ok(Self { program: program.into(), arguments: arguments.to_vec(), primary, deadline: DEADLINE })
    }

    /// The same with another time for an answer.
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    async fn ask(&self, question: &Question<'_>) -> Result<Answered, KeyError> {
        let said = |what: String| KeyError::Command(what);
        let question = serde_json::to_vec(question).map_err(|_| said("cannot be asked".into()))?;
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| said(format!("{} cannot be started: {}", self.program.display(), error.kind())))?;
        let answered = tokio::time::timeout(self.deadline, exchange(&mut child, Redacted::new(question))).await;
        match answered {
            Ok(answer) => answer.map_err(said),
            Err(_) => Err(said(format!("gave no answer within {} ms", self.deadline.as_millis()))),
        }
    }

    /// The bytes of an answer of the right key.
    async fn bytes(
        &self,
        question: Question<'_>,
        of: fn(Answered) -> (Option<String>, Option<String>),
    ) -> Result<Redacted<Vec<u8>>, KeyError> {
        let wrong = || KeyError::WrongAnswer(question.key_id.to_owned());
        let (key_id, value) = of(self.ask(&question).await?);
        if key_id.is_some_and(|key_id| key_id != question.key_id) {
            return Err(wrong());
        }
        let value = Redacted::new(value.ok_or_else(wrong)?);
        STANDARD.decode(value.reveal()).map(Redacted::new).map_err(|_| wrong())
    }
}

/// Writes the question, reads the answer, and waits for the end.
async fn exchange(child: &mut Child, question: Redacted<Vec<u8>>) -> Result<Answered, String> {
    let (input, output) = (child.stdin.take(), child.stdout.take());
    let (Some(mut input), Some(output)) = (input, output) else { return Err("has no pipes".into()) };
    let write = async move {
        // A command that does not read its question cannot answer it either.
        let _ = input.write_all(question.reveal()).await;
        drop(input);
    };
    let mut read = Vec::new();
    let mut bounded = output.take(MAX_OUTPUT + 1);
    let ((), outcome) = tokio::join!(write, bounded.read_to_end(&mut read));
    outcome.map_err(|error| format!("could not be read: {}", error.kind()))?;
    let is_too_long = read.len() as u64 > MAX_OUTPUT;
    let text = Redacted::new(read);
    if is_too_long {
        return Err("wrote more than 64 KiB".into());
    }
    let status = child.wait().await.map_err(|error| format!("cannot be waited for: {}", error.kind()))?;
    if !status.success() {
        return Err(format!("ended with {status}"));
    }
    // The error of the parser would show a part of the text.
    serde_json::from_slice(text.reveal()).map_err(|_| "did not answer with one JSON object".into())
}

impl KeyService for KeyCommand {
    fn primary(&self) -> Result<String, KeyError> {
        self.primary.clone().ok_or(KeyError::NoPrimary)
    }

    fn wrap<'a>(&'a self, key_id: &'a str, namespace: &'a str, key: &'a DataKey) -> KeyFuture<'a, Vec<u8>> {
        let plaintext = Some(STANDARD.encode(key.bytes()));
        let question = Question { operation: "wrap", key_id, namespace, plaintext, ciphertext: None };
        Box::pin(async move {
            let wrapped = self.bytes(question, |answer| (answer.key_id, answer.ciphertext)).await?;
            Ok(wrapped.reveal().clone())
        })
    }

    fn unwrap<'a>(&'a self, key_id: &'a str, namespace: &'a str, wrapped: &'a [u8]) -> KeyFuture<'a, DataKey> {
        let ciphertext = Some(STANDARD.encode(wrapped));
        let question = Question { operation: "unwrap", key_id, namespace, plaintext: None, ciphertext };
        Box::pin(async move {
            let bytes = self.bytes(question, |answer| (answer.key_id, answer.plaintext)).await?;
            DataKey::parse(bytes.reveal()).ok_or_else(|| KeyError::WrongAnswer(key_id.to_owned()))
        })
    }
}

#[cfg(test)]
mod tests;
