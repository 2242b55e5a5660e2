"""Assertions: a credential's signature over a challenge, as a key signer or a passkey makes it.

Verification is over the bytes received. The stored public key decides the algorithm, never the request.
"""

import hashlib
import hmac
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Self

from outlay.core.errors import ActionSignatureInvalid, InvalidInput
from outlay.evidence.base64url import from_base64url, to_base64url
from outlay.evidence.canonical import read_json
from outlay.evidence.keys import PublicKey, load_public_key, signature_fits
from outlay.evidence.shape import members

__all__ = [
    "FIDO2",
    "KEY",
    "Assertion",
    "Credential",
    "PublicKey",
    "load_public_key",
    "parse_assertion",
    "read_authenticator",
    "read_client_data",
    "verify_assertion",
    "verify_client_data",
]

KEY, FIDO2 = "Key", "Fido2"

_CLIENT_DATA_LIMIT = 4096
_SIGNATURE_LIMIT = 1024
_AUTHENTICATOR_LIMIT = 4096
_NAME_LIMIT = 1024

PLAIN_SIZE = 37
"""Bytes of authenticator data without key and extensions: hash of the relying party, flags, four of counter."""

ATTESTED, EXTENDED = 0x40, 0x80
"""Flags of authenticator data: a new key follows, extensions follow."""

_RP_HASH_SIZE = 32
_PRESENT, _VERIFIED, _ELIGIBLE, _BACKED_UP = 0x01, 0x04, 0x08, 0x10


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A registered public key and whose it is."""

    uuid: str  #: our identifier, ``cr-...``
    credential_id: str  #: what the client names in an assertion
    user_id: str
    kind: str  #: ``Key`` or ``Fido2``
    public_key: str  #: PEM
    relying_party_id: str | None = None  #: passkeys: the domain it is bound to
    origins: tuple[str, ...] = ()  #: passkeys: origins it may be used from; empty: any that is allowed
    sign_count: int = 0  #: passkeys: the counter at registration


@dataclass(frozen=True, slots=True, kw_only=True)
class Assertion:
    """One answer to a challenge, in the bytes received."""

    kind: str  #: ``Key`` or ``Fido2``
    cred_id: str
    client_data: bytes
    signature: bytes
    authenticator_data: bytes | None = None  #: passkeys only
    user_handle: str | None = None  #: passkeys only, not relied upon
    algorithm: str | None = None  #: keys only: the digest the client states

    def document(self) -> dict[str, Any]:
        """Return the assertion as the ``firstFactor`` of the wire, without members that are absent."""
        fields: dict[str, Any] = {
            "credId": self.cred_id,
            "clientData": to_base64url(self.client_data),
            "signature": to_base64url(self.signature),
        }
        if self.authenticator_data is not None:
            fields["authenticatorData"] = to_base64url(self.authenticator_data)
        if self.user_handle is not None:
            fields["userHandle"] = self.user_handle
        if self.algorithm is not None:
            fields["algorithm"] = self.algorithm
        return {"kind": self.kind, "credentialAssertion": fields}

    @classmethod
    def from_document(cls, document: object) -> Self:
        """Read what ``document`` wrote, or a ``firstFactor`` from the wire.

        Raises:
            InvalidInput: a member is missing, unknown, malformed or too long.
        """
        field = "firstFactor"
        given = members(document, field, {"kind": str, "credentialAssertion": dict})
        kind = given["kind"]
        if kind not in (KEY, FIDO2):
            raise InvalidInput(f"{field}.kind must be Key or Fido2", field=f"{field}.kind")
        field = f"{field}.credentialAssertion"
        required: dict[str, type] = {"credId": str, "clientData": str, "signature": str}
        if kind == FIDO2:
            required["authenticatorData"] = str
        # Browsers state an absent user handle, JSON clients an absent algorithm, as null.
        stated = {name: value for name, value in given["credentialAssertion"].items() if value is not None}
        sent = members(stated, field, required, {"userHandle" if kind == FIDO2 else "algorithm": str})
        return cls(
            kind=kind,
            cred_id=_short(sent, "credId", field),
            client_data=_decoded(sent, "clientData", field, _CLIENT_DATA_LIMIT),
            signature=_decoded(sent, "signature", field, _SIGNATURE_LIMIT),
            authenticator_data=(
                _decoded(sent, "authenticatorData", field, _AUTHENTICATOR_LIMIT) if kind == FIDO2 else None
            ),
            user_handle=_short(sent, "userHandle", field) if "userHandle" in sent else None,
            algorithm=_short(sent, "algorithm", field) if "algorithm" in sent else None,
        )


def parse_assertion(first_factor: object) -> Assertion:
    """Read the ``firstFactor`` of a request.

    Args:
        first_factor: ``{"kind", "credentialAssertion": {...}}`` as parsed; binary members are base64url, padding
            tolerated.

    Raises:
        InvalidInput: a member is missing, unknown, malformed or too long; ``field`` names it.

    Source: dfns-api.md 2.7.
    """
    return Assertion.from_document(first_factor)


def verify_assertion(assertion: Assertion, credential: Credential, challenge: str, *, origins: Collection[str]) -> None:
    """Accept the assertion only if this credential signed exactly this challenge.

    Args:
        assertion: as received.
        credential: the one stored under the assertion's credential id.
        challenge: the text handed to the client.
        origins: web origins a passkey may be used from, e.g. ``https://pay.example``. Keys have no origin: the
            Python SDK states a fixed one, so it is not looked at.

    Raises:
        ActionSignatureInvalid: another credential or kind, another type or challenge, a cross-origin frame, a
            signature that does not verify; for passkeys also origin, relying party, user presence or verification.

    Source: dfns-api.md 2.7 (keys); W3C Web Authentication Level 2, 7.2 (passkeys), without the counter: the same
    assertion is verified again when the action is carried out.
    """
    if assertion.cred_id != credential.credential_id or assertion.kind != credential.kind:
        raise ActionSignatureInvalid("the assertion names another credential")
    if credential.kind == KEY:
        _verify_client_data(assertion.client_data, "key.get", (challenge,))
        message, algorithm = assertion.client_data, assertion.algorithm
    elif credential.kind == FIDO2:
        client_data = verify_client_data(assertion.client_data, "webauthn.get", challenge)
        _verify_origin(client_data, credential, origins)
        _verify_authenticator(assertion.authenticator_data or b"", credential)
        hashed = hashlib.sha256(assertion.client_data).digest()
        message, algorithm = (assertion.authenticator_data or b"") + hashed, None
    else:
        raise ActionSignatureInvalid("this kind of credential cannot sign")
    try:
        key = load_public_key(credential.public_key, field="publicKey")
    except InvalidInput as error:
        raise ActionSignatureInvalid("the stored public key is not usable") from error
    if not signature_fits(key, assertion.signature, message, algorithm):
        raise ActionSignatureInvalid(
            "the signature does not verify: sign the challenge's client data with this credential"
        )


def read_client_data(data: bytes) -> dict[str, Any]:
    """Return the members of client data, read strictly.

    Raises:
        ActionSignatureInvalid: not a JSON object, or a duplicate member.
    """
    try:
        client_data = read_json(data, field="clientData")
    except InvalidInput as error:
        raise ActionSignatureInvalid(f"the client data is malformed: {error.message}") from error
    if not isinstance(client_data, dict):
        raise ActionSignatureInvalid("the client data is not a JSON object")
    return client_data


def verify_client_data(data: bytes, kind: str, challenge: str) -> dict[str, Any]:
    """Return the client data of a passkey, if it is of this type and about this challenge.

    Raises:
        ActionSignatureInvalid: it is not, or was made inside another site's frame.
    """
    # The official browser signer hands the challenge's UTF-8 text to the authenticator, which encodes it again.
    return _verify_client_data(data, kind, (challenge, to_base64url(challenge.encode("utf-8"))))


def _verify_client_data(data: bytes, kind: str, spellings: Collection[str]) -> dict[str, Any]:
    client_data = read_client_data(data)
    if client_data.get("type") != kind:
        raise ActionSignatureInvalid(f"the client data must be of type {kind}")
    signed = client_data.get("challenge")
    if not isinstance(signed, str) or not any(_same(signed, spelling) for spelling in spellings):
        raise ActionSignatureInvalid("the client data is for another challenge")
    if client_data.get("crossOrigin", False) is not False or "topOrigin" in client_data:
        raise ActionSignatureInvalid("the assertion was made inside another site's frame")
    return client_data


def _verify_origin(client_data: dict[str, Any], credential: Credential, origins: Collection[str]) -> None:
    origin = client_data.get("origin")
    if not isinstance(origin, str) or origin not in origins:
        raise ActionSignatureInvalid("the assertion was made for an origin that is not allowed here")
    if credential.origins and origin not in credential.origins:
        raise ActionSignatureInvalid("the passkey may not be used from this origin")


def _verify_authenticator(data: bytes, credential: Credential) -> None:
    if credential.relying_party_id is None:
        raise ActionSignatureInvalid("the passkey is bound to no relying party")
    flags = read_authenticator(data, credential.relying_party_id)
    # Only registration carries a key; bytes after the counter must be announced as extensions.
    if flags & ATTESTED or bool(flags & EXTENDED) != (len(data) > PLAIN_SIZE):
        raise ActionSignatureInvalid("the authenticator data has unexpected content")


def read_authenticator(data: bytes, relying_party_id: str) -> int:
    """Return the flags of authenticator data, if its user was there, was verified, and used this relying party.

    Raises:
        ActionSignatureInvalid: not so.
    """
    if len(data) < PLAIN_SIZE:
        raise ActionSignatureInvalid("the authenticator data is malformed")
    party = hashlib.sha256(relying_party_id.encode("utf-8")).digest()
    if not hmac.compare_digest(data[:_RP_HASH_SIZE], party):
        raise ActionSignatureInvalid("the passkey belongs to another relying party")
    flags = data[_RP_HASH_SIZE]
    if not flags & _PRESENT or not flags & _VERIFIED:
        raise ActionSignatureInvalid("the authenticator did not verify the user")
    if flags & _BACKED_UP and not flags & _ELIGIBLE:
        raise ActionSignatureInvalid("the authenticator data contradicts itself")
    return flags


def _same(left: str, right: str) -> bool:
    return hmac.compare_digest(left.encode("utf-8"), right.encode("utf-8"))


def _decoded(sent: dict[str, Any], name: str, field: str, limit: int) -> bytes:
    path = f"{field}.{name}"
    data = from_base64url(sent[name], field=path, padded=True) if len(sent[name]) <= limit * 2 else b""
    if not 0 < len(data) <= limit:
        raise InvalidInput(f"{path} must hold 1 to {limit} bytes", field=path)
    return data


def _short(sent: dict[str, Any], name: str, field: str) -> str:
    text = sent[name]
    if not isinstance(text, str) or len(text) > _NAME_LIMIT:
        raise InvalidInput(f"{field}.{name} must be at most {_NAME_LIMIT} long", field=f"{field}.{name}")
    return text
