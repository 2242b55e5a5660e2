"""Records of passkeys, codes and recoveries against whoever owns the database, and some good keys."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from outlay.core import ids
from outlay.core.operation import OPERATIONS
from outlay.core.seams import DAY, MINUTE, SECOND
from outlay.evidence.attestation import fingerprint, key_attestation
from outlay.evidence.bundle import EvidenceBroken
from outlay.evidence.challenge import RegistrationPreimage, credential_challenge, registration_challenge
from outlay.evidence.record import RecordBroken
from tests.actions import joining
from tests.passkeys import Passkey
from tests.unit.forged import Forger, Signer, told
from tests.unit.test_history_keys import preimage_of

STORY = told()
ADMIN = STORY.admin
BROKEN = (EvidenceBroken, RecordBroken)


@pytest.fixture
def forger() -> Forger:
    """Return a forger at the end of the story."""
    return Forger(STORY)


def now(forger: Forger) -> int:
    return int(forger.records[-1]["at"])


def give_code(forger: Forger, by: Signer, *, subject: str | None = None, life: int = 3600, **changes: Any) -> str:
    """Append the record of a code for ``by`` and return its hash; ``changes`` are of the body."""
    expires = now(forger) // SECOND + life
    body = {"code": "0" * 64, "expires": expires * SECOND, **changes}
    payload = {"expiration": expires}
    forger.say(by, "POST", "/auth/credentials/code", payload, "code.created", subject or by.user_id, body)
    return forger.head


def recover(forger: Forger, who: Signer, by: Signer = ADMIN, **changes: Any) -> str:
    """Append the record of a recovery and return its hash; ``changes`` are of the body."""
    body = {"code": "0" * 64, "expires": now(forger) + DAY, "reason": None, **changes}
    forger.say(by, "POST", f"/v1/users/{who.user_id}/recovery", {}, "user.recovered", who.user_id, body)
    return forger.head


def take_up(
    forger: Forger, who: Signer, code: str, new: Signer | None = None, *, changed: Any = None, **changes: Any
) -> Signer:
    """Append the record of a key registered with a code; ``changes`` are of the preimage, ``changed`` of the body."""
    new = new or forger.key(who.user_id)
    at = now(forger)
    fields = {"org": forger.records[0]["org"], "user_id": who.user_id, "invitation": code, "nonce": "n"}
    preimage = RegistrationPreimage(**{**fields, "issued": at, "expires": at + 15 * MINUTE, **changes})
    body = {
        "credentialUuid": new.uuid,
        "credentialId": new.credential_id,
        "publicKey": new.public_key,
        "fingerprint": fingerprint(new.public_key),
        "preimage": preimage.document(),
        "attestation": key_attestation(new.private_key, registration_challenge(preimage), cred_id=new.credential_id),
        **(changed or {}),
    }
    record = forger.append("credential.registered", new.uuid, body, None)
    return dataclasses.replace(new, record=record)


def switch_on(forger: Forger, key: Signer, by: Signer) -> None:
    payload = {"credentialUuid": key.uuid}
    forger.say(by, "PUT", "/auth/credentials/activate", payload, "credential.activated", key.uuid, payload)


def vouch(forger: Forger, who: Signer, *keys: Signer, by: Signer = ADMIN) -> None:
    prints = sorted(fingerprint(key.public_key) for key in keys)
    forger.switch(who, "activate", by=by, fingerprints=prints)


def use(forger: Forger, key: Signer) -> None:
    """Sign something with a key: a code for its holder."""
    give_code(forger, key)


def refused(forger: Forger, match: str | None = None) -> None:
    with pytest.raises(BROKEN, match=match):
        forger.verify()


# Codes


def test_a_key_registered_with_a_code_counts_once_another_of_theirs_activated_it(forger: Forger) -> None:
    who = forger.person([])
    key = take_up(forger, who, give_code(forger, who))
    forger.verify()
    switch_on(forger, key, by=who)
    use(forger, key)
    forger.verify()


def test_it_counts_for_nothing_before(forger: Forger) -> None:
    """Whoever owns the database registers their own key with an open code: nothing proves who took it up."""
    who = forger.person([])
    stolen = take_up(forger, who, give_code(forger, who))
    forger.verify()
    acts: list[Callable[[], None]] = [
        lambda: use(forger, stolen),
        lambda: switch_on(forger, stolen, by=stolen),
    ]
    for act in acts:
        act()
        refused(forger, "withdrawn or that nobody vouched for")
        forger.undo()
    switch_on(forger, stolen, by=ADMIN)
    refused(forger, "no credential of the signer")
    forger.undo()
    vouch(forger, who, who, stolen)  # an activation of the person does not switch on a key of theirs
    forger.verify()
    use(forger, stolen)
    refused(forger, "withdrawn or that nobody vouched for")


def test_a_code_that_nobody_asked_for_is_none(forger: Forger) -> None:
    who, other = forger.person([]), forger.person([])
    invitation = next(each for each in forger.records if each["kind"] == "user.invited")
    code = give_code(forger, who)
    for wrong in (forger.head[:-1] + "0", "0" * 64, STORY.root, hash_of(forger, invitation)):
        take_up(forger, other, wrong)
        refused(forger, "no such open code")
        forger.undo()
    take_up(forger, other, code)  # somebody else's
    refused(forger, "no such open code")
    forger.undo()
    take_up(forger, who, code)
    take_up(forger, who, code)  # twice
    refused(forger, "no such open code")


def hash_of(forger: Forger, record: dict[str, Any]) -> str:
    at = forger.records.index(record)
    return str(forger.records[at + 1]["prev"])


def test_a_code_is_good_in_its_time_and_until_the_next(forger: Forger) -> None:
    who = forger.person([])
    first = give_code(forger, who)
    second = give_code(forger, who)
    take_up(forger, who, first)
    refused(forger, "no such open code")
    forger.undo()
    late = now(forger) + 3600 * SECOND
    take_up(forger, who, second, issued=late, expires=late + MINUTE)
    refused(forger)
    forger.undo()
    take_up(forger, who, second, org="or-00000-00000-0000000000000000")
    refused(forger, "of somebody else")
    forger.undo()
    take_up(forger, who, second)
    forger.verify()


def test_a_code_is_no_invitation_and_an_invitation_no_code(forger: Forger) -> None:
    who = forger.person([])
    code = give_code(forger, who)
    forger.register(forger.key(who.user_id), f"{who.uuid}@example.com", code)
    refused(forger, "no such open invitation")


def test_nobody_gets_a_code_for_somebody_else(forger: Forger) -> None:
    who = forger.person([])
    give_code(forger, who, subject=ADMIN.user_id)
    refused(forger, "for somebody else")


@pytest.mark.parametrize("life", [0, -1, 7 * 86_400 + 1])
def test_a_code_lives_for_seven_days_at_most(forger: Forger, life: int) -> None:
    give_code(forger, ADMIN, life=life)
    refused(forger, "next seven days")


def test_how_long_a_code_lives_is_signed(forger: Forger) -> None:
    give_code(forger, ADMIN, expires=now(forger) + DAY)
    refused(forger, "does not say what was signed")
    forger.undo()
    give_code(forger, ADMIN, expires=1.5)
    refused(forger)


def test_a_machine_gets_no_code(forger: Forger) -> None:
    bot = forger.key(forger.new_id(ids.USER))
    body = {
        "name": "bot",
        "credentialUuid": bot.uuid,
        "credentialId": bot.credential_id,
        "publicKey": bot.public_key,
        "permissionId": None,
        "assignmentId": None,
    }
    payload = {"name": "bot", "publicKey": bot.public_key}
    forger.say(ADMIN, "POST", "/auth/service-accounts", payload, "serviceAccount.created", bot.user_id, body)
    give_code(forger, dataclasses.replace(bot, record=forger.head))
    refused(forger, "does not bring about")


@pytest.mark.parametrize(
    "changed",
    [
        {"kind": "Key"},
        {"kind": "Fido2"},
        {"kind": "Fido2", "relyingPartyId": "localhost"},
        {"relyingPartyId": "localhost"},
        {"fingerprint": "0" * 64},
        {"credentialId": "another"},
        {"publicKey": ADMIN.public_key},
        {"more": 1},
    ],
)
def test_what_is_registered_is_what_proved_itself(forger: Forger, changed: dict[str, Any]) -> None:
    who = forger.person([])
    take_up(forger, who, give_code(forger, who), changed=changed)
    refused(forger)


# Recovery


def test_who_is_recovered_comes_back_with_what_somebody_vouched_for(forger: Forger) -> None:
    who = forger.person([])
    key = take_up(forger, who, recover(forger, who))
    vouch(forger, who, key)
    use(forger, key)
    forger.verify()


def test_a_withdrawn_key_never_comes_back(forger: Forger) -> None:
    """Not to sign, not by any activation, not registered again, and not by leaving out who came instead."""
    who = forger.person([])
    code = recover(forger, who)
    use(forger, who)
    refused(forger, "withdrawn")
    forger.undo()
    switch_on(forger, who, by=who)
    refused(forger, "withdrawn")
    forger.undo()
    take_up(forger, who, code, dataclasses.replace(who, uuid=forger.new_id(ids.CREDENTIAL)))
    refused(forger, "belongs to an identity already")
    forger.undo()
    key = take_up(forger, who, code)
    switch_on(forger, who, by=key)
    refused(forger, "nobody vouched for")
    forger.undo()
    vouch(forger, who, key, who)
    refused(forger, "does not say what was signed")
    forger.undo()
    vouch(forger, who)
    refused(forger, "does not say what was signed")
    forger.undo()
    vouch(forger, who, key)
    switch_on(forger, who, by=key)
    refused(forger, "no credential of the signer")
    forger.undo()
    use(forger, who)
    refused(forger, "withdrawn")


def test_the_vouching_cannot_be_left_out(forger: Forger) -> None:
    who = forger.person([])
    stolen = take_up(forger, who, recover(forger, who))
    acts: list[Callable[[], None]] = [
        lambda: use(forger, stolen),
        lambda: switch_on(forger, stolen, by=stolen),
        lambda: vouch(forger, who, stolen, by=stolen),
    ]
    for act in acts:
        act()
        refused(forger, "nobody vouched for")
        forger.undo()
    switch_on(forger, stolen, by=ADMIN)
    refused(forger, "no credential of the signer")


def test_a_recovery_ends_an_open_code(forger: Forger) -> None:
    who = forger.person([])
    before = give_code(forger, who)
    after = recover(forger, who)
    take_up(forger, who, before)
    refused(forger, "no such open code")
    forger.undo()
    again = recover(forger, who)  # the code was lost, too
    take_up(forger, who, after)
    refused(forger, "no such open code")
    forger.undo()
    take_up(forger, who, again)
    forger.verify()


def test_nobody_recovers_themselves_or_whom_they_may_not(forger: Forger) -> None:
    recover(forger, ADMIN, by=ADMIN)
    refused(forger, "or the signer")
    forger.undo()
    who = forger.person([])
    clerk = forger.person(["Auth:Users:Create", "Auth:Users:Deactivate"])
    for half in (["Auth:Users:Create"], ["Auth:Users:Deactivate"], sorted(set(OPERATIONS) - {"Auth:Users:Create"})):
        recover(forger, who, by=forger.person(half))
        refused(forger, "was not permitted Auth:Users:")
        forger.undo()
    recover(forger, ADMIN, by=clerk)  # the admin may do more
    refused(forger, "was not permitted")
    forger.undo()
    recover(forger, who, by=clerk)
    forger.verify()


def test_who_is_not_there_is_not_recovered(forger: Forger) -> None:
    who = forger.person([])
    forger.switch(who, "delete")
    recover(forger, who)
    refused(forger, "names nobody there is")


def test_why_somebody_was_recovered_is_signed(forger: Forger) -> None:
    who = forger.person([])
    recover(forger, who, reason="made up")
    refused(forger, "does not say what was signed")
    forger.undo()
    body = {"code": "0" * 64, "expires": now(forger) + DAY, "reason": None}
    path = f"/v1/users/{who.user_id}/recovery"
    for payload in ({"reason": "called back"}, {"reason": 1}, {"more": 1}):
        forger.say(ADMIN, "POST", path, payload, "user.recovered", who.user_id, body)
        refused(forger)
        forger.undo()


@pytest.mark.parametrize("expires", [0, 7 * DAY + 1])
def test_the_code_of_a_recovery_lives_for_seven_days_at_most(forger: Forger, expires: int) -> None:
    who = forger.person([])
    recover(forger, who, expires=now(forger) + expires)
    refused(forger, "next seven days")


# Passkeys


def registered(
    forger: Forger, who: Signer, code: str, key: Passkey, *, made: Passkey | None = None, **body: Any
) -> None:
    """Append the record of a passkey registered with a code; ``made`` is what its browser really did."""
    at, uuid = now(forger), forger.new_id(ids.CREDENTIAL)
    preimage = RegistrationPreimage(
        org=forger.records[0]["org"],
        user_id=who.user_id,
        invitation=code,
        nonce="n",
        issued=at,
        expires=at + 15 * MINUTE,
    )
    document = {
        "credentialUuid": uuid,
        "credentialId": key.cred_id,
        "publicKey": key.public_pem,
        "kind": "Fido2",
        "relyingPartyId": joining.PARTY,
        "fingerprint": fingerprint(key.public_pem),
        "preimage": preimage.document(),
        "attestation": (made or key).created(registration_challenge(preimage)),
        **body,
    }
    forger.append(
        "credential.registered", uuid, {name: each for name, each in document.items() if each is not None}, None
    )


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "Key"},
        {"kind": None},
        {"kind": "Fido2", "relyingPartyId": None},
        {"relyingPartyId": "evil.example"},
        {"relyingPartyId": ""},
        {"relyingPartyId": 1},
        {"kind": "Password"},
    ],
)
def test_a_passkey_says_what_it_is_bound_to(forger: Forger, body: dict[str, Any]) -> None:
    who = forger.person([])
    code = give_code(forger, who)
    registered(forger, who, code, joining.passkey())
    forger.verify()
    forger.undo()
    registered(forger, who, code, joining.passkey(), **body)
    refused(forger)


@pytest.mark.parametrize("stated", ["Fido2", "Key"])
def test_a_passkey_is_added_as_what_was_signed_for(forger: Forger, stated: str) -> None:
    who, key, uuid = forger.person([]), joining.passkey(), forger.new_id(ids.CREDENTIAL)
    preimage = preimage_of(forger, who)
    info = key.created(credential_challenge(preimage))
    payload = {"credentialKind": stated, "credentialInfo": info, "challengeIdentifier": "sealed"}
    body = {
        "credentialUuid": uuid,
        "credentialId": key.cred_id,
        "publicKey": key.public_pem,
        "kind": "Fido2",
        "relyingPartyId": joining.PARTY,
        "preimage": preimage.document(),
    }
    forger.say(who, "POST", "/auth/credentials", payload, "credential.created", uuid, body)
    if stated == "Fido2":
        forger.verify()
    else:
        refused(forger, "another kind")


def test_a_passkey_whose_user_was_not_verified_is_none(forger: Forger) -> None:
    who, key = forger.person([]), joining.passkey()
    code = give_code(forger, who)
    for made in (key.but(flags=1), key.but(relying_party="evil.example")):
        registered(forger, who, code, key, made=made)
        refused(forger)
        forger.undo()
