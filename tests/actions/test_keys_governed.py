"""New keys and tokens while changes wait for people: they start switched off, and people agree to their activation."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from outlay.core.errors import NotAuthenticated, PreconditionFailed
from outlay.evidence.attestation import key_attestation, new_key_pair
from outlay.evidence.challenge import credential_challenge
from outlay.store import users
from tests.actions.council import Council
from tests.actions.world import Actor


@pytest.fixture
def council(tmp_path: Path) -> Iterator[Council]:
    opened = Council(tmp_path)
    yield opened
    opened.close()


def new_key(council: Council, actor: Actor) -> Actor:
    """Add a key that is off."""
    private, _ = new_key_pair()
    preimage = council.begin_key(actor)
    info = key_attestation(private, credential_challenge(preimage))
    answer = council.add_key(actor, preimage, info)
    assert answer["isActive"] is False
    return replace(actor, private_key=private, credential_id=info["credId"], credential_uuid=answer["credentialUuid"])


def may_sign(council: Council, actor: Actor) -> bool:
    """Tell whether the records let a key sign now, whatever the server's rows say."""
    found = council.replayed()
    return found.credentials[actor.credential_uuid].usable_at(len(found.instants) - 1)


def pay(council: Council, actor: Actor) -> Any:
    return council.pay(actor, council.paying, 2)


def test_a_new_key_waits_for_people(council: Council) -> None:
    key = new_key(council, council.third)
    with pytest.raises(NotAuthenticated, match="cannot log in"):
        council.log_in(key)
    assert not may_sign(council, key)
    change = council.switch_key(council.third, key.credential_uuid, "activate")
    assert (change["status"], change["loosens"]) == ("Pending", True)
    council.agree(change)
    council.wait()
    assert council.status(change) == "Applied"
    assert pay(council, council.log_in(key))["status"] == "Executing"
    assert may_sign(council, key)


def test_a_new_token_waits_for_people(council: Council) -> None:
    pat, token_id = council.personal_token(council.third, "Wallets:Transfers:Create")
    with pytest.raises(NotAuthenticated):
        pay(council, pat)
    change = council.switch_token(council.third, token_id, "activate")
    assert (change["status"], change["loosens"]) == ("Pending", True)
    council.agree(change)
    council.wait()
    assert council.status(change) == "Applied"
    assert pay(council, pat)["status"] == "Executing"
    known = council.replayed().tokens[token_id]
    assert known.key_states[0][1] is False
    assert known.key_states[-1][1] is True


def test_a_key_is_withdrawn_without_asking_anybody(council: Council) -> None:
    """It tightens; having it back loosens."""
    pat, token_id = council.personal_token(council.third)
    change = council.switch_token(council.third, token_id, "activate")
    council.agree(change)
    council.wait()
    assert council.switch_token(council.third, token_id, "deactivate")["isActive"] is False
    with pytest.raises(NotAuthenticated):
        pay(council, pat)
    assert council.switch_token(council.third, token_id, "activate")["status"] == "Pending"
    assert council.switch_token(council.third, token_id, "delete")["isActive"] is False
    council.replayed()


def test_a_key_withdrawn_meanwhile_is_not_activated(council: Council) -> None:
    """The change fails: what people agreed to is not there any more."""
    key = new_key(council, council.third)
    change = council.switch_key(council.third, key.credential_uuid, "activate")
    council.agree(change)
    council.switch_key(council.third, key.credential_uuid, "delete")
    council.wait()
    assert council.status(change) == "Failed"
    council.replayed()


def test_a_named_key_in_an_invitation_is_no_way_around(council: Council) -> None:
    """The person is registered and nobody vouches for them until people agreed."""
    person = council.person("fourth@approvers.example", permitted=False)
    with council.unit() as unit:
        row = users.find(unit, person.user_id)
    assert row is not None
    assert (row.is_registered, row.may_vote) == (True, False)
    assert not may_sign(council, person)
    change = council.switch(person.user_id, True)
    assert change["status"] == "Pending"
    council.agree(change)
    council.wait()
    with council.unit() as unit:
        row = users.find(unit, person.user_id)
    assert row is not None and row.may_vote is True
    assert may_sign(council, person)


def test_a_new_machine_waits_for_people(council: Council) -> None:
    bot = council.service_account(
        "new bot", permission_id=council.permission("Wallets:Transfers:Create", "Wallets:Tags:Add")
    )
    assert not may_sign(council, bot)
    with pytest.raises(NotAuthenticated):
        pay(council, bot)
    change = council.switch(bot.user_id, True, machine=True)
    council.agree(change)
    council.wait()
    assert pay(council, bot)["status"] == "Executing"
    assert may_sign(council, bot)


def test_the_last_key_that_can_vote_stays(council: Council) -> None:
    """With the voter's other key gone too few could decide; their tokens do not count."""
    council.personal_token(council.first)
    for voter in (council.first, council.second):
        with pytest.raises(PreconditionFailed, match="withdraw itself"):
            council.switch_key(voter, voter.credential_uuid, "deactivate")
