"""An ACME authority that fails in the way named in the file `fault`, before a real one.

Usage: lying_acme.py ADDRESS PORT CERTIFICATE KEY ADDRESS-OF-THE-REAL-ONE PORT FAULT-FILE

The file is read for each request; while it is empty, requests pass. The faults:
  garbage      every answer is HTML
  slow         nothing is answered
  nonce        every signed request has a bad nonce (RFC 8555 section 6.5)
  limited N    new orders are refused for N seconds (section 6.6)
  wrong        the certificate is that of another key and name
  other        the certificate is of the requested key, and for another name
  cut          orders are cut off in the middle
  unready      orders never become ready, and are to be asked about a day later
  endless      likewise, after more seconds than a clock can count
  nowhere      the directory has a URL that is none
  forgotten    accounts are unknown
One line a request on standard output: the method, the path, and the fault.
"""

import base64
import http.client
import http.server
import json
import ssl
import subprocess
import sys
import time

ADDRESS, PORT, CERT, KEY, REAL, REAL_PORT, FAULT = sys.argv[1:8]
ERROR = "urn:ietf:params:acme:error:"
WAITS = {"unready": str(86_400), "endless": str(2**64 - 1)}


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
        is_state = self.path.startswith("/my-order/")
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
        elif fault == "other" and self.path.startswith("/finalize-order/"):
            self.issue_for_another(body)
            self.forward(body)
        elif fault == "other" and self.path.startswith("/certZ/"):
            with open("other.pem", "rb") as file:
                self.answer(200, "application/pem-certificate-chain", file.read())
        elif fault == "cut" and is_state:
            self.forward(body, lambda text: text[: len(text) // 2])
        elif fault in WAITS and is_state:
            pending = lambda text: json.dumps({**json.loads(text), "status": "pending"}).encode()
            self.forward(body, pending, [("retry-after", WAITS[fault])])
        elif fault == "nowhere" and self.path == "/dir":
            self.forward(body, lambda text: json.dumps({**json.loads(text), "newNonce": "https://a b"}).encode())
        else:
            self.forward(body)

    def issue_for_another(self, body):
        payload = json.loads(body)["payload"]
        decode = lambda text: base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        with open("other.csr", "wb") as file:
            file.write(decode(json.loads(decode(payload))["csr"]))
        with open("other.ext", "w") as file:
            file.write("subjectAltName=DNS:other.example\n")
        command = "openssl x509 -req -inform DER -in other.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 5"
        subprocess.run([*command.split(), "-extfile", "other.ext", "-out", "other.pem"], check=True)

    def forward(self, body, change=lambda text: text, more=()):
        trust = ssl.create_default_context(cafile="ca.pem")
        real = http.client.HTTPSConnection(REAL, int(REAL_PORT), context=trust, timeout=20)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
        real.request(self.command, self.path, body, headers)
        response = real.getresponse()
        kept = ("replay-nonce", "location", "link", *([] if more else ["retry-after"]))
        headers = [(name, value) for name, value in response.getheaders() if name.lower() in kept]
        kind = response.getheader("content-type", "application/octet-stream")
        text = response.read()
        # Errors pass as they are: the real one refuses a part of all nonces, to see that clients try again.
        changed = (change(text), [*headers, *more]) if response.status < 400 else (text, headers)
        self.answer(response.status, kind, *changed)

    do_GET = do_HEAD = do_POST = handle_one

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer((ADDRESS, int(PORT)), Authority)
server.daemon_threads = True
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(CERT, KEY)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
