//! The `Digest` scheme (RFC 7616): a password is proven without being sent.

use idm_limit::Guess;
use idm_request::{Identity, Presented, RequestView};
use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::{digest as hash, hmac};
use idm_plan::{DigestAlgorithm, DigestMethod, DigestUser, Quality, Secrets, Source};
use idm_store::Key;
use idm_types::{Reason, Redacted, Refusal, Timestamp, hex};
use md5::Digest as _;

use super::scheme;
use crate::CredentialTable;
use crate::Resources;
use crate::credential::admit;
use crate::directory::ArmedDirectory;
use crate::federated::Federated;
use crate::judged::Unjudged;
use crate::method::{Attempt, Caching, Challenged, Method, MethodContext, Proven, Recheck, Verifying, at_once};
use crate::nonce::{self, Taken};

/// The method with its users' hashes.
pub(super) struct ArmedDigest {
    plan: DigestMethod,
    sources: [Source; 1],
    /// By user name, and by `H(username:realm)` for callers who hide it: position in the plan, and the hash of the
    /// algorithm at the same position.
    users: HashMap<String, usize>,
    secrets: Vec<Vec<Redacted<String>>>,
    /// Databases that have hashes for this realm.
    directories: Vec<Arc<ArmedDirectory>>,
    /// Derived from all users' hashes, so that all pods have the same key and no other program can know it.
    nonce_key: hmac::Key,
}

/// RFC 7616 has eleven; a credential with more than this is not read to its end.
const MAX_PARAMETERS: usize = 32;

/// A credential whose form is right, and that fits this method and this request.
struct Given {
    username: String,
    userhash: bool,
    nonce: String,
    uri: String,
    response: String,
    cnonce: String,
    nc: String,
    /// The position of the algorithm in the plan.
    which: usize,
    algorithm: DigestAlgorithm,
    quality: Quality,
    count: u32,
}

/// The parameters of one `Authorization` header. None of them is verified yet.
#[derive(Default)]
struct Parameters {
    username: Option<String>,
    realm: Option<String>,
    nonce: Option<String>,
    uri: Option<String>,
    response: Option<String>,
    algorithm: Option<String>,
    cnonce: Option<String>,
    qop: Option<String>,
    nc: Option<String>,
    userhash: bool,
}

fn digest_of(algorithm: DigestAlgorithm, parts: &[&[u8]]) -> String {
    let whole = parts.concat();
    match algorithm {
        DigestAlgorithm::Sha256 => hex(hash::digest(&hash::SHA256, &whole).as_ref()),
        DigestAlgorithm::Sha512_256 => hex(hash::digest(&hash::SHA512_256, &whole).as_ref()),
        DigestAlgorithm::Md5 => hex(&md5::Md5::digest(&whole)),
    }
}

impl Method for ArmedDigest {
    fn kind(&self) -> &'static str {
        "digest"
    }

    fn sources(&self) -> &[Source] {
        &self.sources
    }

    fn find<'r>(&self, view: RequestView<'r>) -> Result<Option<Presented<'r>>, Reason> {
        idm_request::find(view, &self.sources)
    }

    fn verify<'a>(&'a self, context: MethodContext<'a>, credential: &'a str) -> Verifying<'a> {
        if self.directories.is_empty() {
            return at_once(self.attempt(context, credential));
        }
        Box::pin(self.attempt_anywhere(context, credential))
    }

    fn judge(&self, _: MethodContext<'_>, _: &str) -> Result<Attempt, Unjudged> {
        Err(Unjudged::SingleUse)
    }

    /// A verdict is all there is.
    fn judge_again(&self, _: MethodContext<'_>, _: Proven<'_>) -> Result<(), Refusal> {
        Ok(())
    }

    /// Each response is good once.
    fn caching(&self) -> Caching {
        Caching::Never
    }

    fn epoch(&self, _: &Identity, _: &CredentialTable) -> u64 {
        0
    }

    /// Uses up the count of the nonce on all gateways; in this process it is used up already.
    fn recheck<'a>(&'a self, context: MethodContext<'a>, proven: Proven<'a>) -> Recheck<'a> {
        let MethodContext { memory, now, .. } = context;
        let credential = proven.credential;
        if proven.identity.directory.is_some() {
            // The count was used up before the guess was forgiven.
            return Recheck::Done(Ok(()));
        }
        if !memory.store.is_shared() {
            self.admitted(credential, context);
            return Recheck::Done(Ok(()));
        }
        Recheck::Wait(Box::pin(async move {
            let given = parse(credential).and_then(|given| given.nonce.zip(given.nc));
            let (nonce, nc) = given.ok_or_else(|| Refusal::new(Reason::MalformedCredential, ""))?;
            self.claim(memory, (&nonce, &nc), now).await?;
            self.admitted(credential, context);
            Ok(())
        }))
    }

    fn challenge(&self, asked: &Challenged<'_>) -> Vec<String> {
        self.challenges(asked.reason == Reason::StaleNonce, asked.now)
    }

    fn wants_body(&self, view: RequestView<'_>, now: Timestamp) -> bool {
        idm_request::in_headers(view.headers, &self.sources)
            .is_some_and(|credential| self.needs_body(credential, view.target, now))
    }
}

impl ArmedDigest {
    /// Arms it with its databases.
    pub(super) fn arm(plan: &DigestMethod, namespace: &str, resources: &mut Resources<'_>) -> Result<Self, String> {
        let directories = plan.directories.iter().map(|name| match Federated::of(name, namespace, resources)? {
            Federated::Directory(directory) => Ok(directory),
            Federated::Oidc(_) | Federated::Saml(_) => Err(format!("Federation `{name}` is not a directory")),
        });
        let directories = directories.collect::<Result<Vec<_>, String>>()?;
        Self::over(plan, resources.trust.secrets, directories)
    }

    #[cfg(test)]
    pub(super) fn new(plan: &DigestMethod, secrets: &Secrets) -> Result<Self, String> {
        Self::over(plan, secrets, Vec::new())
    }

    fn over(plan: &DigestMethod, secrets: &Secrets, directories: Vec<Arc<ArmedDirectory>>) -> Result<Self, String> {
        let mut users = HashMap::new();
        let mut armed = Vec::with_capacity(plan.users.len());
        let mut all = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, b"idm digest nonce"));
        for (position, user) in plan.users.iter().enumerate() {
            let read = |handle| -> Result<Redacted<String>, String> {
                let hash = secrets.text(handle).map_err(|why| format!("user `{}`: {why}", user.username))?;
                Ok(Redacted::new(hash.to_owned()))
            };
            let hashes = user.secrets.iter().map(read).collect::<Result<Vec<_>, _>>()?;
            hashes.iter().for_each(|hash| all.update(hash.reveal().as_bytes()));
            for &algorithm in &plan.algorithms {
                users.insert(digest_of(algorithm, &[user.username.as_bytes(), b":", plan.realm.as_bytes()]), position);
            }
            users.insert(format!("={}", user.username), position);
            armed.push(hashes);
        }
        for directory in &directories {
            // All pods have the same password for the database, and no other program knows it.
            let secret = directory.shared_secret(secrets)?;
            all.update(secret.reveal().as_bytes());
        }
        let nonce_key = hmac::Key::new(hmac::HMAC_SHA256, all.sign().as_ref());
        Ok(Self { plan: plan.clone(), sources: scheme("Digest"), users, secrets: armed, directories, nonce_key })
    }

    /// Whether the body is needed before this credential can be verified. It is not held when the credential is refused
    /// without it: a caller who is not authenticated needs a nonce of ours before any body is held. The check does not
    /// ask whether the user exists, because the time of the answer would tell.
    fn needs_body(&self, credential: &str, target: &str, now: Timestamp) -> bool {
        self.plan.qualities.contains(&Quality::AuthInt)
            && parse(credential).is_some_and(|given| {
                given.qop.as_deref() == Some(Quality::AuthInt.name())
                    && given.realm.as_deref() == Some(self.plan.realm.as_str())
                    && given.uri.as_deref() == Some(target)
                    && given.username.is_some()
                    && given.response.is_some()
                    && given.nonce.is_some_and(|nonce| self.ends(&nonce, now).is_some())
            })
    }

    /// The time at which a nonce ends; `None` when it is not one of ours, or has ended.
    fn ends(&self, nonce: &str, now: Timestamp) -> Option<Timestamp> {
        let made = nonce::made_at(&self.nonce_key, nonce)?;
        let ends = Timestamp(made.0.saturating_add(self.plan.nonce_seconds.saturating_mul(1000)));
        (now < ends && made.0 <= now.0.saturating_add(60_000)).then_some(ends)
    }

    /// One challenge for each algorithm, the preferred one first (RFC 7616 §3.3).
    fn challenges(&self, stale: bool, now: Timestamp) -> Vec<String> {
        let Some(nonce) = nonce::make(&self.nonce_key, now) else { return Vec::new() };
        let qualities: Vec<&str> = self.plan.qualities.iter().map(|quality| quality.name()).collect();
        let stale = if stale { ", stale=true" } else { "" };
        // A database finds no person by a hash of the name.
        let userhash = self.directories.is_empty();
        let challenge = |algorithm: &DigestAlgorithm| {
            format!(
                "Digest realm=\"{}\", nonce=\"{nonce}\", qop=\"{}\", algorithm={}, charset=UTF-8, \
                    userhash={userhash}{stale}",
                self.plan.realm,
                qualities.join(", "),
                algorithm.name()
            )
        };
        self.plan.algorithms.iter().map(challenge).collect()
    }

    /// Notes that the user of a credential was let in: its nonce was ours, in time, and new at every gateway. A header
    /// that somebody captured never comes this far, and forgives nothing.
    fn admitted(&self, credential: &str, context: MethodContext<'_>) {
        let MethodContext { view, memory, .. } = context;
        let Some(given) = parse(credential) else { return };
        if let Some((_, user)) = given.username.as_deref().and_then(|username| self.found(username, given.userhash)) {
            memory.lockouts.admitted(&context.guessed(&user.username), view.address, memory.uptime());
        }
    }

    /// A user by the name that was given, and the position of the hashes.
    fn found(&self, username: &str, hidden: bool) -> Option<(usize, &DigestUser)> {
        let position = if hidden { self.users.get(username) } else { self.users.get(&format!("={username}")) };
        position.and_then(|&position| Some((position, self.plan.users.get(position)?)))
    }

    /// Uses up the count of a nonce in this process.
    fn take(&self, context: MethodContext<'_>, given: &Given) -> Result<(), Attempt> {
        let denied = |reason, why: &str| Attempt::Rejected(context.denied(reason, why));
        let ends = self.ends(&given.nonce, context.now).ok_or_else(|| stale(context))?;
        match context.memory.nonces.take(&given.nonce, given.count, ends) {
            Taken::Fresh => Ok(()),
            Taken::Replayed => Err(denied(Reason::ReplayedNonce, "this count of the nonce was used before")),
            Taken::Void => Err(denied(Reason::StaleNonce, "too many nonces came after it")),
        }
    }

    /// Uses up the count of a nonce on all gateways that share a store.
    async fn claim(&self, memory: &crate::Memory, (nonce, nc): (&str, &str), now: Timestamp) -> Result<(), Refusal> {
        let key = Key::of(&["digest", nonce, nc]);
        match memory.store.claim(&key, self.plan.nonce_seconds.saturating_mul(1000), now).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                Err(Refusal::new(Reason::ReplayedNonce, "this count of the nonce was used at another gateway"))
            }
            Err(error) => Err(Refusal::new(Reason::StoreUnavailable, error.to_string())),
        }
    }

    /// Reads a credential and checks all of it that does not depend on who it is.
    fn read(&self, context: MethodContext<'_>, credential: &str) -> Result<Given, Attempt> {
        let view = context.view;
        let denied = |reason, detail: &str| Attempt::Rejected(context.denied(reason, detail));
        let malformed = |why: &str| denied(Reason::MalformedCredential, why);
        let given = parse(credential).ok_or_else(|| malformed("it is not a list of Digest parameters"))?;
        let Parameters { username, realm, nonce, uri, response, algorithm, cnonce, qop, nc, userhash } = given;
        let (Some(username), Some(nonce), Some(uri), Some(response), Some(cnonce), Some(qop), Some(nc)) =
            (username, nonce, uri, response, cnonce, qop, nc)
        else {
            return Err(malformed("it must have username, nonce, uri, response, cnonce, qop and nc"));
        };
        if realm.as_deref() != Some(self.plan.realm.as_str()) {
            return Err(malformed("it is for another realm"));
        }
        let named = algorithm.as_deref().unwrap_or("MD5");
        let which = self.plan.algorithms.iter().position(|algorithm| algorithm.name().eq_ignore_ascii_case(named));
        let which = which
            .ok_or_else(|| denied(Reason::AlgorithmNotAllowed, "the hash algorithm is not one of the policy's"))?;
        let algorithm = *self.plan.algorithms.get(which).ok_or_else(|| malformed("no algorithm"))?;
        let quality = self.plan.qualities.iter().copied().find(|quality| quality.name() == qop);
        let quality = quality.ok_or_else(|| malformed("the quality of protection is not one of the policy's"))?;
        // The signed target must be the requested one (RFC 7616 §3.4.6).
        if uri != view.target {
            return Err(malformed("`uri` is not the target of the request"));
        }
        let count = Some(&nc).filter(|nc| nc.len() == 8).and_then(|nc| u32::from_str_radix(nc, 16).ok());
        let count = count.ok_or_else(|| malformed("`nc` must be eight hexadecimal digits"))?;
        Ok(Given { username, userhash, nonce, uri, response, cnonce, nc, which, algorithm, quality, count })
    }

    /// Whether the response is the one that somebody with this hash makes.
    fn is_right(&self, given: &Given, ha1: &Redacted<String>, view: RequestView<'_>) -> bool {
        let Given { nonce, uri, response, cnonce, nc, algorithm, quality, .. } = given;
        let body = match (quality, view.body) {
            (Quality::Auth, _) => String::new(),
            (Quality::AuthInt, body) => format!(":{}", digest_of(*algorithm, &[body.unwrap_or_default()])),
        };
        let ha2 = digest_of(*algorithm, &[view.method.as_bytes(), b":", uri.as_bytes(), body.as_bytes()]);
        let qop = quality.name();
        let whole = format!("{}:{nonce}:{nc}:{cnonce}:{qop}:{ha2}", ha1.reveal());
        let expected = digest_of(*algorithm, &[whole.as_bytes()]);
        let response = response.to_ascii_lowercase();
        aws_lc_rs::constant_time::verify_slices_are_equal(expected.as_bytes(), response.as_bytes()).is_ok()
    }

    fn attempt(&self, context: MethodContext<'_>, credential: &str) -> Attempt {
        let MethodContext { table, memory, view, .. } = context;
        let denied = |reason, detail: &str| context.denied(reason, detail);
        let given = match self.read(context, credential) {
            Ok(given) => given,
            Err(attempt) => return attempt,
        };
        let Given { username, quality, which, .. } = &given;
        let found = self.found(username, given.userhash);
        let person = found.map_or(username.as_str(), |(_, user)| &user.username).to_owned();
        if let Err(blocked) = memory.check_user(&context.guessed(&person), view.address) {
            return Attempt::Rejected(blocked.denied(&format!("`{person}`")).by_method(context.name));
        }
        if let Guess::Later { seconds } = memory.lockouts.turn(&context.guessed(&person), view.address, memory.uptime())
        {
            return Attempt::Rejected(
                denied(Reason::TooManyAttempts, &format!("`{person}` or its address must wait {seconds} s"))
                    .retry_after(seconds),
            );
        }
        // The body was not held, because the nonce is void: there is nothing to compare yet.
        if *quality == Quality::AuthInt && view.body.is_none() {
            return stale(context);
        }
        // An unknown user is compared with a hash that no user has, in the same steps.
        let nobody = Redacted::new(hex(&[0; 32]));
        let ha1 = found.and_then(|(position, _)| self.secrets.get(position)?.get(*which)).unwrap_or(&nobody);
        let right = self.is_right(&given, ha1, view);
        if !right || found.is_none() {
            memory.note_wrong(&context.guessed(&person), view.address);
            return Attempt::Rejected(denied(Reason::WrongPassword, &format!("user `{person}`")));
        }
        if let Err(attempt) = self.take(context, &given) {
            return attempt;
        }
        match found.and_then(|(_, user)| table.by_name(&user.credential)) {
            Some(credential) => admit(context, credential),
            None => Attempt::Rejected(denied(Reason::WrongPassword, "the Credential is gone")),
        }
    }
}

pub(crate) fn read_any(text: &str) {
    let _ = parse(text);
}

/// Reads the parameters (RFC 9110 §11.4); one that is given twice or malformed voids all.
fn parse(credential: &str) -> Option<Parameters> {
    let mut given = Parameters::default();
    let mut rest = credential.trim();
    let mut left = MAX_PARAMETERS;
    while !rest.is_empty() {
        left = usize::checked_sub(left, 1)?;
        let (name, after) = rest.split_once('=')?;
        let (value, after) = value(after.trim_start())?;
        let name = name.trim().to_ascii_lowercase();
        let slot = match name.as_str() {
            "username" | "username*" => &mut given.username,
            "realm" => &mut given.realm,
            "nonce" => &mut given.nonce,
            "uri" => &mut given.uri,
            "response" => &mut given.response,
            "algorithm" => &mut given.algorithm,
            "cnonce" => &mut given.cnonce,
            "qop" => &mut given.qop,
            "nc" => &mut given.nc,
            "userhash" => {
                given.userhash = value == "true";
                rest = next(after)?;
                continue;
            }
            _ => {
                rest = next(after)?;
                continue;
            }
        };
        let value = if name == "username*" { extended(&value)? } else { value };
        if slot.replace(value).is_some() {
            return None;
        }
        rest = next(after)?;
    }
    Some(given)
}

/// The next parameter after a comma, or the end.
fn next(after: &str) -> Option<&str> {
    let after = after.trim_start();
    if after.is_empty() { Some("") } else { after.strip_prefix(',').map(str::trim_start) }
}

/// A token or quoted string (RFC 9110 §5.6), and what follows it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        let (token, after) = text.split_at(end);
        return (!token.is_empty() && !token.contains('"')).then(|| (token.to_owned(), after));
    };
    let mut out = String::new();
    let mut escaped = false;
    for (position, c) in quoted.char_indices() {
        match c {
            _ if escaped => {
                out.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return Some((out, quoted.get(position + 1..)?)),
            c => out.push(c),
        }
    }
    None
}

/// `UTF-8''J%C3%A4s%C3%B8n` (RFC 8187 §3.2).
fn extended(text: &str) -> Option<String> {
    let (charset, rest) = text.split_once('\'')?;
    let (_, encoded) = rest.split_once('\'')?;
    if !charset.eq_ignore_ascii_case("utf-8") {
        return None;
    }
    String::from_utf8(idm_types::percent_decoded(encoded)?).ok()
}

mod anywhere;
fn stale(context: MethodContext<'_>) -> Attempt {
    Attempt::Rejected(context.denied(Reason::StaleNonce, "the nonce is not one of ours, or too old"))
}

#[cfg(test)]
mod tests;
