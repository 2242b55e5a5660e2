"""Attestations: a new credential says over which challenge it was made, and a key proves that it is held."""

import hashlib
import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from outlay.core.errors import ActionSignatureInvalid, InvalidInput
from outlay.evidence.assertion import FIDO2, KEY, read_client_data
from outlay.evidence.base64url import from_base64url, to_base64url
from outlay.evidence.canonical import read_json
from outlay.evidence.keys import (
    fingerprint,
    load_private_key,
    load_public_key,
    new_key_pair,
    normal_pem,
    sign_bytes,
    signature_fits,
)
from outlay.evidence.passkey import verify_passkey
from outlay.evidence.shape import members

__all__ = ["Attested", "attest", "fingerprint", "key_attestation", "new_key_pair", "verify_attestation"]

_LIMIT = 16 * 1024
_CRED_ID_LIMIT = 1024
_HEX = re.compile(r"(?:[0-9a-fA-F]{2}){1,1024}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attested:
    """A new credential, of either kind."""

    kind: str  #: ``Key`` or ``Fido2``
    credential_id: str
    public_key: str  #: SPKI PEM
    relying_party_id: str | None = None  #: passkeys only
    origin: str | None = None  #: passkeys only: the page it was made on
    sign_count: int | None = None  #: passkeys only

    def document(self) -> dict[str, str]:
        """Return what its record says beyond what it says of every key."""
        return {} if self.relying_party_id is None else {"kind": self.kind, "relyingPartyId": self.relying_party_id}


def attest(
    credential_info: object,
    challenge: str,
    *,
    kind: str,
    relying_party_id: str | None = None,
    origins: Collection[str] | None = None,
    field: str = "credentialKind",
) -> Attested:
    """Return the new credential that answers ``challenge``.

    Args:
        credential_info: as parsed.
        challenge: the text handed to the client.
        kind: ``Key`` or ``Fido2``.
        relying_party_id: the domain that a passkey must be bound to.
        origins: as ``verify_passkey``.
        field: named where the kind is another.

    Raises:
        InvalidInput, ActionSignatureInvalid: as ``verify_attestation`` and ``verify_passkey``, or another kind.
    """
    if kind == KEY and relying_party_id is None:
        public_key = verify_attestation(credential_info, challenge)
        return Attested(kind=KEY, credential_id=_name_in(credential_info), public_key=public_key)
    if kind != FIDO2 or relying_party_id is None:
        raise InvalidInput(f"{field} must be Key or Fido2", field=field)
    found = verify_passkey(credential_info, challenge, relying_party_id=relying_party_id, origins=origins)
    return Attested(
        kind=FIDO2,
        credential_id=_name_in(credential_info),
        public_key=found.public_key,
        relying_party_id=relying_party_id,
        origin=found.origin,
        sign_count=found.sign_count,
    )


def _name_in(credential_info: object) -> str:
    assert isinstance(credential_info, dict), "it was verified"
    return str(credential_info["credId"])


def key_attestation(private_key_pem: str, challenge: str, *, cred_id: str | None = None) -> dict[str, str]:
    """Return the ``credentialInfo`` that registers the key.

    Args:
        private_key_pem: unencrypted PEM of the new key.
        challenge: the server's text.
        cred_id: the name the key will sign under; by default the base64url SHA-256 of the public key.

    Raises:
        InvalidInput: the key is not one that a credential may have.

    Source: dfns-api.md 2.5.
    """
    key = load_private_key(private_key_pem)
    public = normal_pem(key.public_key())
    client_data = _compact({"challenge": challenge, "type": "key.create"})
    signature = sign_bytes(key, _fingerprint_text(client_data, public)).hex()
    return {
        "credId": cred_id or to_base64url(bytes.fromhex(fingerprint(public))),
        "clientData": to_base64url(client_data),
        "attestationData": to_base64url(_compact({"publicKey": public, "signature": signature})),
    }


def verify_attestation(credential_info: object, challenge: str) -> str:
    """Return the attested public key as SPKI PEM.

    Args:
        credential_info: ``{"credId", "clientData", "attestationData"}`` as parsed; base64url, padding tolerated.
        challenge: the text handed to the client.

    Raises:
        InvalidInput: a member is missing, unknown or malformed, or the key is of a kind that is not taken.
        ActionSignatureInvalid: another type or challenge, or the new key did not sign this.

    Source: dfns-api.md 2.5.
    """
    field = "credentialInfo"
    given = members(credential_info, field, {"credId": str, "clientData": str, "attestationData": str})
    if not 0 < len(given["credId"]) <= _CRED_ID_LIMIT:
        raise InvalidInput(f"{field}.credId must be 1 to {_CRED_ID_LIMIT} long", field=f"{field}.credId")
    client_data = _decoded(given["clientData"], f"{field}.clientData")
    path = f"{field}.attestationData"
    attested = members(
        read_json(_decoded(given["attestationData"], path), field=path),
        path,
        {"publicKey": str, "signature": str},
        {"algorithm": str},
    )
    if _HEX.fullmatch(attested["signature"]) is None:
        raise InvalidInput(f"{path}.signature must be hex", field=f"{path}.signature")
    key = load_public_key(attested["publicKey"], field=f"{path}.publicKey")
    signed = read_client_data(client_data)
    if signed.get("type") != "key.create":
        raise ActionSignatureInvalid("the client data must be of type key.create")
    if signed.get("challenge") != challenge or signed.get("crossOrigin", False) is not False:
        raise ActionSignatureInvalid("the client data is for another challenge")
    message = _fingerprint_text(client_data, attested["publicKey"])
    signature = bytes.fromhex(attested["signature"])
    if not signature_fits(key, signature, message, attested.get("algorithm")):
        raise ActionSignatureInvalid("the attestation's signature does not verify with its own public key")
    return normal_pem(key)


def _fingerprint_text(client_data: bytes, public_pem: str) -> bytes:
    digest = hashlib.sha256(client_data).hexdigest()
    return _compact({"clientDataHash": digest, "publicKey": public_pem})


def _compact(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def _decoded(text: str, field: str) -> bytes:
    if len(text) > _LIMIT:
        raise InvalidInput(f"{field} is longer than {_LIMIT}", field=field)
    return from_base64url(text, field=field, padded=True)
