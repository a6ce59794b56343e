//! Questions to outside servers on behalf of requests: a few at a time, each with an end.

use std::sync::Arc;
use std::time::Duration;

use idm_authn::{Answer, Authorization, NoAnswer, Outside, Patience, Question, Work};
use idm_plan::{OutgoingTls, Secrets};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::fetch::Fetcher;

/// Questions under way; one more is refused instead of queued, so that a sick server holds no requests up.
const MAX_UNDER_WAY: usize = 128;
const SHORT: Duration = Duration::from_secs(3);
const LONG: Duration = Duration::from_secs(20);
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
        Self {
            fetcher: fetcher.clone(),
            runtime: Handle::current(),
            under_way: Arc::new(Semaphore::new(MAX_UNDER_WAY)),
        }
    }
}

impl Outside for Asker {
    fn ask(&self, question: Question) -> Answer {
        let Ok(place) = self.under_way.clone().try_acquire_owned() else {
            return Box::pin(async {
                Err(NoAnswer::Failed("too many questions to outside servers are under way".into()))
            });
        };
        let fetcher = self.fetcher.clone();
        let limit = match question.patience {
            Patience::Short => SHORT,
            Patience::Long => LONG,
        };
        let task = self.runtime.spawn(async move {
            let _place = place;
            tokio::time::timeout(limit, ask(&fetcher, &question, limit))
                .await
                .unwrap_or_else(|_| Err(NoAnswer::Failed("no answer in time".into())))
        });
        Box::pin(async move { task.await.unwrap_or_else(|_| Err(NoAnswer::Failed("the question was dropped".into()))) })
    }

    fn reached_by(&self, tls: &OutgoingTls, secrets: &Secrets) -> Result<Arc<dyn Outside>, String> {
        let fetcher = self.fetcher.reached_by(tls, secrets)?;
        Ok(Arc::new(Self { fetcher, runtime: self.runtime.clone(), under_way: self.under_way.clone() }))
    }

    fn carry_on(&self, work: Work) {
        self.runtime.spawn(work);
    }
}

/// A form or a look at a document, with whatever proves us.
async fn ask(fetcher: &Fetcher, question: &Question, limit: Duration) -> Result<Vec<u8>, NoAnswer> {
    let Question { endpoint, authorization, form, expected, patience: _ } = question;
    let failed = NoAnswer::Failed;
    fetcher.check(endpoint).map_err(|error| failed(error.to_string()))?;
    let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let request = match form {
        Some(form) => {
            let form = form
                .iter()
                .map(|(name, value)| format!("{}={}", encoded(name), encoded(value.reveal())))
                .collect::<Vec<_>>()
                .join("&");
            fetcher.client().post(endpoint).header("content-type", "application/x-www-form-urlencoded").body(form)
        }
        None => fetcher.client().get(endpoint),
    };
    let request = match authorization {
        Authorization::Nothing => request,
        // RFC 6749 §2.3.1: both are encoded first.
        Authorization::Basic { client_id, secret } => {
            request.basic_auth(encoded(client_id), Some(encoded(secret.reveal())))
        }
        Authorization::Bearer(token) => request.bearer_auth(token.reveal()),
    };
    let request = request.header("accept", "application/json, */*;q=0.1").timeout(limit);
    // The error of the client may hold the URL and never the body; the token stays out of every message.
    let mut answer =
        request.send().await.map_err(|error| failed(format!("no answer from {endpoint}: {}", error.without_url())))?;
    let status = answer.status().as_u16();
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|_| failed(format!("the answer of {endpoint} ended early")))? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(failed(format!("the answer of {endpoint} is too large")));
        }
        body.extend_from_slice(&chunk);
    }
    if status == *expected {
        return Ok(body);
    }
    // RFC 6749 §5.2: a code of printable characters, and nothing else of the answer gets into our records.
    let error = serde_json::from_slice::<serde_json::Value>(&body)
        .ok()
        .and_then(|answer| Some(answer["error"].as_str()?.to_owned()));
    let error =
        error.filter(|error| error.len() <= 64 && error.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
    Err(NoAnswer::Refused { endpoint: endpoint.clone(), status, error })
}
