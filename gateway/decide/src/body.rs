//! The body of a request during the decision: it streams, and is buffered only where it must be checked before it may
//! pass.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body::Body;
use idm_types::Refusal;

use crate::held::{Caller, Held, Holding, Pace, Unheld};

/// The largest body that is buffered.
pub const MAX_HELD: usize = 1 << 20;

/// A request's body before it is forwarded.
pub enum Payload<B> {
    /// Not read yet.
    Streaming(B),
    /// Buffered completely.
    Held(Held),
}

impl<B: Body<Data = Bytes> + Unpin> Payload<B> {
    /// Waits for the whole body, up to `limit` bytes, and counts its memory for this address. A body that arrived too
    /// slowly is abandoned, and its connection is closed.
    pub async fn hold(
        &mut self,
        holding: &Arc<Holding>,
        limit: usize,
        address: IpAddr,
        caller: Caller,
    ) -> Result<(), Refusal> {
        let Payload::Streaming(incoming) = self else { return Ok(()) };
        match holding.read(incoming, limit, Pace::Steady, holding.share(address, caller)).await {
            Ok(held) => *self = Payload::Held(held),
            Err(why) => {
                if matches!(why, Unheld::TooSlow { .. }) {
                    *self = Payload::Held(Held::nothing(holding.share(address, caller)));
                }
                return Err(why.of_request(limit));
            }
        }
        Ok(())
    }

    /// Whether there may be a body: false only where it is known that there is none.
    pub fn may_follow(&self) -> bool {
        match self {
            Payload::Streaming(incoming) => !incoming.is_end_stream(),
            Payload::Held(held) => !held.bytes().is_empty(),
        }
    }

    /// The body as a copy that shares its bytes, once it is held.
    pub fn held_bytes(&self) -> Option<Bytes> {
        match self {
            Payload::Streaming(_) => None,
            Payload::Held(held) => Some(held.bytes().clone()),
        }
    }

    /// The body, once it is held.
    pub fn held(&self) -> Option<&[u8]> {
        match self {
            Payload::Streaming(_) => None,
            Payload::Held(held) => Some(held.bytes()),
        }
    }

    /// The caller was authenticated: a buffered body counts against the budget of known callers from now on.
    pub fn now_known(&self) {
        if let Payload::Held(held) = self {
            held.now_known();
        }
    }
}
