//! People of services.

use std::time::Instant;

use idm_plan::{RestDirectory, Secrets};
use idm_trust::Login;

use crate::Reach;
use crate::driver::{Driver, Running};

pub(crate) struct Rest;

impl Rest {
    pub(crate) fn new(_plan: &RestDirectory, _secrets: &Secrets, _reach: Reach) -> Result<Self, String> {
        Err("not written yet".into())
    }
}

impl Driver for Rest {
    fn verify(&self, _login: Login, _deadline: Instant) -> Running<'_> {
        unreachable!("not written yet")
    }

    fn look_up(&self, _id: String, _username: String, _deadline: Instant) -> Running<'_> {
        unreachable!("not written yet")
    }
}
