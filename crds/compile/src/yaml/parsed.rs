//! Documents that were read before: in a folder with many Credentials, a change of one reads that one.

use std::collections::HashMap;
use std::sync::Arc;

use idm_api::v1alpha1::CredentialSpec;
use sha2::{Digest, Sha256};

use crate::{Object, SecretValues};

/// Credentials and Secrets by the digest of their documents.
#[derive(Default)]
pub struct ParsedDocuments {
    before: HashMap<[u8; 32], Parsed>,
    now: HashMap<[u8; 32], Parsed>,
}

/// A document without faults.
#[derive(Clone)]
pub(super) struct Parsed {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) object: ParsedObject,
}

#[derive(Clone)]
pub(super) enum ParsedObject {
    Credential(Arc<Object<CredentialSpec>>),
    Secret(SecretValues),
}

impl ParsedObject {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            ParsedObject::Credential(_) => "Credential",
            ParsedObject::Secret(_) => "Secret",
        }
    }
}

impl ParsedDocuments {
    pub(super) fn digest(document: &str) -> [u8; 32] {
        Sha256::digest(document).into()
    }

    /// Begins to read a folder again.
    pub(super) fn begin(&mut self) {
        self.before = std::mem::take(&mut self.now);
    }

    /// Ends it: what was not met is forgotten.
    pub(super) fn end(&mut self) {
        self.before.clear();
    }

    pub(super) fn known(&mut self, digest: &[u8; 32]) -> Option<Parsed> {
        let parsed = self.before.remove(digest)?;
        self.now.insert(*digest, parsed.clone());
        Some(parsed)
    }

    pub(super) fn keep(&mut self, digest: [u8; 32], parsed: Parsed) {
        self.now.insert(digest, parsed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::Settings;
    use crate::yaml::{read_files, read_files_again};

    fn robot(number: usize, more: &str) -> String {
        format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: key-{number}}}\nstringData: {{key: x{number}}}\n---\n\
             apiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {{name: robot-{number}}}\n\
             spec: {{apiKey: {{}}, secretRef: {{name: key-{number}}}{more}}}\n"
        )
    }

    fn folder(more: &str) -> Vec<(String, String)> {
        vec![("a.yaml".into(), robot(1, "") + &robot(2, more))]
    }

    #[test]
    fn what_was_read_before_is_the_same_value_and_the_world_is_that_of_a_first_reading() {
        let mut parsed = ParsedDocuments::default();
        let first = read_files_again(&folder(""), Settings::default(), &mut parsed).unwrap().0;
        let changed = folder(", suspend: true");
        let next = read_files_again(&changed, Settings::default(), &mut parsed).unwrap().0;
        assert!(Arc::ptr_eq(&first.credentials[0], &next.credentials[0]));
        assert_eq!(next.credentials[1].spec.suspend, Some(true));
        let fresh = read_files(&changed, Settings::default()).unwrap().0;
        assert_eq!((&fresh.credentials, fresh.secrets.len()), (&next.credentials, next.secrets.len()));
        assert!(fresh.secrets.iter().all(|(name, values)| {
            values.iter().all(|(key, value)| next.secrets[name][key].reveal() == value.reveal())
        }));
    }

    #[test]
    fn a_fault_is_told_each_time_and_also_one_between_documents_that_are_known() {
        let mut parsed = ParsedDocuments::default();
        let broken = folder(", nothing: 1");
        for _ in 0..2 {
            let errors = read_files_again(&broken, Settings::default(), &mut parsed).unwrap_err();
            assert!(errors.len() == 1 && errors[0].message.contains("nothing"), "{errors:?}");
        }
        assert!(read_files_again(&folder(""), Settings::default(), &mut parsed).is_ok());
        let mut twice = folder("");
        twice.push(("b.yaml".into(), robot(1, "")));
        let errors = read_files_again(&twice, Settings::default(), &mut parsed).unwrap_err();
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert!(errors[0].message.contains("is already in a.yaml") && errors[0].file == "b.yaml", "{errors:?}");
    }
}
