"""Design section 6, judging again before a nonce is bound: under the stricter of then and now."""

import pytest

from outlay.config import parse
from outlay.core.errors import Unavailable
from outlay.core.seams import MINUTE
from outlay.store import stops, transfers, velocity
from tests.actions.documents import ALWAYS, BLOCK, REPORT, ask, at_most, cap, group, known, over
from tests.actions.world import ALICE, BOB, SETTINGS, Actor, World


def approved(world: World, bot: Actor, wallet: str, dollars: int, *voters: Actor) -> str:
    """Return the id of a payout that was held and then approved."""
    paid = world.pay(bot, wallet, dollars)
    assert paid["status"] == "Pending"
    for voter in voters:
        world.decide(voter, paid["id"])
    assert world.state(paid["id"]) == "ready"
    return str(paid["id"])


# --- policies of then and now --------------------------------------------------------------------------------------


def test_a_blocking_policy_added_after_approval_blocks(world: World, bot: Actor, one: Actor) -> None:
    wallet = world.wallet()
    world.policy(ALWAYS, ask(group(one)))
    paid = approved(world, bot, wallet, 20, one)
    world.policy(over(10), BLOCK)
    assert world.bind(paid) == "rejected"
    assert world.row(paid).reason == "The transfer is worth USD 20, more than the limit of USD 10."
    assert world.row(paid).transaction_id is None
    assert world.events(paid)[-2:] == ["policy.triggered", "wallet.transfer.failed"]


def test_an_asking_policy_added_after_approval_holds_again(world: World, bot: Actor, one: Actor, two: Actor) -> None:
    wallet = world.wallet()
    first = world.policy(ALWAYS, ask(group(one)))
    paid = approved(world, bot, wallet, 20, one)
    second = world.policy(over(10), ask(group(two), timeout=30))
    assert world.bind(paid) == "held"
    approval = world.approval(paid)
    assert approval.status == "Pending"
    assert {each["policyId"] for each in approval.groups} == {first, second}
    assert approval.expires_at == world.clock.now() + 30 * MINUTE
    world.decide(two, paid)
    assert world.state(paid) == "held", "what the first approved was another set of groups"
    world.decide(one, paid)
    assert world.state(paid) == "ready"
    assert world.bind(paid) == "assigned"


def test_an_allowed_payout_is_held_by_a_policy_that_asks_now(world: World, bot: Actor, one: Actor) -> None:
    wallet = world.wallet()
    paid = world.pay(bot, wallet, 20)["id"]
    world.policy(known(BOB), ask(group(one)))
    assert world.bind(paid) == "held"
    world.decide(one, paid)
    assert world.bind(paid) == "assigned"


def test_a_policy_that_says_nothing_against_it_lets_it_go(world: World, bot: Actor, one: Actor) -> None:
    wallet = world.wallet()
    world.policy(ALWAYS, ask(group(one)))
    paid = approved(world, bot, wallet, 20, one)
    world.policy(over(20), BLOCK)
    world.policy(known(ALICE), BLOCK)
    world.policy(ALWAYS, REPORT)
    assert world.bind(paid) == "assigned"


def test_taking_a_tag_off_is_no_escape(world: World, bot: Actor, one: Actor) -> None:
    """The policy matched when the payout was requested, so it judges again whatever its filters say now."""
    wallet = world.wallet("payouts")
    policy = world.policy(cap(100), BLOCK, tags=["payouts"])
    world.policy(ALWAYS, ask(group(one)))
    paid = approved(world, bot, wallet, 60, one)
    world.untag(wallet, "payouts")
    world.replace_policy(policy, cap(50), BLOCK, tags=["payouts"])
    assert world.bind(paid) == "rejected"


def test_taking_a_tag_off_does_not_end_a_hold(world: World, bot: Actor, one: Actor) -> None:
    wallet = world.wallet("payouts")
    policy = world.policy(over(10), ask(group(one)), tags=["payouts"])
    paid = approved(world, bot, wallet, 60, one)
    world.untag(wallet, "payouts")
    world.replace_policy(policy, over(10), ask(group(world.admin)), tags=["payouts"])
    assert world.bind(paid) == "held"


def test_putting_a_tag_on_brings_its_policies(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    world.policy(over(10), BLOCK, tags=["payouts"])
    paid = world.pay(bot, wallet, 20)["id"]
    world.tag(wallet, "payouts")
    assert world.bind(paid) == "rejected"


def test_a_policy_deleted_while_it_holds_still_asks(world: World, bot: Actor, one: Actor, two: Actor) -> None:
    wallet = world.wallet()
    policy = world.policy(over(10), ask(group(one, two, quorum=2)))
    paid = world.pay(bot, wallet, 20)["id"]
    world.decide(one, paid)
    world.archive_policy(policy)
    assert world.state(paid) == "held"
    world.decide(two, paid)
    assert world.bind(paid) == "assigned"


def test_a_policy_deleted_after_approval_still_needs_people_who_count(
    world: World, bot: Actor, one: Actor, two: Actor
) -> None:
    wallet = world.wallet()
    policy = world.policy(over(10), ask(group(one, two)))
    paid = approved(world, bot, wallet, 20, one)
    world.archive_policy(policy)
    world.deactivate(one)
    assert world.bind(paid) == "held"
    world.decide(two, paid)
    assert world.bind(paid) == "assigned"


@pytest.mark.parametrize("action", [BLOCK, REPORT])
def test_a_policy_edited_to_ask_nobody_after_approval_still_needs_people_who_count(
    world: World, bot: Actor, one: Actor, two: Actor, action: dict[str, object]
) -> None:
    wallet = world.wallet()
    policy = world.policy(over(10), ask(group(one, two)))
    paid = approved(world, bot, wallet, 20, one)
    world.replace_policy(policy, over(1000), dict(action))
    world.deactivate(one)
    assert world.bind(paid) == "held"
    world.decide(two, paid)
    assert world.bind(paid) == "assigned"


def test_a_raised_limit_does_not_release_what_was_held(world: World, bot: Actor, one: Actor) -> None:
    wallet = world.wallet()
    policy = world.policy(over(10), ask(group(one)))
    paid = world.pay(bot, wallet, 20)["id"]
    world.replace_policy(policy, over(1000), ask(group(one)))
    assert world.state(paid) == "held"
    world.decide(one, paid)
    assert world.bind(paid) == "assigned"


def test_the_groups_of_an_edited_policy_replace_those_that_approved(
    world: World, bot: Actor, one: Actor, two: Actor
) -> None:
    wallet = world.wallet()
    policy = world.policy(over(10), ask(group(one)))
    paid = approved(world, bot, wallet, 20, one)
    world.replace_policy(policy, over(1000), ask(group(two)))
    assert world.bind(paid) == "held"
    world.decide(two, paid)
    assert world.bind(paid) == "assigned"


def test_the_price_of_now_is_irrelevant(world: World, bot: Actor) -> None:
    """What a payout is worth was fixed when it was requested; a price that falls or vanishes changes nothing."""
    wallet = world.wallet()
    world.policy(over(2000), BLOCK)
    paid = [world.pay(bot, wallet, 0, units=10**18, native=True)["id"] for _ in range(2)]
    world.prices["ETH"] *= 1000
    assert world.bind(paid[0]) == "assigned"
    world.prices.clear()
    assert world.bind(paid[1]) == "assigned"


def test_a_price_that_fell_since_does_not_end_a_hold(world: World, bot: Actor, one: Actor) -> None:
    wallet = world.wallet()
    world.policy(over(1000), ask(group(one)))
    paid = world.pay(bot, wallet, 0, units=10**18, native=True)["id"]
    world.prices["ETH"] /= 1000
    assert world.state(paid) == "held"
    world.decide(one, paid)
    assert world.bind(paid) == "assigned"


def test_settings_that_nobody_signed_bind_nothing(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    paid = world.pay(bot, wallet, 20)["id"]
    world.config = parse(SETTINGS.replace('USDC = "1"', 'USDC = "2"'))
    with pytest.raises(Unavailable):
        world.bind(paid)
    assert world.state(paid) == "ready"


def test_what_was_frozen_meanwhile_is_not_bound(world: World, bot: Actor) -> None:
    """The worker looked before somebody stopped it: the unit that binds looks again."""
    paid = world.pay(bot, world.wallet(), 20)["id"]
    drill = {"id": "frz-1", "scope": "identity", "subject": bot.user_id, "reason": "drill", "at": 1}
    with world.unit() as unit:
        stops.replace(unit, [drill])
    assert world.bind(paid) == "ready"
    assert "is frozen: drill" in world.row(paid).waiting_reason
    with world.unit() as unit:
        stops.replace(unit, [])
    assert world.bind(paid) == "assigned"


def test_what_was_asked_for_another_chain_is_not_bound(world: World, bot: Actor) -> None:
    paid = world.pay(bot, world.wallet(), 20)["id"]
    with world.unit() as unit:
        transfers.annotate(unit, paid, intent={**transfers.get(unit, paid).intent, "chainId": 5})
    assert world.bind(paid) == "failed"


# --- people ----------------------------------------------------------------------------------------------------


def test_decisions_of_people_removed_meanwhile_do_not_count(world: World, bot: Actor, one: Actor, two: Actor) -> None:
    wallet = world.wallet()
    world.policy(ALWAYS, ask(group(one, two)))
    paid = approved(world, bot, wallet, 20, one)
    world.deactivate(one)
    assert world.bind(paid) == "held"
    assert world.approval(paid).status == "Pending"
    world.decide(two, paid)
    assert world.bind(paid) == "assigned"


def test_a_removed_approver_does_not_count_while_a_vote_is_open(
    world: World, bot: Actor, one: Actor, two: Actor
) -> None:
    wallet, three = world.wallet(), world.person("approver.three@example.com")
    world.policy(ALWAYS, ask(group(one, two, three, quorum=2)))
    paid = world.pay(bot, wallet, 20)["id"]
    world.decide(one, paid)
    world.deactivate(one)
    world.decide(two, paid)
    assert world.state(paid) == "held"
    world.decide(three, paid)
    assert world.state(paid) == "ready"


def test_a_vote_does_not_count_after_its_permission_was_taken_back(
    world: World, bot: Actor, one: Actor, two: Actor
) -> None:
    world.policy(ALWAYS, ask(group(one, two, quorum=2)))
    paid = world.pay(bot, world.wallet(), 5)["id"]
    world.decide(one, paid)
    world.forbid(one)
    world.decide(two, paid)
    assert world.state(paid) == "held"


def test_who_is_no_longer_permitted_to_ask_pays_nobody(world: World, bot: Actor) -> None:
    paid = world.pay(bot, world.wallet(), 5)["id"]
    world.forbid(bot)
    assert world.bind(paid) == "rejected"
    assert "no longer permitted" in world.row(paid).reason


def test_the_removed_persons_denial_has_ended_it_for_good(world: World, bot: Actor, one: Actor, two: Actor) -> None:
    wallet = world.wallet()
    world.policy(ALWAYS, ask(group(one, two)))
    paid = world.pay(bot, wallet, 20)["id"]
    world.decide(one, paid, "Denied")
    world.deactivate(one)
    assert world.state(paid) == "rejected"
    assert world.bind(paid) == "rejected"


def test_an_initiator_who_was_switched_off_meanwhile_pays_nobody(world: World, one: Actor) -> None:
    wallet = world.wallet()
    paid = world.pay(one, wallet, 20)["id"]
    world.deactivate(one)
    assert world.bind(paid) == "rejected"
    assert "switched off" in world.row(paid).reason


# --- velocity --------------------------------------------------------------------------------------------------


def test_a_block_counts_open_entries_admitted_earlier_but_not_later_ones(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    first, second = world.pay(bot, wallet, 60)["id"], world.pay(bot, wallet, 60)["id"]
    world.policy(cap(100), BLOCK)
    assert world.bind(second) == "rejected", "the first was admitted earlier and is open"
    assert world.bind(first) == "assigned"


def test_a_later_open_entry_never_blocks_an_earlier_one(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    first, second = world.pay(bot, wallet, 60)["id"], world.pay(bot, wallet, 60)["id"]
    world.policy(cap(100), BLOCK)
    assert world.bind(first) == "assigned"
    assert world.bind(second) == "rejected"


def test_a_block_counts_everything_signed_in_the_window_also_what_was_admitted_later(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    first, second = world.pay(bot, wallet, 60)["id"], world.pay(bot, wallet, 60)["id"]
    world.leave(second)
    world.policy(cap(100), BLOCK)
    assert world.bind(first) == "rejected"


def test_what_was_bound_before_a_retag_counts_when_another_is_judged(world: World, bot: Actor) -> None:
    """It may be signed at any moment, whatever its place in the order of admission."""
    tagged, untagged = world.wallet("payouts"), world.wallet()
    world.policy(cap(100), BLOCK, tags=["payouts"])
    first, second = world.pay(bot, tagged, 60)["id"], world.pay(bot, untagged, 60)["id"]
    assert world.bind(second) == "assigned"
    world.tag(untagged, "payouts")
    assert world.bind(first) == "rejected"


def test_what_was_signed_before_the_window_does_not_block(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    first, second = world.pay(bot, wallet, 60)["id"], world.pay(bot, wallet, 60)["id"]
    world.leave(second)
    world.policy(cap(100), BLOCK)
    world.clock.step(minutes=60, micros=1)
    assert world.bind(first) == "assigned"


def test_request_approval_counts_only_earlier_ones_so_later_requests_never_poison_earlier(
    world: World, bot: Actor, one: Actor
) -> None:
    wallet = world.wallet()
    world.policy(cap(100), ask(group(one)))
    world.policy(at_most(2), ask(group(one)))
    first = world.pay(bot, wallet, 60)["id"]
    later = [world.pay(bot, wallet, 60)["id"] for _ in range(2)]
    assert [world.state(each) for each in (first, *later)] == ["ready", "held", "held"]
    world.decide(one, later[0])
    world.leave(later[0])
    assert world.bind(first) == "assigned", "neither the signed nor the open later ones count"


def test_judging_again_counts_the_payout_itself_once(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    world.policy(cap(60), BLOCK)
    world.policy(at_most(1), BLOCK)
    paid = world.pay(bot, wallet, 60)["id"]
    assert world.bind(paid) == "assigned"


def test_a_payout_that_is_held_again_keeps_its_place(world: World, bot: Actor, one: Actor) -> None:
    wallet = world.wallet()
    world.policy(cap(100), BLOCK)
    paid = world.pay(bot, wallet, 60)["id"]
    with world.unit() as unit:
        before = velocity.find_entry(unit, paid)
    world.policy(ALWAYS, ask(group(one)))
    assert world.bind(paid) == "held"
    assert world.pay(bot, wallet, 41)["status"] == "Rejected"
    with world.unit() as unit:
        assert velocity.find_entry(unit, paid) == before


def test_judging_again_stores_its_evaluations_only_when_it_decides_something(world: World, bot: Actor) -> None:
    """A payout that waits for funds is looked at again and again."""
    wallet = world.wallet(dollars=0)
    world.policy(over(100), BLOCK)
    paid = world.pay(bot, wallet, 20)["id"]
    for _ in range(3):
        assert world.bind(paid) == "ready"
    assert list(world.evaluations(paid, "binding")) == []
    assert "spendable" in world.row(paid).waiting_reason
