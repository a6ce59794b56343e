//! Sessions of people who signed in with a browser.
//!
//! The cookie opens the session; whether the session is good enough for this policy is checked here, each time it is
//! opened. A verdict is kept for a moment like any other, and everything that ends sessions is checked on every
//! request.

use idm_request::{Facts, Identity, OfSession, Presented, RequestView, SharedFacts, Unusable, mapping};
use std::rc::Rc;
use std::time::Duration;

use http::{HeaderMap, header};
use idm_expr::{EvaluationError, Expression};
use idm_jose::Claims;
use idm_plan::{
    Federation, LOGIN_COOKIE, RequiredClaim, SECURE_LOGIN_COOKIE, SECURE_SESSION_COOKIE, SESSION_COOKIE, Selector,
    SignInMethod, Source, StepUp,
};
use idm_session::{Found, Session, SessionId, Sessions, ending_keys};
use idm_types::{Reason, Refusal, Timestamp};
use serde_json::{Map, Value};

use super::jwt::{self, Vouched};
use crate::credential::admit;
use crate::federated::{Federated, mapped_roles};
use crate::judged::Unjudged;
use crate::method::{Attempt, Caching, Challenged, Method, MethodContext, NewVerdict, Proven, Recheck, Verifying};
use crate::refresh::{self, Renewal};
use crate::revocation::is_any_revoked;
use crate::{CredentialTable, Resources};

/// A verdict on a session is used for this long, and no longer than a tenth of its idle time.
const KEEP_MS: u64 = 30_000;
/// While new tokens are requested, the session is opened again soon.
const SOON_MS: u64 = 1000;
/// The time for which a request waits for new tokens when the old ones have ended.
const REFRESH_WAIT: Duration = Duration::from_secs(25);

/// Every cookie of ours; no upstream sees one.
pub const COOKIES: [&str; 4] = [SECURE_SESSION_COOKIE, SESSION_COOKIE, SECURE_LOGIN_COOKIE, LOGIN_COOKIE];

/// The method, with its live providers.
pub struct ArmedSignIn {
    plan: SignInMethod,
    providers: Vec<Federated>,
    user: Option<Expression>,
    secure: [Source; 1],
    plain: [Source; 1],
}

/// The origin by which browsers reach us, as they write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Scheme, host and port.
    pub text: String,
    /// Whether it is https.
    pub secure: bool,
}

impl Origin {
    /// The name of the session's cookie.
    pub fn session_cookie(&self) -> &'static str {
        if self.secure { SECURE_SESSION_COOKIE } else { SESSION_COOKIE }
    }

    /// The name of the cookie that ties sign-ins to their browser.
    pub fn login_cookie(&self) -> &'static str {
        if self.secure { SECURE_LOGIN_COOKIE } else { LOGIN_COOKIE }
    }
}

impl Method for ArmedSignIn {
    fn kind(&self) -> &'static str {
        "signIn"
    }

    /// The session's cookie depends on the address that the browser uses; the decision removes every one of them.
    fn sources(&self) -> &[Source] {
        &[]
    }

    fn find<'r>(&self, view: RequestView<'r>) -> Result<Option<Presented<'r>>, Reason> {
        idm_request::find(view, if self.is_secure(view) { &self.secure } else { &self.plain })
    }

    fn verify<'a>(&'a self, context: MethodContext<'a>, credential: &'a str) -> Verifying<'a> {
        Box::pin(self.attempt(context, credential))
    }

    fn judge(&self, _: MethodContext<'_>, _: &str) -> Result<Attempt, Unjudged> {
        Err(Unjudged::SessionUnread)
    }

    /// A verdict is all there is.
    fn judge_again(&self, _: MethodContext<'_>, _: Proven<'_>) -> Result<(), Refusal> {
        Ok(())
    }

    fn caching(&self) -> Caching {
        Caching::ByCredential
    }

    /// Which Credential a person has depends on all Credentials of people.
    fn epoch(&self, _: &Identity, table: &CredentialTable) -> u64 {
        if self.user.is_some() { table.people_epoch() } else { 0 }
    }

    /// A session that was ended is over at once, and another site cannot use it to change anything.
    fn recheck<'a>(&'a self, context: MethodContext<'a>, proven: Proven<'a>) -> Recheck<'a> {
        let MethodContext { memory, view, now, .. } = context;
        let refused = |reason, why: String| Err(Refusal::new(reason, why));
        let Some(session) = &proven.identity.session else {
            return Recheck::Done(refused(Reason::InternalError, "a person without a session".into()));
        };
        Recheck::Done(match is_any_revoked(&memory.store, &session.keys, now) {
            Ok(false) => self.check_site(view).or_else(|why| refused(Reason::CrossSiteRequest, why)),
            Ok(true) => refused(Reason::SessionEnded, "it was ended a moment ago".into()),
            Err(stale) => refused(Reason::StoreUnavailable, stale.to_string()),
        })
    }

    /// No registered scheme; the name says what kind of credential it is.
    fn challenge(&self, asked: &Challenged<'_>) -> Vec<String> {
        vec![format!("Cookie realm=\"{}\"", asked.realm)]
    }
}

impl ArmedSignIn {
    pub(crate) fn arm(plan: &SignInMethod, namespace: &str, resources: &mut Resources<'_>) -> Result<Self, String> {
        let mut providers = Vec::new();
        for name in &plan.federations {
            providers.push(Federated::of(name, namespace, resources)?);
        }
        let user = plan.credentials.as_ref().map(|credentials| Expression::arm(&credentials.user)).transpose()?;
        let cookie = |name: &str| [Source::Cookie { name: name.to_owned() }];
        Ok(Self {
            plan: plan.clone(),
            providers,
            user,
            secure: cookie(SECURE_SESSION_COOKIE),
            plain: cookie(SESSION_COOKIE),
        })
    }

    /// The plan behind it.
    pub fn plan(&self) -> &SignInMethod {
        &self.plan
    }

    /// The providers at which people can sign in.
    pub fn providers(&self) -> &[Federated] {
        &self.providers
    }

    /// One of them, by the Federation's name.
    pub fn provider(&self, name: &str) -> Option<&Federated> {
        self.providers.iter().find(|provider| provider.federation().key.name == name)
    }

    /// The provider that authenticated the person of a session.
    pub fn provider_of_session(&self, session: &Session) -> Option<&Federated> {
        self.providers.iter().find(|provider| provider.federation().uid == session.federation)
    }

    /// Whether browsers use https, according to the policy or the connection.
    fn is_secure(&self, view: RequestView<'_>) -> bool {
        self.is_https(view.authority).unwrap_or(view.secure)
    }

    /// Whether browsers reach this authority over https, where the policy's origins name it.
    pub fn is_https(&self, authority: &str) -> Option<bool> {
        self.written(authority).map(|origin| origin.starts_with("https:"))
    }

    fn written(&self, authority: &str) -> Option<&String> {
        self.plan
            .origins
            .iter()
            .find(|origin| origin.split_once("://").is_some_and(|(_, written)| written.eq_ignore_ascii_case(authority)))
    }

    /// The origin by which the browser of this request reaches the gateway, if people may sign in there.
    pub fn origin(&self, view: RequestView<'_>) -> Result<Origin, Refusal> {
        let denied = |why: String| Refusal::new(Reason::OriginNotAllowed, why);
        if let Some(written) = self.written(view.authority) {
            return Ok(Origin { text: written.clone(), secure: written.starts_with("https:") });
        }
        let here = format!("{}://{}", if view.secure { "https" } else { "http" }, view.authority.to_ascii_lowercase());
        if !self.plan.origins.is_empty() {
            return Err(denied(format!("`{here}` is not one of {}", self.plan.origins.join(", "))));
        }
        let is_here = view.host == "localhost"
            || view.host.ends_with(".localhost")
            || view.host.parse().is_ok_and(|ip: std::net::Ipv4Addr| ip.is_loopback())
            || view.host == "[::1]";
        if !view.secure && !is_here {
            return Err(denied(format!("`{here}` is plain http: anyone on the way could take the session")));
        }
        Ok(Origin { text: here, secure: view.secure })
    }

    /// Refuses a request that a page of another site makes the browser send. One that changes nothing may come
    /// from any site.
    fn check_site(&self, view: RequestView<'_>) -> Result<(), String> {
        let changes = !matches!(view.method, "GET" | "HEAD" | "OPTIONS") || view.headers.contains_key(header::UPGRADE);
        if !changes {
            return Ok(());
        }
        self.is_own_page(view)
    }

    /// Checks that a page of our own origin made the browser send the request, as far as the browser says.
    pub fn is_own_page(&self, view: RequestView<'_>) -> Result<(), String> {
        if let Some(from) = one(view.headers, "origin") {
            let own = self.origin(view).ok().is_some_and(|own| own.text.eq_ignore_ascii_case(from))
                || self.plan.origins.iter().any(|own| own == from);
            return if own {
                Ok(())
            } else {
                Err(format!("its `Origin` is {:?}", from.chars().take(200).collect::<String>()))
            };
        }
        match one(view.headers, "sec-fetch-site") {
            None | Some("same-origin" | "none") => Ok(()),
            Some(_) => Err("its `Sec-Fetch-Site` says that another site sent it".into()),
        }
    }

    /// Checks that a session is of a provider at which people sign in here, and was not ended by its Federation.
    fn provider_of(&self, session: &Session) -> Result<&Federated, Refusal> {
        let provider = self
            .provider_of_session(session)
            .ok_or_else(|| Refusal::new(Reason::SessionEnded, "it is a session of another Federation"))?;
        let Federation { ended, suspended, .. } = provider.federation();
        if *suspended {
            return Err(Refusal::new(Reason::FederationSuspended, ""));
        }
        if ended.iter().any(|(subject, before)| {
            subject.as_ref().is_none_or(|subject| *subject == session.subject) && session.began < before.0
        }) {
            return Err(Refusal::new(Reason::SessionEnded, "the Federation's `endedSessions` ended it"));
        }
        Ok(provider)
    }

    async fn attempt(&self, context: MethodContext<'_>, cookie: &str) -> Attempt {
        match self.look(context, cookie).await {
            Ok(fresh) => Attempt::Verified(fresh),
            // A session that is over identifies no caller: another method may know the caller.
            Err(denied) if denied.reason == Reason::SessionEnded => Attempt::NotMine(denied),
            Err(denied) => Attempt::Rejected(denied),
        }
    }

    async fn look(&self, context: MethodContext<'_>, cookie: &str) -> Result<NewVerdict, Refusal> {
        let MethodContext { memory, now, .. } = context;
        let denied = |reason, detail: &str| context.denied(reason, detail);
        let over = |detail: &str| denied(Reason::SessionEnded, detail);
        let sessions = Sessions { store: &memory.store };
        let id = SessionId::parse(cookie).ok_or_else(|| over("the cookie is not one of ours"))?;
        let find = || async {
            let found = sessions.find(&id, self.plan.idle_seconds * 1000, now).await;
            found
                .map_err(|error| denied(Reason::StoreUnavailable, &error.to_string()))?
                .ok_or_else(|| over("it is not known, or was idle too long"))
        };
        let mut found = find().await?;
        self.check_end(context, &id, &found.session)?;
        let provider = self.provider_of(&found.session).map_err(|refusal| refusal.by_method(context.name))?;
        let mut until = now.0.saturating_add(KEEP_MS.min(self.plan.idle_seconds * 100));
        if let Some(renewal) = renewal(provider, &found.session).filter(|_| refresh::is_due(&found.session, now)) {
            until = until.min(now.0.saturating_add(SOON_MS));
            let wait = match &renewal {
                Renewal::Directory(directory) => Some(directory.patience()),
                // Without valid tokens it is not known whether the person is still admitted: the request waits for the
                // result.
                Renewal::Provider(_) => {
                    found.session.tokens.access_until.is_none_or(|end| end <= now.0).then_some(REFRESH_WAIT)
                }
            };
            let mut done = refresh::begin(&memory.refreshing, renewal.clone(), &memory.store, &id, &found, now);
            if let Some(wait) = wait {
                let _ = tokio::time::timeout(wait, done.changed()).await;
                found = find().await?;
                self.check_end(context, &id, &found.session)?;
            }
            if matches!(renewal, Renewal::Directory(_)) && refresh::is_due(&found.session, now) {
                let detail = "the person of the session cannot be looked up again";
                return Err(denied(Reason::DirectoryUnavailable, detail));
            }
        }
        let Found { session, .. } = found;
        if renewal(provider, &session).is_some() {
            until = until.min(session.refresh_at.max(now.0.saturating_add(SOON_MS)));
        }
        until = until.min(self.end_of(&session));
        check_claims(&self.plan.required, &session.claims).map_err(|detail| denied(Reason::ClaimRequired, &detail))?;
        until = until.min(
            check_strength(&self.plan.step_up, &session, now)
                .map_err(|detail| denied(Reason::StepUpRequired, &detail))?,
        );
        let mut identity = self.identity(context, &session)?;
        // A Credential may end before its person's session does.
        until = until.min(identity.expires.map_or(u64::MAX, |end| end.0));
        identity.session = Some(OfSession { keys: ending_keys(&id, &session), access: session.tokens.access.clone() });
        let epoch = self.epoch(&identity, context.table);
        Ok(NewVerdict { identity: Rc::new(identity), until, epoch })
    }

    fn end_of(&self, session: &Session) -> u64 {
        session.until.min(session.began.saturating_add(self.plan.absolute_seconds * 1000))
    }

    fn check_end(&self, context: MethodContext<'_>, id: &SessionId, session: &Session) -> Result<(), Refusal> {
        let MethodContext { memory, now, .. } = context;
        if now.0 >= self.end_of(session) {
            return Err(context.denied(Reason::SessionEnded, "it is older than sessions get here"));
        }
        match is_any_revoked(&memory.store, &ending_keys(id, session), now) {
            Ok(false) => Ok(()),
            Ok(true) => Err(context.denied(Reason::SessionEnded, "it was ended")),
            Err(stale) => Err(context.denied(Reason::StoreUnavailable, stale.to_string())),
        }
    }

    /// The facts about a session's person where the policy maps nothing: a person of a directory has a name of their
    /// own there, beside the id that is the subject.
    /// The provider that calls itself so, or else the first.
    pub(crate) fn provider_named(&self, issuer: Option<&str>) -> Option<&Federated> {
        let named = self.providers.iter().find(|provider| Some(provider.issuer()) == issuer);
        named.or_else(|| self.providers.first())
    }

    fn usual<'s>(&self, session: &'s Session) -> Vouched<'s> {
        let is_of_directory = matches!(self.provider_of_session(session), Some(Federated::Directory(_)));
        let claim = |name: &str| session.claims.get(name).filter(|_| is_of_directory);
        Vouched {
            issuer: &session.issuer,
            username: claim("preferred_username").and_then(Value::as_str).map(str::to_owned),
            // All of them: a list that is cut would lack what a rule refuses.
            groups: names(claim("groups")),
            ..Vouched::default()
        }
    }

    /// The roles that the Federation grants for its claims about a person.
    fn mapped_roles(&self, session: &Session) -> Vec<String> {
        let federation = self.provider_of_session(session).map(Federated::federation);
        federation.map(|federation| mapped_roles(federation, &session.claims)).unwrap_or_default()
    }

    /// Checks that a new session is strong and recent enough for this policy.
    pub fn is_strong_enough(&self, session: &Session, now: Timestamp) -> Result<(), Refusal> {
        check_strength(&self.plan.step_up, session, now)
            .map(drop)
            .map_err(|detail| Refusal::new(Reason::StepUpRequired, detail))
    }

    /// The identity of a session, as policies, upstream and audit see it.
    pub(crate) fn identity(&self, context: MethodContext<'_>, session: &Session) -> Result<Identity, Refusal> {
        let unusable = |problem: Unusable| context.denied(problem.reason, problem.detail);
        let shared = SharedFacts::default();
        let claims = Claims::new(session.claims.clone());
        let expires = Some(Timestamp(self.end_of(session)));
        let Some(user) = &self.user else {
            let roles = self.mapped_roles(session);
            let vouched = Vouched { expires, roles, ..self.usual(session) };
            return jwt::identity_of(context, claims, vouched).map_err(unusable);
        };
        let facts = Facts {
            claims: Some(&claims),
            policy: Some(&context.policy.key),
            shared: Some(&shared),
            ..Facts::default()
        };
        let name = EvaluationError::absent(user.value(&facts)).map_err(|error| unusable(error.into()))?;
        let name = mapping::name(name).ok_or_else(|| {
            unusable(format!("the person has no usable `{}`, by which their Credential is found", user.plan()).into())
        })?;
        let any = Selector::ANY;
        let only = self.plan.credentials.as_ref().map_or(&any, |credentials| &credentials.only);
        let credential = context.table.by_person(&name, &session.federation, only);
        let credential = credential
            .ok_or_else(|| context.denied(Reason::NoPersonCredential, format!("there is none for `{name}`")))?;
        // Both are needed: the provider authenticates the person, and the Credential grants the rights.
        let admitted = admit(context, credential).accepted()?.identity;
        let vouched = Vouched { expires, ..self.usual(session) };
        let person = jwt::identity_of(context, claims, vouched).map_err(unusable)?;
        let mut attributes = credential.attributes.clone();
        attributes.extend(
            person
                .attributes
                .iter()
                .filter(|(name, _)| !credential.attributes.iter().any(|(known, _)| known == name))
                .cloned(),
        );
        let mut identity = Identity {
            roles: admitted.roles.clone(),
            scopes: Vec::new(),
            attributes,
            credential: admitted.credential.clone(),
            owner: admitted.owner.clone(),
            only_policies: admitted.only_policies.clone(),
            expires: [person.expires, credential.expires].into_iter().flatten().min(),
            ..person
        };
        let claims = Claims::new(session.claims.clone());
        let facts = Facts {
            identity: Some(&identity),
            claims: Some(&claims),
            policy: Some(&context.policy.key),
            shared: Some(&shared),
            ..Facts::default()
        };
        identity.headers = context.mapping.headers(true, &facts).map_err(unusable)?;
        Ok(identity)
    }
}

/// How a session of this provider is renewed, if it can be.
fn renewal(provider: &Federated, session: &Session) -> Option<Renewal> {
    match provider {
        Federated::Oidc(provider) => session.tokens.refresh.as_ref().map(|_| Renewal::Provider(provider.clone())),
        Federated::Saml(_) => None,
        Federated::Directory(directory) => Some(Renewal::Directory(directory.clone())),
    }
}

/// The texts of a list.
fn names(list: Option<&Value>) -> Vec<String> {
    let all = list.and_then(Value::as_array).into_iter().flatten();
    all.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The one value of a header, where it is text.
fn one<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// Whether a browser navigates to a page, in contrast to a program or a script in a page.
pub fn navigates(view: RequestView<'_>) -> bool {
    if ![http::Method::GET.as_str(), http::Method::HEAD.as_str()].contains(&view.method)
        || view.headers.contains_key(header::UPGRADE)
    {
        return false;
    }
    if let Some(mode) = one(view.headers, "sec-fetch-mode") {
        return mode == "navigate";
    }
    let asks_for_pages =
        one(view.headers, "accept").is_some_and(|accept| accept.to_ascii_lowercase().contains("text/html"));
    asks_for_pages && !view.headers.contains_key("x-requested-with")
}

/// Whether a request is a form that a browser's window sent, so that a person waits for a page.
pub fn sends_form(view: RequestView<'_>) -> bool {
    if matches!(view.method, "GET" | "HEAD") || view.headers.contains_key(header::UPGRADE) {
        return false;
    }
    if let Some(mode) = one(view.headers, "sec-fetch-mode") {
        return mode == "navigate";
    }
    // RFC 1866 and HTML know three encodings of forms; what else a program sends is none.
    let kind = one(view.headers, "content-type").and_then(|kind| kind.split(';').next()).map(str::trim);
    let is_form = kind.is_some_and(|kind| {
        ["application/x-www-form-urlencoded", "multipart/form-data"].iter().any(|form| kind.eq_ignore_ascii_case(form))
    });
    let takes_pages =
        one(view.headers, "accept").is_some_and(|accept| accept.to_ascii_lowercase().contains("text/html"));
    is_form && takes_pages && !view.headers.contains_key("x-requested-with")
}

/// The value reached by following a path from the top.
fn at<'c>(claims: &'c Map<String, Value>, path: &[String]) -> Option<&'c Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(claims.get(first)?, |value, member| value.get(member)).filter(|value| !value.is_null())
}

pub(crate) fn check_claims(required: &[RequiredClaim], claims: &Map<String, Value>) -> Result<(), String> {
    for RequiredClaim { path, values } in required {
        let name = path.join(".");
        let found = at(claims, path).ok_or_else(|| format!("there is no `{name}`"))?;
        let is_wanted = |value: &Value| {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Bool(truth) => truth.to_string(),
                Value::Number(number) => number.to_string(),
                _ => return false,
            };
            values.contains(&text)
        };
        let fits =
            values.is_empty() || is_wanted(found) || found.as_array().is_some_and(|items| items.iter().any(is_wanted));
        if !fits {
            return Err(format!("`{name}` is none of {}", values.join(", ")));
        }
    }
    Ok(())
}

/// Checks that the sign-in is strong and recent enough; returns until when it is.
fn check_strength(step_up: &StepUp, session: &Session, now: Timestamp) -> Result<u64, String> {
    let StepUp { acr, max_age_seconds } = step_up;
    let found = session.claims.get("acr").and_then(Value::as_str).unwrap_or_default();
    if !acr.is_empty() && !acr.iter().any(|wanted| wanted == found) {
        return Err(format!("`acr` is `{found}`, and the policy wants one of {}", acr.join(", ")));
    }
    let Some(max_age) = max_age_seconds else { return Ok(u64::MAX) };
    let end = Timestamp::from_seconds(session.proved.saturating_add(*max_age)).0;
    if now.0 >= end { Err(format!("the person proved themselves more than {max_age} s ago")) } else { Ok(end) }
}

#[cfg(test)]
mod tests {
    use idm_plan::Pages;
    use idm_session::Tokens;
    use serde_json::json;

    use super::*;

    fn method(absolute_seconds: u64) -> ArmedSignIn {
        let plan = SignInMethod {
            federations: Vec::new(),
            base: "/_idm".into(),
            origins: Vec::new(),
            idle_seconds: 60,
            absolute_seconds,
            required: Vec::new(),
            step_up: StepUp::default(),
            credentials: None,
            after_logout: None,
            pages: Pages::default(),
        };
        ArmedSignIn {
            plan,
            providers: Vec::new(),
            user: None,
            secure: [Source::Cookie { name: "a".into() }],
            plain: [Source::Cookie { name: "b".into() }],
        }
    }

    fn session() -> Session {
        Session {
            federation: "f".into(),
            issuer: "https://idp".into(),
            subject: "ana".into(),
            sid: None,
            claims: Map::new(),
            began: 1_000_000,
            until: 1_900_000,
            proved: 1000,
            generation: "e".into(),
            tokens: Tokens::default(),
            refresh_at: u64::MAX,
        }
    }

    #[test]
    fn a_session_ends_where_it_was_begun_to_end_and_where_this_policy_says() {
        assert_eq!(method(36_000).end_of(&session()), 1_900_000, "as long as the policy that began it said");
        assert_eq!(method(60).end_of(&session()), 1_060_000, "no longer than this policy takes any");
    }

    #[test]
    fn strength_and_age_have_an_end() {
        let wanted = StepUp { acr: vec!["gold".into()], max_age_seconds: Some(60) };
        let mut session = session();
        assert!(check_strength(&wanted, &session, Timestamp(1_000_000)).is_err());
        session.claims.insert("acr".into(), "gold".into());
        assert_eq!(check_strength(&wanted, &session, Timestamp(1_000_000)), Ok(1_060_000));
        assert!(check_strength(&wanted, &session, Timestamp(1_060_000)).is_err());
    }

    #[test]
    fn a_required_claim_must_be_there_and_have_a_wanted_value() {
        let claims = json!({"hd": "shop.example", "groups": ["a", "b"], "n": 7, "ok": true, "none": null,
            "realm": {"roles": ["x"]}});
        let check = |path: &str, values: &[&str]| {
            let required = RequiredClaim {
                path: path.split('.').map(str::to_owned).collect(),
                values: values.iter().map(|v| (*v).to_owned()).collect(),
            };
            check_claims(&[required], claims.as_object().unwrap()).is_ok()
        };
        for (path, values) in [
            ("hd", &["shop.example"][..]),
            ("hd", &[]),
            ("groups", &["b"]),
            ("n", &["7"]),
            ("ok", &["true"]),
            ("realm.roles", &["x"]),
        ] {
            assert!(check(path, values), "{path}");
        }
        for (path, values) in [
            ("hd", &["shop"][..]),
            ("none", &[]),
            ("missing", &[]),
            ("groups", &["c"]),
            ("realm", &["x"]),
            ("realm.roles.x", &[]),
        ] {
            assert!(!check(path, values), "{path}");
        }
    }
}
