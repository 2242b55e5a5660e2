"""Attacks on signatures: replays, swaps, one kind of signature for another, weak and misread keys."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from outlay.core.seams import DAY, MINUTE
from outlay.evidence.attestation import key_attestation, new_key_pair
from outlay.evidence.base64url import from_base64url, to_base64url
from outlay.evidence.keys import PublicKey, normal_pem, sign_bytes
from outlay.evidence.sign import sign_challenge
from tests.attacks.attacker import refused, untouched
from tests.door import PAYER, Answer, Door, Who, transfer

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493


def invited(door: Door, email: str) -> tuple[str, str]:
    """Invite a person; return the temporary token and the challenge of the registration."""
    code = door.write(door.admin, "POST", "/auth/users", {"email": email, "kind": "CustomerEmployee"}).ok()
    begun = door.call(
        "POST", "/auth/registration/init", {"username": email, "registrationCode": code["registrationCode"]}
    ).ok()
    return begun["temporaryAuthenticationToken"], begun["challenge"]


def register(door: Door, token: str, info: Any) -> Answer:
    credential = {"credentialKind": "Key", "credentialInfo": info}
    return door.call("POST", "/auth/registration", {"firstFactorCredential": credential}, token=token)


def challenged(door: Door, who: Who, path: str, body: Any) -> tuple[str, str]:
    opened = door.open(who, "POST", path, body).ok()
    return opened["challengeIdentifier"], opened["challenge"]


def answer(door: Door, who: Who, identifier: str, factor: Any) -> Answer:
    return door.call(
        "POST", "/auth/action", {"challengeIdentifier": identifier, "firstFactor": factor}, token=who.token
    )


# Registration


def test_a_finished_registration_is_replayed(door: Door) -> None:
    """The attacker recorded a registration and sends it again. The invitation was used up by the first (F124)."""
    token, challenge = invited(door, "recorded@example.com")
    info = key_attestation(new_key_pair()[0], challenge)
    register(door, token, info).ok()
    with untouched(door):
        refused(register(door, token, info), 401, "not_authenticated")


def test_a_recorded_registration_is_finished_with_another_key(door: Door) -> None:
    """The attacker got the temporary token after the person registered; it takes no second key (F124)."""
    token, challenge = invited(door, "second-key@example.com")
    register(door, token, key_attestation(new_key_pair()[0], challenge)).ok()
    with untouched(door):
        refused(register(door, token, key_attestation(new_key_pair()[0], challenge)), 401, "not_authenticated")


def test_the_attestation_of_one_invitation_takes_up_another(door: Door) -> None:
    """The attacker is invited too and presents a colleague's attestation, or has theirs taken for a colleague's.

    Each challenge is derived from the person and the invitation (F124).
    """
    mine, my_challenge = invited(door, "mallory@example.com")
    theirs, their_challenge = invited(door, "colleague@example.com")
    private = new_key_pair()[0]
    with untouched(door):
        refused(register(door, theirs, key_attestation(private, my_challenge)), 403, "action_signature_invalid")
        refused(register(door, mine, key_attestation(private, their_challenge)), 403, "action_signature_invalid")
    register(door, mine, key_attestation(private, my_challenge)).ok()


def test_a_login_or_an_action_passes_for_a_registration(door: Door, payer: Who, path: str) -> None:
    """The attacker has signatures of a key over other challenges of this server; the domains are apart (F124)."""
    token, _ = invited(door, "domains@example.com")
    begun = door.call("POST", "/auth/login/init", {"username": "admin"}).ok()
    private = new_key_pair()[0]
    with untouched(door):
        for challenge in (begun["challenge"], challenged(door, payer, path, transfer())[1]):
            refused(register(door, token, key_attestation(private, challenge)), 403, "action_signature_invalid")


def test_a_new_keys_attestation_passes_for_a_signature(door: Door, payer: Who, path: str) -> None:
    """The attacker had the victim attest a key over the challenge of a payout: ``key.create`` is not ``key.get``."""
    identifier, challenge = challenged(door, payer, path, transfer())
    info = key_attestation(payer.private, challenge, cred_id=payer.credential_id)
    client_data = from_base64url(info["clientData"], field="clientData")
    assertion = {
        "credId": payer.credential_id,
        "clientData": info["clientData"],
        "signature": to_base64url(sign_bytes(payer.key, client_data)),
    }
    with untouched(door):
        factor = {"kind": "Key", "credentialAssertion": assertion}
        refused(answer(door, payer, identifier, factor), 403, "action_signature_invalid")


def test_a_registration_is_finished_too_late(door: Door) -> None:
    """The attacker found an old temporary token; it lives fifteen minutes, its instant of expiry excluded (F124)."""
    token, challenge = invited(door, "late@example.com")
    info = key_attestation(new_key_pair()[0], challenge)
    door.clock.instant += 15 * MINUTE
    with untouched(door):
        refused(register(door, token, info), 401, "not_authenticated")
    door.clock.instant -= 1
    register(door, token, info).ok()


def test_an_old_invitation_mail_is_found(door: Door) -> None:
    """The attacker reads a week-old mailbox. An invitation lives seven days (F124)."""
    body = {"email": "week@example.com", "kind": "CustomerEmployee"}
    code = door.write(door.admin, "POST", "/auth/users", body).ok()["registrationCode"]
    started = door.clock.instant
    try:
        door.clock.instant = started + 7 * DAY
        begin = {"username": "week@example.com", "registrationCode": code}
        refused(door.call("POST", "/auth/registration/init", begin), 401, "not_authenticated")
        door.clock.instant -= 1
        door.call("POST", "/auth/registration/init", begin).ok()
    finally:
        door.clock.instant = started


# Sessions


def test_the_first_admins_token_outlives_its_day(door: Door) -> None:
    """The attacker found the output of ``outlay init``. The token in it lives 24 hours (F120)."""
    issued = door.rows("SELECT expires_at FROM token WHERE name = 'first admin'")[0][0]
    started = door.clock.instant
    try:
        door.clock.instant = issued
        refused(door.get("/v1/config"), 401, "not_authenticated")
        door.clock.instant = issued - 1
        assert door.get("/v1/config").status == 200
    finally:
        door.clock.instant = started


def test_a_removed_person_comes_back_as_a_namesake(door: Door) -> None:
    """The attacker was removed, and somebody of the same name is invited. Old token and old key stay dead (F47)."""
    gone = door.person("namesake@example.com")
    door.write(door.admin, "DELETE", f"/auth/users/{gone.user_id}").ok()
    namesake = door.person("namesake@example.com")
    assert namesake.user_id != gone.user_id
    refused(door.get("/v1/config", gone), 401, "not_authenticated")
    begun = door.call("POST", "/auth/login/init", {"username": "namesake@example.com"}).ok()
    body = {
        "challengeIdentifier": begun["challengeIdentifier"],
        "firstFactor": sign_challenge(gone.key, gone.credential_id, begun["challenge"]),
    }
    with untouched(door):
        refused(door.call("POST", "/auth/login", body), 401, "not_authenticated")
    forged = {**body, "firstFactor": sign_challenge(gone.key, namesake.credential_id, begun["challenge"])}
    with untouched(door):
        refused(door.call("POST", "/auth/login", forged), 403, "action_signature_invalid")


# Signatures that are read in two ways


def machine(door: Door, name: str, key: Any) -> Who:
    """Create a payer with this key."""
    permission = door.write(door.admin, "POST", "/permissions", {"name": name, "operations": sorted(PAYER)}).ok()
    public = normal_pem(key.public_key())
    body = {"name": name, "publicKey": public, "permissionId": permission["id"]}
    made = door.write(door.admin, "POST", "/auth/service-accounts", body).ok()
    token = made["accessTokens"][0]
    return Who(
        user_id=made["userInfo"]["userId"],
        username=name,
        credential_id=token["credId"],
        key=key,
        private="",
        token=token["accessToken"],
    )


def test_a_mirrored_ecdsa_signature_pays_twice(door: Door, path: str) -> None:
    """The attacker turns (r, s) into (r, n - s), which verifies too. What is spent is the challenge (F123)."""
    who = machine(door, "mirrored", ec.generate_private_key(ec.SECP256R1()))
    body = transfer()
    identifier, challenge = challenged(door, who, path, body)
    factor = sign_challenge(who.key, who.credential_id, challenge)
    assertion = factor["credentialAssertion"]
    r, s = decode_dss_signature(from_base64url(assertion["signature"], field="signature"))
    mirrored = {**assertion, "signature": to_base64url(encode_dss_signature(r, P256_ORDER - s))}
    actions = [
        answer(door, who, identifier, {"kind": "Key", "credentialAssertion": each}).ok()["userAction"]
        for each in (assertion, mirrored)
    ]
    door.call("POST", path, body, token=who.token, action=actions[0]).ok()
    refused(door.call("POST", path, body, token=who.token, action=actions[1]), 403, "action_replayed")
    assert door.rows("SELECT count(*) FROM transfer WHERE external_id = ?", body["externalId"]) == [(1,)]


def test_an_ed25519_signature_is_stretched_by_the_group_order(door: Door, payer: Who, path: str) -> None:
    """The attacker adds the group's order to S; a lenient verifier would take the second spelling (F123)."""
    identifier, challenge = challenged(door, payer, path, transfer())
    factor = sign_challenge(payer.key, payer.credential_id, challenge)
    raw = from_base64url(factor["credentialAssertion"]["signature"], field="signature")
    stretched = int.from_bytes(raw[32:], "little") + ED25519_ORDER
    factor["credentialAssertion"]["signature"] = to_base64url(raw[:32] + stretched.to_bytes(32, "little"))
    with untouched(door):
        refused(answer(door, payer, identifier, factor), 403, "action_signature_invalid")


@pytest.mark.parametrize("algorithm", ["none", "HS256", "SHA1", "MD5", "RS256", "SHA256", "EdDSA", ""])
def test_the_client_names_a_weaker_algorithm(door: Door, payer: Who, path: str, algorithm: str) -> None:
    """The attacker states an algorithm of their choice; the stored key decides, and refuses the statement (F124)."""
    identifier, challenge = challenged(door, payer, path, transfer())
    factor = sign_challenge(payer.key, payer.credential_id, challenge)
    factor["credentialAssertion"]["algorithm"] = algorithm
    with untouched(door):
        refused(answer(door, payer, identifier, factor), 403, "action_signature_invalid")


def test_a_machines_key_passes_for_a_passkey(door: Door, payer: Who, path: str) -> None:
    """The attacker got the key to sign in a browser's form, over another site; the stored kind decides (F125)."""
    identifier, challenge = challenged(door, payer, path, transfer())
    factor = sign_challenge(payer.key, payer.credential_id, challenge)
    passkey = {**factor["credentialAssertion"], "authenticatorData": to_base64url(b"\0" * 32 + b"\x05" + b"\0" * 4)}
    with untouched(door):
        for kind in ("Fido2", "Password", "Totp", "RecoveryKey", "key", ""):
            found = answer(door, payer, identifier, {"kind": kind, "credentialAssertion": passkey})
            assert found.status in (400, 403), kind
        second = {"challengeIdentifier": identifier, "firstFactor": factor, "secondFactor": {"kind": "Totp"}}
        assert door.call("POST", "/auth/action", {**second, "otp": "123456"}, token=payer.token).status == 400


# Weak keys


def _pem(body: bytes) -> str:
    lines = serialization.Encoding.PEM
    key = ed25519.Ed25519PublicKey.from_public_bytes(body)
    return key.public_bytes(lines, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def _spki(key: Any) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return str(key.public_key().public_bytes(serialization.Encoding.PEM, form).decode())


WEAK: dict[str, Callable[[], str]] = {
    "Ed25519 of small order": lambda: _pem(b"\x01" + b"\0" * 31),
    "Ed25519, all zero": lambda: _pem(b"\0" * 32),
    "RSA of 1,024 bits": lambda: _spki(rsa.generate_private_key(public_exponent=65537, key_size=1024)),
    "RSA with exponent 3": lambda: _spki(rsa.generate_private_key(public_exponent=3, key_size=2048)),
    "a curve nobody asked for": lambda: _spki(ec.generate_private_key(ec.SECP384R1())),
    "a private key": lambda: new_key_pair()[0],
    "two keys": lambda: new_key_pair()[1] + new_key_pair()[1],
    "a certificate": lambda: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    "not a key": lambda: "x",
}


@pytest.mark.parametrize("kind", WEAK)
def test_a_weak_key_is_brought_in(door: Door, kind: str) -> None:
    """The attacker registers a key for which signatures can be made up, by every way a key comes in (F124)."""
    weak = WEAK[kind]()
    known = len(door.rows('SELECT id FROM "user"'))
    token, challenge = invited(door, f"weak-{known}@example.com")
    good = key_attestation(new_key_pair()[0], challenge)
    attested = {"publicKey": weak, "signature": "00" * 64}
    info = {**good, "attestationData": to_base64url(_json(attested))}
    with untouched(door):
        assert register(door, token, info).status == 400
    invite = {"email": "weak@example.com", "kind": "CustomerEmployee", "publicKey": weak}
    service = {"name": "weak", "publicKey": weak}
    for target, body in (("/auth/users", invite), ("/auth/service-accounts", service)):
        found = door.refused(door.admin, "POST", target, body)
        assert (found.status, found.field) == (400, "publicKey")


def _json(document: Any) -> bytes:
    return json.dumps(document).encode()


def test_a_public_key_is_presented_without_holding_it(door: Door) -> None:
    """The attacker registers a colleague's public key as their own, to pass for them; the key must sign (F124)."""
    token, challenge = invited(door, "borrows@example.com")
    mine = key_attestation(new_key_pair()[0], challenge)
    data = _read(mine["attestationData"])
    borrowed: PublicKey = door.admin.key.public_key()
    info = {**mine, "attestationData": to_base64url(_json({**data, "publicKey": normal_pem(borrowed)}))}
    with untouched(door):
        refused(register(door, token, info), 403, "action_signature_invalid")


def _read(text: str) -> Any:
    return json.loads(from_base64url(text, field="attestationData"))
