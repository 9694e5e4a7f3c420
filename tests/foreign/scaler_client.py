"""Calls KEDA's external scaler at ADDRESS, with messages of Google's protobuf: `scaler_client.py ADDRESS WHAT SERVICE CLUSTER
[CA [CERT KEY]]`; with a CA by TLS, with a CERT and its KEY as a client with a certificate.

`get` prints activity, metric, target and value; `stream` each activity as it is pushed, and the stream's end; `wrong`
the status of invalid requests; `status` the status of one call; `property` sends random messages with further fields of all types.
"""

import random
import sys
import threading

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

TYPES = descriptor_pb2.FieldDescriptorProto
FILE = descriptor_pb2.FileDescriptorProto(name="scaler.proto", package="externalscaler", syntax="proto3")


def message(name, *fields):
    described = FILE.message_type.add(name=name)
    for number, (field, kind, *of) in enumerate(fields, 1):
        repeated = field.endswith("*")
        label = TYPES.LABEL_REPEATED if repeated else TYPES.LABEL_OPTIONAL
        added = described.field.add(name=field.rstrip("*"), number=number, label=label, type=kind)
        if of:
            added.type_name = ".externalscaler." + of[0]
    return described


REF = [("name", TYPES.TYPE_STRING), ("namespace", TYPES.TYPE_STRING), ("scalerMetadata*", TYPES.TYPE_MESSAGE)]
for name, more in [("ScaledObjectRef", []), ("Wide", [
    ("a", TYPES.TYPE_SINT64), ("b", TYPES.TYPE_FIXED64), ("c", TYPES.TYPE_FLOAT), ("d", TYPES.TYPE_BYTES),
    ("e*", TYPES.TYPE_INT32), ("f*", TYPES.TYPE_STRING), ("g", TYPES.TYPE_DOUBLE), ("h", TYPES.TYPE_BOOL),
])]:
    entry = f"{name}.ScalerMetadataEntry"
    described = message(name, *REF[:2], (*REF[2], entry), *more)
    nested = described.nested_type.add(name="ScalerMetadataEntry")
    nested.options.map_entry = True
    for number, field in enumerate(["key", "value"], 1):
        nested.field.add(name=field, number=number, label=TYPES.LABEL_OPTIONAL, type=TYPES.TYPE_STRING)
message("IsActiveResponse", ("result", TYPES.TYPE_BOOL))
message("MetricSpec", ("metricName", TYPES.TYPE_STRING), ("targetSize", TYPES.TYPE_INT64), ("targetSizeFloat", TYPES.TYPE_DOUBLE))
message("GetMetricSpecResponse", ("metricSpecs*", TYPES.TYPE_MESSAGE, "MetricSpec"))
message("GetMetricsRequest", ("scaledObjectRef", TYPES.TYPE_MESSAGE, "ScaledObjectRef"), ("metricName", TYPES.TYPE_STRING))
message("MetricValue", ("metricName", TYPES.TYPE_STRING), ("metricValue", TYPES.TYPE_INT64), ("metricValueFloat", TYPES.TYPE_DOUBLE))
message("GetMetricsResponse", ("metricValues*", TYPES.TYPE_MESSAGE, "MetricValue"))
pool = descriptor_pool.DescriptorPool()
pool.Add(FILE)


def kind(name):
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("externalscaler." + name))


address, what, service, cluster = sys.argv[1:5]
if sys.argv[5:]:
    ca, cert, key = ([open(path, "rb").read() for path in sys.argv[5:8]] + [None, None])[:3]
    channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(ca, key, cert))
else:
    channel = grpc.insecure_channel(address)
PATH = "/externalscaler.ExternalScaler/"


def unary(method, answer):
    return channel.unary_unary(PATH + method, lambda m: m.SerializeToString(), kind(answer).FromString)


def stream(method, answer):
    return channel.unary_stream(PATH + method, lambda m: m.SerializeToString(), kind(answer).FromString)


def ref(metadata, of="ScaledObjectRef"):
    return kind(of)(name="shop", namespace="default", scalerMetadata=metadata)


def say(*words):
    print(*words, flush=True)


def status(call):
    try:
        call()
        return "OK"
    except grpc.RpcError as error:
        return f"{error.code().name}: {error.details()}"


metadata = {"scalerAddress": address, "service": service, "cluster": cluster}
is_active = unary("IsActive", "IsActiveResponse")
if what == "get":
    spec = unary("GetMetricSpec", "GetMetricSpecResponse")(ref(metadata), timeout=5).metricSpecs[0]
    request = kind("GetMetricsRequest")(scaledObjectRef=ref(metadata), metricName=spec.metricName)
    value = unary("GetMetrics", "GetMetricsResponse")(request, timeout=5).metricValues[0]
    assert value.metricName == spec.metricName
    active = is_active(ref(metadata), timeout=5).result
    say(active, spec.targetSize, spec.targetSizeFloat, value.metricValue, value.metricValueFloat)
elif what == "status":
    say(status(lambda: is_active(ref(metadata), timeout=5)))
elif what == "watch":
    # The value ten times a second, until standard input ends.
    request = kind("GetMetricsRequest")(scaledObjectRef=ref(metadata))
    metrics = unary("GetMetrics", "GetMetricsResponse")
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    while not ended.wait(0.1):
        say(metrics(request, timeout=5).metricValues[0].metricValue)
elif what == "stream":
    specs = stream("StreamMetricSpec", "GetMetricSpecResponse")(ref(metadata))
    say("target", next(specs).metricSpecs[0].targetSize)
    answers = stream("StreamIsActive", "IsActiveResponse")(ref(metadata))
    try:
        for answer in answers:
            say("active" if answer.result else "idle")
    except grpc.RpcError:
        pass
    say("end", answers.code().name)
    say("end", status(lambda: [None for _ in specs]))
elif what == "wrong":
    for wrong in [{}, {"service": service}, {"cluster": cluster, "service": "nowhere"}, {"service": service, "cluster": "nowhere"},
                  {"service": service, "cluster": "other"}, {"service": "raw", "cluster": cluster},
                  {"service": "ü" * 200, "cluster": "50 %\n"}]:
        say(status(lambda: is_active(ref(wrong), timeout=5)))
    request = kind("GetMetricsRequest")(scaledObjectRef=ref(metadata), metricName="s0-tidegate")
    say(status(lambda: unary("GetMetrics", "GetMetricsResponse")(request, timeout=5)))
    say(status(lambda: is_active(ref(metadata | {"x": "y" * 100_000}), timeout=5)))
    say(status(lambda: unary("Nothing", "IsActiveResponse")(ref(metadata), timeout=5)))
    say(status(lambda: [None for _ in stream("StreamIsActive", "IsActiveResponse")(ref(metadata), timeout=0.3)]))
    zipped = grpc.insecure_channel(address, compression=grpc.Compression.Gzip)
    zipped = zipped.unary_unary(PATH + "IsActive", lambda m: m.SerializeToString(), kind("IsActiveResponse").FromString)
    say(status(lambda: zipped(ref(metadata | {"x": "y" * 1_000}), timeout=5)))
elif what == "property":
    dice = random.Random(1)

    def text():
        return "".join(dice.choice("ab ü%\n€") for _ in range(dice.randrange(8)))

    for turn in range(200):
        wide = ref({text(): text() for _ in range(dice.randrange(5))} | metadata, "Wide")
        wide.a, wide.b, wide.c = dice.randrange(-1 << 63, 1 << 63), dice.randrange(1 << 64), dice.random()
        wide.d, wide.g, wide.h = dice.randbytes(dice.randrange(20)), dice.random(), dice.random() < 0.5
        wide.e.extend(dice.randrange(-1 << 31, 1 << 31) for _ in range(dice.randrange(5)))
        wide.f.extend(text() for _ in range(dice.randrange(5)))
        answer = status(lambda: is_active(wide, timeout=5))
        assert answer == "OK", (turn, answer)
        # A name that exists nowhere comes back in the message as it was sent.
        name = "x" + text()
        wide.scalerMetadata["service"] = name
        answer = status(lambda: is_active(wide, timeout=5))
        assert answer == f"INVALID_ARGUMENT: no service is named `{name}`", (turn, answer)
    say("ok")
