"""Calls a gRPC server in every way, through whatever stands at ADDRESS. Says what came, a line each."""
import sys

import grpc

address, what = sys.argv[1], sys.argv[2]
channel = grpc.insecure_channel(address)
try:
    if what == "all":
        call = channel.unary_unary("/test.Test/Unary")
        answer, told = call.with_call(b"a", timeout=5, metadata=(("x-custom", "b"),))
        print(answer.decode(), dict(told.trailing_metadata()).get("x-trailer"))
        big = b"x" * 1_000_000
        print(len(call(big, timeout=5)))
        stream = channel.unary_stream("/test.Test/ServerStream")
        print(sum(1 for _ in stream(b"500", timeout=5)))
        upload = channel.stream_unary("/test.Test/ClientStream")
        print(upload((b"y" * 10_000 for _ in range(100)), timeout=5).decode())

        # Each answer is awaited before the next question: nothing may wait in the proxy.
        def questions():
            for number in range(20):
                yield b"%d" % number
                assert answers.get(timeout=5) == b"echo:%d" % number

        import queue

        answers = queue.Queue()
        both = channel.stream_stream("/test.Test/Both")(questions(), timeout=5)
        count = 0
        for answer in both:
            answers.put(answer)
            count += 1
        print(count)
        print(sum(1 for future in [call.future(b"%d" % n, timeout=5) for n in range(200)] if future.result()))
    elif what == "fail":
        channel.unary_unary("/test.Test/Unary")(b"fail", timeout=5)
    elif what == "slow":
        channel.unary_unary("/test.Test/Unary")(b"slow", timeout=0.3)
    elif what == "nowhere":
        channel.unary_unary("/test.Test/Nothing")(b"a", timeout=5)
    elif what == "one":
        print(channel.unary_unary("/test.Test/Unary")(b"a", timeout=5).decode())
except grpc.RpcError as error:
    print(error.code().name, "|", error.details())
