use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A span of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum CalendarSpan {
    /// A second.
    Second,
    /// A minute.
    Minute,
    /// An hour of the zone's clocks.
    Hour,
    /// A day, which has 23 or 25 hours where clocks are changed.
    Day,
    /// A week, from Monday.
    Week,
    /// A calendar month.
    Month,
}
