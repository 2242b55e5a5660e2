"""Keys of people and machines: how they come and go, and what their going takes along."""

from dataclasses import replace
from typing import Any

import pytest

from outlay.actions import credentials, people, present
from outlay.core.errors import (
    ActionSignatureInvalid,
    Conflict,
    InvalidInput,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    PreconditionFailed,
)
from outlay.core.seams import MINUTE
from outlay.evidence.attestation import fingerprint, key_attestation, new_key_pair
from outlay.evidence.challenge import CredentialPreimage, credential_challenge, registration_challenge
from outlay.evidence.history import History, verify_history
from outlay.evidence.keys import load_public_key, normal_pem
from outlay.store import organizations, users
from outlay.store.schema import credential, decision
from tests.actions import joining
from tests.actions.documents import ALWAYS, ask, group
from tests.actions.world import Actor, World
from tests.world import KEY_KINDS, new_key


def replay(world: World) -> History:
    """Return what the records say; fails if they do not verify."""
    with world.unit() as unit:
        return verify_history(organizations.read_records(unit), world.root)


def head(world: World) -> int:
    return len(replay(world).instants) - 1


def held(world: World, bot: Actor, *groups: dict[str, Any]) -> str:
    """Return the id of a payout that waits for these groups."""
    wallet = world.wallet()
    world.policy(ALWAYS, ask(*groups))
    return str(world.pay(bot, wallet, 2)["id"])


# A key comes


@pytest.mark.parametrize("kind", KEY_KINDS)
def test_a_second_key_of_each_kind_signs(world: World, one: Actor, kind: str) -> None:
    private, _ = new_key(kind)
    preimage = world.begin_key(one)
    info = key_attestation(private, credential_challenge(preimage))
    answer = world.add_key(one, preimage, info)
    assert answer["isActive"] is True
    with_it = replace(one, private_key=private, credential_id=info["credId"], credential_uuid=answer["credentialUuid"])
    world.permission("Wallets:Read")
    made = world.second_key(with_it)
    assert replay(world).credentials[made.credential_uuid].usable_at(head(world))
    assert world.log_in(with_it).claims["jti"]


def test_a_machine_adds_a_key_and_goes_on_with_it(world: World, bot: Actor) -> None:
    """It cannot log in, so its token follows the key that withdraws the old one."""
    new = world.second_key(bot)
    world.switch_key(new, bot.credential_uuid, "delete")
    paid = world.pay(new, world.wallet(), 2)
    assert paid["status"] == "Executing"
    with pytest.raises(ActionSignatureInvalid):
        world.pay(bot, world.wallet(), 2)


def test_a_challenge_is_good_for_one_key_of_one_person_and_a_while(world: World, one: Actor, two: Actor) -> None:
    """Whoever shows it again, late, or in another name is refused, and nothing is kept."""
    before = world.count(credential)
    private, _ = new_key_pair()
    preimage = world.begin_key(one)
    info = key_attestation(private, credential_challenge(preimage))
    with pytest.raises(PreconditionFailed, match="somebody else"):
        world.add_key(two, preimage, info)
    foreign = replace(preimage, org="or-00000-00000-0000000000000000")
    with pytest.raises(PreconditionFailed, match="somebody else"):
        world.add_key(one, foreign, key_attestation(private, credential_challenge(foreign)))
    world.clock.step(minutes=15)
    with pytest.raises(PreconditionFailed, match="expired"):
        world.add_key(one, preimage, info)
    world.clock.step(minutes=-1)
    assert world.count(credential) == before
    world.add_key(one, preimage, info)
    other, _ = new_key_pair()
    with pytest.raises(PreconditionFailed, match="was used"):
        world.add_key(one, preimage, key_attestation(other, credential_challenge(preimage)))
    assert world.count(credential) == before + 1


def test_a_key_attested_over_another_challenge_is_refused(world: World, one: Actor) -> None:
    private, _ = new_key_pair()
    preimage, other = world.begin_key(one), world.begin_key(one)
    for challenge in ("any", credential_challenge(other)):
        with pytest.raises(ActionSignatureInvalid, match="another challenge"):
            world.add_key(one, preimage, key_attestation(private, challenge))


def test_a_name_is_taken_once(world: World, one: Actor, two: Actor) -> None:
    preimage = world.begin_key(one)
    for name in (two.credential_id, "x" * 201):
        info = key_attestation(new_key_pair()[0], credential_challenge(preimage), cred_id=name)
        with pytest.raises(InvalidInput, match="choose another"):
            world.add_key(one, preimage, info)


@pytest.mark.parametrize("goes", ["recovered", "deleted", "removed"])
def test_a_key_that_squats_on_the_name_of_a_deleted_one_keeps_nobody(
    world: World, one: Actor, two: Actor, monkeypatch: pytest.MonkeyPatch, goes: str
) -> None:
    """Such a name is refused; one from a time when it was not does no harm."""
    victim = world.second_key(one) if goes == "deleted" else one
    preimage, name = world.begin_key(two), f"{victim.credential_id}#{victim.credential_uuid}"
    info = key_attestation(new_key_pair()[0], credential_challenge(preimage), cred_id=name)
    with pytest.raises(InvalidInput, match="has no # in it: choose another"):
        world.add_key(two, preimage, info)
    with monkeypatch.context() as patched:
        patched.setattr(credentials, "check_new_name", lambda unit, name, longest=0: None)
        world.add_key(two, preimage, info)
    if goes == "recovered":
        joining.recover(world, one)
    elif goes == "deleted":
        world.switch_key(one, victim.credential_uuid, "delete")
    else:
        path = f"/auth/users/{one.user_id}"
        world.call(
            world.admin,
            "DELETE",
            path,
            {},
            "Auth:Users:Delete",
            lambda act: people.delete(act, one.user_id, service_account=False),
        )
    assert replay(world).credentials[victim.credential_uuid].is_deleted


def test_somebody_nobody_vouched_for_adds_no_key(world: World) -> None:
    stranger = world.person("stranger@example.com", vouched=False)
    with pytest.raises(NotPermitted, match="vouches"):
        world.second_key(stranger)


# One key, one identity


def spellings(public: str) -> list[str]:
    """Return the same key in other words."""
    lines = public.strip().split("\n")
    return [public, public.strip(), "\r\n".join(lines), "\n".join([lines[0], lines[1][:20], lines[1][20:], lines[2]])]


def test_a_key_belongs_to_one_identity(world: World, one: Actor) -> None:
    """Neither a second key, a machine, a token nor an invited person brings one that somebody has."""
    private, public = new_key_pair()
    preimage = world.begin_key(one)
    world.add_key(one, preimage, key_attestation(private, credential_challenge(preimage)))
    before = world.count(credential)
    preimage = world.begin_key(world.admin)
    again = key_attestation(private, credential_challenge(preimage), cred_id="another name")
    with pytest.raises(Conflict, match="has this key"):
        world.add_key(world.admin, preimage, again)
    for spelling in spellings(public):
        assert normal_pem(load_public_key(spelling, field="x")) == public
        with pytest.raises(Conflict, match="has this key"):
            create_machine(world, spelling)
        with pytest.raises(Conflict, match="has this key"):
            world.personal_token(one, public_key=spelling)
        with pytest.raises(Conflict, match="has this key"):
            world.invite("puppet@example.com", public_key=spelling)
    with pytest.raises(Conflict, match="has this key"):
        take_up(world, "puppet@example.com", private)
    assert world.count(credential) == before
    replay(world)


def create_machine(world: World, public: str) -> None:
    payload = {"name": "puppet", "publicKey": public}
    world.call(
        world.admin,
        "POST",
        "/auth/service-accounts",
        payload,
        "Auth:ServiceAccounts:Create",
        lambda act: people.create_service_account(
            act, name="puppet", public_key=public, permission_id=None, days_valid=None, external_id=None
        ),
    )


def take_up(world: World, email: str, private: str) -> None:
    """Register with a key and a name that is free."""
    _, code = world.invite(email)
    with world.unit() as unit:
        preimage, _ = people.begin_registration(
            unit, now=world.clock.now(), entropy=world.entropy, org_id=None, username=email, code=code
        )
    with world.unit() as unit:
        people.register(
            unit,
            now=world.clock.now(),
            entropy=world.entropy,
            preimage=preimage,
            code=code,
            server=world.config.server,
            credential_kind="Key",
            credential_info=dict(key_attestation(private, registration_challenge(preimage), cred_id="free name")),
            credential_name=None,
        )


def test_a_deleted_key_is_free_again(world: World, one: Actor, two: Actor) -> None:
    """Its name too; what it signed before does not count for whoever has it now."""
    key = world.second_key(one)
    world.switch_key(one, key.credential_uuid, "delete")
    preimage = world.begin_key(two)
    info = key_attestation(key.private_key, credential_challenge(preimage))
    assert info["credId"] == key.credential_id
    answer = world.add_key(two, preimage, info)
    known = replay(world).credentials
    assert known[answer["credentialUuid"]].credential.user_id == two.user_id
    assert known[key.credential_uuid].is_deleted


# A key goes


def test_a_key_that_is_off_signs_nothing_and_ends_its_sessions(world: World, one: Actor) -> None:
    second = world.second_key(one)
    session = world.log_in(second)
    waiting = world.sign(second, "POST", "/permissions", {})
    world.switch_key(one, second.credential_uuid, "deactivate")
    with pytest.raises(NotAuthenticated, match="deactivated"):
        world.second_key(session)
    with pytest.raises(NotAuthenticated, match="cannot log in"):
        world.log_in(second)
    with pytest.raises(ActionSignatureInvalid, match="deactivated"):
        world.send(one, waiting, "POST", "/permissions", {}, None, lambda act: act)
    world.switch_key(one, second.credential_uuid, "activate")
    world.second_key(session)


def test_what_changes_nothing_makes_no_record(world: World, one: Actor) -> None:
    second = world.second_key(one)
    number = head(world)
    world.switch_key(one, second.credential_uuid, "activate")
    assert head(world) == number
    world.switch_key(one, second.credential_uuid, "deactivate")
    world.switch_key(one, second.credential_uuid, "deactivate")
    assert head(world) == number + 1


@pytest.mark.parametrize("state", ["deactivate", "delete"])
def test_a_key_does_not_withdraw_itself(world: World, one: Actor, state: str) -> None:
    """So nobody withdraws their last one, and whoever withdraws one has shown that another works."""
    for keys in (1, 2):
        with pytest.raises(PreconditionFailed, match="withdraw itself"):
            world.switch_key(one, one.credential_uuid, state)
        with world.unit() as unit:
            assert len(users.own_keys_of(unit, one.user_id, active_only=True)) == keys
        if keys == 1:
            world.second_key(one)


@pytest.mark.parametrize("state", ["activate", "deactivate", "delete"])
def test_keys_of_others_and_of_nobody_are_not_found(world: World, one: Actor, two: Actor, state: str) -> None:
    token, _ = world.personal_token(one)
    gone = world.second_key(one)
    world.switch_key(one, gone.credential_uuid, "delete")
    for uuid in (two.credential_uuid, gone.credential_uuid, token.credential_uuid, "x", ""):
        with pytest.raises(NotFound):
            world.switch_key(one, uuid, state)


# Votes and requests of withdrawn keys


@pytest.mark.parametrize("state", ["deactivate", "delete"])
def test_a_vote_goes_with_its_key_while_the_payout_is_held(
    world: World, bot: Actor, one: Actor, two: Actor, state: str
) -> None:
    paid = held(world, bot, group(one, two, quorum=2))
    spare = world.second_key(one)
    world.decide(one, paid)
    world.switch_key(spare, one.credential_uuid, state)
    world.decide(two, paid)
    assert world.state(paid) == "held", "the first vote does not count any more"
    world.decide(replace(spare, claims=world.log_in(spare).claims), paid)
    assert world.state(paid) == "ready"
    replay(world)


def test_a_vote_goes_with_its_key_while_the_payout_is_ready(world: World, bot: Actor, one: Actor) -> None:
    paid = held(world, bot, group(one))
    spare = world.second_key(one)
    spare = replace(spare, claims=world.log_in(spare).claims)
    world.decide(one, paid)
    assert world.state(paid) == "ready"
    world.switch_key(spare, one.credential_uuid, "deactivate")
    assert world.bind(paid) == "held"
    assert world.approval(paid).status == "Pending"
    world.decide(spare, paid)
    assert world.bind(paid) == "assigned"


def test_a_key_that_is_back_on_brings_its_vote_back(world: World, bot: Actor, one: Actor, two: Actor) -> None:
    paid = held(world, bot, group(one, two, quorum=2))
    spare = world.second_key(one)
    spare = replace(spare, claims=world.log_in(spare).claims)
    world.decide(one, paid)
    world.switch_key(spare, one.credential_uuid, "deactivate")
    world.decide(two, paid)
    assert world.state(paid) == "held"
    world.switch_key(spare, one.credential_uuid, "activate")
    assert world.state(paid) == "ready"


def test_two_votes_of_one_person_count_once(world: World, bot: Actor, one: Actor, two: Actor) -> None:
    """Both keys are on in the end; it is still one person."""
    paid = held(world, bot, group(one, two, quorum=2))
    spare = world.second_key(one)
    spare = replace(spare, claims=world.log_in(spare).claims)
    world.decide(one, paid)
    world.switch_key(spare, one.credential_uuid, "deactivate")
    world.decide(spare, paid)
    world.switch_key(spare, one.credential_uuid, "activate")
    assert world.count(decision) == 2
    assert world.state(paid) == "held"
    for key in (one, spare):
        with pytest.raises(NotPermitted, match="decided already"):
            world.decide(key, paid)
    world.decide(two, paid)
    assert world.state(paid) == "ready"


@pytest.mark.parametrize("state", ["deactivate", "delete"])
def test_a_request_of_a_withdrawn_key_is_blocked(world: World, bot: Actor, one: Actor, state: str) -> None:
    """Whether it waits for people or for its turn; one of another key of the same machine goes."""
    wallet = world.wallet()
    new = world.second_key(bot)
    old_paid, new_paid = world.pay(bot, wallet, 2)["id"], world.pay(new, wallet, 2)["id"]
    world.policy(ALWAYS, ask(group(one)))
    old_held = world.pay(bot, wallet, 2)["id"]
    world.switch_key(new, bot.credential_uuid, state)
    world.decide(one, old_held)
    for paid in (old_paid, old_held):
        assert world.bind(paid) == "rejected"
        assert world.row(paid).reason == "The key that signed the request of this payout was withdrawn."
    assert world.bind(new_paid) == "held"


def test_a_request_goes_if_its_key_is_on_again_in_time(world: World, bot: Actor) -> None:
    wallet, new = world.wallet(), world.second_key(bot)
    paid = world.pay(bot, wallet, 2)["id"]
    world.switch_key(new, bot.credential_uuid, "deactivate")
    world.switch_key(new, bot.credential_uuid, "activate")
    assert world.bind(paid) == "assigned"


# What an admin sees


def test_an_admin_sees_the_fingerprints_to_compare(world: World) -> None:
    private, public = new_key_pair()
    user_id, code = world.invite("new@example.com")
    assert shown(world, user_id) == []
    with world.unit() as unit:
        preimage, _ = people.begin_registration(
            unit, now=world.clock.now(), entropy=world.entropy, org_id=None, username="new@example.com", code=code
        )
    info = key_attestation(private, registration_challenge(preimage))
    with world.unit() as unit:
        people.register(
            unit,
            now=world.clock.now(),
            entropy=world.entropy,
            preimage=preimage,
            code=code,
            server=world.config.server,
            credential_kind="Key",
            credential_info=dict(info),
            credential_name="laptop",
        )
    (key,) = shown(world, user_id)
    assert set(key) == {"credentialUuid", "credentialId", "name", "fingerprint", "isActive"}
    assert (key["fingerprint"], key["name"], key["isActive"]) == (fingerprint(public), "laptop", True)


def shown(world: World, user_id: str) -> Any:
    with world.unit() as unit:
        row = users.find(unit, user_id)
        assert row is not None
        return present.user(unit, row, world.org_id)["credentials"]


def test_a_challenge_says_whose_key_it_is_for(world: World, one: Actor) -> None:
    preimage = world.begin_key(one)
    assert isinstance(preimage, CredentialPreimage)
    assert (preimage.user_id, preimage.org) == (one.user_id, world.org_id)
    assert preimage.expires - preimage.issued == 15 * MINUTE
