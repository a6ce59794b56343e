//! The method `apiKey`.

use idm_api::v1alpha1 as wire;
use idm_plan::{ApiKeyMethod, Source};

use super::Notes;
use super::source::{lower_selector, lower_source, non_empty};

pub(super) fn lower_api_key(path: &str, method: &wire::ApiKeyMethod, notes: &mut Notes<'_>) -> Option<ApiKeyMethod> {
    let wire::ApiKeyMethod { sources, credential_selector } = method;
    let sources = match sources {
        None => vec![Source::Header { name: "x-api-key".into(), scheme: None }],
        Some(given) => {
            let mut lowered = Vec::new();
            for (i, wire::CredentialSource { header, cookie, query }) in given.iter().enumerate() {
                lowered.push(lower_source(
                    &format!("{path}.sources[{i}]"),
                    header.as_ref(),
                    cookie.as_ref(),
                    query.as_ref(),
                    notes,
                )?);
            }
            lowered
        }
    };
    Some(ApiKeyMethod { sources: non_empty(path, sources, notes)?, only: lower_selector(credential_selector.as_ref()) })
}
