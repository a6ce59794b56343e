//! The ValidatingAdmissionPolicy that narrows what RBAC gives for a namespace to teams and actions.
//!
//! RBAC has no label selectors. A subject of a team gets the verbs on the whole namespace, and beside them a permission
//! on a virtual resource, `credentials/team` with the team as its name. The policy asks the API server's authorizer for
//! that one: its text is the same for any number of teams, roles and people. Somebody without the virtual permission
//! writes nothing, whatever other bindings of the cluster give. `docs/tiers.md` has what was tried on an API server.

use serde_json::{Value, json};

use crate::denial::{WHO_CAN, WHO_MAY};
use crate::write::requests;
use crate::{GROUP, Kind, REVOKE_ANNOTATION, ROTATE_ANNOTATION, TEAM_LABEL};

/// The name of the policy and of its binding.
pub const NAME: &str = "idm-guard";

/// The policy. `system` is the operator's namespace.
pub fn policy(system: &str) -> Value {
    let validations: Vec<Value> = checks(system)
        .into_iter()
        .map(|check| json!({"expression": check.expression, "reason": "Forbidden", "messageExpression": check.message}))
        .collect();
    let variables: Vec<Value> =
        variables().into_iter().map(|(name, expression)| json!({"name": name, "expression": expression})).collect();
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": NAME},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "matchPolicy": "Equivalent",
                // Every version that is served, and status, finalizers and scale too: each of them is a door.
                "resourceRules": [{
                    "apiGroups": [GROUP], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE", "DELETE"],
                    "resources": ["*/*"], "scope": "*",
                }],
            },
            "variables": variables,
            "validations": validations,
        },
    })
}

/// The binding of the policy.
pub fn binding() -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": NAME},
        "spec": {"policyName": NAME, "validationActions": ["Deny"]},
    })
}

/// Whether a policy and a binding of the cluster are ours, unchanged: what the API server adds by default is ignored.
pub fn is_intact(system: &str, policy: &Value, binding: &Value) -> bool {
    holds(&self::policy(system)["spec"], &policy["spec"]) && is_bound(binding)
}

fn is_bound(binding: &Value) -> bool {
    let spec = binding["spec"].as_object();
    let denies = binding["spec"]["validationActions"].as_array().is_some_and(|all| all.iter().any(|one| one == "Deny"));
    // Anything more, such as `matchResources` and `paramRef`, narrows it.
    let is_whole = spec.is_some_and(|spec| spec.keys().all(|name| name == "policyName" || name == "validationActions"));
    denies && is_whole && binding["spec"]["policyName"] == NAME
}

/// Whether everything of ours is there, and nothing else that narrows it.
fn holds(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            let ours_are_there =
                ours.iter().all(|(name, value)| theirs.get(name).is_some_and(|other| holds(value, other)));
            let defaults = |name: &str, value: &Value| {
                matches!(name, "namespaceSelector" | "objectSelector")
                    && value.as_object().is_some_and(|v| v.is_empty())
            };
            ours_are_there && theirs.iter().all(|(name, value)| ours.contains_key(name) || defaults(name, value))
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(ours, theirs)| holds(ours, theirs))
        }
        _ => ours == theirs,
    }
}

struct Check {
    expression: String,
    message: String,
}

/// The authorizer's answer about a virtual resource. A permission without names covers every name, also the empty one,
/// which stands for what is of no team.
fn asks(resource: &str, subresource: &str, name: &str, verb: &str) -> String {
    let of = |place: &str| {
        format!(
            "authorizer.group('{GROUP}').resource({resource}).subresource('{subresource}'){place}.check({verb})\
             .allowed()"
        )
    };
    let here = of(&format!(".namespace(request.namespace).name({name})"));
    let system = of(&format!(".name({})", if subresource == "grant" { name } else { "''" }));
    format!("(variables.system ? {system} : {here})")
}

fn team(verb: &str, team: &str) -> String {
    asks("variables.resource", "team", team, verb)
}

/// The variables of requests for Credentials: what a write does to one.
fn of_requests() -> Vec<(&'static str, String)> {
    let ours = "variables.resource == 'credentialrequests'";
    let changes = |field: &str| {
        format!("{ours} && object != null && oldObject != null && object.spec.?{field} != oldObject.spec.?{field}")
    };
    vec![
        ("asks", format!("{ours} && object != null && oldObject == null")),
        ("answers", changes("approval")),
        ("receives", changes("received")),
        (
            "withdraws",
            format!("{ours} && object == null && oldObject.spec.requester.username == request.userInfo.username"),
        ),
    ]
}

/// The checks of requests for Credentials. The names in them are those of the API server, so that what is stored can be
/// believed by everybody who reads it.
fn checks_of_requests() -> Vec<Check> {
    let when = |when: &str, holds: &str, message: &str| Check {
        expression: format!("!variables.{when} || {holds}"),
        message: message.to_owned(),
    };
    let place = "(variables.new == '' ? ' of the project' : ' of team ' + variables.new) + \
                 ' in namespace ' + request.namespace";
    let next = "' -n ' + request.namespace + (variables.new == '' ? '' : ' --team ' + variables.new)";
    let may_not = |verb: &str, why: &str| {
        format!(
            "'user ' + request.userInfo.username + ' may not {verb} credentials' + {place} + '{why}\
             {WHO_MAY}{WHO_CAN}{verb} credentials' + {next}"
        )
    };
    let holds = |verb: &str| asks("'credentials'", "team", "variables.new", &format!("'{verb}'"));
    vec![
        when(
            "asks",
            "object.spec.requester.username == request.userInfo.username && !has(object.spec.approval) && \
             !has(object.spec.received)",
            "'a request is made in the own name and without an answer: spec.requester.username must be ' + \
             request.userInfo.username + ', and approval and received are set later'",
        ),
        when(
            "answers",
            "has(object.spec.approval) && !has(oldObject.spec.approval) && \
             object.spec.approval.by.username == request.userInfo.username",
            "'a request is answered once and in the own name: spec.approval.by.username must be ' + \
             request.userInfo.username",
        ),
        when(
            "answers",
            "object.spec.requester.username != request.userInfo.username",
            "'user ' + request.userInfo.username + ' asked for it, and nobody answers their own request'",
        ),
        when(
            "answers",
            "has(object.spec.approval) && oldObject.?status.?hash.orValue('') == object.spec.approval.hash",
            "'spec.approval.hash must be status.hash of the request: read it again, because it is another one, \
             or cannot be answered'",
        ),
        when("answers", &holds("approve"), &may_not("approve", "")),
        when(
            "answers",
            &format!(
                "!has(object.spec.approval) || object.spec.approval.decision != 'Approved' || {}",
                holds("create")
            ),
            &may_not("create", ", and to approve a request makes one"),
        ),
        when(
            "receives",
            &format!(
                "object.spec.requester.username == request.userInfo.username && \
                 oldObject.?status.?encryptedKey.hasValue() && {}",
                team("'create'", "variables.new")
            ),
            "'only the requester says that the key was received, and while it is there'",
        ),
    ]
}

/// Variables are computed when they are first used, and once.
fn variables() -> Vec<(&'static str, String)> {
    let team_of = |object: &str| {
        format!(
            "{object} == null ? '' : variables.resource == 'rolebindings' ? \
             {object}.spec.?scope.?team.?name.orValue('') : {object}.metadata.?labels[?'{TEAM_LABEL}'].orValue('')"
        )
    };
    let suspended = |object: &str| format!("{object}.spec.?suspend.orValue(false)");
    let (old_off, new_off) = (suspended("oldObject"), suspended("object"));
    let asks = |annotation: &str| {
        let asked = format!("metadata.?annotations[?'{annotation}']");
        format!("object.{asked} != oldObject.{asked}")
    };
    let requests = |kind: Kind| {
        let all: Vec<_> = requests(kind).iter().map(|annotation| format!("'{annotation}'")).collect();
        format!("[{}]", all.join(", "))
    };
    let edits = edits(&old_off, &new_off);
    let updates = "object != null && oldObject != null";
    let mut all = vec![
        ("resource", "request.resource.resource".into()),
        (
            "system",
            "variables.resource == 'rolebindings' && \
             (object == null ? oldObject : object).spec.?scope.?system.hasValue()"
                .into(),
        ),
        ("old", team_of("oldObject")),
        ("new", team_of("object")),
        (
            "verb",
            "request.operation == 'CREATE' ? 'create' : request.operation == 'DELETE' ? 'delete' : 'update'".into(),
        ),
        (
            "parts",
            "variables.resource == 'credentials' ? ['suspend'] : \
             variables.resource == 'identitypolicies' ? ['targetRefs'] : \
             variables.resource == 'credentialrequests' ? ['approval', 'received'] : []"
                .into(),
        ),
        (
            "requests",
            format!(
                "variables.resource == 'credentials' ? {} : variables.resource == 'identitypolicies' ? {} : []",
                requests(Kind::Credential),
                requests(Kind::IdentityPolicy)
            ),
        ),
        ("rotates", format!("'{ROTATE_ANNOTATION}' in variables.requests && {updates} && {}", asks(ROTATE_ANNOTATION))),
        (
            "revokes",
            format!(
                "variables.resource == 'credentials' && {updates} && ({new_off} && !{old_off} || {})",
                asks(REVOKE_ANNOTATION)
            ),
        ),
        (
            "deploys",
            "variables.resource == 'identitypolicies' && object != null && (oldObject == null || \
             object.spec.?targetRefs != oldObject.spec.?targetRefs)"
                .into(),
        ),
        ("edits", format!("{updates} && ({})", edits.join(" || "))),
        (
            "grants",
            "variables.resource == 'rolebindings' && object != null && (has(object.spec.permissionRole) || \
             has(object.spec.permissions)) && (oldObject == null || object.spec != oldObject.spec)"
                .into(),
        ),
        ("role", "object != null && has(object.spec.permissionRole) ? object.spec.permissionRole : 'listed'".into()),
        (
            "handsOut",
            "variables.resource == 'federations' && object != null && (has(object.spec.roleMappings) || \
             has(object.spec.provisioning)) && (oldObject == null || object.spec != oldObject.spec)"
                .into(),
        ),
    ];
    all.extend(of_requests());
    all
}

/// The conditions of which one holds for an update that changes more than it asks for by annotations. `old_off` and
/// `new_off` say whether it is suspended before and afterwards.
fn edits(old_off: &str, new_off: &str) -> Vec<String> {
    let differs = |field: &str, counts: &str| {
        let (old, new) = (format!("oldObject.{field}.orValue({{ }})"), format!("object.{field}.orValue({{ }})"));
        format!(
            "{new}.exists(k, {counts} && {old}[?k] != optional.of({new}[k])) || \
             {old}.exists(k, {counts} && !(k in {new}))"
        )
    };
    vec![
        differs("?spec", "!(k in variables.parts)"),
        format!("variables.resource == 'credentials' && {old_off} && !{new_off}"),
        differs("metadata.?annotations", "!(k in variables.requests)"),
        "object.metadata.?labels != oldObject.metadata.?labels".into(),
        "object.metadata.?finalizers != oldObject.metadata.?finalizers".into(),
        "object.metadata.?ownerReferences != oldObject.metadata.?ownerReferences".into(),
        "object.?status != oldObject.?status".into(),
    ]
}

/// Each check asks the authorizer twice at most, so that it stays within the API server's limit for one expression.
fn checks(system: &str) -> Vec<Check> {
    let deed = |verb: &str, team: &str| {
        let who = format!(
            "' -n ' + request.namespace + ({team} == '' ? '' : ' --team ' + {team}) + \
             (variables.system ? ' --system' : '')"
        );
        format!(
            "'user ' + request.userInfo.username + ' may not ' + {verb} + ' ' + variables.resource + \
             (variables.system ? ' of the system' : {team} == '' ? ' of the project' : ' of team ' + {team}) + \
             ' in namespace ' + request.namespace + \
             '{WHO_MAY}{WHO_CAN}' + {verb} + ' ' + variables.resource + {who}"
        )
    };
    let action = |when: &str, verb: &str| Check {
        expression: format!("!variables.{when} || {}", team(&format!("'{verb}'"), "variables.new")),
        message: deed(&format!("'{verb}'"), "variables.new"),
    };
    let binds = asks("'rolebindings'", "grant", "variables.role", "'bind'");
    let binds_in_team = asks("'rolebindings'", "grant", "variables.new + ':' + variables.role", "'bind'");
    let mut all = vec![
        Check {
            expression: format!("!variables.system || request.namespace == '{system}'"),
            message: format!("'a role of the system is given in namespace {system} only'"),
        },
        Check {
            expression: format!(
                "oldObject == null || object != null && !variables.edits || variables.withdraws && {} || {}",
                team("'create'", "variables.old"),
                team("variables.verb", "variables.old")
            ),
            message: deed("variables.verb", "variables.old"),
        },
        Check {
            expression: format!(
                "object == null || oldObject != null && (!variables.edits || variables.old == variables.new) || {}",
                team("variables.verb", "variables.new")
            ),
            message: deed("variables.verb", "variables.new"),
        },
        action("rotates", "rotate"),
        action("revokes", "revoke"),
        action("deploys", "deploy"),
        Check {
            expression: format!(
                "!variables.grants || {binds} || variables.new != '' && !variables.system && {binds_in_team}"
            ),
            message: format!(
                "'user ' + request.userInfo.username + ' may not give role ' + variables.role + \
                 (variables.system ? ' of the system' : \
                 variables.new == '' ? ' of the project' : ' of team ' + variables.new) + ' in namespace ' + \
                 request.namespace + ', because it takes a role there that includes all of it{WHO_MAY}\
                 {WHO_CAN}create rolebindings -n ' + request.namespace + \
                 (variables.new == '' ? '' : ' --team ' + variables.new) + (variables.system ? ' --system' : '')"
            ),
        },
        Check {
            expression: format!("!variables.handsOut || {}", asks("'rolebindings'", "team", "''", "'create'")),
            message: format!(
                "'user ' + request.userInfo.username + \
                 ' may not create rolebindings of the project in namespace ' + \
                 request.namespace + ', and roleMappings and provisioning of a Federation give roles to others\
                 {WHO_MAY}{WHO_CAN}create rolebindings -n ' + request.namespace"
            ),
        },
    ];
    all.extend(checks_of_requests());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r07_no_expression_asks_more_than_twice_and_the_policy_less_than_twenty_times() {
        let policy = policy("idm-system");
        let validations = policy["spec"]["validations"].as_array().expect("a list");
        // Of the two branches of the system and a namespace, one is taken.
        let asked = |expression: &str| expression.matches(".check(").count() / 2;
        let counts: Vec<_> = validations.iter().map(|v| asked(v["expression"].as_str().unwrap_or_default())).collect();
        assert!(counts.iter().all(|count| *count <= 2), "{counts:?}");
        assert!(counts.iter().sum::<usize>() <= 20, "{counts:?}");
        let variables = policy["spec"]["variables"].to_string();
        assert!(!variables.contains("authorizer"), "messages may use variables, and not the authorizer");
    }

    #[test]
    fn r01_a_weakened_guard_is_not_taken_for_ours() {
        let (policy, binding) = (policy("idm-system"), binding());
        let mut stored = policy.clone();
        stored["spec"]["matchConstraints"]["namespaceSelector"] = json!({});
        stored["spec"]["matchConstraints"]["objectSelector"] = json!({});
        assert!(is_intact("idm-system", &stored, &binding), "with what the API server adds");
        let weaken: [(&str, Value); 5] = [
            ("/spec/failurePolicy", json!("Ignore")),
            ("/spec/matchConstraints/namespaceSelector", json!({"matchLabels": {"a": "b"}})),
            ("/spec/matchConstraints/resourceRules/0/resources", json!(["*"])),
            ("/spec/validations/1/expression", json!("true")),
            ("/spec/variables/10/expression", json!("false")),
        ];
        for (path, value) in weaken {
            let mut weak = stored.clone();
            *weak.pointer_mut(path).expect("a part") = value;
            assert!(!is_intact("idm-system", &weak, &binding), "{path}");
        }
        let mut conditional = stored.clone();
        conditional["spec"]["matchConditions"] = json!([{"name": "a", "expression": "false"}]);
        assert!(!is_intact("idm-system", &conditional, &binding));
        let mut audits = binding.clone();
        audits["spec"]["validationActions"] = json!(["Audit"]);
        assert!(!is_intact("idm-system", &stored, &audits));
        let mut narrow = binding.clone();
        narrow["spec"]["matchResources"] = json!({"namespaceSelector": {}});
        assert!(!is_intact("idm-system", &stored, &narrow));
        assert!(!is_intact("other", &stored, &binding));
    }
}
