"""A gRPC server with every kind of call, by generic handlers: no generated code. Prints its port."""
import sys
import time
from concurrent import futures

import grpc


def unary(request, context):
    if request == b"fail":
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as asked: 100 %")
    if request.startswith(b"slow"):
        time.sleep(3)
    context.set_trailing_metadata((("x-trailer", "kept"),))
    return b"unary:" + request + b":" + dict(context.invocation_metadata()).get("x-custom", "").encode()


def server_stream(request, context):
    for number in range(int(request)):
        yield b"%d" % number


def client_stream(requests, context):
    return b"%d" % sum(len(request) for request in requests)


def both(requests, context):
    for request in requests:
        yield b"echo:" + request


def health(request, context):
    # HealthCheckResponse with SERVING; for a service called "down", NOT_SERVING.
    return b"\x08\x02" if b"down" in request else b"\x08\x01"


class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        return {
            "/test.Test/Unary": grpc.unary_unary_rpc_method_handler(unary),
            "/test.Test/ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
            "/test.Test/ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
            "/test.Test/Both": grpc.stream_stream_rpc_method_handler(both),
            "/grpc.health.v1.Health/Check": grpc.unary_unary_rpc_method_handler(health),
        }.get(details.method)


server = grpc.server(futures.ThreadPoolExecutor(16))
server.add_generic_rpc_handlers((Handler(),))
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
sys.stdin.read()
server.stop(0)
