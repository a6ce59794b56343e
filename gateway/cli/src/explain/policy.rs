//! `idm explain policy/NAME`: the settings in force, each with its source.

use std::process::ExitCode;

use anyhow::bail;
use idm_compile::{EffectivePolicy, Holding, Overriding, SettingSource, effective};
use idm_plan::ObjectKey;

use super::source::SourceArgs;
use crate::print;

pub(super) async fn run(name: &str, source: &SourceArgs, json: bool) -> anyhow::Result<ExitCode> {
    let prepared = source.prepare().await?;
    prepared.notes.iter().for_each(|note| complain!("note: {note}"));
    let namespace = prepared.world.namespace.clone();
    let Some(policy) = effective(&prepared.world, &prepared.compiled, &ObjectKey::new(&namespace, name)) else {
        let known: Vec<_> = prepared.world.policies.iter().map(|policy| policy.meta.name.as_str()).collect();
        bail!("there is no IdentityPolicy `{name}` in namespace {namespace}; there are {}", known.join(", "));
    };
    if json {
        print::json("", &serde_json::to_value(&policy)?);
    } else {
        shown(&policy).iter().for_each(|line| say!("{line}"));
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(policy: &EffectivePolicy) -> Vec<String> {
    let EffectivePolicy { namespace, name, generation, in_force, notes, holds, overridden, judges, settings } = policy;
    let state = match in_force {
        Some(of) if of == generation => "in force".to_owned(),
        Some(of) => format!("not in force: generation {of} is, whose settings are not known here"),
        None => "not in force: the requests that it covers are refused".to_owned(),
    };
    let mut lines = vec![format!("IdentityPolicy {namespace}/{name} generation {generation}: {state}")];
    lines.extend(notes.iter().map(|note| format!("  note: {note}")));
    let inherited = |of: &Holding| if of.inherited { " (through its Gateway)" } else { "" };
    lines.push(if holds.is_empty() { "decides about nothing".into() } else { "decides about".into() });
    lines.extend(holds.iter().map(|of| format!("  {}{}", of.rule, inherited(of))));
    if !overridden.is_empty() {
        lines.push("is overridden at".into());
        lines.extend(overridden.iter().map(|Overriding { rule, by }| format!("  {rule}, by IdentityPolicy {by}")));
    }
    if !judges.is_empty() {
        lines.push("judges in shadow, and changes nothing about".into());
        lines.extend(judges.iter().map(|rule| format!("  {rule}")));
    }
    if !settings.is_empty() {
        lines.push("settings".into());
    }
    let width = settings.iter().map(|setting| setting.field.chars().count()).max().unwrap_or_default().min(48);
    for setting in settings {
        let value = match setting.value.as_str() {
            Some(text) => text.to_owned(),
            None => setting.value.to_string(),
        };
        let only = match &setting.source {
            SettingSource::Baseline { rules, .. } if rules.len() < holds.len() => format!(", at {}", rules.join(", ")),
            _ => String::new(),
        };
        lines.push(format!("  {:<width$} {value}   [{}{only}]", setting.field, setting.source));
    }
    lines
}
