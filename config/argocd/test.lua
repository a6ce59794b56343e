-- Tests the scripts as Argo CD runs them: `obj` is the object, and the chunk returns. Nothing here needs more than Lua
-- 5.1, which is what Argo CD has. `lua5.4 config/argocd/test.lua --write` writes argocd-cm.yaml from the scripts.
local here = arg[0]:match("^(.*)/[^/]*$") or "."
local failures, count = 0, 0

local function read(name)
  local file = assert(io.open(here .. "/" .. name))
  local text = file:read("*a")
  file:close()
  return text
end

-- Runs a script over an object, with what Argo CD's sandbox has and no more.
local function run(name, obj)
  local environment = {
    obj = obj, ipairs = ipairs, pairs = pairs, tostring = tostring, table = table, error = error,
    os = { date = os.date, time = os.time },
  }
  local chunk = assert(load(read(name), name, "t", environment))
  return chunk()
end

local function check(what, found, wanted)
  count = count + 1
  if found ~= wanted then
    failures = failures + 1
    print(what .. ": found " .. tostring(found) .. ", wanted " .. tostring(wanted))
  end
end

local function condition(type, status, reason, message)
  return { type = type, status = status, reason = reason, message = message, observedGeneration = 2 }
end

local function object(kind, conditions, spec)
  return {
    apiVersion = "identity-manager.io/v1alpha1", kind = kind, metadata = { name = "a", generation = 2 },
    spec = spec or {}, status = { observedGeneration = 2, conditions = conditions },
  }
end

local function health(object)
  return run("health.lua", object)
end

-- As the operator writes them (operator/src/gateway/status.rs).
local accepted = condition("Accepted", "True", "Accepted", "the spec is valid")
local resolved = condition("ResolvedRefs", "True", "ResolvedRefs", "everything it refers to is usable")
local counted = "2/2 gateways at generation 7"
local good = { accepted, resolved, condition("Programmed", "True", "Programmed", counted),
  condition("Ready", "True", "Ready", counted) }
local shadow = counted .. "; it is not enforced: it judges requests that others decide about, and changes nothing"
local cases = {
  { "in force", object("IdentityPolicy", good), "Healthy", "Ready: " .. counted },
  { "in shadow", object("IdentityPolicy", { accepted, resolved, condition("Programmed", "True", "Shadow", shadow),
    condition("Ready", "True", "Ready", shadow) }), "Healthy", "Shadow: " .. shadow },
  { "loading", object("IdentityPolicy", { accepted, resolved,
    condition("Programmed", "False", "Reconciling", "1/2 gateways at generation 7"),
    condition("Ready", "False", "Reconciling", "1/2 gateways at generation 7") }), "Progressing" },
  { "without its target", object("IdentityPolicy", {
    condition("Accepted", "False", "TargetNotFound", "spec.targetRefs[0]: HTTPRoute 'a' must exist in this namespace"),
    condition("Ready", "False", "TargetNotFound", "spec.targetRefs[0]: HTTPRoute 'a' must exist in this namespace") }),
    "Degraded", "TargetNotFound: spec.targetRefs[0]: HTTPRoute 'a' must exist in this namespace" },
  { "a good key", object("Credential", { accepted, resolved, condition("Ready", "True", "Ready", "in order") },
    { apiKey = {} }), "Healthy", "Ready: in order" },
  { "suspended", object("Credential", { accepted, resolved, condition("Ready", "True", "Ready", "in order") },
    { apiKey = {}, suspend = true }), "Suspended" },
  { "suspended and broken", object("Credential", { condition("Ready", "False", "RefNotFound", "no Secret") },
    { apiKey = {}, suspend = true }), "Degraded" },
  { "without a key that works", object("Credential", { condition("Ready", "False", "KeysEnded", "all keys ended") }),
    "Degraded" },
  { "a directory that is away", object("Federation", { accepted, resolved,
    condition("Connected", "False", "DirectoryUnavailable", "no answer"),
    condition("Ready", "False", "DirectoryUnavailable", "no answer") }), "Degraded" },
  { "permissions on their way", object("RoleBinding", { condition("Ready", "False", "NotGranted", "not yet") }),
    "Progressing" },
  { "permissions without a guard",
    object("RoleBinding", { condition("Ready", "False", "GuardNotInForce", "no guard") }), "Degraded" },
  { "a tier", object("UsagePlan", { accepted, resolved, condition("Ready", "True", "Ready", "in order") }), "Healthy" },
  { "a request that nobody answered",
    object("CredentialRequest", { condition("Ready", "False", "Pending", "it waits") }), "Suspended" },
  { "a rejected request",
    object("CredentialRequest", { condition("Ready", "False", "Rejected", "no") }), "Degraded" },
  { "no condition Ready", object("UsagePlan", { accepted }), "Progressing" },
  { "no conditions", { metadata = { generation = 1 }, status = {} }, "Progressing" },
  { "no status", { metadata = { generation = 1 } }, "Progressing" },
}
for _, case in ipairs(cases) do
  local found = health(case[2])
  check(case[1], found.status, case[3])
  if case[4] ~= nil then check(case[1], found.message, case[4]) end
  check(case[1] .. ": has a message", found.message ~= nil and found.message ~= "", true)
end
local changed = object("IdentityPolicy", good)
changed.metadata.generation = 3
check("the status is of an older generation", health(changed).status, "Progressing")
local leaving = object("IdentityPolicy", good)
leaving.metadata.deletionTimestamp = "2027-01-01T00:00:00Z"
check("being deleted", health(leaving).status, "Progressing")

local function offered(spec, keys)
  local actions = run("actions/discovery.lua", { spec = spec, status = { keys = keys } })
  local names = {}
  for _, name in ipairs({ "rotate", "revoke", "suspend", "resume" }) do
    if not actions[name].disabled then table.insert(names, name) end
  end
  return table.concat(names, " ")
end
local keys = { { id = "3f2c9a1b04de", state = "Active" }, { id = "e3b0c44298fc", state = "Overlapping" } }
check("of a key", offered({ apiKey = {} }, keys), "rotate revoke suspend")
check("of a suspended key", offered({ apiKey = {}, suspend = true }, keys), "revoke resume")
check("of a key that is not made", offered({ apiKey = {} }), "rotate suspend")
check("of a password", offered({ password = {} }), "suspend")

local function credential()
  return { metadata = { name = "a" }, spec = { apiKey = {} }, status = { keys = keys } }
end
local rotated = run("actions/rotate.lua", credential())
check("the id of the request", rotated.metadata.annotations["identity-manager.io/rotate"]:match(
  "^argocd%-%d%d%d%d%d%d%d%dT%d%d%d%d%d%dZ$") ~= nil, true)
local labelled = credential()
labelled.metadata.annotations = { other = "stays" }
check("other annotations", run("actions/rotate.lua", labelled).metadata.annotations.other, "stays")
local revoked = run("actions/revoke.lua", credential())
check("all keys", revoked.metadata.annotations["identity-manager.io/revoke-keys"], "3f2c9a1b04de,e3b0c44298fc")
check("nothing to revoke", pcall(run, "actions/revoke.lua", { metadata = {}, spec = {} }), false)
check("suspended", run("actions/suspend.lua", credential()).spec.suspend, true)
check("resumed", run("actions/resume.lua", run("actions/suspend.lua", credential())).spec.suspend, nil)

-- The ConfigMap has the scripts as they are.
local function indented(text, by)
  return (text:gsub("[^\n]+", string.rep(" ", by) .. "%0"))
end
local lines = {
  "# Written from the scripts beside it: lua5.4 config/argocd/test.lua --write\n",
  "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: argocd-cm\n  namespace: argocd\n",
  "  labels: {app.kubernetes.io/name: argocd-cm, app.kubernetes.io/part-of: argocd}\ndata:\n",
}
local kinds = { "Credential", "CredentialRequest", "Federation", "IdentityPolicy", "RoleBinding", "UsagePlan" }
for _, kind in ipairs(kinds) do
  table.insert(lines, "  resource.customizations.health.identity-manager.io_" .. kind .. ": |\n")
  table.insert(lines, indented(read("health.lua"), 4))
end
table.insert(lines, "  resource.customizations.actions.identity-manager.io_Credential: |\n    discovery.lua: |\n")
table.insert(lines, indented(read("actions/discovery.lua"), 6))
table.insert(lines, "    definitions:\n")
for _, action in ipairs({ "rotate", "revoke", "suspend", "resume" }) do
  table.insert(lines, "    - name: " .. action .. "\n      action.lua: |\n")
  table.insert(lines, indented(read("actions/" .. action .. ".lua"), 8))
end
local wanted = table.concat(lines)
if arg[1] == "--write" then
  local file = assert(io.open(here .. "/argocd-cm.yaml", "w"))
  file:write(wanted)
  file:close()
end
check("argocd-cm.yaml is written from the scripts", read("argocd-cm.yaml") == wanted, true)

print("# pass " .. count - failures .. "\n# fail " .. failures)
os.exit(failures == 0)
