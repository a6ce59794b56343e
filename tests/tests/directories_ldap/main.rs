//! People of OpenLDAP at every door of a running gateway: what they get, how they are refused, what happens to them
//! when the directory changes or is away, and that no password is found anywhere.

mod bed;
mod change;
mod doors;
mod life;
mod outage;
mod pods;
mod probe;
mod timing;
mod try_login;
