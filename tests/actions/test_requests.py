"""Design sections 4, 5 and 8: one externalId is one payout for ever, one signature is one call, settings are signed."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from outlay.actions import organization, policies
from outlay.actions.act import CHALLENGE_LIFE, TOKEN_LIFE, Act
from outlay.actions.admit import Ask, request_transfer
from outlay.config import parse
from outlay.core.errors import (
    ActionReplayed,
    ActionSignatureInvalid,
    Conflict,
    HeadMoved,
    InvalidInput,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    PreconditionFailed,
    Unavailable,
)
from outlay.core.seams import DAY
from outlay.evidence.assertion import Assertion
from outlay.evidence.canonical import canonical
from outlay.evidence.challenge import action_challenge
from outlay.evidence.sign import sign_challenge
from outlay.store import organizations, permissions, users
from outlay.store import wallets as wallet_rows
from outlay.store.schema import evidence, record, spent_nonce, transfer
from tests.actions.documents import ALWAYS, BLOCK, REPORT, policy_document
from tests.actions.world import ALICE, BOB, SETTINGS, USDC, Actor, World

# --- externalId --------------------------------------------------------------------------------------------------


def test_the_same_intent_is_the_same_object_for_ever(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    first = world.pay(bot, wallet, 5, external_id="order-1")
    for _ in range(2):
        assert world.pay(bot, wallet, 5, external_id="order-1") == first
    world.leave(first["id"])
    world.mine(first["id"])
    world.settle(first["id"])
    world.clock.step(minutes=600 * 24 * 60)
    again = world.pay(bot, wallet, 5, external_id="order-1")
    assert (again["id"], again["status"]) == (first["id"], "Confirmed")
    assert world.count(transfer) == 1


def test_it_is_looked_up_before_limits_policy_and_wallet_status(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    first = world.pay(bot, wallet, 5, external_id="order-1")
    world.policy(ALWAYS, BLOCK)
    with world.unit() as unit:
        wallet_rows.freeze(unit, wallet, "a person has to look")
        wallet_rows.freeze_asset(unit, network="EthereumSepolia", asset=USDC, reason="same", now=1)
    assert world.pay(bot, wallet, 5, external_id="order-1")["id"] == first["id"]
    with world.unit() as unit:
        wallet_rows.update(unit, wallet, status="Inactive")
    world.config = parse(SETTINGS.replace('USDC = "1"', 'USDC = "2"'))
    assert world.pay(bot, wallet, 5, external_id="order-1")["id"] == first["id"]
    with pytest.raises(Unavailable):
        world.pay(bot, wallet, 5, external_id="order-2")
    world.config = parse("")  # not even the network is configured any more
    assert world.pay(bot, wallet, 5, external_id="order-1")["id"] == first["id"]


def test_a_blocked_payout_answers_the_same_again(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    policy = world.policy(ALWAYS, BLOCK)
    first = world.pay(bot, wallet, 5, external_id="order-1")
    world.archive_policy(policy)
    again = world.pay(bot, wallet, 5, external_id="order-1")
    assert (again["id"], again["status"]) == (first["id"], "Rejected")


@pytest.mark.parametrize("change", ["amount", "recipient", "wallet", "asset"])
def test_another_intent_is_a_conflict_that_names_the_first(world: World, bot: Actor, change: str) -> None:
    wallet, other = world.wallet(), world.wallet()
    first = world.pay(bot, wallet, 5, external_id="order-1")
    with pytest.raises(Conflict) as refused:
        world.pay(
            bot,
            other if change == "wallet" else wallet,
            6 if change == "amount" else 5,
            to=BOB if change == "recipient" else ALICE,
            external_id="order-1",
            native=change == "asset",
            units=5_000_000 if change == "asset" else 0,
        )
    assert refused.value.status == 409
    assert refused.value.details["duplicate"] == {"id": first["id"], "externalId": "order-1"}
    assert world.count(transfer) == 1


def test_another_initiator_is_another_intent_and_learns_nothing(world: World, bot: Actor, one: Actor) -> None:
    wallet = world.wallet()
    world.pay(bot, wallet, 5, external_id="order-1")
    with pytest.raises(Conflict) as refused:
        world.pay(one, wallet, 5, external_id="order-1")
    assert refused.value.details["duplicate"] == {"externalId": "order-1"}


def test_the_spelling_of_an_address_is_not_part_of_the_intent(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    first = world.pay(bot, wallet, 5, external_id="order-1", to=ALICE)
    upper = "0x" + ALICE[2:].upper()
    assert world.pay(bot, wallet, 5, external_id="order-1", to=upper)["id"] == first["id"]


@pytest.mark.parametrize("to", ["zero", "token", "payer"])
def test_recipients_that_lose_money_are_refused(world: World, bot: Actor, to: str) -> None:
    wallet = world.wallet()
    with world.unit() as unit:
        payer = wallet_rows.find(unit, wallet)
    assert payer is not None
    address = {"zero": "0x" + "0" * 40, "token": USDC, "payer": payer.address}[to]
    with pytest.raises(InvalidInput) as refused:
        world.pay(bot, wallet, 5, to=address)
    assert refused.value.field == "to"
    assert world.count(transfer) == 0


def test_a_stopped_wallet_or_asset_admits_nothing(world: World, bot: Actor) -> None:
    wallet, other = world.wallet(), world.wallet()
    with world.unit() as unit:
        wallet_rows.freeze(unit, wallet, "a person has to look")
    with pytest.raises(PreconditionFailed, match="a person has to look"):
        world.pay(bot, wallet, 5)
    with world.unit() as unit:
        wallet_rows.freeze_asset(unit, network="EthereumSepolia", asset=USDC, reason="wrong effect", now=1)
    with pytest.raises(PreconditionFailed, match="wrong effect"):
        world.pay(bot, other, 5)
    assert world.pay(bot, other, 0, units=5, native=True)["status"] == "Executing"


# --- one signature, one call -------------------------------------------------------------------------------------

Attempt = tuple[Any, Callable[..., Any]]


def attempt(world: World, by: Actor, wallet: str, amount: str = "5") -> Attempt:
    """Return a signed request for a payout, and what uses a signed call for it."""
    payload = {"kind": "Native", "to": ALICE, "amount": amount, "externalId": "order-1"}
    path = f"/wallets/{wallet}/transfers"

    def use(call: Any, method: str = "POST", where: str = path, body: Any = payload) -> Any:
        def action(act: Act) -> Any:
            ask = Ask(wallet_id=wallet, kind="Native", contract=None, to=ALICE, amount=amount, external_id="order-1")
            return request_transfer(act, ask, quote_of=world.quote)

        return world.send(by, call, method, where, body, "Wallets:Transfers:Create", action)

    return world.sign(by, "POST", path, payload), use


def spends(world: World, use: Callable[[], Any], *errors: type[Exception]) -> int:
    """Return how many nonces a refused call spent."""
    before = world.count(spent_nonce)
    with pytest.raises(errors):
        use()
    return world.count(spent_nonce) - before


def test_a_success_spends_the_nonce_and_a_replay_names_the_result(world: World, bot: Actor) -> None:
    signed, use = attempt(world, bot, world.wallet())
    paid = use(signed)
    with pytest.raises(ActionReplayed) as refused:
        use(signed)
    assert (refused.value.status, refused.value.details["resultId"]) == (403, paid["id"])
    assert world.count(transfer) == 1


def test_a_refusal_by_the_action_itself_spends_the_nonce(world: World, bot: Actor) -> None:
    """404, 409, 412 and 400 of the action: definitive answers about exactly this call."""
    wallet = world.wallet()
    missing, use_missing = attempt(world, bot, "wa-00000-00000-000000000000000000")
    assert spends(world, lambda: use_missing(missing), NotFound) == 1
    wrong, use_wrong = attempt(world, bot, wallet, "007")
    assert spends(world, lambda: use_wrong(wrong), InvalidInput) == 1
    world.pay(bot, wallet, 5, external_id="order-1")
    conflict, use_conflict = attempt(world, bot, wallet)
    assert spends(world, lambda: use_conflict(conflict), Conflict) == 1
    with pytest.raises(ActionReplayed) as refused:
        use_conflict(conflict)
    assert "resultId" not in refused.value.details


def test_nothing_that_was_not_carried_out_spends_the_nonce(world: World, bot: Actor, one: Actor) -> None:
    """401, 403 of binding and 503: the same signature may still be used for what it was made for."""
    signed, use = attempt(world, bot, world.wallet())
    path = signed.preimage.path
    assert spends(world, lambda: use(signed, "PUT"), ActionSignatureInvalid) == 0
    assert spends(world, lambda: use(signed, "POST", path + "x"), ActionSignatureInvalid) == 0
    assert spends(world, lambda: use(signed, "POST", path, {"amount": "6"}), ActionSignatureInvalid) == 0
    forged = replace(signed, assertion=replace(signed.assertion, signature=b"\0" * 64))
    assert spends(world, lambda: use(forged), ActionSignatureInvalid) == 0
    stranger = replace(signed, credential_uuid=one.credential_uuid)
    assert spends(world, lambda: use(stranger), ActionSignatureInvalid) == 0
    expired = replace(signed, token_expires=world.clock.now())
    assert spends(world, lambda: use(expired), ActionSignatureInvalid) == 0
    applied, world.config = world.config, parse(SETTINGS.replace('ETH = "2000"', 'ETH = "1"'))
    assert spends(world, lambda: use(signed), Unavailable) == 0
    world.config = applied
    assert use(signed)["status"] == "Executing"


def test_a_refused_action_leaves_nothing_but_the_spent_nonce(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    tables = [transfer, evidence, record]
    signed, use = attempt(world, bot, wallet)
    before = [world.count(table) for table in tables]

    def keep_then_refuse(act: Act) -> None:
        act.keep_evidence("nothing")
        raise PreconditionFailed("too late")

    with pytest.raises(PreconditionFailed):
        world.send(
            bot,
            signed,
            "POST",
            signed.preimage.path,
            {"kind": "Native", "to": ALICE, "amount": "5", "externalId": "order-1"},
            "Wallets:Transfers:Create",
            keep_then_refuse,
        )
    assert [world.count(table) for table in tables] == before
    with pytest.raises(ActionReplayed):
        use(signed)


def test_a_token_is_good_until_its_instant_and_not_at_it(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    signed, use = attempt(world, bot, wallet)
    world.clock.step(micros=TOKEN_LIFE)
    with pytest.raises(ActionSignatureInvalid, match="expired"):
        use(signed)
    world.clock.step(micros=-1)
    assert use(signed)["status"] == "Executing"


@pytest.mark.parametrize("what", ["identity", "credential", "token", "permission"])
def test_revocation_is_immediate(world: World, one: Actor, what: str) -> None:
    """Bearer, identity, credential and permission are read again at use."""
    signed, use = attempt(world, one, world.wallet())
    with world.unit() as unit:
        if what == "identity":
            users.update(unit, one.user_id, is_active=False)
        elif what == "credential":
            users.update_credential(unit, one.credential_uuid, is_active=False)
        elif what == "token":
            users.revoke_tokens(unit, one.user_id)
        else:
            for held in permissions.held_by(unit, one.user_id):
                permissions.revoke(unit, held.assignment_id)
    assert spends(world, lambda: use(signed), NotPermitted, NotAuthenticated) == 0
    assert world.count(transfer) == 0


def test_a_bearer_token_of_which_only_the_claims_are_known_opens_nothing(world: World, bot: Actor) -> None:
    """Whoever holds the sealing key can write claims, but not the secret whose hash is stored."""
    wallet = world.wallet()
    forged = replace(bot, claims={**bot.claims, "secret": "guessed"})
    with pytest.raises(NotAuthenticated):
        world.pay(forged, wallet, 5)


def test_forgetting_nonces_never_makes_one_usable_again(world: World, bot: Actor) -> None:
    signed, use = attempt(world, bot, world.wallet())
    use(signed)
    world.clock.step(micros=CHALLENGE_LIFE + DAY + 1)
    world.expire()
    assert world.count(spent_nonce) == 0
    with pytest.raises(ActionSignatureInvalid, match="expired"):
        use(signed)


# --- the head of the records -------------------------------------------------------------------------------------


def test_a_write_that_makes_a_record_needs_the_head_it_was_signed_over(world: World) -> None:
    document = policy_document(ALWAYS, REPORT)

    def create(act: Act) -> Any:
        return policies.create(act, document)

    signed = [world.sign(world.admin, "POST", "/v2/policies", document) for _ in range(2)]
    world.send(world.admin, signed[0], "POST", "/v2/policies", document, "Policies:Create", create)
    with pytest.raises(HeadMoved) as refused:
        world.send(world.admin, signed[1], "POST", "/v2/policies", document, "Policies:Create", create)
    assert (refused.value.status, refused.value.code) == (409, "head_moved")
    with pytest.raises(ActionReplayed):
        world.send(world.admin, signed[1], "POST", "/v2/policies", document, "Policies:Create", create)


def test_any_other_write_needs_an_ancestor(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    signed, use = attempt(world, bot, wallet)
    world.invite("later@example.com")
    foreign = replace(signed, preimage=replace(signed.preimage, records_head="ab" * 32))
    with pytest.raises(ActionSignatureInvalid):
        use(foreign)
    assert use(signed)["status"] == "Executing"


def test_a_write_over_records_of_long_ago_is_refused(world: World, bot: Actor) -> None:
    """Whoever holds the sealing keys could have a key's owner sign over what was so at any time."""
    wallet = world.wallet()
    with world.unit() as unit:
        old = organizations.get(unit).head
    world.invite("later@example.com")
    world.clock.step(minutes=1)
    signed, use = attempt(world, bot, wallet)
    preimage = replace(signed.preimage, records_head=old)
    answer = sign_challenge(bot.private_key, bot.credential_id, action_challenge(preimage))
    with pytest.raises(ActionSignatureInvalid, match="too old"):
        use(replace(signed, preimage=preimage, assertion=Assertion.from_document(answer)))


def test_a_payout_signed_under_other_policies_is_signed_again(world: World, bot: Actor) -> None:
    """The signer judges it by what its request saw; who that asks, nobody would have asked."""
    wallet = world.wallet()
    signed, use = attempt(world, bot, wallet)
    world.policy(ALWAYS, REPORT)
    with pytest.raises(HeadMoved):
        use(signed)
    signed, use = attempt(world, bot, wallet)
    assert use(signed)["status"] == "Executing"


# --- money settings ----------------------------------------------------------------------------------------------


def apply_settings(world: World, by: Actor, settings: Any) -> Any:
    return world.call(
        by,
        "PUT",
        "/v1/config",
        {"moneySettings": settings},
        "Config:Apply",
        lambda act: organization.apply_config(act, settings=settings),
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('USDC = "1"', 'USDC = "0.5"'),
        ("blocks = 1", "blocks = 2"),
        ("decimals = 6", "decimals = 8"),
        ('fee_cap = "100000000"', 'fee_cap = "100000001"'),
        ('default = "allow"', 'default = "block"'),
    ],
)
def test_settings_about_money_that_nobody_signed_admit_nothing(world: World, bot: Actor, old: str, new: str) -> None:
    wallet = world.wallet()
    paid = world.pay(bot, wallet, 5)["id"]
    assert old in SETTINGS
    world.config = parse(SETTINGS.replace(old, new))
    with pytest.raises(Unavailable, match="outlay settings apply") as refused:
        world.pay(bot, wallet, 5)
    assert refused.value.status == 503
    assert world.row(paid).state == "ready", "reads still answer"
    apply_settings(world, world.admin, world.config.money_settings())
    assert world.pay(bot, wallet, 5)["status"] in ("Executing", "Rejected")


def test_a_name_that_now_stands_for_another_chain_pays_from_no_old_wallet(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    first = world.pay(bot, wallet, 5, external_id="order-1")
    world.config = parse(SETTINGS.replace("chain_id = 31337", "chain_id = 1337"))
    apply_settings(world, world.admin, world.config.money_settings())
    assert world.pay(bot, wallet, 5, external_id="order-1")["id"] == first["id"]
    with pytest.raises(PreconditionFailed, match="make another wallet"):
        world.pay(bot, wallet, 5)
    assert world.bind(first["id"]) == "failed"


def test_settings_about_anything_else_need_no_signature(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    world.config = parse(SETTINGS.replace("http://127.0.0.1:1", "http://127.0.0.1:2") + "\n[sending]\npoll_s = 0.5\n")
    assert world.pay(bot, wallet, 5)["status"] == "Executing"


def test_only_the_loaded_settings_can_be_applied(world: World) -> None:
    settings = json.loads(json.dumps(world.config.money_settings()))
    settings["prices"]["USDC"] = "0.01"
    with pytest.raises(Conflict):
        apply_settings(world, world.admin, settings)


def test_the_genesis_record_holds_the_settings_and_is_pinned(world: World) -> None:
    with world.unit() as unit:
        org = organizations.get(unit)
        genesis = next(organizations.read_records(unit))
    assert genesis["body"]["moneySettings"] == world.config.money_settings()
    assert genesis["body"]["admin"]["userId"] == world.admin.user_id
    assert org.root == world.root == hashlib.sha256(canonical(genesis)).hexdigest()
