//! The counting of a language model's call: settled with the decision, used when the answer comes.

use http::header::CONTENT_TYPE;
use http_body::Body;
use idm_request::RequestView;
use idm_transform::{ArmedLlm, Body as LlmBody, Call, LlmCall};

use crate::Payload;

/// The counting of a language model's call.
#[derive(Clone, Copy, Debug)]
pub struct Metering {
    /// The call.
    pub call: Call,
    /// The gateway asked for the usage, and not the caller: the event that tells it is not passed on.
    pub hides_usage: bool,
    /// The rules of the policy must permit its prompt.
    pub(crate) has_prompt: bool,
}

impl Metering {
    /// The treatment of the call's body, and its counting so far.
    pub(crate) fn of<B: Body>(llm: &ArmedLlm, view: RequestView<'_>, body: &Payload<B>) -> (LlmBody, Self) {
        let length = match body {
            Payload::Streaming(incoming) => incoming.size_hint().exact(),
            Payload::Held(held) => Some(held.bytes().len() as u64),
        };
        let content_type = view.headers.get(CONTENT_TYPE);
        let call = LlmCall { method: view.method, path: view.path, content_type, length };
        let (kind, has_prompt) = (llm.body_of(call), llm.asks_about(call));
        let request_bytes = if let LlmBody::Streams { bytes } = kind { bytes } else { 0 };
        let call = Call { request_bytes, estimates: call.charges_what_is_not_told() };
        (kind, Self { call, hides_usage: false, has_prompt })
    }
}
