"""An ACME authority that fails in the way named in the file `fault`, before a real one.

Usage: lying_acme.py ADDRESS PORT CERTIFICATE KEY ADDRESS-OF-THE-REAL-ONE PORT FAULT-FILE

The file is read for each request; while it is empty, requests pass. The faults:
  garbage      every answer is HTML
  slow         nothing is answered
  nonce        every signed request has a bad nonce (RFC 8555 section 6.5)
  limited N    new orders are refused for N seconds (section 6.6)
  wrong        the certificate is that of another key and name
  forgotten    accounts are unknown
One line a request on standard output: the method, the path, and the fault.
"""

import http.client
import http.server
import json
import ssl
import sys
import time

ADDRESS, PORT, CERT, KEY, REAL, REAL_PORT, FAULT = sys.argv[1:8]
ERROR = "urn:ietf:params:acme:error:"


class Authority(http.server.BaseHTTPRequestHandler):
    def answer(self, status, kind, body, headers=()):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def problem(self, status, kind, headers=()):
        body = {"type": ERROR + kind, "detail": "told so by a test", "status": status}
        nonce = ("replay-nonce", "bm9uY2U")
        self.answer(status, "application/problem+json", json.dumps(body).encode(), [nonce, *headers])

    def handle_one(self):
        with open(FAULT) as file:
            fault, _, value = file.read().strip().partition(" ")
        print(self.command, self.path, fault, flush=True)
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        is_order = self.path == "/order-plz"
        if fault == "slow":
            time.sleep(3600)
        elif fault == "garbage":
            self.answer(200, "text/html", b"<html>It works!</html>")
        elif fault == "nonce" and self.command == "POST":
            self.problem(400, "badNonce")
        elif fault == "limited" and is_order:
            self.problem(429, "rateLimited", [("retry-after", value)])
        elif fault == "forgotten" and is_order:
            # Once: the next order is of a new account.
            open(FAULT, "w").close()
            self.problem(400, "accountDoesNotExist")
        elif fault == "wrong" and self.path.startswith("/certZ/"):
            with open(CERT, "rb") as file:
                self.answer(200, "application/pem-certificate-chain", file.read())
        else:
            self.forward(body)

    def forward(self, body):
        trust = ssl.create_default_context(cafile="ca.pem")
        real = http.client.HTTPSConnection(REAL, int(REAL_PORT), context=trust, timeout=20)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
        real.request(self.command, self.path, body, headers)
        response = real.getresponse()
        kept = ("replay-nonce", "location", "link", "retry-after")
        headers = [(name, value) for name, value in response.getheaders() if name.lower() in kept]
        kind = response.getheader("content-type", "application/octet-stream")
        self.answer(response.status, kind, response.read(), headers)

    do_GET = do_HEAD = do_POST = handle_one

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer((ADDRESS, int(PORT)), Authority)
server.daemon_threads = True
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(CERT, KEY)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
