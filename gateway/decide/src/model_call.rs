//! A call to a language model while it is decided: its model, its price, its prompt, and what is counted for it.

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body::Body;
use idm_authn::CredentialTable;
use idm_plan::{ModelList, ObjectKey};
use idm_request::{Facts, Identity, RequestView};
use idm_store::Unit;
use idm_transform::{ArmedLlm, Body as LlmBody, Call, Content, LlmCall, Price, Reservation};
use idm_types::Refusal;

use crate::engine::PolicyInForce;
use crate::limits::RequestLimits;
use crate::{Metering, Payload, Trace};

/// A call to a language model.
pub(crate) struct ModelCall<'a> {
    llm: &'a ArmedLlm,
    call: LlmCall<'a>,
    kind: LlmBody,
    metering: Metering,
    has_prompt: bool,
    /// The lists of models that count for the caller, each with the kind and name of its object.
    lists: Vec<(&'static str, &'a ObjectKey, &'a ModelList)>,
}

impl<'a> ModelCall<'a> {
    /// The call that a request is; `None` where its policy has no language model.
    pub(crate) fn of<B: Body>(
        policy: &'a PolicyInForce,
        table: &'a CredentialTable,
        view: RequestView<'a>,
        (body, websocket): (&Payload<B>, bool),
        identity: &'a Identity,
    ) -> Option<Self> {
        let llm = policy.llm.as_ref()?;
        let length = match body {
            Payload::Streaming(incoming) => incoming.size_hint().exact(),
            Payload::Held(held) => Some(held.bytes().len() as u64),
        };
        let content_type = view.headers.get(CONTENT_TYPE);
        let realtime = websocket.then(|| view.query.unwrap_or_default());
        let call = LlmCall { method: view.method, path: view.path, content_type, length, realtime };
        let kind = llm.body_of(call);
        let request_bytes = if let LlmBody::Streams { bytes } = kind { bytes } else { 0 };
        let counted = Call { request_bytes, estimates: call.charges_what_is_not_told() };
        let of_policy = ("IdentityPolicy", &policy.armed.plan().key, llm.models());
        let of_policy = Some(of_policy).filter(|(_, _, list)| !list.is_open());
        Some(Self {
            llm,
            call,
            kind,
            metering: Metering { call: counted, hides_usage: false, realtime: websocket, price: None },
            has_prompt: llm.asks_about(call),
            lists: of_policy.into_iter().chain(table.models_of(identity)).collect(),
        })
    }

    /// Whether its body must be held before it may pass.
    pub(crate) fn wants_body(&self, limits: &RequestLimits<'_>) -> bool {
        if self.metering.realtime {
            return false;
        }
        let is_held = !matches!(self.kind, LlmBody::Streams { .. });
        let names_model = self.asks_for_model() && self.llm.names_models_in_body(self.call);
        is_held || self.has_prompt || names_model || self.reserves(limits)
    }

    fn asks_for_model(&self) -> bool {
        !self.lists.is_empty() || self.llm.has_prices()
    }

    fn reserves(&self, limits: &RequestLimits<'_>) -> bool {
        (self.metering.call.estimates || self.metering.realtime) && limits.reserve()
    }

    /// Whether the lists permit its model, the model has a price, and the rules permit its prompt.
    pub(crate) fn check(&mut self, content: &Content<'_>, facts: &Facts<'_>, trace: &mut Trace) -> Result<(), Refusal> {
        let Self { llm, call, .. } = *self;
        let (headers, body): (&HeaderMap, _) = (content.headers, content.body.as_deref());
        if self.asks_for_model() {
            let models = llm.models_named(call, headers, body);
            for (kind, key, list) in &self.lists {
                models.permitted_by(list, &|| format!("{kind} {key}"))?;
            }
            self.metering.price = llm.price_of(call, &models)?;
        }
        if self.has_prompt {
            let permitted = llm.permits(call.path, headers, body.unwrap_or_default(), facts);
            permitted.inspect_err(|refusal| trace.decided_by(refusal))?;
        }
        Ok(())
    }

    /// The most that it may use, where something is reserved for it.
    pub(crate) fn reserved(
        &self,
        limits: &RequestLimits<'_>,
        body: Option<&[u8]>,
    ) -> Result<Option<Reserved>, Refusal> {
        let price = self.metering.price;
        if self.metering.realtime {
            let next = Reserved { most: Reservation::of_next_answer(), price };
            return Ok(self.reserves(limits).then_some(next));
        }
        let Some(body) = body.filter(|_| self.reserves(limits)) else { return Ok(None) };
        Ok(Some(Reserved { most: Reservation::of(self.call.path, body)?, price }))
    }

    /// Its counting; asks the provider for the usage where it would not tell it.
    pub(crate) fn metered(mut self, content: &mut Content<'_>) -> Result<Metering, Refusal> {
        let held: Option<Bytes> = content.body.clone();
        let call = &mut self.metering.call;
        call.request_bytes = held.as_ref().map_or(call.request_bytes, |body| body.len() as u64);
        if let (LlmBody::Read, Some(body)) = (self.kind, held) {
            let asks = self.llm.ask_for_usage(content.headers, &body)?;
            self.metering.hides_usage = asks.is_some();
            content.replaced |= asks.is_some();
            content.body = asks.or(Some(body));
        }
        Ok(self.metering)
    }
}

/// The most that a call may use.
pub(crate) struct Reserved {
    most: Reservation,
    price: Option<Price>,
}

impl Reserved {
    /// Its number in a unit, where a call that does not say how many completion tokens it takes gets `default`.
    pub(crate) fn number(&self, unit: Unit, default: u64) -> u64 {
        match unit {
            Unit::Tokens => self.most.tokens(default),
            Unit::Micros => self.price.map_or(0, |price| price.at_most(&self.most, default).0),
        }
    }

    /// The price of the call; `None`: its policy has no prices.
    pub(crate) fn price(&self) -> Option<Price> {
        self.price
    }
}
