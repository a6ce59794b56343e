-- Takes the suspension back.
obj.spec.suspend = nil
return obj
