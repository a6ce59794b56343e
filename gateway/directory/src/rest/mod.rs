//! People of services: a service is asked whether a password is right, and says who the person is. Start at [`Rest`];
//! `request.rs` and `encode.rs` make what is sent, `client.rs` sends it, and `answer.rs` reads what comes back.

mod answer;
mod client;
mod encode;
mod request;

use std::sync::Arc;
use std::time::{Duration, Instant};

use idm_plan::{RestDirectory, RestRequest, Secrets};
use idm_trust::{DirectoryError, DirectoryErrorKind, Login, LoginAnswer, LoginRefused, Person, Steps, client_config};
use idm_types::visible;
use rustls::ClientConfig;

use crate::Reach;
use crate::driver::{Driver, Running};
use crate::fold::fold;
use answer::{Reader, Said};
use client::{Answer, Client, NoAnswer, Progress};
use request::{NotSent, Prepared, Purpose, Subject, Template};

/// The pause before the first repetition; each further one is as much longer.
const PAUSE: Duration = Duration::from_millis(100);
/// The statuses of servers in front of a service that does not answer.
const TRY_AGAIN: [u16; 3] = [502, 503, 504];

/// A service.
pub(crate) struct Rest {
    verify: Question,
    look_up: Option<Question>,
    retries: u32,
    reader: Reader,
}

/// A question with the connections to its server.
struct Question {
    purpose: Purpose,
    template: Template,
    client: Client,
}

/// The outcome of a request.
enum Outcome {
    Said(Said),
    NotSent(NotSent),
}

impl Rest {
    pub(crate) fn new(plan: &RestDirectory, secrets: &Secrets, reach: Reach) -> Result<Self, String> {
        let RestDirectory { verify, look_up, tls, retries, answer } = plan;
        let mut config = client_config(tls.as_ref(), secrets)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let config = Arc::new(config);
        let question = |plan, purpose| Question::arm(plan, purpose, secrets, config.clone(), reach.clone());
        Ok(Self {
            verify: question(verify, Purpose::Verify).map_err(|why| format!("the request of `verify`: {why}"))?,
            look_up: look_up
                .as_ref()
                .map(|plan| question(plan, Purpose::LookUp))
                .transpose()
                .map_err(|why| format!("the request of `lookUp`: {why}"))?,
            retries: *retries,
            reader: Reader::arm(answer)?,
        })
    }

    async fn ask(
        &self,
        question: &Question,
        subject: Subject<'_>,
        steps: &Steps,
        deadline: Instant,
    ) -> Result<Outcome, DirectoryError> {
        let prepared = match question.template.prepare(subject) {
            Ok(prepared) => prepared,
            Err(why) => return Ok(Outcome::NotSent(why)),
        };
        let answer = self.answer(question, &prepared, steps, deadline).await?;
        let said = self.reader.read(&answer).map_err(|DirectoryError { kind, detail }| {
            DirectoryError::new(kind, format!("{}: {detail}", prepared.shown))
        });
        steps.note(|| match &said {
            Ok(Said::Success(person)) => {
                format!("`success` is true: `{}` with {} groups", visible(&person.username), person.groups.len())
            }
            Ok(Said::Failure) => "`failure` is true".into(),
            Err(error) => error.to_string(),
        });
        said.map(Outcome::Said)
    }

    /// Asks until there is an answer that a repetition would not change. A password is sent again only where nothing
    /// was sent before: the service may have counted it, whoever gave the answer or ended the connection.
    async fn answer(
        &self,
        Question { purpose, template: _, client }: &Question,
        prepared: &Prepared,
        steps: &Steps,
        deadline: Instant,
    ) -> Result<Answer, DirectoryError> {
        let mut retry = 0;
        loop {
            let began = Instant::now();
            let asked = tokio::time::timeout_at(deadline.into(), client.ask(&prepared.request, deadline)).await;
            let asked = asked.unwrap_or_else(|_| {
                let why = format!("{}: no answer in time", prepared.shown);
                let error = DirectoryError::new(DirectoryErrorKind::Unavailable, why);
                Err(NoAnswer { error, progress: Progress::Heard })
            });
            steps.note(|| {
                let (shown, ms) = (&prepared.shown, began.elapsed().as_millis());
                match &asked {
                    Ok(answer) => format!("{shown}: {} after {ms} ms", answer.status),
                    Err(NoAnswer { error, .. }) => format!("{shown}: failed after {ms} ms: {error}"),
                }
            });
            let again = match &asked {
                Ok(answer) => *purpose == Purpose::LookUp && TRY_AGAIN.contains(&answer.status),
                Err(NoAnswer { progress: Progress::Sent, .. }) => *purpose == Purpose::LookUp,
                Err(NoAnswer { error, progress: Progress::NotSent }) => error.kind == DirectoryErrorKind::Unavailable,
                Err(NoAnswer { progress: Progress::Heard, .. }) => false,
            };
            retry += 1;
            let pause = PAUSE * retry;
            if !again || retry > self.retries || Instant::now() + pause >= deadline {
                return asked.map_err(|NoAnswer { error, .. }| error);
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn verify(&self, login: Login, deadline: Instant) -> Result<LoginAnswer, DirectoryError> {
        let Login { username, bare, password, caller: _, steps } = &login;
        // A service is asked once, since it counts wrong passwords: by the name alone where a domain stands before it,
        // and else by the whole name.
        let asked = bare.as_ref().filter(|_| username.contains('\\')).unwrap_or(username);
        let subject = Subject::Login { username: asked, password };
        Ok(match self.ask(&self.verify, subject, steps, deadline).await? {
            Outcome::Said(Said::Success(person)) => {
                let same = |name: &String| fold(name) == fold(&person.username);
                if same(username) || bare.as_ref().is_some_and(same) {
                    LoginAnswer::Verified(person)
                } else {
                    steps.note(|| {
                        let (said, asked) = (visible(&person.username), visible(asked));
                        format!("the service speaks of `{said}`, which is not `{asked}`: nobody is known by this name")
                    });
                    LoginAnswer::Unknown
                }
            }
            Outcome::Said(Said::Failure) => LoginAnswer::Refused(LoginRefused::WrongPassword),
            Outcome::NotSent(NotSent::Username(why)) => {
                steps.note(|| format!("the service is not asked for this user name: {why}"));
                LoginAnswer::Unknown
            }
            Outcome::NotSent(NotSent::Password(why)) => {
                steps.note(|| format!("the service is not asked about this password: {why}"));
                LoginAnswer::Refused(LoginRefused::WrongPassword)
            }
            Outcome::NotSent(NotSent::NoValue) => return Err(no_value()),
        })
    }

    async fn look_up(&self, id: &str, username: &str, deadline: Instant) -> Result<LoginAnswer, DirectoryError> {
        let Some(question) = &self.look_up else {
            let why = "the Federation names no request that looks a person up";
            return Err(DirectoryError::new(DirectoryErrorKind::Unusable, why));
        };
        let subject = Subject::Known { username, id };
        match self.ask(question, subject, &Steps::default(), deadline).await? {
            Outcome::Said(Said::Success(person)) => of_id(person, id),
            // Gone, or disabled: the service does not say which.
            Outcome::Said(Said::Failure) | Outcome::NotSent(NotSent::Username(_)) => Ok(LoginAnswer::Unknown),
            Outcome::NotSent(NotSent::Password(_) | NotSent::NoValue) => Err(no_value()),
        }
    }
}

/// A person who was looked up by id, and has it. The name may be a new one.
fn of_id(person: Box<Person>, id: &str) -> Result<LoginAnswer, DirectoryError> {
    if person.id == id {
        return Ok(LoginAnswer::Verified(person));
    }
    Err(DirectoryError::new(
        DirectoryErrorKind::Unusable,
        "the service answers about another id than the one asked for",
    ))
}

fn no_value() -> DirectoryError {
    DirectoryError::new(DirectoryErrorKind::Unusable, "the request asks for a value that is not known")
}

impl Question {
    fn arm(
        plan: &RestRequest,
        purpose: Purpose,
        secrets: &Secrets,
        tls: Arc<ClientConfig>,
        reach: Reach,
    ) -> Result<Self, String> {
        let template = Template::arm(plan, purpose, secrets)?;
        let client = Client::new(template.server.clone(), tls, reach);
        Ok(Self { purpose, template, client })
    }
}

impl Driver for Rest {
    fn verify(&self, login: Login, deadline: Instant) -> Running<'_> {
        Box::pin(self.verify(login, deadline))
    }

    fn look_up(&self, id: String, username: String, deadline: Instant) -> Running<'_> {
        Box::pin(async move { self.look_up(&id, &username, deadline).await })
    }
}
