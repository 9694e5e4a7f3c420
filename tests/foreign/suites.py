"""Conformance suites of others against a binary: `suites.py BINARY h2spec|websocket|smuggler [ARGUMENTS...]`.

Starts nginx or an echo server as the cluster and the binary before it, in clear and over TLS, and runs the suite on both:
h2spec from PATH, kosoku (Autobahn's cases) from PATH, smuggler.py by the path that SMUGGLER names. Prints what the suite
prints, and exits with 1 where a suite does.
"""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time

CONFIG = """
admin: {{ address: "off" }}
access_log: {{ path: stdout, format: "off" }}
listeners:
  clear: {{ address: "127.0.0.1:{clear}", protocol: http, service: echo }}
  tls: {{ address: "127.0.0.1:{tls}", protocol: http, service: echo, tls: {{ certificates: [{{ cert: cert.pem, key: key.pem }}] }} }}
services: {{ echo: {{ clusters: [home] }} }}
clusters: {{ home: {{ kind: idc, endpoints: ["127.0.0.1:{cluster}"], probe: {{ kind: tcp }} }} }}
"""
NGINX = """
daemon off; worker_processes 1; pid pid; error_log error.log; events {{ worker_connections 1024; }}
http {{ access_log off; client_body_temp_path 1; proxy_temp_path 2; fastcgi_temp_path 3; uwsgi_temp_path 4; scgi_temp_path 5;
server {{ listen 127.0.0.1:{cluster}; location / {{ return 200 hello; }} }} }}
"""
ECHO = """
import asyncio, sys, websockets
async def echo(peer):
    try:
        async for message in peer:
            await peer.send(message)
    except websockets.ConnectionClosed:
        pass
async def main():
    async with websockets.serve(echo, "127.0.0.1", int(sys.argv[1]), max_size=None, compression="deflate"):
        await asyncio.Future()
asyncio.run(main())
"""
KEY = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
KEY += " -addext subjectAltName=DNS:localhost -keyout key.pem -out cert.pem"


def free():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port, deadline=10.0):
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        time.sleep(0.05)
    raise SystemExit(f"nothing listens on port {port}")


def commands(suite, ports, arguments):
    clear, tls = str(ports["clear"]), str(ports["tls"])
    if suite == "h2spec":
        yield ["h2spec", "-h", "localhost", "-p", clear, *arguments]
        yield ["h2spec", "-h", "localhost", "-p", tls, "-t", "-k", *arguments]
    elif suite == "websocket":
        for place in ("cluster", "clear"):
            yield ["kosoku", "-p", "2", "-o", place, *arguments, f"ws://localhost:{ports[place]}"]
    elif suite == "smuggler":
        for url in (f"http://localhost:{clear}/", f"https://localhost:{tls}/"):
            yield [sys.executable, os.environ["SMUGGLER"], "--no-color", "-t", "2", "-u", url, *arguments]
    else:
        raise SystemExit(__doc__)


def main():
    binary, suite, arguments = os.path.abspath(sys.argv[1]), sys.argv[2], sys.argv[3:]
    ports = {name: free() for name in ("cluster", "clear", "tls")}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as started:
        def start(*command):
            log = started.enter_context(open(os.path.join(folder, "log"), "ab"))
            process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
            started.callback(process.wait)
            started.callback(process.terminate)

        for name, text in (("config.yaml", CONFIG), ("nginx.conf", NGINX)):
            with open(os.path.join(folder, name), "w") as file:
                file.write(text.format(**ports))
        subprocess.run(KEY.split(), cwd=folder, check=True, capture_output=True)
        if suite == "websocket":
            start(sys.executable, "-c", ECHO, str(ports["cluster"]))
        else:
            start("nginx", "-p", folder, "-c", os.path.join(folder, "nginx.conf"))
        answers(ports["cluster"])
        start(binary, "run", "--config", os.path.join(folder, "config.yaml"))
        answers(ports["clear"])
        answers(ports["tls"])
        time.sleep(1)
        failed = False
        for command in commands(suite, ports, arguments):
            print("+", " ".join(command), flush=True)
            work = os.path.dirname(os.environ["SMUGGLER"]) if suite == "smuggler" else os.getcwd()
            failed |= subprocess.run(command, cwd=work).returncode != 0
    sys.exit(failed)


if __name__ == "__main__":
    main()
