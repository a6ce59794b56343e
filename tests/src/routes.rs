use crate::Upstream;

/// A Gateway `g` for plain HTTP and a route `r` under it with these rules, lines of YAML that begin with `  - `. In
/// each, `UP` stands for the member that names the upstream.
pub fn route_to(upstream: &Upstream, rules: &str) -> String {
    route_to_port(upstream.address.port(), rules)
}

/// The same for an upstream at a port of this machine.
pub fn route_to_port(port: u16, rules: &str) -> String {
    let rules = rules.replace("UP", &format!("backendRefs: [{{name: up, port: {port}}}]"));
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: up}}\nspec: {{type: ExternalName, externalName: 127.0.0.1, \
         ports: [{{name: http, port: {port}}}]}}\n---\n\
         apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: g}}\nspec: {{gatewayClassName: \
         idm, listeners: [{{name: http, port: 80, protocol: HTTP}}]}}\n---\n\
         apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r}}\nspec:\n  parentRefs: \
         [{{name: g}}]\n  rules:\n{}\n",
        rules.trim_end()
    )
}

/// A policy of the route `r`, or of its rule of this name, with this method and these further members, lines of YAML
/// that begin with two spaces.
pub fn policy_of(name: &str, rule: Option<&str>, method: &str, more: &str) -> String {
    let section = rule.map(|rule| format!(", sectionName: {rule}")).unwrap_or_default();
    format!(
        "---\napiVersion: identity-manager.io/v1alpha1\nkind: IdentityPolicy\nmetadata: {{name: {name}}}\nspec:\n  \
         targetRefs: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, name: r{section}}}]\n  \
         authentication: {{methods: [{method}]}}\n{more}"
    )
}
