//! People of databases.

#[cfg_attr(not(test), allow(dead_code))]
mod password;

use std::time::Instant;

use idm_plan::{DatabaseDirectory, Secrets};
use idm_trust::Login;

use crate::Reach;
use crate::driver::{Driver, Running};

pub(crate) struct Database;

impl Database {
    pub(crate) fn new(_plan: &DatabaseDirectory, _secrets: &Secrets, _reach: Reach) -> Result<Self, String> {
        Err("not written yet".into())
    }
}

impl Driver for Database {
    fn verify(&self, _login: Login, _deadline: Instant) -> Running<'_> {
        unreachable!("not written yet")
    }

    fn look_up(&self, _id: String, _username: String, _deadline: Instant) -> Running<'_> {
        unreachable!("not written yet")
    }
}
