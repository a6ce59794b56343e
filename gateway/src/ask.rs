//! Questions to outside servers on behalf of requests: a few at a time, each with an end.

use std::sync::Arc;
use std::time::Duration;

use idm_authn::{Answer, NoAnswer, Outside, Question};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::fetch::Fetcher;

/// Questions under way; one more is refused instead of queued, so that a sick server holds no requests up.
const MAX_UNDER_WAY: usize = 128;
const TIME_LIMIT: Duration = Duration::from_secs(3);
/// Larger answers are refused.
const MAX_ANSWER: usize = 256 * 1024;

/// Asks over HTTP, from the runtime that made it: the serving cores only wait.
pub(crate) struct Asker {
    fetcher: Fetcher,
    runtime: Handle,
    under_way: Arc<Semaphore>,
}

impl Asker {
    pub(crate) fn new(fetcher: &Fetcher) -> Self {
        Self { fetcher: fetcher.clone(), runtime: Handle::current(), under_way: Arc::new(Semaphore::new(MAX_UNDER_WAY)) }
    }
}

impl Outside for Asker {
    fn ask(&self, question: Question) -> Answer {
        let Ok(place) = self.under_way.clone().try_acquire_owned() else {
            return Box::pin(async { Err(NoAnswer::Failed("too many questions to outside servers are under way".into())) });
        };
        let fetcher = self.fetcher.clone();
        let task = self.runtime.spawn(async move {
            let _place = place;
            tokio::time::timeout(TIME_LIMIT, ask(&fetcher, &question)).await.unwrap_or_else(|_| Err(NoAnswer::Failed("no answer in time".into())))
        });
        Box::pin(async move { task.await.unwrap_or_else(|_| Err(NoAnswer::Failed("the question was dropped".into()))) })
    }
}

/// A form, with the client authenticated as RFC 6749 §2.3.1 says.
async fn ask(fetcher: &Fetcher, question: &Question) -> Result<Vec<u8>, NoAnswer> {
    let Question { endpoint, client_id, secret, form } = question;
    let failed = NoAnswer::Failed;
    fetcher.check(endpoint).map_err(|error| failed(error.to_string()))?;
    let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let form = form.iter().map(|(name, value)| format!("{name}={}", encoded(value.reveal()))).collect::<Vec<_>>().join("&");
    let request = fetcher.client().post(endpoint).basic_auth(encoded(client_id), Some(encoded(secret.reveal())));
    let request = request.header("content-type", "application/x-www-form-urlencoded").header("accept", "application/json").body(form);
    // The error of the client may hold the URL and never the body; the token stays out of every message.
    let mut answer = request.send().await.map_err(|error| failed(format!("no answer from {endpoint}: {}", error.without_url())))?;
    let status = answer.status().as_u16();
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|_| failed(format!("the answer of {endpoint} ended early")))? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(failed(format!("the answer of {endpoint} is too large")));
        }
        body.extend_from_slice(&chunk);
    }
    if status == 200 {
        return Ok(body);
    }
    // RFC 6749 §5.2: a code of printable characters, and nothing else of the answer gets into our records.
    let error = serde_json::from_slice::<serde_json::Value>(&body).ok().and_then(|answer| Some(answer["error"].as_str()?.to_owned()));
    let error = error.filter(|error| error.len() <= 64 && error.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
    Err(NoAnswer::Refused { endpoint: endpoint.clone(), status, error })
}
