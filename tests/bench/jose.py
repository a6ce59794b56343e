"""The same work as gateway/jose/examples/throughput.rs, done by jwcrypto."""
import json, time
from jwcrypto import jwe, jwk, jws

payload = json.dumps({"order": 7, "note": "x" * 200})


def measure(name, work):
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < 1:
        work()
        done += 1
    print(f"jwcrypto {name} {done / (time.perf_counter() - start):.0f}", flush=True)


def sign(key, alg):
    token = jws.JWS(payload)
    token.add_signature(key, None, json.dumps({"alg": alg}))
    return token.serialize(compact=True)


def verify(text, key):
    token = jws.JWS()
    token.deserialize(text, key)


for alg, key in [("RS256", jwk.JWK.generate(kty="RSA", size=2048)), ("ES256", jwk.JWK.generate(kty="EC", crv="P-256")),
                 ("EdDSA", jwk.JWK.generate(kty="OKP", crv="Ed25519")), ("HS256", jwk.JWK.generate(kty="oct", size=256))]:
    measure(f"sign {alg}", lambda: sign(key, alg))
    if alg != "HS256":
        signed = sign(key, alg)
        measure(f"verify {alg}", lambda: verify(signed, key))


def seal(key, alg, enc):
    return jwe.JWE(payload, json.dumps({"alg": alg, "enc": enc}), recipient=key).serialize(compact=True)


def unseal(text, key):
    token = jwe.JWE()
    token.deserialize(text, key)


for alg, enc, key in [("RSA-OAEP-256", "A256GCM", jwk.JWK.generate(kty="RSA", size=2048)), ("ECDH-ES+A256KW", "A256GCM", jwk.JWK.generate(kty="EC", crv="P-256")),
                      ("dir", "A128CBC-HS256", jwk.JWK.generate(kty="oct", size=256))]:
    sealed = seal(key, alg, enc)
    measure(f"encrypt {alg}/{enc}", lambda: seal(key, alg, enc))
    measure(f"decrypt {alg}/{enc}", lambda: unseal(sealed, key))
