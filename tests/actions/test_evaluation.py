"""Design section 6, first paragraph: which policies are asked, what triggers, and what all of them say together."""

import itertools
from pathlib import Path

import pytest

from outlay.core.errors import InvalidInput
from outlay.store.schema import approval, evaluation, transfer, velocity_entry
from tests.actions.documents import ALWAYS, BLOCK, REPORT, ask, at_most, cap, group, known, over
from tests.actions.world import ALICE, BOB, SETTINGS, Actor, World

BLOCKING = SETTINGS.replace('default = "allow"', 'default = "block"')


def test_all_active_policies_that_match_are_evaluated_always_all(world: World, bot: Actor, one: Actor) -> None:
    wallet = world.wallet("payouts")
    asked = {
        world.policy(over(1), BLOCK),
        world.policy(over(1000), BLOCK),
        world.policy(known(BOB), ask(group(one))),
        world.policy(at_most(10), REPORT),
        world.policy(cap(5), BLOCK, tags=["payouts"]),
    }
    world.policy(ALWAYS, BLOCK, tags=["other"])
    archived = world.policy(ALWAYS, BLOCK)
    world.archive_policy(archived)
    blocked = world.pay(bot, wallet, 2)
    assert {each.policy_id for each in world.evaluations(blocked["id"])} == asked
    assert blocked["status"] == "Rejected"


def test_policies_are_evaluated_in_any_order(tmp_path: Path) -> None:
    """The verdict and every answer are the same whichever policy was made first."""
    rules = [(over(1), BLOCK), (over(5), REPORT), (known(BOB), ask(group()))]
    answers = set()
    for number, order in enumerate(itertools.permutations(rules)):
        folder = tmp_path / str(number)
        folder.mkdir()
        world = World(folder, seed=number)
        for rule, action in order:
            world.policy(rule, action)
        paid = world.pay(world.admin, world.wallet(), 3)
        said = sorted((each.action, each.triggered, each.reason) for each in world.evaluations(paid["id"]))
        answers.add((paid["status"], paid["reason"], str(said)))
        world.close()
    assert len(answers) == 1


def test_a_triggered_block_blocks_whatever_else_triggers(world: World, bot: Actor, one: Actor) -> None:
    wallet = world.wallet()
    world.policy(ALWAYS, ask(group(one)))
    world.policy(ALWAYS, REPORT)
    world.policy(over(10), BLOCK)
    assert world.pay(bot, wallet, 11)["status"] == "Rejected"
    assert world.count(approval) == 0
    assert world.pay(bot, wallet, 10)["status"] == "Pending"


def test_block_answers_rejected_with_the_reason_and_both_events(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    world.policy(over(10), BLOCK)
    paid = world.pay(bot, wallet, 11)
    assert paid["status"] == "Rejected"
    assert paid["reason"] == "The transfer is worth USD 11, more than the limit of USD 10."
    assert "datePolicyResolved" in paid
    assert world.events(paid["id"]) == ["wallet.transfer.requested", "policy.triggered", "wallet.transfer.rejected"]
    assert world.count(velocity_entry) == 0


def test_all_groups_of_all_triggered_policies_must_reach_quorum(
    world: World, bot: Actor, one: Actor, two: Actor
) -> None:
    wallet, three = world.wallet(), world.person("approver.three@example.com")
    world.policy(ALWAYS, ask(group(one, two, quorum=2), group(three)))
    world.policy(over(1), ask(group(one)))
    world.policy(over(1000), ask(group(world.admin)))  # does not trigger: nobody waits for the admin
    held = world.pay(bot, wallet, 2)["id"]
    for voter, state in ((one, "held"), (three, "held"), (two, "ready")):
        world.decide(voter, held)
        assert world.state(held) == state


def test_one_denial_ends_it(world: World, bot: Actor, one: Actor, two: Actor) -> None:
    wallet = world.wallet()
    world.policy(ALWAYS, ask(group(one), group(two)))
    held = world.pay(bot, wallet, 2)["id"]
    world.decide(one, held)
    world.decide(two, held, "Denied", reason="not ours")
    row = world.row(held)
    assert (row.state, row.reason) == ("rejected", f"Denied by {two.username}: not ours")
    assert world.approval(held).status == "Denied"
    assert world.events(held)[-1] == "wallet.transfer.rejected"


def test_no_action_only_reports(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    world.policy(ALWAYS, REPORT)
    paid = world.pay(bot, wallet, 2)
    assert paid["status"] == "Executing"
    assert world.events(paid["id"]) == ["wallet.transfer.requested", "policy.triggered"]
    assert [each.triggered for each in world.evaluations(paid["id"])] == [True]


def test_there_is_no_allow_rule_adding_a_policy_never_lets_a_payment_through(world: World, bot: Actor) -> None:
    """With the default to block, a policy that says nothing against a payout lets it go; one that does, does not."""
    wallet = world.wallet()
    world.policy(over(10), BLOCK)
    verdicts = [world.pay(bot, wallet, 11)["status"]]
    for rule, action in ((ALWAYS, REPORT), (known(ALICE), BLOCK), (at_most(1000), REPORT), (over(10**6), BLOCK)):
        world.policy(rule, action)
        verdicts.append(world.pay(bot, wallet, 11)["status"])
    assert set(verdicts) == {"Rejected"}


@pytest.mark.parametrize(("settings", "status"), [(SETTINGS, "Executing"), (BLOCKING, "Rejected")])
def test_no_policy_matches_then_the_configured_default_decides(tmp_path: Path, settings: str, status: str) -> None:
    world = World(tmp_path, settings=settings)
    wallet = world.wallet("other")
    world.policy(ALWAYS, BLOCK, tags=["payouts"])
    paid = world.pay(world.admin, wallet, 1)
    assert paid["status"] == status
    assert list(world.evaluations(paid["id"])) == []
    world.close()


def test_the_default_is_not_asked_where_a_policy_matches(tmp_path: Path) -> None:
    world = World(tmp_path, settings=BLOCKING)
    world.policy(over(10), BLOCK)
    assert world.pay(world.admin, world.wallet(), 10)["status"] == "Executing"
    world.close()


def test_equal_to_a_limit_does_not_trigger(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    world.policy(over(10), BLOCK)
    world.policy(cap(20, scope="wallet"), BLOCK)
    world.policy(at_most(2, scope="wallet"), BLOCK)
    assert world.pay(bot, wallet, 10, units=1)["status"] == "Rejected"
    assert world.pay(bot, wallet, 10)["status"] == "Executing"
    assert world.pay(bot, wallet, 10)["status"] == "Executing"
    third = world.pay(bot, wallet, 1)
    assert third["status"] == "Rejected"
    assert "3 payouts" in third["reason"] and "USD 21" in third["reason"]


def test_an_unknown_price_triggers_every_rule_about_value(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    limit, window = world.policy(over(10**9), BLOCK), world.policy(cap(10**9), REPORT)
    count, listed = world.policy(at_most(10**6), REPORT), world.policy(known(ALICE), REPORT)
    world.prices.clear()
    paid = world.pay(bot, wallet, 1)
    assert paid["status"] == "Rejected" and "no fresh price" in paid["reason"]
    triggered = {each.policy_id: each.triggered for each in world.evaluations(paid["id"])}
    assert triggered == {limit: True, window: True, count: False, listed: False}
    assert world.row(paid["id"]).value is None


def test_values_are_fixed_when_requested_with_source_and_time_rounded_up(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    asked_at = world.clock.step(minutes=5)
    paid = world.pay(bot, wallet, 0, units=1, native=True)  # 1 wei of ETH at 2,000 dollars
    row = world.row(paid["id"])
    assert row.value == 1  # 0.0000000000002 units of 10**-8 USD
    assert row.price == {"price": "2000", "source": "static", "at": asked_at}
    world.prices["ETH"] *= 1000
    world.clock.step(minutes=5)
    assert world.bind(paid["id"]) == "assigned"
    assert (world.row(paid["id"]).value, world.row(paid["id"]).price) == (row.value, row.price)


@pytest.mark.parametrize("amount", [0, -1])
def test_amount_zero_is_refused(world: World, bot: Actor, amount: int) -> None:
    wallet = world.wallet()
    with pytest.raises(InvalidInput) as refused:
        world.pay(bot, wallet, 0, units=amount)
    assert refused.value.field == "amount"
    assert world.count(transfer) == 0


def test_an_amount_too_large_to_value_is_judged_like_any_other(world: World, bot: Actor) -> None:
    """2**256 - 1 is worth more than the column of values holds; that must not be an error of ours."""
    wallet = world.wallet()
    assert world.pay(bot, wallet, 0, units=2**256 - 1)["status"] == "Executing"
    world.policy(over(10**6), BLOCK)
    paid = world.pay(bot, wallet, 0, units=2**256 - 1)
    assert paid["status"] == "Rejected" and "more than the limit of USD 1000000" in paid["reason"]


def test_every_evaluation_is_stored_with_what_it_was_computed_from(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    world.pay(bot, wallet, 3)
    window, listed = world.policy(cap(100, minutes=90), BLOCK), world.policy(known(BOB), REPORT)
    world.replace_policy(window, cap(50, minutes=90), BLOCK)
    world.leave(world.pay(bot, wallet, 7)["id"])
    at = world.clock.step(minutes=1)
    paid = world.pay(bot, wallet, 11, to=ALICE)["id"]
    found = {each.policy_id: each for each in world.evaluations(paid)}
    assert found[window].context == {
        "rule": "TransactionAmountVelocity",
        "currency": "USD",
        "value": "11",
        "price": "1",
        "priceSource": "static",
        "priceAt": at,
        "threshold": "50",
        "timeframe": 90,
        "scope": "policy",
        "sum": "10",
        "count": 2,
        "unknown": 0,
    }
    kept = found[window]
    assert (kept.policy_version, kept.action, kept.triggered, kept.reason, kept.at) == (2, "Block", False, None, at)
    assert found[listed].context == {"rule": "TransactionRecipientWhitelist", "recipient": ALICE, "listed": 1}
    assert found[listed].triggered and "not on the list" in found[listed].reason
    before = world.count(evaluation)
    world.bind(paid)
    assert {each.policy_id for each in world.evaluations(paid, "binding")} == {window, listed}
    assert world.count(evaluation) == before + 2
