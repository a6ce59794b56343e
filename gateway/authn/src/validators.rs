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

    /// The directory of this Federation.
    pub(crate) fn directory(&self, federation: &str) -> Option<&Arc<ArmedDirectory>> {
        self.directories().find(|directory| directory.federation().key.name == federation)
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
            let name = context.lockout_name(&username);
            let found = self.check_credentials(context, &username, &password, &name).await;
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
        if own.is_none() {
            if let Some(attempt) = self.proven(context, username, password) {
                return attempt;
            }
        }
        let name = context.lockout_name(&typed.for_lockout());
        let known = match memory.lockouts.turn(&name, view.address, memory.uptime()) {
            Guess::Now { known } => known,
            Guess::Later { seconds } => return waits(context, username, Unchecked::Later { seconds }),
        };
        for source in &self.0 {
            let answered = match source {
                Armed::Credentials(selector) if own.is_none() => match context.table.by_username(username, selector) {
                    Some(_) => self.check_credentials(context, username, password, &name).await,
                    None => None,
                },
                Armed::Directory(directory) if own.as_ref().is_none_or(|(own, _)| Arc::ptr_eq(own, directory)) => {
                    let guessed = Guessed { memory, name: &name, address: view.address, known };
                    match ask(guessed, directory, &typed, password).await {
                        Ok(person) => person.map(|person| admit_person(context, directory, &person, &name)),
                        Err(refusal) => Some(Attempt::Rejected(refusal.by_method(context.name))),
                    }
                }
                Armed::Credentials(_) | Armed::Directory(_) => None,
            };
            if let Some(attempt) = answered {
                return attempt;
            }
        }
        memory.lockouts.wrong(&name, view.address, memory.uptime());
        unknown(context, username)
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
        name: &str,
    ) -> Option<Attempt> {
        let MethodContext { table, memory, view, .. } = context;
        if let Some(attempt) = self.proven(context, username, password) {
            return Some(attempt);
        }
        let found = self.credentials().and_then(|selector| table.by_username(username, selector));
        let guess = memory.guess(name, found.map(|(_, phc)| phc), password.reveal(), view.address).await;
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
struct Guessed<'a> {
    memory: &'a Memory,
    /// The name by which wrong guesses are counted.
    name: &'a str,
    address: IpAddr,
    /// The user proved a password from this address lately.
    known: bool,
}

/// Asks a directory. `None`: it does not know the user.
async fn ask(
    guessed: Guessed<'_>,
    directory: &Arc<ArmedDirectory>,
    typed: &TypedName,
    password: &Password,
) -> Result<Option<Person>, Refusal> {
    let Guessed { memory, name, address, known } = guessed;
    directory.check_suspended()?;
    let TypedName { username, bare } = typed.clone();
    let asker = if known { format!("{name} {address}") } else { name.to_owned() };
    let login = memory.fingerprint(&[directory.issuer(), &username, password.reveal()]);
    let question = || {
        let caller = Some(address);
        directory.verify(Login { username, bare, password: password.clone(), caller, steps: Steps::default() })
    };
    match memory.logins.ask(&asker, login, question).await {
        None => Err(Refusal::new(Reason::TooManyAttempts, directory.about(&typed.username)).retry_after(1)),
        Some(Ok(LoginAnswer::Unknown)) => Ok(None),
        Some(Ok(LoginAnswer::Verified(person))) => Ok(Some(*person)),
        Some(Ok(LoginAnswer::Refused(why))) => {
            memory.lockouts.wrong(name, address, memory.uptime());
            Err(Refusal::new(why.reason(), directory.about(&typed.username)))
        }
        Some(Err(error)) => Err(unanswered(error)),
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
    let usual = || TypedName { username: username.clone(), bare: None };
    let typed = directory.own(&username).unwrap_or_else(usual);
    let name = format!("{}/{}", directory.federation().key.namespace, typed.for_lockout());
    let known = match memory.lockouts.turn(&name, address, memory.uptime()) {
        Guess::Now { known } => known,
        Guess::Later { seconds } => {
            return Err(Refusal::new(Reason::TooManyAttempts, directory.about(&username)).retry_after(seconds));
        }
    };
    let refusal = match ask(Guessed { memory, name: &name, address, known }, directory, &typed, &password).await {
        Ok(Some(person)) => {
            memory.lockouts.admitted(&name, address, memory.uptime());
            return Ok(person);
        }
        Ok(None) => {
            memory.lockouts.wrong(&name, address, memory.uptime());
            Refusal::new(Reason::WrongPassword, directory.about(&username))
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

/// Admits a person whose password was right.
fn admit_person(context: MethodContext<'_>, directory: &ArmedDirectory, person: &Person, name: &str) -> Attempt {
    let MethodContext { memory, view, now, .. } = context;
    match directory.identity(context, person) {
        Ok(identity) => {
            memory.lockouts.admitted(name, view.address, memory.uptime());
            if let Some(person) = directory.new_person(&identity) {
                memory.note_person(person);
            }
            let until = now.0.saturating_add(directory.cache_ms());
            Attempt::Verified(NewVerdict { epoch: context.table.epoch_of(&identity), identity, until })
        }
        Err(refusal) => Attempt::Rejected(refusal.by_method(context.name)),
    }
}

fn unknown(context: MethodContext<'_>, username: &str) -> Attempt {
    Attempt::Rejected(context.denied(Reason::WrongPassword, format!("user `{username}`")))
}

fn waits(context: MethodContext<'_>, username: &str, unchecked: Unchecked) -> Attempt {
    Attempt::Rejected(unchecked.denied(&format!("`{username}`"), context.name))
}
