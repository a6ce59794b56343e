//! Independent witnesses: what is written by hand here is checked against well-known crates of others.
//!
//! A workspace of its own, so that the product's dependencies, licences and build know nothing of these crates. The
//! tests are in `tests/`, one file for each of them; `run` builds and runs them.
