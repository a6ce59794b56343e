//! Opening and ending sessions.

use http::header::SET_COOKIE;

use crate::call::{Call, Reply};
use crate::failure::Failure;
use crate::wire::{Mode, SignIn, SignInWay};

pub(crate) async fn way(call: Call) -> Result<SignInWay, Failure> {
    let mode = call.manager.place.mode();
    let with = match mode {
        Mode::Folder => "code",
        Mode::Cluster => "token",
    };
    Ok(SignInWay { mode, with })
}

pub(crate) async fn open(call: Call, body: SignIn) -> Result<Reply, Failure> {
    let cookie = call.manager.open_session(body).await?;
    Ok(Reply::done().with(SET_COOKIE, &call.manager.names.set_cookie(Some(cookie.reveal()))))
}

pub(crate) async fn end(call: Call) -> Result<Reply, Failure> {
    call.manager.end_session(call.cookie.as_deref().unwrap_or_default());
    Ok(Reply::done().with(SET_COOKIE, &call.manager.names.set_cookie(None)))
}
