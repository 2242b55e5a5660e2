"""Attacks on limits: splitting, boundaries of windows, giving back twice, games with tags, many at once."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from outlay.actions.act import Act, Caller, SignedCall, authenticate
from outlay.actions.admit import Ask, request_transfer
from outlay.actions.organization import open_action
from outlay.actions.perform import perform
from outlay.core.errors import Conflict, PreconditionFailed
from outlay.core.seams import HOUR, MINUTE, SECOND
from outlay.evidence.assertion import Assertion
from outlay.evidence.challenge import action_challenge
from outlay.evidence.sign import sign_challenge
from outlay.store.database import Unit
from outlay.store.schema import transfer
from tests.actions.documents import BLOCK, at_most, cap
from tests.actions.world import ALICE, DOLLAR, USDC, Actor, World

LIMIT = 100


def accepted(answers: list[dict[str, Any]]) -> int:
    return sum(answer["status"] == "Executing" for answer in answers)


def addresses(count: int) -> list[str]:
    return [f"0x{number + 1:040x}" for number in range(count)]


# Splitting


@pytest.mark.parametrize("scope", ["wallet", "policy", "organization", "recipient", "initiator"])
def test_a_large_payout_is_split_into_small_ones(world: World, bot: Actor, scope: str) -> None:
    """The attacker, who may ask for payouts, asks for many below every threshold: sums are capped (F51)."""
    wallet = world.wallet()
    world.policy(cap(LIMIT, scope=scope), BLOCK)
    answers = [world.pay(bot, wallet, 9) for _ in range(15)]
    assert accepted(answers) == LIMIT // 9
    assert [answer["status"] for answer in answers] == ["Executing"] * 11 + ["Rejected"] * 4


@pytest.mark.parametrize("scope", ["policy", "organization", "recipient", "initiator"])
def test_a_payout_is_split_over_wallets(world: World, bot: Actor, scope: str) -> None:
    """The attacker uses every hot wallet there is: caps of these scopes do not multiply with wallets (F51)."""
    wallets = [world.wallet() for _ in range(5)]
    world.policy(cap(LIMIT, scope=scope), BLOCK)
    assert accepted([world.pay(bot, wallets[number % 5], 30) for number in range(10)]) == 3


@pytest.mark.parametrize("scope", ["wallet", "policy", "organization", "initiator"])
def test_a_payout_is_split_over_recipients(world: World, bot: Actor, scope: str) -> None:
    """The attacker pays many addresses of their own instead of one (F51)."""
    wallet = world.wallet()
    world.policy(cap(LIMIT, scope=scope), BLOCK)
    assert accepted([world.pay(bot, wallet, 30, to=to) for to in addresses(10)]) == 3


@pytest.mark.parametrize("scope", ["wallet", "policy", "organization", "recipient"])
def test_a_payout_is_split_over_initiators(world: World, scope: str) -> None:
    """The attacker stole the keys of several machines (F51)."""
    wallet = world.wallet()
    bots = [world.service_account(f"bot {number}") for number in range(4)]
    world.policy(cap(LIMIT, scope=scope), BLOCK)
    assert accepted([world.pay(bots[number % 4], wallet, 30) for number in range(8)]) == 3


def test_a_payout_is_split_over_assets(world: World, bot: Actor) -> None:
    """The attacker takes one part in tokens and one in coins: the cap is one of value (F51)."""
    wallet = world.wallet()
    world.policy(cap(LIMIT), BLOCK)
    forty_dollars_in_coins = 2 * 10**16
    answers = [
        world.pay(bot, wallet, 40),
        world.pay(bot, wallet, 0, units=forty_dollars_in_coins, native=True),
        world.pay(bot, wallet, 40),
        world.pay(bot, wallet, 0, units=forty_dollars_in_coins, native=True),
        world.pay(bot, wallet, 20),
    ]
    assert [answer["status"] for answer in answers] == ["Executing", "Executing", "Rejected", "Rejected", "Executing"]


def test_dust_slips_below_the_sum(world: World, bot: Actor) -> None:
    """The attacker sends amounts worth less than the smallest unit of value: rounded up, and counted (F51, F72)."""
    wallet = world.wallet()
    world.policy(at_most(3), BLOCK)
    assert accepted([world.pay(bot, wallet, 0, units=1, native=True) for _ in range(6)]) == 3
    assert all(world.row(each).value > 0 for each in _transfers(world))


def _transfers(world: World) -> list[str]:
    with world.unit() as unit:
        return [row.id for row in unit.execute(transfer.select())]


def test_an_unknown_price_hides_the_value(world: World, bot: Actor) -> None:
    """The attacker waits until an asset has no price: what has no value is not worth nothing (F62)."""
    wallet = world.wallet()
    world.policy(cap(LIMIT), BLOCK)
    del world.prices["USDC"]
    assert world.pay(bot, wallet, 1)["status"] == "Rejected"


def test_a_price_is_waited_for(world: World, bot: Actor) -> None:
    """The attacker asks while the price is low and is paid when it is high again: values stay as requested (F64)."""
    wallet = world.wallet()
    world.policy(cap(LIMIT), BLOCK)
    paid = [world.pay(bot, wallet, 0, units=2 * 10**16, native=True)["id"] for _ in range(2)]
    world.prices["ETH"] = world.prices["ETH"] / 10
    assert [world.bind(each) for each in paid] == ["assigned", "assigned"]
    third = world.pay(bot, wallet, 0, units=10 * 10**16, native=True)
    assert third["status"] == "Executing"  # worth 20 now
    assert world.pay(bot, wallet, 1)["status"] == "Rejected"


# Windows


def test_two_days_meet_at_midnight(world: World, bot: Actor) -> None:
    """The attacker spends the limit a minute before a boundary and again a minute after: windows roll (F52)."""
    wallet = world.wallet()
    world.policy(cap(LIMIT, minutes=1440), BLOCK)
    world.leave(world.pay(bot, wallet, LIMIT)["id"])
    world.clock.step(micros=2 * MINUTE)
    assert world.pay(bot, wallet, 1)["status"] == "Rejected"
    world.clock.step(micros=24 * HOUR - 2 * MINUTE - SECOND)
    assert world.pay(bot, wallet, 1)["status"] == "Rejected"
    world.clock.step(micros=2 * SECOND)
    assert world.pay(bot, wallet, LIMIT)["status"] == "Executing"


def test_the_clock_is_turned_back_and_forth(world: World, bot: Actor) -> None:
    """The attacker moves the server's clock: a window may hold more because of it, never less (F60)."""
    wallet = world.wallet()
    world.policy(cap(LIMIT, minutes=60), BLOCK)
    world.leave(world.pay(bot, wallet, 60)["id"])
    world.clock.step(micros=-30 * HOUR)
    assert world.pay(bot, wallet, 60)["status"] == "Rejected"
    world.leave(world.pay(bot, wallet, 40)["id"])
    world.clock.step(micros=30 * HOUR)
    assert world.pay(bot, wallet, 1)["status"] == "Rejected"


# Giving back


def test_a_payout_is_taken_back_twice(world: World, bot: Actor) -> None:
    """The attacker aborts one payout twice, or aborts what expired, to get its limit back twice (F53)."""
    wallet = world.wallet()
    world.policy(cap(LIMIT), BLOCK)
    first = world.pay(bot, wallet, 60)["id"]
    world.withdraw(bot, first)
    with pytest.raises(PreconditionFailed):
        world.withdraw(bot, first)
    second = world.pay(bot, wallet, 60)["id"]
    assert world.state(second) == "ready"
    assert world.pay(bot, wallet, 60)["status"] == "Rejected"
    assert world.pay(bot, wallet, 40)["status"] == "Executing"


def test_a_rejected_payout_gives_back_what_it_never_took(world: World, bot: Actor) -> None:
    """The attacker asks for what is blocked, again and again, to lower the sum (F53)."""
    wallet = world.wallet()
    world.policy(cap(LIMIT), BLOCK)
    assert world.pay(bot, wallet, LIMIT)["status"] == "Executing"
    for _ in range(5):
        blocked = world.pay(bot, wallet, LIMIT)
        assert blocked["status"] == "Rejected"
        with pytest.raises(PreconditionFailed):
            world.withdraw(bot, blocked["id"])
    assert world.pay(bot, wallet, 1)["status"] == "Rejected"


def test_a_reverted_payout_is_corrected_twice(world: World, bot: Actor) -> None:
    """The attacker makes a payout revert and hopes that both revert and end give the limit back (F53)."""
    wallet = world.wallet()
    world.policy(cap(LIMIT), BLOCK)
    reverts = world.pay(bot, wallet, 60)["id"]
    world.leave(reverts)
    world.mine(reverts)
    assert world.settle(reverts, "nothing") == "failed"
    with pytest.raises(PreconditionFailed):
        world.withdraw(bot, reverts)
    assert world.pay(bot, wallet, LIMIT)["status"] == "Executing"
    assert world.pay(bot, wallet, 1)["status"] == "Rejected"


# Tags


def test_a_tag_is_taken_off_for_a_moment(world: World, bot: Actor) -> None:
    """The attacker may tag: off with the tag, pay past the cap, and on again. The cap counts what left (F51)."""
    wallet = world.wallet("payouts")
    world.policy(cap(LIMIT), BLOCK, tags=["payouts"])
    world.leave(world.pay(bot, wallet, 60)["id"])
    world.untag(wallet, "payouts")
    world.leave(world.pay(bot, wallet, 60)["id"])  # under no policy now: whoever may untag may do this
    world.tag(wallet, "payouts")
    assert world.pay(bot, wallet, 1)["status"] == "Rejected"


def test_a_tag_is_taken_off_between_request_and_payment(world: World, bot: Actor) -> None:
    """The attacker asks under the cap's tag and takes it off before binding: then and now both judge (F46)."""
    wallet = world.wallet("payouts")
    policy = world.policy(cap(LIMIT), BLOCK, tags=["payouts"])
    paid = world.pay(bot, wallet, 60)["id"]
    world.untag(wallet, "payouts")
    world.replace_policy(policy, cap(50), BLOCK, tags=["payouts"])
    assert world.bind(paid) == "rejected"


def test_a_wallet_borrows_the_tag_of_a_roomier_cap(world: World, bot: Actor) -> None:
    """The attacker adds a second tag whose cap is higher: every policy that matches judges (F51)."""
    wallet = world.wallet("small")
    world.policy(cap(50), BLOCK, tags=["small"])
    world.policy(cap(5000), BLOCK, tags=["large"])
    world.tag(wallet, "large")
    assert world.pay(bot, wallet, 60)["status"] == "Rejected"


def test_the_policy_is_replaced_to_start_counting_anew(world: World, bot: Actor) -> None:
    """The attacker may edit policies and re-creates the cap, renames it, or changes its window, to empty it (F51)."""
    wallet = world.wallet("payouts")
    policy = world.policy(cap(LIMIT), BLOCK)
    world.leave(world.pay(bot, wallet, LIMIT)["id"])
    for rule in (cap(LIMIT, minutes=61), cap(LIMIT, scope="organization"), cap(LIMIT), cap(LIMIT, scope="wallet")):
        world.replace_policy(policy, rule, BLOCK)
        assert world.pay(bot, wallet, 1)["status"] == "Rejected"
    world.archive_policy(policy)
    world.policy(cap(LIMIT), BLOCK)
    assert world.pay(bot, wallet, 1)["status"] == "Rejected"


# Many at once


def signed_requests(world: World, bot: Actor, wallets: list[str], names: list[str]) -> list[Callable[[Unit], Any]]:
    """Return signed requests of a dollar each, in turn from these wallets, as the server's writer runs them."""
    with world.unit() as unit:
        caller = authenticate(unit, bot.claims, now=world.clock.now())
        return [_request(world, bot, unit, caller, wallets[at % len(wallets)], name) for at, name in enumerate(names)]


def _request(world: World, bot: Actor, unit: Unit, caller: Caller, wallet: str, name: str) -> Callable[[Unit], Any]:
    payload = {"kind": "Erc20", "to": ALICE, "amount": str(DOLLAR), "externalId": name, "contract": USDC}
    path, now = f"/wallets/{wallet}/transfers", world.clock.now()
    preimage = open_action(
        unit, now=now, entropy=world.entropy, caller=caller, method="POST", path=path, payload=payload
    )
    factor = sign_challenge(bot.private_key, bot.credential_id, action_challenge(preimage))
    call = SignedCall(
        preimage=preimage,
        assertion=Assertion.from_document(factor),
        credential_uuid=bot.credential_uuid,
        token_expires=now + MINUTE,
    )

    def ask(act: Act) -> Any:
        wanted = Ask(wallet_id=wallet, kind="Erc20", contract=USDC, to=ALICE, amount=str(DOLLAR), external_id=name)
        return request_transfer(act, wanted, quote_of=world.quote)

    def run(writer: Unit) -> Any:
        return perform(
            writer,
            now=now,
            entropy=world.entropy,
            config=world.config,
            claims=bot.claims,
            call=call,
            method="POST",
            path=path,
            payload=payload,
            operations=("Wallets:Transfers:Create",),
            action=ask,
        )

    return run


def all_at_once(world: World, units: list[Callable[[Unit], Any]]) -> list[Any]:
    async def run() -> list[Any]:
        return await asyncio.gather(*(world.db.write(unit) for unit in units))

    return asyncio.run(run())


def test_a_thousand_requests_race_one_cap(world: World, bot: Actor) -> None:
    """The attacker fires a thousand requests at once at two wallets under one cap: exactly the cap goes (F40, F51)."""
    wallets = [world.wallet(dollars=0), world.wallet(dollars=0)]
    world.policy(cap(LIMIT), BLOCK)
    units = signed_requests(world, bot, wallets, [f"race-{number}" for number in range(1000)])
    outcomes = all_at_once(world, units)
    statuses = [outcome.result["status"] for outcome in outcomes]
    assert (statuses.count("Executing"), statuses.count("Rejected")) == (LIMIT, 1000 - LIMIT)


def test_one_external_id_races_over_two_wallets(world: World, bot: Actor) -> None:
    """The attacker asks for one payout from two wallets at once, to have it twice: one name, one payout (F41)."""
    wallets = [world.wallet(dollars=0), world.wallet(dollars=0)]
    units = signed_requests(world, bot, wallets, ["the-same"] * 40)
    outcomes = all_at_once(world, units)
    made = {outcome.result["id"] for outcome in outcomes if outcome.refusal is None}
    refusals = [outcome.refusal for outcome in outcomes if outcome.refusal is not None]
    assert len(made) == 1
    assert len(refusals) == 20 and all(isinstance(each, Conflict) for each in refusals)
