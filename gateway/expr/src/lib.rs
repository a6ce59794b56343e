//! Expressions of policies: CEL over what is known about one request.
//!
//! In: the text of an expression and a [`Scope`] that knows the values of its variables. Out: a JSON value, or
//! an [`EvaluationError`]. Pure: no IO, no clock, nothing kept between evaluations. An expression sees the
//! variables of its own request and nothing else: no environment of the process, no file, no Secret. Its cost is
//! bounded by its length and by how deep its loops may nest. Start at [`parse`], then [`Expression`].
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod check;
mod evaluate;
mod headers;

pub use check::parse;
pub use evaluate::{EvaluationError, Expression, Scope};
pub use headers::HeadersRead;
