"""WebSocket by the `websockets` package: `server` prints its port and echoes; `client URL` talks to one."""

import asyncio
import sys

import websockets


async def echo(socket):
    async for message in socket:
        await socket.send(message)


async def server():
    async with websockets.serve(echo, "127.0.0.1", 0, max_size=None) as listening:
        print(listening.sockets[0].getsockname()[1], flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def client(url):
    async with websockets.connect(url, max_size=None, subprotocols=["chat"]) as socket:
        for message in ["hello", b"\x00" * 200_000, "x" * 1_000_000]:
            await socket.send(message)
            assert await socket.recv() == message
        many = [str(number) for number in range(500)]
        for message in many:
            await socket.send(message)
        assert [await socket.recv() for _ in many] == many
        await (await socket.ping())
        print("compressed" if socket.protocol.extensions else "plain", end=" ")
        await socket.close(4001, "enough")
        print(socket.close_code)


asyncio.run(server() if sys.argv[1] == "server" else client(sys.argv[2]))
