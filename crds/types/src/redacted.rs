use std::fmt;

use zeroize::Zeroize;

/// A secret: never printed, never serialised, wiped when dropped.
///
/// `Debug` shows `[redacted]`; there is no `Display` and no `Serialize`. Reading the value is an
/// explicit call that a reviewer can search for.
#[derive(Clone)]
pub struct Redacted<T: Zeroize>(T);

impl<T: Zeroize> Redacted<T> {
    /// Takes ownership of a secret.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The secret itself. The caller must not log or store it.
    pub fn reveal(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> Drop for Redacted<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Redacted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_holds_no_secret() {
        let secret = Redacted::new(String::from("hunter2"));
        assert_eq!(format!("{secret:?}"), "[redacted]");
        assert_eq!(secret.reveal(), "hunter2");
    }
}
