//! User names and passwords: the `Basic` scheme (RFC 7617), and base64 in a layout of the policy's own.

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use idm_plan::{Base64Method, BasicMethod, LayoutPart, Selector, Source};
use idm_request::{Identity, Presented, RequestView};
use idm_types::{Reason, Redacted, Refusal};

use super::{bearer, scheme};
use crate::judged::Unjudged;
use crate::method::{Attempt, Caching, Challenged, Method, MethodContext, Proven, Recheck, Verifying};
use crate::validators::{Pair, Validators};
use crate::{CredentialTable, Resources};

/// Clients disagree about padding; the bits left over must be zero all the same.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);

/// The `Basic` scheme.
pub(super) struct Basic {
    realm: String,
    validators: Validators,
    sources: [Source; 1],
}

impl Basic {
    pub(super) fn arm(plan: &BasicMethod, namespace: &str, resources: &mut Resources<'_>) -> Result<Self, String> {
        let BasicMethod { realm, validators } = plan;
        let validators = Validators::arm(validators, namespace, resources)?;
        Ok(Self { realm: realm.clone(), validators, sources: scheme("Basic") })
    }
}

impl Method for Basic {
    fn kind(&self) -> &'static str {
        "basic"
    }

    fn sources(&self) -> &[Source] {
        &self.sources
    }

    fn find<'r>(&self, view: RequestView<'r>) -> Result<Option<Presented<'r>>, Reason> {
        idm_request::find(view, self.sources())
    }

    fn verify<'a>(&'a self, context: MethodContext<'a>, credential: &'a str) -> Verifying<'a> {
        Box::pin(attempt(context, credential, &self.validators))
    }

    fn judge(&self, context: MethodContext<'_>, credential: &str) -> Result<Attempt, Unjudged> {
        match split_basic(credential) {
            Some(pair) => self.validators.judge(context, pair),
            None => Ok(malformed(context, UNREADABLE)),
        }
    }

    /// A verdict is all there is.
    fn judge_again(&self, _: MethodContext<'_>, _: Proven<'_>) -> Result<(), Refusal> {
        Ok(())
    }

    /// No password stays in memory.
    fn caching(&self) -> Caching {
        Caching::ByFingerprint
    }

    fn epoch(&self, identity: &Identity, table: &CredentialTable) -> u64 {
        table.epoch_of(identity)
    }

    /// A password ends with its Credential, which is checked for every method; one of a directory is not kept for long.
    fn recheck<'a>(&'a self, _: MethodContext<'a>, _: Proven<'a>) -> Recheck<'a> {
        Recheck::Done(Ok(()))
    }

    fn challenge(&self, _: &Challenged<'_>) -> Vec<String> {
        vec![format!("Basic realm=\"{}\", charset=\"UTF-8\"", self.realm)]
    }
}

/// Base64 in a layout of the policy's own.
pub(super) struct Base64 {
    plan: Base64Method,
    validators: Validators,
}

impl Base64 {
    pub(super) fn arm(plan: &Base64Method, namespace: &str, resources: &mut Resources<'_>) -> Result<Self, String> {
        Ok(Self { plan: plan.clone(), validators: Validators::arm(&plan.validators, namespace, resources)? })
    }
}

impl Method for Base64 {
    fn kind(&self) -> &'static str {
        "base64"
    }

    fn sources(&self) -> &[Source] {
        &self.plan.sources
    }

    fn find<'r>(&self, view: RequestView<'r>) -> Result<Option<Presented<'r>>, Reason> {
        idm_request::find(view, self.sources())
    }

    fn verify<'a>(&'a self, context: MethodContext<'a>, credential: &'a str) -> Verifying<'a> {
        Box::pin(attempt_layout(context, credential, &self.plan.layout, &self.validators))
    }

    fn judge(&self, context: MethodContext<'_>, credential: &str) -> Result<Attempt, Unjudged> {
        match decoded(credential).and_then(|text| split_layout(&self.plan.layout, Redacted::new(text).reveal())) {
            Some(Held::Pair(pair)) => self.validators.judge(context, pair),
            Some(Held::ApiKey(key)) => Ok(attempt_key(context, &key, &self.validators)),
            None => Ok(malformed(context, WRONG_LAYOUT)),
        }
    }

    /// A verdict is all there is.
    fn judge_again(&self, _: MethodContext<'_>, _: Proven<'_>) -> Result<(), Refusal> {
        Ok(())
    }

    /// No password stays in memory.
    fn caching(&self) -> Caching {
        Caching::ByFingerprint
    }

    fn epoch(&self, identity: &Identity, table: &CredentialTable) -> u64 {
        table.epoch_of(identity)
    }

    /// A password ends with its Credential, which is checked for every method; one of a directory is not kept for long.
    fn recheck<'a>(&'a self, _: MethodContext<'a>, _: Proven<'a>) -> Recheck<'a> {
        Recheck::Done(Ok(()))
    }

    fn challenge(&self, asked: &Challenged<'_>) -> Vec<String> {
        bearer::takes_bearer(self.sources(), asked).into_iter().collect()
    }
}

/// The content of a base64 text.
enum Held {
    Pair(Pair),
    ApiKey(Redacted<String>),
}

fn decoded(text: &str) -> Option<String> {
    let alphabet = if text.contains(['-', '_']) { &base64::alphabet::URL_SAFE } else { &base64::alphabet::STANDARD };
    let bytes = GeneralPurpose::new(alphabet, LENIENT).decode(text).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    // RFC 7617 §2: neither may hold control characters.
    (!text.chars().any(char::is_control)).then_some(text)
}

pub(crate) fn split_basic(credential: &str) -> Option<Pair> {
    let text = Redacted::new(decoded(credential)?);
    let (username, password) = text.reveal().split_once(':')?;
    Some(Pair { username: username.to_owned(), password: Redacted::new(password.to_owned()) })
}

/// Takes a text apart by its layout: each placeholder ends where the next literal begins.
fn split_layout(layout: &[LayoutPart], text: &str) -> Option<Held> {
    let (mut username, mut password, mut key) = (None, None, None);
    let mut rest = text;
    for (position, part) in layout.iter().enumerate() {
        if let LayoutPart::Literal(literal) = part {
            rest = rest.strip_prefix(literal.as_str())?;
            continue;
        }
        let end = match layout.get(position + 1) {
            Some(LayoutPart::Literal(literal)) => rest.find(literal.as_str())?,
            _ => rest.len(),
        };
        let (value, after) = rest.split_at(end);
        match part {
            LayoutPart::Username => username = Some(value.to_owned()),
            LayoutPart::Password => password = Some(Redacted::new(value.to_owned())),
            LayoutPart::ApiKey => key = Some(Redacted::new(value.to_owned())),
            LayoutPart::Ignored | LayoutPart::Literal(_) => {}
        }
        rest = after;
    }
    match (rest.is_empty(), username, password, key) {
        (true, Some(username), Some(password), None) => Some(Held::Pair(Pair { username, password })),
        (true, None, None, Some(key)) => Some(Held::ApiKey(key)),
        _ => None,
    }
}

pub(crate) fn read_any(text: &str) {
    let layout =
        [LayoutPart::Literal("v;".into()), LayoutPart::Username, LayoutPart::Literal("|".into()), LayoutPart::Password];
    let _ = (split_basic(text), split_layout(&layout, text));
}

/// Verifies an `Authorization: Basic` credential.
async fn attempt(context: MethodContext<'_>, credential: &str, validators: &Validators) -> Attempt {
    match split_basic(credential) {
        Some(pair) => validators.check(context, pair).await,
        None => malformed(context, UNREADABLE),
    }
}

/// Verifies base64 in a layout.
async fn attempt_layout(
    context: MethodContext<'_>,
    credential: &str,
    layout: &[LayoutPart],
    validators: &Validators,
) -> Attempt {
    match decoded(credential).and_then(|text| split_layout(layout, Redacted::new(text).reveal())) {
        Some(Held::Pair(pair)) => validators.check(context, pair).await,
        Some(Held::ApiKey(key)) => attempt_key(context, &key, validators),
        None => malformed(context, WRONG_LAYOUT),
    }
}

fn attempt_key(context: MethodContext<'_>, key: &Redacted<String>, validators: &Validators) -> Attempt {
    let any = Selector::ANY;
    let only = validators.credentials().unwrap_or(&any);
    match super::api_key::attempt(context, key.reveal(), only) {
        // A credential at the configured place that is no key of ours is refused here; no other method is asked.
        Attempt::NotMine(denied) => Attempt::Rejected(denied),
        other => other,
    }
}

const UNREADABLE: &str = "it must be base64 of `user:password`";
const WRONG_LAYOUT: &str = "it must be base64 of a text with the policy's layout";

fn malformed(context: MethodContext<'_>, why: &str) -> Attempt {
    Attempt::Rejected(context.denied(Reason::MalformedCredential, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_is_split_at_the_first_colon_and_nothing_else_is_taken() {
        let pair = split_basic("YW5hOmE6Yg==").unwrap();
        assert_eq!((pair.username.as_str(), pair.password.reveal().as_str()), ("ana", "a:b"));
        assert!(split_basic("YW5hOmE6Yg").is_some(), "without padding");
        // RFC 7617 §2.1: `test` and `123£` in UTF-8.
        assert_eq!(split_basic("dGVzdDoxMjPCow==").unwrap().password.reveal(), "123£");
        for wrong in ["", "YW5h", "YW5hOgA=", "!!!", "/zo6", "YW5hOmE6Yh=="] {
            assert!(split_basic(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_layout_is_read_whole_or_not_at_all() {
        use LayoutPart::*;
        let layout = [Literal("v1;".into()), Username, Literal("|".into()), Password, Literal(";".into()), Ignored];
        let Some(Held::Pair(pair)) = split_layout(&layout, "v1;ana|pa:ss;device 7") else { panic!() };
        assert_eq!((pair.username.as_str(), pair.password.reveal().as_str()), ("ana", "pa:ss"));
        for wrong in ["", "ana|pass;x", "v1;ana;x", "v2;ana|pass;x"] {
            assert!(split_layout(&layout, wrong).is_none(), "{wrong}");
        }
        assert!(split_layout(&[Username, Literal("|".into()), Password, Literal(".".into())], "a|b.c").is_none());
    }
}
