//! Opening and ending sessions.

use http::header::SET_COOKIE;

use crate::call::{Call, Reply};
use crate::failure::Failure;
use crate::guard::set_cookie;
use crate::wire::SignIn;

pub(crate) async fn open(call: Call, body: SignIn) -> Result<Reply, Failure> {
    let cookie = call.manager.open_session(body).await?;
    Ok(Reply::done().with(SET_COOKIE, &set_cookie(Some(cookie.reveal()))))
}

pub(crate) async fn end(call: Call) -> Result<Reply, Failure> {
    call.manager.end_session(call.cookie.as_deref().unwrap_or_default());
    Ok(Reply::done().with(SET_COOKIE, &set_cookie(None)))
}
