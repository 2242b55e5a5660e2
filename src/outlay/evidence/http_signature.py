"""HTTP Message Signatures in one exact profile: one signature, fixed components, nothing optional that is not named.

The label is ``outlay``. Covered are ``@method``, ``@target-uri`` and, where there is a body, ``content-digest``; also
``outlay-records-head`` and ``outlay-batch-digest`` where those headers are sent. The parameters ``created``,
``expires``, ``nonce`` and ``keyid`` are required, ``alg`` may be given. Ed25519 and ECDSA P-256 sign. Everything else
is refused: a profile without choices has no downgrade.

Source: RFC 9421 (sections 2.1 to 2.5, 3.1 to 3.3, 4), RFC 9530 (Content-Digest), RFC 8941 (structured fields).
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from outlay.core.errors import ActionSignatureInvalid, InvalidInput
from outlay.evidence.keys import PrivateKey, PublicKey, load_public_key
from outlay.evidence.shape import is_digest

LABEL: Final = "outlay"
METHOD, TARGET, DIGEST = "@method", "@target-uri", "content-digest"
RECORDS_HEAD, BATCH_DIGEST = "outlay-records-head", "outlay-batch-digest"
COMPONENTS: Final = frozenset({METHOD, TARGET, DIGEST, RECORDS_HEAD, BATCH_DIGEST})
"""What a signature may cover; the first two always."""

LIFE_MAX_S: Final = 900
"""Seconds a signature may be good for."""

NONCE_MIN, NONCE_MAX = 22, 88
"""Characters of a nonce: at least 128 bits in base64."""

ED25519, P256 = "ed25519", "ecdsa-p256-sha256"

_STRING = r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"'
_LIST = re.compile(r'\(("[^"\\]*"(?: "[^"\\]*")*)\)')
_PARAMETER = re.compile(rf";([a-z]+)=(?:([0-9]{{1,11}})|{_STRING})")
_BYTES = re.compile(r":([A-Za-z0-9+/]+={0,2}):")
_NONCE = re.compile(rf"[A-Za-z0-9+/_=-]{{{NONCE_MIN},{NONCE_MAX}}}")
_DIGESTS = re.compile(r"(sha-256|sha-512)=:([A-Za-z0-9+/]+={0,2}):")
_INPUT_MAX, _KEY_ID_MAX, _TARGET_MAX = 2048, 512, 4096
_SIGNATURE_SIZE = 64
_HALF = _SIGNATURE_SIZE // 2


def _refuse(what: str) -> ActionSignatureInvalid:
    return ActionSignatureInvalid(f"the HTTP message signature is refused: {what}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What a signature says about itself; ``text`` is the exact line that is signed."""

    text: str
    components: tuple[str, ...]
    created: int  #: seconds UTC
    expires: int  #: seconds UTC, after ``created``
    nonce: str
    key_id: str  #: the credential's id
    algorithm: str | None


def read_parameters(text: str) -> Parameters:
    """Read the covered components and parameters of a signature, in their only spelling.

    Raises:
        ActionSignatureInvalid: malformed, or outside of the profile.
    """
    if len(text) > _INPUT_MAX or not text.isascii():
        raise _refuse("its input is too long, or not ASCII")
    listed = _LIST.match(text)
    if listed is None:
        raise _refuse("its input is not a list of components with parameters")
    components = tuple(each[1:-1] for each in listed[1].split(" "))
    unknown = [each for each in components if each not in COMPONENTS]
    if unknown or len(set(components)) != len(components):
        raise _refuse(f"it may cover only {', '.join(sorted(COMPONENTS))}, each once")
    if METHOD not in components or TARGET not in components:
        raise _refuse(f"it must cover {METHOD} and {TARGET}")
    given: dict[str, str | int] = {}
    at = listed.end()
    while at < len(text):
        found = _PARAMETER.match(text, at)
        if found is None or found[1] in given:
            raise _refuse("a parameter is malformed or given twice")
        given[found[1]] = int(found[2]) if found[2] is not None else re.sub(r"\\(.)", r"\1", found[3])
        if found[2] is not None and str(given[found[1]]) != found[2]:
            raise _refuse("a number is written with leading zeros")
        at = found.end()
    return _checked(text, components, given)


def _checked(text: str, components: tuple[str, ...], given: dict[str, str | int]) -> Parameters:
    if not given.keys() <= {"created", "expires", "nonce", "keyid", "alg"}:
        raise _refuse("it may have the parameters created, expires, nonce, keyid and alg, and no other")
    created, expires = given.get("created"), given.get("expires")
    nonce, key_id, algorithm = given.get("nonce"), given.get("keyid"), given.get("alg")
    if not isinstance(created, int) or not isinstance(expires, int) or not 0 < expires - created <= LIFE_MAX_S:
        raise _refuse(f"created and expires are required, and at most {LIFE_MAX_S} seconds apart")
    if not isinstance(nonce, str) or _NONCE.fullmatch(nonce) is None:
        raise _refuse(f"nonce is required: {NONCE_MIN} to {NONCE_MAX} characters of base64, 128 random bits or more")
    if not isinstance(key_id, str) or not 0 < len(key_id) <= _KEY_ID_MAX:
        raise _refuse("keyid is required: the id of your credential")
    if algorithm is not None and algorithm not in (ED25519, P256):
        raise _refuse(f"alg is {ED25519} or {P256}")
    return Parameters(
        text=text,
        components=components,
        created=created,
        expires=expires,
        nonce=nonce,
        key_id=key_id,
        algorithm=None if algorithm is None else str(algorithm),
    )


def read_headers(signature_input: str, signature: str) -> tuple[Parameters, bytes]:
    """Return the one signature of a request, from the values of ``Signature-Input`` and ``Signature``.

    Raises:
        ActionSignatureInvalid: another label, several signatures, malformed, or outside of the profile.
    """
    prefix = LABEL + "="
    if not signature_input.startswith(prefix) or not signature.startswith(prefix):
        raise _refuse(f"send one signature, labelled {LABEL}, in Signature-Input and Signature")
    found = _BYTES.fullmatch(signature.removeprefix(prefix))
    raw = None if found is None else _from_base64(found[1])
    if raw is None or len(raw) != _SIGNATURE_SIZE:
        raise _refuse(f"Signature must hold one signature of {_SIGNATURE_SIZE} bytes")
    return read_parameters(signature_input.removeprefix(prefix)), raw


def content_digest(body: bytes) -> str:
    """Return the value of ``Content-Digest`` for a body."""
    return f"sha-256=:{_to_base64(hashlib.sha256(body).digest())}:"


def check_content_digest(value: str, body: bytes) -> None:
    """Refuse a body that is not the one ``Content-Digest`` names; every digest it gives must be right.

    Raises:
        ActionSignatureInvalid: it is not, or there is a digest of another kind.
    """
    given = [_DIGESTS.fullmatch(each) for each in value.split(", ")]
    named = [found[1] for found in given if found is not None]
    if len(named) != len(given) or len(set(named)) != len(named):
        raise _refuse("Content-Digest holds sha-256, sha-512 or both, and nothing else")
    for found in given:
        assert found is not None
        right = hashlib.new(found[1].replace("-", ""), body).digest()
        if not hmac.compare_digest(_from_base64(found[2]) or b"", right):
            raise _refuse("the body is not the one that Content-Digest names")


@dataclass(frozen=True, kw_only=True)
class Message:
    """One signed request: everything its signature covers, and the signature. Nothing in it is trusted yet."""

    method: str
    target_uri: str
    content_digest: str | None = None
    records_head: str | None = None  #: hex hash of the newest record that the signer knew
    batch_digest: str | None = None  #: hex, see ``evidence.merkle``
    parameters: Parameters
    signature: bytes

    def __post_init__(self) -> None:
        """Refuse a header that is not covered, and a covered component that is not there.

        Raises:
            ActionSignatureInvalid: there is one.
        """
        for name, value in self._optional():
            if (value is None) == (name in self.parameters.components):
                raise _refuse(f"{name} must be both sent and covered, or neither")
        for name, value in ((RECORDS_HEAD, self.records_head), (BATCH_DIGEST, self.batch_digest)):
            if value is not None and not is_digest(value):
                raise _refuse(f"{name} must be 64 lower-case hex digits")
        if len(self.target_uri) > _TARGET_MAX or not (self.target_uri.isascii() and self.target_uri.isprintable()):
            raise _refuse("the target is too long, or not ASCII")

    def _optional(self) -> Sequence[tuple[str, str | None]]:
        return (
            (DIGEST, self.content_digest),
            (RECORDS_HEAD, self.records_head),
            (BATCH_DIGEST, self.batch_digest),
        )

    @cached_property
    def base(self) -> bytes:
        """The signature base: the exact bytes that are signed."""
        values = {METHOD: self.method, TARGET: self.target_uri, **dict(self._optional())}
        lines = [f'"{name}": {values[name]}' for name in self.parameters.components]
        return "\n".join([*lines, f'"@signature-params": {self.parameters.text}']).encode("ascii")

    def verify(self, public_key: str) -> None:
        """Accept the signature only if this key made it.

        Args:
            public_key: SPKI PEM.

        Raises:
            ActionSignatureInvalid: another key, a kind of key that cannot sign so, or ``alg`` names another kind.
        """
        try:
            key = load_public_key(public_key, field="publicKey")
        except InvalidInput as error:
            raise _refuse("the stored public key is not usable") from error
        kind = _kind_of(key)
        if kind is None:
            raise _refuse("only Ed25519 and P-256 keys sign HTTP messages")
        if self.parameters.algorithm not in (None, kind):
            raise _refuse(f"alg names another kind of key: this one is {kind}")
        try:
            if isinstance(key, ed25519.Ed25519PublicKey):
                key.verify(self.signature, self.base)
            elif isinstance(key, ec.EllipticCurvePublicKey):
                halves = (int.from_bytes(part, "big") for part in (self.signature[:_HALF], self.signature[_HALF:]))
                key.verify(encode_dss_signature(*halves), self.base, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature as error:
            raise _refuse("it does not verify with the key that keyid names") from error


def sign_message(
    key: PrivateKey,
    key_id: str,
    *,
    method: str,
    target_uri: str,
    body: bytes,
    created: int,
    nonce: str,
    life_s: int = 300,
    records_head: str | None = None,
    batch_digest: str | None = None,
) -> dict[str, str]:
    """Return the headers that sign a request; send them with exactly this body.

    Args:
        key: Ed25519 or P-256.
        key_id: the credential's id as the server lists it, printable ASCII.
        method: in capitals.
        target_uri: the whole address of the call, as the server's ``public_url`` begins it.
        body: the bytes that will be sent; empty for none.
        created: now, seconds UTC.
        nonce: never used before, 22 characters or more.
        life_s: seconds until it expires, at most 900.
        records_head: hash of the newest record of the organization that you know, hex.
        batch_digest: of the items in the body, hex.

    Raises:
        InvalidInput: a kind of key that cannot sign so. ActionSignatureInvalid: an argument is outside of the profile.
    """
    kind = _kind_of(key.public_key())
    if kind is None or not (key_id.isascii() and key_id.isprintable()):
        raise InvalidInput("only Ed25519 and P-256 keys with ASCII ids sign HTTP messages", field="key")
    headers = {
        **({DIGEST: content_digest(body)} if body else {}),
        **({RECORDS_HEAD: records_head} if records_head is not None else {}),
        **({BATCH_DIGEST: batch_digest} if batch_digest is not None else {}),
    }
    names = " ".join(f'"{name}"' for name in (METHOD, TARGET, *headers))
    quoted = re.sub(r'(["\\])', r"\\\1", key_id)
    text = f'({names});created={created};expires={created + life_s};nonce="{nonce}";keyid="{quoted}";alg="{kind}"'
    message = Message(
        method=method,
        target_uri=target_uri,
        content_digest=headers.get(DIGEST),
        records_head=records_head,
        batch_digest=batch_digest,
        parameters=read_parameters(text),
        signature=b"",
    )
    return {
        **headers,
        "signature-input": f"{LABEL}={text}",
        "signature": f"{LABEL}=:{_to_base64(_sign(key, message.base))}:",
    }


def _sign(key: PrivateKey, base: bytes) -> bytes:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(base)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    halves = decode_dss_signature(key.sign(base, ec.ECDSA(hashes.SHA256())))
    return b"".join(each.to_bytes(_HALF, "big") for each in halves)


def _kind_of(key: PublicKey) -> str | None:
    if isinstance(key, ed25519.Ed25519PublicKey):
        return ED25519
    is_p256 = isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
    return P256 if is_p256 else None


def _to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _from_base64(text: str) -> bytes | None:
    """Return the bytes of a base64 text in its only spelling, or None."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if _to_base64(data) == text else None
