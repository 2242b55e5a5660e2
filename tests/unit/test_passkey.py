"""Passkeys: what py_webauthn, which shares no code with us, takes or refuses, and what only we refuse."""

import contextlib
import dataclasses
import hashlib
import random
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from webauthn import verify_authentication_response, verify_registration_response
from webauthn.helpers import base64url_to_bytes
from webauthn.helpers.exceptions import WebAuthnException

from outlay.core.errors import ActionSignatureInvalid, InvalidInput
from outlay.evidence.assertion import FIDO2, Credential, parse_assertion, verify_assertion
from outlay.evidence.base64url import to_base64url
from outlay.evidence.cbor import read_cbor
from outlay.evidence.passkey import verify_passkey
from tests.passkeys import BACKED_UP, ELIGIBLE, EXTENDED, GOOD, KINDS, PRESENT, VERIFIED, Passkey, cbor, cose

PARTY, ORIGIN = "pay.example", "https://pay.example"
CHALLENGE = to_base64url(hashlib.sha256(b"a challenge").digest())
REFUSED = (ActionSignatureInvalid, InvalidInput)


def passkey(kind: str = "P-256", **stated: Any) -> Passkey:
    return Passkey.make(kind, relying_party=PARTY, origin=ORIGIN, **stated)


def ours(info: Any, challenge: str = CHALLENGE, **changes: Any) -> Any:
    """Read a new passkey as the server does."""
    return verify_passkey(info, challenge, **{"relying_party_id": PARTY, "origins": [ORIGIN], **changes})


def theirs(info: Any) -> Any:
    """Read a new passkey as py_webauthn does."""
    response = {"clientDataJSON": info["clientData"], "attestationObject": info["attestationData"]}
    return verify_registration_response(
        credential={"id": info["credId"], "rawId": info["credId"], "type": "public-key", "response": response},
        expected_challenge=base64url_to_bytes(CHALLENGE),
        expected_rp_id=PARTY,
        expected_origin=ORIGIN,
        require_user_verification=True,
    )


def credential_of(key: Passkey) -> Credential:
    return Credential(
        uuid="cr-1",
        credential_id=key.cred_id,
        user_id="us-1",
        kind=FIDO2,
        public_key=key.public_pem,
        relying_party_id=PARTY,
        sign_count=key.count,
    )


def used(factor: Any, key: Passkey, challenge: str = CHALLENGE) -> None:
    """Verify an assertion as the server does."""
    verify_assertion(parse_assertion(factor), credential_of(key), challenge, origins=[ORIGIN])


def used_theirs(factor: Any, key: Passkey, public_key: bytes) -> None:
    """Verify an assertion as py_webauthn does."""
    given = factor["credentialAssertion"]
    response = {
        "clientDataJSON": given["clientData"],
        "authenticatorData": given["authenticatorData"],
        "signature": given["signature"],
    }
    verify_authentication_response(
        credential={"id": given["credId"], "rawId": given["credId"], "type": "public-key", "response": response},
        expected_challenge=base64url_to_bytes(CHALLENGE),
        expected_rp_id=PARTY,
        expected_origin=ORIGIN,
        credential_public_key=public_key,
        credential_current_sign_count=0,
        require_user_verification=True,
    )


def refused(info: Any, **changes: Any) -> None:
    with pytest.raises(REFUSED):
        ours(info, **changes)


# Both agree


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["none", "packed"])
@pytest.mark.parametrize("flags", [GOOD, GOOD | ELIGIBLE, GOOD | ELIGIBLE | BACKED_UP])
def test_a_good_passkey_is_taken_and_used_by_both(kind: str, form: str, flags: int) -> None:
    key = passkey(kind, flags=flags, count=7)
    info = key.created(CHALLENGE, form=form)
    mine, other = ours(info), theirs(info)
    assert (mine.public_key, mine.origin, mine.sign_count) == (key.public_pem, ORIGIN, 7)
    assert (other.sign_count, other.credential_id) == (7, key.raw_id)
    factor = key.but(count=8).used(CHALLENGE)
    used(factor, key)
    used_theirs(factor, key, other.credential_public_key)


@pytest.mark.parametrize("spelling", [CHALLENGE, to_base64url(CHALLENGE.encode())])
def test_both_spellings_of_a_challenge_are_taken(spelling: str) -> None:
    """The official browser signer hands the challenge's text to the authenticator, which encodes it again."""
    key = passkey()
    ours(key.created(spelling))
    used(key.used(spelling), key)


def test_extensions_that_are_announced_are_taken() -> None:
    key, extensions = passkey(), cbor({"credProtect": 2})
    info = key.created(CHALLENGE, extensions=extensions)
    assert ours(info).public_key == key.public_pem
    assert theirs(info).credential_id == key.raw_id
    used(key.but(flags=GOOD | EXTENDED).used(CHALLENGE, rest=extensions), key)


def bent(data: bytes, chance: random.Random) -> bytes:
    """Return the bytes with one change."""
    at = chance.randrange(len(data))
    how = chance.randrange(4)
    if how == 0:
        return data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :]
    if how == 1:
        return data[:at]
    if how == 2:
        return data[:at] + chance.randbytes(chance.randrange(1, 4)) + data[at:]
    return data[:at] + data[at + 1 :]


def test_what_is_bent_at_random_is_taken_only_where_py_webauthn_takes_it() -> None:
    """Never the other way round: what both take says the same. Where a signature covers it, nothing bent is taken."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    keys = [passkey("P-256", flags=GOOD | ELIGIBLE), passkey("Ed25519")]
    taken = 0
    for turn in range(1500):
        key = keys[turn % 2]
        form = chance.choice(["none", "packed"])
        info = key.created(CHALLENGE, form=form)
        member = chance.choice(["clientData", "attestationData"])
        raw = bent(base64url_to_bytes(info[member]), chance)
        wrong = {**info, member: to_base64url(raw)}
        if wrong == info:
            continue
        try:
            mine = ours(wrong)
        except REFUSED:
            continue
        taken += 1
        other = theirs(wrong)
        assert (mine.sign_count, to_base64url(other.credential_id)) == (other.sign_count, info["credId"])
        assert form == "none", "a signature covers it"
        assert mine.public_key == key.public_pem or member == "attestationData"
    assert taken < 150, "most changes are noticed even where nothing is signed"


def test_a_used_passkey_bent_at_random_is_never_taken() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for kind in KINDS:
        key = passkey(kind)
        public_key = theirs(key.created(CHALLENGE)).credential_public_key
        good = key.used(CHALLENGE)
        for _ in range(200):
            given = dict(good["credentialAssertion"])
            member = chance.choice(["clientData", "authenticatorData", "signature"])
            raw = bent(base64url_to_bytes(given[member]), chance)
            wrong = {"kind": "Fido2", "credentialAssertion": {**given, member: to_base64url(raw)}}
            if wrong["credentialAssertion"] == given:
                continue
            with contextlib.suppress(WebAuthnException, ValueError, KeyError, IndexError):
                used_theirs(wrong, key, public_key)
                raise AssertionError("py_webauthn took it")
            with pytest.raises(REFUSED):
                used(wrong, key)
                pytest.fail("we took it")


# What is refused, by name


MADE: dict[str, Callable[[Passkey], Any]] = {
    "used, not made": lambda key: key.created(CHALLENGE, kind="webauthn.get"),
    "another challenge": lambda key: key.created(to_base64url(b"another")),
    "another origin": lambda key: key.but(origin="https://pay.example.evil.example").created(CHALLENGE),
    "another scheme": lambda key: key.but(origin="http://pay.example").created(CHALLENGE),
    "another port": lambda key: key.but(origin="https://pay.example:8443").created(CHALLENGE),
    "another relying party": lambda key: key.but(relying_party="evil.example").created(CHALLENGE),
    "in another site's frame": lambda key: key.created(CHALLENGE, more={"crossOrigin": True}),
    "below another site": lambda key: key.created(CHALLENGE, more={"topOrigin": "https://evil.example"}),
    "nobody verified": lambda key: key.but(flags=PRESENT).created(CHALLENGE),
    "nobody present": lambda key: key.but(flags=VERIFIED).created(CHALLENGE),
    "backed up, not eligible": lambda key: key.but(flags=GOOD | BACKED_UP).created(CHALLENGE),
    "extensions not announced": lambda key: _rewritten(key, lambda data: data + cbor({"a": 1})),
    "extensions announced, none there": lambda key: _rewritten(key, lambda data: _flagged(data, EXTENDED)),
    "extensions that are no map": lambda key: key.created(CHALLENGE, extensions=cbor([1])),
    "no new key": lambda key: _rewritten(key, lambda data: data[:32] + bytes([GOOD]) + data[33:37]),
    "another id": lambda key: {**key.created(CHALLENGE), "credId": to_base64url(b"another")},
    "a padded id": lambda key: {**key.created(CHALLENGE), "credId": key.cred_id + "="},
    "no id": lambda key: key.but(raw_id=b"").created(CHALLENGE),
    "a long id": lambda key: key.but(raw_id=bytes(800)).created(CHALLENGE),
    "ends in the id": lambda key: _rewritten(key, lambda data: data[:60]),
    "a statement nobody knows": lambda key: _attested(key, {"fmt": "tpm", "attStmt": {"ver": "2.0"}}),
    "none, and yet one": lambda key: _attested(key, {"fmt": "none", "attStmt": {"sig": b"x"}}),
    "a maker's certificate": lambda key: _attested(
        key, {"fmt": "packed", "attStmt": {"alg": -7, "sig": b"x", "x5c": [b"x"]}}
    ),
    "signed by another": lambda key: _attested(key, {"fmt": "packed", "attStmt": _statement(passkey())}),
    "another algorithm stated": lambda key: _attested(key, {"fmt": "packed", "attStmt": {"alg": -8, "sig": b"x"}}),
    "one more member": lambda key: _attested(key, {"more": 1}),
}


def _flagged(data: bytes, flag: int) -> bytes:
    return data[:32] + bytes([data[32] | flag]) + data[33:]


def _statement(key: Passkey) -> dict[str, Any]:
    return {"alg": -7, "sig": key.sign(b"x")}


def _attested(key: Passkey, changes: dict[str, Any]) -> Any:
    attestation = {"fmt": "none", "attStmt": {}, "authData": key.attested(), **changes}
    return {**key.created(CHALLENGE), "attestationData": to_base64url(cbor(attestation))}


def _rewritten(key: Passkey, change: Callable[[bytes], bytes]) -> Any:
    return _attested(key, {"authData": change(key.attested())})


@pytest.mark.parametrize("why", MADE)
def test_a_passkey_that_was_made_otherwise_is_refused(why: str) -> None:
    refused(MADE[why](passkey()))


def test_a_challenge_is_for_one_passkey_and_one_purpose() -> None:
    key = passkey()
    refused(key.created(CHALLENGE), challenge=to_base64url(b"another"))
    refused(key.created(CHALLENGE), relying_party_id="other.example")
    refused(key.created(CHALLENGE), origins=[])
    assert ours(key.created(CHALLENGE), origins=None).origin == ORIGIN
    with pytest.raises(REFUSED):
        used(key.used(CHALLENGE, kind="webauthn.create"), key)
    with pytest.raises(REFUSED):
        used(key.but(flags=GOOD | 0x40).used(CHALLENGE), key)


def _numbers(bits: int, exponent: int) -> dict[int, Any]:
    modulus = rsa.generate_private_key(public_exponent=65537, key_size=bits).public_key().public_numbers().n
    return {1: 3, 3: -257, -1: modulus.to_bytes(bits // 8, "big"), -2: exponent.to_bytes(3, "big")}


_POINT = cose(ec.derive_private_key(5, ec.SECP256R1()).public_key())
KEYS: dict[str, Callable[[], Any]] = {
    "Ed25519 of small order": lambda: {1: 1, 3: -8, -1: 6, -2: b"\x01" + bytes(31)},
    "Ed25519 of 31 bytes": lambda: {1: 1, 3: -8, -1: 6, -2: bytes(31)},
    "Ed448": lambda: {1: 1, 3: -8, -1: 7, -2: bytes(57)},
    "not on the curve": lambda: {**_POINT, -3: bytes(32)},
    "a compressed point": lambda: {**_POINT, -3: True},
    "another curve": lambda: {**_POINT, -1: 2},
    "secp256k1": lambda: {**_POINT, 3: -47, -1: 8},
    "an algorithm of another key": lambda: {**_POINT, 3: -8},
    "RSA of 1,024 bits": lambda: _numbers(1024, 65537),
    "RSA with exponent 3": lambda: _numbers(2048, 3),
    "RSA with SHA-1": lambda: {**_numbers(2048, 65537), 3: -65535},
    "a private key": lambda: {**_POINT, -4: bytes(32)},
    "one more member": lambda: {**_POINT, 4: [1]},
    "no kind": lambda: {name: value for name, value in _POINT.items() if name != 1},
    "no map": lambda: [1, 2],
    "texts for numbers": lambda: {"1": 2, "3": -7},
}


@pytest.mark.parametrize("why", KEYS)
def test_a_key_of_another_kind_is_refused(why: str) -> None:
    refused(passkey().created(CHALLENGE, cose_key=KEYS[why]()))


# The counter


def test_a_counter_that_stands_still_or_goes_back_is_no_reason_to_refuse() -> None:
    """Passkeys that are synchronized count nothing; a copy is told by its use, not by a number (see ``trust``)."""
    key = passkey(count=5)
    for count in (0, 5, 4, 6):
        used(key.but(count=count).used(CHALLENGE), key)


def test_nothing_stands_in_for_the_passkey() -> None:
    key, other = passkey(), passkey()
    with pytest.raises(ActionSignatureInvalid, match="does not verify"):
        used(other.but(raw_id=key.raw_id).used(CHALLENGE), key)
    with pytest.raises(ActionSignatureInvalid, match="another credential"):
        used(other.used(CHALLENGE), key)
    unbound = dataclasses.replace(credential_of(key), relying_party_id=None)
    with pytest.raises(ActionSignatureInvalid, match="no relying party"):
        verify_assertion(parse_assertion(key.used(CHALLENGE)), unbound, CHALLENGE, origins=[ORIGIN])


# CBOR


def test_what_is_written_is_read() -> None:
    value = {"a": [1, -1, 24, 2**32, -(2**63)], 3: b"x" * 300, -7: {"": None}, "t": [True, False], "é": "é" * 70000}
    assert read_cbor(cbor(value), field="x") == value


@pytest.mark.parametrize(
    "text",
    [
        "",  # nothing
        "0101",  # goes on
        "18",  # ends early
        "5b7fffffffffffffff",  # a byte string longer than there are bytes
        "9b7fffffffffffffff",  # a list longer than there are bytes
        "bb7fffffffffffffff",  # a map longer than there are bytes
        "5f4101ff",  # indefinite length
        "9f01ff",
        "bf0101ff",
        "c001",  # a tag
        "f93c00",  # a float
        "fb3ff0000000000000",
        "f7",  # undefined
        "f0",  # a simple value
        "1c",  # a length nobody has defined
        "a201010102",  # a key twice
        "a20101180102",  # a key twice, in two spellings
        "a14001",  # a key that is bytes
        "a1f501",  # a key that is true
        "a18001",  # a key that is a list
        "61ff",  # a text that is not UTF-8
        "81" * 10 + "01",  # too deep
    ],
)
def test_other_cbor_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_cbor(bytes.fromhex(text), field="x")
    assert caught.value.field == "x"


def test_numbers_may_be_longer_than_they_have_to_be() -> None:
    """Browsers write them as short as can be; nothing says that authenticators do."""
    assert read_cbor(bytes.fromhex("a118031b0000000000000005"), field="x") == {3: 5}


def test_any_bytes_are_read_or_refused() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in range(3000):
        data = chance.randbytes(chance.randrange(40))
        with contextlib.suppress(InvalidInput):
            read_cbor(data, field="x")
