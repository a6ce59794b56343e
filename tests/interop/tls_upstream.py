"""An HTTPS server on OpenSSL: `tls_upstream.py CHAIN KEY [CLIENT-AUTHORITIES]`. It prints its port, then one line of
JSON for each handshake and for each request. It answers 200 with the request's path, and echoes a WebSocket's bytes."""
import json
import socket
import ssl
import sys
import threading

names = {}


def say(what):
    print(json.dumps(what), flush=True)


def on_name(connection, name, _context):
    names[id(connection)] = name


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
context.set_alpn_protocols(["http/1.1"])
context.sni_callback = on_name
if len(sys.argv) > 3:
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(sys.argv[3])


def head(stream, pending):
    while b"\r\n\r\n" not in pending:
        received = stream.recv(65536)
        if not received:
            return None, b""
        pending += received
    text, rest = pending.split(b"\r\n\r\n", 1)
    return text.decode(), rest


def converse(stream):
    pending = b""
    while True:
        text, pending = head(stream, pending)
        if text is None:
            return
        line, *fields = text.split("\r\n")
        headers = {name.lower(): value.strip() for name, value in (field.split(":", 1) for field in fields)}
        length = int(headers.get("content-length", 0))
        while len(pending) < length:
            pending += stream.recv(65536)
        body, pending = pending[:length], pending[length:]
        say({"line": line, "headers": headers, "body": body.decode()})
        if headers.get("upgrade") == "websocket":
            stream.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
            while received := stream.recv(65536):
                stream.sendall(received)
            return
        path = line.split(" ")[1].encode()
        stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(path), path))


def serve(tcp):
    try:
        stream = context.wrap_socket(tcp, server_side=True)
        peer = stream.getpeercert() or {}
        subject = dict(pair for part in peer.get("subject", ()) for pair in part).get("commonName")
        name = names.pop(id(stream), None)
        say({"handshake": {"name": name, "alpn": stream.selected_alpn_protocol(), "client": subject}})
        converse(stream)
    except OSError as error:
        say({"failed": str(error)})
    finally:
        tcp.close()


listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
