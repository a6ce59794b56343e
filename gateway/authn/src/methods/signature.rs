//! Requests that callers sign (RFC 9421) with keys of their Credentials.

use idm_plan::{Credential, SignatureMethod, Source};
use idm_request::{Identity, Presented, RequestView};
use idm_signature::{ContentDigest, Message, Signature, SignatureError, Signatures};
use idm_store::Key;
use idm_types::{Algorithm, Reason, Refusal, Timestamp};

use crate::CredentialTable;
use crate::caller_keys::{ArmedKey, is_live};
use crate::credential::{ProvenBy, admit_key};
use crate::judged::Unjudged;
use crate::method::{Attempt, Caching, Challenged, Method, MethodContext, Proven, Recheck, Verifying};

/// The field without which a request is not signed, and the one that belongs to it.
const INPUT: &str = "signature-input";
const VALUES: &str = "signature";
/// The header with the digests of the body.
const DIGEST: &str = "content-digest";

/// The method.
pub(super) struct ArmedSignature {
    plan: SignatureMethod,
    sources: [Source; 1],
}

/// A signature that is right, with the key that made it.
struct Right<'t> {
    credential: &'t Credential,
    key: &'t ArmedKey,
    content: Option<ContentDigest>,
    /// The name under which it is used up.
    used: Key,
}

impl Method for ArmedSignature {
    fn kind(&self) -> &'static str {
        "signature"
    }

    /// The other field is removed together with this one.
    fn sources(&self) -> &[Source] {
        &self.sources
    }

    fn find<'r>(&self, view: RequestView<'r>) -> Result<Option<Presented<'r>>, Reason> {
        let input = view.headers.get(INPUT).or_else(|| view.headers.get(VALUES));
        // All lines of both fields are read later; this one says that there are some.
        Ok(input.map(|input| Presented { value: input.to_str().unwrap_or_default(), source: 0 }))
    }

    fn verify<'a>(&'a self, context: MethodContext<'a>, _: &'a str) -> Verifying<'a> {
        Box::pin(async move {
            let right = match self.checked(context) {
                Ok(right) => right,
                Err(attempt) => return attempt,
            };
            if !self.plan.replayable {
                if let Err(refusal) = self.use_up(context, &right.used).await {
                    return Attempt::Rejected(refusal.by_method(context.name));
                }
            }
            right.admitted(context)
        })
    }

    /// The policy that let the request in has used the signature up; that it is right can be said all the same.
    fn judge(&self, context: MethodContext<'_>, _: &str) -> Result<Attempt, Unjudged> {
        match self.checked(context) {
            Ok(Right { content: Some(_), .. }) => Err(Unjudged::BodyUnread),
            Ok(right) => Ok(right.admitted(context)),
            Err(attempt) => Ok(attempt),
        }
    }

    /// A verdict is all there is.
    fn judge_again(&self, _: MethodContext<'_>, _: Proven<'_>) -> Result<(), Refusal> {
        Ok(())
    }

    /// Each request has a signature of its own.
    fn caching(&self) -> Caching {
        Caching::Never
    }

    fn epoch(&self, _: &Identity, _: &CredentialTable) -> u64 {
        0
    }

    /// The verdict is of this very request.
    fn recheck<'a>(&'a self, _: MethodContext<'a>, _: Proven<'a>) -> Recheck<'a> {
        Recheck::Done(Ok(()))
    }

    /// No scheme is registered for it; `Accept-Signature` says what to sign.
    fn challenge(&self, asked: &Challenged<'_>) -> Vec<String> {
        vec![format!("Signature realm=\"{}\"", asked.realm)]
    }

    fn accept_signature(&self, has_body: bool) -> Option<String> {
        let components = self.plan.components.iter().map(String::as_str);
        let wanted: Vec<&str> = components.filter(|name| has_body || *name != DIGEST).collect();
        idm_signature::accept(&wanted, self.plan.tag.as_deref())
    }
}

impl Right<'_> {
    fn admitted(self, context: MethodContext<'_>) -> Attempt {
        let Right { credential, key, content, used: _ } = self;
        let key = key.plan();
        let by = ProvenBy { key: Some(key.id.clone()), end: key.expires, content, ..ProvenBy::default() };
        admit_key(context, credential, by)
    }
}

impl ArmedSignature {
    pub(super) fn new(plan: &SignatureMethod) -> Self {
        Self { plan: plan.clone(), sources: [Source::Header { name: INPUT.into(), scheme: None }] }
    }

    /// Verifies the signatures of a request, but for whether they were used before.
    fn checked<'t>(&self, context: MethodContext<'t>) -> Result<Right<'t>, Attempt> {
        let view = context.view;
        let denied = |reason, detail: String| context.denied(reason, detail);
        // Fields that cannot be read may be those of another scheme, and another method may know the caller.
        let malformed = |detail: String| Attempt::NotMine(denied(Reason::MalformedSignature, detail));
        let signatures = Signatures::of(view.headers).map_err(|error| malformed(error.to_string()))?;
        let signatures = signatures.ok_or_else(|| malformed("there is no signature".to_owned()))?;
        let (signature, credential, key) = self.known(context, &signatures)?;
        let rejected = |refusal: Refusal| Attempt::Rejected(refusal.by_method(context.name));
        self.covers_enough(signature, view).map_err(rejected)?;
        self.is_in_time(signature, context.now).map_err(rejected)?;
        let base = verified(signature, key, view).map_err(rejected)?;
        is_live(&credential.key, key.plan(), context.now).map_err(rejected)?;
        let content = match signature.covers(DIGEST) {
            true => Some(ContentDigest::of(view.headers).map_err(|error| {
                Attempt::Rejected(denied(Reason::MalformedSignature, format!("`Content-Digest`: {error}")))
            })?),
            false => None,
        };
        let id = &key.plan().id;
        let used = match &signature.parameters().nonce {
            Some(nonce) => Key::of(&["signature nonce", &credential.key.to_string(), id, nonce]),
            // What was signed and not the signature itself: of some algorithms, another signature of the same can be
            // made by anyone.
            None => Key::of(&["signature", &credential.key.to_string(), id, &idm_types::hex(&base)]),
        };
        Ok(Right { credential, key, content, used })
    }

    /// The signature of the policy's application whose key is known. All that are must be keys of one Credential; the
    /// first of them counts.
    fn known<'t, 's>(
        &self,
        context: MethodContext<'t>,
        signatures: &'s Signatures,
    ) -> Result<(&'s Signature, &'t Credential, &'t ArmedKey), Attempt> {
        let table = context.table;
        let is_ours = |signature: &&Signature| signature.parameters().tag == self.plan.tag;
        let known = |signature: &'s Signature| {
            let id = signature.parameters().keyid.as_deref()?;
            let (credential, key) = table.signer(id, &self.plan.only)?;
            Some((signature, credential, key))
        };
        let mut all = signatures.all().iter().filter(is_ours).filter_map(known);
        let Some(first) = all.next() else {
            return Err(Attempt::NotMine(context.denied(Reason::UnknownSignatureKey, self.unknown(signatures))));
        };
        match all.find(|(_, credential, _)| credential.key != first.1.key) {
            Some(_) => {
                let detail = "it is signed with keys of several Credentials";
                Err(Attempt::Rejected(context.denied(Reason::AmbiguousCredential, detail)))
            }
            None => Ok(first),
        }
    }

    /// The signatures of a request of which none has a known key, for the audit.
    fn unknown(&self, signatures: &Signatures) -> String {
        let shown = |signature: &Signature| {
            let parameters = signature.parameters();
            let or_none = |text: Option<&str>| text.map_or_else(|| "none".to_owned(), |text| format!("`{text}`"));
            let (keyid, tag) = (or_none(parameters.keyid.as_deref()), or_none(parameters.tag.as_deref()));
            format!("`{}` (keyid {keyid}, tag {tag})", signature.label())
        };
        let all: Vec<String> = signatures.all().iter().map(shown).collect();
        let wanted = match &self.plan.tag {
            Some(tag) => format!("the tag `{tag}`"),
            None => "no tag".to_owned(),
        };
        format!("of {} none has a known key and {wanted}", all.join(", "))
    }

    fn covers_enough(&self, signature: &Signature, view: RequestView<'_>) -> Result<(), Refusal> {
        let is_wanted = |name: &&String| view.forwarded.has_body || *name != DIGEST;
        let components = self.plan.components.iter().filter(is_wanted);
        let missing: Vec<&str> = components.filter(|name| !signature.covers(name)).map(String::as_str).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Refusal::new(Reason::SignatureCoversTooLittle, format!("it does not cover {}", missing.join(", "))))
    }

    fn is_in_time(&self, signature: &Signature, now: Timestamp) -> Result<(), Refusal> {
        let outside = |detail: String| Err(Refusal::new(Reason::SignatureNotInTime, detail));
        let (now, skew) = (whole(now.seconds()), whole(self.plan.skew.seconds()));
        let parameters = signature.parameters();
        let Some(created) = parameters.created else {
            return outside("it has no `created`".to_owned());
        };
        let until = created.saturating_add(whole(self.plan.max_age_seconds));
        if created > now.saturating_add(skew) {
            return outside(format!("it was created {} s from now", created.saturating_sub(now)));
        }
        if until.saturating_add(skew) <= now {
            let most = self.plan.max_age_seconds;
            return outside(format!("it was created {} s ago, and {most} s are taken", now.saturating_sub(created)));
        }
        match parameters.expires.filter(|expires| expires.saturating_add(skew) <= now) {
            Some(expires) => outside(format!("it expired {} s ago", now.saturating_sub(expires))),
            None => Ok(()),
        }
    }

    /// Uses a signature up at all gateways that share a store, for as long as it could be taken.
    async fn use_up(&self, context: MethodContext<'_>, used: &Key) -> Result<(), Refusal> {
        let skew = self.plan.skew.seconds().saturating_mul(2);
        let seconds = self.plan.max_age_seconds.saturating_add(skew).saturating_add(1);
        match context.memory.store.claim(used, seconds.saturating_mul(1000), context.now).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Refusal::new(Reason::ReplayedSignature, "the same was taken before")),
            Err(error) => Err(Refusal::new(Reason::StoreUnavailable, error.to_string())),
        }
    }
}

/// The bytes that were signed, if the signature is the key's.
fn verified(signature: &Signature, key: &ArmedKey, view: RequestView<'_>) -> Result<Vec<u8>, Refusal> {
    let wrong = |detail: String| Refusal::new(Reason::WrongSignature, detail);
    let id = &key.plan().id;
    let algorithm = name_of(key.key().algorithm());
    if let Some(named) = signature.parameters().algorithm.as_deref().filter(|named| *named != algorithm) {
        return Err(wrong(format!("it names the algorithm `{named}`, and the key `{id}` is for {algorithm}")));
    }
    let message = Message {
        method: view.method,
        https: view.secure,
        authority: view.forwarded.authority,
        path: view.forwarded.path,
        query: view.query,
        headers: view.headers,
    };
    let base = signature.base(message).map_err(|error: SignatureError| wrong(error.to_string()))?;
    if key.key().verifies(&base, signature.value()) {
        return Ok(base);
    }
    Err(wrong(format!("it does not verify under the key `{id}` ({algorithm})")))
}

/// The name of an algorithm in the registry of RFC 9421.
fn name_of(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::EdDSA => "ed25519",
        Algorithm::ES256 => "ecdsa-p256-sha256",
        Algorithm::ES384 => "ecdsa-p384-sha384",
        Algorithm::PS512 => "rsa-pss-sha512",
        Algorithm::RS256 => "rsa-v1_5-sha256",
        Algorithm::HS256 => "hmac-sha256",
        // No key for signed requests is bound to another one.
        _ => "none",
    }
}

fn whole(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}
