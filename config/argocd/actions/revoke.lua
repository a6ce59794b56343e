-- Revokes every key that the Credential has: at once, and for good.
local metadata, ids = obj.metadata, {}
for _, key in ipairs((obj.status or {}).keys or {}) do
  table.insert(ids, key.id)
end
if #ids == 0 then
  error("the Credential has no keys to revoke")
end
if metadata.annotations == nil then
  metadata.annotations = {}
end
metadata.annotations["identity-manager.io/revoke-keys"] = table.concat(ids, ",")
return obj
