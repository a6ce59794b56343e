//! The sources of people of a method: Credentials and directories, asked in order. The first one that knows the user
//! name decides; after a wrong password no other one is asked.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use idm_limit::Guess;
use idm_plan::{Selector, Validator};
use idm_trust::{Login, LoginAnswer, Password, Person, Steps};
use idm_types::{Reason, Redacted, Refusal};

use crate::credential::admit;
use crate::directory::{ArmedDirectory, TypedName, unanswered};
use crate::federated::Federated;
use crate::guessed::GuessedUser;
use crate::memory::Unchecked;
use crate::method::{Attempt, MethodContext, NewVerdict};
use crate::{Memory, Resources};

/// A refused login is answered after a multiple of this time where a directory is among the sources, so that the time
/// does not tell whether there is such a user.
const REFUSAL_STEP: Duration = Duration::from_millis(500);
const MAX_USERNAME: usize = 256;
const MAX_PASSWORD: usize = 1024;

/// A user name with a password, as it was presented.
pub(crate) struct Pair {
    pub(crate) username: String,
    pub(crate) password: Redacted<String>,
}

const UNUSABLE_PAIR: &str = "user name and password must not be empty, nor longer than 256 and 1024 bytes";

impl Pair {
    /// Name and password, unless one of them is empty or too long. Some directories treat an empty password as
    /// anonymous; here it is never right.
    fn checked(self) -> Option<(String, Password)> {
        let Self { username, password } = self;
        let fits = !username.is_empty() && username.len() <= MAX_USERNAME && password.reveal().len() <= MAX_PASSWORD;
        Some((username, Password::new(password).filter(|_| fits)?))
    }
}

/// The sources of people of a method.
pub(crate) struct Validators(Vec<Armed>);

enum Armed {
    Credentials(Selector),
    Directory(Arc<ArmedDirectory>),
}

impl Validators {
    /// Arms the sources of a method of a policy in this namespace. The error shows no secret.
    pub(crate) fn arm(plan: &[Validator], namespace: &str, resources: &mut Resources<'_>) -> Result<Self, String> {
        let arm = |validator: &Validator| match validator {
            Validator::Credentials(selector) => Ok(Armed::Credentials(selector.clone())),
            Validator::Directory(name) => match Federated::of(name, namespace, resources)? {
                Federated::Directory(directory) => Ok(Armed::Directory(directory)),
                Federated::Oidc(_) | Federated::Saml(_) => Err(format!("Federation `{name}` is not a directory")),
            },
        };
        plan.iter().map(arm).collect::<Result<_, String>>().map(Self)
    }

    /// The Credentials that are accepted, if there are any.
    pub(crate) fn credentials(&self) -> Option<&Selector> {
        self.0.iter().find_map(|source| match source {
            Armed::Credentials(selector) => Some(selector),
            Armed::Directory(_) => None,
        })
    }

    /// The directory of the Federation with this uid.
    pub(crate) fn directory(&self, federation: &str) -> Option<&Arc<ArmedDirectory>> {
        self.directories().find(|directory| directory.federation().uid == federation)
    }

    fn directories(&self) -> impl Iterator<Item = &Arc<ArmedDirectory>> {
        self.0.iter().filter_map(|source| match source {
            Armed::Directory(directory) => Some(directory),
            Armed::Credentials(_) => None,
        })
    }

    /// Verifies a user name with a password.
    pub(crate) async fn check(&self, context: MethodContext<'_>, pair: Pair) -> Attempt {
        let Some((username, password)) = pair.checked() else {
            return Attempt::Rejected(context.denied(Reason::MalformedCredential, UNUSABLE_PAIR));
        };
        if self.directories().next().is_none() {
            let found = self.check_credentials(context, &username, &password).await;
            return found.unwrap_or_else(|| unknown(context, &username));
        }
        let began = tokio::time::Instant::now();
        let attempt = self.ask_in_order(context, &username, &password).await;
        if let Attempt::Rejected(refusal) = &attempt {
            wait_out(refusal, began).await;
        }
        attempt
    }

    /// Asks the sources in order, or the one alone that the name's realm belongs to.
    async fn ask_in_order(&self, context: MethodContext<'_>, username: &str, password: &Password) -> Attempt {
        let MethodContext { memory, view, .. } = context;
        let own = self.directories().find_map(|directory| Some((directory, directory.own(username)?)));
        let typed = match &own {
            Some((_, typed)) => typed.clone(),
            None => TypedName { username: username.to_owned(), bare: None },
        };
        for source in &self.0 {
            let answered = match source {
                Armed::Credentials(selector) if own.is_none() => match context.table.by_username(username, selector) {
                    Some(_) => self.check_credentials(context, username, password).await,
                    None => None,
                },
                Armed::Directory(directory) if own.as_ref().is_none_or(|(own, _)| Arc::ptr_eq(own, directory)) => {
                    let guess = Guessing::of(memory, directory, &typed, view.address);
                    match guess.ask(password).await {
                        Ok(person) => person.map(|person| self.admit_person(context, &guess, &person)),
                        Err(refusal) => Some(Attempt::Rejected(refusal.by_method(context.name))),
                    }
                }
                Armed::Credentials(_) | Armed::Directory(_) => None,
            };
            if let Some(attempt) = answered {
                return attempt;
            }
        }
        let user = GuessedUser::unknown(&context.policy.key.namespace, &typed);
        memory.lockouts.wrong(&user, view.address, memory.uptime());
        unknown(context, username)
    }

    /// Admits a person whose password was right. One with the name of a Credential is refused: neither rules nor
    /// upstreams could tell the two apart.
    fn admit_person(&self, context: MethodContext<'_>, guess: &Guessing<'_>, person: &Person) -> Attempt {
        let MethodContext { memory, table, now, .. } = context;
        let directory = guess.directory;
        let identity = match directory.identity(context, person) {
            Ok(identity) => identity,
            Err(refusal) => return Attempt::Rejected(refusal.by_method(context.name)),
        };
        let same = self.credentials().and_then(|selector| table.by_username(&identity.username, selector));
        if let Some((credential, _)) = same {
            let detail = format!("{} is Credential {}, too", directory.about(&identity.username), credential.key);
            return Attempt::Rejected(context.denied(Reason::AmbiguousUser, detail));
        }
        guess.admitted();
        if let Some(person) = directory.new_person(&identity) {
            memory.note_person(person);
        }
        let until = now.0.saturating_add(directory.cache_ms());
        Attempt::Verified(NewVerdict { epoch: table.epoch_of(&identity), identity, until })
    }

    /// The verdict on a password of a Credential that was verified lately, on any core: neither a delay nor another check
    /// is needed.
    fn proven(&self, context: MethodContext<'_>, username: &str, password: &Password) -> Option<Attempt> {
        let (credential, phc) = context.table.by_username(username, self.credentials()?)?;
        context.memory.is_proven(phc, password.reveal()).then(|| admit(context, credential))
    }

    /// Checks a password against that of a Credential. `None`: there is no such user; it took as long.
    async fn check_credentials(
        &self,
        context: MethodContext<'_>,
        username: &str,
        password: &Password,
    ) -> Option<Attempt> {
        let MethodContext { table, memory, view, .. } = context;
        if let Some(attempt) = self.proven(context, username, password) {
            return Some(attempt);
        }
        let found = self.credentials().and_then(|selector| table.by_username(username, selector));
        let guess =
            memory.guess(context.guessed(username), found.map(|(_, phc)| phc), password.reveal(), view.address).await;
        let right = match guess {
            Ok(right) => right,
            Err(unchecked) => return Some(waits(context, username, unchecked)),
        };
        let (credential, _) = found?;
        // The same words whether the user exists or not.
        let Some(right) = right else { return Some(unknown(context, username)) };
        let attempt = admit(context, credential);
        if matches!(attempt, Attempt::Verified(_)) {
            memory.admitted(right);
        }
        Some(attempt)
    }
}

/// A guess at the password of a directory's user.
struct Guessing<'a> {
    memory: &'a Memory,
    directory: &'a Arc<ArmedDirectory>,
    typed: &'a TypedName,
    user: GuessedUser,
    address: IpAddr,
}

impl<'a> Guessing<'a> {
    fn of(memory: &'a Memory, directory: &'a Arc<ArmedDirectory>, typed: &'a TypedName, address: IpAddr) -> Self {
        Self { memory, directory, typed, user: GuessedUser::of_directory(directory, typed), address }
    }

    fn wrong(&self) {
        self.memory.lockouts.wrong(&self.user, self.address, self.memory.uptime());
    }

    fn admitted(&self) {
        self.memory.lockouts.admitted(&self.user, self.address, self.memory.uptime());
    }

    /// Asks the directory. `None`: it does not know the user, which the caller counts.
    async fn ask(&self, password: &Password) -> Result<Option<Person>, Refusal> {
        let Self { memory, directory, typed, user, address } = self;
        directory.check_suspended()?;
        let too_many =
            |seconds| Refusal::new(Reason::TooManyAttempts, directory.about(&typed.username)).retry_after(seconds);
        let known = match memory.lockouts.turn(user, *address, memory.uptime()) {
            Guess::Now { known } => known,
            Guess::Later { seconds } => return Err(too_many(seconds)),
        };
        let asker = if known { format!("{} {address}", user.name()) } else { user.name().to_owned() };
        let login = memory.fingerprint(&[directory.issuer(), &typed.username, password.reveal()]);
        let question = || {
            let TypedName { username, bare } = (*typed).clone();
            let caller = Some(*address);
            directory.verify(Login { username, bare, password: password.clone(), caller, steps: Steps::default() })
        };
        let unanswered_yet = Unanswered(Some(self));
        let answer = memory.logins.ask(&asker, login, question).await;
        unanswered_yet.answered();
        match answer {
            None => Err(too_many(1)),
            Some(Ok(LoginAnswer::Unknown)) => Ok(None),
            Some(Ok(LoginAnswer::Verified(person))) => Ok(Some(*person)),
            Some(Ok(LoginAnswer::Refused(why))) => {
                self.wrong();
                Err(Refusal::new(why.reason(), directory.about(&typed.username)))
            }
            Some(Err(error)) => Err(unanswered(error)),
        }
    }
}

/// A guess whose caller waits for the answer. One that is dropped counts as wrong: the directory checks the password
/// when its caller has left, and counts it, too.
struct Unanswered<'a>(Option<&'a Guessing<'a>>);

impl Unanswered<'_> {
    fn answered(mut self) {
        self.0 = None;
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(guess) = self.0 {
            guess.wrong();
        }
    }
}

/// Verifies a user name with a password at one directory, for a person who signs in at its form.
pub(crate) async fn log_in(
    memory: &Memory,
    directory: &Arc<ArmedDirectory>,
    pair: Pair,
    address: IpAddr,
) -> Result<Person, Refusal> {
    let (username, password) =
        pair.checked().ok_or_else(|| Refusal::new(Reason::MalformedCredential, UNUSABLE_PAIR))?;
    let began = tokio::time::Instant::now();
    let typed = directory.own(&username).unwrap_or(TypedName { username, bare: None });
    let guess = Guessing::of(memory, directory, &typed, address);
    let refusal = match guess.ask(&password).await {
        Ok(Some(person)) => {
            guess.admitted();
            return Ok(person);
        }
        Ok(None) => {
            guess.wrong();
            Refusal::new(Reason::WrongPassword, directory.about(&typed.username))
        }
        Err(refusal) => refusal,
    };
    wait_out(&refusal, began).await;
    Err(refusal)
}

/// Waits until a refused login may be answered, so that the time does not tell whether there is such a user.
async fn wait_out(refusal: &Refusal, began: tokio::time::Instant) {
    if refusal.reason.told() == Reason::WrongPassword {
        let steps = began.elapsed().as_millis() / REFUSAL_STEP.as_millis() + 1;
        tokio::time::sleep_until(began + REFUSAL_STEP * u32::try_from(steps).unwrap_or(1)).await;
    }
}

fn unknown(context: MethodContext<'_>, username: &str) -> Attempt {
    Attempt::Rejected(context.denied(Reason::WrongPassword, format!("user `{username}`")))
}

fn waits(context: MethodContext<'_>, username: &str, unchecked: Unchecked) -> Attempt {
    Attempt::Rejected(unchecked.denied(&format!("`{username}`"), context.name))
}
