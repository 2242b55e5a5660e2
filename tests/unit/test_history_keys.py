"""Records of keys and personal access tokens against whoever owns the database, and some good keys."""

import dataclasses
from typing import Any

import pytest

from outlay.core import ids
from outlay.core.operation import OPERATIONS
from outlay.core.seams import DAY, MINUTE, SECOND
from outlay.evidence.attestation import key_attestation
from outlay.evidence.bundle import EvidenceBroken
from outlay.evidence.challenge import CredentialPreimage, RegistrationPreimage, credential_challenge
from outlay.evidence.challenge import registration_challenge as other_challenge
from outlay.evidence.record import RecordBroken
from tests.actions.documents import BLOCK, over, policy_document
from tests.unit.forged import Forger, Signer, told

STORY = told()
ADMIN = STORY.admin
BROKEN = (EvidenceBroken, RecordBroken)
POLICY = policy_document(over(10), BLOCK)
STORED = {**POLICY, "rule": {"kind": POLICY["rule"]["kind"], "configuration": {"limit": "10", "currency": "USD"}}}


@pytest.fixture
def forger() -> Forger:
    """Return a forger at the end of the story."""
    return Forger(STORY)


def preimage_of(forger: Forger, by: Signer, **changes: Any) -> CredentialPreimage:
    at = forger.records[-1]["at"]
    fields = {"org": forger.records[0]["org"], "user_id": by.user_id, "nonce": f"k{len(forger.records)}"}
    return CredentialPreimage(**{**fields, "issued": at, "expires": at + 15 * MINUTE, **changes})


def add_key(
    forger: Forger, by: Signer, new: Signer | None = None, *, challenge: str | None = None, **changes: Any
) -> Signer:
    """Append the record of a key that ``by`` adds; ``changes`` are of the preimage."""
    new = new or forger.key(by.user_id)
    preimage = preimage_of(forger, by, **changes)
    answered = credential_challenge(preimage) if challenge is None else challenge
    info = key_attestation(new.private_key, answered, cred_id=new.credential_id)
    payload = {"credentialKind": "Key", "credentialInfo": info, "challengeIdentifier": "sealed"}
    body = {
        "credentialUuid": new.uuid,
        "credentialId": new.credential_id,
        "publicKey": new.public_key,
        "preimage": preimage.document(),
    }
    forger.say(by, "POST", "/auth/credentials", payload, "credential.created", new.uuid, body)
    return dataclasses.replace(new, record=forger.head)


def add_token(forger: Forger, by: Signer, limit: str | None = None, **changes: Any) -> tuple[Signer, str]:
    """Append the record of a personal access token of ``by``; ``changes`` are of the payload."""
    made, token_id = forger.key(by.user_id), forger.new_id(ids.TOKEN)
    payload = {"name": "a token", "publicKey": made.public_key, "secondsValid": 60, **changes}
    if limit is not None:
        payload["permissionId"] = limit
    body = {
        "name": "a token",
        "credentialUuid": made.uuid,
        "credentialId": made.credential_id,
        "publicKey": made.public_key,
        "permissionId": limit,
        "expires": forger.records[-1]["at"] + 60 * SECOND,
    }
    forger.say(by, "POST", "/auth/pats", payload, "pat.created", token_id, body)
    return dataclasses.replace(made, record=forger.head), token_id


def policy(forger: Forger, by: Signer) -> Forger:
    body = {"version": 1, **STORED}
    return forger.say(by, "POST", "/v2/policies", POLICY, "policy.created", forger.new_id(ids.POLICY), body)


def may(forger: Forger, by: Signer) -> bool:
    """Tell whether a policy signed by ``by`` would be accepted now; leaves the chain as it is."""
    policy(forger, by)
    try:
        forger.verify()
    except EvidenceBroken:
        return False
    finally:
        forger.undo()
    return True


def switch(forger: Forger, by: Signer, key: Signer, state: str) -> Forger:
    body = {"credentialUuid": key.uuid}
    if state == "delete":
        return forger.say(by, "DELETE", f"/auth/credentials/{key.uuid}", {}, "credential.deleted", key.uuid, body)
    return forger.say(by, "PUT", f"/auth/credentials/{state}", body, f"credential.{state}d", key.uuid, body)


def switch_token(forger: Forger, by: Signer, key: Signer, token_id: str, state: str) -> Forger:
    body = {"credentialUuid": key.uuid, "tokenId": token_id}
    path = f"/auth/pats/{token_id}"
    if state == "delete":
        return forger.say(by, "DELETE", path, {}, "credential.deleted", key.uuid, body)
    return forger.say(by, "PUT", f"{path}/{state}", {}, f"credential.{state}d", key.uuid, body)


def refuse(forger: Forger, match: str) -> None:
    """Check that the newest record is refused, and take it away."""
    with pytest.raises(BROKEN, match=match):
        forger.verify()
    forger.undo()


# Keys


def test_a_key_that_proved_itself_signs(forger: Forger) -> None:
    person = forger.person()
    second = add_key(forger, person)
    assert may(forger, second)
    third = add_key(forger, second)
    assert may(forger, third)


def test_a_key_proves_itself_over_its_own_challenge_only(forger: Forger) -> None:
    """Any challenge but the one whose preimage is on record: of a registration, of somebody else, of another day."""
    person = forger.person()
    at = forger.records[-1]["at"]
    registration = RegistrationPreimage(
        org=forger.records[0]["org"],
        user_id=person.user_id,
        invitation="0" * 64,
        nonce="n",
        issued=at,
        expires=at + 15 * MINUTE,
    )
    for challenge in ("any", other_challenge(registration)):
        add_key(forger, person, challenge=challenge)
        refuse(forger, "another challenge")
    others: list[dict[str, Any]] = [{"user_id": ADMIN.user_id}, {"org": "or-00000-00000-0000000000000000"}]
    for changes in others:
        add_key(forger, person, **changes)
        refuse(forger, "somebody else")
    for shift in (-DAY, DAY):
        add_key(forger, person, issued=at + shift, expires=at + shift + 15 * MINUTE)
        refuse(forger, "instant")


def test_a_challenge_makes_one_key(forger: Forger) -> None:
    """Not even a key that was deleted comes back over it."""
    person = forger.person()
    new = add_key(forger, person, nonce="once")
    forger.verify()
    add_key(forger, person, nonce="once")
    refuse(forger, "used before")
    switch(forger, person, new, "delete")
    again = dataclasses.replace(new, uuid=forger.new_id(ids.CREDENTIAL), record=None)
    add_key(forger, person, again, nonce="once")
    refuse(forger, "used before")
    back = add_key(forger, person, again)
    assert may(forger, back)
    assert not may(forger, new)


def test_one_key_belongs_to_one_identity(forger: Forger) -> None:
    """A second name and id for a key that somebody has: theirs, a machine's or a token's."""
    person, rival = forger.person(), forger.person()

    def copy(by: Signer, of: Signer) -> Signer:
        return dataclasses.replace(forger.key(by.user_id), private_key=of.private_key, public_key=of.public_key)

    for by in (person, rival):
        add_key(forger, by, copy(by, person))
        refuse(forger, "one key, one identity")
    spelled = "\n" + person.public_key
    for payload_key in (person.public_key, spelled):
        token, token_id = forger.key(rival.user_id), forger.new_id(ids.TOKEN)
        body = {
            "name": "x",
            "credentialUuid": token.uuid,
            "credentialId": token.credential_id,
            "publicKey": payload_key,
            "permissionId": None,
            "expires": forger.records[-1]["at"] + DAY,
        }
        payload = {"name": "x", "publicKey": payload_key, "daysValid": 1}
        forger.say(rival, "POST", "/auth/pats", payload, "pat.created", token_id, body)
        refuse(forger, "one key, one identity")
    forger.switch(person, "delete")
    add_key(forger, rival, copy(rival, person))
    forger.verify()


def test_a_key_does_not_withdraw_itself(forger: Forger) -> None:
    person = forger.person()
    spare = add_key(forger, person)
    for state in ("deactivate", "delete"):
        switch(forger, person, person, state)
        refuse(forger, "withdraw itself")
    switch(forger, spare, person, "deactivate")
    assert not may(forger, person)
    assert may(forger, spare)
    switch(forger, spare, person, "activate")
    assert may(forger, person)


def test_nobody_withdraws_the_key_of_another(forger: Forger) -> None:
    for state in ("activate", "deactivate", "delete"):
        switch(forger, ADMIN, forger.person(), state)
        refuse(forger, "of the signer")


def test_a_person_nobody_vouched_for_adds_no_key(forger: Forger) -> None:
    person = forger.person(vouched=False)
    add_key(forger, person)
    refuse(forger, "vouched")


# Personal access tokens


def test_a_token_may_what_its_holder_and_its_limit_say(forger: Forger) -> None:
    person, poor = forger.person(), forger.person(["Auth:Pats:Create", "Wallets:Read"])
    free, _ = add_token(forger, person)
    limit = forger.permission(["Policies:Create"])
    narrow, _ = add_token(forger, person, limit)
    other, _ = add_token(forger, person, forger.permission(["Wallets:Read"]))
    wide, _ = add_token(forger, poor, limit)
    assert [may(forger, each) for each in (free, narrow, other, wide)] == [True, True, False, False]
    path = f"/permissions/{limit}"
    forger.say(ADMIN, "DELETE", path, {}, "permission.archived", limit, {})
    assert not may(forger, narrow)
    assert may(forger, free)


def test_a_token_decides_nothing_about_people_keys_or_permissions(forger: Forger) -> None:
    """Although its holder may, and it is limited to nothing."""
    person = forger.person()
    free, token_id = add_token(forger, person)
    all_of_it, _ = add_token(forger, person, STORY.records[0]["body"]["permission"]["id"])
    own = add_key(forger, person)
    for token in (free, all_of_it):
        forger.permission(["Wallets:Read"], token)
        refuse(forger, "not permitted Permissions:Create")
        add_token(forger, token)
        refuse(forger, "not permitted Auth:Pats:Create")
        add_key(forger, token)
        refuse(forger, "manages no keys")
        switch(forger, token, own, "deactivate")
        refuse(forger, "manages no keys")
        switch_token(forger, token, all_of_it, token_id, "deactivate")
        refuse(forger, "manages no keys|does not say")
        forger.switch(ADMIN, "deactivate", token)
        refuse(forger, "not permitted Auth:Users:Deactivate")
        settings = {"moneySettings": STORY.settings}
        forger.say(token, "PUT", "/v1/config", settings, "config.applied", forger.records[0]["org"], settings)
        refuse(forger, "not permitted Config:Apply")
    forger.permission(["Wallets:Read"], person)
    forger.verify()


def test_a_token_ends_when_it_was_made_to(forger: Forger) -> None:
    """Its body says what was signed, and what it signs later is refused, whatever the server says of the time."""
    person = forger.person()
    token, _ = add_token(forger, person)
    forger.verify()
    forger.records[-1]["body"]["expires"] += DAY
    refuse(forger, "does not say what was signed")
    for changes in ({"secondsValid": 61}, {"secondsValid": None, "daysValid": 1}, {"secondsValid": 60.5}):
        add_token(forger, person, **changes)
        refuse(forger, "does not say|whole number")
    token, _ = add_token(forger, person)
    expires = forger.records[-1]["body"]["expires"]
    for issued, fits in ((expires - 1, True), (expires, False)):
        evidence = forger.evidence(token, "POST", "/v2/policies", POLICY, issued=issued, expires=issued + MINUTE)
        forger.append("policy.created", forger.new_id(ids.POLICY), {"version": 1, **STORED}, evidence, at=issued)
        if fits:
            forger.verify()
            forger.undo()
        else:
            refuse(forger, "had expired")


def test_a_token_that_is_off_signs_nothing(forger: Forger) -> None:
    person = forger.person()
    token, token_id = add_token(forger, person)
    switch_token(forger, person, token, token_id, "deactivate")
    assert not may(forger, token)
    switch_token(forger, person, token, token_id, "activate")
    assert may(forger, token)
    switch_token(forger, person, token, token_id, "delete")
    assert not may(forger, token)
    switch_token(forger, person, token, token_id, "activate")
    refuse(forger, "of the signer")


def test_a_token_is_switched_by_its_own_call(forger: Forger) -> None:
    """Not by that for keys, nor by that for another token, nor by somebody else."""
    person, rival = forger.person(), forger.person()
    token, token_id = add_token(forger, person)
    other, other_id = add_token(forger, person)
    own = add_key(forger, person)
    switch(forger, person, token, "deactivate")
    refuse(forger, "does not say")
    switch_token(forger, person, token, other_id, "deactivate")
    refuse(forger, "does not say")
    switch_token(forger, person, own, token_id, "deactivate")
    refuse(forger, "does not say")
    for by in (rival, ADMIN):
        switch_token(forger, by, token, token_id, "deactivate")
        refuse(forger, "of the signer")
    named = {"credentialUuid": token.uuid}
    body = {**named, "tokenId": token_id}
    forger.say(person, "PUT", "/auth/credentials/deactivate", named, "credential.deactivated", token.uuid, body)
    refuse(forger, "does not bring this about")
    assert may(forger, token) and may(forger, other)


def test_only_its_holder_renames_a_token(forger: Forger) -> None:
    person, rival = forger.person(), forger.person()
    token, token_id = add_token(forger, person)
    path, body = f"/auth/pats/{token_id}", {"name": "new", "externalId": None}
    for by in (rival, ADMIN):
        forger.say(by, "PUT", path, {"name": "new"}, "pat.renamed", token_id, body)
        refuse(forger, "of the signer")
    forger.say(token, "PUT", path, {"name": "new"}, "pat.renamed", token_id, body)
    refuse(forger, "manages no keys")
    forger.say(person, "PUT", path, {"name": "new"}, "pat.renamed", token_id, body)
    forger.verify()


def test_what_a_token_is_made_of_is_there_and_new(forger: Forger) -> None:
    person = forger.person()
    add_token(forger, person, "pm-00000-00000-0000000000000000")
    refuse(forger, "permission there is")
    _, token_id = add_token(forger, person)
    forger.records[-1]["subject"] = "to-1"
    refuse(forger, "begins with to")
    _, token_id = add_token(forger, person)
    add_token(forger, person)
    forger.records[-1]["subject"] = token_id
    refuse(forger, "is taken")


def test_a_machine_has_a_token_of_its_own(forger: Forger) -> None:
    made = forger.key(forger.new_id(ids.USER))
    full = STORY.records[0]["body"]["permission"]["id"]
    body = {
        "name": made.uuid,
        "credentialUuid": made.uuid,
        "credentialId": made.credential_id,
        "publicKey": made.public_key,
        "permissionId": full,
        "assignmentId": forger.new_id(ids.ASSIGNMENT),
    }
    payload = {"name": made.uuid, "publicKey": made.public_key, "permissionId": full}
    forger.say(ADMIN, "POST", "/auth/service-accounts", payload, "serviceAccount.created", made.user_id, body)
    bot = dataclasses.replace(made, record=forger.head)
    assert may(forger, bot)
    add_token(forger, bot)
    refuse(forger, "token of its own")


def test_what_a_permission_adds_later_a_token_does_not_get(forger: Forger) -> None:
    """It has what its holder has now, within its limit as it is now, without what is for people only."""
    person = forger.person(["Auth:Pats:Create"])
    token, _ = add_token(forger, person)
    assert not may(forger, token)
    forger.assign(forger.permission(OPERATIONS), person.user_id)
    assert may(forger, token)
    found = forger.verify()
    known, last = found.credentials[token.uuid], len(forger.records) - 1
    assert not found.key_may(known, "Policies:Evaluations:Vote", last)
    assert found.may(person.user_id, "Policies:Evaluations:Vote", last)
    assert not found.key_may(known, "Policies:Create", STORY.of("policy.created"))
