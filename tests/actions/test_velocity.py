"""Design section 6, velocity: outflow is bounded at every instant, whatever is held, failed, edited or tagged."""

import pytest
import sqlalchemy as sa

from outlay.core.seams import MINUTE
from outlay.store import velocity
from outlay.store.schema import evaluation, frozen_asset, velocity_counter
from tests.actions.documents import BLOCK, REPORT, ask, at_most, cap, group, over
from tests.actions.world import ALICE, BOB, Actor, World


def probe(world: World, by: Actor, wallet: str, policy_id: str, *, to: str = ALICE) -> tuple[str, int]:
    """Ask for one base unit, see what counted beside it, and take it back."""
    answer = world.pay(by, wallet, 0, units=1, to=to)
    query = sa.select(evaluation.c.context).where(
        evaluation.c.policy_id == policy_id, evaluation.c.transfer_id == answer["id"]
    )
    with world.unit() as unit:
        context = unit.execute(query).scalar_one()
    if answer["status"] != "Rejected":
        world.withdraw(by, answer["id"])
    return context["sum"], context["count"]


def counters(world: World, policy_id: str) -> set[str]:
    with world.unit() as unit:
        rows = unit.execute(
            sa.select(velocity_counter.c.scope_key).where(velocity_counter.c.policy_id == policy_id)
        ).scalars()
        return set(rows)


# --- open and signed ---------------------------------------------------------------------------------------------


def test_open_entries_always_count(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    policy = world.policy(cap(100), BLOCK)
    waiting = world.pay(bot, wallet, 60)
    assert waiting["status"] == "Executing"
    world.clock.step(minutes=100_000)
    refused = world.pay(bot, wallet, 41)
    assert refused["status"] == "Rejected"
    assert refused["reason"] == (
        "With this transfer USD 101 would leave within 60 minutes, more than the limit of USD 100."
    )
    assert probe(world, bot, wallet, policy) == ("60", 1)


def test_from_its_first_signature_an_entry_carries_that_instant(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    policy = world.policy(cap(100), BLOCK)
    paid = world.pay(bot, wallet, 60)["id"]
    world.clock.step(minutes=30)
    assert world.bind(paid) == "assigned"
    signed_at = world.clock.step(minutes=30)
    world.store_signed(paid)
    with world.unit() as unit:
        entry = velocity.find_entry(unit, paid)
    assert entry is not None and (entry.state, entry.signed_at) == ("signed", signed_at)
    world.clock.step(minutes=60, micros=-1)
    assert probe(world, bot, wallet, policy) == ("60", 1)
    world.clock.step(micros=1)
    assert probe(world, bot, wallet, policy) == ("0", 0), "the window is open at its start"


def test_moving_from_open_to_signed_changes_nothing(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    policy = world.policy(cap(100), BLOCK)
    paid = world.pay(bot, wallet, 60)["id"]
    seen = [probe(world, bot, wallet, policy)]
    world.bind(paid)
    seen.append(probe(world, bot, wallet, policy))
    world.store_signed(paid)
    seen.append(probe(world, bot, wallet, policy))
    world.mine(paid)
    world.settle(paid)
    seen.append(probe(world, bot, wallet, policy))
    assert seen == [("60", 1)] * 4


@pytest.mark.parametrize("how", ["withdrawn", "denied", "expired", "timed out", "blocked at binding"])
def test_giving_back_an_unsigned_entry_lowers_the_open_sum(world: World, bot: Actor, one: Actor, how: str) -> None:
    wallet = world.wallet()
    policy = world.policy(cap(100), BLOCK)
    held = how in ("denied", "expired")
    if held:
        world.policy(over(50), ask(group(one), timeout=60))
    paid = world.pay(bot, wallet, 60)["id"]
    assert probe(world, bot, wallet, policy) == ("60", 1)
    if how == "withdrawn":
        world.withdraw(bot, paid)
    elif how == "denied":
        world.decide(one, paid, "Denied")
    elif how == "blocked at binding":
        world.policy(over(50), BLOCK)
        assert world.bind(paid) == "rejected"
    else:
        world.clock.step(minutes=60 if held else 1440)
        assert world.expire()
    with world.unit() as unit:
        entry = velocity.find_entry(unit, paid)
    assert entry is not None and entry.state == "returned"
    assert probe(world, bot, wallet, policy) == ("0", 0)


def test_after_a_signature_only_final_proof_of_no_outflow_corrects_it(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    policy = world.policy(cap(100), BLOCK)
    reverted, mismatched = world.pay(bot, wallet, 60)["id"], world.pay(bot, wallet, 10)["id"]
    for paid in (reverted, mismatched):
        world.leave(paid)
        world.mine(paid)
        assert probe(world, bot, wallet, policy)[0] == "70"
    assert world.settle(reverted, "nothing") == "failed"
    assert probe(world, bot, wallet, policy) == ("10", 1)
    other = world.wallet()
    assert world.settle(mismatched, "mismatch") == "mined"
    with world.unit() as unit:
        frozen = unit.execute(sa.delete(frozen_asset)).rowcount
    assert frozen == 1
    assert probe(world, bot, other, policy) == ("10", 1), "what is not proved to have stayed has left"


def test_what_was_paid_stays_in_its_window(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    policy = world.policy(cap(100), BLOCK)
    paid = world.pay(bot, wallet, 60)["id"]
    world.leave(paid)
    world.mine(paid)
    assert world.settle(paid) == "confirmed"
    assert probe(world, bot, wallet, policy) == ("60", 1)


def test_a_correction_leaves_every_window_together_with_its_signature(world: World, bot: Actor) -> None:
    """A correction that stayed longer than what it corrects would make room for more than the cap."""
    wallet = world.wallet()
    policy = world.policy(cap(100), BLOCK)
    reverted = world.pay(bot, wallet, 60)["id"]
    world.leave(reverted)
    world.mine(reverted)
    world.clock.step(minutes=50)
    world.settle(reverted, "nothing")
    world.leave(world.pay(bot, wallet, 100)["id"])
    world.clock.step(minutes=10, micros=1)  # one microsecond, for it was signed that much after it was judged
    assert probe(world, bot, wallet, policy) == ("100", 1)
    assert world.pay(bot, wallet, 1)["status"] == "Rejected"


def test_held_payouts_cannot_age_out_of_a_window_and_then_leave_together(world: World, bot: Actor, one: Actor) -> None:
    wallet = world.wallet()
    world.policy(cap(100), BLOCK)
    world.policy(over(50), ask(group(one)))
    admitted = []
    for _ in range(4):
        answer = world.pay(bot, wallet, 60)
        if answer["status"] == "Pending":
            admitted.append(answer["id"])
        world.clock.step(minutes=61)
    assert len(admitted) == 1, "the first still counts, however long it has been held"
    world.decide(world.log_in(one), admitted[0])
    assert world.bind(admitted[0]) == "assigned"


# --- counters ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "seen"),
    [
        ("wallet", {"same": "10", "other wallet": "0", "other payee": "10", "other asker": "10"}),
        ("policy", {"same": "10", "other wallet": "10", "other payee": "10", "other asker": "10"}),
        ("organization", dict.fromkeys(("same", "other wallet", "other payee", "other asker"), "110")),
        ("recipient", {"same": "10", "other wallet": "10", "other payee": "0", "other asker": "10"}),
        ("initiator", {"same": "10", "other wallet": "10", "other payee": "10", "other asker": "0"}),
    ],
)
def test_a_counter_belongs_to_policy_lineage_and_scope_key(
    world: World, bot: Actor, one: Actor, scope: str, seen: dict[str, str]
) -> None:
    """Beside 10 dollars from one wallet, asker and payee, and 100 from a wallet that the filters do not match."""
    wallet, sibling, stranger = world.wallet("payouts"), world.wallet("payouts"), world.wallet()
    policy = world.policy(cap(10**6, scope=scope), REPORT, tags=["payouts"])
    world.pay(bot, wallet, 10, to=ALICE)
    world.pay(bot, stranger, 100, to=ALICE)
    assert {
        "same": probe(world, bot, wallet, policy, to=ALICE)[0],
        "other wallet": probe(world, bot, sibling, policy, to=ALICE)[0],
        "other payee": probe(world, bot, wallet, policy, to=BOB)[0],
        "other asker": probe(world, one, wallet, policy, to=ALICE)[0],
    } == seen


def test_an_edit_keeps_the_lineage_and_what_it_counted(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    policy = world.policy(cap(100), BLOCK)
    world.leave(world.pay(bot, wallet, 60)["id"])
    world.replace_policy(policy, cap(80, minutes=120), BLOCK)
    world.clock.step(minutes=90)
    assert probe(world, bot, wallet, policy) == ("60", 1)
    assert world.pay(bot, wallet, 21)["status"] == "Rejected"


def test_each_policy_counts_for_itself(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    first = world.policy(cap(100), BLOCK)
    second = world.policy(at_most(5, scope="recipient"), BLOCK)
    world.pay(bot, wallet, 60)
    assert counters(world, first) == {"policy"}
    assert counters(world, second) == {f"recipient:{ALICE}"}


def test_creating_a_policy_counts_what_has_left_already(world: World, bot: Actor) -> None:
    wallet, stranger = world.wallet("payouts"), world.wallet()
    world.leave(world.pay(bot, wallet, 60)["id"])
    world.pay(bot, wallet, 5)
    world.pay(bot, stranger, 7)
    policy = world.policy(cap(100), BLOCK, tags=["payouts"])
    assert probe(world, bot, wallet, policy) == ("65", 2)
    assert world.pay(bot, wallet, 36)["status"] == "Rejected"


def test_taking_a_tag_off_forgets_nothing(world: World, bot: Actor) -> None:
    """Counted are wallets that matched then or match now."""
    wallet, sibling = world.wallet("payouts"), world.wallet("payouts")
    policy = world.policy(cap(100), BLOCK, tags=["payouts"])
    world.leave(world.pay(bot, wallet, 60)["id"])
    world.untag(wallet, "payouts")
    assert probe(world, bot, sibling, policy) == ("60", 1)
    assert world.pay(bot, sibling, 41)["status"] == "Rejected"


def test_putting_a_tag_on_counts_what_the_wallet_sent_before(world: World, bot: Actor) -> None:
    wallet, sibling = world.wallet(), world.wallet("payouts")
    policy = world.policy(cap(100), BLOCK, tags=["payouts"])
    world.leave(world.pay(bot, wallet, 60)["id"])
    assert probe(world, bot, sibling, policy) == ("0", 0)
    world.tag(wallet, "payouts")
    assert probe(world, bot, sibling, policy) == ("60", 1)


def test_editing_filters_counts_wallets_that_matched_then_or_match_now(world: World, bot: Actor) -> None:
    before, after = world.wallet("before"), world.wallet("after")
    policy = world.policy(cap(1000), BLOCK, tags=["before"])
    world.leave(world.pay(bot, before, 60)["id"])
    world.leave(world.pay(bot, after, 7)["id"])
    world.replace_policy(policy, cap(1000), BLOCK, tags=["after"])
    assert probe(world, bot, after, policy) == ("67", 2)


def test_an_edit_of_the_scope_moves_the_entries_to_their_new_counters(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    policy = world.policy(cap(100), BLOCK)
    world.leave(world.pay(bot, wallet, 60, to=ALICE)["id"])
    world.pay(bot, wallet, 20, to=BOB)
    world.replace_policy(policy, cap(100, scope="recipient"), BLOCK)
    assert counters(world, policy) == {f"recipient:{ALICE}", f"recipient:{BOB}"}
    assert probe(world, bot, wallet, policy, to=ALICE) == ("60", 1)
    assert probe(world, bot, wallet, policy, to=BOB) == ("20", 1)


def test_the_rebuild_is_in_the_unit_of_the_change(world: World, bot: Actor) -> None:
    """If the change is not kept, neither are the new counters."""
    wallet = world.wallet()
    policy = world.policy(cap(100), BLOCK)
    world.leave(world.pay(bot, wallet, 60)["id"])
    rebuilt, velocity.rebuild = velocity.rebuild, _rebuild_then_fail
    try:
        with pytest.raises(ZeroDivisionError):
            world.replace_policy(policy, cap(100, scope="wallet"), BLOCK)
    finally:
        velocity.rebuild = rebuilt
    assert counters(world, policy) == {"policy"}
    assert probe(world, bot, wallet, policy) == ("60", 1)


_real_rebuild = velocity.rebuild


def _rebuild_then_fail(*args: object, **options: object) -> None:
    _real_rebuild(*args, **options)  # type: ignore[arg-type]
    raise ZeroDivisionError


# --- values and instants -----------------------------------------------------------------------------------------


def test_an_entry_without_a_value_triggers_until_it_leaves_the_window(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    unpriced = world.prices.pop("USDC")
    paid = world.pay(bot, wallet, 1)["id"]
    world.leave(paid)
    world.prices["USDC"] = unpriced
    world.policy(cap(10**6), BLOCK)
    world.clock.step(minutes=60, micros=-1)
    refused = world.pay(bot, wallet, 1)
    assert refused["status"] == "Rejected" and "1 payouts have no value" in refused["reason"]
    world.clock.step(micros=1)
    assert world.pay(bot, wallet, 1)["status"] == "Executing"


def test_an_open_entry_without_a_value_triggers_as_long_as_it_is_open(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    unpriced = world.prices.pop("USDC")
    paid = world.pay(bot, wallet, 1)["id"]
    world.prices["USDC"] = unpriced
    world.policy(cap(10**6), BLOCK)
    world.clock.step(minutes=10**5)
    assert world.pay(bot, wallet, 1)["status"] == "Rejected"
    world.withdraw(bot, paid)
    assert world.pay(bot, wallet, 1)["status"] == "Executing"


def test_an_instant_is_later_than_the_last_whatever_the_clock_does(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    world.policy(cap(10**6), BLOCK)
    paid = [world.pay(bot, wallet, 1)["id"] for _ in range(3)]
    instants = []
    for each, minutes in zip(paid, (0, -30, 0), strict=True):
        world.clock.step(minutes=minutes)
        world.leave(each)
        with world.unit() as unit:
            entry = velocity.find_entry(unit, each)
        assert entry is not None and entry.signed_at is not None
        instants.append(entry.signed_at)
    assert instants == [instants[0], instants[0] + 1, instants[0] + 2]
    # One later than the clock, because judging it at that instant moved the counter there.
    assert instants[0] == world.clock.now() + 30 * MINUTE + 1


def test_a_blocked_payout_is_no_entry(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    policy = world.policy(at_most(1), BLOCK)
    world.policy(over(50), BLOCK)
    assert world.pay(bot, wallet, 60)["status"] == "Rejected"
    assert world.pay(bot, wallet, 5)["status"] == "Executing"
    assert world.pay(bot, wallet, 5)["status"] == "Rejected"
    assert counters(world, policy) == {"policy"}
