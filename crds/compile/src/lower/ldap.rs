//! LDAP directories.

use idm_api::v1alpha1 as wire;
use idm_plan::{
    DirectoryServer, DistinguishedName, GroupStrategy, LdapAttribute, LdapBind, LdapDirectory, LdapFilter, LdapGroups,
    LdapLookup, LdapPerson, LdapSyntax, Protection, ReferralHost, Secrets, is_attribute,
};
use url::{Host, Url};

use super::Notes;
use super::directory::judge_host;
use super::keys::secret_text;
use super::mtls::lower_directory_tls;
use crate::{Cause, World};

/// Claims that the gateway writes itself.
const OWN_CLAIMS: &[&str] = &["iss", "sub", "preferred_username", "dn", "groups", "mappedGroups"];

pub(crate) fn lower_ldap(
    world: &World,
    ldap: &wire::LdapDirectory,
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> Option<LdapDirectory> {
    let wire::LdapDirectory { servers, start_tls, tls, bind, referrals, users, groups } = ldap;
    let servers = lower_servers(world, servers, *start_tls, notes)?;
    if tls.is_some() && servers.iter().all(|server| server.protection == Protection::Loopback) {
        return notes.fail("spec.ldap.tls", Cause::Invalid, "`tls` must be set only where TLS is used");
    }
    let tls = match tls {
        Some(tls) => Some(lower_directory_tls(world, "spec.ldap.tls", tls, secrets, notes)?),
        None => None,
    };
    let lookup = lower_lookup(world, bind.as_ref(), users, secrets, notes)?;
    let groups = match groups {
        Some(groups) => Some(lower_groups(groups, notes)?),
        None => None,
    };
    let referrals = match referrals {
        Some(_) if users.bind_template.is_some() => {
            let message = "`referrals` must not be set with `users.bindTemplate`: people are not searched";
            return notes.fail("spec.ldap.referrals", Cause::Invalid, message);
        }
        Some(wire::LdapReferrals { follow }) => lower_referrals(world, follow, *start_tls, notes)?,
        None => Vec::new(),
    };
    Some(LdapDirectory { servers, tls, referrals, lookup, person: lower_person(users, notes)?, groups })
}

fn lower_referrals(
    world: &World,
    follow: &[String],
    start_tls: Option<bool>,
    notes: &mut Notes<'_>,
) -> Option<Vec<ReferralHost>> {
    let mut hosts = Vec::new();
    for (i, text) in follow.iter().enumerate() {
        let path = format!("spec.ldap.referrals.follow[{i}]");
        let url = Url::parse(&format!("ldap://{text}")).ok();
        let plain_host = url.filter(|url| url.username().is_empty() && matches!(url.path(), "" | "/"));
        let host = plain_host.as_ref().and_then(host_of).filter(|_| !text.contains(['/', '?', '#', '@']));
        let Some(host) = host else {
            return notes.fail(path, Cause::Invalid, format!("'{text}' must be a host, perhaps with a port"));
        };
        let here = host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
        let plain = here && start_tls == Some(false);
        judge_host(world, &path, &host, Protection::Tls, plain, notes)?;
        hosts.push(ReferralHost { host, port: plain_host.and_then(|url| url.port()), plain });
    }
    if hosts.is_empty() {
        let message = "at least one host must be given; leave `referrals` out to follow none";
        return notes.fail("spec.ldap.referrals.follow", Cause::Invalid, message);
    }
    Some(hosts)
}

fn host_of(url: &Url) -> Option<String> {
    match url.host()? {
        Host::Domain(name) => Some(name.to_ascii_lowercase()),
        Host::Ipv4(address) => Some(address.to_string()),
        Host::Ipv6(address) => Some(address.to_string()),
    }
}

fn lower_servers(
    world: &World,
    servers: &[String],
    start_tls: Option<bool>,
    notes: &mut Notes<'_>,
) -> Option<Vec<DirectoryServer>> {
    let mut lowered: Vec<DirectoryServer> = Vec::new();
    for (i, text) in servers.iter().enumerate() {
        let path = format!("spec.ldap.servers[{i}]");
        let wrong = format!("'{text}' must be written as ldaps://HOST or ldap://HOST, perhaps with a port");
        let url = Url::parse(text).ok().filter(|url| {
            matches!(url.path(), "" | "/")
                && url.query().is_none()
                && url.fragment().is_none()
                && url.username().is_empty()
        });
        let Some(url) = url.filter(|url| url.password().is_none()) else {
            return notes.fail(path, Cause::Invalid, wrong);
        };
        let Some(host) = host_of(&url) else { return notes.fail(path, Cause::Invalid, wrong) };
        let (port, wanted, plain) = match url.scheme() {
            "ldaps" => (636, Protection::Tls, false),
            "ldap" => (389, Protection::StartTls, start_tls == Some(false)),
            _ => return notes.fail(path, Cause::Invalid, wrong),
        };
        let protection = judge_host(world, &path, &host, wanted, plain, notes)?;
        lowered.push(DirectoryServer { host, port: url.port().unwrap_or(port), protection });
    }
    if lowered.is_empty() {
        return notes.fail("spec.ldap.servers", Cause::Invalid, "at least one server must be given");
    }
    Some(lowered)
}

fn lower_lookup(
    world: &World,
    bind: Option<&wire::LdapBind>,
    users: &wire::LdapUsers,
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> Option<LdapLookup> {
    // `lower_person` reads the others.
    let wire::LdapUsers {
        base,
        filter,
        login_attributes,
        bind_template,
        id_attribute: _,
        username_attribute: _,
        attributes: _,
    } = users;
    let attributes = login_attributes.clone().unwrap_or_else(|| vec!["uid".to_owned()]);
    if attributes.is_empty() {
        let message = "at least one attribute must be given; leave `loginAttributes` out for `uid`";
        return notes.fail("spec.ldap.users.loginAttributes", Cause::Invalid, message);
    }
    for (i, attribute) in attributes.iter().enumerate() {
        check_attribute(&format!("spec.ldap.users.loginAttributes[{i}]"), attribute, notes)?;
    }
    match (base, bind_template) {
        (Some(base), None) => {
            let Some(bind) = bind else {
                let message = "`bind` must be set: write `anonymous: {}` if the directory lets anyone search";
                return notes.fail("spec.ldap.bind", Cause::Invalid, message);
            };
            check_dn("spec.ldap.users.base", base, notes)?;
            Some(LdapLookup::Search {
                bind: lower_bind(world, bind, secrets, notes)?,
                base: base.clone(),
                filter: lower_filter("spec.ldap.users.filter", filter.as_deref(), notes)?,
                login_attributes: attributes,
            })
        }
        (None, Some(template)) => {
            let path = "spec.ldap.users.bindTemplate";
            if bind.is_some() || filter.is_some() || login_attributes.is_some() {
                let message = "`bind`, `filter` and `loginAttributes` must not be set with `bindTemplate`: nothing is \
                               searched";
                return notes.fail(path, Cause::Invalid, message);
            }
            lower_template(path, template, notes)
        }
        _ => notes.fail("spec.ldap.users", Cause::Invalid, "users must have exactly one of `base`, `bindTemplate`"),
    }
}

/// A template with the user name as the whole value of one attribute.
fn lower_template(path: &str, template: &str, notes: &mut Notes<'_>) -> Option<LdapLookup> {
    let wrong = "the template must be a distinguished name with `{username}` once, as the whole value of an attribute, \
                 for example uid={username},ou=people,dc=corp,dc=example";
    let parts = template.split_once("{username}").filter(|(_, after)| !after.contains("{username}"));
    let parts = parts.filter(|(before, after)| before.ends_with('=') && (after.is_empty() || after.starts_with(',')));
    let attribute = parts.and_then(|(before, _)| before.trim_end_matches('=').rsplit([',', '+']).next());
    let sample = template.replace("{username}", "ana");
    match (parts, attribute.map(str::trim).filter(|attribute| is_attribute(attribute))) {
        (Some((before, after)), Some(attribute)) if DistinguishedName::parse(&sample).is_some() => {
            Some(LdapLookup::Template {
                before: before.to_owned(),
                after: after.to_owned(),
                login_attribute: attribute.to_owned(),
            })
        }
        _ => notes.fail(path, Cause::Invalid, wrong),
    }
}

fn lower_bind(world: &World, bind: &wire::LdapBind, secrets: &mut Secrets, notes: &mut Notes<'_>) -> Option<LdapBind> {
    match (&bind.simple, &bind.anonymous) {
        (Some(wire::LdapSimpleBind { dn, password_ref }), None) => {
            let path = "spec.ldap.bind.simple.passwordRef";
            if dn.trim().is_empty() {
                let message = "the name must not be empty: write `anonymous: {}` if the directory lets anyone search";
                return notes.fail("spec.ldap.bind.simple.dn", Cause::Invalid, message);
            }
            let (password, text) = secret_text(world, path, password_ref, "password", secrets, notes)?;
            // An empty password makes a bind anonymous (RFC 4513 §5.1.2), and it succeeds.
            if text.trim_end_matches(['\r', '\n']).is_empty() || text.starts_with('\0') {
                let message = format!("Secret '{}' must hold a password that is not empty", password_ref.name);
                return notes.fail(path, Cause::InvalidRef, message);
            }
            Some(LdapBind::Simple { dn: dn.clone(), password })
        }
        (None, Some(wire::LdapAnonymousBind {})) => Some(LdapBind::Anonymous),
        _ => notes.fail("spec.ldap.bind", Cause::Invalid, "bind must have exactly one of `simple`, `anonymous`"),
    }
}

fn lower_person(users: &wire::LdapUsers, notes: &mut Notes<'_>) -> Option<LdapPerson> {
    let path = "spec.ldap.users";
    for (field, attribute) in [("idAttribute", &users.id_attribute), ("usernameAttribute", &users.username_attribute)] {
        if let Some(attribute) = attribute {
            check_attribute(&format!("{path}.{field}"), attribute, notes)?;
        }
    }
    let mut attributes = Vec::new();
    for (i, wire::LdapAttribute { name, attribute, syntax, all }) in users.attributes.iter().flatten().enumerate() {
        let path = format!("{path}.attributes[{i}]");
        if OWN_CLAIMS.contains(&name.as_str()) {
            let message = format!("the claim '{name}' must not be replaced: the gateway writes it itself");
            return notes.fail(format!("{path}.name"), Cause::Invalid, message);
        }
        let attribute = attribute.clone().unwrap_or_else(|| name.clone());
        check_attribute(&format!("{path}.attribute"), &attribute, notes)?;
        let syntax = match syntax {
            None | Some(wire::LdapSyntax::Text) => LdapSyntax::Text,
            Some(wire::LdapSyntax::Guid) => LdapSyntax::Guid,
            Some(wire::LdapSyntax::Sid) => LdapSyntax::Sid,
            Some(wire::LdapSyntax::Base64) => LdapSyntax::Base64,
        };
        attributes.push(LdapAttribute { claim: name.clone(), attribute, syntax, all: *all == Some(true) });
    }
    let (id_attribute, username_attribute) = (users.id_attribute.clone(), users.username_attribute.clone());
    Some(LdapPerson { id_attribute, username_attribute, attributes })
}

fn lower_groups(groups: &wire::LdapGroups, notes: &mut Notes<'_>) -> Option<LdapGroups> {
    let wire::LdapGroups { base, name_attribute, member_of, token_groups, in_chain, search } = groups;
    let path = "spec.ldap.groups";
    let name_attribute = name_attribute.clone().unwrap_or_else(|| "cn".to_owned());
    check_attribute(&format!("{path}.nameAttribute"), &name_attribute, notes)?;
    let strategy = match (member_of, token_groups, in_chain, search) {
        (Some(wire::LdapMemberOf { nested }), None, None, None) => {
            GroupStrategy::MemberOf { nested: *nested == Some(true) }
        }
        (None, Some(wire::LdapTokenGroups {}), None, None) => GroupStrategy::TokenGroups,
        (None, None, Some(wire::LdapInChain {}), None) => GroupStrategy::InChain,
        (None, None, None, Some(search)) => lower_group_search(search, notes)?,
        _ => {
            let message = "groups must have exactly one of `memberOf`, `tokenGroups`, `inChain`, `search`";
            return notes.fail(path, Cause::Invalid, message);
        }
    };
    let searches = matches!(strategy, GroupStrategy::InChain | GroupStrategy::Search { .. });
    if base.is_none() && searches {
        let message = "`base` must be set with `inChain` and `search`: it is where groups are searched";
        return notes.fail(format!("{path}.base"), Cause::Invalid, message);
    }
    let base = match base {
        Some(base) => Some(check_dn(&format!("{path}.base"), base, notes)?),
        None => None,
    };
    Some(LdapGroups { strategy, base, name_attribute })
}

fn lower_group_search(search: &wire::LdapGroupSearch, notes: &mut Notes<'_>) -> Option<GroupStrategy> {
    let wire::LdapGroupSearch { filter, member_attribute, user_attribute, nested } = search;
    let path = "spec.ldap.groups.search";
    let member_attribute = member_attribute.clone().unwrap_or_else(|| "member".to_owned());
    check_attribute(&format!("{path}.memberAttribute"), &member_attribute, notes)?;
    if let Some(attribute) = user_attribute {
        check_attribute(&format!("{path}.userAttribute"), attribute, notes)?;
    }
    Some(GroupStrategy::Search {
        filter: lower_filter(&format!("{path}.filter"), filter.as_deref(), notes)?,
        member_attribute,
        user_attribute: user_attribute.clone(),
        nested: *nested == Some(true),
    })
}

/// The inner `None`: there is no filter.
fn lower_filter(path: &str, filter: Option<&str>, notes: &mut Notes<'_>) -> Option<Option<LdapFilter>> {
    let Some(text) = filter else { return Some(None) };
    if ["{username}", "%s", "{0}", "%u", "%v"].iter().any(|place| text.contains(place)) {
        let message = "the user name has no place in the filter: the attributes that it is compared with are \
                       `users.loginAttributes`";
        return notes.fail(path, Cause::Invalid, message);
    }
    match LdapFilter::parse(text) {
        Ok(filter) => Some(Some(filter)),
        Err(why) => notes.fail(path, Cause::Invalid, format!("the filter must be written as RFC 4515 says: {why}")),
    }
}

fn check_attribute(path: &str, attribute: &str, notes: &mut Notes<'_>) -> Option<()> {
    if is_attribute(attribute) && !attribute.contains(';') {
        return Some(());
    }
    notes.fail(path, Cause::Invalid, format!("'{attribute}' must be the name of an attribute, such as mail"))
}

fn check_dn(path: &str, text: &str, notes: &mut Notes<'_>) -> Option<DistinguishedName> {
    match DistinguishedName::parse(text) {
        Some(name) => Some(name),
        None => notes.fail(
            path,
            Cause::Invalid,
            format!("'{text}' must be a distinguished name such as ou=people,dc=corp,dc=example"),
        ),
    }
}
