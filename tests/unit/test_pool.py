"""The router's choice: which wallet of a pool pays what, and that nothing waits for ever."""

import random
from dataclasses import replace

import pytest

from outlay.core.asset import NATIVE
from outlay.core.pool import AHEAD, Member, Route, Waiting, provisional, route
from tests import tools

USD = "0xusd"
FEE = 1
SEEDS = range(tools.examples(30))


def member(
    name: str, *, usd: int = 1000, coins: int = 1000, in_flight: int = 0, slots: int = 16, **more: object
) -> Member:
    return Member(id=name, in_flight=in_flight, slots=slots, spendable={USD: usd, NATIVE: coins}, **more)  # type: ignore[arg-type]


def waiting(name: str, amount: int = 10, *, at: str = "a", where: Route = Route.QUEUE, **more: object) -> Waiting:
    needs = {USD: amount, NATIVE: FEE}
    return Waiting(id=name, wallet_id=at, seq=0, route=where, needs=needs, asset=USD, **more)  # type: ignore[arg-type]


def chosen(payouts: list[Waiting], *members: Member, fits: bool = True) -> dict[str, tuple[str, str]]:
    """Return where each payout is afterwards."""
    moves = route(payouts, {each.id: each for each in members}, fits=lambda _payout, _wallet: fits)
    after = {each.id: (each.wallet_id, each.route.value) for each in payouts}
    return {**after, **{each.id: (each.wallet_id, each.route.value) for each in moves}}


def test_the_wallet_with_the_fewest_under_way_pays_then_the_richest() -> None:
    busy, calm = member("a", usd=9000, in_flight=3), member("b")
    assert chosen([waiting("x")], busy, calm) == {"x": ("b", "lane")}
    assert chosen([waiting("x")], member("a", usd=500), member("b", usd=900)) == {"x": ("b", "lane")}
    assert chosen([waiting("x")], member("b"), member("a")) == {"x": ("a", "lane")}


@pytest.mark.parametrize(
    "unable",
    [
        member("a", usd=9),
        member("a", coins=0),
        member("a", why_out="frozen: why"),
        member("a", since=1),
    ],
    ids=["no funds", "no coins for fees", "stopped", "joined later"],
)
@pytest.mark.parametrize("where", list(Route))
def test_what_one_wallet_cannot_pay_another_does(unable: Member, where: Route) -> None:
    assert chosen([waiting("x", where=where)], unable, member("b", in_flight=9)) == {"x": ("b", "lane")}
    assert chosen([waiting("x", where=where)], unable) == {"x": ("a", "parked")}


def test_what_waits_in_a_lane_that_goes_on_is_left_there() -> None:
    busy = member("a", in_flight=10, waiting=1)
    assert chosen([waiting("x", where=Route.LANE)], busy, member("b")) == {"x": ("a", "lane")}


def test_what_waits_in_a_full_lane_goes_to_one_with_a_slot() -> None:
    full, other = member("a", in_flight=16, waiting=1), member("b", in_flight=15)
    assert chosen([waiting("x", where=Route.LANE)], full, other) == {"x": ("b", "lane")}
    full, other = member("a", in_flight=16, waiting=1), member("b", in_flight=16)
    assert chosen([waiting("x", where=Route.LANE)], full, other) == {"x": ("a", "lane")}


def test_nothing_is_sent_to_a_wallet_that_stands_still_while_another_goes_on() -> None:
    stuck, full = member("a", is_stuck=True), member("b", in_flight=16)
    assert chosen([waiting("x"), waiting("y", where=Route.LANE)], stuck, full) == {
        "x": ("b", "lane"),
        "y": ("b", "lane"),
    }
    assert chosen([waiting("x")], member("a", is_stuck=True)) == {"x": ("a", "lane")}  # all of them do


def test_only_as_many_are_sent_ahead_as_the_lanes_take() -> None:
    payouts = [waiting(f"x{number:02}", 1) for number in range(40)]
    after = chosen(payouts, member("a", in_flight=6), member("b", in_flight=16), member("c", in_flight=20))
    ahead = [each for each, (_, where) in after.items() if where == "lane"]
    assert ahead == [each.id for each in payouts[: 10 + 2 * AHEAD]], "the first ones go first"
    assert {where for where, _ in [after[each] for each in ahead]} == {"a", "b", "c"}


def test_what_its_lane_holds_up_takes_up_no_place() -> None:
    held = [waiting(f"h{number}", 1, where=Route.LANE, is_held_up=True) for number in range(30)]
    after = chosen([*held, *[waiting(f"x{number}", 1) for number in range(16)]], member("a"))
    assert {after[f"x{number}"] for number in range(16)} == {("a", "lane")}


def test_limits_of_a_wallet_keep_payouts_away_from_it() -> None:
    assert chosen([waiting("x")], member("a", usd=0), member("b"), fits=False) == {"x": ("a", "parked")}
    assert chosen([waiting("x")], member("a", in_flight=2), member("b"), fits=False) == {"x": ("a", "lane")}


def test_earlier_payouts_take_their_funds_first() -> None:
    """A large one is not passed by later small ones, though they would fit beside each other."""
    payouts = [waiting("large", 100), *[waiting(f"small{number}", 1) for number in range(5)]]
    after = chosen(payouts, member("a", usd=100), member("b", usd=2))
    assert after["large"] == ("a", "lane")
    assert [after[f"small{number}"] for number in range(5)] == [("b", "lane")] * 2 + [("a", "parked")] * 3


def test_new_payouts_count_in_turn_for_wallets_that_could_pay_them() -> None:
    members = [
        member("a", usd=1),
        member("b"),
        member("c"),
        member("d", why_out="drained: x"),
        member("e", is_stuck=True),
    ]
    needs = {USD: 10, NATIVE: FEE}
    assert [provisional(members, needs, turn).id for turn in range(4)] == ["b", "c", "b", "c"]
    assert provisional(members, {USD: 10_000, NATIVE: FEE}, 0).id == "a", "nobody could: some wallet all the same"
    assert provisional(members[3:], needs, 7).id == "e"


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_that_some_wallet_could_pay_waits_for_ever(seed: int) -> None:
    """Wallets come and go, fill, empty and stand still, and new small payouts come all the time.

    In every round in which a wallet with a free slot could pay a payout, that one or an earlier one is bound. So it is
    bound after as many such rounds as there were payouts before it, and one.
    """
    dice = random.Random(f"pool {seed}")
    names = [f"w{number}" for number in range(dice.randint(1, 5))]
    spendable = {each: dice.randint(0, 200) for each in names}
    queue: list[Waiting] = []
    earlier: dict[str, int] = {}
    could: dict[str, int] = {}
    for number in range(300):
        for at in range(dice.randint(0, 3) if number else 60):
            each = waiting(f"p{number:04}-{at:02}", dice.choice([1, 2, 5, 60]), at=dice.choice(names))
            earlier[each.id] = len(queue)
            queue.append(each)
        for name in names:
            spendable[name] += dice.choice([0, 0, 3, 20])
        members = [_member(dice, name, spendable[name], queue) for name in names]
        for each in queue:
            able = [one for one in members if one.why_out is None and not one.is_stuck and one.slots > 0]
            could[each.id] = could.get(each.id, 0) + any(not one.lacks(each.needs) for one in able)
        slots = {each.id: 0 if each.why_out else each.slots for each in members}
        moves = {each.id: each for each in route(queue, {each.id: each for each in members}, fits=lambda _p, _w: True)}
        queue = [
            replace(each, wallet_id=moves[each.id].wallet_id, route=moves[each.id].route) if each.id in moves else each
            for each in queue
        ]
        for each in list(queue):  # each lane binds what it has a slot for, in the order of the queue
            name, amount = each.wallet_id, each.needs[USD]
            if each.route is Route.LANE and slots[name] > 0 and spendable[name] >= amount:
                slots[name] -= 1
                spendable[name] -= amount
                queue.remove(each)
        assert all(could[each.id] <= earlier[each.id] for each in queue), f"seed {seed}, round {number}"


def _member(dice: random.Random, name: str, usd: int, queue: list[Waiting]) -> Member:
    return Member(
        id=name,
        why_out="frozen" if dice.random() < 0.3 else None,
        is_stuck=dice.random() < 0.2,
        in_flight=0,
        slots=dice.randint(0, 3),
        waiting=sum(each.route is Route.LANE and each.wallet_id == name for each in queue),
        spendable={USD: usd, NATIVE: 10**9},
    )
