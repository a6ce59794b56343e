//! Reads a folder's YAML documents into a [`World`], with errors that name the line.

pub(crate) mod bounds;
mod parsed;

use std::collections::BTreeMap;

use gateway_api::apis::standard::grpcroutes::GrpcRoute;
use gateway_api::apis::standard::httproutes::HttpRoute;
use idm_types::Redacted;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use parsed::ParsedDocuments;
use parsed::{Parsed, ParsedObject};

use crate::{Finding, Settings, World};

/// One error in one file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}: {}", idm_types::Visible(file), idm_types::Visible(message))]
pub struct FileError {
    /// The file's name.
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
    /// The fault and its remedy.
    pub message: String,
}

/// Kinds that a folder may hold besides ours: they are needed where there is no cluster.
const KINDS: &str = "IdentityPolicy, Credential, Federation, RoleBinding, UsagePlan, CredentialRequest, GatewayClass, \
                     Gateway, HTTPRoute, GRPCRoute, BackendTLSPolicy, Namespace, Service, ConfigMap or Secret";

/// The file and line of each object, so that findings about it can name them.
#[derive(Clone, Debug, Default)]
pub struct Origins(BTreeMap<(String, String), (String, usize, String)>);

impl Origins {
    /// A finding as an error of the file that holds its object.
    pub fn locate(&self, finding: &Finding) -> FileError {
        let message = if finding.path.is_empty() {
            finding.message.clone()
        } else {
            format!("{}: {}", finding.path, finding.message)
        };
        let message = format!("{} '{}': {message}", finding.object.kind, finding.object.name);
        match self.0.get(&(finding.object.kind.clone(), finding.object.name.clone())) {
            Some((file, before, document)) => {
                FileError { file: file.clone(), line: before + line_of_path(document, &finding.path), message }
            }
            None => FileError { file: "(none)".into(), line: 1, message },
        }
    }
}

/// The line of a field, found by following its path downwards through the text.
fn line_of_path(document: &str, path: &str) -> usize {
    let mut line = 0;
    for segment in path.split('.') {
        let (name, index) = segment.split_once('[').unwrap_or((segment, ""));
        let index: usize = index.trim_end_matches(']').parse().unwrap_or(0);
        let indent = |text: &str| text.len() - text.trim_start().len();
        let is_key = |text: &str| {
            text.trim_start().trim_start_matches("- ").trim_start_matches(['{', ' ']).starts_with(&format!("{name}:"))
        };
        let Some(found) = document
            .lines()
            .enumerate()
            .skip(line)
            .find(|(_, text)| is_key(text) || text.contains(&format!("{name}: ")))
        else {
            break;
        };
        line = found.0;
        // Items of the list below, at the indentation of the first of them.
        let items: Vec<_> = document
            .lines()
            .enumerate()
            .skip(line + 1)
            .filter(|(_, text)| text.trim_start().starts_with("- "))
            .collect();
        if segment.contains('[') {
            let level = items.first().map_or(0, |(_, text)| indent(text));
            line =
                items.iter().filter(|(_, text)| indent(text) == level).nth(index).map_or(line, |(number, _)| *number);
        }
    }
    line + 1
}

/// Reads all files into one namespace's world; every error of every file is reported.
pub fn read_files(files: &[(String, String)], settings: Settings) -> Result<(World, Origins), Vec<FileError>> {
    read_files_again(files, settings, &mut ParsedDocuments::default())
}

/// The same, with what was `parsed` before.
pub fn read_files_again(
    files: &[(String, String)],
    settings: Settings,
    parsed: &mut ParsedDocuments,
) -> Result<(World, Origins), Vec<FileError>> {
    parsed.begin();
    let mut origins = Origins::default();
    let mut errors = Vec::new();
    let mut world = World::new("", settings);
    let mut seen: BTreeMap<(String, String), String> = BTreeMap::new();
    for (file, text) in files {
        if text.len() > bounds::MAX_FILE {
            let message = format!("the file is larger than {} bytes: split it", bounds::MAX_FILE);
            errors.push(FileError { file: file.clone(), line: 1, message });
            continue;
        }
        for (line, document) in documents(text) {
            let digest = ParsedDocuments::digest(&document);
            let known = parsed.known(&digest);
            let mut reader =
                Reader { file, line, document: &document, world: &mut world, seen: &mut seen, origins: &mut origins };
            let read = match known {
                Some(known) => reader.take(known),
                None => reader.read().map(|new| new.into_iter().for_each(|new| parsed.keep(digest, new))),
            };
            if let Err(error) = read {
                errors.push(error);
            }
        }
    }
    parsed.end();
    if world.namespace.is_empty() {
        world.namespace = "default".into();
    }
    world.sort();
    world.hash_passwords();
    if errors.is_empty() { Ok((world, origins)) } else { Err(errors) }
}

/// Reads one document, within the bounds that hold for every document; the error says what to do.
pub fn parse_document(document: &str) -> Result<Value, FileError> {
    let error = |line, message| FileError { file: "(document)".into(), line, message };
    bounds::check(document).map_err(|over| error(over.line, over.message))?;
    serde_yaml_ng::from_str(document).map_err(|wrong| {
        let text = wrong.to_string();
        let message = text.split(" at line ").next().unwrap_or(&text).to_owned();
        error(wrong.location().map_or(1, |place| place.line()), message)
    })
}

/// Splits at `---` lines; yields the line number before each document.
fn documents(text: &str) -> Vec<(usize, String)> {
    let mut out = vec![(0, String::new())];
    for (number, line) in text.lines().enumerate() {
        if line.trim_end() == "---" || line.starts_with("--- ") {
            out.push((number + 1, String::new()));
        } else if let Some((_, document)) = out.last_mut() {
            document.push_str(line);
            document.push('\n');
        }
    }
    out.retain(|(_, document)| {
        document.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
    });
    out
}

/// Name, namespace and kind.
type Id = (String, String, String);

struct Reader<'a> {
    file: &'a str,
    line: usize,
    document: &'a str,
    world: &'a mut World,
    seen: &'a mut BTreeMap<(String, String), String>,
    origins: &'a mut Origins,
}

impl Reader<'_> {
    fn error(&self, line: usize, message: impl Into<String>) -> FileError {
        FileError { file: self.file.to_owned(), line: self.line + line.max(1), message: message.into() }
    }

    fn yaml_error(&self, error: &serde_yaml_ng::Error) -> FileError {
        let text = error.to_string();
        let message = text.split(" at line ").next().unwrap_or(&text).to_owned();
        self.error(error.location().map_or(1, |l| l.line()), message)
    }

    /// Typed reading gives errors with lines; unknown members are errors, too.
    fn typed<T: DeserializeOwned>(&self) -> Result<T, FileError> {
        let mut unknown = Vec::new();
        let deserializer = serde_yaml_ng::Deserializer::from_str(self.document);
        let value = serde_ignored::deserialize(deserializer, |path| unknown.push(path.to_string()))
            .map_err(|e| self.yaml_error(&e))?;
        // The kinds' types have these two members as constants.
        match unknown.iter().find(|path| !matches!(path.as_str(), "apiVersion" | "kind" | "status")) {
            None => Ok(value),
            Some(path) => {
                let key = path.rsplit('.').next().unwrap_or(path);
                let line = self
                    .document
                    .lines()
                    .position(|l| l.trim_start().trim_start_matches("- ").starts_with(&format!("{key}:")));
                Err(self.error(line.map_or(1, |l| l + 1), format!("unknown field `{}`", path.trim_start_matches('.'))))
            }
        }
    }

    fn line_of(&self, key: &str) -> usize {
        self.document.lines().position(|line| line.trim_start().starts_with(key)).map_or(1, |line| line + 1)
    }

    /// Notes the place of an object, of which there may be one in a folder.
    fn note(&mut self, kind: &str, name: &str) -> Result<(), FileError> {
        let id = (kind.to_owned(), name.to_owned());
        if let Some(other) = self.seen.insert(id.clone(), self.file.to_owned()) {
            return Err(self.error(self.line_of("metadata:"), format!("{kind} '{name}' is already in {other}")));
        }
        self.origins.0.insert(id, (self.file.to_owned(), self.line, self.document.to_owned()));
        Ok(())
    }

    /// Takes an object as it was read before.
    fn take(&mut self, known: Parsed) -> Result<(), FileError> {
        let Parsed { name, namespace, object } = known;
        self.check_namespace(namespace)?;
        self.note(object.kind(), &name)?;
        match object {
            ParsedObject::Credential(credential) => self.world.credentials.push(credential),
            ParsedObject::Secret(values) => drop(self.world.secrets.insert(name, values)),
        }
        Ok(())
    }

    /// Returns what need not be read again as long as the document is the same.
    fn read(&mut self) -> Result<Option<Parsed>, FileError> {
        let (name, namespace, kind) = self.read_object()?;
        let object = match kind.as_str() {
            "Credential" => {
                let last = self.world.credentials.last().filter(|credential| credential.meta.name == name);
                last.cloned().map(ParsedObject::Credential)
            }
            "Secret" => self.world.secrets.get(&name).cloned().map(ParsedObject::Secret),
            _ => None,
        };
        Ok(object.map(|object| Parsed { name, namespace, object }))
    }

    /// Returns name, namespace and kind.
    fn read_object(&mut self) -> Result<Id, FileError> {
        let (id, value) = self.read_known()?;
        if let Some(value) = value {
            self.world.insert(value);
        }
        Ok(id)
    }

    /// The value is that of an object of ours.
    fn read_known(&mut self) -> Result<(Id, Option<Value>), FileError> {
        bounds::check(self.document).map_err(|over| self.error(over.line, over.message))?;
        let value: Value = serde_yaml_ng::from_str(self.document).map_err(|e| self.yaml_error(&e))?;
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (api, kind, name, namespace) =
            (text("/apiVersion"), text("/kind"), text("/metadata/name"), text("/metadata/namespace"));
        if name.is_empty() {
            return Err(self.error(self.line_of("metadata:"), "the object must have a name in `metadata.name`"));
        }
        // These have none.
        if kind != "GatewayClass" && kind != "Namespace" {
            self.check_namespace(namespace.clone())?;
        }
        self.note(&kind, &name)?;
        let id = (name.clone(), namespace, kind.clone());
        match (api.as_str(), kind.as_str()) {
            ("identity-manager.io/v1alpha1", "IdentityPolicy") => {
                drop(self.typed::<idm_api::v1alpha1::IdentityPolicy>()?)
            }
            ("identity-manager.io/v1alpha1", "Credential") => drop(self.typed::<idm_api::v1alpha1::Credential>()?),
            ("identity-manager.io/v1alpha1", "Federation") => drop(self.typed::<idm_api::v1alpha1::Federation>()?),
            ("identity-manager.io/v1alpha1", "RoleBinding") => drop(self.typed::<idm_api::v1alpha1::RoleBinding>()?),
            ("identity-manager.io/v1alpha1", "UsagePlan") => drop(self.typed::<idm_api::v1alpha1::UsagePlan>()?),
            ("identity-manager.io/v1alpha1", "CredentialRequest") => {
                drop(self.typed::<idm_api::v1alpha1::CredentialRequest>()?)
            }
            ("gateway.networking.k8s.io/v1", "HTTPRoute") => {
                let route: HttpRoute = self.typed()?;
                self.world.routes.push(route.into());
                return Ok((id, None));
            }
            ("gateway.networking.k8s.io/v1", "GRPCRoute") => {
                let route: GrpcRoute = self.typed()?;
                let route = route.try_into().map_err(|error: serde_json::Error| self.error(1, error.to_string()))?;
                self.world.routes.push(route);
                return Ok((id, None));
            }
            ("gateway.networking.k8s.io/v1", "BackendTLSPolicy") => {
                let policy = self.typed()?;
                self.world.backend_tls_policies.push(policy);
                return Ok((id, None));
            }
            ("gateway.networking.k8s.io/v1", "Gateway") => {
                let gateway = self.typed()?;
                self.world.gateways.push(gateway);
                return Ok((id, None));
            }
            ("gateway.networking.k8s.io/v1", "GatewayClass") => {
                self.world.classes.insert(&value);
                return Ok((id, None));
            }
            ("v1", "Namespace") => {
                let namespace: k8s_openapi::api::core::v1::Namespace = self.typed()?;
                self.world.namespaces.insert(name, namespace.metadata.labels.unwrap_or_default());
                return Ok((id, None));
            }
            ("v1", "Service") => {
                let service = self.typed()?;
                self.world.services.push(service);
                return Ok((id, None));
            }
            ("v1", "ConfigMap") => {
                let map: k8s_openapi::api::core::v1::ConfigMap = self.typed()?;
                self.world.config_maps.insert(name, map.data.unwrap_or_default());
                return Ok((id, None));
            }
            ("v1", "Secret") => {
                self.read_secret(name)?;
                return Ok((id, None));
            }
            _ => {
                return Err(self.error(
                    self.line_of("kind:"),
                    format!("kind '{kind}' of apiVersion '{api}' is not known here: use {KINDS}"),
                ));
            }
        }
        Ok((id, Some(value)))
    }

    fn check_namespace(&mut self, namespace: String) -> Result<(), FileError> {
        let namespace = if namespace.is_empty() { "default".to_owned() } else { namespace };
        if self.world.namespace.is_empty() {
            self.world.namespace = namespace;
        } else if self.world.namespace != namespace {
            let message = format!(
                "namespace '{namespace}' differs from '{}' of the other objects: a folder holds one namespace",
                self.world.namespace
            );
            return Err(self.error(self.line_of("namespace:"), message));
        }
        Ok(())
    }

    fn read_secret(&mut self, name: String) -> Result<(), FileError> {
        let secret: k8s_openapi::api::core::v1::Secret = self.typed()?;
        let mut values: BTreeMap<String, Redacted<Vec<u8>>> = BTreeMap::new();
        values.extend(secret.data.into_iter().flatten().map(|(key, value)| (key, Redacted::new(value.0))));
        values.extend(
            secret.string_data.into_iter().flatten().map(|(key, value)| (key, Redacted::new(value.into_bytes()))),
        );
        if name == crate::REGISTER_SECRET {
            let text = values.get(crate::REGISTER_FIELD).map(|value| value.reveal().as_slice()).unwrap_or_default();
            self.world.register = crate::Register::parse(text).map_err(|why| {
                self.error(self.line_of("kind:"), format!("Secret '{name}', key '{}': {why}", crate::REGISTER_FIELD))
            })?;
            return Ok(());
        }
        self.world.secrets.insert(name, values);
        Ok(())
    }
}
