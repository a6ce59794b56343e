-- Health of our kinds, for Argo CD.
-- `Ready` sums up the conditions that the operator writes; a status of an older generation says nothing of this one.
local health = { status = "Progressing", message = "the operator has not reported yet" }
local metadata = obj.metadata or {}
if metadata.deletionTimestamp ~= nil then
  health.message = "it is being deleted"
  return health
end
local status = obj.status
if status == nil or status.conditions == nil then
  return health
end
local ready, programmed = nil, nil
for _, condition in ipairs(status.conditions) do
  if condition.type == "Ready" then ready = condition end
  if condition.type == "Programmed" then programmed = condition end
end
if ready == nil then
  return health
end
local observed = ready.observedGeneration or status.observedGeneration
if metadata.generation ~= nil and (observed == nil or observed < metadata.generation) then
  health.message = "the operator has not reported about generation " .. tostring(metadata.generation) .. " yet"
  return health
end
health.message = tostring(ready.reason or "") .. ": " .. tostring(ready.message or "")
if ready.status ~= "True" then
  -- These end by themselves: gateways load the configuration, and the API server learns of permissions.
  local passing = { Reconciling = true, NotGranted = true }
  -- It waits for a person.
  if ready.reason == "Pending" then
    health.status = "Suspended"
    return health
  end
  health.status = passing[ready.reason] and "Progressing" or "Degraded"
  return health
end
local spec = obj.spec or {}
if spec.suspend == true then
  health.status = "Suspended"
  health.message = "`suspend` is set: it lets nobody in"
  return health
end
health.status = "Healthy"
if programmed ~= nil and programmed.reason ~= "Programmed" and programmed.message ~= nil then
  health.message = tostring(programmed.reason) .. ": " .. programmed.message
end
return health
