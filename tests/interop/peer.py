"""jwcrypto (and PyJWT for signatures it also knows): reads cases, opens and verifies ours, answers with its own."""
import json
import sys

import jwt
from jwcrypto import jwa, jwe, jwk, jws

cases = json.load(sys.stdin)
out = {"jwe": [], "jws": [], "unsupported": []}


def load(key):
    return jwk.JWK(**{name: value for name, value in key.items() if name not in ("alg", "use", "kid")})


for case in cases["jwe"]:
    try:
        algorithms = [case["alg"], case["enc"]]
        if case["alg"].startswith("PBES2"):
            jwa.default_max_pbkdf2_iterations = 100000
            # A password is text to this library: its bytes are handed over as they are.
            key = jwk.JWK(kty="oct", k=case["key"]["k"])
        else:
            key = load(case["key"])
        ours = jwe.JWE(algs=algorithms)
        ours.deserialize(case["object"], key=key)
        theirs = jwe.JWE(b"from jwcrypto " + case["id"].encode(), json.dumps({"alg": case["alg"], "enc": case["enc"]}), algs=algorithms)
        theirs.add_recipient(key)
        out["jwe"].append({"id": case["id"], "payload": ours.payload.decode(), "object": theirs.serialize(compact=True)})
    except Exception as error:
        out["unsupported"].append({"id": case["id"], "why": f"{type(error).__name__}: {error}"})
for case in cases["jws"]:
    try:
        key = load(case["key"])
        ours = jws.JWS()
        ours.allowed_algs = [case["alg"]]
        ours.deserialize(case["object"], key=key)
        public = jwt.PyJWK({**(case["key"] if case["key"]["kty"] == "oct" else key.export_public(as_dict=True)), "alg": case["alg"]})
        # PyJWT verifies bytes under a header of its own reading: a second opinion on the same object.
        second = jwt.api_jws.decode(case["object"], key=public, algorithms=[case["alg"]])
        assert second == ours.payload
        theirs = jws.JWS(b"from jwcrypto " + case["id"].encode())
        theirs.allowed_algs = [case["alg"]]
        theirs.add_signature(key, case["alg"], json.dumps({"alg": case["alg"]}))
        out["jws"].append({"id": case["id"], "payload": ours.payload.decode(), "object": theirs.serialize(compact=True)})
    except Exception as error:
        out["unsupported"].append({"id": case["id"], "why": f"{type(error).__name__}: {error}"})
json.dump(out, sys.stdout)
