//! Questions to outside servers on behalf of requests: a few at a time, each with an end.

use std::sync::Arc;
use std::time::Duration;

use idm_authn::{Answer, Outside, Question};
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
    fn introspect(&self, question: Question) -> Answer {
        let Ok(place) = self.under_way.clone().try_acquire_owned() else {
            return Box::pin(async { Err("too many questions to outside servers are under way".into()) });
        };
        let fetcher = self.fetcher.clone();
        let task = self.runtime.spawn(async move {
            let _place = place;
            tokio::time::timeout(TIME_LIMIT, ask(&fetcher, &question)).await.unwrap_or_else(|_| Err("no answer in time".into()))
        });
        Box::pin(async move { task.await.unwrap_or_else(|_| Err("the question was dropped".into())) })
    }
}

/// RFC 7662 §2.1, with the client authenticated as RFC 6749 §2.3.1 says.
async fn ask(fetcher: &Fetcher, question: &Question) -> Result<Vec<u8>, String> {
    let Question { endpoint, client_id, secret, token } = question;
    fetcher.check(endpoint).map_err(|error| error.to_string())?;
    let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let form = format!("token={}&token_type_hint=access_token", encoded(token.reveal()));
    let request = fetcher.client().post(endpoint).basic_auth(encoded(client_id), Some(encoded(secret.reveal())));
    let request = request.header("content-type", "application/x-www-form-urlencoded").header("accept", "application/json").body(form);
    // The error of the client may hold the URL and never the body; the token stays out of every message.
    let mut answer = request.send().await.map_err(|error| format!("no answer from {endpoint}: {}", error.without_url()))?;
    if answer.status() != 200 {
        return Err(format!("{endpoint} answered {}", answer.status().as_u16()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|_| format!("the answer of {endpoint} ended early"))? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(format!("the answer of {endpoint} is too large"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
