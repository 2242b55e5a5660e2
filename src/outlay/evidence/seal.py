"""Sealed tokens: documents the server hands out and takes back, which nobody else can read, make or change.

Two shapes: a sealed document (encrypted; ``<kid>.<base64url>``) and a signed bearer token (JWT shaped, because the
JavaScript SDK reads its claims). The keys live in one file outside the database, current and previous. A leaked
key forges no evidence: whoever opens a token verifies the assertion inside again.
"""

import base64
import binascii
import hmac
import json
import os
import stat
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256, SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from outlay.core.errors import ActionSignatureInvalid, InvalidInput, NotAuthenticated, Unavailable
from outlay.core.seams import Entropy
from outlay.evidence.base64url import from_base64url, to_base64url
from outlay.evidence.canonical import STORED_DEPTH, canonical, read_json
from outlay.evidence.shape import members

_KEY_SIZE = 32
_SALT_SIZE = 24
_SEAL_LIMIT = 64 * 1024
_TOKEN_LIMIT = 8 * 1024


class SealBroken(ActionSignatureInvalid):
    """The sealed token was not made here for this purpose, or was changed."""


class _OperatingSystem:
    """Entropy of the operating system."""

    def token(self, size: int) -> bytes:
        """Return ``size`` unpredictable bytes."""
        return os.urandom(size)


@dataclass(frozen=True, slots=True)
class _Ring:
    """The keys as one file held them at one moment."""

    current: str
    previous: str | None
    keys: dict[str, bytes]
    mark: tuple[int, int, int]  #: inode, size and change time of the file


class SealingKeys:
    """The current and the previous sealing key, read from a file of mode 0600.

    The file is read again when it was replaced, so that a rotation reaches every running process.
    """

    def __init__(self, path: Path, ring: _Ring, entropy: Entropy) -> None:
        """Use ``load`` or ``create``."""
        self._path = path
        self._ring = ring
        self._entropy = entropy

    @classmethod
    def create(cls, path: Path, entropy: Entropy) -> "SealingKeys":
        """Write a new key file and return its keys.

        Raises:
            InvalidInput: the file exists already.
        """
        if path.exists():
            raise InvalidInput(f"{path} exists already: rotate it instead", field="sealing_keys")
        kid, key = _new_key(entropy)
        _write_ring(path, kid, None, {kid: key})
        return cls.load(path, entropy)

    @classmethod
    def load(cls, path: Path, entropy: Entropy | None = None) -> "SealingKeys":
        """Read the key file.

        Args:
            path: the file ``create`` wrote.
            entropy: where salts come from; the operating system if not given.

        Raises:
            InvalidInput: no such file, readable by others, or malformed.
        """
        return cls(path, _read_ring(path), entropy or _OperatingSystem())

    def rotate(self) -> str:
        """Put a new key in front and drop the one before the current one; return the new key's name.

        What the current key sealed or signed still opens until the next rotation, bearer tokens included:
        rotating twice within a token's life logs its holder out.
        """
        ring = self._fresh()
        kid, key = _new_key(self._entropy)
        _write_ring(self._path, kid, ring.current, {kid: key, ring.current: ring.keys[ring.current]})
        self._ring = _read_ring(self._path)
        return kid

    def seal(self, purpose: str, document: dict[str, Any]) -> str:
        """Return ``document`` encrypted for one purpose, as ``<kid>.<base64url>``.

        Args:
            purpose: must be given again to ``open``.
            document: a JSON object with a canonical form.

        Raises:
            CanonicalError: the document has no canonical form.
        """
        ring = self._fresh()
        salt = self._entropy.token(_SALT_SIZE)
        cipher, nonce, bound = _cipher(ring.keys[ring.current], ring.current, purpose, salt)
        return f"{ring.current}.{to_base64url(salt + cipher.encrypt(nonce, canonical(document), bound))}"

    def open(self, purpose: str, text: str) -> dict[str, Any]:
        """Return the document that ``seal`` was given for the same purpose.

        Raises:
            SealBroken: unknown key, another purpose, any changed character, or not a sealed token at all.
        """
        kid, dot, body = text[:_SEAL_LIMIT].partition(".")
        key = self._fresh().keys.get(kid)
        if key is None or not dot or len(text) > _SEAL_LIMIT:
            raise SealBroken("the token is not one of ours, or too old: start again")
        try:
            sealed = from_base64url(body, field="token")
            cipher, nonce, bound = _cipher(key, kid, purpose, sealed[:_SALT_SIZE])
            document = read_json(cipher.decrypt(nonce, sealed[_SALT_SIZE:], bound), max_depth=STORED_DEPTH)
        except (InvalidTag, InvalidInput, ValueError) as error:
            raise SealBroken("the token was changed or made for another purpose: start again") from error
        if not isinstance(document, dict):
            raise SealBroken("the token does not hold a document")
        return document

    def derive(self, text: str, size: int) -> bytes:
        """Return ``size`` bytes that follow from ``text`` and the current key: the same ones until it is rotated."""
        ring = self._fresh()
        bound = b"outlay.derived.v1\n" + sha256(text.encode("utf-8", "surrogatepass")).digest()
        return HKDFExpand(SHA512(), size, bound).derive(ring.keys[ring.current])

    def sign_token(self, claims: dict[str, Any]) -> str:
        """Return a bearer token with these claims: a JWT signed with HMAC-SHA256.

        Raises:
            CanonicalError: the claims have no canonical form.

        Source: RFC 7515, RFC 7519.
        """
        ring = self._fresh()
        signed = f"{to_base64url(_token_header(ring.current))}.{to_base64url(canonical(claims))}"
        return f"{signed}.{to_base64url(_token_tag(ring.keys[ring.current], signed))}"

    def read_token(self, text: str) -> dict[str, Any]:
        """Return the claims of a bearer token signed here. Expiry and revocation are the caller's to check.

        Raises:
            NotAuthenticated: not a token, another algorithm (``none`` included), unknown key, or changed.
        """
        parts = text.split(".", 3)
        if len(text) > _TOKEN_LIMIT or len(parts) != 3:
            raise NotAuthenticated("the bearer token is malformed: log in again")
        try:
            header, payload, tag = (from_base64url(part, field="token") for part in parts)
            given = members(read_json(header, field="token"), "token", {"alg": str, "kid": str, "typ": str})
            key = self._fresh().keys.get(given["kid"])
            # The whole header is fixed but for the key's name: no algorithm is ever taken from the token.
            if key is None or header != _token_header(given["kid"]):
                raise NotAuthenticated("the bearer token is not one of ours, or too old: log in again")
            if not hmac.compare_digest(tag, _token_tag(key, f"{parts[0]}.{parts[1]}")):
                raise NotAuthenticated("the bearer token was changed: log in again")
            claims = read_json(payload, field="token")
        except InvalidInput as error:
            raise NotAuthenticated("the bearer token is malformed: log in again") from error
        if not isinstance(claims, dict):
            raise NotAuthenticated("the bearer token has no claims: log in again")
        return claims

    def _fresh(self) -> _Ring:
        try:
            if _mark(self._path) != self._ring.mark:
                self._ring = _read_ring(self._path)
        except (OSError, InvalidInput) as error:
            raise Unavailable("the sealing keys cannot be read: restore their file") from error
        return self._ring


def _cipher(key: bytes, kid: str, purpose: str, salt: bytes) -> tuple[AESGCM, bytes, bytes]:
    """Return cipher, nonce and associated data of one token.

    Every token has a key of its own, so the number of tokens under one file is not bounded by GCM's 96-bit nonce.
    """
    bound = f"outlay.seal.v1\n{kid}\n{purpose}".encode()
    derived = HKDFExpand(SHA512(), 44, bound + b"\n" + salt).derive(key)
    return AESGCM(derived[:32]), derived[32:], bound


def _token_header(kid: str) -> bytes:
    return canonical({"alg": "HS256", "kid": kid, "typ": "JWT"})


def _token_tag(key: bytes, signed: str) -> bytes:
    return hmac.digest(_bearer_key(key), signed.encode("ascii"), sha256)


@lru_cache(maxsize=4)
def _bearer_key(key: bytes) -> bytes:
    # Kept, because every request carries a bearer token and its key follows from the ring's, which is kept too.
    return HKDFExpand(SHA256(), 32, b"outlay.bearer.v1").derive(key)


def _new_key(entropy: Entropy) -> tuple[str, bytes]:
    return entropy.token(6).hex(), entropy.token(_KEY_SIZE)


def _mark(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _write_ring(path: Path, current: str, previous: str | None, keys: dict[str, bytes]) -> None:
    document = {
        "current": current,
        "previous": previous,
        "keys": {kid: base64.b64encode(key).decode("ascii") for kid, key in keys.items()},
    }
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        json.dump(document, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)  # atomic: a reader sees the old file or the new one
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _read_ring(path: Path) -> _Ring:
    field = "sealing_keys"
    try:
        mark = _mark(path)
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise InvalidInput(f"{path} can be read by others: chmod 600", field=field)
        document = members(
            read_json(path.read_bytes(), field=field),
            field,
            {"current": str, "keys": dict, "previous": object},
        )
        keys = {kid: base64.b64decode(key, validate=True) for kid, key in document["keys"].items()}
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}", field=field) from error
    except (binascii.Error, TypeError, ValueError) as error:
        raise InvalidInput(f"{path} holds a malformed key", field=field) from error
    current, previous = document["current"], document["previous"]
    if not (previous is None or isinstance(previous, str)):
        raise InvalidInput(f"{path} names a malformed previous key", field=field)
    if set(keys) != {kid for kid in (current, previous) if kid is not None}:
        raise InvalidInput(f"{path} must hold exactly the current and the previous key", field=field)
    if any(len(key) != _KEY_SIZE for key in keys.values()):
        raise InvalidInput(f"{path} holds a key that is not {_KEY_SIZE} bytes", field=field)
    return _Ring(current, previous, keys, mark)
