"""What units did is told once it is kept, and never if it was not."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from outlay.core.errors import InvalidInput
from outlay.store import tally
from outlay.store.database import Database, Unit, savepoint
from outlay.store.tally import Attempted, Note


@pytest.fixture
async def db(where: Path | str) -> AsyncIterator[Database]:
    """A database with the tables and nothing in them."""
    opened = Database(where)
    yield opened
    opened.close()


@pytest.fixture
def told(db: Database) -> list[str]:
    """What was told so far: the subjects of the notes."""
    subjects: list[str] = []

    def listen(notes: Sequence[Note]) -> None:
        subjects.extend(each.subject for each in notes if isinstance(each, Attempted))

    db.on_kept = listen
    return subjects


def noting(*subjects: str, failing: bool = False) -> Callable[[Unit], None]:
    """Return a unit that notes something, and fails then if it shall."""

    def run(unit: Unit) -> None:
        tally.note_attempts(unit, (Attempted(each, tally.DELIVERED, 1, 2) for each in subjects))
        if failing:
            raise InvalidInput("no")

    return run


async def test_a_unit_that_fails_tells_nothing_and_its_neighbours_do(db: Database, told: list[str]) -> None:
    works = [db.write(noting("a")), db.write(noting("b", failing=True)), db.write(noting("c", "d"))]
    answers = await asyncio.gather(*works, return_exceptions=True)
    await asyncio.sleep(0)

    assert isinstance(answers[1], InvalidInput)
    assert sorted(told) == ["a", "c", "d"]


async def test_what_a_savepoint_takes_back_is_not_told(db: Database, told: list[str]) -> None:
    def run(unit: Unit) -> None:
        noting("kept")(unit)
        with pytest.raises(InvalidInput), savepoint(unit):
            noting("lost", failing=True)(unit)
        noting("kept too")(unit)

    await db.write(run)
    await asyncio.sleep(0)

    assert told == ["kept", "kept too"]


async def test_a_group_that_is_run_again_is_told_once(db: Database, told: list[str]) -> None:
    """The commit of the whole fails, so its halves are run again: each note counts once."""
    failures = [True]

    def commit_fails(_connection: sa.Connection) -> None:
        if failures and failures.pop():
            raise sa.exc.OperationalError("COMMIT", {}, Exception("disk I/O error"))

    sa.event.listen(db.engine, "commit", commit_fails)
    await asyncio.gather(*(db.write(noting(name)) for name in "abcdef"))
    await asyncio.sleep(0)

    assert sorted(told) == list("abcdef")


async def test_a_commit_that_happened_although_it_seemed_to_fail_is_told(
    db: Database, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_units = db._run_units

    def answer_is_lost(connection: Any, group: Any, token: str) -> None:
        run_units(connection, group, token)
        raise sa.exc.OperationalError("COMMIT", {}, Exception("connection lost"))

    monkeypatch.setattr(db, "_run_units", answer_is_lost)
    await db.write(noting("a"))
    await asyncio.sleep(0)

    assert told == ["a"]


async def test_a_listener_that_fails_stops_no_writing(db: Database) -> None:
    def fail(_notes: Sequence[Note]) -> None:
        raise RuntimeError("a bug")

    db.on_kept = fail
    problems: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: problems.append(context))
    await db.write(noting("a"))
    await db.write(noting("b"))
    await asyncio.sleep(0)

    assert len(problems) == 2
