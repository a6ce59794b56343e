#!/usr/bin/env python3
"""Writes the folder that the benchmark's gateway serves: policies.py JWKS-FILE UPSTREAM-PORT DIR [plain]."""
import json, os, sys
jwks, port, out = open(sys.argv[1]).read(), sys.argv[2], sys.argv[3]
plain = len(sys.argv) > 4
os.makedirs(out, exist_ok=True)
service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "up", "annotations": {"identity-manager.io/hostnames": "*"}},
           "spec": {"type": "ExternalName", "externalName": "127.0.0.1", "ports": [{"name": "http", "port": int(port)}]}}
method = {"name": "open", "anonymous": {}} if plain else {"name": "bench", "jwt": {"issuers": [
    {"issuer": "https://bench", "audiences": ["bench"], "algorithms": ["RS256", "ES256"], "keys": {"inline": jwks}}]}}
policy = {"apiVersion": "identity-manager.io/v1alpha1", "kind": "IdentityPolicy", "metadata": {"name": "bench"},
          "spec": {"targetRefs": [{"group": "", "kind": "Service", "name": "up"}],
                   "authentication": {"methods": [method], "identity": {"roles": "token.roles"}}}}
with open(os.path.join(out, "bench.yaml"), "w") as f:
    f.write("\n---\n".join(json.dumps(d) for d in (service, policy)))
