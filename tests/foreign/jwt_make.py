"""Writes a key set and tokens by PyJWT: jwt_make.py FOLDER. Prints a JSON object of tokens by what is about them."""

import json
import sys
import time

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

folder = sys.argv[1]
rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ec_key = ec.generate_private_key(ec.SECP256R1())
ed_key = ed25519.Ed25519PrivateKey.generate()
other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
secret = b"0123456789abcdef0123456789abcdef"

keys = []
for kid, key, made in [("r", rsa_key, RSAAlgorithm), ("e", ec_key, ECAlgorithm), ("d", ed_key, OKPAlgorithm)]:
    jwk = json.loads(made.to_jwk(key.public_key()))
    jwk.pop("key_ops", None)
    keys.append(dict(jwk, kid=kid))
# As providers publish them: a key for encryption, and one of a kind that is not known, stand beside the others.
keys.insert(0, dict(json.loads(RSAAlgorithm.to_jwk(other.public_key())), kid="enc", use="enc", alg="RSA-OAEP"))
keys[0].pop("key_ops", None)
keys.insert(0, {"kty": "AKP", "kid": "m", "alg": "ML-DSA-65", "pub": "AAAA"})
with open(folder + "/jwks.json", "w") as file:
    json.dump({"keys": keys}, file)

now = int(time.time())
claims = {"iss": "https://issuer.example", "aud": "shop", "sub": "me", "exp": now + 600}


def token(key, alg, kid, **changed):
    said = {k: v for k, v in dict(claims, **changed).items() if v is not None}
    return jwt.encode(said, key, algorithm=alg, headers={"kid": kid} if kid else None)


pem = rsa_key.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)


def confused():
    """A token "signed" by the public key as if that was a shared secret."""
    import base64
    import hashlib
    import hmac

    def part(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    head = part(json.dumps({"alg": "HS256", "typ": "JWT", "kid": "r"}).encode())
    body = part(json.dumps(claims).encode())
    signature = part(hmac.new(pem, head + b"." + body, hashlib.sha256).digest())
    return (head + b"." + body + b"." + signature).decode()


good = token(rsa_key, "RS256", "r")
print(
    json.dumps(
        {
            "good rs256": good,
            "good ps256": token(rsa_key, "PS256", "r"),
            "good es256": token(ec_key, "ES256", "e"),
            "good eddsa": token(ed_key, "EdDSA", "d"),
            "good without kid": token(ec_key, "ES256", None),
            "good of several audiences": token(rsa_key, "RS256", "r", aud=["x", "shop"]),
            "bad expired": token(rsa_key, "RS256", "r", exp=now - 600),
            "bad early": token(rsa_key, "RS256", "r", nbf=now + 600),
            "bad endless": token(rsa_key, "RS256", "r", exp=None),
            "bad issuer": token(rsa_key, "RS256", "r", iss="https://evil.example"),
            "bad issuer missing": token(rsa_key, "RS256", "r", iss=None),
            "bad audience": token(rsa_key, "RS256", "r", aud="other"),
            "bad audience missing": token(rsa_key, "RS256", "r", aud=None),
            "bad key": token(other, "RS256", "r"),
            "bad key for encryption": token(other, "RS256", "enc"),
            "bad critical extension": jwt.encode(
                claims, rsa_key, algorithm="RS256", headers={"kid": "r", "crit": ["x"], "x": 1}
            ),
            "bad kid": token(rsa_key, "RS256", "e"),
            "bad unknown kid": token(rsa_key, "RS256", "x"),
            "bad none": jwt.encode(claims, None, algorithm="none", headers={"kid": "r"}),
            "bad secret": token(secret, "HS256", "r"),
            "bad confused": confused(),
            "bad signature": good[:-8] + "AAAAAAAA",
            "bad cut": good.rsplit(".", 1)[0],
            "bad words": "not.a.token",
        }
    )
)
