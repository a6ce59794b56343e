//! Credentials of a folder. It holds hashes and no key: whoever reads it, or its history in version control, cannot
//! call. Only files that are made here are changed.

use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use idm_api::v1alpha1::CredentialSpec;
use idm_compile::yaml::read_files;
use idm_compile::{Compiled, Object, REGISTER_FIELD, REGISTER_SECRET, Register, Settings, World, compile, held_keys};
use idm_gateway::source::dir;
use idm_plan::{EndCause, KeyEnd, Proof, key_id, key_state};
use idm_types::{Timestamp, hex};
use serde_json::{Value, json};

use super::{CredentialError, Made, Shown, new_api_key};
use crate::place::folder::files::{FolderLock, write};

const LABEL: &str = "identity-manager.io/credential";

/// A folder of YAML.
pub struct FolderCredentials {
    dir: PathBuf,
    files: Vec<(String, String)>,
    world: World,
    _lock: FolderLock,
}

impl FolderCredentials {
    /// Reads the folder, which no other writer of ours changes until this value is dropped.
    ///
    /// # Errors
    /// The folder cannot be read, or something in it is wrong.
    pub fn open(dir: &Path) -> Result<Self, CredentialError> {
        let lock = FolderLock::take(dir).map_err(|source| CredentialError::Io { path: dir.to_owned(), source })?;
        let files = match dir::read(dir) {
            Err(dir::DirError::Empty(_)) => vec![],
            read => read?,
        };
        let (world, _) = read_files(&files, Settings::of_a_folder(false)).map_err(dir::DirError::Files)?;
        Ok(Self { dir: dir.to_owned(), files, world, _lock: lock })
    }

    /// One Credential.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn one(&self, name: &str, now: Timestamp) -> Result<Shown, CredentialError> {
        let compiled = compile(&self.world, None);
        self.find(name).map(|object| self.shown(object, &compiled, now))
    }

    /// All Credentials.
    pub fn all(&self, now: Timestamp) -> Vec<Shown> {
        let compiled = compile(&self.world, None);
        self.world.credentials.iter().map(|object| self.shown(object, &compiled, now)).collect()
    }

    fn shown(&self, object: &Object<CredentialSpec>, compiled: &Compiled, now: Timestamp) -> Shown {
        let CredentialSpec { owner, expire_time, suspend, .. } = &object.spec;
        let name = &object.meta.name;
        let credential = compiled.credentials.all.iter().find(|credential| credential.key.name == *name);
        let keys = match credential.map(|credential| &credential.proof) {
            Some(Proof::ApiKey { keys, .. }) => Some(keys),
            _ => None,
        };
        let live = keys.into_iter().flat_map(|keys| keys.all()).map(|(sha256, end)| shown_key(sha256, end, now));
        let ended = compiled.credentials.ended.iter().filter(|ended| ended.credential.name == *name);
        let ended = ended.map(|ended| shown_key(&ended.sha256, Some(ended.end), Timestamp(u64::MAX)));
        let id = idm_compile::ObjectId::new("Credential", &self.world.namespace, name);
        Shown {
            name: name.clone(),
            kind: object.spec.kind().to_owned(),
            owner: owner.as_ref().and_then(|owner| owner.user.clone().or_else(|| owner.application.clone())),
            expires: expire_time.clone(),
            suspended: suspend.unwrap_or(false),
            keys: live.chain(ended).collect(),
            secret: None,
            message: compiled.report.about(&id).next().map(|finding| finding.message.clone()),
        }
    }

    fn find(&self, name: &str) -> Result<&Object<CredentialSpec>, CredentialError> {
        let found = self.world.credentials.iter().find(|object| object.meta.name == name);
        found.map(|object| &**object).ok_or_else(|| CredentialError::NotFound(name.to_owned()))
    }

    /// Makes a Credential whose proof is in the spec, and that has no Secret of its own; returns the file.
    ///
    /// # Errors
    /// There is one of this name, or the folder would be out of order.
    pub fn add(&self, name: &str, spec: &Value) -> Result<String, CredentialError> {
        if self.world.credentials.iter().any(|object| object.meta.name == name) {
            return Err(CredentialError::Exists(name.to_owned()));
        }
        let object = self.object(name, spec);
        self.write_checked(std::slice::from_ref(&object), true)?;
        Ok(object.0)
    }

    /// A Credential with the file that it gets.
    fn object(&self, name: &str, spec: &Value) -> (String, String) {
        let metadata = self.metadata(json!({"name": name}));
        let object = json!({"apiVersion": "identity-manager.io/v1alpha1", "kind": "Credential", "metadata": metadata,
            "spec": spec});
        (format!("credential-{name}.yaml"), yaml(&object))
    }

    /// Makes a Credential with a key, of which the folder gets the hash.
    ///
    /// # Errors
    /// There is one of this name, or the folder would be out of order.
    pub fn create(&self, name: &str, mut spec: Value) -> Result<Made, CredentialError> {
        if self.world.credentials.iter().any(|object| object.meta.name == name) {
            return Err(CredentialError::Exists(name.to_owned()));
        }
        spec["apiKey"] = json!({"sha256": {"entropyBits": 256}});
        let key = new_api_key()?;
        let sha256 = hash_of(key.reveal());
        let object = self.object(name, &spec);
        let secret = (format!("credential-{name}-key.yaml"), self.secret(name, &format!("{name}-key"), &sha256));
        self.write_checked(&[object, secret.clone()], true)?;
        let id = key_id(&sha256).to_owned();
        Ok(Made { name: name.to_owned(), key, id, old: None, file: secret.0 })
    }

    /// Makes the next key, and gives the old one its end; without an overlap the old one is revoked first.
    ///
    /// # Errors
    /// The keys of the Credential are written by hand, or none of them is in order.
    pub fn rotate(&self, name: &str, overlap_ms: u64, now: Timestamp) -> Result<Made, CredentialError> {
        let object = self.find(name)?;
        let (file, reference) = self.own_secret(object)?;
        let natural = object.spec.expire_time.as_deref().and_then(Timestamp::parse_rfc3339);
        let held = held_keys(&self.world, object);
        let keys = compile(&self.world, None)
            .credentials
            .all
            .into_iter()
            .find(|of| of.key.name == name)
            .map(|of| of.proof.clone());
        let Some(Proof::ApiKey { keys, .. }) = keys else {
            return Err(CredentialError::Refused(format!(
                "Credential '{name}' has no key in order: see `idm lint {}`",
                self.dir.display()
            )));
        };
        let mut register = self.world.register.clone();
        // Two are the most: what was retiring ends now.
        for before in held.iter().filter(|sha256| keys.current.as_ref().is_none_or(|key| key.sha256 != **sha256)) {
            let over = KeyEnd { at: now, cause: EndCause::RotatedOut };
            register.end(name, before, over, natural, now).map_err(full)?;
        }
        let key = new_api_key()?;
        let sha256 = hash_of(key.reveal());
        let mut text = sha256.clone();
        let mut old = None;
        if let Some(current) = &keys.current {
            let at = Timestamp(now.0.saturating_add(overlap_ms));
            let at = natural.map_or(at, |natural| natural.min(at));
            if overlap_ms == 0 {
                register.revoke(name, &current.sha256, now, natural).map_err(full)?;
            } else {
                text += &format!("\n{} until {}", current.sha256, at.rfc3339());
            }
            old = Some((key_id(&current.sha256).to_owned(), at.rfc3339()));
        }
        let secret = (file.clone(), self.secret(name, &reference, &text));
        // The end of an old key is in force before there is a new one.
        self.write_register(&register)?;
        self.write_checked(&[secret], false)?;
        let id = key_id(&sha256).to_owned();
        Ok(Made { name: name.to_owned(), key, id, old, file })
    }

    /// Revokes a key, or all that the Credential has. Returns their ids.
    ///
    /// # Errors
    /// There is no such key.
    pub fn revoke(&self, name: &str, key: Option<&str>, now: Timestamp) -> Result<Vec<String>, CredentialError> {
        let object = self.find(name)?;
        let natural = object.spec.expire_time.as_deref().and_then(Timestamp::parse_rfc3339);
        let held = held_keys(&self.world, object);
        let chosen: Vec<&String> = held.iter().filter(|sha256| key.is_none_or(|id| id == key_id(sha256))).collect();
        if chosen.is_empty() {
            return Err(CredentialError::Refused(format!(
                "Credential '{name}' has no such key now: `idm credential show {name}` lists what it has"
            )));
        }
        let mut register = self.world.register.clone();
        for sha256 in &chosen {
            register.revoke(name, sha256, now, natural).map_err(full)?;
        }
        self.write_register(&register)?;
        Ok(chosen.into_iter().map(|sha256| key_id(sha256).to_owned()).collect())
    }

    /// File and name of the Secret of a Credential, if it was made here.
    fn own_secret(&self, object: &Object<CredentialSpec>) -> Result<(String, String), CredentialError> {
        let name = &object.meta.name;
        let reference = object.spec.secret_ref.as_ref().map(|reference| reference.name.clone());
        let supplied = object.spec.api_key.as_ref().is_some_and(|api_key| api_key.sha256.is_some());
        let Some(reference) = reference.filter(|_| supplied) else {
            return Err(CredentialError::Refused(format!(
                "the key of Credential '{name}' is written by hand: replace it in its Secret, which takes effect at \
                    once. For two keys at a time give hashes with `apiKey.sha256`, as `idm credential create` does"
            )));
        };
        let is_it = |text: &str| {
            let document: Value = serde_yaml_ng::from_str(text).unwrap_or_default();
            document["kind"] == "Secret"
                && document["metadata"]["name"] == reference.as_str()
                && document["metadata"]["labels"][LABEL] == name.as_str()
        };
        match self.files.iter().find(|(_, text)| is_it(text)) {
            Some((file, _)) => Ok((file.clone(), reference)),
            None => Err(CredentialError::Refused(format!(
                "Secret '{reference}' was not made by `idm credential create`: put the hash of the new key first into \
                    it, and the old one behind it as `HASH until TIME`"
            ))),
        }
    }

    fn metadata(&self, mut metadata: Value) -> Value {
        if self.world.namespace != "default" {
            metadata["namespace"] = self.world.namespace.as_str().into();
        }
        metadata
    }

    fn secret(&self, credential: &str, name: &str, hashes: &str) -> String {
        let labels = json!({"app.kubernetes.io/managed-by": "idm-cli", LABEL: credential});
        let metadata = self.metadata(json!({"name": name, "labels": labels}));
        let data = json!({"sha256": format!("{hashes}\n")});
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data});
        format!("# Made by `idm credential`: hashes of keys, and no key.\n{}", yaml(&secret))
    }

    fn write_register(&self, register: &Register) -> Result<(), CredentialError> {
        if *register == self.world.register {
            return Ok(());
        }
        let metadata = self.metadata(json!({"name": REGISTER_SECRET}));
        let data = json!({REGISTER_FIELD: register.text()});
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data});
        let text = format!(
            "# Made by `idm credential`: the keys that are refused for good, by their hashes. Keep it.\n{}",
            yaml(&secret)
        );
        let known = self.files.iter().find(|(_, text)| {
            let document: Value = serde_yaml_ng::from_str(text).unwrap_or_default();
            document["metadata"]["name"] == REGISTER_SECRET && document["kind"] == "Secret"
        });
        let file = known.map_or_else(|| format!("{REGISTER_SECRET}.yaml"), |(file, _)| file.clone());
        self.write(&file, &text)
    }

    /// Writes files that leave the folder in order.
    fn write_checked(&self, new: &[(String, String)], are_new: bool) -> Result<(), CredentialError> {
        let mut files = self.files.clone();
        for (file, _) in new.iter().filter(|_| are_new) {
            if files.iter().any(|(known, _)| known == file) {
                return Err(CredentialError::Refused(format!("{file} exists")));
            }
        }
        files.retain(|(known, _)| new.iter().all(|(file, _)| file != known));
        files.extend(new.iter().cloned());
        let (world, _) = read_files(&files, Settings::of_a_folder(false)).map_err(dir::DirError::Files)?;
        drop(world);
        new.iter().try_for_each(|(file, text)| self.write(file, text))
    }

    fn write(&self, file: &str, text: &str) -> Result<(), CredentialError> {
        let path = self.dir.join(file);
        write(&path, text).map_err(|source| CredentialError::Io { path, source })
    }
}

fn full(error: idm_compile::RegisterFull) -> CredentialError {
    CredentialError::Refused(error.to_string())
}

/// A document of plain data, which always has a form.
fn yaml(value: &Value) -> String {
    serde_yaml_ng::to_string(value).unwrap_or_default()
}

fn shown_key(sha256: &str, end: Option<KeyEnd>, now: Timestamp) -> Value {
    let mut key = json!({"id": key_id(sha256), "state": key_state(end, now)});
    if let Some(end) = end.filter(|end| end.at.0 > 0) {
        key["untilTime"] = end.at.rfc3339().into();
    }
    key
}

fn hash_of(key: &str) -> String {
    hex(digest(&SHA256, key.as_bytes()).as_ref())
}
