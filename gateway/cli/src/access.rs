//! `idm can-i`, `idm who-can` and `idm access-matrix`: the questions about permissions.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use idm_compile::{PermissionSettings, Settings, World, permissions};
use idm_gateway::source::dir;
use idm_operator::access::{Cluster, NativeGrant};
use idm_permission::{Bindings, Issuers, Kind, Permission, Person, Scope, Verb, can, holders};
use serde_json::{Value, json};

use crate::print;

/// Place of the RoleBindings
#[derive(Args)]
struct Source {
    /// Ask the YAML of this folder; without it the cluster of KUBECONFIG is asked
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The namespace; with a folder it is that of its objects
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// The operator's namespace, where roles of the system are given
    #[arg(long, default_value = "idm-system")]
    system_namespace: String,
    /// Issuers that the API server trusts, as `permissions.issuers` of the chart: a JSON list of {issuer,
    /// usernamePrefix, groupsPrefix}
    #[arg(long, value_parser = issuers)]
    issuers: Option<Issuers>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn issuers(text: &str) -> Result<Issuers, serde_json::Error> {
    serde_json::from_str(text)
}

/// The verb and the object
#[derive(Args)]
struct Question {
    /// get, create, update, delete, rotate, revoke, approve, deploy or readSecretMetadata; kubectl's words for them too
    verb: Verb,
    /// The kind, or the object: credential, or credential/ana
    object: String,
    /// The team; that of the object where one is named
    #[arg(long, conflicts_with = "system")]
    team: Option<String>,
    /// RoleBindings with the scope `system: {}`
    #[arg(long)]
    system: bool,
}

/// Say whether somebody may do something; exit code 1 if not
#[derive(Args)]
pub(crate) struct CanI {
    #[command(flatten)]
    question: Question,
    /// Ask for this user, as the API server names them
    #[arg(long = "as")]
    user: Option<String>,
    /// Groups of that user
    #[arg(long = "as-group", requires = "user")]
    groups: Vec<String>,
    #[command(flatten)]
    source: Source,
}

/// Say who may do something, and by which RoleBinding
#[derive(Args)]
pub(crate) struct WhoCan {
    #[command(flatten)]
    question: Question,
    #[command(flatten)]
    source: Source,
}

/// Print the name and groups that the API server has for you
#[derive(Args)]
pub(crate) struct Whoami {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Whoami {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let person = Cluster::connect().await?.whoami().await?;
        if self.json {
            print::json("", &json!(person));
        } else {
            say!("user {}", person.username);
            person.groups.iter().for_each(|group| say!("group {group}"));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Print who may do what: subjects, places, kinds and verbs
#[derive(Args)]
pub(crate) struct AccessMatrix {
    /// Of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    #[command(flatten)]
    source: Source,
}

/// The objects that were read.
struct Known {
    bindings: Bindings,
    namespace: String,
    folder: Option<Box<World>>,
    cluster: Option<Cluster>,
}

impl Source {
    async fn read(&self, all: bool) -> anyhow::Result<Known> {
        let settings =
            PermissionSettings { issuers: self.issuers.clone(), system_namespace: Some(self.system_namespace.clone()) };
        let Some(folder) = &self.dir else {
            let settings = PermissionSettings { issuers: Some(self.issuers.clone().unwrap_or_default()), ..settings };
            let cluster = Cluster::connect().await?;
            let namespace = (!all).then_some(self.namespace.as_str());
            let (bindings, problems) = cluster.bindings(namespace, &settings).await?;
            problems.iter().for_each(|problem| complain!("note: {problem}"));
            return Ok(Known { bindings, namespace: self.namespace.clone(), folder: None, cluster: Some(cluster) });
        };
        let read = idm_compile::yaml::read_files(&dir::read(folder)?, Settings::of_a_folder(false));
        let world = match read {
            Ok((world, _)) => world,
            Err(errors) => bail!("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
        };
        let mut bindings = Bindings::default();
        for object in world.role_bindings.iter().filter(|object| object.spec.role.is_none()) {
            match permissions::binding(&world.namespace, &object.meta.name, &object.spec, &settings) {
                Ok(binding) => bindings.0.push(binding),
                Err(problem) => {
                    complain!("note: RoleBinding {}: {}: {}", object.meta.name, problem.path, problem.message)
                }
            }
        }
        Ok(Known { bindings, namespace: world.namespace.clone(), folder: Some(Box::new(world)), cluster: None })
    }
}

impl Known {
    /// The permission and the place that are asked for.
    async fn locate(&self, question: &Question) -> anyhow::Result<(Permission, Scope)> {
        let (kind, name) = match question.object.split_once('/') {
            Some((kind, name)) => (kind, Some(name)),
            None => (question.object.as_str(), None),
        };
        let kind: Kind = kind.parse().map_err(anyhow::Error::msg)?;
        let Some(permission) = Permission::new(question.verb, kind) else {
            bail!("`{}` means nothing for {}", question.verb.name(), kind.name());
        };
        if question.system {
            if kind != Kind::RoleBinding {
                bail!("`--system` is for RoleBindings: other objects are in a namespace");
            }
            return Ok((permission, Scope::System));
        }
        let team = match (&question.team, name) {
            (Some(team), _) => Some(team.clone()),
            (None, None) => None,
            (None, Some(name)) => self.team_of(kind, name).await?,
        };
        Ok((permission, Scope::of(&self.namespace, team.as_deref())))
    }

    async fn team_of(&self, kind: Kind, name: &str) -> anyhow::Result<Option<String>> {
        if let Some(cluster) = &self.cluster {
            return cluster.team_of(kind, &self.namespace, name).await;
        }
        let Some(world) = &self.folder else { return Ok(None) };
        let label = |meta: &idm_compile::Meta| {
            (meta.name == name).then(|| meta.labels.get(idm_permission::TEAM_LABEL).cloned())
        };
        let found = match kind {
            Kind::IdentityPolicy => world.policies.iter().find_map(|object| label(&object.meta)),
            Kind::Credential => world.credentials.iter().find_map(|object| label(&object.meta)),
            Kind::Federation => world.federations.iter().find_map(|object| label(&object.meta)),
            Kind::UsagePlan => world.usage_plans.iter().find_map(|object| label(&object.meta)),
            Kind::CredentialRequest => world.requests.iter().find_map(|object| label(&object.meta)),
            Kind::RoleBinding => {
                let object = world.role_bindings.iter().find(|object| object.meta.name == name);
                object.map(|object| object.spec.scope.team.as_ref().map(|team| team.name.clone()))
            }
        };
        found.with_context(|| format!("there is no {} `{name}`", kind.name()))
    }

    async fn native(&self, permission: Permission, place: &Scope) -> Vec<NativeGrant> {
        let Some(cluster) = &self.cluster else { return Vec::new() };
        cluster.native(permission, place).await.unwrap_or_else(|error| {
            complain!("note: grants that idm did not make are left out: {error:#}");
            Vec::new()
        })
    }
}

impl CanI {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let known = self.source.read(false).await?;
        let (permission, place) = known.locate(&self.question).await?;
        let person = match (self.user, &known.cluster) {
            (Some(username), _) => Person { username, groups: self.groups },
            (None, Some(cluster)) => cluster.whoami().await?,
            (None, None) => bail!("nobody signs in to a folder: name the user with `--as`"),
        };
        let answer = can(&known.bindings, &person, permission, &place);
        if self.source.json {
            print::json(
                "",
                &json!({"allowed": answer.is_ok(), "person": person, "permission": permission, "place": place,
                "grant": answer.as_ref().ok(), "denial": answer.as_ref().err()}),
            );
        } else {
            match &answer {
                Ok(grant) => say!("yes: RoleBinding {} gives {} in {}", grant.binding, grant.role, grant.scope),
                Err(denial) if denial.granted_by.is_empty() => {
                    say!("no: {denial}");
                    say!("no RoleBinding lets anybody give it, so a cluster administrator must");
                }
                Err(denial) => say!("no: {denial}"),
            }
        }
        Ok(if answer.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl WhoCan {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let known = self.source.read(false).await?;
        let (permission, place) = known.locate(&self.question).await?;
        let holders = holders(&known.bindings, permission, &place);
        let native = known.native(permission, &place).await;
        if self.source.json {
            let holders: Vec<_> = holders
                .iter()
                .map(|(subject, grant)| json!({"subject": subject.to_string(), "grant": grant}))
                .collect();
            print::json("", &json!({"permission": permission, "place": place, "holders": holders, "notByIdm": native}));
            return Ok(ExitCode::SUCCESS);
        }
        if holders.is_empty() {
            say!("nobody by a RoleBinding of idm may {permission} in {place}");
        }
        for (subject, grant) in &holders {
            say!("{subject}: {} in {}, by RoleBinding {}", grant.role, grant.scope, grant.binding);
        }
        for NativeGrant { binding, role, subject, passes_guard } in &native {
            let stopped = if *passes_guard { "" } else { "; the guard stops it" };
            say!("{subject}: not by idm: {role}, by {binding}{stopped}");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A row of the matrix: a subject at a place.
type Row = (String, String);

impl AccessMatrix {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let known = self.source.read(self.all_namespaces).await?;
        let mut rows: BTreeMap<Row, BTreeMap<Kind, Vec<Verb>>> = BTreeMap::new();
        let mut cells: Vec<Value> = Vec::new();
        for binding in &known.bindings.0 {
            for permission in Permission::all() {
                for (subject, grant) in holders(&known.bindings, permission, &binding.scope) {
                    let row = rows.entry((binding.scope.to_string(), subject.to_string())).or_default();
                    let verbs = row.entry(permission.kind).or_default();
                    if !verbs.contains(&permission.verb) {
                        verbs.push(permission.verb);
                        cells.push(
                            json!({"place": binding.scope, "subject": subject.to_string(), "kind": permission.kind,
                            "verb": permission.verb.name(), "grant": grant}),
                        );
                    }
                }
            }
        }
        let native = self.native(&known).await;
        if self.source.json {
            print::json("", &json!({"cells": cells, "notByIdm": native}));
            return Ok(ExitCode::SUCCESS);
        }
        for ((place, subject), kinds) in &rows {
            say!("{subject} in {place}");
            for (kind, verbs) in kinds {
                let verbs: Vec<_> = verbs.iter().map(|verb| verb.name()).collect();
                say!("  {:<15} {}", kind.name(), verbs.join(" "));
            }
        }
        for (place, NativeGrant { binding, role, subject, passes_guard }) in &native {
            let stopped = if *passes_guard { "" } else { "; the guard stops it" };
            say!("{subject} in {place}: writes, not by idm: {role}, by {binding}{stopped}");
        }
        if rows.keys().any(|(place, _)| place.starts_with("team")) {
            say!("kubectl reads the whole project where somebody reads for a team: admission never sees a read");
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Grants of others to write, for each place and once for each subject.
    async fn native(&self, known: &Known) -> Vec<(String, NativeGrant)> {
        let mut places: Vec<Scope> = known.bindings.0.iter().map(|binding| binding.scope.clone()).collect();
        if known.cluster.is_some() && !self.all_namespaces {
            places.push(Scope::of(&known.namespace, None));
        }
        places.sort();
        places.dedup();
        let mut all = Vec::new();
        for place in places {
            let updates = Kind::ALL.iter().filter_map(|kind| Permission::new(Verb::Update, *kind));
            for permission in updates {
                let found = known.native(permission, &place).await;
                all.extend(found.into_iter().map(|grant| (place.to_string(), grant)));
            }
        }
        all.sort();
        all.dedup();
        all
    }
}
