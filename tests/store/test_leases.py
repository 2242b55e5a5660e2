"""Leases: one process at a time, taken over when it dies, and nobody changes anything after that."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from outlay.core.errors import Unavailable
from outlay.core.seams import SECOND
from outlay.engine.leases import TTL_S, Fenced, Leases
from outlay.store import lanes, leases
from outlay.store.database import Database, Unit
from tests.actions.seams import FakeClock

NAME = "watch/EthereumSepolia"


def take(unit: Unit, holder: str, *, now: int, name: str = NAME) -> int | None:
    return leases.take(unit, [name], holder=holder, now=now, until=now + 6)[name]


def test_a_lease_is_one_processes_until_it_runs_out(unit: Unit) -> None:
    assert take(unit, "one", now=0) == 1
    assert take(unit, "one", now=3) == 1, "renewed: it lasts until 9"
    assert take(unit, "two", now=8) is None
    assert take(unit, "two", now=9) == 2
    assert take(unit, "one", now=10) is None
    assert take(unit, "two", now=10, name="deliver/wh-1") == 1, "another lease"


def test_each_change_of_hands_counts_the_fence_up(unit: Unit) -> None:
    fences = [take(unit, holder, now=now) for now, holder in ((0, "one"), (6, "two"), (12, "one"), (13, "one"))]
    assert fences == [1, 2, 3, 3]
    assert leases.holds(unit, {(NAME, 2), (NAME, 3), ("never taken", 1)}) == {(NAME, 3)}
    leases.hold(unit, NAME, fence=3)
    with pytest.raises(Unavailable, match="another process"):
        leases.hold(unit, NAME, fence=2)


def test_only_the_holder_renews_and_releases(unit: Unit) -> None:
    assert take(unit, "one", now=0) == 1
    assert take(unit, "two", now=6) == 2
    leases.release(unit, NAME, fence=1)
    assert take(unit, "one", now=7) is None, "what is released is not the holder's any more"
    leases.release(unit, NAME, fence=2)
    assert take(unit, "one", now=7) == 3


def test_the_leases_of_the_dead_of_one_place_end_together(unit: Unit) -> None:
    for number, holder in enumerate(("here-1", "here-2", "there-1")):
        assert take(unit, holder, now=0, name=f"deliver/{number}") == 1
    leases.release_all(unit, prefix="here-")
    assert [take(unit, "new", now=1, name=f"deliver/{number}") for number in range(3)] == [2, 2, None]


def test_lanes_are_renewed_only_for_who_still_has_them(unit: Unit) -> None:
    for wallet in ("wa-1", "wa-2"):
        assert lanes.lease(unit, wallet, holder="one", first_nonce=0, now=0, until=6) == 1
    assert lanes.lease(unit, "wa-2", holder="two", first_nonce=0, now=6, until=12) == 2
    lanes.renew(unit, ["wa-1", "wa-2"], holder="one", until=20)
    assert lanes.lease(unit, "wa-1", holder="two", first_nonce=0, now=13, until=19) is None
    assert lanes.lease(unit, "wa-2", holder="one", first_nonce=0, now=13, until=19) == 3


# What a process does with them


@pytest.fixture
async def db(where: Path | str) -> AsyncIterator[Database]:
    opened = Database(where)
    yield opened
    opened.close()


async def test_what_a_dead_process_did_is_done_by_another_one(db: Database) -> None:
    clock = FakeClock()
    one, two = Leases(db, clock, holder="one"), Leases(db, clock, holder="two")
    done: list[str] = []

    def working(name: str) -> "asyncio.Future[bool]":
        async def step() -> bool:
            done.append(name)
            return True

        return asyncio.ensure_future((one if name == "one" else two).alone(NAME, step)())

    for each in (one, two):
        each.want(NAME)
        await each.step()
    assert [await working("one"), await working("two")] == [True, False]
    clock.step(micros=int((TTL_S - 1) * SECOND))
    await two.step()
    assert not await working("two"), "one could live"
    clock.step(micros=SECOND)
    await two.step()
    assert await working("two")
    assert done == ["one", "two"]


async def test_a_process_that_was_frozen_past_its_lease_changes_nothing(db: Database) -> None:
    clock = FakeClock()
    one, two = Leases(db, clock, holder="one"), Leases(db, clock, holder="two")
    mine = Fenced(db, one, NAME)
    with pytest.raises(Unavailable, match="another process"):
        await mine.write(lambda unit: 1)  # never taken
    assert await one.take(NAME) == 1
    assert await mine.write(lambda unit: 1) == 1
    clock.step(micros=int(TTL_S * SECOND))
    assert await two.take(NAME) == 2
    # It knows of nothing: by its own clock no time has passed.
    assert one.fence(NAME) == 1
    with pytest.raises(Unavailable, match="another process"):
        await mine.write(lambda unit: leases.release(unit, NAME, fence=2))
    with pytest.raises(Unavailable, match="another process"):
        await mine.write_item(lambda unit, items: items, 1)
    assert await two.take(NAME) == 2
    await one.step()
    assert one.fence(NAME) is None, "and now it knows"


async def test_a_lease_that_nobody_renews_is_over_for_its_holder_too(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Leases(db, FakeClock(), holder="one")
    assert await one.take(NAME) == 1
    assert one.fence(NAME) == 1
    loop = asyncio.get_running_loop()
    later = loop.time() + TTL_S
    monkeypatch.setattr(loop, "time", lambda: later)
    assert one.fence(NAME) is None
    # Nobody else has taken it meanwhile, so what is under way may be finished.
    assert await Fenced(db, one, NAME).write(lambda unit: "kept") == "kept"


async def test_what_is_given_back_is_free_at_once(db: Database) -> None:
    clock = FakeClock()
    one, two = Leases(db, clock, holder="one"), Leases(db, clock, holder="two")
    await one.take(NAME)
    await one.take("housekeeping")
    await one.release()
    assert one.fence(NAME) is None
    assert [await two.take(name) for name in (NAME, "housekeeping")] == [2, 2]


async def test_lanes_that_are_served_stay_leased(db: Database) -> None:
    clock, serving = FakeClock(), {"wa-1"}
    one = Leases(db, clock, holder="one")
    one.keep_lanes(serving)
    until = clock.now() + 6 * SECOND

    def lease(holder: str) -> int | None:
        now = clock.now()
        run = db.write(
            lambda unit: lanes.lease(unit, "wa-1", holder=holder, first_nonce=0, now=now, until=now + 6 * SECOND)
        )
        return asyncio.run_coroutine_threadsafe(run, loop).result(10)

    loop = asyncio.get_running_loop()
    assert await asyncio.to_thread(lease, "one") == 1
    clock.step(micros=4 * SECOND)
    await one.step()
    clock.step(micros=4 * SECOND)
    assert clock.now() > until
    assert await asyncio.to_thread(lease, "two") is None
    serving.clear()
    await one.step()
    clock.step(micros=4 * SECOND)
    assert await asyncio.to_thread(lease, "two") == 2


def test_many_leases_are_taken_at_once_and_each_for_itself(unit: Unit) -> None:
    assert take(unit, "two", now=0, name="theirs") == 1
    assert take(unit, "two", now=0, name="over") == 1
    assert take(unit, "one", now=5, name="mine") == 1
    leases.release(unit, "over", fence=1)
    names = ["theirs", "over", "mine", "new"]
    assert leases.take(unit, names, holder="one", now=5, until=11) == {"theirs": None, "over": 2, "mine": 1, "new": 1}
    for name, until in (("over", 11), ("mine", 11), ("new", 11), ("theirs", 6)):
        assert take(unit, "three", now=until - 1, name=name) is None
    assert [take(unit, "three", now=11, name=name) for name in names] == [2, 3, 2, 2]
