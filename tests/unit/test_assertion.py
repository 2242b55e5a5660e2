"""Assertions: what the SDKs sign verifies, and nothing next to it does."""

import base64
import dataclasses
import functools
import hashlib
import json
import random
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa, x25519
from dfns_sdk.auth import KeySigner, UserActionChallenge

from outlay.core.errors import ActionSignatureInvalid, InvalidInput
from outlay.evidence.assertion import (
    FIDO2,
    KEY,
    Assertion,
    Credential,
    load_public_key,
    parse_assertion,
    verify_assertion,
)
from outlay.evidence.base64url import to_base64url
from outlay.evidence.keys import PrivateKey, fingerprint, load_private_key, new_key_pair, normal_pem
from outlay.evidence.sign import sign_challenge

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "assertions.json").read_text("ascii"))
CHALLENGE = VECTORS[0]["challenge"]
ORIGIN, PARTY = "https://pay.example", "pay.example"
PEM, SPKI = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo

RSA_KEY = rsa.generate_private_key(65537, 2048)
KEYS: dict[str, PrivateKey] = {
    "Ed25519": ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32))),
    "P-256": ec.derive_private_key(12345, ec.SECP256R1()),
    "secp256k1": ec.derive_private_key(12345, ec.SECP256K1()),
    "RSA": RSA_KEY,
}


def private_pem(key: Any) -> str:
    """Return a private key as PKCS #8 text."""
    text = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return cast(bytes, text).decode("ascii")


def credential_of(public_key: str, **changes: Any) -> Credential:
    """Return a key credential."""
    fields = {"uuid": "cr-uuid", "credential_id": "cr-name", "user_id": "us-1", "kind": KEY, "public_key": public_key}
    return Credential(**{**fields, **changes})


def signed(key: PrivateKey, challenge: str = CHALLENGE) -> tuple[Assertion, Credential]:
    """Return an assertion by ``key`` and the credential it belongs to."""
    assertion = parse_assertion(sign_challenge(key, "cr-name", challenge))
    return assertion, credential_of(normal_pem(key.public_key()))


def signed_over(key: PrivateKey, client_data: bytes) -> tuple[Assertion, Credential]:
    """Return an assertion by ``key`` over any client data."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        signature = key.sign(client_data)
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        signature = key.sign(client_data, ec.ECDSA(hashes.SHA256()))
    else:
        signature = key.sign(client_data, padding.PKCS1v15(), hashes.SHA256())
    assertion = Assertion(kind=KEY, cred_id="cr-name", client_data=client_data, signature=signature)
    return assertion, credential_of(normal_pem(key.public_key()))


def replaced(assertion: Assertion, field: str, value: Any) -> Assertion:
    """Return the assertion with one member replaced."""
    return dataclasses.replace(assertion, **{field: value})


def refuse(assertion: Assertion, credential: Credential, challenge: str = CHALLENGE) -> None:
    """Assert that the assertion is refused as a bad signature."""
    with pytest.raises(ActionSignatureInvalid):
        verify_assertion(assertion, credential, challenge, origins={ORIGIN})


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_worked_example_of_the_contract_verifies(vector: dict[str, Any]) -> None:
    """The examples that the SDKs made for the wire contract."""
    assertion = parse_assertion(vector["firstFactor"])
    credential = credential_of(vector["publicKey"], credential_id=assertion.cred_id)

    verify_assertion(assertion, credential, vector["challenge"], origins=())

    refuse(assertion, credential, vector["challenge"][:-1] + "w")
    assert vector["firstFactor"] == assertion.document()


@pytest.mark.parametrize("kind", KEYS)
def test_signature_of_the_official_sdk_verifies(kind: str) -> None:
    """Every kind of key, made by ``dfns_sdk`` itself, whatever origin it states."""
    signer = KeySigner("cr-name", private_pem(KEYS[kind]))
    challenge = cast(UserActionChallenge, {"challenge": CHALLENGE, "challengeIdentifier": "x"})

    assertion = parse_assertion(signer.sign(challenge))

    verify_assertion(assertion, credential_of(normal_pem(KEYS[kind].public_key())), CHALLENGE, origins=())


@pytest.mark.parametrize("kind", KEYS)
def test_own_signature_verifies_from_text_and_from_loaded_key(kind: str) -> None:
    """What our client makes is what the SDKs make."""
    for key in (KEYS[kind], load_private_key(private_pem(KEYS[kind]))):
        verify_assertion(*signed(key), CHALLENGE, origins=())
    assertion = parse_assertion(sign_challenge(private_pem(KEYS[kind]), "cr-name", CHALLENGE))
    verify_assertion(assertion, credential_of(normal_pem(KEYS[kind].public_key())), CHALLENGE, origins=())


@pytest.mark.parametrize("kind", ["Ed25519", "P-256", "secp256k1"])
def test_every_changed_byte_is_noticed(kind: str) -> None:
    """Each byte of client data and of signature, with one bit and with all bits flipped."""
    assertion, credential = signed(KEYS[kind])
    for field in ("client_data", "signature"):
        data: bytes = getattr(assertion, field)
        for at in range(len(data)):
            for mask in (0x01, 0x80, 0xFF):
                changed = data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]
                refuse(replaced(assertion, field, changed), credential)
        for changed in (b"", data[:-1], data[1:], data + b"\x00", b"\x00" + data, data * 2):
            refuse(replaced(assertion, field, changed), credential)


def test_changed_rsa_signature_is_noticed() -> None:
    """A sample of bytes; RSA is slower."""
    assertion, credential = signed(RSA_KEY)
    for at in range(0, 256, 8):
        data = assertion.signature
        refuse(dataclasses.replace(assertion, signature=data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]), credential)


@pytest.mark.parametrize("kind", KEYS)
def test_signature_of_another_key_is_refused(kind: str) -> None:
    """Same kind and another kind of key, same name."""
    assertion, _ = signed(KEYS[kind])
    others: list[PrivateKey] = [ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1())]
    for other in [*others, *(key for name, key in KEYS.items() if name != kind)]:
        refuse(assertion, credential_of(normal_pem(other.public_key())))


def test_swapped_credential_is_refused() -> None:
    """The assertion must name the credential it is checked against, even when both hold the same key."""
    assertion, credential = signed(KEYS["Ed25519"])

    refuse(dataclasses.replace(assertion, cred_id="cr-other"), credential)
    refuse(assertion, dataclasses.replace(credential, credential_id="cr-other"))
    refuse(assertion, dataclasses.replace(credential, credential_id="cr-name "))
    refuse(assertion, dataclasses.replace(credential, kind=FIDO2, relying_party_id=PARTY))
    refuse(dataclasses.replace(assertion, kind=FIDO2), credential)
    refuse(dataclasses.replace(assertion, kind="Recovery"), dataclasses.replace(credential, kind="Recovery"))


GENUINE = {"type": "key.get", "challenge": CHALLENGE}


@pytest.mark.parametrize(
    "client_data",
    [
        {**GENUINE, "type": "key.create"},
        {**GENUINE, "type": "webauthn.get"},
        {**GENUINE, "type": "KEY.GET"},
        {**GENUINE, "type": None},
        {"challenge": CHALLENGE},
        {"type": "key.get"},
        {**GENUINE, "challenge": CHALLENGE + "="},
        {**GENUINE, "challenge": CHALLENGE.lower()},
        {**GENUINE, "challenge": CHALLENGE + " "},
        {**GENUINE, "challenge": ""},
        {**GENUINE, "challenge": [CHALLENGE]},
        {**GENUINE, "challenge": to_base64url(CHALLENGE.encode())},
        {**GENUINE, "crossOrigin": True},
        {**GENUINE, "crossOrigin": "false"},
        {**GENUINE, "crossOrigin": None},
        {**GENUINE, "crossOrigin": 0},
        {**GENUINE, "topOrigin": "https://evil.example"},
        [GENUINE],
        "key.get",
        None,
    ],
    ids=json.dumps,
)
def test_client_data_that_says_something_else_is_refused(client_data: object) -> None:
    """Properly signed, wrong content."""
    refuse(*signed_over(KEYS["Ed25519"], json.dumps(client_data).encode()))


@pytest.mark.parametrize(
    "text",
    [
        f'{{"type":"key.create","type":"key.get","challenge":"{CHALLENGE}"}}',
        f'{{"type":"key.get","challenge":"other","challenge":"{CHALLENGE}"}}',
        f'{{"type":"key.get","challenge":"{CHALLENGE}"}}}}',
        f'\ufeff{{"type":"key.get","challenge":"{CHALLENGE}"}}',
        f'{{"type":"key.get","challenge":"{CHALLENGE}","x":NaN}}',
        "",
    ],
)
def test_client_data_with_two_readings_is_refused(text: str) -> None:
    """A duplicate member could show one challenge to one reader and another to the next."""
    refuse(*signed_over(KEYS["Ed25519"], text.encode()))


@pytest.mark.parametrize(
    "text",
    [
        f'{{"challenge":"{CHALLENGE}","type":"key.get"}}',
        f'{{ "type" : "key.get", "challenge" : "{CHALLENGE}", "origin": "https://app.dfns.io", "crossOrigin": false }}',
    ],
)
def test_order_space_and_origin_of_key_client_data_are_free(text: str) -> None:
    """Verification is over the received bytes."""
    verify_assertion(*signed_over(KEYS["Ed25519"], text.encode()), CHALLENGE, origins=())


@pytest.mark.parametrize("kind", ["P-256", "secp256k1"])
def test_other_encodings_of_an_ecdsa_signature_are_refused(kind: str) -> None:
    """Raw r||s, long-form lengths, padded integers, zeros, negative numbers and garbage are not DER signatures."""
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

    assertion, credential = signed(KEYS[kind])
    good = assertion.signature
    r, s = decode_dss_signature(good)
    raw = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    long_form = b"\x30\x81" + good[1:]
    padded = b"\x30" + bytes([good[1] + 1]) + b"\x02" + bytes([good[3] + 1]) + b"\x00" + good[4:]
    rng = random.Random(7)
    garbage = [rng.randbytes(size) for size in range(80)] + [b"\x30" + rng.randbytes(70) for _ in range(50)]
    zeros = [encode_dss_signature(0, 0), encode_dss_signature(0, s), encode_dss_signature(r, 0)]
    order = (
        0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
        if kind == "P-256"
        else 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    )
    shifted = [
        encode_dss_signature(r + order, s),
        encode_dss_signature(r, s + order),
        encode_dss_signature(order, order),
    ]

    for signature in [raw, long_form, padded, good + b"\x00", b"\x30\x00", *garbage, *zeros, *shifted]:
        refuse(dataclasses.replace(assertion, signature=signature), credential)


@pytest.mark.parametrize(
    ("kind", "stated"),
    [
        ("Ed25519", ["SHA256", "SHA512", "RSA-SHA256", "none", "", "EdDSA"]),
        ("P-256", ["SHA512", "RSA-SHA256", "SHA1", "none", "", "HS256"]),
        ("secp256k1", ["SHA512", "RSA-SHA256", "none", ""]),
        ("RSA", ["SHA512", "SHA1", "RSA-SHA1", "MD5", "none", "", "HS256"]),
    ],
)
def test_stated_algorithm_never_widens_what_the_key_allows(kind: str, stated: list[str]) -> None:
    """A genuine SHA-256 signature with another algorithm's name is refused, so no name selects a weaker check."""
    assertion, credential = signed(KEYS[kind])
    for algorithm in stated:
        refuse(dataclasses.replace(assertion, algorithm=algorithm), credential)


def test_rsa_digest_follows_the_statement() -> None:
    """SHA-256 by default and by name, SHA-512 by name only; PSS, SHA-1 and raw signatures never."""
    data = json.dumps(GENUINE).encode()
    assertion, credential = signed_over(RSA_KEY, data)
    for algorithm in (None, "SHA256", "RSA-SHA256"):
        verify_assertion(dataclasses.replace(assertion, algorithm=algorithm), credential, CHALLENGE, origins=())
    wide = dataclasses.replace(assertion, signature=RSA_KEY.sign(data, padding.PKCS1v15(), hashes.SHA512()))
    verify_assertion(dataclasses.replace(wide, algorithm="SHA512"), credential, CHALLENGE, origins=())
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.MAX_LENGTH)

    refuse(wide, credential)
    for signature in (RSA_KEY.sign(data, pss, hashes.SHA256()), RSA_KEY.sign(data, padding.PKCS1v15(), hashes.SHA1())):
        for stated in (None, "SHA256", "SHA512", "SHA1"):
            refuse(dataclasses.replace(assertion, signature=signature, algorithm=stated), credential)


def test_unusable_stored_key_verifies_nothing() -> None:
    """A damaged database never turns into an accepted signature or a crash."""
    assertion, credential = signed(KEYS["Ed25519"])
    for pem in ("", "x", private_pem(KEYS["Ed25519"])):
        refuse(assertion, dataclasses.replace(credential, public_key=pem))


# Public keys


def public_pem(key: Any) -> str:
    """Return any public key as SPKI text."""
    return cast(bytes, key.public_bytes(PEM, SPKI)).decode("ascii")


def small_order_keys() -> list[bytes]:
    """Return every encoding of a point of small order, found by multiplying by the group's large prime order."""
    prime, order = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
    d = -121665 * pow(121666, -1, prime) % prime

    def add(left: tuple[int, int], right: tuple[int, int]) -> tuple[int, int]:
        (x1, y1), (x2, y2) = left, right
        product = d * x1 * x2 * y1 * y2
        x = (x1 * y2 + x2 * y1) * pow(1 + product, -1, prime)
        y = (y1 * y2 + x1 * x2) * pow(1 - product, -1, prime)
        return x % prime, y % prime

    def times(number: int, point: tuple[int, int]) -> tuple[int, int]:
        result = (0, 1)
        while number:
            if number & 1:
                result = add(result, point)
            point, number = add(point, point), number >> 1
        return result

    found: set[int] = set()
    for y in range(2, 40):
        square = (y * y - 1) * pow(d * y * y + 1, -1, prime) % prime
        x = pow(square, (prime + 3) // 8, prime)
        if x * x % prime != square:
            x = x * pow(2, (prime - 1) // 4, prime) % prime
        if x * x % prime == square:
            found.add(times(order, (x, y))[1])
    encodings = [*found, *(y + prime for y in found if y < 19)]
    return [(y | sign << 255).to_bytes(32, "little") for y in encodings for sign in (0, 1)]


def test_ed25519_keys_of_small_order_are_refused() -> None:
    """One signature by such a key fits many messages, so it proves nothing."""
    keys = small_order_keys()

    assert len(keys) == 2 * (5 + 2)  # both signs of five y coordinates, two of which have a second spelling
    for raw in keys:
        with pytest.raises(InvalidInput):
            load_public_key(public_pem(ed25519.Ed25519PublicKey.from_public_bytes(raw)), field="publicKey")


@functools.cache
def unusable_keys() -> dict[str, str]:
    """Return keys that no credential may have."""
    good = normal_pem(KEYS["Ed25519"].public_key())
    ssh = KEYS["Ed25519"].public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    body = good.split("\n")[1]
    return {
        "OpenSSH": ssh.decode(),
        "RSA 1024": public_pem(rsa.generate_private_key(65537, 1024).public_key()),
        "RSA exponent 3": public_pem(rsa.generate_private_key(3, 2048).public_key()),
        "P-384": public_pem(ec.generate_private_key(ec.SECP384R1()).public_key()),
        "Ed448": public_pem(ed448.Ed448PrivateKey.generate().public_key()),
        "X25519": public_pem(x25519.X25519PrivateKey.generate().public_key()),
        "DSA": public_pem(dsa.generate_private_key(1024).public_key()),
        "private": private_pem(KEYS["Ed25519"]),
        "public and private": good + private_pem(KEYS["Ed25519"]),
        "private and public": private_pem(KEYS["Ed25519"]) + good,
        "two keys": good + good,
        "text before": "x\n" + good,
        "text after": good + "x",
        "text inside": good.replace("\n", "\nx: y\n", 1),
        "empty": "",
        "not PEM": "publicKey",
        "body only": body,
        "certificate": good.replace("PUBLIC KEY", "CERTIFICATE"),
        "damaged": good.replace(body, body[:-8] + "AAAA"),
        "cut": good[:60],
        "non-ASCII": good.replace("M", "\u041c", 1),
        "surrogate": good + "\ud800",
        "long": good + "\n" * 10_000,
        "EC point off the curve": public_pem(KEYS["P-256"].public_key()).replace("5g==", "5Q=="),
    }


@pytest.mark.parametrize("name", unusable_keys())
def test_key_that_no_credential_may_have_is_refused_by_field(name: str) -> None:
    """Other forms, weak keys, other curves, private keys."""
    with pytest.raises(InvalidInput) as caught:
        load_public_key(unusable_keys()[name], field="publicKey")

    assert caught.value.field == "publicKey"


@pytest.mark.parametrize("kind", KEYS)
def test_key_has_one_fingerprint_in_every_spelling(kind: str) -> None:
    """Spaces, line ends and, for RSA, PKCS #1 do not matter."""
    key = KEYS[kind].public_key()
    spki = normal_pem(key)
    spellings = [spki, spki.strip(), "\n" + spki + "\n", spki.replace("\n", "\r\n")]
    if isinstance(key, rsa.RSAPublicKey):
        spellings.append(key.public_bytes(PEM, serialization.PublicFormat.PKCS1).decode())
    der = base64.b64decode("".join(spki.split("\n")[1:-2]))

    assert {hashlib.sha256(der).hexdigest()} == {fingerprint(text) for text in spellings}
    assert {spki} == {normal_pem(load_public_key(text, field="x")) for text in spellings}


def test_private_keys_are_held_to_the_same_rules() -> None:
    """A client learns at once that a key cannot be registered."""
    encrypted = KEYS["Ed25519"].private_bytes(
        PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )
    weak = private_pem(rsa.generate_private_key(65537, 1024))
    other = private_pem(ed448.Ed448PrivateKey.generate())
    for text in ("", "x", "\ud800", encrypted.decode(), weak, other, new_key_pair()[1]):
        with pytest.raises(InvalidInput):
            load_private_key(text)


# Passkeys


def passkey(
    key: PrivateKey = KEYS["P-256"],
    *,
    client: dict[str, Any] | None = None,
    party: str = PARTY,
    flags: int = 0x05,
    rest: bytes = b"\x00\x00\x00\x01",
    **changes: Any,
) -> tuple[Assertion, Credential]:
    """Return what an authenticator makes, and its credential."""
    members = {"type": "webauthn.get", "challenge": CHALLENGE, "origin": ORIGIN, "crossOrigin": False}
    client_data = json.dumps({**members, **(client or {})}, separators=(",", ":")).encode()
    authenticator_data = hashlib.sha256(party.encode()).digest() + bytes([flags]) + rest
    over, _ = signed_over(key, authenticator_data + hashlib.sha256(client_data).digest())
    assertion = Assertion(
        kind=FIDO2,
        cred_id="cr-name",
        client_data=client_data,
        signature=over.signature,
        authenticator_data=authenticator_data,
        user_handle="dXM",
    )
    credential = credential_of(normal_pem(key.public_key()), kind=FIDO2, relying_party_id=PARTY)
    return assertion, dataclasses.replace(credential, **changes)


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("spelling", [CHALLENGE, to_base64url(CHALLENGE.encode())])
def test_passkey_verifies_with_either_spelling_of_the_challenge(kind: str, spelling: str) -> None:
    """The official browser signer encodes the challenge's text a second time."""
    assertion, credential = passkey(KEYS[kind], client={"challenge": spelling})

    verify_assertion(assertion, credential, CHALLENGE, origins=[ORIGIN])

    assert assertion == parse_assertion(assertion.document())


def test_every_changed_byte_of_a_passkey_assertion_is_noticed() -> None:
    """Client data, authenticator data and signature."""
    assertion, credential = passkey()
    for field in ("client_data", "authenticator_data", "signature"):
        data: bytes = getattr(assertion, field)
        for at in range(len(data)):
            changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
            refuse(replaced(assertion, field, changed), credential)
        for changed in (b"", data[:-1], data + b"\x00"):
            refuse(replaced(assertion, field, changed), credential)
    refuse(dataclasses.replace(assertion, authenticator_data=None), credential)


@pytest.mark.parametrize(
    "changes",
    [
        {"client": {"type": "webauthn.create"}},
        {"client": {"type": "key.get"}},
        {"client": {"challenge": "x"}},
        {"client": {"challenge": to_base64url(to_base64url(CHALLENGE.encode()).encode())}},
        {"client": {"origin": "https://evil.example"}},
        {"client": {"origin": ORIGIN + "/"}},
        {"client": {"origin": "http://pay.example"}},
        {"client": {"origin": None}},
        {"client": {"crossOrigin": True}},
        {"client": {"topOrigin": ORIGIN}},
        {"party": "evil.example"},
        {"flags": 0x00},
        {"flags": 0x01},
        {"flags": 0x04},
        {"flags": 0x15},
        {"flags": 0x45, "rest": b"\x00" * 80},
        {"flags": 0xC5, "rest": b"\x00" * 80},
        {"flags": 0x85},
        {"rest": b"\x00\x00\x00\x01\xa0"},
        {"rest": b"\x00\x00\x00"},
        {"relying_party_id": None},
        {"relying_party_id": "other.example"},
        {"origins": ("https://other.example",)},
    ],
    ids=repr,
)
def test_passkey_in_another_setting_is_refused(changes: dict[str, Any]) -> None:
    """Properly signed, wrong type, challenge, origin, relying party or flags."""
    refuse(*passkey(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"flags": 0x0D},
        {"flags": 0x1D},
        {"flags": 0x85, "rest": b"\x00\x00\x00\x01\xa0"},
        {"rest": b"\x00\x00\x00\x00"},
        {"origins": (ORIGIN, "https://other.example")},
    ],
    ids=repr,
)
def test_passkey_with_backup_extension_or_zero_counter_verifies(changes: dict[str, Any]) -> None:
    """Synchronized passkeys and those that do not count are ordinary."""
    verify_assertion(*passkey(**changes), CHALLENGE, origins=[ORIGIN])


def test_passkey_needs_an_allowed_origin() -> None:
    """With no origin configured no passkey works."""
    for origins in ([], ["https://other.example"]):
        with pytest.raises(ActionSignatureInvalid):
            verify_assertion(*passkey(), CHALLENGE, origins=origins)


# The wire

WIRE: dict[str, Any] = VECTORS[0]["firstFactor"]["credentialAssertion"]


def first_factor(kind: str = "Key", **changes: Any) -> dict[str, Any]:
    """Return a first factor with members replaced; ``...`` removes one."""
    members = {key: value for key, value in {**WIRE, **changes}.items() if value is not ...}
    return {"kind": kind, "credentialAssertion": members}


@pytest.mark.parametrize(
    ("wire", "field"),
    [
        (None, "firstFactor"),
        ([], "firstFactor"),
        ({}, "firstFactor.kind"),
        ({"kind": "Key"}, "firstFactor.credentialAssertion"),
        ({**first_factor(), "x": 1}, "firstFactor"),
        (first_factor("Password"), "firstFactor.kind"),
        (first_factor("PasswordProtectedKey"), "firstFactor.kind"),
        (first_factor(credId=...), "firstFactor.credentialAssertion.credId"),
        (first_factor(credId=7), "firstFactor.credentialAssertion.credId"),
        (first_factor(credId="x" * 2000), "firstFactor.credentialAssertion.credId"),
        (first_factor(clientData=None), "firstFactor.credentialAssertion.clientData"),
        (first_factor(clientData=""), "firstFactor.credentialAssertion.clientData"),
        (first_factor(clientData="e30+"), "firstFactor.credentialAssertion.clientData"),
        (first_factor(clientData="e"), "firstFactor.credentialAssertion.clientData"),
        (first_factor(clientData="A" * 6000), "firstFactor.credentialAssertion.clientData"),
        (first_factor(clientData="A" * 600_000), "firstFactor.credentialAssertion.clientData"),
        (first_factor(signature="é"), "firstFactor.credentialAssertion.signature"),
        (first_factor(signature="AB"), "firstFactor.credentialAssertion.signature"),
        (first_factor(signature=["x"]), "firstFactor.credentialAssertion.signature"),
        (first_factor(algorithm=1), "firstFactor.credentialAssertion.algorithm"),
        (first_factor(userHandle="x"), "firstFactor.credentialAssertion"),
        (first_factor(authenticatorData="AAAA"), "firstFactor.credentialAssertion"),
        (first_factor("Fido2"), "firstFactor.credentialAssertion.authenticatorData"),
        (first_factor("Fido2", authenticatorData="?"), "firstFactor.credentialAssertion.authenticatorData"),
        (first_factor("Fido2", authenticatorData="AAAA", algorithm="x"), "firstFactor.credentialAssertion"),
    ],
)
def test_malformed_first_factor_names_its_member(wire: Any, field: str) -> None:
    """Bad input, by name."""
    with pytest.raises(InvalidInput) as caught:
        parse_assertion(wire)

    assert field == caught.value.field


def test_padding_and_null_members_are_tolerated() -> None:
    """What some clients send instead of leaving a member out."""
    plain = parse_assertion(first_factor())
    padded = {name: WIRE[name] + "=" * (-len(WIRE[name]) % 4) for name in ("clientData", "signature")}

    assert plain == parse_assertion(first_factor(**padded, algorithm=None))
    assert parse_assertion(first_factor("Fido2", authenticatorData="AAAA", userHandle=None)).user_handle is None
