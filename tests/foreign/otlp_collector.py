"""A collector of traces: OTLP over gRPC, with OpenTelemetry's own generated code. Prints its port, then the spans of
each request as a line of JSON: whoever reads one span of a trace has them all. The first argument is what it does:
take, hang, or a way to lie. The others are its port, and the files of its certificate and key."""
import json
import sys
import threading
from concurrent import futures

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as messages
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as services

mode = sys.argv[1]
stopping = threading.Event()


def plain(value):
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [plain(item) for item in value.array_value.values]
    return getattr(value, kind)


def attributes(all):
    return {pair.key: plain(pair.value) for pair in all}


def printed(span, resource):
    return {
        "trace": span.trace_id.hex(),
        "span": span.span_id.hex(),
        "parent": span.parent_span_id.hex(),
        "flags": span.flags,
        "name": span.name,
        "kind": span.kind,
        "start": span.start_time_unix_nano,
        "end": span.end_time_unix_nano,
        "error": span.status.code == 2,
        "attributes": attributes(span.attributes),
        "resource": resource,
    }


class Collector(services.TraceServiceServicer):
    def Export(self, request, context):
        if mode == "hang":
            stopping.wait()
        spans = [
            printed(span, attributes(of_resource.resource.attributes))
            for of_resource in request.resource_spans
            for of_scope in of_resource.scope_spans
            for span in of_scope.spans
        ]
        print(json.dumps(spans), flush=True)
        if mode == "refuse":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "\x1b[31mno\n" * 1_000)
        response = messages.ExportTraceServiceResponse()
        if mode == "reject":
            response.partial_success.rejected_spans = 1 << 62
        if mode == "negative":
            response.partial_success.rejected_spans = -5
        if mode == "huge":
            response.partial_success.error_message = "x" * 1_000_000
        return response


def garbage(request, context):
    return b"\xff" * 100


class Garbage(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(garbage)


server = grpc.server(futures.ThreadPoolExecutor(16))
if mode == "garbage":
    server.add_generic_rpc_handlers((Garbage(),))
else:
    services.add_TraceServiceServicer_to_server(Collector(), server)
port = sys.argv[2] if len(sys.argv) > 2 else "0"
if len(sys.argv) > 3:
    cert, key = (open(name, "rb").read() for name in sys.argv[3:5])
    print(server.add_secure_port(f"127.0.0.1:{port}", grpc.ssl_server_credentials([(key, cert)])), flush=True)
else:
    print(server.add_insecure_port(f"127.0.0.1:{port}"), flush=True)
server.start()
sys.stdin.read()
stopping.set()
server.stop(0)
