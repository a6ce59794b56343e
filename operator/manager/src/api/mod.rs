//! The handlers of the endpoints, one file for each subject. Each is a few lines: what is asked is in the table, what
//! is done in `place.rs`.

pub(crate) mod audit;
pub(crate) mod credentials;
pub(crate) mod explain;
pub(crate) mod federations;
pub(crate) mod home;
pub(crate) mod llm;
pub(crate) mod me;
pub(crate) mod objects;
pub(crate) mod preview;
pub(crate) mod requests;
pub(crate) mod schemas;
pub(crate) mod session;
pub(crate) mod views;
