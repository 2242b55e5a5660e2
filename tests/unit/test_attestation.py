"""Attestations: a new key proves itself over one challenge, in the exact bytes of the contract."""

import hashlib
import json
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from outlay.core.errors import ActionSignatureInvalid, InvalidInput
from outlay.evidence.attestation import fingerprint, key_attestation, new_key_pair, verify_attestation
from outlay.evidence.base64url import from_base64url, to_base64url
from outlay.evidence.keys import PrivateKey, load_private_key, normal_pem, sign_bytes

CHALLENGE = "Y2gtM2RpbXYtNGZtN3AtOGo3cTZtOHZsb2doZzFwNQ"
RSA_KEY = rsa.generate_private_key(65537, 2048)
KEYS: dict[str, PrivateKey] = {
    "Ed25519": ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32))),
    "P-256": ec.derive_private_key(12345, ec.SECP256R1()),
    "secp256k1": ec.derive_private_key(12345, ec.SECP256K1()),
    "RSA": RSA_KEY,
}


def pem(key: PrivateKey) -> str:
    """Return a private key as text."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode("ascii")


def by_hand(
    key: PrivateKey,
    *,
    client_data: bytes | None = None,
    public_key: str | None = None,
    signature: bytes | None = None,
    extra: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a credentialInfo made step by step as dfns-api.md 2.5 lists them, not with our own code."""
    data = client_data if client_data is not None else f'{{"challenge":"{CHALLENGE}","type":"key.create"}}'.encode()
    public = public_key if public_key is not None else normal_pem(key.public_key())
    escaped = public.replace("\n", "\\n").replace("\r", "\\r")
    text = f'{{"clientDataHash":"{hashlib.sha256(data).hexdigest()}","publicKey":"{escaped}"}}'
    signed = signature if signature is not None else sign_bytes(key, text.encode())
    attested = {"publicKey": public, "signature": signed.hex(), **(extra or {})}
    return {
        "credId": "my-key",
        "clientData": to_base64url(data),
        "attestationData": to_base64url(json.dumps(attested).encode()),
    }


@pytest.mark.parametrize("kind", KEYS)
def test_attestation_made_by_the_documented_steps_verifies(kind: str) -> None:
    """An independent construction of each step."""
    assert verify_attestation(by_hand(KEYS[kind]), CHALLENGE) == normal_pem(KEYS[kind].public_key())


@pytest.mark.parametrize("kind", KEYS)
def test_own_attestation_verifies_and_follows_the_documented_bytes(kind: str) -> None:
    """Alphabetical members, no spaces."""
    info = key_attestation(pem(KEYS[kind]), CHALLENGE)

    public = verify_attestation(info, CHALLENGE)

    assert public == normal_pem(KEYS[kind].public_key())
    assert from_base64url(info["clientData"], field="x") == (
        f'{{"challenge":"{CHALLENGE}","type":"key.create"}}'.encode()
    )
    assert from_base64url(info["credId"], field="x").hex() == fingerprint(public)
    assert key_attestation(pem(KEYS[kind]), CHALLENGE, cred_id="mine")["credId"] == "mine"


def test_new_key_pair_attests_itself() -> None:
    """What ``init`` and the command line use."""
    private, public = new_key_pair()

    assert verify_attestation(key_attestation(private, CHALLENGE), CHALLENGE) == public
    assert normal_pem(load_private_key(private).public_key()) == public
    assert new_key_pair()[1] != public


def test_other_spelling_of_the_key_is_signed_as_sent_and_stored_as_spki() -> None:
    """The fingerprint text holds the PEM as the client wrote it."""
    pkcs1 = RSA_KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.PKCS1).decode()
    crlf = normal_pem(KEYS["Ed25519"].public_key()).replace("\n", "\r\n")

    assert verify_attestation(by_hand(RSA_KEY, public_key=pkcs1), CHALLENGE) == normal_pem(RSA_KEY.public_key())
    assert "\r" not in verify_attestation(by_hand(KEYS["Ed25519"], public_key=crlf), CHALLENGE)


@pytest.mark.parametrize("kind", ["Ed25519", "P-256"])
def test_every_changed_byte_of_client_data_and_signature_is_noticed(kind: str) -> None:
    """One bit at a time."""
    key = KEYS[kind]
    info = by_hand(key)
    client_data = from_base64url(info["clientData"], field="x")
    attested = json.loads(from_base64url(info["attestationData"], field="x"))
    signature = bytes.fromhex(attested["signature"])

    for at in range(len(client_data)):
        changed = client_data[:at] + bytes([client_data[at] ^ 1]) + client_data[at + 1 :]
        with pytest.raises(ActionSignatureInvalid):
            verify_attestation({**info, "clientData": to_base64url(changed)}, CHALLENGE)
    for at in range(len(signature)):
        changed = signature[:at] + bytes([signature[at] ^ 1]) + signature[at + 1 :]
        with pytest.raises(ActionSignatureInvalid):
            verify_attestation(by_hand(key, signature=changed), CHALLENGE)


def test_attestation_with_somebody_elses_key_is_refused() -> None:
    """Claiming a public key without holding it."""
    victim = normal_pem(KEYS["P-256"].public_key())

    with pytest.raises(ActionSignatureInvalid):
        verify_attestation(by_hand(KEYS["Ed25519"], public_key=victim), CHALLENGE)


@pytest.mark.parametrize(
    "client_data",
    [
        {"challenge": CHALLENGE, "type": "key.get"},
        {"challenge": CHALLENGE, "type": "webauthn.create"},
        {"challenge": CHALLENGE},
        {"type": "key.create"},
        {"challenge": CHALLENGE + "=", "type": "key.create"},
        {"challenge": "other", "type": "key.create"},
        {"challenge": None, "type": "key.create"},
        {"challenge": CHALLENGE, "type": "key.create", "crossOrigin": True},
        [],
    ],
    ids=json.dumps,
)
def test_attestation_over_something_else_is_refused(client_data: object) -> None:
    """Properly signed, wrong content: an assertion is never an attestation."""
    with pytest.raises(ActionSignatureInvalid):
        verify_attestation(by_hand(KEYS["Ed25519"], client_data=json.dumps(client_data).encode()), CHALLENGE)


def test_duplicate_members_in_client_data_are_refused() -> None:
    """Two readings of one signature."""
    text = f'{{"challenge":"x","challenge":"{CHALLENGE}","type":"key.create"}}'

    with pytest.raises(ActionSignatureInvalid):
        verify_attestation(by_hand(KEYS["Ed25519"], client_data=text.encode()), CHALLENGE)


def test_stated_algorithm_is_held_to_the_key() -> None:
    """As for assertions."""
    public = normal_pem(RSA_KEY.public_key())
    data = f'{{"challenge":"{CHALLENGE}","type":"key.create"}}'.encode()
    text = json.dumps(
        {"clientDataHash": hashlib.sha256(data).hexdigest(), "publicKey": public}, separators=(",", ":")
    ).encode()
    wide = RSA_KEY.sign(text, padding.PKCS1v15(), hashes.SHA512())

    assert verify_attestation(by_hand(RSA_KEY, signature=wide, extra={"algorithm": "SHA512"}), CHALLENGE) == public
    assert verify_attestation(by_hand(RSA_KEY, extra={"algorithm": "RSA-SHA256"}), CHALLENGE) == public
    for info in (
        by_hand(RSA_KEY, signature=wide),
        by_hand(RSA_KEY, extra={"algorithm": "none"}),
        by_hand(KEYS["P-256"], extra={"algorithm": "SHA512"}),
        by_hand(KEYS["Ed25519"], extra={"algorithm": "none"}),
    ):
        with pytest.raises(ActionSignatureInvalid):
            verify_attestation(info, CHALLENGE)


GOOD = by_hand(KEYS["Ed25519"])


def attestation_data(document: object) -> dict[str, Any]:
    """Return a credentialInfo with any attestation data."""
    return {**GOOD, "attestationData": to_base64url(json.dumps(document).encode())}


PUBLIC = normal_pem(KEYS["Ed25519"].public_key())


@pytest.mark.parametrize(
    ("info", "field"),
    [
        (None, "credentialInfo"),
        ("x", "credentialInfo"),
        ({}, "credentialInfo.credId"),
        ({**GOOD, "x": 1}, "credentialInfo"),
        ({**GOOD, "credId": ""}, "credentialInfo.credId"),
        ({**GOOD, "credId": "x" * 2000}, "credentialInfo.credId"),
        ({**GOOD, "credId": 1}, "credentialInfo.credId"),
        ({**GOOD, "clientData": "?"}, "credentialInfo.clientData"),
        ({**GOOD, "clientData": "A" * 100_000}, "credentialInfo.clientData"),
        ({**GOOD, "attestationData": "?"}, "credentialInfo.attestationData"),
        ({**GOOD, "attestationData": to_base64url(b"x")}, "credentialInfo.attestationData"),
        ({**GOOD, "attestationData": to_base64url(b"\xff")}, "credentialInfo.attestationData"),
        (attestation_data([]), "credentialInfo.attestationData"),
        (attestation_data({"publicKey": PUBLIC}), "credentialInfo.attestationData.signature"),
        (
            attestation_data({"publicKey": PUBLIC, "signature": "00", "algorithm": None}),
            "credentialInfo.attestationData.algorithm",
        ),
        (
            attestation_data({"publicKey": PUBLIC, "signature": "AAECAw"}),
            "credentialInfo.attestationData.signature",
        ),
        (attestation_data({"publicKey": PUBLIC, "signature": ""}), "credentialInfo.attestationData.signature"),
        (attestation_data({"publicKey": PUBLIC, "signature": "0 0"}), "credentialInfo.attestationData.signature"),
        (attestation_data({"publicKey": "x", "signature": "00"}), "credentialInfo.attestationData.publicKey"),
    ],
)
def test_malformed_attestation_names_its_member(info: Any, field: str) -> None:
    """Bad input, by name."""
    with pytest.raises(InvalidInput) as caught:
        verify_attestation(cast(object, info), CHALLENGE)

    assert caught.value.field == field
