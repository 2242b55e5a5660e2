"""Personal access tokens: less than their holder, with a key of their own, and never a way to more."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from outlay.actions import credentials, decide, pats, people, permissions, policies, present
from outlay.actions.act import Act, authenticate
from outlay.core.errors import (
    ActionSignatureInvalid,
    Conflict,
    InvalidInput,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    PreconditionFailed,
)
from outlay.core.operation import OPERATIONS
from outlay.core.personal_token import PEOPLE_ONLY, token_life, token_operations
from outlay.core.seams import DAY, SECOND
from outlay.evidence.assertion import Assertion
from outlay.evidence.challenge import login_challenge
from outlay.evidence.history import History, verify_history
from outlay.evidence.keys import new_key_pair
from outlay.evidence.sign import sign_challenge
from outlay.store import organizations, users
from outlay.store.schema import credential, token
from tests.actions.documents import ALWAYS, BLOCK, ask, group, over, policy_document
from tests.actions.world import Actor, World

PAY = "Wallets:Transfers:Create"


def replay(world: World) -> History:
    """Return what the records say; fails if they do not verify."""
    with world.unit() as unit:
        return verify_history(organizations.read_records(unit), world.root)


def operations_of(world: World, actor: Actor) -> frozenset[str]:
    """Return what a bearer may do."""
    with world.unit() as unit:
        return authenticate(unit, actor.claims, now=world.clock.now()).operations


def shown(world: World, token_id: str) -> Any:
    """Return a token as it is answered."""
    with world.unit() as unit:
        row = users.find_token(unit, token_id)
        assert row is not None
        return present.personal_token(unit, row, world.org_id)


def create_policy(world: World, actor: Actor) -> Any:
    document = policy_document(over(10), BLOCK)
    return world.call(
        actor, "POST", "/v2/policies", document, "Policies:Create", lambda act: policies.create(act, document)
    )


# What it may do


def test_a_token_acts_for_its_holder(world: World, one: Actor) -> None:
    """What it pays, its holder paid: they may not approve it."""
    pat, token_id = world.personal_token(one)
    wallet = world.wallet()
    world.policy(ALWAYS, ask(group(one)))
    paid = world.pay(pat, wallet, 2)
    assert paid["requester"] == {"userId": one.user_id, "tokenId": token_id}
    assert world.row(paid["id"]).credential_id == pat.credential_uuid
    with pytest.raises(NotPermitted, match="you asked for this payout"):
        world.decide(one, paid["id"])


def test_a_token_without_a_limit_may_what_its_holder_may_but_for_what_only_people_do(world: World, one: Actor) -> None:
    pat, _ = world.personal_token(one)
    assert operations_of(world, pat) == frozenset(OPERATIONS) - PEOPLE_ONLY
    create_policy(world, pat)
    replay(world)


def test_a_limit_and_the_holders_permissions_both_hold(world: World, one: Actor) -> None:
    """Neither gives what the other lacks, as they are now."""
    pat, token_id = world.personal_token(one, PAY, "Wallets:Read", "Policies:Evaluations:Vote")
    assert operations_of(world, pat) == {PAY, "Wallets:Read"}
    with pytest.raises(NotPermitted, match="Policies:Create"):
        create_policy(world, pat)
    wallet = world.wallet()
    world.pay(pat, wallet, 2)
    (assigned,) = shown(world, token_id)["permissionAssignments"]
    assert assigned["operations"] == ["Wallets:Read", PAY]
    archive(world, assigned["permissionId"])
    assert operations_of(world, pat) == frozenset()
    with pytest.raises(NotPermitted, match=PAY):
        world.pay(pat, wallet, 2)
    assert shown(world, token_id)["permissionAssignments"][0]["operations"] == []
    replay(world)


def archive(world: World, permission_id: str) -> None:
    path = f"/permissions/{permission_id}"
    world.call(
        world.admin, "DELETE", path, {}, "Permissions:Delete", lambda act: permissions.archive(act, permission_id)
    )


def test_what_the_holder_loses_the_token_loses(world: World, one: Actor) -> None:
    pat, _ = world.personal_token(one, PAY)
    world.deactivate(one)
    with pytest.raises(NotAuthenticated):
        world.pay(pat, "wa-x", 2)


def test_no_limit_gives_more_than_the_holder_has(world: World) -> None:
    """A permission that nobody gave its holder gives a token of theirs nothing."""
    wide = world.permission(*OPERATIONS)
    poor = poor_person(world, "Auth:Pats:Create", "Wallets:Read")
    pat, _ = world.personal_token(poor, permission_id=wide)
    assert operations_of(world, pat) == {"Wallets:Read"}


def poor_person(world: World, *operations: str) -> Actor:
    """Return a person who holds these operations and no others."""
    actor = world.person("poor@example.com", permitted=False)
    permission_id = world.permission(*operations)
    world.call(
        world.admin,
        "POST",
        f"/permissions/{permission_id}/assignments",
        {"identityId": actor.user_id},
        "Permissions:Assign",
        lambda act: permissions.assign(act, permission_id, identity_id=actor.user_id),
    )
    return actor


@pytest.mark.parametrize("operation", sorted(PEOPLE_ONLY))
def test_what_only_people_do(operation: str) -> None:
    """Not even a permission that names it."""
    assert operation in OPERATIONS
    assert token_operations(OPERATIONS, None) & {operation} == frozenset()
    assert token_operations(OPERATIONS, [operation]) == frozenset()


def test_whatever_decides_who_may_what_is_for_people_only() -> None:
    """A new operation about people, machines, tokens, permissions, votes or settings has to be thought about."""
    about = ("Auth:", "Permissions:", "Config:", "Outlay:", "Signer:")
    decides = {
        each for each in OPERATIONS if (each.startswith(about) and not each.endswith(":Read")) or each.endswith(":Vote")
    }
    assert decides == PEOPLE_ONLY


Call = tuple[str, str, Any, str | None, Callable[[Act], Any]]


def forbidden(world: World, paid: str, *, token_id: str, key: str) -> list[Call]:
    """Return calls that its holder may make, and a token may not."""
    public, approval = new_key_pair()[1], world.approval(paid).id
    made = {"name": "x", "publicKey": public}
    role = {"name": "x", "operations": ["Wallets:Read"]}
    guest = {"email": "x@example.com", "kind": "CustomerEmployee"}
    return [
        (
            "POST",
            f"/v2/policy-approvals/{approval}/decisions",
            {"value": "Denied"},
            "Policies:Evaluations:Vote",
            lambda act: decide.decide(act, approval, value="Denied", reason=None),
        ),
        (
            "POST",
            "/auth/users",
            guest,
            "Auth:Users:Create",
            lambda act: people.invite(act, email="x@example.com", public_key=None, external_id=None),
        ),
        (
            "POST",
            "/auth/service-accounts",
            made,
            "Auth:ServiceAccounts:Create",
            lambda act: people.create_service_account(
                act, name="x", public_key=public, permission_id=None, days_valid=None, external_id=None
            ),
        ),
        (
            "POST",
            "/permissions",
            role,
            "Permissions:Create",
            lambda act: permissions.create(act, name="x", operations=["Wallets:Read"]),
        ),
        (
            "POST",
            "/auth/pats",
            made,
            "Auth:Pats:Create",
            lambda act: pats.create(
                act,
                name="x",
                public_key=public,
                permission_id=None,
                days_valid=None,
                seconds_valid=None,
                external_id=None,
            ),
        ),
        ("DELETE", f"/auth/pats/{token_id}", {}, None, lambda act: pats.delete(act, token_id)),
        ("DELETE", f"/auth/credentials/{key}", {}, None, lambda act: credentials.delete(act, key)),
    ]


@pytest.mark.parametrize("at", range(7))
def test_a_token_makes_no_votes_people_keys_tokens_or_permissions(
    world: World, bot: Actor, one: Actor, at: int
) -> None:
    wallet = world.wallet()
    world.policy(ALWAYS, ask(group(one)))
    paid = world.pay(bot, wallet, 2)["id"]
    pat, token_id = world.personal_token(one)
    spare = world.second_key(one)
    call = forbidden(world, paid, token_id=token_id, key=spare.credential_uuid)[at]
    before = len(replay(world).instants)
    with pytest.raises(NotPermitted):
        world.call(pat, *call)
    assert len(replay(world).instants) == before
    world.call(one, *call)


def test_a_token_begins_no_key(world: World, one: Actor) -> None:
    pat, _ = world.personal_token(one)
    with pytest.raises(NotPermitted, match="log in"):
        world.begin_key(pat)


# Its key and its text go together


def test_a_token_and_its_key_go_together_and_with_no_other(world: World, one: Actor) -> None:
    """Its text with its holder's key, its key with its holder's session, and another token's key: nothing."""
    wallet = world.wallet()
    pat, _ = world.personal_token(one)
    other, _ = world.personal_token(one)
    mixed = [
        replace(one, claims=pat.claims),
        replace(pat, claims=one.claims),
        replace(other, claims=pat.claims),
        replace(pat, claims=other.claims),
    ]
    for actor in mixed:
        with pytest.raises(ActionSignatureInvalid):
            world.pay(actor, wallet, 2)
    world.pay(pat, wallet, 2)


def test_a_challenge_offers_the_keys_that_may_answer_it(world: World, one: Actor) -> None:
    """And the server looks again when the call is made, whatever a challenge says."""
    pat, _ = world.personal_token(one)
    path = "/permissions"
    assert world.sign(pat, "POST", path).preimage.credentials == (pat.credential_uuid,)
    assert world.sign(one, "POST", path).preimage.credentials == (one.credential_uuid,)
    for bearer, signer in ((one, pat), (pat, one)):
        call = world.forge(bearer, signer, "POST", path, {})
        with pytest.raises(ActionSignatureInvalid, match="go together"):
            world.send(bearer, call, "POST", path, {}, "Wallets:Read", lambda act: act)


def test_the_key_of_a_token_does_not_log_in(world: World, one: Actor) -> None:
    pat, token_id = world.personal_token(one)
    with pytest.raises(NotAuthenticated, match="cannot log in"):
        world.log_in(pat)
    world.switch_token(one, token_id, "delete")
    with pytest.raises(NotAuthenticated, match="cannot log in"):
        world.log_in(pat)


def test_whoever_can_seal_logs_nobody_in_with_the_key_of_a_token(world: World, one: Actor) -> None:
    """The challenge is made up, the signature is real."""
    pat, _ = world.personal_token(one)
    with world.unit() as unit:
        begun, _ = people.begin_login(
            unit, now=world.clock.now(), entropy=world.entropy, username=one.username, org_id=None
        )
    preimage = replace(begun, credentials=(pat.credential_uuid,))
    answer = sign_challenge(pat.private_key, pat.credential_id, login_challenge(preimage))
    with world.unit() as unit, pytest.raises(NotAuthenticated, match="cannot log in"):
        people.log_in(
            unit,
            now=world.clock.now(),
            entropy=world.entropy,
            preimage=preimage,
            assertion=Assertion.from_document(answer),
            origins=world.config.server.origins,
        )


def test_the_key_of_a_token_is_no_credential_of_its_holder(world: World, one: Actor) -> None:
    pat, _ = world.personal_token(one)
    with world.unit() as unit:
        assert [key.id for key in users.own_keys_of(unit, one.user_id)] == [one.credential_uuid]
        listed = present.user(unit, users.find(unit, one.user_id), world.org_id)["credentials"]  # type: ignore[arg-type]
    assert {each["credentialUuid"] for each in listed} == {one.credential_uuid, pat.credential_uuid}


# Its life


@pytest.mark.parametrize("state", ["deactivate", "delete"])
def test_a_token_that_is_off_does_nothing(world: World, one: Actor, state: str) -> None:
    wallet = world.wallet()
    pat, token_id = world.personal_token(one)
    paid = world.pay(pat, wallet, 2)["id"]
    waiting = world.sign(pat, "POST", "/permissions", {})
    answer = world.switch_token(one, token_id, state)
    assert answer["isActive"] is False
    for attempt in (
        lambda: world.pay(pat, wallet, 2),
        lambda: world.send(pat, waiting, "POST", "/permissions", {}, "Wallets:Read", lambda act: act),
    ):
        with pytest.raises(NotAuthenticated):
            attempt()
    assert world.bind(paid) == "rejected", "what it asked for does not go any more"
    if state == "delete":
        for again in ("activate", "deactivate", "delete"):
            with pytest.raises(NotFound):
                world.switch_token(one, token_id, again)
    else:
        assert world.switch_token(one, token_id, "activate")["isActive"] is True
        world.pay(pat, wallet, 2)
    replay(world)


def test_a_token_ends_by_itself(world: World, one: Actor) -> None:
    pat, token_id = world.personal_token(one, seconds=60)
    wallet = world.wallet()
    world.clock.step(micros=60 * SECOND - 1)
    world.pay(pat, wallet, 2)
    world.clock.step(micros=1)
    with pytest.raises(NotAuthenticated, match="expired"):
        world.pay(pat, wallet, 2)
    assert shown(world, token_id)["dateExpires"]
    known = replay(world).tokens[token_id]
    assert known.expires == world.clock.now()


def test_how_long_a_token_lives() -> None:
    assert token_life(None, None) == token_life(730, None) == token_life(None, 730 * 86_400) == 730 * DAY
    assert token_life(1, None) == DAY
    assert token_life(None, 1) == SECOND
    for days, seconds in ((0, None), (731, None), (None, 0), (None, 730 * 86_400 + 1), (1, 1), (-1, None)):
        with pytest.raises(InvalidInput):
            token_life(days, seconds)


def test_tokens_of_others_are_not_found(world: World, one: Actor, two: Actor) -> None:
    _, token_id = world.personal_token(one)
    for state in ("activate", "deactivate", "delete"):
        for name in (token_id, one.claims["jti"], "x"):
            with pytest.raises(NotFound):
                world.switch_token(two, name, state)
    with pytest.raises(NotFound):
        rename(world, two, token_id, "mine")


def rename(world: World, actor: Actor, token_id: str, name: str) -> Any:
    return world.call(
        actor,
        "PUT",
        f"/auth/pats/{token_id}",
        {"name": name},
        None,
        lambda act: pats.rename(act, token_id, name=name, external_id=None),
    )


def test_a_token_is_renamed(world: World, one: Actor) -> None:
    _, token_id = world.personal_token(one)
    assert rename(world, one, token_id, "nightly report")["name"] == "nightly report"
    with pytest.raises(InvalidInput):
        rename(world, one, token_id, "\n")
    replay(world)


def test_machines_make_no_tokens(world: World, bot: Actor) -> None:
    with pytest.raises(NotPermitted, match="token of its own"):
        world.personal_token(bot)


def test_a_token_is_refused_whole(world: World, one: Actor) -> None:
    """A permission there is not, a key somebody has: no key and no token is left behind."""
    before = world.count(credential), world.count(token)
    with pytest.raises(InvalidInput, match="names no permission"):
        world.personal_token(one, permission_id="pm-00000-00000-0000000000000000")
    gone = world.permission("Wallets:Read")
    archive(world, gone)
    with pytest.raises(InvalidInput, match="names no permission"):
        world.personal_token(one, permission_id=gone)
    with world.unit() as unit:
        key = users.find_credential(unit, world.admin.credential_uuid)
    assert key is not None
    with pytest.raises(Conflict):
        world.personal_token(one, public_key=key.public_key)
    with pytest.raises(InvalidInput):
        world.personal_token(one, seconds=0)
    assert (world.count(credential), world.count(token)) == before


def test_nobody_withdraws_their_key_with_their_token(world: World, one: Actor) -> None:
    """The key of a token is none that stays in its holder's hands."""
    pat, _ = world.personal_token(one)
    with pytest.raises((NotPermitted, PreconditionFailed)):
        world.switch_key(pat, one.credential_uuid, "deactivate")
