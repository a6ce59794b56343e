//! The parts that scripts of servers have in common.

use idm_plan::GroupStrategy;
use ldap3_proto::proto::{LdapOp, LdapResultCode as Code, LdapSearchRequest};

use crate::peer::{Do, Scripted, Seen, ana, bound, done, extended};
use crate::world::Settings;

pub(crate) const PASSWORD: &str = "canary-Pa55word";

/// The script of a good server with one person, `ana`, who is in no group.
pub(crate) fn good(seen: &Seen) -> Vec<Do> {
    match &seen.request.op {
        LdapOp::BindRequest(_) => vec![Do::Answer(bound(Code::Success))],
        LdapOp::SearchRequest(search) if search.base == "dc=test" => {
            vec![Do::Answer(ana()), Do::Answer(done(Code::Success))]
        }
        LdapOp::SearchRequest(_) => vec![Do::Answer(done(Code::Success))],
        LdapOp::ExtendedRequest(_) => vec![Do::Answer(extended(Code::Success)), Do::BeginTls("localhost")],
        LdapOp::UnbindRequest => vec![Do::Close],
        _ => Vec::new(),
    }
}

pub(crate) fn search_of(seen: &Seen) -> Option<&LdapSearchRequest> {
    if let LdapOp::SearchRequest(search) = &seen.request.op { Some(search) } else { None }
}

pub(crate) fn is_search_for_groups(seen: &Seen) -> bool {
    search_of(seen).is_some_and(|search| search.base == "ou=groups,dc=test")
}

pub(crate) fn is_search_for_ana(seen: &Seen) -> bool {
    search_of(seen).is_some_and(|search| search.base == "dc=test")
}

pub(crate) fn is_bind_of_person(seen: &Seen) -> bool {
    matches!(&seen.request.op, LdapOp::BindRequest(bind) if !bind.dn.contains("gateway"))
}

pub(crate) fn groups() -> GroupStrategy {
    GroupStrategy::Search { filter: None, member_attribute: "member".into(), user_attribute: None, nested: false }
}

pub(crate) fn with_groups(scripted: &Scripted) -> Settings {
    scripted.settings().groups(groups(), Some("ou=groups,dc=test"))
}
