//! The catalogue of reasons. One table, and longer than other files for that.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident {
        status: $status:literal,
        plain: $plain:literal,
        confirm: $confirm:literal,
        fix: $fix:literal,
    })*) => {
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

            /// The cause, in one plain sentence. Callers see it with `disclosure: Detailed`, and clients of a token
            /// service as `error_description`.
            pub const fn plain(self) -> &'static str {
                match self { $(Reason::$name => $plain,)* }
            }

            /// The way to make sure that this is the cause: a command, or where to look. `ID` stands for the
            /// decision id.
            pub const fn confirm(self) -> &'static str {
                match self { $(Reason::$name => $confirm,)* }
            }

            /// The next step for whoever wants the request to pass.
            pub const fn fix(self) -> &'static str {
                match self { $(Reason::$name => $fix,)* }
            }
        }
    };
}

reasons! {
    // --- the request itself
    /// The path has more than one reading.
    AmbiguousPath {
        status: 400,
        plain: "the path can be read in more than one way: it has dot segments, `//`, `;`, an escaped separator, or a \
            character that RFC 3986 does not allow there",
        confirm: "`idm explain ID`: the line under `why:` says which of them the path has, and the first line shows \
            the path",
        fix: "where `why:` names a member of `paths.allow`, add it to the policy of the route if the upstream reads \
            such paths as `docs/paths.md` says; otherwise write each segment in its plain form, and send a value with \
            `/`, `%`, `;`, `?` or `\\` in the query or the body",
    }
    /// The query has more than one reading, and routes differ by it.
    AmbiguousQuery {
        status: 400,
        plain: "rules of the route differ by query parameters, and the query can be read in more than one way: a \
            parameter is repeated, or has `+`, `;` or a broken escape",
        confirm: "`idm explain ID`: the line under `why:` names the parameters of the rule that another reading of the \
            query would lead to",
        fix: "send each parameter that routes match once, and write a space as `%20`, `+` as `%2B` and `;` as `%3B`",
    }
    /// The host is missing, repeated, malformed or contradictory.
    InvalidHost {
        status: 400,
        plain: "the request names no host, several hosts, or a malformed one",
        confirm: "`idm explain ID`: the line under `why:` says what is wrong with it; `curl -v` shows the Host that a \
            client sends",
        fix: "send exactly one well-formed Host (or :authority)",
    }
    /// The request cannot be represented in one canonical way.
    MalformedRequest {
        status: 400,
        plain: "the request is not well formed",
        confirm: "`idm explain ID`: the line under `why:` says which part is not well formed",
        fix: "correct the part that `why:` names; where a proxy stands in front, send the same request to the gateway \
            itself to see which of the two wrote it",
    }
    /// A method that no caller needs from a gateway and that gives away what upstreams see.
    MethodNotAllowed {
        status: 405,
        plain: "the method is TRACE or CONNECT, which the gateway never forwards, or another one than GET where the \
            gateway answers with a document",
        confirm: "`idm explain ID`: the first line shows the method",
        fix: "use another method",
    }
    /// A browser asked whether a script of another origin may send a request, and the rule does not allow that.
    CrossOriginRefused {
        status: 403,
        plain: "scripts of that origin may not send this request: the preflight names an origin, a method or a header \
            that is not allowed",
        confirm: "`idm explain ID` with the `X-Decision-Id` that the browser's network view shows: the line under \
            `why:` says which of them, and the route is the one whose settings count",
        fix: "add it to `allowOrigins`, `allowMethods` or `allowHeaders` of the route's filter CORS or of the policy's \
            `cors`, if the page is yours",
    }
    /// The head is larger than the gateway reads.
    HeadTooLarge {
        status: 431,
        plain: "the request has more or longer headers, or a longer target, than the gateway reads",
        confirm: "`curl -v` prints the headers that a client sends; add up their bytes, cookies above all",
        fix: "send fewer or shorter headers: 64 KiB and 128 of them in all",
    }
    /// The body that has to be read first arrives too slowly.
    BodyTooSlow {
        status: 408,
        plain: "the body has to be read before the request is decided, and it arrived too slowly or not to its end",
        confirm: "`idm explain ID`: the line under `why:` tells how many bytes came in which time",
        fix: "send the body at once and at a steady rate; for callers on slow networks raise \
            `gateway.bodies.pauseSeconds` and lower `gateway.bodies.leastKib` of the chart",
    }
    /// As much memory as bodies may have is in use.
    BodiesBusy {
        status: 503,
        plain: "as many bodies are being held as the gateway, or one address, has memory for",
        confirm: "the metric `idm_bodies_held_bytes` stands near its limit: `gateway.bodies.maxMib` of the chart, or a \
            quarter of the memory",
        fix: "try again; raise `gateway.bodies.maxMib` and the memory limit if this lasts",
    }
    /// One address has too much under way.
    TooManyRequestsAtOnce {
        status: 429,
        plain: "more requests of this address are under way than the gateway serves at once",
        confirm: "`idm audit tail --no-follow --denied` shows many lines with this reason and one address",
        fix: "wait for answers before sending more requests; behind a balancer that hides the callers' addresses, set \
            `gateway.limits.maxRequestsPerAddress` to `maxRequests`",
    }
    /// More than one credential was presented where one is expected.
    AmbiguousCredential {
        status: 400,
        plain: "the request carries more than one credential of the same kind",
        confirm: "`curl -v` prints the headers that a client sends; look for a second Authorization, API key, token \
            parameter or cookie of the same name",
        fix: "send exactly one credential",
    }
    // --- routing
    /// No route matches host, path, method and headers.
    NoRoute {
        status: 404,
        plain: "no route matches this host, path, method and headers",
        confirm: "compare the first line of `idm explain ID` with `kubectl get httproute -A -o wide` and the rules' \
            `matches`",
        fix: "add the host to the HTTPRoute's `hostnames` or the path to its `matches`; a Service that is a target \
            answers to its own names and those in its annotation `identity-manager.io/hostnames`",
    }
    /// The gateway has not been configured yet.
    NotConfigured {
        status: 503,
        plain: "the gateway has no configuration yet",
        confirm: "`kubectl get secret,pods -l app.kubernetes.io/component=gateway` and `kubectl logs \
            deploy/idm-gateway`; under `idm run`, its own log",
        fix: "under `idm run`, correct the file that the log names; in a cluster, see that the operator runs and that \
            its log has no error for this namespace",
    }
    /// A route exists, but no policy covers it: the default is to deny.
    NoPolicy {
        status: 403,
        plain: "a route matches, but no IdentityPolicy covers it, and what is not covered is denied",
        confirm: "`kubectl get idpol -o wide`: none is Ready whose target is the route that `idm explain ID` names, \
            its rule, or its Gateway",
        fix: "attach an IdentityPolicy to the route; write `anonymous: {}` to open it on purpose",
    }
    /// The policy covering the route could not be compiled and none was serving before.
    PolicyInvalid {
        status: 503,
        plain: "the IdentityPolicy on this route is not valid, so the route is closed",
        confirm: "`kubectl get idpol NAME -o wide` shows reason and message; without a cluster, `idm lint DIR`",
        fix: "correct the field that the message names",
    }
    /// The route itself could not be compiled.
    RouteInvalid {
        status: 500,
        plain: "the route is not valid or uses a feature this gateway does not have, so it is closed",
        confirm: "`kubectl get httproute NAME -o yaml`: the conditions in `status.parents` name what is wrong; without \
            a cluster, `idm lint DIR`",
        fix: "remove or replace what the condition names",
    }
    // --- authentication
    /// Nothing was presented that any method recognises.
    NoCredentials {
        status: 401,
        plain: "the request carries no credential that any method of the policy recognises",
        confirm: "`idm explain ID`: the line under `why:` lists what the policy looks for; `curl -v` prints what was \
            sent",
        fix: "send a credential of one of the policy's methods",
    }
    /// The bearer token is not a well-formed signed JWT.
    MalformedToken {
        status: 401,
        plain: "the bearer token is not a well-formed signed JWT",
        confirm: "`idm token decode -` with the token on its standard input fails in the same way",
        fix: "send the token exactly as the issuer returned it; a token that is not a JWT needs the method \
            `introspection`",
    }
    /// The token is larger than the gateway reads.
    TokenTooLarge {
        status: 401,
        plain: "the token is larger than 16 KiB",
        confirm: "count the token's bytes: `printf %s \"$TOKEN\" | wc -c`",
        fix: "ask the issuer for fewer claims",
    }
    /// The token's issuer is not one the policy trusts.
    UnknownIssuer {
        status: 401,
        plain: "the token's issuer is not one that the policy trusts",
        confirm: "`idm token decode -` shows the token's `iss`; the line under `why:` of `idm explain ID` lists those \
            that the policy trusts",
        fix: "write `issuer` in the policy exactly as `iss` has it, a slash at its end included, or get the token from \
            a trusted issuer",
    }
    /// The algorithm of the token is not allowed.
    AlgorithmNotAllowed {
        status: 401,
        plain: "the token is signed with an algorithm that the policy does not allow",
        confirm: "`idm token decode -` shows the header's `alg`; compare it with the policy's `algorithms`",
        fix: "let the issuer sign with one of the policy's `algorithms`, or add the one that it uses",
    }
    /// The `typ` of the token is not one the policy pins.
    WrongTokenType {
        status: 401,
        plain: "the token's `typ` is not one that the policy accepts",
        confirm: "`idm token decode -` shows the header's `typ`; `profile: RFC9068` takes `at+jwt` only",
        fix: "send an access token; where the issuer writes another `typ` into its access tokens, leave `profile` out",
    }
    /// A critical header parameter is not understood.
    UnsupportedCritical {
        status: 401,
        plain: "the token marks a header parameter as critical that this gateway does not know",
        confirm: "`idm token decode -` shows the header's `crit`",
        fix: "issue tokens without `crit`",
    }
    /// No key of the issuer fits the token.
    UnknownKey {
        status: 401,
        plain: "the issuer publishes no key that fits the token's `kid` and algorithm, or several for a token without \
            `kid`",
        confirm: "`idm explain ID`: the line under `why:` says whether several keys fit, and names keys of the set \
            that cannot be used; `idm token decode -` shows `kid` and `alg`; compare them with what `curl` gets from \
            the issuer's JWKS",
        fix: "let the issuer write the `kid` of a key that it publishes; it should publish a key at least 5 seconds \
            before it signs with it. If the key is in the JWKS, `why:` says why it was left out",
    }
    /// The signature does not verify.
    BadSignature {
        status: 401,
        plain: "the token's signature does not verify under the issuer's key",
        confirm: "`idm token verify` with `--key` and the issuer's JWKS fails in the same way",
        fix: "get a new token and send it unaltered; if that fails too, the issuer signs with another key than it \
            publishes under this `kid`",
    }
    /// The encrypted object does not open under our key.
    CannotDecrypt {
        status: 401,
        plain: "the encrypted token or content cannot be decrypted with the policy's keys",
        confirm: "`idm jose decrypt --key` with the key in the policy's Secret fails in the same way",
        fix: "encrypt for the current public key of the policy (`idm jwk public` prints it), with one of its \
            `algorithms` and `encryptions`",
    }
    /// The token is past its `exp`.
    TokenExpired {
        status: 401,
        plain: "the token has expired",
        confirm: "`idm token decode -` shows `exp`; the line under `why:` of `idm explain ID` tells how long it is \
            over",
        fix: "get a new token; if it is new, compare the clocks of issuer and gateway",
    }
    /// The token's `nbf` or `iat` is in the future.
    TokenNotYetValid {
        status: 401,
        plain: "the token is not valid yet",
        confirm: "`idm token decode -` shows `nbf` and `iat`; the line under `why:` of `idm explain ID` tells the \
            seconds that are missing",
        fix: "set the clocks of issuer and gateway, or allow for the difference with `clockSkewSeconds`",
    }
    /// The token is for someone else.
    WrongAudience {
        status: 401,
        plain: "the token is meant for another audience",
        confirm: "`idm token decode -` shows `aud`; the line under `why:` of `idm explain ID` shows both sides",
        fix: "get a token for one of the policy's `audiences`, or add its `aud` there if it means this service; where \
            an issuer writes no `aud` at all, as Amazon Cognito, list its clients in `clientIds` instead of \
            `audiences`",
    }
    /// A claim that the policy needs is missing or unusable.
    UnusableClaim {
        status: 401,
        plain: "a claim that the policy maps or requires is missing or not usable",
        confirm: "`idm explain ID`: the line under `why:` names the claim or the expression; `idm token decode -` \
            shows what the token has",
        fix: "let the issuer write `exp`, `iat` and `nbf` in seconds (numbers, or texts of digits) and `sub` as a text \
            or a whole number; for other claims correct the expression in `authentication.identity` or let the issuer \
            write the claim. `email` of a sign-in counts only when the provider calls it verified, unless the \
            Federation's `oidc.client.emails` says otherwise",
    }
    /// The issuer's keys have never been fetched.
    KeysUnavailable {
        status: 503,
        plain: "the issuer's keys could not be fetched yet, so no token of it can be verified",
        confirm: "`kubectl logs deploy/idm-gateway` has a line that begins with `issuer keys`, with the error: no \
            connection, the status of the answer, or what is wrong with the set. For a token service of idm, the \
            policy's `status.signingKeys` tells from when its keys sign",
        fix: "for no connection, open the way from the gateway's pods to the issuer and set `keys.tls` for an \
            authority of your own; for another status, correct `issuer` or `jwksUri` (a redirect is not followed: the \
            line names where it leads); for a bad set, correct it at the issuer",
    }
    /// The API key is not one of ours.
    UnknownApiKey {
        status: 401,
        plain: "the API key is not known here",
        confirm: "`kubectl get idcred` shows the prefix of each key; compare it with the first 8 characters",
        fix: "send the key of a Credential of the policy's namespace whose labels and access list this method accepts",
    }
    /// The API key has a wrong checksum.
    MalformedApiKey {
        status: 401,
        plain: "the API key is not well formed: its checksum does not match",
        confirm: "a key is `idm_` with 49 more characters; compare its length with that in the Secret",
        fix: "copy the key again, whole",
    }
    /// The issuer calls the token inactive.
    TokenInactive {
        status: 401,
        plain: "the token's issuer says that the token is not active",
        confirm: "ask the issuer's introspection endpoint about the token with `curl`: it answers `\"active\": false`",
        fix: "get a new token; the issuer's own log says why it ended",
    }
    /// The issuer could not be asked.
    IntrospectionFailed {
        status: 503,
        plain: "the token's issuer could not be asked about the token",
        confirm: "`idm explain ID`: the line under `why:` has the endpoint's answer or error",
        fix: "correct `endpoint`, `clientId` or the Secret of the method's `introspection`, or open the way from the \
            gateway's pods to it",
    }
    /// A bound token without what it is bound to.
    TokenNotBound {
        status: 401,
        plain: "the token is bound to a key or certificate that the request does not prove, or the policy wants a \
            bound token",
        confirm: "`idm token decode -` shows `cnf`: `jkt` needs a DPoP proof, `x5t#S256` a client certificate; without \
            `cnf`, the policy's `confirmation` demands it",
        fix: "send the token with its DPoP proof, or over a connection with its certificate",
    }
    /// The DPoP proof is wrong.
    InvalidProof {
        status: 401,
        plain: "the DPoP proof does not fit this request, token and time",
        confirm: "`idm explain ID`: the line under `why:` says which check failed; `idm token decode -` shows the \
            proof's claims",
        fix: "make a new proof for each request, with `htm`, `htu`, `iat`, `jti` and `ath`; `htu` is the URL as the \
            caller sees it, without query",
    }
    /// The certificate is not of the policy's authorities.
    UntrustedCertificate {
        status: 401,
        plain: "the client's certificate was not issued by an authority of the policy, or is not for clients",
        confirm: "`openssl verify -purpose sslclient -CAfile ca.pem client.pem` with the policy's trust bundle fails \
            in the same way",
        fix: "use a certificate of one of the policy's authorities with the usage clientAuth, or add its authority to \
            the trust bundle",
    }
    /// The certificate is outside its time.
    CertificateExpired {
        status: 401,
        plain: "the client's certificate has expired or is not valid yet",
        confirm: "`openssl x509 -noout -dates -in client.pem`",
        fix: "renew the certificate; if its dates are right, set the clock of the gateway's node",
    }
    /// The certificate is revoked, or nobody knows.
    CertificateRevoked {
        status: 401,
        plain: "the client's certificate is revoked, or no revocation list of the policy speaks of it",
        confirm: "`openssl crl -noout -text -in ca.crl` with the policy's list: it has the serial number, or is of \
            another authority, or `Next Update` is over",
        fix: "issue a new certificate, or put current lists of every authority into the Secret of `revocationListRef`",
    }
    /// The certificate has no name that the policy takes.
    CertificateNotAllowed {
        status: 401,
        plain: "the client's certificate has no name that the policy accepts or maps to a user",
        confirm: "`openssl x509 -noout -subject -ext subjectAltName -in client.pem` shows the names; compare them with \
            `names` of the method",
        fix: "issue the certificate with a name that `names` accepts, or add its name there",
    }
    /// The request is for another host than the TLS connection.
    MisdirectedRequest {
        status: 421,
        plain: "the request names another host than the TLS connection was opened for",
        confirm: "`idm explain ID`: the line under `why:` names the host of the connection, and the first line that of \
            the request",
        fix: "open a connection for each host",
    }
    /// A password or token credential that cannot be read.
    MalformedCredential {
        status: 401,
        plain: "the credential is not written as its method wants it",
        confirm: "`idm explain ID`: the line under `why:` says what was expected",
        fix: "write the credential as `why:` says; user name and password of `Basic` must be UTF-8 before they become \
            base64",
    }
    /// User name or password is wrong.
    WrongPassword {
        status: 401,
        plain: "the user name or the password is wrong",
        confirm: "`idm explain ID`: the line under `why:` has the user that was tried; `kubectl get idcred` shows \
            whether there is a Credential, and `idm idp try` whether a directory knows the user",
        fix: "send the password in the Secret of the user's Credential, or the one that the user has in the directory",
    }
    /// Too many wrong passwords.
    TooManyAttempts {
        status: 429,
        plain: "too many wrong passwords were tried for this user or from this address",
        confirm: "`idm audit tail --no-follow --denied` shows the wrong passwords before it, with user and address",
        fix: "wait as long as Retry-After says; a right password ends the delay",
    }
    /// The address is blocked for a while.
    AddressBlocked {
        status: 429,
        plain: "too many different credentials of this address were refused, and nothing of it is taken for a while",
        confirm: "`idm explain ID`: the line under `why:` has the rule, what was counted and the end of the block; \
            `idm blocks list` shows every block in force",
        fix: "the block ends by itself; for an address that is no attacker's, end it with `idm blocks remove ADDRESS` \
            and name the address in `--blocks-never`",
    }
    /// The credential is blocked at this address for a while.
    CredentialBlocked {
        status: 429,
        plain: "this credential was refused many times at this address, where it is not looked at for a while",
        confirm: "`idm explain ID`: the line under `why:` has the rule, what was counted and the end of the block; \
            `idm blocks list` shows every block in force",
        fix: "correct the credential that the program at this address sends; the block ends by itself, or with `idm \
            blocks remove ADDRESS`, and concerns no other address",
    }
    /// All places for password checks are taken.
    PasswordChecksBusy {
        status: 503,
        plain: "more passwords wait to be checked than the gateway takes at once",
        confirm: "`idm_decisions_total` with this reason grows on one pod, whose CPU is at its limit",
        fix: "try again; callers who proved a password lately go first. If this lasts, give the gateway more CPU or \
            pods",
    }
    /// The directory refuses: the name fits several people.
    AmbiguousUser {
        status: 401,
        plain: "the user name fits several people of the directory, or is that of a Credential, too",
        confirm: "`idm explain ID`: the line under `why:` names the directory; `idm idp try` with the same name shows \
            the entries that it found",
        fix: "give the people different values of the login attributes, or list fewer of them in \
            `spec.ldap.users.loginAttributes`; give the Credential another name",
    }
    /// The password of the person is stored in a form that cannot be checked.
    StoredPasswordUnusable {
        status: 401,
        plain: "the password of this person is stored in a form that the gateway cannot check",
        confirm: "`idm explain ID`: the line under `why:` has the directory, the person and the form",
        fix: "store the password anew in a form of docs/directories.md; a legacy form can be accepted in \
            `spec.database.dangerLegacyFormats`",
    }
    /// The account is disabled in its directory.
    AccountDisabled {
        status: 401,
        plain: "the account is disabled in its directory",
        confirm: "`idm explain ID`: the line under `why:` names the directory and the person",
        fix: "enable the account in the directory, if it should be used",
    }
    /// The account is locked in its directory.
    AccountLocked {
        status: 401,
        plain: "the account is locked in its directory",
        confirm: "`idm audit tail --no-follow --denied` shows the wrong passwords before it, if they came by this \
            gateway",
        fix: "unlock the account in the directory, or wait as long as its policy says",
    }
    /// The account has expired in its directory.
    AccountExpired {
        status: 401,
        plain: "the account has expired in its directory",
        confirm: "`idm explain ID`: the line under `why:` names the directory and the person",
        fix: "set a later end of the account in the directory, if it should be used",
    }
    /// The password has expired in its directory.
    PasswordExpired {
        status: 401,
        plain: "the password has expired in its directory",
        confirm: "`idm explain ID`: the line under `why:` names the directory and the person",
        fix: "let the person change the password where the directory lets them",
    }
    /// The password must be changed before it is used.
    PasswordMustChange {
        status: 401,
        plain: "the directory wants the person to change the password first",
        confirm: "`idm explain ID`: the line under `why:` names the directory and the person",
        fix: "let the person change the password where the directory lets them",
    }
    /// The new password is not taken.
    NewPasswordRefused {
        status: 400,
        plain: "the new password was not taken: it differs from its repetition, or the directory does not accept it",
        confirm: "`idm explain ID`: the line under `why:` has the directory's own words",
        fix: "let the person choose a password that the directory's policy accepts; let people change their own \
            passwords there",
    }
    /// The account may not be used now, or not from here.
    AccountRestricted {
        status: 401,
        plain: "the directory does not let the account be used at this time or from this machine",
        confirm: "`idm explain ID`: the line under `why:` names the directory and the person",
        fix: "change the hours or machines of the account in the directory",
    }
    /// The person is in more groups than are taken.
    TooManyGroups {
        status: 403,
        plain: "the person is in more groups than the gateway takes",
        confirm: "`idm explain ID`: the line under `why:` has the number and the limit",
        fix: "set `groups.base` of the Federation to the part of the directory that has the groups which matter",
    }
    /// No server of the directory answers.
    DirectoryUnavailable {
        status: 503,
        plain: "the directory cannot be reached, so nobody can say whether the password is right",
        confirm: "`idm explain ID`: the line under `why:` has the server and the error; `idm idp try` asks it again",
        fix: "let the directory run again, or open the way from the gateway's pods to it",
    }
    /// Too many logins wait for the directory.
    DirectoryBusy {
        status: 503,
        plain: "too many logins wait for the directory, or it did not answer the last ones and is left alone for a \
            while",
        confirm: "`idm explain ID`: the line under `why:` says which of both; `idm_directory_circuit_open` is 1 for \
            its Federation in the second case",
        fix: "try again after the seconds of Retry-After; if the directory is healthy, raise `concurrency` of the \
            Federation",
    }
    /// The directory's server is not trusted.
    DirectoryUntrusted {
        status: 503,
        plain: "the certificate of the directory's server is not trusted, or the server offers no TLS",
        confirm: "`idm explain ID`: the line under `why:` has the server and what is wrong with its certificate",
        fix: "name the authority in `tls.trustBundleRef` of the Federation, and write the server by a name that its \
            certificate has",
    }
    /// The directory refuses the gateway's own login.
    DirectoryRefusesGateway {
        status: 503,
        plain: "the directory refuses the gateway's own login",
        confirm: "`idm explain ID`: the line under `why:` has the server and its message",
        fix: "correct the name or the password of the gateway's account in the Federation and its Secret; where the \
            message says that TLS is wanted, write `ldaps://` or `startTls: true`",
    }
    /// The directory's answer cannot be used.
    DirectoryUnusable {
        status: 503,
        plain: "the answer of the directory cannot be used",
        confirm: "`idm explain ID`: the line under `why:` says what is missing or wrong; `idm idp try` shows each step",
        fix: "correct the part of the Federation that `why:` names, so that it fits what the directory has",
    }
    /// The Digest nonce is too old or not ours.
    StaleNonce {
        status: 401,
        plain: "the nonce of the Digest credential is too old or was not made here",
        confirm: "`curl -i --digest` with the same user succeeds: it answers the new challenge by itself",
        fix: "answer the new challenge",
    }
    /// The Digest nonce was used with this count before.
    ReplayedNonce {
        status: 401,
        plain: "the nonce of the Digest credential was used with this count before",
        confirm: "`idm explain ID`: the line under `why:` says whether this pod or another saw the count",
        fix: "count `nc` up with every request",
    }
    /// The fields of a signed request cannot be read.
    MalformedSignature {
        status: 401,
        plain: "`Signature-Input`, `Signature` or `Content-Digest` is not what RFC 9421 and RFC 9530 define",
        confirm: "`idm explain ID`: the line under `why:` says what is wrong with which field",
        fix: "sign with a library for RFC 9421; the older draft, whose `Signature` header has `keyId=`, is another \
            scheme",
    }
    /// No Credential has the key of the signature.
    UnknownSignatureKey {
        status: 401,
        plain: "no Credential that the policy accepts has the key that the request's signature names, or the signature \
            is for another application",
        confirm: "`idm explain ID`: the line under `why:` has each signature's `keyid` and `tag`; compare them with \
            the `id` of keys under `spec.signature` of Credentials and with the method's `tag`",
        fix: "sign with a `keyid` that a Credential of the namespace lists, and with the policy's `tag` or without one",
    }
    /// The signature of the request does not verify.
    WrongSignature {
        status: 401,
        plain: "the request's signature does not verify under its key over the request as it arrived",
        confirm: "`idm explain ID`: the line under `why:` says whether a covered component is not there, the algorithm \
            is another, or the signature is over something else",
        fix: "sign the request as it is sent: the path in its canonical spelling, the host as the caller names it, and \
            no header that a proxy or this gateway removes",
    }
    /// The signature leaves out what the policy wants to be covered.
    SignatureCoversTooLittle {
        status: 401,
        plain: "the request's signature does not cover everything that the policy wants to be covered",
        confirm: "`idm explain ID`: the line under `why:` lists what is missing; the answer's `Accept-Signature` has \
            everything",
        fix: "cover the components that the method's `components` lists; of a request with a body also \
            `content-digest`",
    }
    /// The signature is too old, expired, or from the future.
    SignatureNotInTime {
        status: 401,
        plain: "the request's signature is too old, has expired, is from the future, or has no `created`",
        confirm: "`idm explain ID`: the line under `why:` has the difference in seconds",
        fix: "sign each request when it is sent, with `created`; set the clocks, or allow for more with \
            `maxAgeSeconds` and `clockSkewSeconds`",
    }
    /// The signature was taken before.
    ReplayedSignature {
        status: 401,
        plain: "a request with the same nonce, or with the same signed content, was taken before",
        confirm: "the audit has an earlier record with the same `identity.kid`",
        fix: "sign every request anew, with a `nonce` of its own: two equal requests of one second differ by it alone",
    }
    /// The body is not the one that was signed.
    ContentDigestMismatch {
        status: 400,
        plain: "the body does not have the `Content-Digest` that the caller signed",
        confirm: "`idm explain ID`: the line under `why:` names the digest; `openssl dgst -sha256 -binary BODY | \
            base64` makes one",
        fix: "compute `Content-Digest` over the body as it is sent, after compression",
    }
    /// The body is larger than what may be held.
    PayloadTooLarge {
        status: 413,
        plain: "the body has to be read as a whole before it is passed on, and it is larger than the gateway holds",
        confirm: "`idm explain ID`: the line under `why:` has the limit in bytes; the request's Content-Length is \
            above it",
        fix: "send a smaller body: 1 MiB for forms, Digest `auth-int`, signed bodies and JOSE steps, 16 MiB for \
            language models. Bodies that no method, step or model has to read have no limit",
    }
    /// The credential is suspended.
    CredentialSuspended {
        status: 401,
        plain: "the credential is suspended",
        confirm: "`kubectl get idcred NAME -o yaml` has `suspend: true`; the line under `why:` of `idm explain ID` \
            names it",
        fix: "set `spec.suspend: false` on the Credential to let it in again",
    }
    /// The credential is past its expiry.
    CredentialExpired {
        status: 401,
        plain: "the credential has expired",
        confirm: "`kubectl get idcred NAME -o yaml` shows `expireTime`; the line under `why:` of `idm explain ID` \
            names both",
        fix: "extend `spec.expireTime` or hand out a new Credential",
    }
    /// The key was revoked.
    KeyRevoked {
        status: 401,
        plain: "the key was revoked",
        confirm: "`idm explain ID`: the line under `why:` names the Credential, the id of the key and since when it is \
            revoked; `status.keys` of the Credential lists it, too",
        fix: "hand out a new key with `idm credential rotate NAME`; a revoked key never works again, whatever is done \
            to its Credential or its Secret",
    }
    /// The key was replaced, and the time in which both worked is over.
    KeyRotatedOut {
        status: 401,
        plain: "the key was replaced by a newer one, and the time in which both worked is over",
        confirm: "`idm explain ID`: the line under `why:` names the Credential, the id of the key and since when it is \
            refused; `idm_ended_keys_used_total` counts such calls by Credential",
        fix: "send the new key: it is in the Secret of the Credential; next time give callers longer with `idm \
            credential rotate NAME --overlap`",
    }
    // --- people who sign in
    /// The browser's session is not one, or is over.
    SessionEnded {
        status: 401,
        plain: "the browser's session has ended, was ended, or is not known here",
        confirm: "`idm explain ID`: the line under `why:` says whether it was idle, ended, too old or of another \
            Federation",
        fix: "sign in again; for sessions that end too early raise `signIn.session.idleSeconds` or `absoluteSeconds`",
    }
    /// The sign-in is too weak or too old for the policy.
    StepUpRequired {
        status: 401,
        plain: "the person has not proved themselves as strongly or as recently as the policy wants",
        confirm: "`idm explain ID`: the line under `why:` names what is missing: an `acr` or a recent `auth_time`",
        fix: "sign in again; if that does not help, let the provider send `acr` or `auth_time`, or change \
            `signIn.stepUp`",
    }
    /// A claim that the policy requires of sign-ins is missing.
    ClaimRequired {
        status: 403,
        plain: "the provider does not say of the person what the policy requires",
        confirm: "`idm explain ID`: the line under `why:` names the claim",
        fix: "give the person the claim at the provider, or change `signIn.requiredClaims`",
    }
    /// There is no Credential for the person.
    NoPersonCredential {
        status: 403,
        plain: "the person is known to the provider, and no Credential here says what they may do",
        confirm: "`idm explain ID`: the line under `why:` has the user that was looked for; `kubectl get idcred -o \
            yaml` shows each `person.user`",
        fix: "create a Credential with `person.user` of that name, or change the expression `signIn.credentials.user`",
    }
    /// A page of another site sent the browser here to change something.
    CrossSiteRequest {
        status: 403,
        plain: "a page of another site made the browser send this request with the person's session",
        confirm: "the browser's developer tools show `Sec-Fetch-Site: cross-site` or another `Origin` on the request",
        fix: "send it from a page of the same origin; list further origins of the same service in `signIn.origins`",
    }
    /// The address is none of the policy's origins.
    OriginNotAllowed {
        status: 400,
        plain: "people do not sign in under this address: it is not one of the policy's origins, or it is plain http",
        confirm: "`idm explain ID`: the line under `why:` shows the origin; compare it with `signIn.origins`",
        fix: "use an address of `signIn.origins`, or list the one that browsers see there; over plain http only \
            localhost is taken",
    }
    /// The provider's answer belongs to no sign-in of this browser.
    UnknownSignIn {
        status: 400,
        plain: "the answer of the provider belongs to no sign-in that this browser began in the last 15 minutes, or \
            was used before",
        confirm: "`idm explain ID`: the line under `why:` says which: no cookie, an unknown or old `state`, a second \
            use, or an answer that nobody asked for",
        fix: "for a cookie, let the browser keep cookies and reach the gateway under the same origin all along; for \
            `state`, begin again at the page first asked for; for SAML sign-ins that begin at the provider, set the \
            Federation's `saml.unsolicited`",
    }
    /// The provider did not let the person in.
    SignInRefused {
        status: 403,
        plain: "the provider did not sign the person in",
        confirm: "`idm explain ID`: the line under `why:` has the provider's error code and its description. Where it \
            says that there was no `state`, anybody may have written both",
        fix: "look the code and the time up in the provider's own log; `access_denied` means that it did not let the \
            person in, other codes that the client is registered otherwise than the Federation says",
    }
    /// The provider's answer is not to be believed.
    UntrustedSignIn {
        status: 403,
        plain: "the provider's answer does not prove who the person is",
        confirm: "`idm explain ID`: the line under `why:` names the check that failed; `idm idp probe URL` shows what \
            the provider publishes",
        fix: "make what `why:` names agree in the provider and the Federation: issuer or entity id, client id, keys or \
            certificates; for a time, set the clocks or the Federation's `clockSkewSeconds`",
    }
    /// The provider cannot be asked.
    ProviderUnavailable {
        status: 503,
        plain: "the provider could not be asked, so nobody can sign in there for now",
        confirm: "`idm idp probe URL` from the network of the gateway's pods shows the step that fails",
        fix: "open the way to the provider, or set `tls` in the Federation for an authority of your own",
    }
    /// The same page sent the browser to sign in over and over.
    SignInLoop {
        status: 508,
        plain: "the browser was sent to sign in for the same page again and again",
        confirm: "`kubectl get idpol -o wide` shows another policy on the host with the same `basePath`, or the \
            browser's developer tools show that no session cookie arrives",
        fix: "give each policy its own `basePath`, or let proxies in front pass `Set-Cookie` and `Cookie`",
    }
    /// Too many sign-ins from one address.
    TooManySignIns {
        status: 429,
        plain: "more sign-ins were begun from this address than the gateway takes in a minute",
        confirm: "`idm audit tail --no-follow --denied` shows many lines with this reason and one address",
        fix: "wait as long as Retry-After says; behind a proxy, see whether it hides the addresses of the callers",
    }
    /// The Federation is suspended.
    FederationSuspended {
        status: 403,
        plain: "the Federation is suspended, and what it vouches for is refused",
        confirm: "`kubectl get idfed NAME -o yaml` has `suspend: true`",
        fix: "set `spec.suspend: false` on the Federation",
    }
    /// A provider asked to end sessions, and did not prove it.
    InvalidLogoutToken {
        status: 400,
        plain: "the logout token does not prove that the provider wants sessions ended",
        confirm: "`idm explain ID`: the line under `why:` names the check that failed",
        fix: "make issuer, client id and keys agree in the provider and the Federation; the provider must send the \
            token as the form parameter `logout_token`",
    }
    // --- token service
    /// A request to the token service that is not one.
    MalformedTokenRequest {
        status: 400,
        plain: "the request to the token service lacks a parameter, has one twice, or is not a form",
        confirm: "`idm explain ID`: the line under `why:` names the parameter; `curl -v` prints what was sent",
        fix: "send one `application/x-www-form-urlencoded` body with POST, and each parameter once",
    }
    /// The client is unknown, or its proof is wrong.
    InvalidClient {
        status: 401,
        plain: "the OAuth client is unknown, suspended or expired, or its secret, assertion or certificate is wrong",
        confirm: "`idm explain ID`: the line under `why:` has the client that was tried and what is wrong; `kubectl \
            get idcred` shows whether there is one",
        fix: "send the client id of the Credential and the secret in its Secret, or prove the client in the one way \
            that its `oauthClient` names",
    }
    /// The service does not have this grant.
    UnsupportedGrant {
        status: 400,
        plain: "the token service does not have this grant",
        confirm: "`curl` the service's metadata at `/.well-known/oauth-authorization-server` before its path: \
            `grant_types_supported` lists them",
        fix: "use one of them, or add the grant to `tokenService.grants`",
    }
    /// The client may not use this grant.
    GrantNotAllowed {
        status: 400,
        plain: "the client may not use this grant",
        confirm: "`kubectl get idcred NAME -o yaml` shows `oauthClient.grants`; the line under `why:` of `idm explain \
            ID` names client and grant",
        fix: "add it to `oauthClient.grants` of the Credential",
    }
    /// User, password or refresh token is not good.
    InvalidGrant {
        status: 400,
        plain: "the user's password or the refresh token is wrong, expired, used up or revoked",
        confirm: "`idm explain ID`: the line under `why:` says which of them it was",
        fix: "sign in anew, and send the newest refresh token only",
    }
    /// A refresh token was used twice, so someone else has it.
    RefreshTokenReused {
        status: 400,
        plain: "the refresh token was used before: someone else may hold it, so all tokens of its sign-in are revoked",
        confirm: "`idm audit tail --no-follow --denied` shows the uses with their addresses; the line under `why:` of \
            `idm explain ID` names the Credential",
        fix: "sign in anew, and find out who used the token: a client that repeats a request after a lost answer does \
            this, and so does a thief",
    }
    /// A scope that the client may not have.
    ScopeNotAllowed {
        status: 400,
        plain: "the client asked for a scope that it may not have",
        confirm: "`kubectl get idcred NAME -o yaml` shows `oauthClient.scopes`; the line under `why:` of `idm explain \
            ID` names the scope",
        fix: "add it to `oauthClient.scopes` of the Credential, or ask for less",
    }
    /// An audience that the client may not ask for.
    AudienceNotAllowed {
        status: 400,
        plain: "the client asked for an audience that the service or the client does not have",
        confirm: "`idm explain ID`: the line under `why:` names the audience; compare it with `tokenService.audiences` \
            and `oauthClient.audiences`",
        fix: "ask for one that both lists have, or add it to them",
    }
    /// The token for the upstream could not be asked for.
    TokenExchangeFailed {
        status: 503,
        plain: "the server that exchanges the caller's token for the upstream's gave no usable answer",
        confirm: "`idm explain ID`: the line under `why:` has the server's answer or error",
        fix: "correct `endpoint`, `clientId` or the Secret of `upstream.tokenExchange`, or open the way from the \
            gateway's pods to it",
    }
    /// The token for the upstream was refused.
    TokenExchangeRefused {
        status: 403,
        plain: "the server that exchanges tokens refused to give the upstream one for this caller",
        confirm: "`idm explain ID`: the line under `why:` has the server's error code",
        fix: "allow the exchange at that server for the gateway's client, the caller and the audience; its own log \
            says which of them it refused",
    }
    /// Too many tokens in the query.
    TooManyQueryTokens {
        status: 429,
        plain: "more tokens were sent in the query from this address than the policy allows",
        confirm: "`idm audit tail --no-follow --denied` shows many lines with this reason and one address",
        fix: "send the token in the Authorization header, or raise `requestsPerMinute` of the source `query`",
    }
    /// The token was revoked.
    TokenRevoked {
        status: 401,
        plain: "the token was revoked at the service that issued it",
        confirm: "`idm explain ID`: the line under `why:` names the Credential that is gone; without a line, the token \
            itself was revoked",
        fix: "get a new token; if a Credential is gone, create it again first",
    }
    /// The store that the gateways share cannot be asked.
    StoreUnavailable {
        status: 503,
        plain: "the store that the gateways share cannot be reached, so nobody can say what was used or revoked",
        confirm: "`kubectl logs deploy/idm-gateway` has a line with `the store` and the error",
        fix: "correct `gateway.store.url` or the password's Secret, or let the store run again",
    }
    // --- content
    /// The JOSE object that the policy wants is not there.
    MissingObject {
        status: 400,
        plain: "the request lacks the signed or encrypted object that a JOSE step of the policy opens",
        confirm: "`idm explain ID`: the line under `why:` names the step; compare its `from` with the request",
        fix: "send the object where the step looks for it",
    }
    /// Too many slow decryptions.
    DecryptionsBusy {
        status: 503,
        plain: "more objects whose key is made of a password (PBES2) wait to be decrypted than the gateway takes at \
            once, or takes of one address",
        confirm: "`idm token decode -` shows `PBES2` in the object's `alg`",
        fix: "try again; encrypt for a key of the policy instead of a password",
    }
    /// The caller used up its tokens.
    TokenQuotaExceeded {
        status: 429,
        plain: "the caller has used the language model tokens that the policy allows in this span of time",
        confirm: "`idm audit tail --no-follow -o json` has `usage` in each record of the caller",
        fix: "wait as long as Retry-After says, or raise `llm.quotas`",
    }
    /// A WebSocket where tokens are counted.
    UpgradeNotAllowed {
        status: 403,
        plain: "a WebSocket was asked for where the tokens of a language model are counted, and what passes a tunnel \
            cannot be counted",
        confirm: "the request has `Upgrade: websocket`, and the policy `llm`",
        fix: "use the provider's HTTP endpoints",
    }
    /// The JOSE object that the policy makes could not be made.
    ObjectNotMade {
        status: 500,
        plain: "a JOSE step of the policy could not sign or encrypt",
        confirm: "`idm explain ID`: the line under `why:` names the step and the expression",
        fix: "let the step's `from`, `keyFor` and `claims` name what every request has, or give the missing key",
    }
    // --- authorization
    /// The credential may not be used on this policy's targets.
    CredentialNotAllowedHere {
        status: 403,
        plain: "the credential's access list does not contain this policy",
        confirm: "`idm explain ID`: the line under `why:` lists the policies that it may be used with",
        fix: "add the policy to `spec.access.policies` of the Credential",
    }
    /// The credential may not be used for this method.
    OutsideMethods {
        status: 403,
        plain: "the credential may not be used for requests with this method",
        confirm: "`idm explain ID`: the line under `why:` names the Credential or UsagePlan that restricts it, and the \
            first line shows the method",
        fix: "use another method, or change `access.methods` or `access.exceptMethods` of that object",
    }
    /// The credential may not be used for this path.
    OutsidePaths {
        status: 403,
        plain: "the credential may not be used for this path",
        confirm: "`idm explain ID`: the line under `why:` names the Credential or UsagePlan that restricts it, and the \
            first line shows the path",
        fix: "ask for another path, or change `access.paths` or `access.exceptPaths` of that object",
    }
    /// The caller does not meet the baseline of the Gateway.
    BaselineNotMet {
        status: 403,
        plain: "the platform does not allow this call",
        confirm: "`idm explain ID`: the line under `why:` names the IdentityPolicy whose `baseline` demands it, and \
            the method, issuer or condition that fails",
        fix: "call with a credential that the baseline allows; or the owner of that policy changes its \
            `spec.baseline`: no policy of a route can weaken it",
    }
    /// The credential may not be used from this address.
    OutsideAddresses {
        status: 403,
        plain: "the credential may not be used from the address that the request comes from",
        confirm: "`idm explain ID`: the line under `why:` has the address and the Credential or UsagePlan that \
            restricts it; behind a proxy that is not trusted it is the proxy's",
        fix: "call from an allowed network, or change `access.addresses` or `access.exceptAddresses` of that object; \
            behind a proxy, name it among `gateway.trustedProxies`",
    }
    /// The credential may not be used at this time.
    OutsideHours {
        status: 403,
        plain: "the credential may not be used at this time",
        confirm: "`idm explain ID`: the line under `why:` has the time and the Credential or UsagePlan that restricts \
            it",
        fix: "wait as long as Retry-After says, or change `access.hours` of that object",
    }
    /// A tier of the caller cannot be used.
    UsagePlanInvalid {
        status: 503,
        plain: "a UsagePlan that counts for the caller is not valid",
        confirm: "`kubectl get idplan` shows it with `Ready=False`, and `-o wide` says why",
        fix: "correct the UsagePlan, or remove it",
    }
    /// Requests come faster than a limit lets them pass.
    RateLimited {
        status: 429,
        plain: "requests come faster than a limit lets them pass",
        confirm: "`idm explain ID`: the line `limit:` names the limit; the answer's field `RateLimit-Policy` has it \
            too",
        fix: "wait as long as Retry-After says and send more slowly, or raise `rate` of the limit",
    }
    /// A quota is used up.
    QuotaExceeded {
        status: 429,
        plain: "the requests of this span of time are used up",
        confirm: "`idm explain ID`: the line `limit:` names the limit; the answer's field `RateLimit` says when the \
            next span begins",
        fix: "wait as long as Retry-After says, or raise `quota` of the limit",
    }
    /// As many requests as a limit allows are under way.
    TooManyConcurrentRequests {
        status: 429,
        plain: "as many requests as a limit allows are under way",
        confirm: "`idm explain ID`: the line `limit:` names the limit; a request counts until its answer has ended",
        fix: "wait for answers before sending more requests, or raise `concurrency` of the limit",
    }
    /// The request's body is larger than a limit allows.
    RequestTooLarge {
        status: 413,
        plain: "the body of the request is larger than a limit allows",
        confirm: "`idm explain ID`: the lines `limit:` and `why:` have the limit and its number of bytes",
        fix: "send a smaller body, or raise `requestSize` of the limit",
    }
    /// The answer's body is larger than a limit allows.
    ResponseTooLarge {
        status: 502,
        plain: "the body of the upstream's answer is larger than a limit allows",
        confirm: "`idm explain ID`: the lines `limit:` and `why:` have the limit and its number of bytes",
        fix: "ask for less at once, or raise `responseSize` of the limit",
    }
    /// A required role is missing.
    MissingRole {
        status: 403,
        plain: "the caller lacks a role that the rule requires",
        confirm: "`idm explain ID`: the line under `why:` has the role that is needed, those of the caller, and the \
            names that were dropped because they are no roles: one begins with a letter or digit and has only letters, \
            digits and `._:/@+-`",
        fix: "grant the role with a RoleBinding, the token's claims or the Credential; map a claim with such names to \
            `groups` and bind these with a RoleBinding",
    }
    /// A required scope is missing.
    InsufficientScope {
        status: 403,
        plain: "the token lacks a scope that the rule requires",
        confirm: "`idm explain ID`: the line under `why:` has the scope that is needed and those of the token",
        fix: "ask the issuer for a token with the scope",
    }
    /// A rule's condition has no value for this request.
    RuleUndecided {
        status: 403,
        plain: "the condition of a rule cannot be decided for this request, so it is refused",
        confirm: "`idm explain ID`: the line under `why:` names the rule and what could not be found; `idm policy \
            test` decides the same request without a cluster",
        fix: "guard the condition with `has(…)` for members that may be missing",
    }
    /// An expression used up its budget.
    ExpressionTooCostly {
        status: 403,
        plain: "an expression of the policy costs more on this request than it may, so the request is refused",
        confirm: "`idm explain ID`: the line under `why:` names the expression",
        fix: "shorten what the caller sends, or write the expression without loops over it: `'a' in identity.roles`, \
            or a lookup by key",
    }
    /// No authorization rule applies to the request.
    NoRuleMatched {
        status: 403,
        plain: "the policy has authorization rules, and none of them covers this request",
        confirm: "`idm explain ID`: the line under `why:` has the method; compare `methods` and `when` of each rule, \
            or run `idm policy test`",
        fix: "add a rule that covers the method and path",
    }
    /// A rule about prompts does not permit what is asked of a language model.
    PromptRefused {
        status: 403,
        plain: "a rule of the policy does not permit this prompt, and nothing was sent to the provider",
        confirm: "`idm explain ID`: the line under `why:` names the rule, or says why the body cannot be read; prompts \
            are in no record",
        fix: "ask for what `llm.rules` of the policy permit, as JSON without a content coding; send files through a \
            route whose policy has no such rules",
    }
    // --- serving
    /// The audit spool cannot take the record.
    AuditUnavailable {
        status: 503,
        plain: "the audit spool cannot be written, and an unrecorded request is not served",
        confirm: "the gateway's log has a line with `audit records`; `df` of the audit folder shows whether it is full",
        fix: "free disk space for the audit folder, let Elasticsearch run again where it is the shipper that waits, or \
            choose `--audit-on-full shed`",
    }
    /// The upstream cannot be reached.
    UpstreamUnreachable {
        status: 502,
        plain: "no connection to the upstream could be made",
        confirm: "`kubectl get endpointslices -l kubernetes.io/service-name=NAME` shows whether the backend has ready \
            pods; the line under `why:` of `idm explain ID` has the address and the error",
        fix: "let the backend run, and correct name and port in `backendRefs`; a NetworkPolicy must let the gateway's \
            pods in",
    }
    /// The upstream's certificate was refused.
    UpstreamUntrusted {
        status: 502,
        plain: "the upstream's certificate is not one that the gateway may trust, and nothing was sent to it",
        confirm: "`idm explain ID`: the line under `why:` has the fault; `openssl s_client -connect HOST:PORT \
            -servername NAME -showcerts` shows the certificates",
        fix: "let the upstream show a certificate for the name in the BackendTLSPolicy (or its own, with `appProtocol: \
            https`), from an authority that is named there; without a BackendTLSPolicy the authorities of the system \
            count",
    }
    /// The upstream broke the exchange.
    UpstreamFailed {
        status: 502,
        plain: "the upstream closed the connection or answered with something that is not HTTP",
        confirm: "`idm explain ID`: the line under `why:` has the error; the upstream's log has the same time",
        fix: "correct what the upstream's log shows; a backend that speaks HTTP/2 only needs `appProtocol: \
            kubernetes.io/h2c` on its Service port",
    }
    /// Every place of the upstream is taken.
    UpstreamBusy {
        status: 503,
        plain: "the upstream has as many requests as the policy lets it have, and none was sent to it",
        confirm: "`idm explain ID`: the line under `why:` names the backend; `idm_upstream_requests_total` with this \
            reason tells how often",
        fix: "let the upstream have more pods, or raise `upstream.capacity` of the policy",
    }
    /// All addresses of the upstream failed and are left alone for a while.
    UpstreamEjected {
        status: 503,
        plain: "the upstream failed several times in a row and is left alone for a while; nothing was sent to it",
        confirm: "the gateway's log has a line `left alone` with the address and the pause; \
            `idm_upstream_ejections_total` counts them",
        fix: "let the upstream answer; `upstream.ejection` of the policy has the number of failures and the pauses",
    }
    /// The upstream took too long.
    UpstreamTimeout {
        status: 504,
        plain: "the upstream did not answer in time",
        confirm: "`idm explain ID`: the line under `why:` has the upstream and the time that it had",
        fix: "raise `timeouts` of the route's rule, or make the upstream answer sooner",
    }
    /// No backend of the route can take traffic.
    NoBackend {
        status: 500,
        plain: "the route has no backend that can take traffic",
        confirm: "`kubectl get httproute NAME -o yaml`: the condition `ResolvedRefs`, and the `weight` of each backend",
        fix: "name a Service of the route's namespace with a weight above 0 in `backendRefs`",
    }
    /// The caller went away before the answer.
    ClientGone {
        status: 499,
        plain: "the caller closed the connection before the answer",
        confirm: "`idm explain ID` shows the steps that were done; the caller's own log has a timeout or a cancelled \
            call",
        fix: "nothing in the gateway; if callers give up too early, raise their timeout",
    }
    /// A defect in the gateway, caught before anything was let through.
    InternalError {
        status: 500,
        plain: "the gateway failed inside; nothing was let through",
        confirm: "`idm explain ID` shows the step; the gateway's log has an error of the same time",
        fix: "report it with the decision id and the lines of the gateway's log",
    }
}

impl Reason {
    /// The reason with this code.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.code() == code)
    }

    /// The reason that callers are told, where it is another one: a caller who cannot log in learns nothing about the
    /// account.
    pub const fn told(self) -> Self {
        match self {
            Reason::AmbiguousUser
            | Reason::StoredPasswordUnusable
            | Reason::AccountDisabled
            | Reason::AccountLocked
            | Reason::AccountExpired
            | Reason::PasswordExpired
            | Reason::PasswordMustChange
            | Reason::AccountRestricted => Reason::WrongPassword,
            other => other,
        }
    }

    /// Whether a caller is told it whatever the policy discloses: who presented the right key of a Credential that has
    /// ended, and nobody else, gets such a reason, and learns nothing about others by it.
    pub const fn is_always_told(self) -> bool {
        matches!(self, Reason::KeyRevoked | Reason::KeyRotatedOut | Reason::CredentialExpired)
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

    #[test]
    fn texts_end_without_a_period_and_close_their_quotes() {
        for &reason in Reason::ALL {
            for text in [reason.plain(), reason.confirm(), reason.fix()] {
                assert!(text.len() >= 10 && !text.ends_with('.') && !text.contains("  "), "{reason}: {text}");
                assert!(text.matches('`').count() % 2 == 0, "{reason}: {text}");
            }
        }
    }

    #[test]
    fn no_two_reasons_have_the_same_cause() {
        for (i, a) in Reason::ALL.iter().enumerate() {
            for b in &Reason::ALL[i + 1..] {
                assert_ne!(a.plain(), b.plain());
            }
        }
    }
}
