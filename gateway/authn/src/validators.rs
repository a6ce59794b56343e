//! The sources of people of a method: Credentials and directories, asked in order. The first one that knows the user
//! name decides; after a wrong password no other one is asked.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use idm_plan::{Selector, Validator};
use idm_trust::{Login, LoginAnswer, LoginRefused, Password, Person, Steps};
use idm_types::{Reason, Redacted, Refusal};

use crate::credential::admit;
use crate::directory::{ArmedDirectory, TypedName, unanswered};
use crate::federated::Federated;
use crate::guessed::GuessedUser;
use crate::guesses::{Turn, Waiting};
use crate::judged::Unjudged;
use crate::memory::Unchecked;
use crate::method::{Attempt, MethodContext, NewVerdict};
use crate::password::Compared;
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
                Federated::Oidc(provider) if provider.takes_passwords() => {
                    Ok(Armed::Directory(Arc::new(ArmedDirectory::of_provider(&provider))))
                }
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

    /// The verdict of a policy in shadow: on a password that was verified lately, and on a user whom no source knows.
    pub(crate) fn judge(&self, context: MethodContext<'_>, pair: Pair) -> Result<Attempt, Unjudged> {
        let Some((username, password)) = pair.checked() else {
            return Ok(Attempt::Rejected(context.denied(Reason::MalformedCredential, UNUSABLE_PAIR)));
        };
        if self.directories().next().is_some() {
            return Err(Unjudged::OutsideServer);
        }
        let known = self.credentials().and_then(|selector| context.table.by_username(&username, selector));
        match known {
            Some(_) => self.proven(context, &username, &password).ok_or(Unjudged::PasswordUnverified),
            None => Ok(unknown(context, &username)),
        }
    }

    /// Asks the sources in order, or the one alone that the name's realm belongs to.
    async fn ask_in_order(&self, context: MethodContext<'_>, username: &str, password: &Password) -> Attempt {
        let MethodContext { memory, view, .. } = context;
        let own = self.directories().find_map(|directory| Some((directory, directory.own(username)?)));
        let typed = match &own {
            Some((_, typed)) => typed.clone(),
            None => TypedName { username: username.to_owned(), bare: None },
        };
        let mut turn: Option<Turn> = None;
        for source in &self.0 {
            let answered = match source {
                Armed::Credentials(selector) if own.is_none() => match context.table.by_username(username, selector) {
                    Some(_) => self.check_credentials(context, username, password).await,
                    None => None,
                },
                Armed::Directory(directory) if own.as_ref().is_none_or(|(own, _)| Arc::ptr_eq(own, directory)) => {
                    // A name that one directory does not know may be the account of another one.
                    drop(turn.take());
                    let user = GuessedUser::of_directory(directory, &typed);
                    let begun = match memory.turn(user, view.address).await {
                        Ok(begun) => begun,
                        Err(unchecked) => return waits(context, username, unchecked),
                    };
                    match ask(memory, begun, directory, &typed, password).await {
                        Ok((Some(person), turn)) => Some(self.admit_person(context, directory, &person, turn)),
                        Ok((None, unknown_yet)) => {
                            turn = Some(unknown_yet);
                            None
                        }
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
        match turn {
            Some(turn) => turn.unknown(user),
            None => memory.note_wrong(&user, view.address),
        }
        unknown(context, username)
    }

    /// Admits a person whose password was right. One with the name of a Credential is refused: neither rules nor
    /// upstreams could tell the two apart.
    fn admit_person(
        &self,
        context: MethodContext<'_>,
        directory: &ArmedDirectory,
        person: &Person,
        turn: Turn,
    ) -> Attempt {
        let MethodContext { memory, table, now, .. } = context;
        let identity = match directory.identity(context, person) {
            Ok(identity) => identity,
            Err(refusal) => return Attempt::Rejected(refusal.by_method(context.name)),
        };
        let same = self.credentials().and_then(|selector| table.by_username(&identity.username, selector));
        if let Some((credential, _)) = same {
            let detail = format!("{} is Credential {}, too", directory.about(&identity.username), credential.key);
            return Attempt::Rejected(context.denied(Reason::AmbiguousUser, detail));
        }
        turn.right();
        if let Some(person) = directory.new_person(&identity) {
            memory.note_person(person);
        }
        let until = now.0.saturating_add(directory.cache_ms());
        Attempt::Verified(NewVerdict { epoch: table.epoch_of(&identity), identity, until })
    }

    /// The verdict on a password of a Credential that was verified lately, on any core: neither a delay nor another
    /// check is needed.
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
        let hash = match found {
            Some((_, phc)) => Compared::Of(phc),
            None => Compared::Nobody { alike: table.alike(username, |texts| memory.fingerprint(texts)) },
        };
        let guess = memory.guess(context.guessed(username), hash, password.reveal(), view.address).await;
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

/// Asks a directory in the turn of the guess, and tells the end of the turn unless the user is to be admitted or
/// another source asked. No person: the directory does not know the user.
async fn ask(
    memory: &Memory,
    turn: Turn,
    directory: &Arc<ArmedDirectory>,
    typed: &TypedName,
    password: &Password,
) -> Result<(Option<Person>, Turn), Refusal> {
    match question(memory, turn, directory, typed, password, None).await? {
        (LoginAnswer::Verified(person), turn) => Ok((Some(*person), turn)),
        (_, turn) => Ok((None, turn)),
    }
}

/// Asks a directory whether a password is right, or with `new` to replace it, in the turn of the guess. A refusal has
/// ended the turn.
async fn question(
    memory: &Memory,
    turn: Turn,
    directory: &Arc<ArmedDirectory>,
    typed: &TypedName,
    password: &Password,
    new: Option<&Password>,
) -> Result<(LoginAnswer, Turn), Refusal> {
    directory.check_suspended()?;
    let asker = turn.asker();
    let caller = Some(turn.address());
    // A login has no fourth text, so it is never taken for a change.
    let mut texts = vec![directory.issuer(), &typed.username, password.reveal()];
    texts.extend(new.map(Password::reveal));
    let question = memory.logins.question(&asker, memory.fingerprint(&texts), || {
        let TypedName { username, bare } = typed.clone();
        let login = Login { username, bare, password: password.clone(), caller, steps: Steps::default() };
        match new {
            Some(new) => directory.change(login, new.clone()),
            None => directory.verify(login),
        }
    });
    let too_many = || Refusal::new(Reason::TooManyAttempts, directory.about(&typed.username)).retry_after(1);
    let question = question.ok_or_else(too_many)?;
    let answered = Waiting::new(turn, question.clone(), directory.http().clone()).answer().await;
    memory.logins.ended(&asker, &question);
    let (answer, turn) = answered.ok_or_else(too_many)?;
    match answer {
        Ok(LoginAnswer::Refused(why)) => {
            // A person who proved the old password has guessed nothing.
            if !matches!(why, LoginRefused::NewPassword(_)) {
                turn.wrong();
            }
            Err(directory.refused(&why, &typed.username))
        }
        Ok(answer) => Ok((answer, turn)),
        Err(error) => Err(unanswered(error)),
    }
}

/// Replaces a password that its directory wants changed: the old one counts as a guess, once.
pub(crate) async fn change_password(
    memory: &Memory,
    directory: &Arc<ArmedDirectory>,
    pair: Pair,
    new: Redacted<String>,
    address: IpAddr,
) -> Result<(), Refusal> {
    let new = Some(new).filter(|new| new.reveal().len() <= MAX_PASSWORD).and_then(Password::new);
    let new = new.ok_or_else(|| Refusal::new(Reason::NewPasswordRefused, "the new password is empty or too long"))?;
    let (username, password) =
        pair.checked().ok_or_else(|| Refusal::new(Reason::MalformedCredential, UNUSABLE_PAIR))?;
    if new.reveal() == password.reveal() {
        return Err(Refusal::new(Reason::NewPasswordRefused, "the new password is the old one"));
    }
    let is_done = |answer| matches!(answer, LoginAnswer::Changed).then_some(());
    at_form(memory, directory, (username, password), Some(&new), address, is_done).await
}

/// Verifies a user name with a password at one directory, for a person who signs in at its form.
pub(crate) async fn log_in(
    memory: &Memory,
    directory: &Arc<ArmedDirectory>,
    pair: Pair,
    address: IpAddr,
) -> Result<Person, Refusal> {
    let pair = pair.checked().ok_or_else(|| Refusal::new(Reason::MalformedCredential, UNUSABLE_PAIR))?;
    let person = |answer| match answer {
        LoginAnswer::Verified(person) => Some(*person),
        _ => None,
    };
    at_form(memory, directory, pair, None, address, person).await
}

/// One guess at the form of a directory, with its delay. An answer that is not the one that is `wanted` is a wrong
/// password.
async fn at_form<T>(
    memory: &Memory,
    directory: &Arc<ArmedDirectory>,
    (username, password): (String, Password),
    new: Option<&Password>,
    address: IpAddr,
    wanted: impl FnOnce(LoginAnswer) -> Option<T>,
) -> Result<T, Refusal> {
    let began = tokio::time::Instant::now();
    let typed = directory.own(&username).unwrap_or(TypedName { username, bare: None });
    let turn = memory.turn(GuessedUser::of_directory(directory, &typed), address).await;
    let turn = turn.map_err(|unchecked| unchecked.denied(&directory.about(&typed.username)))?;
    let refusal = match question(memory, turn, directory, &typed, &password, new).await {
        Ok((answer, turn)) => match wanted(answer) {
            Some(got) => {
                turn.right();
                return Ok(got);
            }
            None => {
                turn.wrong();
                Refusal::new(Reason::WrongPassword, directory.about(&typed.username))
            }
        },
        Err(refusal) => refusal,
    };
    wait_out(&refusal, began).await;
    Err(refusal)
}

/// Waits until a refused login may be answered, so that the time does not tell whether there is such a user.
pub(crate) async fn wait_out(refusal: &Refusal, began: tokio::time::Instant) {
    if refusal.reason.told() == Reason::WrongPassword {
        let steps = began.elapsed().as_millis() / REFUSAL_STEP.as_millis() + 1;
        tokio::time::sleep_until(began + REFUSAL_STEP * u32::try_from(steps).unwrap_or(1)).await;
    }
}

fn unknown(context: MethodContext<'_>, username: &str) -> Attempt {
    Attempt::Rejected(context.denied(Reason::WrongPassword, format!("user `{username}`")))
}

fn waits(context: MethodContext<'_>, username: &str, unchecked: Unchecked) -> Attempt {
    Attempt::Rejected(unchecked.denied(&format!("`{username}`")).by_method(context.name))
}
