//! Requests of blocked addresses: refused before anything else is done for them.

use std::sync::Arc;

use http::request::Parts;
use idm_types::Refusal;

use crate::record::MAX_TEXT;
use crate::{Context, Trace, authority};

/// Refuses a request whose address is blocked, and notes the block where it is only observed. While nobody is blocked,
/// this is one comparison; the trusted client address is known already.
pub(crate) fn check(context: Context<'_>, head: &Parts, trace: &mut Trace) -> Result<(), Refusal> {
    if context.process.blocks.is_empty() {
        return Ok(());
    }
    let now = context.process.clock.uptime();
    let Some(block) = context.process.blocks.of_address(context.peer.address, now) else { return Ok(()) };
    trace.block = Some(Arc::clone(&block));
    if !block.refuses() {
        return Ok(());
    }
    // For the record; nothing reads it.
    let path = head.uri.path();
    trace.path = path.get(..path.floor_char_boundary(MAX_TEXT + 1)).unwrap_or_default().to_owned();
    if let Ok(host) = authority(&head.uri, &head.headers, head.version) {
        host.clone_into(&mut trace.host);
    }
    Err(idm_authn::address_blocked(&block, block.seconds_left(now)))
}
