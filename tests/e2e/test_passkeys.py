"""Passkeys over real HTTP: registered, logged in with, signed with; and each way in which one is not good."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from outlay.actions.act import CHALLENGE_LIFE
from outlay.core.event import iso
from outlay.core.seams import HOUR, SECOND
from outlay.evidence.attestation import fingerprint, key_attestation, new_key_pair
from tests.door import Answer, Door, check_refusal, open_door
from tests.e2e.passkey_calls import (
    ORIGIN,
    PARTY,
    Person,
    answer_login,
    begin,
    begin_login,
    begin_with,
    code_for,
    exchange,
    finish,
    finish_with,
    invite,
    log_in,
    open_,
    passkey,
    person,
    register,
    write,
)
from tests.passkeys import KINDS, PRESENT, VERIFIED, Passkey


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with open_door(tmp_path_factory.mktemp("door")) as opened:
        yield opened


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["none", "packed"])
def test_a_person_joins_with_a_passkey_logs_in_and_signs(door: Door, kind: str, form: str) -> None:
    email = f"{kind}-{form}@example.com".lower()
    who = register(door, email, passkey(kind), form=form)
    begun = begin_login(door, email)
    assert begun["allowCredentials"] == {
        "key": [],
        "webauthn": [{"type": "public-key", "id": who.passkey.cred_id}],
    }
    assert [each["kind"] for each in begun["supportedCredentialKinds"]] == ["Key", "Fido2"]
    assert (begun["rp"]["id"], begun["userVerification"]) == (PARTY, "required")
    who = log_in(door, who)
    (shown,) = door.call("GET", "/auth/credentials", token=who.token).ok()["items"]
    assert (shown["kind"], shown["name"], shown["relyingPartyId"], shown["origin"]) == (
        "Fido2",
        "phone",
        PARTY,
        ORIGIN,
    )
    assert (shown["publicKey"], shown["credentialId"]) == (who.passkey.public_pem, who.passkey.cred_id)
    second = passkey()
    begun = door.call("POST", "/auth/credentials/init", {"kind": "Fido2"}, token=who.token).ok()
    assert begun["excludeCredentials"] == [{"type": "public-key", "id": who.passkey.cred_id}]
    assert begun["authenticatorSelection"]["userVerification"] == "required"
    body = {
        "credentialKind": "Fido2",
        "credentialInfo": second.created(begun["challenge"]),
        "credentialName": "laptop",
        "challengeIdentifier": begun["challengeIdentifier"],
    }
    made = write(door, who, "POST", "/auth/credentials", body).ok()
    assert (made["kind"], made["isActive"]) == ("Fido2", True)
    other = log_in(door, replace(who, passkey=second, uuid=made["credentialUuid"]))
    write(door, other, "PUT", "/auth/credentials/deactivate", who.named).ok()
    begun = begin_login(door, email)
    assert [each["id"] for each in begun["allowCredentials"]["webauthn"]] == [second.cred_id]


def test_a_challenge_of_a_registration_offers_both_kinds(door: Door) -> None:
    _, code = invite(door, "offers@example.com")
    begun = begin(door, "offers@example.com", code)
    assert begun["supportedCredentialKinds"] == {"firstFactor": ["Key", "Fido2"], "secondFactor": []}
    assert [each["alg"] for each in begun["pubKeyCredParams"]] == [-8, -7, -257]
    assert begun["attestation"] == "none"


# What is not good


BAD: dict[str, tuple[Callable[[Person, str], Any], int]] = {
    "nobody verified": (lambda who, challenge: who.passkey.but(flags=PRESENT).used(challenge), 403),
    "nobody present": (lambda who, challenge: who.passkey.but(flags=VERIFIED).used(challenge), 403),
    "another origin": (lambda who, challenge: who.passkey.but(origin="https://evil.example").used(challenge), 403),
    "another port": (lambda who, challenge: who.passkey.but(origin="http://localhost:8001").used(challenge), 403),
    "another relying party": (
        lambda who, challenge: who.passkey.but(relying_party="evil.example").used(challenge),
        403,
    ),
    "in another site's frame": (lambda who, challenge: who.passkey.used(challenge, more={"crossOrigin": True}), 403),
    "for making one": (lambda who, challenge: who.passkey.used(challenge, kind="webauthn.create"), 403),
    "another challenge": (lambda who, challenge: who.passkey.used("B" * 43), 403),
    "another key by the same name": (lambda who, challenge: passkey(raw_id=who.passkey.raw_id).used(challenge), 403),
    "as a plain key": (lambda who, challenge: {**who.passkey.used(challenge), "kind": "Key"}, 400),
    "without authenticator data": (lambda who, challenge: _lacking(who.passkey.used(challenge)), 400),
}


def _lacking(factor: Any) -> Any:
    del factor["credentialAssertion"]["authenticatorData"]
    return factor


@pytest.fixture(scope="module")
def one(door: Door) -> Person:
    return person(door, "one@example.com")


@pytest.mark.parametrize("why", BAD)
def test_a_passkey_used_otherwise_neither_signs_nor_logs_in(door: Door, one: Person, why: str) -> None:
    make, status = BAD[why]
    before = door.stored()
    opened = open_(door, one, "GET", "/auth/credentials")
    answer = exchange(door, one, opened, make(one, opened["challenge"]))
    check_refusal(answer)
    assert answer.status == status, answer.body
    begun = begin_login(door, one.email)
    answer = answer_login(door, begun, make(one, begun["challenge"]))
    check_refusal(answer)
    assert answer.status == status, answer.body
    assert door.stored() == before


MADE: dict[str, Callable[[Passkey, str], Any]] = {
    "nobody verified": lambda key, challenge: key.but(flags=PRESENT).created(challenge),
    "another origin": lambda key, challenge: key.but(origin="https://evil.example").created(challenge),
    "another relying party": lambda key, challenge: key.but(relying_party="evil.example").created(challenge),
    "another challenge": lambda key, challenge: key.created("B" * 43),
    "used, not made": lambda key, challenge: key.created(challenge, kind="webauthn.get"),
    "another id": lambda key, challenge: {**key.created(challenge), "credId": "AAAA"},
}


@pytest.mark.parametrize("why", MADE)
def test_a_passkey_made_otherwise_takes_up_no_invitation(door: Door, why: str) -> None:
    email = f"{why.replace(' ', '.').replace(',', '')}@example.com"
    _, code = invite(door, email)
    begun = begin(door, email, code)
    before = door.stored()
    answer = finish(door, begun, MADE[why](passkey(), begun["challenge"]))
    check_refusal(answer)
    assert (answer.status, answer.code) == (403, "action_signature_invalid")
    kind = finish(door, begun, passkey().created(begun["challenge"]), "Key")
    assert (kind.status, kind.field) == (400, "credentialInfo.attestationData")
    assert finish(door, begun, passkey().created(begun["challenge"]), "Password").field == "credentialKind"
    assert door.stored() == before
    finish(door, begun, passkey().created(begun["challenge"])).ok()


def test_a_challenge_is_answered_in_time_and_once(door: Door, one: Person) -> None:
    begun, opened = begin_login(door, one.email), open_(door, one, "GET", "/auth/credentials")
    factor = one.passkey.used(begun["challenge"])
    answer_login(door, begun, factor).ok()
    again = answer_login(door, begun, factor)
    assert (again.status, again.message) == (401, "this login challenge was used: start again")
    late = begin_login(door, one.email)
    door.clock.instant += CHALLENGE_LIFE
    answer = answer_login(door, late, one.passkey.used(late["challenge"]))
    assert (answer.status, answer.message) == (401, "this login has expired: start again")
    answer = exchange(door, one, opened, one.passkey.used(opened["challenge"]))
    assert (answer.status, answer.code) == (403, "action_signature_invalid")
    assert "expired" in answer.message


def test_a_signed_action_is_used_once(door: Door, one: Person) -> None:
    body = {"expiration": door.clock.now() // SECOND + 3600}
    opened = open_(door, one, "POST", "/auth/credentials/code", json.dumps(body))
    action = exchange(door, one, opened, one.passkey.used(opened["challenge"])).ok()["userAction"]
    door.call("POST", "/auth/credentials/code", body, token=one.token, action=action).ok()
    again = door.call("POST", "/auth/credentials/code", body, token=one.token, action=action)
    assert (again.status, again.code) == (403, "action_replayed")


def test_another_persons_passkey_signs_nothing(door: Door, one: Person) -> None:
    two = person(door, "two@example.com")
    begun = begin_login(door, one.email)
    assert answer_login(door, begun, two.passkey.used(begun["challenge"])).status == 401
    opened = open_(door, one, "GET", "/auth/credentials")
    answer = exchange(door, one, opened, two.passkey.used(opened["challenge"]))
    assert (answer.status, answer.code) == (403, "action_signature_invalid")
    theirs = exchange(door, two, opened, one.passkey.used(opened["challenge"]))
    assert (theirs.status, theirs.code) == (403, "action_signature_invalid")


def test_one_passkey_is_one_persons(door: Door, one: Person) -> None:
    _, code = invite(door, "thief@example.com")
    begun = begin(door, "thief@example.com", code)
    same_key = finish(door, begun, one.passkey.but(raw_id=b"another").created(begun["challenge"]))
    assert (same_key.status, same_key.code) == (409, "conflict")
    same_name = finish(door, begun, passkey(raw_id=one.passkey.raw_id).created(begun["challenge"]))
    assert (same_name.status, same_name.field) == (400, "credentialInfo.credId")


def test_a_passkey_that_is_switched_off_is_good_for_nothing(door: Door) -> None:
    who = person(door, "off@example.com")
    other = passkey()
    begun = door.call("POST", "/auth/credentials/init", {"kind": "Fido2"}, token=who.token).ok()
    body = {
        "credentialKind": "Fido2",
        "credentialInfo": other.created(begun["challenge"]),
        "challengeIdentifier": begun["challengeIdentifier"],
    }
    made = write(door, who, "POST", "/auth/credentials", body).ok()
    opened = open_(door, who, "GET", "/auth/credentials")
    write(door, who, "PUT", "/auth/credentials/deactivate", {"credentialUuid": made["credentialUuid"]}).ok()
    answer = exchange(door, who, opened, other.used(opened["challenge"]))
    assert (answer.status, answer.code) == (403, "action_signature_invalid")
    begun = begin_login(door, who.email)
    assert [each["id"] for each in begun["allowCredentials"]["webauthn"]] == [who.passkey.cred_id]
    assert answer_login(door, begun, other.used(begun["challenge"])).status == 401


def test_a_copied_passkey_is_not_told_by_its_counter(door: Door) -> None:
    """Synchronized passkeys count nothing: who has one is told by what it signs, and it is withdrawn."""
    who = person(door, "copied@example.com")
    for count in (9, 0, 3):
        log_in(door, replace(who, passkey=who.passkey.but(count=count)))


def test_a_service_account_gets_no_passkey_and_no_code(door: Door) -> None:
    bot = door.service_account("passkeyless", ["Wallets:Read"])
    begun = door.call("POST", "/auth/credentials/init", {"kind": "Fido2"}, token=bot.token).ok()
    body = {
        "credentialKind": "Fido2",
        "credentialInfo": passkey().created(begun["challenge"]),
        "challengeIdentifier": begun["challengeIdentifier"],
    }
    answer = door.write(bot, "POST", "/auth/credentials", body)
    assert (answer.status, answer.field) == (400, "credentialKind")
    code = door.write(bot, "POST", "/auth/credentials/code", {"expiration": door.clock.now() // SECOND + 60})
    assert (code.status, code.code) == (403, "not_permitted")


# Who is here


def shape(value: Any) -> Any:
    """Return what an answer looks like to somebody who cannot read its identifiers."""
    if isinstance(value, dict):
        return {name: shape(each) for name, each in value.items()}
    if isinstance(value, list):
        return [shape(each) for each in value]
    return len(value) if isinstance(value, str) else value


def test_nobody_learns_which_names_there_are(door: Door, one: Person) -> None:
    """A name that nobody has, a machine's, an invited person's: each is answered as one with a passkey, every time."""
    door.service_account("machine", ["Wallets:Read"])
    invite(door, "invited@example.com")
    real = begin_login(door, one.email)
    sizes = set()
    for name in ("machine", "invited@example.com", *(f"stranger.{number}@example.com" for number in range(30))):
        first, second = begin_login(door, name), begin_login(door, name)
        assert first["allowCredentials"] == second["allowCredentials"]
        assert first["challenge"] != second["challenge"]
        (listed,) = first["allowCredentials"]["webauthn"]
        sizes.add(len(listed["id"]))
        if len(listed["id"]) == len(one.passkey.cred_id):
            assert shape(first) == shape(real)
        answer = answer_login(door, first, passkey(raw_id=b"x").used(first["challenge"]))
        assert (answer.status, answer.message) == (401, "this credential cannot log in here")
        wrong = answer_login(door, real, passkey(raw_id=b"x").used(real["challenge"]))
        assert (answer.status, answer.message) == (wrong.status, wrong.message)
    assert len(sizes) == 3


def test_nobody_learns_whose_keys_are_gone(door: Door) -> None:
    lost = register(door, "gone@example.com", passkey())
    recover(door, lost.user_id).ok()
    stranger = begin_login(door, "stranger@example.com")["allowCredentials"]["webauthn"]
    listed = begin_login(door, lost.email)["allowCredentials"]["webauthn"]
    assert len(listed) == len(stranger) == 1
    assert listed == begin_login(door, lost.email)["allowCredentials"]["webauthn"]
    assert listed[0]["id"] != lost.passkey.cred_id


def test_who_names_a_credential_by_its_uuid_is_told(door: Door, one: Person) -> None:
    begun = begin_login(door, one.email)
    factor = one.passkey.used(begun["challenge"])
    factor["credentialAssertion"]["credId"] = one.uuid
    answer = answer_login(door, begun, factor)
    assert (answer.status, answer.message) == (401, "that is the uuid of a credential: log in with its credentialId")


# Another device, with a code


def test_a_passkey_is_added_from_another_device(door: Door) -> None:
    who, phone = person(door, "devices@example.com"), passkey("Ed25519")
    code = code_for(door, who).ok()
    assert set(code) == {"code", "expiration"} and len(code["code"]) == 24
    begun = begin_with(door, code["code"]).ok()
    assert begun["excludeCredentials"] == [{"type": "public-key", "id": who.passkey.cred_id}]
    assert begun["user"]["name"] == who.email
    made = finish_with(door, begun, phone.created(begun["challenge"])).ok()
    assert (made["kind"], made["isActive"], made["name"]) == ("Fido2", False, "phone")
    other = replace(who, passkey=phone, uuid=made["credentialUuid"])
    login = begin_login(door, who.email)
    assert [each["id"] for each in login["allowCredentials"]["webauthn"]] == [who.passkey.cred_id]
    assert answer_login(door, login, phone.used(login["challenge"])).status == 401
    opened = open_(door, who, "PUT", "/auth/credentials/activate", json.dumps(other.named))
    assert exchange(door, who, opened, phone.used(opened["challenge"])).status == 403, "never itself"
    for told, status in (("0" * 64, 412), (fingerprint(phone.public_pem), 200)):
        body = {**other.named, "fingerprint": told}
        assert write(door, who, "PUT", "/auth/credentials/activate", body).status == status
    log_in(door, other)
    for answer in (begin_with(door, code["code"]), finish_with(door, begun, passkey().created(begun["challenge"]))):
        assert (answer.status, answer.code) == (401, "not_authenticated")


def test_a_code_is_good_for_one_device_in_its_time(door: Door) -> None:
    who = person(door, "codes@example.com")
    first = code_for(door, who).ok()["code"]
    begun = begin_with(door, first).ok()
    second = code_for(door, who, expiration=iso(door.clock.now() + HOUR)).ok()["code"]
    assert begin_with(door, first).status == 401, "a new code takes its place"
    assert finish_with(door, begun, passkey().created(begun["challenge"])).status == 401
    assert begin_with(door, "x" * 24).status == 401
    begun = begin_with(door, second).ok()
    assert begin_with(door, second, "Totp").field == "credentialKind"
    before = door.stored()
    wrong = finish_with(door, {**begun, "challengeIdentifier": "x"}, passkey().created(begun["challenge"]))
    assert (wrong.status, wrong.code) == (401, "not_authenticated")
    bad = finish_with(door, begun, passkey().but(flags=PRESENT).created(begun["challenge"]))
    assert (bad.status, bad.code) == (403, "action_signature_invalid")
    assert door.stored() == before
    door.clock.instant += HOUR
    assert begin_with(door, second).status == 401
    late = finish_with(door, begun, passkey().created(begun["challenge"]))
    assert (late.status, late.code) == (401, "not_authenticated")


@pytest.mark.parametrize("seconds", [0, -1, 7 * 86_400 + 1])
def test_a_code_lives_for_seven_days_at_most(door: Door, seconds: int) -> None:
    who = person(door, f"life{seconds}@example.com")
    answer = code_for(door, who, expiration=door.clock.now() // SECOND + seconds)
    assert (answer.status, answer.field) == (400, "expiration")
    for value in ("tomorrow", "2030-01-01T00:00:00", 1.5, 10**15, ""):
        assert code_for(door, who, expiration=value).field == "expiration"


def test_a_code_is_stored_as_its_hash(door: Door) -> None:
    who = person(door, "hashed@example.com")
    code = code_for(door, who).ok()["code"]
    assert code not in str(door.stored())
    (row,) = door.rows("SELECT code FROM credential_code WHERE user_id = ?", who.user_id)
    assert row[0] == hashlib.sha256(code.encode()).hexdigest()


def test_a_key_can_be_added_with_a_code_too(door: Door) -> None:
    who, (private, _) = person(door, "terminal@example.com"), new_key_pair()
    begun = begin_with(door, code_for(door, who).ok()["code"], "Key").ok()
    assert "excludeCredentials" not in begun
    made = finish_with(door, begun, key_attestation(private, begun["challenge"]), "Key").ok()
    assert (made["kind"], made["isActive"], made["relyingPartyId"]) == ("Key", False, "")


# Recovery


def recover(door: Door, user_id: str, body: Any = None) -> Answer:
    return door.write(door.admin, "POST", f"/v1/users/{user_id}/recovery", body)


def test_somebody_who_lost_everything_comes_back(door: Door) -> None:
    who = person(door, "lost@example.com")
    for body, field in (({"reason": 1}, "reason"), ({"more": "x"}, "more"), ({"reason": ""}, "reason")):
        assert recover(door, who.user_id, body).field == field
    found = recover(door, who.user_id, {"reason": "called them back"}).ok()
    assert set(found) == {"user", "code", "expiration"}
    assert (found["user"]["mayVote"], found["user"]["credentials"]) == (False, [])
    assert door.call("GET", "/auth/credentials", token=who.token).status == 401
    login = begin_login(door, who.email)
    assert answer_login(door, login, who.passkey.used(login["challenge"])).status == 401
    begun = begin_with(door, found["code"]).ok()
    old = finish_with(door, begun, who.passkey.created(begun["challenge"]))
    assert (old.status, old.code) == (409, "conflict"), "a withdrawn key never comes back"
    new = passkey()
    made = finish_with(door, begun, new.created(begun["challenge"])).ok()
    back = replace(who, passkey=new, uuid=made["credentialUuid"])
    login = begin_login(door, who.email)
    assert answer_login(door, login, new.used(login["challenge"])).status == 401
    shown = door.get(f"/auth/users/{who.user_id}").ok()
    assert [(each["fingerprint"], each["isActive"]) for each in shown["credentials"]] == [
        (fingerprint(new.public_pem), False)
    ]
    path, compared = f"/auth/users/{who.user_id}/activate", [fingerprint(new.public_pem)]
    bad: tuple[dict[str, Any], ...] = ({"fingerprints": "x"}, {"fingerprints": [1]}, {"more": 1})
    for body in bad:
        assert door.write(door.admin, "PUT", path, body).field == next(iter(body))
    assert door.write(door.admin, "PUT", path, {"fingerprints": ["0" * 64]}).status == 412
    vouched = door.write(door.admin, "PUT", path, {"fingerprints": compared}).ok()
    assert (vouched["mayVote"], vouched["userId"]) == (True, who.user_id)
    log_in(door, back)
    login = begin_login(door, who.email)
    assert answer_login(door, login, who.passkey.used(login["challenge"])).status == 401


def test_whom_a_recovery_is_not_for(door: Door) -> None:
    before = door.stored()
    own = recover(door, door.admin.user_id)
    assert (own.status, own.code) == (412, "precondition_failed")
    assert recover(door, "us-00000-00000-0000000000000000").status == 404
    assert door.stored() == before
    invited, _ = invite(door, "never.came@example.com")
    assert recover(door, invited).status == 412
    bot = door.service_account("not a person", ["Wallets:Read"])
    assert recover(door, bot.user_id).status == 404


def test_nobody_recovers_who_may_do_more(door: Door) -> None:
    """Else a clerk who manages people would take over an admin."""
    clerk = door.person("clerk@example.com", ("Auth:Users:Create", "Auth:Users:Deactivate", "Wallets:Read"))
    answer = door.write(clerk, "POST", f"/v1/users/{door.admin.user_id}/recovery")
    assert (answer.status, answer.code) == (403, "not_permitted")
    assert "Config:Apply" in answer.details["operations"]
    for lacks, has in (("Create", "Deactivate"), ("Deactivate", "Create")):
        half = door.person(f"half.{has}@example.com".lower(), (f"Auth:Users:{has}",))
        answer = door.write(half, "POST", f"/v1/users/{clerk.user_id}/recovery")
        assert (answer.status, answer.details) == (403, {"operation": f"Auth:Users:{lacks}"})
