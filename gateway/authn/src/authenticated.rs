use std::rc::Rc;

use idm_request::Identity;

/// Evidence that one of the policy's methods verified the caller. Only this crate makes one.
#[derive(Clone, Debug)]
pub struct Authenticated {
    identity: Rc<Identity>,
    cached: bool,
}

impl Authenticated {
    pub(crate) fn new(identity: Rc<Identity>, cached: bool) -> Self {
        Self { identity, cached }
    }

    /// The caller.
    pub fn identity(&self) -> &Rc<Identity> {
        &self.identity
    }

    /// Whether the verdict came from the cache.
    pub fn cached(&self) -> bool {
        self.cached
    }
}
