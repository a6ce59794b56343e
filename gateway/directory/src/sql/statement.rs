//! The values of a statement's parameters. They travel apart from its text.

use idm_plan::{DatabaseDirectory, Parameter, Statement};

use super::failure::Failure;

/// The values that are known when a statement runs.
#[derive(Clone, Copy, Default)]
pub(super) struct Values<'a> {
    pub(super) username: Option<&'a str>,
    pub(super) id: Option<&'a str>,
    pub(super) new_hash: Option<&'a str>,
    pub(super) old_hash: Option<&'a str>,
}

impl<'a> Values<'a> {
    pub(super) fn of_username(username: &'a str) -> Self {
        Self { username: Some(username), ..Self::default() }
    }

    pub(super) fn of_id(id: &'a str) -> Self {
        Self { id: Some(id), ..Self::default() }
    }

    /// The values in the order of the statement's parameters.
    pub(super) fn bind(&self, statement: &Statement) -> Result<Vec<&'a str>, Failure> {
        let value = |parameter: &Parameter| match parameter {
            Parameter::Username => self.username,
            Parameter::Id => self.id,
            Parameter::NewHash => self.new_hash,
            Parameter::OldHash => self.old_hash,
        };
        let values: Option<Vec<_>> = statement.parameters.iter().map(value).collect();
        values.ok_or_else(|| Failure::unusable("a statement has a parameter that is not known where it runs"))
    }
}

/// Checks that each statement uses what its values are for. The compiler has checked the same for those who write them.
pub(super) fn check(plan: &DatabaseDirectory) -> Result<(), String> {
    use Parameter::{Id, NewHash, OldHash, Username};
    let of = |name: &str, statement: Option<&Statement>, wanted: &[Parameter], allowed: &[Parameter]| {
        let Some(Statement { text: _, parameters }) = statement else { return Ok(()) };
        let fits = wanted.iter().all(|parameter| parameters.contains(parameter))
            && parameters.iter().all(|parameter| wanted.contains(parameter) || allowed.contains(parameter));
        if fits { Ok(()) } else { Err(format!("the statement {name} has the parameters {parameters:?}")) }
    };
    of("person", Some(&plan.person), &[Username], &[])?;
    of("byId", plan.by_id.as_ref(), &[Id], &[])?;
    if let Some(groups) = &plan.groups {
        let by = if groups.parameters.contains(&Id) { Id } else { Username };
        of("groups", Some(groups), &[by], &[Id, Username])?;
    }
    of("upgrade", plan.upgrade.as_ref(), &[NewHash, OldHash], &[Username])
}
