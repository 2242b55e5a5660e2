"""Recovery and codes while changes wait for people: what comes back, what never does, and who has to agree."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from outlay.actions import people
from outlay.core.errors import Conflict, NotAuthenticated, NotFound, NotPermitted, PreconditionFailed
from outlay.evidence.attestation import fingerprint
from outlay.evidence.history import verify_history
from outlay.store import organizations, users
from tests.actions import joining
from tests.actions.council import Council
from tests.actions.documents import ALWAYS, ask, group
from tests.actions.world import Actor, World


@pytest.fixture
def council(tmp_path: Path) -> Iterator[Council]:
    opened = Council(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    opened = World(tmp_path)
    yield opened
    opened.close()


def may_sign(world: World, actor: Actor) -> bool:
    """Tell whether the records let a key sign now, and check that the database says the same."""
    with world.unit() as unit:
        found = verify_history(list(organizations.read_records(unit)), world.root)
    usable = found.credentials[actor.credential_uuid].usable_at(len(found.instants) - 1)
    assert joining.is_on(world, actor) == usable
    return usable


def test_an_approver_who_lost_the_phone_comes_back_by_quorum(council: Council) -> None:
    lost = council.third
    code = joining.recover(council, lost)
    assert not may_sign(council, lost)
    with pytest.raises(NotAuthenticated):
        council.log_in(lost)
    back = joining.take_up(council, lost, code, joining.passkey())
    assert not may_sign(council, back)
    with pytest.raises(NotAuthenticated):
        council.log_in(back)
    change = joining.vouch(council, back)
    assert (change["status"], change["loosens"]) == ("Pending", True)
    council.agree(change)
    assert not may_sign(council, back)
    council.third = council.second  # nobody logs in as the one who is not back yet
    council.wait()
    assert council.status(change) == "Applied"
    assert may_sign(council, back) and not may_sign(council, lost)
    back = council.log_in(back)
    assert back.user_id in council.approvers, "the policies name who they named"
    council.agree(council.set_cap(50), council.first, back)
    assert council.replayed()


def test_neither_who_asked_nor_who_is_recovered_counts(council: Council) -> None:
    lost = council.third
    code = joining.recover(council, lost, by=council.first)
    back = joining.take_up(council, lost, code, joining.passkey())
    change = joining.vouch(council, back, by=council.first)
    with pytest.raises(NotAuthenticated):
        council.vote(change, lost)
    with pytest.raises(NotPermitted):
        council.vote(change, council.first)
    council.vote(change, council.second)
    council.third = council.second
    council.wait()
    assert council.status(change) == "Pending"
    assert not may_sign(council, back)


def test_another_credential_than_people_saw_is_not_let_in(council: Council) -> None:
    """The code is taken up again, by somebody else, after people were asked."""
    lost = council.third
    back = joining.take_up(council, lost, joining.recover(council, lost), joining.passkey())
    change = joining.vouch(council, back)
    stolen = joining.take_up(council, lost, joining.recover(council, lost), joining.passkey())
    council.agree(change)
    council.third = council.second
    council.wait()
    assert council.status(change) == "Failed"
    assert not may_sign(council, back) and not may_sign(council, stolen)


def test_a_recovery_that_leaves_too_few_to_agree_is_refused(council: Council) -> None:
    joining.recover(council, council.third)
    with pytest.raises(PreconditionFailed, match="would be left with 1"):
        joining.recover(council, council.second)
    assert may_sign(council, council.second)


def test_a_passkey_of_another_device_waits_for_people_too(council: Council) -> None:
    key = joining.take_up(council, council.third, joining.code_of(council, council.third), joining.passkey())
    assert not may_sign(council, key)
    change = council.switch_key(council.third, key.credential_uuid, "activate")
    assert change["status"] == "Pending"
    council.agree(change)
    council.wait()
    assert may_sign(council, key)
    council.vote(council.set_cap(50), council.log_in(key))


def test_votes_go_with_the_keys_that_made_them(world: World) -> None:
    one, two = (joining.join(world, f"{name}@example.com", joining.passkey()) for name in ("one", "two"))
    bot, wallet = world.service_account("payouts bot"), world.wallet("payouts")
    world.policy(ALWAYS, ask(group(one, two, quorum=2)))
    paid = world.pay(bot, wallet, 5)["id"]
    world.decide(one, paid)
    back = joining.take_up(world, one, joining.recover(world, one), joining.passkey())
    world.decide(two, paid)
    assert world.state(paid) == "held", "the lost phone's vote does not count"
    joining.vouch(world, back)
    assert world.state(paid) == "held", "and does not come back with its owner"
    world.decide(world.log_in(back), paid)
    assert world.state(paid) == "ready"


def test_tokens_end_with_a_recovery_for_good(world: World) -> None:
    who = joining.join(world, "one@example.com", joining.passkey())
    pat, token_id = world.personal_token(who, "Wallets:Read")
    code = joining.code_of(world, who)
    back = joining.take_up(world, who, joining.recover(world, who), joining.passkey())
    joining.vouch(world, back)
    back = world.log_in(back)
    assert not may_sign(world, pat)
    for bearer in (who, pat):
        with pytest.raises(NotAuthenticated):
            world.sign(bearer, "GET", "/auth/credentials")
    with pytest.raises(NotFound, match="no such personal access token"):
        world.switch_token(back, token_id, "activate")
    with pytest.raises(NotAuthenticated):
        joining.begin(world, code)


def test_who_has_not_come_back_yet_cannot_be_vouched_for(world: World) -> None:
    """There is nothing yet that anybody could have looked at."""
    who = joining.join(world, "one@example.com", joining.passkey())
    code = joining.recover(world, who)
    told: tuple[list[str] | None, ...] = (None, [])
    for compared in told:
        with pytest.raises(PreconditionFailed, match="no key to vouch for: they register one with the code"):
            joining.vouch(world, who, compared=compared)
    back = joining.take_up(world, who, code, joining.passkey())
    assert not may_sign(world, back)
    joining.vouch(world, back)
    assert may_sign(world, back)


def test_who_is_switched_off_is_recovered_and_comes_back_with_one_activation(world: World) -> None:
    who = joining.join(world, "one@example.com", joining.passkey())
    world.deactivate(who)
    code = joining.recover(world, who)
    with pytest.raises(NotAuthenticated):
        joining.begin(world, code)
    joining.vouch(world, who)
    back = joining.take_up(world, who, code, joining.passkey())
    assert not may_sign(world, back)
    joining.vouch(world, back)
    assert may_sign(world, back)


def test_only_the_fingerprints_that_were_compared_are_vouched_for(world: World) -> None:
    who = joining.join(world, "one@example.com", joining.passkey())
    new = joining.passkey()
    back = joining.take_up(world, who, joining.recover(world, who), new)
    right, wrong = fingerprint(new.public_pem), fingerprint(joining.passkey().public_pem)
    for compared in ([], [wrong], [right, wrong]):
        with pytest.raises(PreconditionFailed, match="not those that were compared"):
            joining.vouch(world, back, compared=compared)
    assert not may_sign(world, back)
    joining.vouch(world, back, compared=[right])
    assert may_sign(world, back)
    added = joining.take_up(world, back, joining.code_of(world, world.log_in(back)), joining.passkey())
    with pytest.raises(PreconditionFailed, match="another fingerprint than was compared"):
        joining.activate_compared(world, world.log_in(back), added.credential_uuid, right)
    assert not may_sign(world, added)


def test_people_agree_to_a_fingerprint(council: Council) -> None:
    key = joining.passkey()
    added = joining.take_up(council, council.third, joining.code_of(council, council.third), key)
    seen = {"credentialUuid": added.credential_uuid, "fingerprint": fingerprint(key.public_pem)}
    change = council.switch_key(council.third, added.credential_uuid, "activate")
    assert change["after"] == seen
    council.agree(change)
    council.wait()
    assert council.status(change) == "Applied"
    assert may_sign(council, added)


def test_a_withdrawn_key_is_nobodys_again(world: World) -> None:
    key = joining.passkey()
    who = joining.join(world, "one@example.com", key)
    code = joining.recover(world, who)
    with pytest.raises(Conflict):
        joining.take_up(world, who, code, key)
    with pytest.raises(Conflict):
        joining.join(world, "two@example.com", key.but(raw_id=b"another"))
    joining.take_up(world, who, code, joining.passkey(raw_id=key.raw_id))  # its name is free


def test_a_code_that_was_overtaken_is_worth_nothing(world: World) -> None:
    """A challenge was opened with it before."""
    who = joining.join(world, "one@example.com", joining.passkey())
    code = joining.code_of(world, who)
    preimage = joining.begin(world, code)
    newer = joining.code_of(world, who)
    with pytest.raises(NotAuthenticated):
        joining.take_up(world, who, code, joining.passkey(), preimage=preimage)
    with pytest.raises(NotAuthenticated):
        joining.take_up(world, who, newer, joining.passkey(), preimage=preimage)


def test_who_was_removed_meanwhile_takes_up_nothing(world: World) -> None:
    who = joining.join(world, "one@example.com", joining.passkey())
    code = joining.code_of(world, who)
    preimage = joining.begin(world, code)
    world.call(
        world.admin,
        "DELETE",
        f"/auth/users/{who.user_id}",
        {},
        "Auth:Users:Delete",
        lambda act: people.delete(act, who.user_id, service_account=False),
    )
    with pytest.raises(NotAuthenticated):
        joining.take_up(world, who, code, joining.passkey(), preimage=preimage)
    with world.unit() as unit:
        assert users.find(unit, who.user_id) is None
