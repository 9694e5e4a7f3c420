"""An HTTP/3 client by aioquic, driven by words: h3_client.py HOST PORT CA NAME COMMAND...

Prints one JSON object for each exchange, or {"closed": code} when the connection was closed.
"""

import asyncio
import base64
import json
import sys

from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.h3.connection import H3_ALPN, ErrorCode, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StreamReset


class Client(QuicConnectionProtocol):
    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.http = H3Connection(self._quic)
        self.exchanges = {}
        self.closed = None

    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated):
            self.closed = event.error_code
            for exchange in self.exchanges.values():
                exchange["done"].set()
        if isinstance(event, StreamReset) and event.stream_id in self.exchanges:
            exchange = self.exchanges[event.stream_id]
            exchange["reset"] = event.error_code
            exchange["done"].set()
        for told in self.http.handle_event(event):
            exchange = self.exchanges.get(told.stream_id)
            if exchange is None:
                continue
            if isinstance(told, HeadersReceived):
                fields = {name.decode(): value.decode() for name, value in told.headers}
                exchange["trailers" if ":status" not in fields else "fields"] = fields
            elif isinstance(told, DataReceived):
                exchange["body"] += told.data
            if told.stream_ended:
                exchange["done"].set()

    def begin(self, method, path, fields=(), ends=True):
        stream = self._quic.get_next_available_stream_id()
        self.exchanges[stream] = {"fields": {}, "body": b"", "done": asyncio.Event()}
        head = [(b":method", method.encode()), (b":scheme", b"https")]
        head += [(b":authority", NAME.encode()), (b":path", path.encode())]
        head += [(name.encode(), value.encode()) for name, value in fields]
        self.http.send_headers(stream, head, end_stream=ends)
        self.transmit()
        return stream

    def data(self, stream, data, ends):
        self.http.send_data(stream, data, end_stream=ends)
        self.transmit()

    async def answer(self, stream):
        exchange = self.exchanges[stream]
        await asyncio.wait_for(exchange["done"].wait(), 10)
        if self.closed is not None and not exchange["fields"]:
            return {"closed": self.closed}
        fields = exchange["fields"]
        body = exchange["body"]
        return {
            "status": int(fields.get(":status", 0)),
            "fields": fields,
            "trailers": exchange.get("trailers"),
            "reset": exchange.get("reset"),
            "length": len(body),
            "body": body[:200].decode(errors="replace"),
        }


def tell(answer):
    print(json.dumps(answer), flush=True)


async def get(client, path, times):
    for _ in range(int(times)):
        tell(await client.answer(client.begin("GET", path)))


async def many(client, path, times):
    streams = [client.begin("GET", path) for _ in range(int(times))]
    for stream in streams:
        tell(await client.answer(stream))


async def post(client, path, size, length):
    """A body of so many bytes, which says that it has `length`, or says nothing (`-`)."""
    fields = [] if length == "-" else [("content-length", length)]
    stream = client.begin("POST", path, fields, ends=False)
    await asyncio.sleep(0.05)
    left = int(size)
    try:
        while left > 0:
            client.data(stream, b"x" * min(left, 10_000), False)
            left -= 10_000
            await asyncio.sleep(0)
        client.data(stream, b"", True)
    except Exception as error:
        # The other side wants no more of it.
        print(f"sending ended: {error!r}", file=sys.stderr)
    tell(await client.answer(stream))


async def cut(client, path):
    """A DATA frame that says ten bytes, has four, and is the end."""
    stream = client.begin("POST", path, ends=False)
    client._quic.send_stream_data(stream, b"\x00\x0a1234", end_stream=True)
    client.transmit()
    tell(await client.answer(stream))


async def waiting(client, path, field):
    """A malformed head whose body does not come."""
    stream = client.begin("POST", path, [field.split("=", 1)], ends=False)
    tell(await client.answer(stream))
    tell(await client.answer(client.begin("GET", path)))


async def fields(client, path, count, size):
    listed = [(f"x-{number}", "v" * int(size)) for number in range(int(count))]
    tell(await client.answer(client.begin("GET", path, listed)))


async def head(client, path, *fields):
    tell(await client.answer(client.begin("GET", path, [f.split("=", 1) for f in fields])))


async def whole(client, path, *fields):
    """One response with all bytes of its body."""
    stream = client.begin("GET", path, [f.split("=", 1) for f in fields])
    answer = await client.answer(stream)
    tell(answer | {"base64": base64.b64encode(client.exchanges[stream]["body"]).decode()})


async def resets(client, path, count):
    """Begins requests and breaks them off at once."""
    for _ in range(int(count)):
        if client.closed is not None:
            break
        stream = client.begin("POST", path, ends=False)
        client._quic.reset_stream(stream, ErrorCode.H3_REQUEST_CANCELLED)
        client.transmit()
        await asyncio.sleep(0.001)
    for _ in range(100):
        if client.closed is not None:
            break
        await asyncio.sleep(0.02)
    tell({"closed": client.closed})


async def wait(client, path):
    """One request, then nothing until the other side has had enough."""
    tell(await client.answer(client.begin("GET", path)))
    while client.closed is None:
        await asyncio.sleep(0.02)
    tell({"closed": client.closed})


async def leave(client, path):
    """Goes in the middle of an exchange."""
    client.begin("GET", path)
    await asyncio.sleep(0.2)


async def main(host, port, ca, command, *arguments):
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, server_name=NAME)
    configuration.load_verify_locations(ca)
    configuration.idle_timeout = 4
    if "--cert" in arguments:
        at = arguments.index("--cert")
        configuration.load_cert_chain(arguments[at + 1] + ".pem", arguments[at + 1] + ".key")
        arguments = arguments[:at]
    opened = connect(host, int(port), configuration=configuration, create_protocol=Client)
    async with opened as client:
        await COMMANDS[command](client, *arguments)


COMMANDS = {f.__name__: f for f in [get, many, post, cut, waiting, fields, head, whole, resets, wait, leave]}
NAME = sys.argv[4]

try:
    asyncio.run(main(*sys.argv[1:4], *sys.argv[5:]))
except (ConnectionError, asyncio.TimeoutError) as error:
    tell({"failed": repr(error)})
