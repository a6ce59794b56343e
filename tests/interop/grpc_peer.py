"""gRPC of the C core. `serve [CHAIN KEY]` prints its port and then one line for each call that it took; `call PORT
TOKEN` makes one call of each kind, with the token as its credential, and prints what came of them as JSON."""
import json
import sys
from concurrent import futures

import grpc

SERVICE = "test.Echo"


def heard(context):
    print(json.dumps(dict(context.invocation_metadata())), flush=True)
    context.set_trailing_metadata((("x-told", "at the end"),))


def unary(request, context):
    heard(context)
    if request == b"fail":
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as asked")
    return b"one " + request


def streaming(requests, context):
    heard(context)
    for request in requests:
        yield b"each " + request


def serve(files):
    server = grpc.server(futures.ThreadPoolExecutor(4))
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Streaming": grpc.stream_stream_rpc_method_handler(streaming),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    if files:
        chain, key = (open(file, "rb").read() for file in files)
        credentials = grpc.ssl_server_credentials([(key, chain)])
        print(server.add_secure_port("127.0.0.1:0", credentials), flush=True)
    else:
        print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    server.wait_for_termination()


def outcome(call):
    try:
        return call()
    except grpc.RpcError as error:
        trailers = dict(error.trailing_metadata() or ())
        return {"code": error.code().name, "details": error.details(), "trailers": trailers}


def call(port, token):
    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    options = {"metadata": (("x-api-key", token),), "timeout": 10}

    def one(message):
        answer, rpc = channel.unary_unary(f"/{SERVICE}/Unary").with_call(message, **options)
        return {"answer": answer.decode(), "trailers": dict(rpc.trailing_metadata())}

    def conversation():
        rpc = channel.stream_stream(f"/{SERVICE}/Streaming")

        def asks():
            yield b"0"
            for number in range(1, 3):
                # The next is asked after the answer before.
                turn.result(timeout=10)
                yield str(number).encode()

        turn = futures.Future()
        answers = []
        stream = rpc(asks(), **options)
        for answer in stream:
            answers.append(answer.decode())
            waiting, turn = turn, futures.Future()
            waiting.set_result(None)
        return {"answers": answers, "trailers": dict(stream.trailing_metadata())}

    print(json.dumps({"unary": outcome(lambda: one(b"x")), "failed": outcome(lambda: one(b"fail")),
                      "streaming": outcome(conversation)}))


if sys.argv[1] == "serve":
    serve(sys.argv[2:])
else:
    call(sys.argv[2], sys.argv[3])
