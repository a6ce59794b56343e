//! The management API, and the server that delivers the web application.
//!
//! In: requests of people with a browser or a program. Out: the objects of a folder or of a cluster, shown, checked and
//! changed; their keys; the audit. `idm run` and `idm demo` use it over their folder, `idm manager` over a cluster, and
//! `idm credential` uses what it knows of keys, in both.
//! Never: a secret in an answer (but a new key of a folder, once); a change of a folder that the compiler did not take;
//! in a cluster anything with other rights than those of the person who asks.
//! Start at `table.rs`, which has every endpoint; `server.rs` brings a request to one of them; `place.rs` is the border
//! behind which the objects are.

mod api;
mod assets;
mod call;
mod credential;
mod failure;
mod guard;
mod kind;
mod manager;
mod openapi;
mod place;
mod requests;
mod server;
mod session;
mod table;
mod tls;
mod wire;

pub use credential::{
    ClusterCredentials, CredentialError, FolderCredentials, Made, Shown, is_credential_name, leave_out_sealed,
    new_api_key, supply_secrets,
};
pub use guard::Scheme;
pub use manager::{FolderOptions, Manager, StartError};
pub use place::cluster::ClusterOptions;
pub use requests::{ClusterRequests, LabelView, NewRequest, RequestView};
pub use server::ManagerServer;
pub use tls::{ServerTls, TlsError};
