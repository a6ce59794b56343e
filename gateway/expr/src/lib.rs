//! Expressions of policies: CEL over what is known about one request.
//!
//! In: the text of an expression and a [`Scope`] that knows the values of its variables. Out: a JSON value, or
//! an [`EvaluationError`]. Pure: no IO, no clock, nothing kept between evaluations. An expression sees the
//! variables of its own request and nothing else: no environment of the process, no file, no Secret. The text is
//! read by the `cel` crate; the evaluation is ours, since every step of it is counted and ends when the [`Budget`]
//! is used up, whatever the caller sent. Start at [`parse`], then [`Expression`].
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod budget;
mod check;
mod evaluate;
mod functions;
mod headers;
mod interpret;
mod lower;
mod value;

pub use budget::{Budget, UNITS_OF_A_REQUEST, UNITS_OF_AN_EXPRESSION};
pub use check::{advice, parse};
pub use evaluate::{EvaluationError, Expression, Scope};
pub use headers::HeadersRead;
pub use interpret::Known;
