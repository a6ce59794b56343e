use std::rc::Rc;

use idm_request::Identity;

/// Evidence that a caller was verified by one of the policy's methods. Only this room makes one.
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
