#!/usr/bin/env python3
"""CPU microseconds per request with the session of a person who signed in, beside the plain proxy, and beside Apache
with mod_auth_openidc on the same core.

  tests/bench/sessions.py IDM-BINARY [SECONDS]

The proxy under test runs on core 1; load (wrk, Debian), upstream (nginx, Debian) and the provider on core 0, everything on
loopback. Apache: Debian's apache2 and libapache2-mod-auth-openidc. Needs `pip install pyjwt cryptography`."""
import base64, hashlib, http.client, http.server, json, os, re, shutil, subprocess, sys, tempfile, threading, time, urllib.parse
import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

idm, seconds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 4
work = tempfile.mkdtemp()
os.chmod(work, 0o755)
TICK = os.sysconf("SC_CLK_TCK")
UPSTREAM, GATEWAY, APACHE = 19110, 19111, 19112
processes = []
key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
grants = {}


class Provider(http.server.BaseHTTPRequestHandler):
    """As much of an OpenID provider as both relying parties need."""

    def answer(self, body):
        text = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self):
        path, _, query = self.path.partition("?")
        if path == "/keys":
            return self.answer({"keys": [{**public, "kid": "k", "alg": "RS256", "use": "sig"}]})
        if path == "/authorize":
            asked = dict(urllib.parse.parse_qsl(query))
            code = f"code-{len(grants)}"
            grants[code] = asked
            self.send_response(302)
            back = {"code": code, "state": asked["state"]}
            self.send_header("location", f"{asked['redirect_uri']}?{urllib.parse.urlencode(back)}")
            self.send_header("content-length", "0")
            return self.end_headers()
        self.answer({"issuer": issuer, "authorization_endpoint": f"{issuer}/authorize", "token_endpoint": f"{issuer}/token", "jwks_uri": f"{issuer}/keys",
                     "response_types_supported": ["code"], "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["RS256"],
                     "code_challenge_methods_supported": ["S256"], "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"]})

    def do_POST(self):
        form = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers["content-length"])).decode()))
        asked, now = grants[form["code"]], int(time.time())
        claims = {"iss": issuer, "sub": f"person-{form['code']}", "aud": "shop", "iat": now, "exp": now + 3600, "email": "ana@shop.example", "email_verified": True}
        claims |= {"nonce": asked["nonce"]} if "nonce" in asked else {}
        self.answer({"access_token": "a" * 64, "token_type": "Bearer", "expires_in": 3600, "id_token": jwt.encode(claims, key, algorithm="RS256", headers={"kid": "k"})})

    def log_message(self, *_):
        pass


provider = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
threading.Thread(target=provider.serve_forever, daemon=True).start()
issuer = f"http://127.0.0.1:{provider.server_port}"


def spawn(core, command, **rest):
    process = subprocess.Popen(["taskset", "-c", str(core), *command], stderr=subprocess.DEVNULL, **rest)
    processes.append(process)
    return process


def tree(pid):
    """A process and all below it: Apache works in children."""
    found = [pid]
    for child in subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split():
        found += tree(int(child))
    return found


def cpu(pid):
    total = 0
    for one in tree(pid):
        fields = open(f"/proc/{one}/stat").read().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICK


def sign_in(port, path):
    """Follows redirects between proxy and provider as a browser does; returns the cookies of the session."""
    jar, url = {}, f"http://localhost:{port}{path}"
    for _ in range(10):
        parts = urllib.parse.urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname, parts.port)
        headers = {"Host": parts.netloc, "Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
        if parts.port == port and jar:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in jar.items())
        connection.request("GET", parts.path + (f"?{parts.query}" if parts.query else ""), headers=headers)
        answer = connection.getresponse()
        for name, value in answer.getheaders():
            if name.lower() == "set-cookie" and parts.port == port:
                cookie, _, rest = value.partition(";")
                name, _, value = cookie.partition("=")
                jar[name] = value
                if not value or "Max-Age=0" in rest or "1970" in rest:
                    jar.pop(name)
        answer.read()
        if answer.status not in (302, 303):
            assert answer.status == 200, (answer.status, url)
            return "; ".join(f"{name}={value}" for name, value in jar.items() if "LOGIN" not in name and "state" not in name)
        url = urllib.parse.urljoin(url, answer.getheader("location"))
    raise SystemExit("the sign-in goes round in circles")


objects = []
for name, host, method in [("plain", "plain", {"anonymous": {}}), ("people", "localhost", {"signIn": {"federationRefs": [{"name": "idp"}]}})]:
    objects += [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "annotations": {"identity-manager.io/hostnames": host}},
         "spec": {"type": "ExternalName", "externalName": "127.0.0.1", "ports": [{"name": "http", "port": UPSTREAM}]}},
        {"apiVersion": "identity-manager.io/v1alpha1", "kind": "IdentityPolicy", "metadata": {"name": name},
         "spec": {"targetRefs": [{"group": "", "kind": "Service", "name": name}], "authentication": {"methods": [{"name": "m", **method}]}}},
    ]
objects += [
    {"apiVersion": "identity-manager.io/v1alpha1", "kind": "Federation", "metadata": {"name": "idp"},
     "spec": {"oidc": {"issuer": issuer, "client": {"clientId": "shop", "authentication": {"clientSecretBasic": {"name": "c"}}}}}},
    {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "c"}, "stringData": {"clientSecret": "secret"}},
]
os.makedirs(f"{work}/dir")
open(f"{work}/dir/all.yaml", "w").write("\n---\n".join(map(json.dumps, objects)))
open(f"{work}/up.conf", "w").write(
    f"worker_processes 1; pid {work}/up.pid; error_log {work}/up.err; daemon off; events {{worker_connections 4096;}} http {{ access_log off; keepalive_requests 100000000; "
    f"server {{ listen 127.0.0.1:{UPSTREAM}; location / {{ return 200 \"ok\"; }} }} }}")
modules = "\n".join(f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in ("mpm_event", "authn_core", "authz_core", "authz_user", "proxy", "proxy_http", "auth_openidc"))
open(f"{work}/apache.conf", "w").write(f"""{modules}
ServerRoot {work}
PidFile {work}/apache.pid
ErrorLog {work}/apache.err
Listen 127.0.0.1:{APACHE}
ServerName localhost
User nobody
Group nogroup
KeepAlive On
MaxKeepAliveRequests 0
StartServers 1
ServerLimit 1
ThreadsPerChild 64
MaxRequestWorkers 64
OIDCProviderMetadataURL {issuer}/.well-known/openid-configuration
OIDCClientID shop
OIDCClientSecret secret
OIDCRedirectURI http://localhost:{APACHE}/callback
OIDCCryptoPassphrase a-passphrase-for-this-run
OIDCCacheType shm
OIDCCacheShmMax 5000
OIDCSSLValidateServer Off
ProxyPass / http://127.0.0.1:{UPSTREAM}/ keepalive=On
<Location /orders>
AuthType openid-connect
Require valid-user
</Location>
<Location /callback>
AuthType openid-connect
Require valid-user
</Location>
<Location /plain>
Require all granted
</Location>
""")
LUA = """local r = {}
for line in io.lines(os.getenv("REQUESTS")) do r[#r + 1] = (line:gsub("\\\\r", "\\r"):gsub("\\\\n", "\\n")) end
local i = 0
function request() i = i % #r + 1 return r[i] end
"""
open(f"{work}/load.lua", "w").write(LUA)


def request(host, path, cookie=None):
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}", *([f"Cookie: {cookie}"] if cookie else [])]
    return "\\r\\n".join(lines) + "\\r\\n\\r\\n"


def measure(name, process, port, requests, floor=None):
    open(f"{work}/requests", "w").writelines(line + "\n" for line in requests)
    load = ["taskset", "-c", "0", "wrk", "-t1", "-c32", "-s", f"{work}/load.lua", f"http://127.0.0.1:{port}"]
    environment = {**os.environ, "REQUESTS": f"{work}/requests"}
    subprocess.run([*load, "-d2"], env=environment, capture_output=True, check=True)
    before = cpu(process.pid)
    out = subprocess.run([*load, f"-d{seconds}"], env=environment, capture_output=True, text=True, check=True).stdout
    spent, done = cpu(process.pid) - before, int(re.search(r"(\d+) requests in", out).group(1))
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    each = spent / done * 1e6
    over = f"{each - floor:12.1f}" if floor else f"{'':12}"
    print(f"{name:44}{done / seconds:12.0f}{each:10.1f}{over}{f'   {refused.group(1)} refused' if refused else ''}", flush=True)
    return each


try:
    spawn(0, ["nginx", "-c", f"{work}/up.conf"])
    gateway = spawn(1, [idm, "run", "--dir", f"{work}/dir", "--listen", f"127.0.0.1:{GATEWAY}", "--audit-dir", f"{work}/audit", "--danger-insecure-issuers"], stdout=subprocess.PIPE)
    assert b"serves" in gateway.stdout.readline()
    apache = spawn(1, ["apache2", "-f", f"{work}/apache.conf", "-DFOREGROUND"])
    time.sleep(2)
    print(f"{'':44}{'requests/s':>12}{'CPU µs':>10}{'over plain':>12}")
    floor = measure("idm: plain proxy", gateway, GATEWAY, [request("plain", "/orders")])
    one = sign_in(GATEWAY, "/orders")
    measure("idm: session, one person", gateway, GATEWAY, [request(f"localhost:{GATEWAY}", "/orders", one)], floor)
    many = [sign_in(GATEWAY, "/orders") for _ in range(500)]
    measure("idm: sessions, 500 people", gateway, GATEWAY, [request(f"localhost:{GATEWAY}", "/orders", cookie) for cookie in many], floor)
    floor = measure("Apache: plain proxy", apache, APACHE, [request(f"localhost:{APACHE}", "/plain")])
    one = sign_in(APACHE, "/orders")
    measure("Apache mod_auth_openidc: session, one person", apache, APACHE, [request(f"localhost:{APACHE}", "/orders", one)], floor)
    many = [sign_in(APACHE, "/orders") for _ in range(500)]
    measure("Apache mod_auth_openidc: 500 people", apache, APACHE, [request(f"localhost:{APACHE}", "/orders", cookie) for cookie in many], floor)
finally:
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait()
    shutil.rmtree(work, ignore_errors=True)
