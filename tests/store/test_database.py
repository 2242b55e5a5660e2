"""The database runner: groups commit together, and no unit ever fails its neighbours."""

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from outlay.core.errors import OutcomeUnknown, PreconditionFailed, Unavailable
from outlay.store import database
from outlay.store.database import GROUP_MAX, Database, Unit
from outlay.store.schema import group_mark

_extra = sa.MetaData()
item = sa.Table("item", _extra, sa.Column("name", sa.Text, primary_key=True))
# A unit that inserts an orphan passes all its statements; only the commit of the whole group fails.
orphan = sa.Table(
    "orphan",
    _extra,
    sa.Column("parent", sa.Text, sa.ForeignKey("item.name", deferrable=True, initially="DEFERRED")),
)


@pytest.fixture
async def db(where: Path | str) -> AsyncIterator[Database]:
    """Return a database with the tables of the product and two of this test."""
    opened = Database(where)
    _extra.create_all(opened.engine)
    yield opened
    opened.close()
    again = Database(where)
    _extra.drop_all(again.engine)
    again.close()


def add(name: str) -> Callable[[Unit], str]:
    """Return a unit that adds one item."""

    def run(unit: Unit) -> str:
        unit.execute(sa.insert(item).values(name=name))
        return name

    return run


def break_the_commit(unit: Unit) -> None:
    unit.execute(sa.insert(orphan).values(parent="nobody"))


async def one_group(
    db: Database, *functions: Callable[[Unit], Any], meanwhile: Callable[[], None] | None = None
) -> list[Any]:
    """Run units as one group, the second commit from now on; return results and errors.

    The first commit is that of a unit which keeps the writer busy until all others wait; ``meanwhile`` runs then.
    """
    held, go_on = threading.Event(), threading.Event()

    def hold(_unit: Unit) -> None:
        held.set()
        assert go_on.wait(20)

    first = asyncio.ensure_future(db.write(hold))
    await asyncio.to_thread(held.wait, 20)
    waiting = [asyncio.ensure_future(db.write(function)) for function in functions]
    await asyncio.sleep(0)  # each puts its unit into the queue before it first waits
    if meanwhile is not None:
        meanwhile()
    go_on.set()
    await first
    return await asyncio.gather(*waiting, return_exceptions=True)


async def names(db: Database) -> set[str]:
    return await db.read(lambda unit: set(unit.execute(sa.select(item.c.name)).scalars()))


async def test_a_hundred_concurrent_writes_need_few_commits(db: Database) -> None:
    answers = await one_group(db, *(add(str(number)) for number in range(100)))
    assert answers == [str(number) for number in range(100)]
    assert (db.groups, db.units) == (2, 101)
    assert len(await names(db)) == 100


async def test_a_group_is_not_longer_than_its_limit(db: Database) -> None:
    await one_group(db, *(add(str(number)) for number in range(GROUP_MAX + 1)))
    assert db.groups == 3


def patient(monkeypatch: pytest.MonkeyPatch, *, dear_s: float = 0.0, gather_max_s: float = 30.0) -> None:
    """Have a writer wait so long for a crowd that a test which waits in vain fails."""
    for name, value in (("DEAR_S", dear_s), ("GATHER_S", 30.0), ("GATHER_MAX_S", gather_max_s)):
        monkeypatch.setattr(database, name, value)


async def test_a_crowd_that_was_answered_and_asks_again_is_one_group(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient(monkeypatch)
    await one_group(db, *(add(f"before {number}") for number in range(database.CROWD)))
    groups, asked = db.groups, []
    for number in range(database.CROWD):
        asked.append(asyncio.ensure_future(db.write(add(f"again {number}"))))
        await asyncio.sleep(0.01)
    await asyncio.wait_for(asyncio.gather(*asked), 10)
    assert db.groups - groups == 1


@pytest.mark.parametrize(("crowd", "dear_s"), [(database.CROWD - 1, 0.0), (database.CROWD, 100.0)])
async def test_after_few_or_cheap_units_nobody_is_waited_for(
    db: Database, crowd: int, dear_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient(monkeypatch, dear_s=dear_s)
    await one_group(db, *(add(f"before {number}") for number in range(crowd)))
    await asyncio.wait_for(db.write(add("alone")), 10)


async def test_a_crowd_is_not_waited_for_beyond_its_time(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    patient(monkeypatch, gather_max_s=0.0)
    await one_group(db, *(add(f"before {number}") for number in range(database.CROWD)))
    await asyncio.wait_for(db.write(add("after")), 10)


async def test_what_waits_is_kept_when_the_database_is_closed_in_a_crowd(
    where: Path | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient(monkeypatch)
    opened = Database(where)
    _extra.create_all(opened.engine)
    await one_group(opened, *(add(f"before {number}") for number in range(database.CROWD)))
    asked = asyncio.ensure_future(opened.write(add("last")))
    await asyncio.sleep(0)
    await asyncio.wait_for(asyncio.to_thread(opened.close), 10)
    assert await asked == "last"
    again = Database(where)
    _extra.drop_all(again.engine)
    again.close()


async def test_units_of_a_group_see_each_other_in_order(db: Database) -> None:
    def count(unit: Unit) -> int:
        return unit.execute(sa.select(sa.func.count()).select_from(item)).scalar_one()

    assert await one_group(db, add("a"), count, add("b"), count) == ["a", 1, "b", 2]


@pytest.mark.parametrize(
    "error", [PreconditionFailed("no"), ValueError("no"), StopIteration("no"), SystemExit("no"), KeyboardInterrupt()]
)
async def test_one_failing_unit_never_fails_its_neighbours(db: Database, error: BaseException) -> None:
    def fail(unit: Unit) -> None:
        add("gone")(unit)
        raise error

    answers = await asyncio.wait_for(one_group(db, add("a"), fail, add("b")), 20)
    assert answers[0] == "a" and answers[2] == "b"
    assert isinstance(answers[1], Exception)
    if isinstance(error, PreconditionFailed | ValueError):
        assert answers[1] is error
    assert await names(db) == {"a", "b"}
    assert await db.write(add("c")) == "c", "the writer lives on"


async def test_a_unit_that_violates_a_constraint_fails_alone(db: Database) -> None:
    answers = await one_group(db, add("a"), add("a"), add("b"))
    assert answers[0] == "a" and answers[2] == "b"
    assert isinstance(answers[1], sa.exc.IntegrityError)


@pytest.mark.parametrize("place", [0, 3, 6])
async def test_a_unit_that_breaks_the_whole_commit_is_found_by_halving(db: Database, place: int) -> None:
    functions: list[Callable[[Unit], Any]] = [add(str(number)) for number in range(6)]
    functions.insert(place, break_the_commit)
    answers = await one_group(db, *functions)
    guilty = answers.pop(place)
    assert isinstance(guilty, Unavailable), "nothing has happened"
    assert answers == [str(number) for number in range(6)]
    assert await names(db) == set(answers)


async def test_two_units_that_break_the_commit_both_fail_alone(db: Database) -> None:
    answers = await one_group(db, break_the_commit, add("a"), break_the_commit, add("b"))
    assert [isinstance(each, Unavailable) for each in answers] == [True, False, True, False]
    assert await names(db) == {"a", "b"}


def commits(db: Database, monkeypatch: pytest.MonkeyPatch, *, keep: bool, times: int, good: int = 0) -> None:
    """Make ``times`` commits after ``good`` ones report an error; ``keep`` if they happen all the same."""
    real, numbers = db.engine.dialect.do_commit, itertools.count()

    def commit(connection: Any) -> None:
        if not good <= next(numbers) < good + times:
            real(connection)
            return
        if keep:
            real(connection)
        raise OperationalError("COMMIT", {}, Exception("disk I/O error"))

    monkeypatch.setattr(db.engine.dialect, "do_commit", commit)


async def test_an_unknown_commit_that_happened_is_answered_by_the_marker(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []

    def once(unit: Unit) -> str:
        runs.append("run")
        return add("a")(unit)

    commits(db, monkeypatch, keep=True, times=1)
    assert await db.write(once) == "a"
    assert runs == ["run"], "what is kept is not run again"
    assert await names(db) == {"a"}


async def test_an_unknown_commit_that_did_not_happen_is_made_again(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_the_next() -> None:
        commits(db, monkeypatch, keep=False, times=1, good=1)

    assert await one_group(db, *map(add, "abcd"), meanwhile=fail_the_next) == list("abcd")
    assert await names(db) == set("abcd")


async def test_a_group_whose_commit_happened_is_answered_whole(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail_the_next() -> None:
        commits(db, monkeypatch, keep=True, times=1, good=1)

    answers = await one_group(db, add("a"), add("a"), add("b"), meanwhile=fail_the_next)
    assert answers[0] == "a" and answers[2] == "b"
    assert isinstance(answers[1], sa.exc.IntegrityError)


async def test_a_commit_nobody_can_tell_about_is_an_unknown_outcome(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outlay.store.database.ASK_MAX_S", 0)
    commits(db, monkeypatch, keep=False, times=2)
    with pytest.raises(OutcomeUnknown):
        await db.write(add("a"))
    assert await db.write(add("b")) == "b"
    assert await names(db) == {"b"}


async def test_readers_cannot_write(db: Database) -> None:
    with pytest.raises(sa.exc.DBAPIError, match=r"readonly|read-only"):
        await db.read(add("a"))
    assert await names(db) == set()


async def test_a_read_is_one_snapshot(db: Database) -> None:
    read, written = threading.Event(), threading.Event()

    def look_twice(unit: Unit) -> list[int]:
        count = sa.select(sa.func.count()).select_from(item)
        first = unit.execute(count).scalar_one()
        read.set()
        assert written.wait(20)
        return [first, unit.execute(count).scalar_one()]

    reading = asyncio.ensure_future(db.read(look_twice))
    await asyncio.to_thread(read.wait, 20)
    await db.write(add("a"))
    written.set()
    assert await reading == [0, 0]


async def test_who_stopped_waiting_does_not_disturb_the_others(db: Database) -> None:
    held, go_on = threading.Event(), threading.Event()

    def hold(_unit: Unit) -> None:
        held.set()
        assert go_on.wait(20)

    first = asyncio.ensure_future(db.write(hold))
    await asyncio.to_thread(held.wait, 20)
    left, stays = asyncio.ensure_future(db.write(add("a"))), asyncio.ensure_future(db.write(add("b")))
    await asyncio.sleep(0)
    left.cancel()
    go_on.set()
    await first
    assert await stays == "b"
    assert await names(db) == {"a", "b"}


async def test_closing_finishes_what_is_queued_and_takes_nothing_more(db: Database) -> None:
    waiting = [asyncio.ensure_future(db.write(add(name))) for name in "abc"]
    await asyncio.sleep(0)
    await asyncio.to_thread(db.close)
    assert await asyncio.gather(*waiting) == ["a", "b", "c"]
    with pytest.raises(Unavailable):
        await db.write(add("d"))


async def test_what_was_answered_survives_another_opening(db: Database) -> None:
    await db.write(add("a"))
    other = Database(db.where)
    try:
        assert await names(other) == {"a"}
        if isinstance(db.where, str):
            return
        with other.engine.connect() as unit:
            assert unit.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            assert unit.exec_driver_sql("PRAGMA synchronous").scalar() == 2, "FULL"
            assert unit.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    finally:
        other.close()


async def test_what_writers_left_behind_is_swept_after_a_day(db: Database) -> None:
    def leave(unit: Unit) -> None:
        unit.execute(
            sa.insert(group_mark),
            [{"writer": "old", "token": "a", "at": 1}, {"writer": "new", "token": "b", "at": 2**60}],
        )

    def writers(unit: Unit) -> set[str]:
        return set(unit.execute(sa.select(group_mark.c.writer)).scalars())

    await db.write(leave)
    other = Database(db.where)
    try:
        await other.write(add("a"))
        assert await other.read(writers) == {"new", db.writer, other.writer}
    finally:
        other.close()
