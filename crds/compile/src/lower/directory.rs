//! Directories: Federations whose people have their passwords checked, and the methods that use them.

use idm_api::v1alpha1 as wire;
use idm_plan::{
    Directory, DirectorySource, DistinguishedName, Federation, FederationKind, LdapLookup, NamedGroup, Protection,
    Realm, RequiredClaim, RoleMapping, Secrets, Validator, is_group_id, is_local_address,
};

use super::database::lower_database;
use super::ldap::lower_ldap;
use super::rest::lower_rest;
use super::sign_in::claim_path;
use super::source::lower_selector;
use super::{Notes, federation};
use crate::{Cause, World};

/// The claim with the groups that role mappings name and a person has.
const MAPPED_GROUPS: &str = "mappedGroups";

/// The directory of a Federation; the outer `None`: it is of another type.
pub(crate) fn lower_directory(
    world: &World,
    spec: &wire::FederationSpec,
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> Option<Option<Directory>> {
    let wire::FederationSpec {
        oidc: None,
        saml: None,
        ldap,
        database,
        rest,
        login,
        role_mappings,
        // federation.rs reads the others.
        display_name: _,
        provisioning: _,
        ended_sessions: _,
        clock_skew_seconds: _,
        suspend: _,
    } = spec
    else {
        if spec.login.is_some() {
            let message = "`login` must be set only with `ldap`, `database` or `rest`";
            notes.fail::<()>("spec.login", Cause::Invalid, message);
        }
        return None;
    };
    if check_named_alike(world, spec, notes).is_none() {
        return Some(None);
    }
    let source = match (ldap, database, rest) {
        (Some(ldap), None, None) => lower_ldap(world, ldap, secrets, notes).map(Box::new).map(DirectorySource::Ldap),
        (None, Some(database), None) => {
            lower_database(world, database, secrets, notes).map(Box::new).map(DirectorySource::Database)
        }
        (None, None, Some(rest)) => lower_rest(world, rest, secrets, notes).map(Box::new).map(DirectorySource::Rest),
        _ => notes.fail("spec", Cause::Invalid, federation::EXACTLY_ONE),
    };
    Some(source.and_then(|source| lower_login(source, login.clone().unwrap_or_default(), role_mappings, notes)))
}

fn lower_login(
    source: DirectorySource,
    login: wire::LoginSettings,
    mappings: &Option<Vec<wire::RoleMapping>>,
    notes: &mut Notes<'_>,
) -> Option<Directory> {
    let wire::LoginSettings {
        domains,
        suffixes,
        cache_seconds,
        recheck_seconds,
        on_outage,
        offer_password_change,
        deadline_seconds,
        concurrency,
    } = login;
    let changes_passwords = offer_password_change == Some(true);
    if changes_passwords && !matches!(source, DirectorySource::Ldap(_)) {
        let message = "`offerPasswordChange` must be set only with `ldap`: a database or a service says nowhere that a \
                       password must be changed, and people change theirs where they got it";
        return notes.fail("spec.login.offerPasswordChange", Cause::Invalid, message);
    }
    if !can_look_up(&source) && (recheck_seconds.is_some() || on_outage.is_some()) {
        let message = "`recheckSeconds` and `onOutage` must be set only where people can be looked up again: with \
                       `users.base` of `ldap`, or `lookUp` of `rest`";
        return notes.fail("spec.login", Cause::Invalid, message);
    }
    let mut within = |field: &str, value: Option<i64>, usual: i64, most: i64, least: i64| {
        let value = value.unwrap_or(usual);
        if (least..=most).contains(&value) {
            return Some(value.unsigned_abs());
        }
        notes.fail(
            format!("spec.login.{field}"),
            Cause::Invalid,
            format!("{value} must be a number between {least} and {most}"),
        )
    };
    let cache_seconds = within("cacheSeconds", cache_seconds, 0, 600, 0)?;
    let recheck_ms = within("recheckSeconds", recheck_seconds, 300, 86_400, 1)? * 1000;
    let recheck_ms = can_look_up(&source).then_some(recheck_ms);
    let deadline_ms = within("deadlineSeconds", deadline_seconds, 3, 30, 1)? * 1000;
    let concurrency = u32::try_from(within("concurrency", concurrency, 32, 256, 1)?).unwrap_or(1);
    let mut realms = Vec::new();
    for (field, names, realm) in
        [("domains", domains, Realm::Domain as fn(String) -> Realm), ("suffixes", suffixes, Realm::Suffix)]
    {
        for (i, name) in names.into_iter().flatten().enumerate() {
            if name.is_empty() || name.contains(['\\', '@', '/']) || name.chars().any(char::is_control) {
                let message = format!("'{name}' must be a name without `\\`, `@` and `/`");
                return notes.fail(format!("spec.login.{field}[{i}]"), Cause::Invalid, message);
            }
            realms.push(realm(name));
        }
    }
    let groups = lower_named_groups(&source, mappings.as_deref().unwrap_or_default(), notes)?;
    let keeps_sessions = on_outage == Some(wire::OnOutage::KeepSessions);
    Some(Directory {
        source,
        realms,
        cache_seconds,
        recheck_ms,
        keeps_sessions,
        changes_passwords,
        deadline_ms,
        concurrency,
        groups,
    })
}

/// Whether people can be looked up without their passwords.
fn can_look_up(source: &DirectorySource) -> bool {
    match source {
        DirectorySource::Ldap(ldap) => matches!(ldap.lookup, LdapLookup::Search { .. }),
        DirectorySource::Database(_) => true,
        DirectorySource::Rest(rest) => rest.look_up.is_some(),
    }
}

/// The groups that role mappings name.
fn lower_named_groups(
    source: &DirectorySource,
    mappings: &[wire::RoleMapping],
    notes: &mut Notes<'_>,
) -> Option<Vec<NamedGroup>> {
    let mut groups: Vec<NamedGroup> = Vec::new();
    for (i, mapping) in mappings.iter().enumerate() {
        let Some(text) = &mapping.group else { continue };
        let path = format!("spec.roleMappings[{i}].group");
        let dn = if text.contains('=') { DistinguishedName::parse(text) } else { None };
        let has_groups = match source {
            DirectorySource::Ldap(ldap) => {
                let has_base = ldap.groups.as_ref().is_some_and(|groups| groups.base.is_some());
                if dn.is_none() && !is_group_id(text) && !has_base {
                    let message = format!(
                        "'{text}' must be a distinguished name or an id: several groups may have one short name, \
                            unless `spec.ldap.groups.base` says where they are"
                    );
                    return notes.fail(path, Cause::Invalid, message);
                }
                ldap.groups.is_some()
            }
            DirectorySource::Database(database) => database.groups.is_some(),
            DirectorySource::Rest(rest) => rest.answer.groups.is_some(),
        };
        if !has_groups {
            let message = "the Federation must say how groups are found: nobody has any";
            return notes.fail(path, Cause::Invalid, message);
        }
        let group = NamedGroup { text: text.clone(), dn };
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    Some(groups)
}

/// Role mappings of a Federation. A group becomes the value of a claim that its directory makes.
pub(crate) fn lower_mappings(spec: &wire::FederationSpec, notes: &mut Notes<'_>) -> Option<Vec<RoleMapping>> {
    let mut lowered = Vec::new();
    for (i, wire::RoleMapping { claim, value, group, roles }) in spec.role_mappings.iter().flatten().enumerate() {
        let path = format!("spec.roleMappings[{i}]");
        let claim = match (claim, value, group) {
            (Some(claim), Some(value), None) => {
                RequiredClaim { path: claim_path(&format!("{path}.claim"), claim, notes)?, values: vec![value.clone()] }
            }
            (None, None, Some(group)) if spec.oidc.is_none() && spec.saml.is_none() => {
                RequiredClaim { path: vec![MAPPED_GROUPS.to_owned()], values: vec![group.clone()] }
            }
            (None, None, Some(_)) => {
                let message = "`group` must be used only with `ldap`, `database` or `rest`: for tokens and assertions \
                               write `claim` with `value`";
                return notes.fail(format!("{path}.group"), Cause::Invalid, message);
            }
            _ => return notes.fail(path, Cause::Invalid, "role mapping must have `claim` with `value`, or `group`"),
        };
        lowered.push(RoleMapping { claim, roles: roles.clone() });
    }
    Some(lowered)
}

/// The label of a RoleBinding that was made for a person: the Federation, by name.
pub const PROVISIONED_BY: &str = "identity-manager.io/provisioned-by";
/// The label of such a RoleBinding with what [`user_name_attributes`] was.
pub const NAMED_BY: &str = "identity-manager.io/named-by";

/// The attributes of an LDAP directory that are its people's user names, as the value of a label; `None`: the names are
/// of another source.
pub fn user_name_attributes(spec: &wire::FederationSpec) -> Option<String> {
    let users = &spec.ldap.as_ref()?.users;
    let by_login = || users.login_attributes.as_ref().map_or_else(|| "uid".to_owned(), |names| names.join("."));
    let template = || users.bind_template.as_ref().and_then(|template| template.split('=').next().map(str::to_owned));
    let names = users.username_attribute.clone().or_else(template).unwrap_or_else(by_login);
    Some(names.to_ascii_lowercase().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '.').take(63).collect())
}

/// RoleBindings that were made for people name them by their user names: another attribute would give the roles of some
/// to others.
fn check_named_alike(world: &World, spec: &wire::FederationSpec, notes: &mut Notes<'_>) -> Option<()> {
    let Some(now) = user_name_attributes(spec) else { return Some(()) };
    let name = notes.object.name.clone();
    let made = world.role_bindings.iter().filter(|binding| binding.meta.labels.get(PROVISIONED_BY) == Some(&name));
    let others: Vec<&String> =
        made.filter_map(|binding| binding.meta.labels.get(NAMED_BY)).filter(|named| **named != now).collect();
    let Some(before) = others.first() else { return Some(()) };
    let message = format!(
        "{} RoleBindings of people who signed in name them by `{before}`, and user names would be of `{now}`: name the \
         attribute as before, or delete them with `kubectl delete rolebindings.identity-manager.io -l \
         {PROVISIONED_BY}={name}`; each is made again when its person signs in",
        others.len()
    );
    notes.fail("spec.ldap.users.usernameAttribute", Cause::Invalid, message)
}

/// The sources of people of a method, in order.
pub(crate) fn lower_validators(
    federations: &[Federation],
    path: &str,
    validators: Option<&[wire::Validator]>,
    selector: Option<&wire::CredentialSelector>,
    notes: &mut Notes<'_>,
) -> Option<Vec<Validator>> {
    let Some(validators) = validators else { return Some(vec![Validator::Credentials(lower_selector(selector))]) };
    if selector.is_some() {
        let message = "`credentialSelector` must not be set with `validators`: write `credentials: {selector: …}`";
        return notes.fail(format!("{path}.credentialSelector"), Cause::Invalid, message);
    }
    let mut lowered: Vec<Validator> = Vec::new();
    for (i, validator) in validators.iter().enumerate() {
        let path = format!("{path}.validators[{i}]");
        let one = match (&validator.credentials, &validator.federation_ref) {
            (Some(wire::CredentialValidator { selector }), None) => {
                Validator::Credentials(lower_selector(selector.as_ref()))
            }
            (None, Some(wire::ObjectReference { name })) => {
                is_directory(federations, &format!("{path}.federationRef"), name, notes)?;
                Validator::Directory(name.clone())
            }
            _ => {
                let message = "validator must have exactly one of `credentials`, `federationRef`";
                return notes.fail(path, Cause::Invalid, message);
            }
        };
        let same = |known: &Validator| match (known, &one) {
            (Validator::Credentials(_), Validator::Credentials(_)) => true,
            (known, one) => known == one,
        };
        if lowered.iter().any(same) {
            return notes.fail(path, Cause::Invalid, "each source must be listed once");
        }
        lowered.push(one);
    }
    if lowered.is_empty() {
        let message =
            "at least one validator must be given; leave `validators` out for the Credentials of the namespace";
        return notes.fail(format!("{path}.validators"), Cause::Invalid, message);
    }
    Some(lowered)
}

fn is_directory(federations: &[Federation], path: &str, name: &str, notes: &mut Notes<'_>) -> Option<()> {
    let federation = federations.iter().find(|federation| federation.key.name == name);
    match federation.map(|federation| &federation.kind) {
        Some(FederationKind::Directory(_)) => Some(()),
        Some(FederationKind::Oidc(oidc)) if oidc.takes_passwords => Some(()),
        Some(FederationKind::Oidc(_)) => notes.fail(
            path,
            Cause::InvalidRef,
            format!(
                "Federation '{name}' must be of type `ldap`, `database` or `rest`: the others check no passwords, \
                    unless a provider takes them and `oidc.client.dangerPasswordGrant` is true"
            ),
        ),
        Some(FederationKind::Saml(_)) => notes.fail(
            path,
            Cause::InvalidRef,
            format!("Federation '{name}' must be of type `ldap`, `database` or `rest`: the others check no passwords"),
        ),
        None => notes.fail(
            path,
            Cause::RefNotFound,
            format!(
                "Federation '{name}' must exist in this namespace, be valid, and be of type `ldap`, `database` or \
                    `rest`"
            ),
        ),
    }
}

/// A directory among the validators that cannot look people up without their passwords.
pub(crate) fn cannot_look_up<'f>(federations: &'f [Federation], validators: &[Validator]) -> Option<&'f str> {
    let is_used = |name: &String| validators.contains(&Validator::Directory(name.clone()));
    let cannot = |federation: &&Federation| match &federation.kind {
        FederationKind::Directory(directory) => directory.recheck_ms.is_none() && is_used(&federation.key.name),
        FederationKind::Oidc(_) => is_used(&federation.key.name),
        FederationKind::Saml(_) => false,
    };
    federations.iter().find(cannot).map(|federation| federation.key.name.as_str())
}

/// Checks where a host that a tenant wrote may lead, and says how connections to it are protected: `wanted`, or not at
/// all on the gateway's own machine where `plain` asks for it.
pub(crate) fn judge_host(
    world: &World,
    path: &str,
    host: &str,
    wanted: Protection,
    plain: bool,
    notes: &mut Notes<'_>,
) -> Option<Protection> {
    let address = host.parse::<std::net::IpAddr>().ok();
    let here = address.map_or(host == "localhost", |address| address.is_loopback());
    let local = here || host.ends_with(".localhost") || address.is_some_and(is_local_address);
    let may_be_local = world.settings.danger_insecure_issuers || (world.settings.local_backends && here);
    if local && !may_be_local {
        let message = format!("'{host}' must not be the gateway's own machine or a link-local address");
        return notes.fail(path, Cause::Invalid, message);
    }
    let plain_name = host.split('.').all(|label| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    });
    if address.is_none() && !plain_name {
        return notes.fail(path, Cause::Invalid, format!("'{host}' must be a DNS name or an address"));
    }
    match (plain, here) {
        (false, _) => Some(wanted),
        (true, true) => Some(Protection::Loopback),
        (true, false) => notes.fail(
            path,
            Cause::Invalid,
            format!("'{host}' must be reached by TLS: passwords travel in the clear only on the gateway's own machine"),
        ),
    }
}
