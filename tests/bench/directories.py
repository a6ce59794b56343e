#!/usr/bin/env python3
"""Logins at an OpenLDAP per second, and CPU milliseconds per login: the gateway, beside Apache's mod_authnz_ldap where it
is installed, and beside a loop of bare binds, which is the floor.

  tests/bench/directories.py IDM-BINARY [SECONDS [ROUNDS]]

The proxy under test runs on core 1; load (wrk, Debian), slapd (Debian) and upstream on core 0; everything on loopback.
Every request is a login of one of 500 people with the right password. Each line is the median of the rounds, with the
lowest and the highest rate. The connections of both proxies to the directory are warm; what is kept of verdicts is off,
except where the line says so. Neither reads groups. Apache binds again on connections that it keeps; the gateway never
searches on a connection on which a person was bound, and opens one for each password.
"""
import os, re, shutil, socket, statistics, subprocess, sys, tempfile, threading, time

IDM = sys.argv[1]
SECONDS = int(sys.argv[2]) if len(sys.argv) > 2 else 4
ROUNDS = int(sys.argv[3]) if len(sys.argv) > 3 else 3
TICK = os.sysconf("SC_CLK_TCK")
PEOPLE, CONNECTIONS = 500, 8
WORK = tempfile.mkdtemp(prefix="idm-bench-")
# Apache reads the authority as another user.
os.chmod(WORK, 0o755)
PROCESSES = []
MODULES = "/usr/lib/apache2/modules"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def write(name, text):
    with open(f"{WORK}/{name}", "w") as file:
        file.write(text)
    return f"{WORK}/{name}"


def spawn(core, *command, **rest):
    process = subprocess.Popen(["taskset", "-c", str(core), *command], stdout=subprocess.DEVNULL,
                               stderr=open(f"{WORK}/{os.path.basename(command[0])}.log", "a"), **rest)
    PROCESSES.append(process)
    return process


def until_it_listens(port):
    for _ in range(200):
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
    sys.exit(f"nothing listens on {port}; logs are in {WORK}")


def cpu(pid):
    """Seconds of a process and of its children."""
    used = 0
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = open(f"/proc/{entry}/stat").read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(entry) == pid or int(fields[1]) == pid:
            used += (int(fields[11]) + int(fields[12])) / TICK
    return used


def openssl(*arguments):
    subprocess.run(["openssl", *arguments], cwd=WORK, check=True, capture_output=True)


def slapd():
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=bench")
    openssl("req", "-x509", *key, "-keyout", "ldap.key", "-out", "ldap.crt", "-subj", "/CN=localhost", "-CA", "ca.crt",
            "-CAkey", "ca.key", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-addext",
            "basicConstraints=critical,CA:FALSE")
    os.mkdir(f"{WORK}/db")
    write("slapd.conf", "".join(f"include /etc/ldap/schema/{name}.schema\n" for name in ("core", "cosine", "inetorgperson"))
          + f"modulepath /usr/lib/ldap\nmoduleload back_mdb\nTLSCACertificateFile {WORK}/ca.crt\n"
          f"TLSCertificateFile {WORK}/ldap.crt\nTLSCertificateKeyFile {WORK}/ldap.key\n"
          f"database mdb\nsuffix dc=corp,dc=test\ndirectory {WORK}/db\ndbnosync\nindex uid eq\n"
          "access to attrs=userPassword by anonymous auth by * none\naccess to * by users read by anonymous auth\n")
    people = "".join(f"dn: uid=u{n},ou=people,dc=corp,dc=test\nobjectClass: inetOrgPerson\ncn: u\nsn: u\n"
                     f"userPassword: secret{n}\n\n" for n in range(PEOPLE))
    subprocess.run(["/usr/sbin/slapadd", "-q", "-f", f"{WORK}/slapd.conf"], check=True, text=True, input=(
        "dn: dc=corp,dc=test\nobjectClass: dcObject\nobjectClass: organization\no: x\n\n"
        "dn: ou=people,dc=corp,dc=test\nobjectClass: organizationalUnit\n\n"
        "dn: cn=gateway,dc=corp,dc=test\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\n"
        "userPassword: own\n\n" + people))
    port, tls = free_port(), free_port()
    process = spawn(0, "/usr/sbin/slapd", "-d", "0", "-f", f"{WORK}/slapd.conf", "-h",
                    f"ldap://127.0.0.1:{port} ldaps://127.0.0.1:{tls}")
    until_it_listens(tls)
    return process, port, tls


def upstream():
    """A server that answers ok; in a process of its own on core 0."""
    script = write("upstream.py", """
import socket, sys, threading
def answer(connection):
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    pending = b""
    while data := connection.recv(65536):
        pending += data
        while b"\\r\\n\\r\\n" in pending:
            pending = pending.split(b"\\r\\n\\r\\n", 1)[1]
            connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=512)
while True:
    threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()
""")
    port = free_port()
    spawn(0, sys.executable, script, str(port))
    until_it_listens(port)
    return port


def gateway(name, server, upstream_port, cache):
    folder = f"{WORK}/{name}"
    os.mkdir(folder)
    indent = lambda text: "".join(f"    {line}\n" for line in text.splitlines())
    tls = "tls: {trustBundleRef: {name: ca}}" if server.startswith("ldaps") else "startTls: false"
    with open(f"{folder}/all.yaml", "w") as file:
        file.write(f"""apiVersion: v1
kind: Service
metadata: {{name: up, annotations: {{identity-manager.io/hostnames: '*'}}}}
spec: {{type: ExternalName, externalName: 127.0.0.1, ports: [{{name: http, port: {upstream_port}}}]}}
---
apiVersion: identity-manager.io/v1alpha1
kind: Federation
metadata: {{name: corp}}
spec:
  ldap:
    servers: ['{server}']
    {tls}
    bind: {{simple: {{dn: 'cn=gateway,dc=corp,dc=test', passwordRef: {{name: bind}}}}}}
    users: {{base: 'ou=people,dc=corp,dc=test'}}
  login: {{cacheSeconds: {cache}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: bind}}
stringData: {{password: own}}
---
apiVersion: v1
kind: Secret
metadata: {{name: ca}}
stringData:
  ca.crt: |
{indent(open(f"{WORK}/ca.crt").read())}---
apiVersion: identity-manager.io/v1alpha1
kind: IdentityPolicy
metadata: {{name: p}}
spec:
  targetRefs: [{{group: '', kind: Service, name: up}}]
  authentication: {{methods: [{{name: people, basic: {{realm: r, validators: [{{federationRef: {{name: corp}}}}]}}}}]}}
""")
    port = free_port()
    process = spawn(1, IDM, "run", "--dir", folder, "--listen", f"127.0.0.1:{port}", "--audit-dir", f"{folder}-audit")
    until_it_listens(port)
    return process, port


def apache(name, server, upstream_port, cache):
    port = free_port()
    modules = "".join(f"LoadModule {module}_module {MODULES}/mod_{module}.so\n" for module in (
        "mpm_event", "authn_core", "authz_core", "authz_user", "auth_basic", "ldap", "authnz_ldap", "proxy",
        "proxy_http"))
    caching = "" if cache else "LDAPCacheEntries 0\nLDAPOpCacheEntries 0\n"
    trust = f"LDAPTrustedGlobalCert CA_BASE64 {WORK}/ca.crt\n" if server.startswith("ldaps") else ""
    config = write(f"{name}.conf", f"""ServerName localhost
ServerRoot {WORK}
PidFile {WORK}/{name}.pid
Listen 127.0.0.1:{port}
{modules}ErrorLog {WORK}/{name}-error.log
User www-data
Group www-data
StartServers 1
ServerLimit 1
ThreadsPerChild 25
MaxRequestWorkers 25
MaxKeepAliveRequests 0
{caching}{trust}<Location />
  AuthType Basic
  AuthName r
  AuthBasicProvider ldap
  AuthLDAPURL "{server}/ou=people,dc=corp,dc=test?uid"
  AuthLDAPBindDN cn=gateway,dc=corp,dc=test
  AuthLDAPBindPassword own
  Require valid-user
  ProxyPass http://127.0.0.1:{upstream_port}/
</Location>
""")
    process = spawn(1, "/usr/sbin/apache2", "-D", "FOREGROUND", "-f", config)
    until_it_listens(port)
    return process, port


LOGINS = write("logins.lua", """
local letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
local function base64(text)
  local out = {}
  for i = 1, #text, 3 do
    local a, b, c = text:byte(i, i + 2)
    local n = a * 65536 + (b or 0) * 256 + (c or 0)
    for place = 0, 3 do
      local missing = (place == 2 and not b) or (place == 3 and not c)
      local six = math.floor(n / 64 ^ (3 - place)) %% 64 + 1
      out[#out + 1] = missing and "=" or letters:sub(six, six)
    end
  end
  return table.concat(out)
end
local requests, next = {}, 0
function init()
  for n = 0, %d do
    requests[n] = wrk.format("GET", "/", { Authorization = "Basic " .. base64("u" .. n .. ":secret" .. n) })
  end
end
function request()
  next = (next + 1) %% %d
  return requests[next]
end
""" % (PEOPLE - 1, PEOPLE))


def wrk(port, seconds):
    said = subprocess.run(["taskset", "-c", "0", "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", LOGINS,
                           f"http://127.0.0.1:{port}/"], capture_output=True, text=True).stdout
    if "Non-2xx" in said:
        sys.exit(f"a login was refused: {said}; logs are in {WORK}")
    return int(re.search(r"(\d+) requests in", said)[1]), float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1])


def bind_request(number):
    part = lambda tag, content: bytes([tag, len(content)]) + content
    name = f"uid=u{number},ou=people,dc=corp,dc=test".encode()
    return part(0x30, part(2, b"\x01") + part(0x60, part(2, b"\x03") + part(4, name)
                                              + part(0x80, f"secret{number}".encode())))


BINDS = [bind_request(number) for number in range(PEOPLE)]


def bare_binds(port, seconds, anew):
    """Binds by CONNECTIONS threads: on connections that are kept, or on one for each."""
    counts, end = [0] * CONNECTIONS, time.monotonic() + seconds

    def bind(thread):
        connection, number = None, thread
        while time.monotonic() < end:
            if connection is None:
                connection = socket.create_connection(("127.0.0.1", port))
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(BINDS[number % PEOPLE])
            # The result is the enumeration after the tag of a bind response.
            if b"\x61\x07\x0a\x01\x00" not in connection.recv(4096):
                sys.exit("a bind was refused")
            counts[thread], number = counts[thread] + 1, number + CONNECTIONS
            if anew:
                connection.close()
                connection = None
    threads = [threading.Thread(target=bind, args=(thread,)) for thread in range(CONNECTIONS)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return sum(counts), sum(counts) / seconds


def line(name, measure, directory, proxy=None):
    rows = []
    for _ in range(ROUNDS):
        before, there = cpu(proxy.pid) if proxy else 0, cpu(directory.pid)
        count, rate = measure()
        own = (cpu(proxy.pid) - before) * 1000 / count if proxy else float("nan")
        rows.append((rate, own, (cpu(directory.pid) - there) * 1000 / count))
    rates = [row[0] for row in rows]
    own, theirs = (statistics.median(row[place] for row in rows) for place in (1, 2))
    own = "" if own != own else f"{own:.3f}"
    print(f"{name:<44} {statistics.median(rates):>9.0f} {min(rates):>7.0f} {max(rates):>7.0f} {own:>9} {theirs:>9.3f}",
          flush=True)


def end(process):
    process.terminate()
    process.wait()
    PROCESSES.remove(process)


def main():
    directory, port, tls = slapd()
    back = upstream()
    print(f"{'':<44} {'logins/s':>9} {'least':>7} {'most':>7} {'CPU ms':>9} {'slapd ms':>9}")
    line("bare binds, connections kept", lambda: bare_binds(port, SECONDS, False), directory)
    line("bare binds, a connection for each", lambda: bare_binds(port, SECONDS, True), directory)
    proxies = [("idm", gateway)]
    if os.path.exists("/usr/sbin/apache2") and os.path.exists(f"{MODULES}/mod_authnz_ldap.so"):
        proxies.append(("apache", apache))
    servers = [("ldap", f"ldap://127.0.0.1:{port}", 0), ("ldaps", f"ldaps://127.0.0.1:{tls}", 0),
               ("ldap, verdicts kept for 600 s", f"ldap://127.0.0.1:{port}", 600)]
    for how, server, cache in servers:
        for name, start in proxies:
            process, listens = start(f"{name}-{how.split(',')[0]}-{cache}", server, back, cache)
            wrk(listens, 2)
            line(f"{name}, {how}", lambda: wrk(listens, SECONDS), directory, process)
            end(process)


try:
    main()
finally:
    for process in PROCESSES:
        process.kill()
        process.wait()
    shutil.rmtree(WORK, ignore_errors=True)
