#!/usr/bin/env python3
"""A valid caller beside floods of strangers: success, median and 99th percentile, and the gateway's memory.

  tests/bench/floods.py IDM-BINARY [SECONDS [PART-OF-A-NAME [ROUNDS]]]

With several rounds, the lines take turns, and each ends with the medians and the lowest and highest 99th percentile.
The gateway runs on core 1 alone; the caller, the floods and the upstream are processes of their own on core 0. Where
the system allows it, the caller and the upstream go before the floods there: their times are the gateway's then, and
not those of the load generator. Everything is on loopback and bounded: each flood has a fixed number of connections and
ends with its time. Needs nothing but Python 3 and openssl.
"""
import base64, json, multiprocessing, os, shutil, socket, statistics, struct, subprocess, sys, tempfile, threading, time

FORK = multiprocessing.get_context("fork")
SECONDS = float(sys.argv[2]) if len(sys.argv) > 2 else 6
BINARY = sys.argv[1]


def go_first():
    """Goes before other processes on this core."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except OSError:
        pass


def process(work, *arguments, first=False):
    """Starts work in a process of its own, which ends with this one."""
    def begin():
        if first:
            go_first()
        threading.excepthook = lambda _: None  # a connection that the gateway ends is expected
        work(*arguments)
    started = FORK.Process(target=begin, daemon=True)
    started.start()
    return started


def serve(answer, first=True):
    """A server on a free port, in a process: `answer(connection)` in a thread for each connection."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)

    def accept():
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=answer, args=(connection,), daemon=True).start()
    server = process(accept, first=first)
    return listener.getsockname()[1], server


def upstream(connection):
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    pending = b""
    while data := connection.recv(65536):
        pending += data
        while b"\r\n\r\n" in pending:
            pending = pending.split(b"\r\n\r\n", 1)[1]
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def hang(connection):
    while connection.recv(65536):
        pass


def black_hole():
    """A port whose connections are never answered, because its queue is full; and what keeps it so."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    kept = [listener]
    while len(kept) < 64:
        try:
            kept.append(socket.create_connection(listener.getsockname(), 0.3))
        except OSError:
            break
    return listener.getsockname()[1], kept


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed_token():
    """A key set and a token of its key (RS256)."""
    def openssl(*arguments, text=None):
        return subprocess.run(["openssl", *arguments], input=text, capture_output=True, check=True).stdout
    with tempfile.NamedTemporaryFile() as file:
        file.write(openssl("genrsa", "2048"))
        file.flush()
        modulus = openssl("rsa", "-in", file.name, "-modulus", "-noout").decode().strip().split("=")[1]
        part = lambda value: base64url(json.dumps(value).encode())
        text = (part({"alg": "RS256", "kid": "k"}) + "."
                + part({"iss": "https://own", "aud": "a", "sub": "robot", "exp": int(time.time()) + 36_000}))
        signature = base64url(openssl("dgst", "-sha256", "-sign", file.name, text=text.encode()))
    key = {"kty": "RSA", "kid": "k", "alg": "RS256", "n": base64url(bytes.fromhex(modulus)), "e": "AQAB"}
    return json.dumps({"keys": [key]}), f"{text}.{signature}"


def objects(port, other, hanging, hole):
    api = "identity-manager.io/v1alpha1"
    def service(name, port=port):
        return {"apiVersion": "v1", "kind": "Service",
                "metadata": {"name": name, "annotations": {"identity-manager.io/hostnames": name}},
                "spec": {"type": "ExternalName", "externalName": "127.0.0.1",
                         "ports": [{"name": "http", "port": port}]}}
    def policy(name, methods, **more):
        return {"apiVersion": api, "kind": "IdentityPolicy", "metadata": {"name": name},
                "spec": {"targetRefs": [{"group": "", "kind": "Service", "name": name}],
                         "authentication": {"methods": methods}, **more}}
    def secret(name, **data):
        return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}
    loops = "request.parameters.all(a, request.parameters.all(b, a != 'x' || b != 'y'))"
    yield from (service(name) for name in ("valid", "llm", "costly", "opaque", "people", "tokens"))
    yield policy("valid", [{"name": "key", "basic": {"realm": "r"}}])
    # The one flood of known callers has an upstream of its own: the queue of a server in Python is not the gateway's.
    yield service("other", other)
    yield policy("other", [{"name": "key", "basic": {"realm": "r"}}])
    yield policy("llm", [{"name": "key", "basic": {"realm": "r"}}],
                 llm={"keyRef": {"name": "provider"}, "provider": "OpenAI"})
    yield policy("costly", [{"name": "all", "anonymous": {}}], authorization={"rules": [{"name": "r", "when": loops}]})
    yield policy("opaque", [{"name": "ask", "introspection": {
        "issuer": "https://idp", "endpoint": f"http://127.0.0.1:{hanging}/ask", "clientId": "c",
        "clientSecretRef": {"name": "idp"}}}])
    yield policy("people", [{"name": "basic", "basic": {"realm": "r"}}])
    yield policy("tokens", [{"name": "jwt", "jwt": {"issuers": [{"issuer": "https://idp", "audiences": ["a"], "keys": {
        "jwksUri": f"http://127.0.0.1:{hanging}/jwks"}}]}}])
    # A route for tokens, and one for people of a directory that never answers a connection.
    yield service("token")
    yield policy("token", [{"name": "jwt", "jwt": {"issuers": [{"issuer": "https://own", "audiences": ["a"], "keys": {
        "inline": KEYS}}]}}])
    yield service("corp")
    yield policy("corp", [{"name": "basic", "basic": {"realm": "r", "validators": [{"federationRef": {"name": "corp"}}]}}])
    yield {"apiVersion": api, "kind": "Federation", "metadata": {"name": "corp"}, "spec": {"ldap": {
        "servers": [f"ldap://127.0.0.1:{hole}"], "startTls": False, "bind": {"anonymous": {}},
        "users": {"base": "dc=corp,dc=test"}}, "login": {"concurrency": 8}}}
    yield {"apiVersion": api, "kind": "Credential", "metadata": {"name": "ana"},
           "spec": {"password": {}, "secretRef": {"name": "ana"}}}
    yield secret("ana", password="secret")
    yield secret("provider", apiKey="sk-x")
    yield secret("idp", clientSecret="s")


class Gateway:
    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="idm-floods-")
        (port, first), (other, second), (hanging, third) = serve(upstream), serve(upstream, False), serve(hang)
        self.servers = [first, second, third]
        hole, self.kept = black_hole()
        os.makedirs(self.folder + "/config")
        with open(self.folder + "/config/all.yaml", "w") as file:
            file.write("\n---\n".join(json.dumps(o) for o in objects(port, other, hanging, hole)))
        log = open(self.folder + "/log", "w")
        command = ["taskset", "-c", "1", BINARY, "run", "--dir", self.folder + "/config", "--listen", "127.0.0.1:0",
                   "--audit-dir", self.folder + "/audit", "--danger-insecure-issuers"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        self.port = None
        line = self.process.stdout.readline()
        if "http://" not in line:
            sys.exit(f"idm did not start: {line}{open(self.folder + '/log').read()}")
        self.port = int(line.strip().rsplit(":", 1)[1])
        threading.Thread(target=lambda: [None for _ in self.process.stdout], daemon=True).start()

    def memory(self):
        with open(f"/proc/{self.process.pid}/status") as file:
            return next(int(line.split()[1]) // 1024 for line in file if line.startswith("VmRSS"))

    def stop(self):
        self.process.kill()
        self.process.wait()
        for server in self.servers:
            server.kill()
        for held in self.kept:
            held.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def head(method, host, path="/", *headers):
    return "".join([f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n", *(h + "\r\n" for h in headers), "\r\n"]).encode()


def basic(user, password):
    return "Authorization: Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def ask(connection, request):
    """Sends a request and returns the status of its answer; 0 at the connection's end."""
    connection.sendall(request)
    read = b""
    while b"\r\n\r\n" not in read:
        part = connection.recv(65536)
        if not part:
            return 0
        read += part
    top, rest = read.split(b"\r\n\r\n", 1)
    length = next((int(line.split(b":")[1]) for line in top.lower().split(b"\r\n")
                   if line.startswith(b"content-length:")), 0)
    while len(rest) < length:
        part = connection.recv(65536)
        if not part:
            return 0
        rest += part
    return int(top.split(b" ")[1])


def connect(port, source="127.0.0.1"):
    connection = socket.create_connection(("127.0.0.1", port), 10, (source, 0))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def caller(port, seconds, source="127.0.0.1", request=None):
    """One valid request every 5 ms: the share of 200 and the times in milliseconds."""
    request = request or head("GET", "valid", "/", basic("ana", "secret"))
    times, good, end = [], 0, time.monotonic() + seconds
    connection = None
    while time.monotonic() < end:
        started = time.monotonic()
        try:
            connection = connection or connect(port, source)
            status = ask(connection, request)
        except OSError:
            status = 0
        times.append((time.monotonic() - started) * 1000)
        good += status == 200
        if status != 200:
            connection = None
        time.sleep(max(0, 0.005 - (time.monotonic() - started)))
    times.sort()
    return good / len(times), times[len(times) // 2], times[int(len(times) * 0.99)]


def repeated(port, connections, make, pause, seconds):
    """Keeps `connections` busy with requests, each after a pause; connections that end are opened anew."""
    end = time.monotonic() + seconds

    def one(number):
        connection = None
        while time.monotonic() < end:
            try:
                connection = connection or connect(port)
                if ask(connection, make(number)) == 0:
                    connection = None
            except OSError:
                connection = None
            time.sleep(pause)
    for number in range(connections):
        threading.Thread(target=one, args=(number,), daemon=True).start()


def held(port, connections, beginning, seconds):
    """Opens connections, sends a beginning on each, and keeps them until the end."""
    def hold():
        kept = []
        for _ in range(connections):
            try:
                connection = connect(port)
                connection.settimeout(1)
                connection.sendall(beginning)
                kept.append(connection)
            except OSError:
                pass
        time.sleep(seconds)
        for connection in kept:
            connection.close()
    threading.Thread(target=hold, daemon=True).start()


def windows(port, connections, streams, seconds):
    """HTTP/2 connections whose streams may not be answered: a window of 0."""
    frame = lambda kind, flags, stream, payload: (
        struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload)
    block = (b"\x82\x86\x84\x41\x05other" + b"\x0f\x08" + bytes([len(basic("ana", "secret")) - 15])
             + basic("ana", "secret")[15:].encode())
    text = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, struct.pack(">HI", 4, 0))
    text += b"".join(frame(1, 5, 1 + 2 * n, block) for n in range(streams))
    held(port, connections, text, seconds)


def token(number):
    part = lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
    kid = f"{number}-{time.monotonic_ns()}"
    return (f"Authorization: Bearer {part({'alg': 'RS256', 'kid': kid})}."
            f"{part({'iss': 'https://idp', 'aud': 'a', 'exp': 9999999999})}.c2ln")


FLOODS = {
    "nothing (quiet)": lambda port: None,
    "40 bodies of 16 MiB that stop": lambda port: held(
        port, 40, head("POST", "llm", "/v1/chat/completions", "Content-Length: 16777216") + b"x" * (15 << 20), SECONDS),
    "300 bodies of 1 MiB that stop": lambda port: held(
        port, 300, head("POST", "people", "/", "Content-Length: 1048576") + b"x" * 900_000, SECONDS),
    "nested loops over 5 KiB": lambda port: repeated(
        port, 4, lambda _: head("GET", "costly", "/?" + "&".join(f"p{i}=" for i in range(800))), 0.01, SECONDS),
    "300 connections without a credential": lambda port: repeated(
        port, 300, lambda _: head("GET", "valid"), 0.1, SECONDS),
    "opaque tokens, a server that hangs": lambda port: repeated(
        port, 150, lambda n: head("GET", "opaque", "/", f"Authorization: Bearer {n}-{time.monotonic_ns()}"), 0.1,
        SECONDS),
    "1500 half prefaces": lambda port: held(port, 1500, b"PRI * HTTP/2", SECONDS),
    "31,000 segments": lambda port: repeated(port, 4, lambda _: head("GET", "valid", "/a" * 31_000), 0.01, SECONDS),
    "windows of 0: 60 x 120 streams": lambda port: windows(port, 60, 120, SECONDS),
    "1500 dripping heads": lambda port: held(port, 1500, b"GET / HTTP/1.1\r\nX", SECONDS),
    "wrong passwords": lambda port: repeated(
        port, 50, lambda n: head("GET", "people", "/", basic(f"user{n}", "wrong")), 0.05, SECONDS),
    "wrong tokens, unknown key ids": lambda port: repeated(
        port, 50, lambda n: head("GET", "tokens", "/", token(n)), 0.05, SECONDS),
    "nothing (quiet), for a token": lambda port: None,
    # About ten times what the directory has places for, and then as often as they are answered.
    "logins at a directory that hangs, for a token": lambda port: repeated(
        port, 80, lambda n: head("GET", "corp", "/", basic(f"user{n}-{time.monotonic_ns()}", "guess")), 0.1, SECONDS),
}

def flooding(flood, port):
    """The flood, until its time is over."""
    flood(port)
    time.sleep(SECONDS + 2)


def measured(port, seconds, source="127.0.0.1", request=None):
    """What `caller` finds in a process of its own."""
    results = FORK.Queue()
    one = process(lambda: results.put(caller(port, seconds, source, request)), first=True)
    result = results.get()
    one.join()
    return result


def beside(name, flood):
    """What a valid caller finds beside a flood: share of 200, median and 99th percentile, and the gateway's memory."""
    gateway = Gateway()
    request = head("GET", "token", "/", f"Authorization: Bearer {TOKEN}") if name.endswith("for a token") else None
    try:
        measured(gateway.port, 0.5, request=request)
        strangers = process(flooding, flood, gateway.port)
        time.sleep(0.3)
        source = "127.0.0.2" if name in OWN_ADDRESS else "127.0.0.1"
        found = (*measured(gateway.port, SECONDS - 0.5, source, request), gateway.memory())
        strangers.kill()
        return found
    finally:
        gateway.stop()
        time.sleep(0.5)


KEYS, TOKEN = signed_token()
os.sched_setaffinity(0, {0})
# Limits of requests are for each address, and most strangers have another one than the caller.
OWN_ADDRESS = {"windows of 0: 60 x 120 streams"}
wanted = sys.argv[3] if len(sys.argv) > 3 else ""
rounds = int(sys.argv[4]) if len(sys.argv) > 4 else 1
print(f"{'beside':<46} {'200s':>7} {'median ms':>10} {'p99 ms':>8} {'MiB':>5}")
seen = {name: [] for name in FLOODS if wanted in name}
for _ in range(rounds):
    for name in seen:
        success, median, last, memory = beside(name, FLOODS[name])
        seen[name].append((success, median, last))
        print(f"{name:<46} {success:>7.2%} {median:>10.2f} {last:>8.2f} {memory:>5}", flush=True)
for name, found in seen.items() if rounds > 1 else ():
    success, median, last = (sorted(column) for column in zip(*found))
    print(f"{name}: {rounds} rounds, 200s {success[0]:.2%}, median {statistics.median(median):.2f} ms, "
          f"p99 {statistics.median(last):.2f} ms ({last[0]:.2f} to {last[-1]:.2f})")
