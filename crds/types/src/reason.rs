use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $status:literal, $plain:literal, $fix:literal;)*) => {
        /// Why a request was refused or could not be served: one closed catalogue.
        ///
        /// A reason's text form is stable API: metrics, audit records and status conditions carry it,
        /// and `docs/reasons.md` has one section for each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// Every reason, in the order of the catalogue.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// The stable code, for example `TokenExpired`.
            pub const fn code(self) -> &'static str {
                match self { $(Reason::$name => stringify!($name),)* }
            }

            /// The HTTP status a caller gets.
            pub const fn status(self) -> u16 {
                match self { $(Reason::$name => $status,)* }
            }

            /// What happened, in one plain sentence for the operator. Never shown to the caller.
            pub const fn plain(self) -> &'static str {
                match self { $(Reason::$name => $plain,)* }
            }

            /// What to do about it.
            pub const fn fix(self) -> &'static str {
                match self { $(Reason::$name => $fix,)* }
            }
        }
    };
}

reasons! {
    // --- the request itself
    /// The path has more than one reading.
    AmbiguousPath = 400, "the path can be read in more than one way (dot segments, `//`, `;`, `\\`, encoded slashes or double encoding)", "send the path in its plain form";
    /// The host is missing, repeated, malformed or contradictory.
    InvalidHost = 400, "the request names no host, several hosts, or a malformed one", "send exactly one well-formed Host (or :authority)";
    /// The request cannot be represented in one canonical way.
    MalformedRequest = 400, "the request is not well formed", "send a request that RFC 9110 allows";
    /// A method that no caller needs from a gateway and that gives away what upstreams see.
    MethodNotAllowed = 405, "the method is TRACE or CONNECT, which the gateway never forwards", "use another method";
    /// The head is larger than the gateway reads.
    HeadTooLarge = 431,
        "the request's target or headers are larger or more than the gateway reads",
        "send fewer or shorter headers: 64 KiB and 128 of them in all";
    /// The body that has to be read first arrives too slowly.
    BodyTooSlow = 408,
        "the body has to be read before the request is decided, and it arrived too slowly or not to its end",
        "send the body at once and at a steady rate";
    /// As much memory as bodies may have is in use.
    BodiesBusy = 503,
        "as many bodies are being held as the gateway, or one address, has memory for",
        "try again; give the gateway more memory if this lasts";
    /// One address has too much under way.
    TooManyRequestsAtOnce = 429,
        "more requests of this address are under way than the gateway serves at once",
        "wait for answers before sending more requests";
    /// More than one credential was presented where one is expected.
    AmbiguousCredential = 400, "the request carries more than one credential of the same kind", "send exactly one credential";
    // --- routing
    /// No route matches host, path, method and headers.
    NoRoute = 404, "no route matches this host, path, method and headers", "check the hostnames and matches of the HTTPRoute, or the Service's names";
    /// The gateway has not been configured yet.
    NotConfigured = 503, "the gateway has no configuration yet", "wait for the operator, or read the gateway's log";
    /// A route exists, but no policy covers it: the default is to deny.
    NoPolicy = 403, "a route matches, but no IdentityPolicy covers it, and what is not covered is denied", "attach an IdentityPolicy to the route; write `anonymous: {}` to open it on purpose";
    /// The policy covering the route could not be compiled and none was serving before.
    PolicyInvalid = 503, "the IdentityPolicy on this route is not valid, so the route is closed", "read the policy's status: the message names the field";
    /// The route itself could not be compiled.
    RouteInvalid = 500, "the route is not valid or uses a feature this gateway does not have, so it is closed", "read the HTTPRoute's status";
    // --- authentication
    /// Nothing was presented that any method recognises.
    NoCredentials = 401, "the request carries no credential that any method of the policy recognises", "send a credential of one of the policy's methods";
    /// The bearer token is not a well-formed signed JWT.
    MalformedToken = 401, "the bearer token is not a well-formed signed JWT", "send the token exactly as the issuer returned it";
    /// The token is larger than the gateway reads.
    TokenTooLarge = 401, "the token is larger than 16 KiB", "ask the issuer for fewer claims";
    /// The token's issuer is not one the policy trusts.
    UnknownIssuer = 401, "the token's issuer is not one that the policy trusts", "compare the token's `iss` with the policy's issuers, character by character";
    /// The algorithm of the token is not allowed.
    AlgorithmNotAllowed = 401, "the token is signed with an algorithm that the policy does not allow", "sign with one of the policy's algorithms";
    /// The `typ` of the token is not one the policy pins.
    WrongTokenType = 401, "the token's `typ` is not one that the policy accepts", "send an access token, not another kind of token";
    /// A critical header parameter is not understood.
    UnsupportedCritical = 401, "the token marks a header parameter as critical that this gateway does not know", "issue tokens without `crit`";
    /// No key of the issuer fits the token.
    UnknownKey = 401,
        "the issuer publishes no key that fits the token's `kid` and algorithm",
        "check the issuer's JWKS; a key is known 5 seconds after it was published, so let it sign no sooner";
    /// The signature does not verify.
    BadSignature = 401, "the token's signature does not verify under the issuer's key", "the token was altered or signed by someone else";
    /// The encrypted object does not open under our key.
    CannotDecrypt = 401, "the encrypted token or content cannot be decrypted with the policy's keys", "encrypt for the current public key of the policy";
    /// The token is past its `exp`.
    TokenExpired = 401, "the token has expired", "get a new token";
    /// The token's `nbf` or `iat` is in the future.
    TokenNotYetValid = 401, "the token is not valid yet", "check the clocks of issuer and gateway";
    /// The token is for someone else.
    WrongAudience = 401, "the token is meant for another audience", "ask the issuer for a token with one of the policy's audiences";
    /// A claim that the policy needs is missing or unusable.
    UnusableClaim = 401, "a claim that the policy maps or requires is missing or not usable", "compare the token's claims with the policy's identity section";
    /// The issuer's keys have never been fetched.
    KeysUnavailable = 503, "the issuer's keys could not be fetched yet, so no token of it can be verified", "check that the gateway can reach the issuer; the issuer's log line names the error";
    /// The API key is not one of ours.
    UnknownApiKey = 401, "the API key is not known here", "check the key; its checksum tells a typing error from a revoked key";
    /// The API key has a wrong checksum.
    MalformedApiKey = 401, "the API key is not well formed: its checksum does not match", "copy the key again, whole";
    /// The issuer calls the token inactive.
    TokenInactive = 401, "the token's issuer says that the token is not active", "get a new token; the issuer's own log says why it ended";
    /// The issuer could not be asked.
    IntrospectionFailed = 503, "the token's issuer could not be asked about the token", "check endpoint, client and secret of the method's introspection, and that the gateway can reach it";
    /// A bound token without what it is bound to.
    TokenNotBound = 401, "the token is bound to a key or certificate that the request does not prove, or the policy wants a bound token", "send the token with its DPoP proof, or over a connection with its certificate";
    /// The DPoP proof is wrong.
    InvalidProof = 401, "the DPoP proof does not fit this request, token and time", "make a new proof for each request, with `htm`, `htu`, `iat`, `jti` and `ath`";
    /// The certificate is not of the policy's authorities.
    UntrustedCertificate = 401, "the client's certificate was not issued by an authority of the policy, or is not for clients", "compare the certificate's chain with the policy's trust bundle";
    /// The certificate is outside its time.
    CertificateExpired = 401, "the client's certificate has expired or is not valid yet", "renew the certificate, or check the clocks";
    /// The certificate is revoked, or nobody knows.
    CertificateRevoked = 401, "the client's certificate is revoked, or no revocation list of the policy speaks of it", "issue a new certificate, or publish current lists";
    /// The certificate has no name that the policy takes.
    CertificateNotAllowed = 401, "the client's certificate has no name that the policy accepts or maps to a user", "compare the names in the certificate with the method's `names` and `identity`";
    /// The request is for another host than the TLS connection.
    MisdirectedRequest = 421, "the request names another host than the TLS connection was opened for", "open a connection for each host";
    /// A password or token credential that cannot be read.
    MalformedCredential = 401, "the credential is not written as its method wants it", "compare the request's credential with the method's form";
    /// User name or password is wrong.
    WrongPassword = 401, "the user name or the password is wrong", "check both; the audit names the user that was tried";
    /// Too many wrong passwords.
    TooManyAttempts = 429, "too many wrong passwords were tried for this user or from this address", "wait as long as Retry-After says; a right password ends the delay";
    /// All places for password checks are taken.
    PasswordChecksBusy = 503, "more passwords wait to be checked than the gateway takes at once", "try again; callers who proved a password lately go first";
    /// The Digest nonce is too old or not ours.
    StaleNonce = 401, "the nonce of the Digest credential is too old or was not made here", "answer the new challenge";
    /// The Digest nonce was used with this count before.
    ReplayedNonce = 401, "the nonce of the Digest credential was used with this count before", "count `nc` up with every request";
    /// The body is larger than what may be held.
    PayloadTooLarge = 413, "the body has to be checked before it is passed on, and it is larger than 1 MiB", "send a smaller body, or use a method that does not cover the body";
    /// The credential is suspended.
    CredentialSuspended = 401, "the credential is suspended", "set `spec.suspend: false` on the Credential to let it in again";
    /// The credential is past its expiry.
    CredentialExpired = 401, "the credential has expired", "extend `spec.expireTime` or hand out a new Credential";
    // --- people who sign in
    /// The browser's session is not one, or is over.
    SessionEnded = 401, "the browser's session has ended, was ended, or is not known here", "sign in again";
    /// The sign-in is too weak or too old for the policy.
    StepUpRequired = 401, "the person has not proved themselves as strongly or as recently as the policy wants", "sign in again; compare the token's `acr` and `auth_time` with `signIn.stepUp`";
    /// A claim that the policy requires of sign-ins is missing.
    ClaimRequired = 403, "the provider does not say of the person what the policy requires", "compare the person's claims at the provider with `signIn.requiredClaims`";
    /// There is no Credential for the person.
    NoPersonCredential = 403, "the person is known to the provider, and no Credential here says what they may do", "create a Credential with `person`, or compare its `user` with the claim that `signIn.credentials.user` takes";
    /// A page of another site sent the browser here to change something.
    CrossSiteRequest = 403, "a page of another site made the browser send this request with the person's session", "send it from a page of the same origin; list further origins of the same service in `signIn.origins`";
    /// Nobody signs in at this address.
    OriginNotAllowed = 400, "people do not sign in under this address: it is not one of the policy's origins, or it is plain http", "use an address of `signIn.origins`; over plain http only localhost is taken";
    /// What came back to us belongs to no sign-in of this browser.
    UnknownSignIn = 400, "the answer of the provider belongs to no sign-in that this browser began in the last 15 minutes, or was used before", "begin again at the page first asked for; the browser must keep cookies";
    /// The provider did not let the person in.
    SignInRefused = 403, "the provider did not sign the person in", "the audit has the provider's error code; its own log says more";
    /// The provider's answer is not to be believed.
    UntrustedSignIn = 403, "the provider's answer does not prove who the person is", "the audit says which check failed; compare issuer, client id, keys and clocks";
    /// The provider cannot be asked.
    ProviderUnavailable = 503, "the provider could not be asked, so nobody can sign in there for now", "check that the gateway can reach the provider; `idm idp probe` shows each step";
    /// The same page sent the browser to sign in over and over.
    SignInLoop = 508, "the browser was sent to sign in for the same page again and again", "another policy on this host uses the same `basePath`, or something removes the session's cookie on its way";
    /// Too many sign-ins from one address.
    TooManySignIns = 429, "more sign-ins were begun from this address than the gateway takes in a minute", "wait as long as Retry-After says";
    /// The Federation is suspended.
    FederationSuspended = 403, "the Federation is suspended, and what it vouches for is refused", "set `spec.suspend: false` on the Federation";
    /// A provider asked to end sessions, and did not prove it.
    InvalidLogoutToken = 400, "the logout token does not prove that the provider wants sessions ended", "the audit says which check failed";
    // --- token service
    /// A request to the token service that is not one.
    MalformedTokenRequest = 400, "the request to the token service lacks a parameter, has one twice, or is not a form", "send one `application/x-www-form-urlencoded` body with POST, and each parameter once";
    /// The client is unknown, or its proof is wrong.
    InvalidClient = 401, "the OAuth client is unknown, suspended or expired, or its secret, assertion or certificate is wrong", "compare the client with its Credential; the audit names the client that was tried";
    /// The service does not have this grant.
    UnsupportedGrant = 400, "the token service does not have this grant", "use one of the metadata's `grant_types_supported`, or add it to `tokenService.grants`";
    /// The client may not use this grant.
    GrantNotAllowed = 400, "the client may not use this grant", "add it to `oauthClient.grants` of the Credential";
    /// User, password or refresh token is not good.
    InvalidGrant = 400, "the user's password or the refresh token is wrong, expired, used up or revoked", "sign in anew; the audit says which";
    /// A refresh token was used twice, so someone else has it.
    RefreshTokenReused = 400, "the refresh token was used before: someone else may hold it, so all tokens of its sign-in are revoked", "sign in anew, and find out who used the token";
    /// A scope that the client may not have.
    ScopeNotAllowed = 400, "the client asked for a scope that it may not have", "add it to `oauthClient.scopes` of the Credential, or ask for less";
    /// An audience that the client may not ask for.
    AudienceNotAllowed = 400, "the client asked for an audience that the service or the client does not have", "compare `audience` or `resource` with `tokenService.audiences` and the Credential";
    /// The token for the upstream could not be asked for.
    TokenExchangeFailed = 503, "the server that exchanges the caller's token for the upstream's gave no usable answer", "check endpoint, client and secret of `upstream.tokenExchange`, and that the gateway can reach it";
    /// The token for the upstream was refused.
    TokenExchangeRefused = 403, "the server that exchanges tokens refused to give the upstream one for this caller", "the detail holds the server's error; its own log says more";
    /// Too many tokens in the query.
    TooManyQueryTokens = 429, "more tokens were sent in the query from this address than the policy allows", "send the token in the Authorization header";
    /// The token was revoked.
    TokenRevoked = 401, "the token was revoked at the service that issued it", "get a new token";
    /// What gateways remember together cannot be asked.
    StoreUnavailable = 503, "the store that the gateways share cannot be reached, so nobody can say what was used or revoked", "check the store's address, password and health";
    // --- content
    /// The JOSE object that the policy wants is not there.
    MissingObject = 400, "the request lacks the signed or encrypted object that a JOSE step of the policy opens", "send the object where the step looks for it";
    /// Too many slow decryptions.
    DecryptionsBusy = 503,
        "more objects whose key is made of a password (PBES2) wait to be decrypted than the gateway takes at once, or \
         takes of one address",
        "try again; encrypt for a key of the policy instead of a password";
    /// The caller used up its tokens.
    TokenQuotaExceeded = 429, "the caller has used the language model tokens that the policy allows in this span of time", "wait as long as Retry-After says, or raise `llm.quotas`";
    /// A WebSocket where tokens are counted.
    UpgradeNotAllowed = 403,
        "a WebSocket was asked for where the tokens of a language model are counted, and what passes a tunnel cannot \
         be counted",
        "use the provider's HTTP endpoints";
    /// The JOSE object that the policy makes could not be made.
    ObjectNotMade = 500, "a JOSE step of the policy could not sign or encrypt", "the detail names the step; compare its `from`, `keyFor` and `claims` with the request";
    // --- authorization
    /// The credential may not be used on this policy's targets.
    CredentialNotAllowedHere = 403, "the credential's access list does not contain this policy", "add the policy to `spec.access.policies` of the Credential";
    /// A required role is missing.
    MissingRole = 403, "the caller lacks a role that the rule requires", "grant the role with a RoleBinding, the token's claims or the Credential";
    /// A required scope is missing.
    InsufficientScope = 403, "the token lacks a scope that the rule requires", "ask the issuer for a token with the scope";
    /// A rule's condition has no value for this request.
    RuleUndecided = 403, "the condition of a rule cannot be decided for this request, so it is refused", "guard the condition with `has(…)` for members that may be missing";
    /// An expression used up its budget.
    ExpressionTooCostly = 403,
        "an expression of the policy costs more on this request than it may, so the request is refused",
        "shorten what the caller sends, or write the expression without loops over it";
    /// No authorization rule applies to the request.
    NoRuleMatched = 403, "the policy has authorization rules, and none of them covers this request", "add a rule that covers the method and path";
    // --- serving
    /// The audit spool cannot take the record.
    AuditUnavailable = 503, "the audit spool cannot be written, and an unrecorded request is not served", "free disk space for the audit folder, or choose `--audit-on-full shed`";
    /// The upstream cannot be reached.
    UpstreamUnreachable = 502, "no connection to the upstream could be made", "check that the backend is running and its address and port are right";
    /// The upstream broke the exchange.
    UpstreamFailed = 502, "the upstream closed the connection or answered with something that is not HTTP", "read the upstream's log";
    /// The upstream took too long.
    UpstreamTimeout = 504, "the upstream did not answer in time", "raise the route's timeout or look at the upstream";
    /// No backend of the route can take traffic.
    NoBackend = 500, "the route has no backend that can take traffic", "read the HTTPRoute's status";
    /// The caller went away before the answer.
    ClientGone = 499, "the caller closed the connection before the answer", "nothing to do";
    /// A defect in the gateway, caught before anything was let through.
    InternalError = 500, "the gateway failed inside; nothing was let through", "report it with the decision id";
}

impl Reason {
    /// The reason with this code.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.code() == code)
    }

    /// True for reasons that are a verdict about the caller; false for failures of the machinery.
    pub const fn is_denial(self) -> bool {
        let status = self.status();
        status >= 400 && status < 499
            || matches!(self, Reason::PolicyInvalid | Reason::RouteInvalid | Reason::KeysUnavailable)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_reads_back_and_every_status_is_an_error() {
        for &reason in Reason::ALL {
            assert_eq!(Reason::from_code(reason.code()), Some(reason));
            assert!((400..600).contains(&reason.status()), "{reason}");
        }
    }
}
