"""Signs requests with a stock library: a GET with Ed25519, a POST with HMAC, one whose body was altered afterwards, and
one that is sent again. Prints the statuses. Arguments: ADDRESS. Environment: ED25519_SEED (a JWK), SHARED_SECRET."""
import base64
import json
import os
import sys

import requests
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from http_message_signatures import HTTPMessageSigner, HTTPSignatureKeyResolver, algorithms

address = sys.argv[1]
seed = json.loads(os.environ["ED25519_SEED"])["d"]
private = Ed25519PrivateKey.from_private_bytes(base64.urlsafe_b64decode(seed + "=="))


class Keys(HTTPSignatureKeyResolver):
    def resolve_private_key(self, key_id):
        if key_id == "ana":
            return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return os.environ["SHARED_SECRET"].encode()

    def resolve_public_key(self, key_id):
        raise NotImplementedError


def signed(algorithm, key_id, nonce, method, body=None):
    request = requests.Request(method, f"http://{address}/orders?b=c&d=%20e", data=body).prepare()
    signer = HTTPMessageSigner(signature_algorithm=algorithm, key_resolver=Keys())
    components = ["@method", "@authority", "@path", "@query"]
    signer.sign(request, key_id=key_id, nonce=nonce, covered_component_ids=components, body=body)
    return request


session = requests.Session()
first = signed(algorithms.ED25519, "ana", "py-1", "GET")
statuses = [session.send(first).status_code]
statuses.append(session.send(signed(algorithms.HMAC_SHA256, "shared", "py-2", "POST", b'{"a": 1}')).status_code)
altered = signed(algorithms.ED25519, "ana", "py-3", "POST", b'{"a": 1}')
altered.body = b'{"a": 2}'
statuses.append(session.send(altered).status_code)
statuses.append(session.send(first).status_code)
print(*statuses)
