"""A service that knows people, made of Python's standard library: HTTP/1.1 over TLS, with client certificates.

Arguments: certificate, key, authorities of clients. Writes its port, and then what it decoded of each request, a line
of JSON each. Everyone has the password `right`, and the user name that was decoded is the one that it answers with.
"""

import base64
import json
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit

PRINTING = threading.Lock()


def say(value):
    with PRINTING:
        print(value, flush=True)


class Service(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body leave together.
    wbufsize = -1

    def log_message(self, *_):
        pass

    def header(self, name):
        """A header in UTF-8; the library reads it as ISO 8859-1."""
        value = self.headers.get(name)
        return value and value.encode("iso-8859-1").decode()

    def credentials(self, segments, query, body):
        """User name and password, from the place that the first segment names."""
        match segments[0]:
            case "json":
                read = json.loads(body)
                return read["login"]["name"], read["login"]["words"][0]
            case "form":
                read = dict(parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=True))
                return read["name"], read["word"]
            case "basic":
                scheme, encoded = self.header("authorization").split(" ")
                assert scheme == "Basic"
                return base64.b64decode(encoded, validate=True).decode().split(":", 1)
            case "header":
                return self.header("x-name"), self.header("x-word")
            case "path":
                return segments[1], json.loads(body)
            case "query":
                return query["name"], json.loads(body)

    def answer(self):
        url = urlsplit(self.path)
        segments = [unquote(segment, errors="strict") for segment in url.path.split("/")[1:]]
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        subject = dict(pair[0] for pair in self.connection.getpeercert()["subject"])
        decoded = {"segments": segments, "caller": subject["commonName"]}
        person = {"groups": ["staff"], "mail": "ana@corp.test"}
        if segments[0] == "people":
            say(json.dumps(decoded))
            if self.header("authorization") != "Bearer s3cret":
                return 403, {}
            if segments[1] == "gone":
                return 404, {"error": "gone"}
            return 200, person | {"id": segments[1], "name": "renamed"}
        name, word = self.credentials(segments, query, body)
        say(json.dumps(decoded | {"name": name, "word": word}))
        if word == "right":
            return 200, person | {"id": 7, "name": name}
        return (401, {"error": "credentials"}) if word == "wrong" else (418, {"password": word})

    def reply(self):
        status, document = self.answer()
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = reply


server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
context.load_verify_locations(sys.argv[3])
context.verify_mode = ssl.CERT_REQUIRED
# The handshake is the handler's, so that a client that fails does not end the service.
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.handle_error = lambda *_: None
say(server.server_address[1])
server.serve_forever()
