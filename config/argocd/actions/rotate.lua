-- Asks the operator for a new key. The request's id is the time, so that a second click within a second asks once.
local metadata = obj.metadata
if metadata.annotations == nil then
  metadata.annotations = {}
end
metadata.annotations["identity-manager.io/rotate"] = "argocd-" .. os.date("!%Y%m%dT%H%M%SZ")
return obj
