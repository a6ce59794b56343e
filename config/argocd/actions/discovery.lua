-- The actions that a Credential offers now.
local spec, status = obj.spec or {}, obj.status or {}
local suspended = spec.suspend == true
local made = spec.apiKey ~= nil and status.keys ~= nil and #status.keys > 0
return {
  ["rotate"] = { ["disabled"] = spec.apiKey == nil or suspended },
  ["revoke"] = { ["disabled"] = not made },
  ["suspend"] = { ["disabled"] = suspended },
  ["resume"] = { ["disabled"] = not suspended },
}
