"""What was signed, added up by the hour: to the last digit, on both databases."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from outlay.core.seams import HOUR
from outlay.core.velocity import VALUE_MAX
from outlay.store import volume
from outlay.store.database import Database
from outlay.store.schema import velocity_entry, wallet
from outlay.store.volume import Hour
from tests import postgres

BEGINS = 1_800_000_000_000_000 // HOUR * HOUR
OURS = "0x" + "Ab" * 20


@pytest.fixture(params=["sqlite", "postgresql"])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "postgresql":
        with postgres.reused() as url:
            opened = Database(url)
            yield opened
            opened.close()
        return
    opened = Database(tmp_path / "outlay.db")
    velocity_entry.metadata.create_all(opened.engine)
    yield opened
    opened.close()


def fill(db: Database, entries: list[tuple[int, int | None, str, str]]) -> None:
    """Put entries in: instant, value, state, recipient."""
    place = {"network": "N", "chain_id": 1, "key_id": "k", "public_key": "p", "status": "Active", "created_at": 1}
    rows = [
        {
            "transfer_id": f"xfr-{number}",
            "admitted": number,
            "wallet_id": "wa-1",
            "recipient": recipient,
            "initiator_id": "us-1",
            "value": value,
            "state": state,
            "signed_at": at,
        }
        for number, (at, value, state, recipient) in enumerate(entries)
    ]
    with db.engine.begin() as unit:
        unit.execute(sa.insert(wallet).values(id="wa-1", address=OURS, **place))
        unit.execute(sa.insert(velocity_entry), rows)


def test_sums_are_exact_and_of_what_left_alone(db: Database) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    dice = random.Random(seed)
    entries, expected = [], dict[int, Hour]()
    for _ in range(300):
        at = BEGINS + dice.randrange(5 * HOUR)
        value = dice.choice([None, 0, 1, 10**12, 10**12 - 1, VALUE_MAX, dice.randrange(VALUE_MAX)])
        state = dice.choice(["signed", "signed", "corrected"])
        recipient = dice.choice(["0x" + "11" * 20, OURS.lower()])
        entries.append((at, value, state, recipient))
        hour = at // HOUR * HOUR
        if state == "signed" and recipient != OURS.lower() and hour < BEGINS + 4 * HOUR:
            was = expected.get(hour, volume.NOTHING)
            expected[hour] = Hour(was.payouts + 1, was.value + (value or 0), was.unknown + (value is None))
    fill(db, entries)
    with db.engine.begin() as unit:
        found, begins = volume.by_hour(unit, since=BEGINS, until=BEGINS + 4 * HOUR)
    assert (found, begins) == (expected, BEGINS)


def test_of_very_many_whole_hours_of_the_newest_are_told(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volume, "LOOK_MAX", 5)
    fill(db, [(BEGINS + hour * HOUR + at, 1, "signed", "0x11") for hour in range(4) for at in range(2)])
    with db.engine.begin() as unit:
        found, begins = volume.by_hour(unit, since=BEGINS, until=BEGINS + 4 * HOUR)
        assert begins == BEGINS + 2 * HOUR
        assert set(found) == {BEGINS + 2 * HOUR, BEGINS + 3 * HOUR}
        monkeypatch.setattr(volume, "LOOK_MAX", 1)
        found, begins = volume.by_hour(unit, since=BEGINS, until=BEGINS + 4 * HOUR)
        assert (found, begins) == ({BEGINS + 3 * HOUR: Hour(2, 2, 0)}, BEGINS + 3 * HOUR)
