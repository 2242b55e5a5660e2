"""Waiting for room: a full cap with ``wait`` keeps a payout, and each freed amount goes to whoever came first."""

import itertools
import random
from collections.abc import Sequence
from typing import Any

import pytest
import sqlalchemy as sa

from outlay.actions.capacity import admit_waiting, end_overdue
from outlay.core.errors import Conflict, InvalidInput
from outlay.store.schema import counter_entry, transfer, velocity_counter, velocity_entry, waiting
from tests.actions.documents import ALWAYS, BLOCK, ask, at_most, cap, group, over
from tests.actions.world import ALICE, BOB, Actor, World


def wait(minutes: int = 600) -> dict[str, Any]:
    return {"kind": "Block", "wait": minutes}


def make_room(world: World) -> int:
    """Let the engine look once; return how many payouts went on or ended."""
    with world.work() as work:
        ended = end_overdue(work, limit=100)
    after, moved = 0, 0
    for _ in range(50):
        with world.work() as work:
            went_on, after = admit_waiting(work, after=after)
        moved += went_on
        if not went_on and not after:
            break
    return ended + moved


def states(world: World, payouts: Sequence[dict[str, Any]]) -> list[str]:
    return [world.state(each["id"]) for each in payouts]


# --- what waits ----------------------------------------------------------------------------------------------------


def test_a_payout_that_only_meets_a_full_cap_waits_and_holds_nothing(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    world.policy(cap(100), wait(30))
    world.pay(bot, wallet, 60)
    late = world.pay(bot, wallet, 50, external_id="late")
    assert (late["status"], late["waitingReason"]) == ("Pending", "cap")
    assert "approvalId" not in late and "reason" not in late
    row = world.row(late["id"])
    assert (row.state, row.wait_until) == ("held", world.clock.now() + 30 * 60_000_000)
    with world.unit() as unit:
        counter = unit.execute(sa.select(velocity_counter)).one()
        assert (counter.open_value, counter.open_count) == (60 * 10**8, 1)
    assert world.count(velocity_entry) == 1
    assert world.events(late["id"]) == ["wallet.transfer.requested", "policy.triggered"]
    assert world.pay(bot, wallet, 50, external_id="late")["id"] == late["id"], "its externalId is not burnt"
    with pytest.raises(Conflict):
        world.pay(bot, wallet, 51, external_id="late")


@pytest.mark.parametrize("what", ["too large", "no price", "another cap refuses", "another rule refuses"])
def test_what_would_never_fit_or_meets_something_else_is_refused_at_once(world: World, bot: Actor, what: str) -> None:
    wallet = world.wallet()
    world.policy(cap(100), wait())
    if what == "another cap refuses":
        world.policy(at_most(1), BLOCK)
    elif what == "another rule refuses":
        world.policy(over(40), BLOCK)
    world.pay(bot, wallet, 30)
    world.pay(bot, wallet, 30) if what not in ("another cap refuses",) else None
    if what == "no price":
        del world.prices["USDC"]
    answer = world.pay(bot, wallet, 101 if what == "too large" else 60)
    assert answer["status"] == "Rejected"
    assert world.count(waiting) == 0


def test_it_waits_before_anybody_is_asked(world: World, bot: Actor, one: Actor) -> None:
    wallet = world.wallet()
    world.policy(cap(100), wait())
    world.policy(over(45), ask(group(one)))
    first = world.pay(bot, wallet, 40)
    second = world.pay(bot, wallet, 45)
    late = world.pay(bot, wallet, 50)
    assert late["waitingReason"] == "cap" and "approvalId" not in late
    world.withdraw(bot, second["id"])
    assert make_room(world) == 1
    row = world.row(late["id"])
    assert (row.state, row.waiting_reason, row.wait_place) == ("held", None, None)
    assert "policy.approval.pending" in world.events(row.approval_id)
    world.decide(one, late["id"])
    assert states(world, [first, late]) == ["ready", "ready"]
    assert world.bind(late["id"]) == "assigned"


# --- how it goes on ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["time", "give-back", "correction", "a higher limit", "an archived policy", "no wait"])
def test_each_freed_amount_lets_it_go_on(world: World, bot: Actor, how: str) -> None:
    wallet = world.wallet()
    policy = world.policy(cap(100, minutes=60), wait())
    first = world.pay(bot, wallet, 60)["id"]
    late = world.pay(bot, wallet, 50)
    if how == "time":
        world.leave(first)
        world.clock.step(minutes=60, micros=-1)
        assert make_room(world) == 0
        world.clock.step(micros=2)  # it was judged in the instant before it was signed
    elif how == "give-back":
        world.withdraw(bot, first)
    elif how == "correction":
        world.leave(first)
        world.mine(first)
        assert make_room(world) == 0
        world.settle(first, "nothing")
    elif how == "a higher limit":
        assert make_room(world) == 0
        world.replace_policy(policy, cap(110), wait())
    elif how == "an archived policy":
        world.archive_policy(policy)
    else:
        world.replace_policy(policy, cap(110), BLOCK)
    assert make_room(world) == 1
    row = world.row(late["id"])
    assert (row.state, row.waiting_reason, row.wait_place, row.wait_until) == ("ready", None, None, None)
    assert world.count(waiting) == 0
    assert make_room(world) == 0
    assert world.bind(late["id"]) == "assigned"


def test_after_an_edit_that_lets_nobody_wait_a_full_cap_refuses(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    policy = world.policy(cap(100), wait())
    world.pay(bot, wallet, 60)
    late = world.pay(bot, wallet, 50)
    world.replace_policy(policy, cap(100), BLOCK)
    assert make_room(world) == 1
    row = world.row(late["id"])
    assert row.state == "rejected" and row.reason.startswith("With this transfer USD 110 would leave")
    assert world.events(late["id"])[-1] == "wallet.transfer.rejected"


def test_nobody_overtakes_within_one_counter(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    world.policy(cap(100), wait())
    world.pay(bot, wallet, 60)
    large = world.pay(bot, wallet, 90)
    small = [world.pay(bot, wallet, 1) for _ in range(3)]
    assert {each["waitingReason"] for each in (large, *small)} == {"cap"}, "each would fit, but came later"
    triggered = world.evaluations(small[0]["id"])[0]
    assert triggered.reason == "Payouts that were asked for earlier wait for room under this limit."
    assert make_room(world) == 0


def test_another_counter_flows_meanwhile(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    world.policy(cap(100, scope="recipient"), wait())
    first = world.pay(bot, wallet, 60, to=ALICE)
    late = world.pay(bot, wallet, 60, to=ALICE)
    other = world.pay(bot, wallet, 60, to=BOB)
    assert states(world, [first, late, other]) == ["ready", "held", "ready"]


def test_it_is_first_in_every_counter_before_it_goes(world: World, bot: Actor) -> None:
    """What frees room under one cap does not help whoever waits for two."""
    wallet = world.wallet()
    world.policy(at_most(2), wait())
    world.policy(cap(100, scope="recipient"), wait())
    first, second = world.pay(bot, wallet, 90, to=ALICE), world.pay(bot, wallet, 90, to=BOB)
    both = world.pay(bot, wallet, 20, to=ALICE)
    behind = world.pay(bot, wallet, 5, to="0x" + "7" * 40)
    world.withdraw(bot, second["id"])
    assert make_room(world) == 0, "the count has room, the recipient's cap has not"
    assert states(world, [both, behind]) == ["held", "held"]
    world.withdraw(bot, first["id"])
    assert make_room(world) == 2
    assert states(world, [both, behind]) == ["ready", "ready"]


def test_who_is_first_in_one_queue_does_not_overtake_in_another(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    world.policy(at_most(2), wait())
    world.policy(cap(100, scope="recipient"), wait())
    first = world.pay(bot, wallet, 90, to=ALICE)
    world.pay(bot, wallet, 90, to=BOB)
    earlier, later = world.pay(bot, wallet, 20, to=BOB), world.pay(bot, wallet, 20, to=ALICE)
    world.withdraw(bot, first["id"])
    assert make_room(world) == 0, "the earlier one needs the one place there is"
    assert states(world, [earlier, later]) == ["held", "held"]


def test_a_payout_of_a_pool_waits_where_it_found_no_room(world: World, bot: Actor) -> None:
    """It stands in nobody's way at a wallet that has room, and is overtaken at none that has not."""
    empty, full, other = world.wallet("p"), world.wallet("p"), world.wallet("p")
    pool = world.pool("p")
    world.policy(cap(100, scope="wallet"), wait())
    taken = [world.pay(bot, each, 100)["id"] for each in (full, other)]
    pooled = world.pay_pool(bot, pool, 50)
    assert pooled["waitingReason"] == "cap"
    assert queues_of(world, pooled) == {f"wallet:{full}", f"wallet:{other}"}
    assert world.pay(bot, empty, 1)["status"] == "Executing", "its own cap is all but empty"
    world.withdraw(bot, taken[0])
    assert world.pay(bot, full, 1)["waitingReason"] == "cap", "it came later"
    assert make_room(world) == 0, "another wallet of the pool is full"
    world.withdraw(bot, taken[1])
    assert make_room(world) == 2
    assert states(world, [pooled]) == ["ready"]
    assert world.count(waiting) == 0


def test_a_payout_of_a_pool_finds_its_queues_again_after_an_edit(world: World, bot: Actor) -> None:
    empty, full = world.wallet("p"), world.wallet("p")
    policy, pool = world.policy(cap(100, scope="wallet"), wait()), world.pool("p")
    world.pay(bot, full, 100)
    pooled = world.pay_pool(bot, pool, 50)
    world.replace_policy(policy, cap(90, scope="wallet"), wait())
    assert queues_of(world, pooled) == {f"wallet:{full}"}
    world.replace_policy(policy, cap(90, scope="policy"), wait())
    assert queues_of(world, pooled) == {"policy"}
    world.replace_policy(policy, cap(90, scope="wallet"), wait())
    assert queues_of(world, pooled) == {f"free:{pooled['id']}"}
    assert make_room(world) == 0
    assert queues_of(world, pooled) == {f"free:{pooled['id']}", f"wallet:{full}"}
    assert world.pay(bot, empty, 1)["status"] == "Executing"
    world.tag(full, "elsewhere")
    world.untag(full, "p")
    assert make_room(world) == 1, "what is full pays for this pool no more"
    assert states(world, [pooled]) == ["ready"]
    assert world.row(pooled["id"]).wallet_id == empty
    with world.unit() as unit:
        entry = sa.select(velocity_entry.c.wallet_id).where(velocity_entry.c.transfer_id == pooled["id"])
        assert unit.execute(entry).scalar() == empty


def queues_of(world: World, payout: dict[str, Any]) -> set[str]:
    """Return the scope keys of the counters a payout waits in."""
    with world.unit() as unit:
        return set(unit.execute(sa.select(waiting.c.scope_key).where(waiting.c.transfer_id == payout["id"])).scalars())


def test_a_change_of_scope_sorts_them_into_the_new_queues(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    policy = world.policy(cap(100), wait())
    world.pay(bot, wallet, 90, to=ALICE)
    late = [world.pay(bot, wallet, 60, to=to) for to in (ALICE, BOB)]
    world.replace_policy(policy, cap(100, scope="recipient"), wait())
    assert world.pay(bot, wallet, 1, to=ALICE)["waitingReason"] == "cap", "it does not overtake"
    assert make_room(world) == 1
    assert states(world, late) == ["held", "ready"]


# --- how it ends ---------------------------------------------------------------------------------------------------


def test_at_the_deadline_it_expires_and_says_so(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    world.policy(cap(100), wait(30))
    world.pay(bot, wallet, 60)
    late = world.pay(bot, wallet, 50)
    world.clock.step(minutes=30, micros=-1)
    assert make_room(world) == 0
    world.clock.step(micros=1)
    assert make_room(world) == 1
    row = world.row(late["id"])
    assert (row.state, row.reason) == ("expired", "No room came free under its caps in time.")
    assert (row.wait_place, row.waiting_reason) == (None, None)
    assert world.events(late["id"])[-1] == "wallet.transfer.rejected"
    assert world.count(waiting) == 0


def test_the_shortest_wait_of_the_full_caps_holds(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    world.policy(cap(100), wait(30))
    world.policy(at_most(1), wait(20))
    world.pay(bot, wallet, 60)
    assert world.row(world.pay(bot, wallet, 50)["id"]).wait_until == world.clock.now() + 20 * 60_000_000


def test_it_can_be_taken_back_while_it_waits(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    world.policy(cap(100), wait())
    world.pay(bot, wallet, 60)
    late, behind = world.pay(bot, wallet, 50), world.pay(bot, wallet, 40)
    world.withdraw(bot, late["id"])
    assert world.state(late["id"]) == "canceled"
    assert make_room(world) == 1
    assert world.state(behind["id"]) == "ready"


@pytest.mark.parametrize(
    ("rule", "minutes", "field"),
    [
        (over(5), 60, "action.wait"),
        (ALWAYS, 60, "action.wait"),
        (cap(5), 0, "action.wait"),
        (cap(5), 10_021, "action.wait"),
        (cap(5), 10_081, "action.wait"),
    ],
)
def test_only_velocity_rules_let_payouts_wait_and_not_for_ever(
    world: World, rule: dict[str, Any], minutes: int, field: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        world.policy(rule, wait(minutes))
    assert refused.value.field == field


def test_what_waits_is_young_enough_for_the_signer_when_it_goes_on(world: World) -> None:
    """A request is good there for a week; what has waited is sent within the hour that is left."""
    policy_id = world.policy(cap(5), wait(10_020))
    with pytest.raises(InvalidInput, match="at most 10020: the signer refuses requests after 604800 s"):
        world.replace_policy(policy_id, cap(5), wait(10_021))


# --- whatever happens ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 20))])
def test_in_random_histories_nobody_is_overtaken_starved_or_lost(world: World, bot: Actor, seed: int) -> None:
    """Small payouts come all the time; a large one gets its turn, and every queue is served in its order."""
    chance = random.Random(seed)
    print(f"seed {seed}")
    wallets = [world.wallet("payouts"), world.wallet("payouts")]
    world.policy(cap(100, minutes=10), wait(10_020))
    world.policy(at_most(4, minutes=5, scope="wallet"), wait(10_020))
    asked: list[dict[str, Any]] = []
    names = itertools.count()
    queues = Queues(world, asked)
    for _ in range(60):
        world.clock.step(minutes=chance.choice([0, 0.5, 2]))
        if chance.random() < 0.8:
            dollars = chance.choice([1, 2, 5, 30, 95, 100])
            asked.append(world.pay(bot, chance.choice(wallets), dollars, external_id=f"r{seed}-{next(names)}"))
        ready = [each for each in asked if world.state(each["id"]) == "ready"]
        if ready and chance.random() < 0.7:
            one = chance.choice(ready)["id"]
            if chance.random() < 0.2:
                world.withdraw(bot, one)
            elif world.bind(one) == "assigned":
                world.store_signed(one)
        queues.check()
        make_room(world)
        queues.check()
    for _ in range(200):
        for each in asked:
            if world.state(each["id"]) == "ready" and world.bind(each["id"]) == "assigned":
                world.store_signed(each["id"])
        world.clock.step(minutes=5)
        make_room(world)
        queues.check()
        if not any(world.state(each["id"]) in ("held", "ready") for each in asked):
            break
    assert set(states(world, asked)) <= {"signed", "canceled"}
    assert world.count(waiting) == 0


class Queues:
    """What the queues were when they were looked at last."""

    def __init__(self, world: World, asked: list[dict[str, Any]]) -> None:
        self._world, self._asked = world, asked
        self._before: set[tuple[str, str, str]] = set()  #: policy, scope key and transfer of all that waited
        self._counted: set[tuple[str, str, str]] = set()  #: of all that were counted

    def check(self) -> None:
        """Who waits stands in a queue; who does not, in none; in no counter anybody overtook whoever waited there."""
        with self._world.unit() as unit:
            rows = unit.execute(sa.select(transfer)).all()
            queued = unit.execute(sa.select(waiting)).all()
            entries = unit.execute(sa.select(counter_entry)).all()
        waits = {row.id: row.wait_place for row in rows if row.wait_place is not None}
        assert waits == {row.transfer_id: row.place for row in queued}
        assert all((row.state, row.waiting_reason) == ("held", "cap") for row in rows if row.id in waits)
        order = {each["id"]: place for place, each in enumerate(self._asked)}
        still = {(row.policy_id, row.scope_key, row.transfer_id) for row in queued}
        counted = {(row.policy_id, row.scope_key, row.transfer_id) for row in entries}
        for policy_id, key, transfer_id in counted - self._counted:
            passed = [one for *counter, one in self._before & still if counter == [policy_id, key]]
            assert all(order[one] > order[transfer_id] for one in passed), "it overtook"
        self._before, self._counted = still, self._counted | counted
