#!/usr/bin/env python3
"""CPU microseconds that the gateway spends per request with each method of authentication, beside its own plain proxy.

  tests/bench/methods.py IDM-BINARY [SECONDS]

The gateway runs on core 1, load (wrk, and ab over TLS; Debian) and upstream (nginx, Debian) on core 0, everything on loopback. Needs
`pip install pyjwt cryptography jwcrypto`. What can be used once (Digest counts, DPoP proofs) is made beforehand."""
import base64, hashlib, http.server, json, os, re, shutil, subprocess, sys, tempfile, threading, time, uuid
import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwcrypto import jwe, jwk

idm, seconds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 4
work = tempfile.mkdtemp()
TICK = os.sysconf("SC_CLK_TCK")
UPSTREAM, PORT, TLS_PORT = 19100, 19101, 19102
processes = []
now = int(time.time())
b64 = lambda data: base64.b64encode(data).decode()
b64u = lambda data: base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def spawn(core, command, **rest):
    process = subprocess.Popen(["taskset", "-c", str(core), *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, **rest)
    processes.append(process)
    return process


def cpu(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def service(host):
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": host, "annotations": {"identity-manager.io/hostnames": host}},
            "spec": {"type": "ExternalName", "externalName": "127.0.0.1", "ports": [{"name": "http", "port": UPSTREAM}]}}


def policy(host, method, **rest):
    return {"apiVersion": "identity-manager.io/v1alpha1", "kind": "IdentityPolicy", "metadata": {"name": host},
            "spec": {"targetRefs": [{"group": "", "kind": "Service", "name": host}], "authentication": {"methods": [{"name": "m", **method}]}, **rest}}


def secret(name, **values):
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}


def credential(name, kind, ref):
    return {"apiVersion": "identity-manager.io/v1alpha1", "kind": "Credential", "metadata": {"name": name}, "spec": {**kind, "secretRef": {"name": ref}}}


class Issuer(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps({"active": True, "iss": "https://bench", "sub": "7", "exp": now + 3600}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


issuer = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Issuer)
threading.Thread(target=issuer.serve_forever, daemon=True).start()

signer, holder = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
pem = signer.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
public = lambda key: json.loads(jwk.JWK.from_pyca(key.public_key()).export_public())

claims = {"iss": "https://bench", "aud": "bench", "sub": "ana", "exp": now + 3600}
token = jwt.encode(claims, signer, algorithm="ES256", headers={"kid": "k"})
thumbprint = jwk.JWK.from_pyca(holder).thumbprint()
bound = jwt.encode({**claims, "cnf": {"jkt": thumbprint}}, signer, algorithm="ES256", headers={"kid": "k"})
rsa_signer = rsa.generate_private_key(public_exponent=65537, key_size=2048)
# More than a core keeps verdicts on.
many = lambda key, algorithm: [jwt.encode({**claims, "jti": str(i)}, key, algorithm=algorithm, headers={"kid": algorithm}) for i in range(20_000)]
jwks = {"keys": [{**public(key), "kid": kid, "alg": alg, "use": "sig"} for key, kid, alg in ((signer, "k", "ES256"), (signer, "ES256", "ES256"), (rsa_signer, "RS256", "RS256"))]}
sealing = jwk.JWK.generate(kty="EC", crv="P-256", kid="e")
signing = jwk.JWK.generate(kty="EC", crv="P-256", kid="s", alg="ES256")
sealed = jwe.JWE(json.dumps({"order": 7, "note": "x" * 200}), json.dumps({"alg": "ECDH-ES+A256KW", "enc": "A256GCM"}), recipient=sealing).serialize(compact=True)
of_issuer = {"jwt": {"issuers": [{"issuer": "https://bench", "audiences": ["bench"], "algorithms": ["ES256", "RS256"], "keys": {"inline": json.dumps(jwks)}}]}}
anonymous = {"anonymous": {}}
objects = []
for host, method, rest in [
    ("plain", anonymous, {}), ("apikey", {"apiKey": {}}, {}), ("basic", {"basic": {"realm": "r"}}, {}), ("digest", {"digest": {"realm": "r"}}, {}),
    ("base64", {"base64": {"sources": [{"header": {"name": "X-Id"}}], "layout": "{username}|{password}"}}, {}), ("jwt", of_issuer, {}), ("dpop", of_issuer, {}),
    ("opaque", {"introspection": {"issuer": "https://bench", "endpoint": f"http://127.0.0.1:{issuer.server_port}/i", "clientId": "c", "clientSecretRef": {"name": "idp"}, "cacheSeconds": 300}}, {}),
    ("cel", of_issuer, {"authorization": {"rules": [{"name": "r", "when": "request.path.startsWith('/') && identity.username == 'ana' && size(request.headers) > 0"}]}}),
    ("open", anonymous, {"jose": [{"name": "o", "consume": {"from": {"body": {}}, "decrypt": {"secretRef": {"name": "enc"}, "algorithms": ["ECDH-ES+A256KW"], "encryptions": ["A256GCM"]}, "to": {"body": {}}}}]}),
    ("seal", anonymous, {"jose": [{"name": "s", "produce": {"sign": {"keyRef": {"name": "sig", "key": "key"}, "algorithm": "ES256", "claims": {"issuer": "https://g", "expireAfterSeconds": 60}}, "to": {"header": "X-Passport"}}}]}),
    ("issue", anonymous, {"tokenService": {"issuer": "https://issue/oauth", "audiences": ["a"]}}),
]:
    objects += [service(host), policy(host, method, **rest)]
run = lambda *args: subprocess.run([idm, *args], capture_output=True, text=True, check=True).stdout
api_key, client_secret = run("credential", "new").strip(), run("credential", "new").strip()
objects += [
    secret("k", key=api_key), credential("machine", {"apiKey": {}}, "k"), secret("p", password="correct horse"), credential("ana", {"password": {}}, "p"),
    secret("c", clientSecret=client_secret), credential("client", {"oauthClient": {"clientSecret": {}}}, "c"), secret("idp", clientSecret="s"),
    secret("enc", **{"jwks.json": json.dumps({"keys": [json.loads(sealing.export_private())]})}), secret("sig", key=signing.export_private()),
]
ssl = lambda *args: subprocess.run(["openssl", *args], cwd=work, capture_output=True, check=True)
ec_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
ssl("req", "-x509", *ec_key, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=ca")
for name, usage in ("localhost", "serverAuth"), ("client", "clientAuth"):
    ssl("req", *ec_key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-addext", f"extendedKeyUsage={usage}")
    ssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-copy_extensions", "copy", "-out", f"{name}.crt")
text = lambda name: open(f"{work}/{name}").read()
open(f"{work}/client.pem", "w").write(text("client.crt") + text("client.key"))
objects += [
    secret("server", **{"tls.crt": text("localhost.crt"), "tls.key": text("localhost.key")}), secret("ca", **{"ca.crt": text("ca.crt")}),
    {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "g"}, "spec": {"gatewayClassName": "idm", "listeners": [
        {"name": "s", "port": 443, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "server"}]}}]}},
    {**service("tls"), "metadata": {"name": "tls", "annotations": {"identity-manager.io/hostnames": "127.0.0.1"}}}, policy("tls", anonymous),
    {**service("mtls"), "metadata": {"name": "mtls", "annotations": {"identity-manager.io/hostnames": "localhost"}}},
    policy("mtls", {"mtls": {"trustBundleRef": {"name": "ca"}, "identity": "DNS"}}),
]
os.makedirs(f"{work}/dir")
with open(f"{work}/dir/all.yaml", "w") as file:
    file.write("\n---\n".join(map(json.dumps, objects)) + "\n---\n" + run("token", "keys", "--policy", "issue"))
with open(f"{work}/up.conf", "w") as file:
    file.write(f"worker_processes 1; pid {work}/up.pid; error_log {work}/up.err; daemon off; events {{worker_connections 4096;}} http {{ access_log off; keepalive_requests 100000000; "
               f"client_body_temp_path {work}; server {{ listen 127.0.0.1:{UPSTREAM}; location / {{ return 200 \"ok\"; }} }} }}")
LUA = """local r = {}
for line in io.lines(os.getenv("REQUESTS")) do r[#r + 1] = (line:gsub("\\\\r", "\\r"):gsub("\\\\n", "\\n")) end
local i = 0
function request() i = i % #r + 1 return r[i] end
"""
open(f"{work}/load.lua", "w").write(LUA)


def request(host, *headers, body="", method="GET", path="/orders"):
    head = [f"{method} {path} HTTP/1.1", f"Host: {host}", *headers, *([f"Content-Length: {len(body)}"] if body else [])]
    return "\\r\\n".join(head) + "\\r\\n\\r\\n" + body


def digests(count):
    """One nonce, and every count of it."""
    import http.client
    connection = http.client.HTTPConnection("127.0.0.1", PORT)
    connection.request("GET", "/orders", headers={"Host": "digest"})
    challenge = connection.getresponse().getheader("www-authenticate")
    nonce = re.search(r'nonce="([^"]*)"', challenge).group(1)
    opaque = re.search(r'opaque="([^"]*)"', challenge)
    h = lambda text: hashlib.sha256(text.encode()).hexdigest()
    ha1, ha2 = h("ana:r:correct horse"), h("GET:/orders")
    for n in range(1, count + 1):
        response = h(f"{ha1}:{nonce}:{n:08x}:c:auth:{ha2}")
        more = f', opaque="{opaque.group(1)}"' if opaque else ""
        yield request("digest", f'Authorization: Digest username="ana", realm="r", nonce="{nonce}", uri="/orders", algorithm=SHA-256, qop=auth, nc={n:08x}, cnonce="c", response="{response}"{more}')


def proofs(count):
    ath = b64u(hashlib.sha256(bound.encode()).digest())
    headers = {"typ": "dpop+jwt", "jwk": public(holder)}
    for _ in range(count):
        proof = jwt.encode({"jti": uuid.uuid4().hex, "htm": "GET", "htu": "https://dpop/orders", "iat": int(time.time()), "ath": ath}, holder, algorithm="ES256", headers=headers)
        yield request("dpop", f"Authorization: DPoP {bound}", f"DPoP: {proof}")


form = "grant_type=client_credentials"
basic = lambda id, value: f"Authorization: Basic {b64(f'{id}:{value}'.encode())}"
scenarios = [
    ("plain proxy", lambda: [request("plain")]),
    ("apiKey", lambda: [request("apikey", f"X-Api-Key: {api_key}")]),
    ("jwt ES256, one token", lambda: [request("jwt", f"Authorization: Bearer {token}")]),
    ("jwt ES256, distinct tokens", lambda: [request("jwt", f"Authorization: Bearer {token}") for token in many(signer, "ES256")]),
    ("jwt RS256, distinct tokens", lambda: [request("jwt", f"Authorization: Bearer {token}") for token in many(rsa_signer, "RS256")]),
    ("jwt ES256, one token, CEL rule", lambda: [request("cel", f"Authorization: Bearer {token}")]),
    ("jwt ES256, DPoP proof each time", lambda: proofs(20_000 * seconds)),
    ("introspection, answer kept", lambda: [request("opaque", "Authorization: Bearer opaque-token")]),
    ("basic, password proven lately", lambda: [request("basic", basic("ana", "correct horse"))]),
    ("base64, password proven lately", lambda: [request("base64", f"X-Id: {b64(b'ana|correct horse')}")]),
    ("digest SHA-256", lambda: digests(70_000 * seconds)),
    ("decrypt a body, ECDH-ES+A256KW", lambda: [request("open", method="POST", body=sealed)]),
    ("sign a header, ES256", lambda: [request("seal")]),
    ("issue a token, ES256", lambda: [request("issue", basic("client", client_secret), "Content-Type: application/x-www-form-urlencoded", method="POST", path="/oauth/token", body=form)]),
]
try:
    spawn(0, ["nginx", "-c", f"{work}/up.conf"])
    gateway = spawn(1, [idm, "run", "--dir", f"{work}/dir", "--listen", f"127.0.0.1:{PORT}", "--listen-tls", f"127.0.0.1:{TLS_PORT}", "--audit-dir", f"{work}/audit", "--danger-insecure-issuers"])
    assert b"serves" in gateway.stdout.readline()
    print(f"{'':36}{'requests/s':>12}{'CPU µs':>10}{'over plain':>12}")
    floor = None
    for name, make in scenarios:
        with open(f"{work}/requests", "w") as file:
            file.writelines(line + "\n" for line in make())
        load = ["taskset", "-c", "0", "wrk", "-t1", "-c32", "-s", f"{work}/load.lua", f"http://127.0.0.1:{PORT}"]
        once = any(word in name for word in ("DPoP", "digest"))
        if not once:
            subprocess.run([*load, "-d2"], env={**os.environ, "REQUESTS": f"{work}/requests"}, capture_output=True, check=True)
        before, start = cpu(gateway.pid), time.monotonic()
        out = subprocess.run([*load, f"-d{seconds}"], env={**os.environ, "REQUESTS": f"{work}/requests"}, capture_output=True, text=True, check=True).stdout
        spent = cpu(gateway.pid) - before
        done = int(re.search(r"(\d+) requests in", out).group(1))
        refused = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
        each = spent / done * 1e6
        floor = floor or each
        note = f"   {refused.group(1)} refused" if refused else ""
        print(f"{name:36}{done / seconds:12.0f}{each:10.1f}{each - floor:12.1f}{note}", flush=True)
    # Another client, so these two compare with each other only.
    floor = None
    for name, url, more in ("over TLS, plain proxy", f"https://127.0.0.1:{TLS_PORT}/", []), ("over TLS, client certificate", f"https://localhost:{TLS_PORT}/", ["-E", f"{work}/client.pem"]):
        before = cpu(gateway.pid)
        out = subprocess.run(["taskset", "-c", "0", "ab", "-q", "-k", "-c", "32", "-t", str(seconds), "-n", "10000000", *more, url], capture_output=True, text=True, check=True).stdout
        spent, done = cpu(gateway.pid) - before, int(re.search(r"Complete requests: +(\d+)", out).group(1))
        each = spent / done * 1e6
        floor = floor or each
        note = "   some refused" if "Non-2xx" in out else ""
        print(f"{name:36}{done / seconds:12.0f}{each:10.1f}{each - floor:12.1f}{note}", flush=True)
finally:
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait()
    shutil.rmtree(work, ignore_errors=True)
