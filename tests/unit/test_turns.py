"""Whose turn it is: priorities that age, initiators and batches that take turns, and nobody who waits for ever."""

import random
from dataclasses import dataclass

import pytest

from outlay.core.seams import MINUTE, SECOND
from outlay.core.turns import AGEING, Turns, columns_of, flow_of, level_now, level_of, page_size

NOW = 10**15


@dataclass(frozen=True)
class Row:
    id: str
    flow: str
    level: int
    ready_at: int


def row(number: int, who: str = "us-a", batch: str | None = None, *, priority: str = "Standard", age: int = 0) -> Row:
    return Row(f"xfr-{number:04d}", flow_of(who, batch), level_of(priority), NOW - age)


def names(rows: list[Row]) -> list[int]:
    return [int(each.id.removeprefix("xfr-")) for each in rows]


def test_fast_goes_before_standard_and_standard_before_slow() -> None:
    rows = [row(1, priority="Slow", age=3), row(2, priority="Standard", age=2), row(3, priority="Fast", age=1)]
    assert names(Turns().order(rows, NOW)) == [3, 2, 1]


def test_of_the_same_level_the_longest_ready_goes_first_and_then_the_lower_id() -> None:
    assert names(Turns().order([row(3, age=1), row(1, age=5), row(4, age=5), row(2, age=9)], NOW)) == [2, 1, 4, 3]


@pytest.mark.parametrize(
    ("priority", "age", "level"),
    [
        ("Slow", 0, 2),
        ("Slow", AGEING - 1, 2),
        ("Slow", AGEING, 1),
        ("Slow", 2 * AGEING, 0),
        ("Slow", 20 * AGEING, 0),
        ("Standard", AGEING, 0),
        ("Fast", AGEING, 0),
        ("Slow", -MINUTE, 2),  # ready in the future: clocks of two servers
        ("no such", 0, 1),
    ],
)
def test_waiting_raises_the_level(priority: str, age: int, level: int) -> None:
    assert level_now(row(1, priority=priority, age=age), NOW) == level


def test_a_slow_payout_that_waited_goes_before_a_younger_fast_one() -> None:
    assert names(Turns().order([row(1, priority="Fast", age=1), row(2, priority="Slow", age=2 * AGEING)], NOW)) == [
        2,
        1,
    ]


def test_initiators_take_turns_and_so_do_the_batches_of_one() -> None:
    rows = [row(number, "us-a", "bt-1", age=100 - number) for number in range(6)]
    rows += [row(10, "us-a", "bt-2"), row(11, "us-a", "bt-2"), row(20, "us-a"), row(30, "us-b"), row(31, "us-b")]
    ordered = Turns().order(rows, NOW)
    assert [each.flow.partition("/")[0] for each in ordered[:4]] == ["us-a", "us-b", "us-a", "us-b"]
    of_a = [each for each in ordered if each.flow.startswith("us-a/")]
    assert names(of_a) == [20, 0, 10, 1, 11, 2, 3, 4, 5]


def test_turns_are_kept_from_one_step_to_the_next_and_nobody_saves_them_up() -> None:
    """With room for one at a time, as a full lane has."""
    turns, served = Turns(), []
    many = [row(number, "us-a", "bt-1", age=1000) for number in range(100)]
    for step in range(12):
        late = [row(500 + n, "us-b") for n in range(9)] if step >= 5 else []
        first = turns.order(many + late, NOW)[0]
        turns.took(first)
        served.append(first.flow.partition("/")[0])
        (many if first in many else late).remove(first)
    assert served == ["us-a"] * 5 + ["us-b", "us-a", "us-b", "us-a", "us-b", "us-a", "us-b"]


def test_ordering_counts_nothing_and_the_same_rows_come_in_the_same_order_however_they_are_given() -> None:
    rng = random.Random(3)
    rows = [row(n, f"us-{rng.randrange(4)}", rng.choice([None, "bt-1"]), age=rng.randrange(9)) for n in range(60)]
    turns = Turns()
    expected = turns.order(rows, NOW)
    for _ in range(5):
        rng.shuffle(rows)
        assert turns.order(rows, NOW) == expected
    assert sorted(names(expected)) == list(range(60))


@pytest.mark.parametrize("seed", range(20))
def test_nobody_waits_for_ever(seed: int) -> None:
    """Whoever else asks, however much and with what priority: bounded by what was ahead in the own batch."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    turns, now, waiting, number = Turns(), NOW, list[Row](), 0
    parties = [(f"us-{n}", batch) for n in range(rng.randint(1, 4)) for batch in (None, "bt-1")]
    watched: dict[str, int] = {}  # rounds since it had waited long enough for any level
    ahead: dict[str, int] = {}
    for _ in range(400):
        now += rng.randrange(20 * SECOND)
        for _ in range(rng.randrange(4)):  # more than is served
            who, batch = rng.choice(parties)
            priority = rng.choice(["Fast", "Fast", "Standard", "Slow"])
            waiting.append(Row(f"xfr-{number:04d}", flow_of(who, batch), level_of(priority), now))
            number += 1
        for each in waiting:
            if level_now(each, now) == 0 and each.id not in watched:
                watched[each.id] = 0
                # What is older in its own batch may come in before it, whatever its level is now.
                older = [e for e in waiting if e.flow == each.flow and (e.ready_at, e.id) < (each.ready_at, each.id)]
                ahead[each.id] = len(older)
        if not waiting:
            continue
        first = turns.order(waiting, now)[0]
        turns.took(first)
        waiting.remove(first)
        for each in waiting:
            if each.id in watched:
                watched[each.id] += 1
                assert watched[each.id] <= 2 * (ahead[each.id] + 1) * len(parties), each


def test_the_columns_of_a_turn() -> None:
    values = {"initiator_id": "us-1", "batch_id": None, "intent": {"priority": "Slow"}}
    assert columns_of(values) == {"flow": "us-1/", "level": 2}
    assert columns_of({**values, "batch_id": "bt-1", "intent": {}}) == {"flow": "us-1/bt-1", "level": 1}


def test_what_is_looked_at_is_shared_out() -> None:
    assert [page_size(range(n), least=4, all_of_them=100) for n in (0, 1, 3, 25, 30)] == [100, 100, 34, 4, 4]
