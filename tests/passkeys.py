"""An authenticator in software: passkeys as a browser and its authenticator make and use them, rightly or wrongly.

    passkey = Passkey.make("P-256", relying_party="localhost", origin="http://localhost:8000")
    info = passkey.created(begun["challenge"])         # the credentialInfo that registers it
    factor = passkey.used(begun["challenge"])          # the firstFactor that answers a challenge

Everything a client states can be changed by name, so that tests can lie: flags, origin, relying party, counter, type,
the members of the client data, the attestation's format, and bytes of the authenticator data.
"""

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from outlay.evidence.base64url import to_base64url

PRESENT, VERIFIED, ELIGIBLE, BACKED_UP, ATTESTED, EXTENDED = 0x01, 0x04, 0x08, 0x10, 0x40, 0x80
GOOD = PRESENT | VERIFIED
AAGUID = bytes(16)

_MADE: Mapping[str, Any] = {
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "RSA": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
}
KINDS = tuple(_MADE)


def cbor(value: Any) -> bytes:
    """Return ``value`` as CBOR, in the order given and with the shortest lengths."""
    if value is None or isinstance(value, bool):
        return {None: b"\xf6", True: b"\xf5", False: b"\xf4"}[value]
    if isinstance(value, int):
        return _head(0, value) if value >= 0 else _head(1, -1 - value)
    if isinstance(value, bytes):
        return _head(2, len(value)) + value
    if isinstance(value, str):
        return _head(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return _head(4, len(value)) + b"".join(cbor(each) for each in value)
    return _head(5, len(value)) + b"".join(cbor(name) + cbor(each) for name, each in value.items())


def _head(kind: int, size: int) -> bytes:
    if size < 24:
        return bytes([kind << 5 | size])
    for short, width in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if size < 1 << (8 * width):
            return bytes([kind << 5 | short]) + size.to_bytes(width, "big")
    raise ValueError("too large")


def cose(public_key: Any) -> dict[int, Any]:
    """Return a public key as authenticators write it."""
    if isinstance(public_key, ed25519.Ed25519PublicKey):
        return {1: 1, 3: -8, -1: 6, -2: public_key.public_bytes_raw()}
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        point = public_key.public_numbers()
        return {1: 2, 3: -7, -1: 1, -2: point.x.to_bytes(32, "big"), -3: point.y.to_bytes(32, "big")}
    numbers = public_key.public_numbers()
    return {1: 3, 3: -257, -1: numbers.n.to_bytes(public_key.key_size // 8, "big"), -2: numbers.e.to_bytes(3, "big")}


@dataclass(frozen=True, kw_only=True)
class Passkey:
    """One passkey, and how its browser behaves."""

    key: Any  #: private key
    relying_party: str
    origin: str
    raw_id: bytes = field(default_factory=lambda: secrets.token_bytes(20))
    flags: int = GOOD
    count: int = 0

    @classmethod
    def make(cls, kind: str = "P-256", *, relying_party: str, origin: str, **stated: Any) -> "Passkey":
        """Return a new passkey; ``kind`` is one of ``KINDS``."""
        return cls(key=_MADE[kind](), relying_party=relying_party, origin=origin, **stated)

    def but(self, **changes: Any) -> "Passkey":
        """Return the same passkey in a browser or authenticator that behaves otherwise."""
        return replace(self, **changes)

    @property
    def cred_id(self) -> str:
        """The name that clients call it by."""
        return to_base64url(self.raw_id)

    @property
    def public_pem(self) -> str:
        """Its public key as SPKI PEM."""
        text = self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return str(text.decode())

    def client_data(self, kind: str, challenge: str, **more: Any) -> bytes:
        """Return client data in the order in which browsers write it."""
        stated = {"type": kind, "challenge": challenge, "origin": self.origin, "crossOrigin": False, **more}
        return json.dumps(stated, separators=(",", ":")).encode()

    def authenticator_data(self, flags: int, *, rest: bytes = b"") -> bytes:
        """Return authenticator data that ends with ``rest``."""
        party = hashlib.sha256(self.relying_party.encode()).digest()
        return party + bytes([flags]) + self.count.to_bytes(4, "big") + rest

    def attested(self, *, cose_key: Any = None, extensions: bytes = b"") -> bytes:
        """Return the authenticator data of a new passkey."""
        key = cbor(cose(self.key.public_key()) if cose_key is None else cose_key)
        rest = AAGUID + len(self.raw_id).to_bytes(2, "big") + self.raw_id + key + extensions
        return self.authenticator_data(self.flags | ATTESTED | (EXTENDED if extensions else 0), rest=rest)

    def sign(self, message: bytes) -> bytes:
        """Return the signature over ``message``."""
        if isinstance(self.key, ed25519.Ed25519PrivateKey):
            return self.key.sign(message)
        if isinstance(self.key, ec.EllipticCurvePrivateKey):
            return self.key.sign(message, ec.ECDSA(hashes.SHA256()))
        signature: bytes = self.key.sign(message, padding.PKCS1v15(), hashes.SHA256())
        return signature

    def created(
        self, challenge: str, *, form: str = "none", kind: str = "webauthn.create", more: Any = None, **data: Any
    ) -> dict[str, str]:
        """Return the ``credentialInfo`` of the new passkey; ``form`` is ``none`` or ``packed``: its own signature."""
        client_data = self.client_data(kind, challenge, **(more or {}))
        authenticator = self.attested(**data)
        statement: dict[str, Any] = {}
        if form == "packed":
            signature = self.sign(authenticator + hashlib.sha256(client_data).digest())
            statement = {"alg": cose(self.key.public_key())[3], "sig": signature}
        attestation = cbor({"fmt": form, "attStmt": statement, "authData": authenticator})
        return {
            "credId": self.cred_id,
            "clientData": to_base64url(client_data),
            "attestationData": to_base64url(attestation),
        }

    def used(
        self, challenge: str, *, kind: str = "webauthn.get", more: Any = None, rest: bytes = b""
    ) -> dict[str, Any]:
        """Return the ``firstFactor`` that answers ``challenge``."""
        client_data = self.client_data(kind, challenge, **(more or {}))
        authenticator = self.authenticator_data(self.flags, rest=rest)
        signature = self.sign(authenticator + hashlib.sha256(client_data).digest())
        return {
            "kind": "Fido2",
            "credentialAssertion": {
                "credId": self.cred_id,
                "clientData": to_base64url(client_data),
                "authenticatorData": to_base64url(authenticator),
                "signature": to_base64url(signature),
                "userHandle": None,
            },
        }
