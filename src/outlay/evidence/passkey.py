"""New passkeys: what a browser says when one is made, read strictly.

Nobody is asked to attest the maker of an authenticator: a passkey counts because a person vouches for its fingerprint.
So statements are taken in two forms only: none, and the passkey's own signature. Whether the key is really held shows
the first time it signs.
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from outlay.core.errors import ActionSignatureInvalid, InvalidInput
from outlay.evidence.assertion import (
    ATTESTED,
    EXTENDED,
    PLAIN_SIZE,
    read_authenticator,
    verify_client_data,
)
from outlay.evidence.base64url import from_base64url, to_base64url
from outlay.evidence.cbor import read_cbor, read_cbor_prefix
from outlay.evidence.keys import PublicKey, load_public_key, normal_pem, signature_fits
from outlay.evidence.shape import members

ALGORITHMS = (-8, -7, -257)
"""COSE numbers of what passkeys may sign with: Ed25519, ECDSA on P-256, RSA PKCS #1; SHA-256 both."""

NAME_MAX = 1024
"""Characters of a passkey's name, which is its raw id in base64url."""

_LIMIT = 16 * 1024
_AAGUID_SIZE = 16
_KTY, _ALG = 1, 3  # members of every COSE key
_OKP, _EC2, _RSA = 1, 2, 3
_P256_SIZE = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPasskey:
    """A passkey as its browser introduced it."""

    public_key: str  #: SPKI PEM
    origin: str  #: the page it was made on
    sign_count: int


def verify_passkey(
    credential_info: object, challenge: str, *, relying_party_id: str, origins: Collection[str] | None
) -> NewPasskey:
    """Return the passkey that was made for exactly this challenge.

    Args:
        credential_info: ``{"credId", "clientData", "attestationData"}`` as parsed; base64url. ``attestationData`` is
            the attestation object.
        challenge: the text handed to the client.
        relying_party_id: the domain it must be bound to.
        origins: where it may have been made; None: anywhere, for whoever reads old evidence and knows the relying
            party only.

    Raises:
        InvalidInput: a member is missing, unknown or malformed, or the key or the statement is of a kind that is not
            taken.
        ActionSignatureInvalid: another type, challenge, origin or relying party, a cross-origin frame, nobody was
            present or verified, another id, or the statement's signature does not verify.

    Source: W3C Web Authentication Level 2, 7.1, without the counter (see ``verify_assertion``).
    """
    field = "credentialInfo"
    given = members(credential_info, field, {"credId": str, "clientData": str, "attestationData": str})
    client_data = _decoded(given["clientData"], f"{field}.clientData")
    path = f"{field}.attestationData"
    attestation = members(
        read_cbor(_decoded(given["attestationData"], path), field=path),
        path,
        {"fmt": str, "attStmt": dict, "authData": bytes},
    )
    stated = verify_client_data(client_data, "webauthn.create", challenge)
    origin = stated.get("origin")
    if not isinstance(origin, str) or (origins is not None and origin not in origins):
        raise ActionSignatureInvalid("the passkey was made on an origin that is not allowed here")
    data: bytes = attestation["authData"]
    flags = read_authenticator(data, relying_party_id)
    raw_id, cose = _read_attested(data, flags, path)
    if not given["credId"] or len(given["credId"]) > NAME_MAX or given["credId"] != to_base64url(raw_id):
        raise ActionSignatureInvalid("credId is not the id of the passkey")
    key = _read_key(cose, path)
    _verify_statement(attestation, key, cose[_ALG], hashlib.sha256(client_data).digest(), path)
    count = int.from_bytes(data[PLAIN_SIZE - 4 : PLAIN_SIZE], "big")
    return NewPasskey(public_key=normal_pem(key), origin=origin, sign_count=count)


def _decoded(text: str, field: str) -> bytes:
    if len(text) > _LIMIT:
        raise InvalidInput(f"{field} is longer than {_LIMIT}", field=field)
    return from_base64url(text, field=field, padded=True)


def _read_attested(data: bytes, flags: int, field: str) -> tuple[bytes, dict[Any, Any]]:
    """Return the raw id and the COSE key that follow the counter; extensions after them must be announced."""
    if not flags & ATTESTED:
        raise ActionSignatureInvalid("the authenticator data holds no new credential")
    begin = PLAIN_SIZE + _AAGUID_SIZE + 2
    size = int.from_bytes(data[begin - 2 : begin], "big")
    if len(data) < begin + size:
        raise ActionSignatureInvalid("the authenticator data ends early")
    cose, end = read_cbor_prefix(data, begin + size, field=field)
    if flags & EXTENDED:
        extensions, end = read_cbor_prefix(data, end, field=field)
        if not isinstance(extensions, dict):
            raise InvalidInput(f"{field} has extensions that are no map", field=field)
    if end != len(data) or not isinstance(cose, dict):
        raise ActionSignatureInvalid("the authenticator data has unexpected content")
    return data[begin : begin + size], cose


def _read_key(cose: dict[Any, Any], field: str) -> PublicKey:
    """Return the public key, with every check that keys in PEM get.

    Source: RFC 9053, RFC 8230.
    """
    try:
        key = _public_key(cose)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(
            f"{field} holds no key that is taken: Ed25519, P-256, or RSA with SHA-256", field=field
        ) from error
    return load_public_key(normal_pem(key), field=field)


def _public_key(cose: dict[Any, Any]) -> PublicKey:
    kind = (cose[_KTY], cose[_ALG])
    if kind == (_OKP, -8):
        _expect_only(cose, -1, -2)
        if cose[-1] != 6:  # Ed25519
            raise ValueError("another curve")
        return ed25519.Ed25519PublicKey.from_public_bytes(cose[-2])
    if kind == (_EC2, -7):
        _expect_only(cose, -1, -2, -3)
        x, y = cose[-2], cose[-3]
        if cose[-1] != 1 or not isinstance(x, bytes) or not isinstance(y, bytes):  # 1: P-256
            raise ValueError("another curve, or a compressed point")
        if len(x) != _P256_SIZE or len(y) != _P256_SIZE:
            raise ValueError("coordinates of another size")
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + x + y)
    if kind == (_RSA, -257):
        _expect_only(cose, -1, -2)
        modulus, exponent = int.from_bytes(cose[-1], "big"), int.from_bytes(cose[-2], "big")
        return rsa.RSAPublicNumbers(exponent, modulus).public_key()
    raise ValueError("another algorithm")


def _expect_only(cose: dict[Any, Any], *names: int) -> None:
    if set(cose) != {_KTY, _ALG, *names} or any(type(cose[name]) not in (int, bytes) for name in cose):
        raise ValueError("unexpected members")


def _verify_statement(attestation: dict[str, Any], key: PublicKey, algorithm: int, hashed: bytes, field: str) -> None:
    """Accept no statement, or the passkey's own signature: see the module's own text for why no others."""
    form, statement = attestation["fmt"], attestation["attStmt"]
    if form == "none" and statement == {}:
        return
    if form != "packed" or set(statement) != {"alg", "sig"} or not isinstance(statement["sig"], bytes):
        raise InvalidInput(f'{field} has a statement of a form that is not taken: ask for "none"', field=field)
    signed = attestation["authData"] + hashed
    if statement["alg"] != algorithm or not signature_fits(key, statement["sig"], signed, None):
        raise ActionSignatureInvalid("the passkey's statement does not verify with its own public key")
