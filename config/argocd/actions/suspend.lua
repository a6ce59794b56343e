-- Lets nobody in with the Credential, until it is resumed.
obj.spec.suspend = true
return obj
