"""Limits in base units of single assets: what a payout is compared with, when requested and before a nonce is bound."""

from typing import Any

import pytest

from outlay.config import parse
from outlay.core.errors import InvalidInput
from outlay.core.policy import POLICIES_MODIFY
from tests.actions.documents import ALWAYS, BLOCK, ask, group, policy_document
from tests.actions.test_requests import apply_settings
from tests.actions.world import DOLLAR, NETWORK, SETTINGS, USDC, Actor, World

COIN, TOKEN = "native:eth", f"erc20:{USDC}"


def at_most(*limits: tuple[str, int], network: str = NETWORK) -> dict[str, Any]:
    assets = [{"network": network, "tid": tid, "limit": str(limit)} for tid, limit in limits]
    return {"kind": "TransactionAmountLimitNominal", "configuration": {"assets": assets}}


def test_a_payout_is_compared_with_the_limit_of_its_asset(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    world.policy(at_most((COIN, 7), (TOKEN, 2 * DOLLAR)), BLOCK)
    assert world.pay(bot, wallet, 2)["status"] == "Executing"
    assert world.pay(bot, wallet, 0, units=7, native=True)["status"] == "Executing"
    blocked = world.pay(bot, wallet, 2, units=1)
    assert blocked["status"] == "Rejected"
    assert blocked["reason"] == (
        f"The transfer is of 2000001 base units of {TOKEN} on {NETWORK}, more than the limit of 2000000."
    )
    (evaluation,) = world.evaluations(blocked["id"])
    assert evaluation.context == {
        "rule": "TransactionAmountLimitNominal",
        "network": NETWORK,
        "tid": TOKEN,
        "amount": "2000001",
        "threshold": "2000000",
    }
    assert world.pay(bot, wallet, 0, units=8, native=True)["status"] == "Rejected"


def test_no_price_is_needed_and_an_asset_that_is_not_listed_passes(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    world.policy(at_most((COIN, 0)), BLOCK)
    world.prices.clear()
    assert world.pay(bot, wallet, 10**6)["status"] == "Executing"
    assert world.pay(bot, wallet, 0, units=1, native=True)["status"] == "Rejected"


def test_the_limit_is_compared_again_before_a_nonce_is_bound(world: World, bot: Actor, one: Actor) -> None:
    wallet = world.wallet()
    policy_id = world.policy(at_most((TOKEN, 5 * DOLLAR)), ask(group(one)))
    paid = world.pay(bot, wallet, 5)["id"]
    world.replace_policy(policy_id, at_most((TOKEN, 5 * DOLLAR - 1)), BLOCK)
    assert world.bind(paid) == "rejected"


def test_a_coin_that_was_renamed_in_the_settings_triggers(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    world.policy(at_most((COIN, 10**9)), BLOCK)
    paid = world.pay(bot, wallet, 0, units=7, native=True)["id"]
    world.config = parse(SETTINGS.replace('symbol = "ETH"', 'symbol = "OTHER"'))
    apply_settings(world, world.admin, world.config.money_settings())
    assert world.bind(paid) == "rejected"
    assert "another native coin" in world.row(paid).reason


def test_a_limit_that_would_never_apply_is_refused(world: World) -> None:
    with pytest.raises(InvalidInput) as unknown:
        world.policy(at_most((TOKEN, 1), network="Sepolia"), BLOCK)
    assert unknown.value.field == "rule.configuration.assets[0].network"
    with pytest.raises(InvalidInput, match="native:eth") as renamed:
        world.policy(at_most((TOKEN, 1), ("native:pol", 1)), BLOCK)
    assert renamed.value.field == "rule.configuration.assets[1].tid"
    known = world.policy(at_most(("erc20:0x" + "99" * 20, 1)), BLOCK)
    with pytest.raises(InvalidInput):
        world.replace_policy(known, at_most((TOKEN, 1), network="Sepolia"), BLOCK)


def test_a_policy_keeps_its_kind(world: World, one: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    policy_id = world.policy(ALWAYS, ask(group(one)))
    governing = {**policy_document(ALWAYS, ask(group(one))), "activityKind": POLICIES_MODIFY}
    monkeypatch.setattr("tests.actions.world.policy_document", lambda *_, **__: governing)
    with pytest.raises(InvalidInput) as caught:
        world.replace_policy(policy_id, ALWAYS, BLOCK)
    assert caught.value.field == "activityKind"
