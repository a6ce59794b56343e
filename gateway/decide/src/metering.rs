//! The counting of a language model's call: settled with the decision, used when the answer comes.

use idm_transform::{Call, Price};

/// The counting of a language model's call.
#[derive(Clone, Copy, Debug)]
pub struct Metering {
    /// The call.
    pub call: Call,
    /// The gateway asked for the usage, and not the caller: the event that tells it is not passed on.
    pub hides_usage: bool,
    /// It is a realtime connection, counted while it is open.
    pub realtime: bool,
    /// The price of its tokens; `None` where nothing has a price.
    pub price: Option<Price>,
}
