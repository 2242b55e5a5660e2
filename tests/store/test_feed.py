"""The feed misses nothing and repeats nothing, whoever writes meanwhile; replays send what they say, once."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from outlay.core.errors import InvalidInput, PreconditionFailed
from outlay.core.seams import DAY, MINUTE, SECOND
from outlay.store import deliveries, feed, webhooks
from outlay.store.database import Database, Unit
from outlay.store.schema import approval, delivery, event, metadata
from outlay.system import SystemEntropy
from tests import postgres

ENTROPY = SystemEntropy()
START = 1_800_000_000_000_000
PAID, CREATED = "wallet.transfer.confirmed", "wallet.created"


@contextmanager
def places(name: str, folder: Path) -> Iterator[Path | str]:
    """Yield an empty database."""
    if name == "postgresql":
        with postgres.reused() as url:
            yield url
        return
    db = Database(folder / "feed.db")
    metadata.create_all(db.engine)
    db.close()
    yield folder / "feed.db"


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    name = "postgresql" if postgres.is_chosen() else "sqlite"
    with places(name, tmp_path) as where, closing(Database(where)) as opened:
        yield opened


def raised(unit: Unit, subject: str, *, kind: str = PAID, at: int = START) -> str:
    return webhooks.emit(unit, kind=kind, subject=subject, data={"subject": subject}, now=at, entropy=ENTROPY)


def hook(unit: Unit, *kinds: str) -> webhooks.Webhook:
    return webhooks.create(unit, url="https://example.com", events=kinds or ("*",), now=START, entropy=ENTROPY)


def read_all(unit: Unit, after: str = "", **how: Any) -> tuple[list[str], str, int]:
    """Return the ids of everything after a place, the place behind, and how many pages it took."""
    found: list[str] = []
    for count in range(1, 1000):
        page = feed.page(unit, after=after, **how)
        found += [each["id"] for each in page.items]
        after = page.cursor
        if page.is_last:
            return found, after, count
    raise AssertionError("the feed has no end")


class Undone(Exception):
    """A unit that shall leave nothing."""


@pytest.mark.parametrize("name", ["sqlite", "postgresql"])
async def test_a_reader_misses_nothing_while_others_write(name: str, tmp_path: Path) -> None:
    """Several writers, some slow after they have numbered their events, some undone; a reader that never pauses."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    with places(name, tmp_path) as where:
        writers = [Database(where) for _ in range(3)]
        reader = Database(where)
        written: list[str] = []
        got: list[str] = []
        done = asyncio.Event()

        async def write(db: Database, number: int) -> None:
            for turn in range(15):
                hold_s = 0.1 if chance.random() < 0.2 else 0.0
                is_undone = chance.random() < 0.2

                def unit_of(unit: Unit, turn: int = turn, hold_s: float = hold_s, bad: bool = is_undone) -> list[str]:
                    ids = [raised(unit, f"xfr-{number}-{turn % 4}") for _ in range(1 + turn % 3)]
                    time.sleep(hold_s)  # others come meanwhile: whoever numbered first must be seen first
                    if bad:
                        raise Undone
                    return ids

                try:
                    written.extend(await db.write(unit_of))
                except Undone:
                    continue

        async def read() -> None:
            after = ""
            while True:
                is_over = done.is_set()
                page = await reader.read(partial(feed.page, after=after, limit=3))
                got.extend(each["id"] for each in page.items)
                after = page.cursor
                if is_over and page.is_last:
                    return
                await asyncio.sleep(0)

        reading = asyncio.create_task(read())
        await asyncio.gather(*(write(each, number) for number, each in enumerate(writers)))
        done.set()
        await reading
        stored = await reader.read(
            lambda unit: list(unit.execute(sa.select(event.c.id).order_by(event.c.seq)).scalars())
        )
        for each in (*writers, reader):
            each.close()
    assert len(written) > 20
    assert got == stored
    assert sorted(got) == sorted(written)


async def test_pages_join_up_and_filters_lead_on(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(unit: Unit) -> list[tuple[str, str]]:
        kinds = [CREATED if number % 10 == 9 else PAID for number in range(60)]
        return [(raised(unit, f"xfr-{number % 3}", kind=kind), kind) for number, kind in enumerate(kinds)]

    assert await db.read(feed.page) == ([], "", True)
    made = await db.write(fill)
    for limit in (1, 7, 60, 61):
        assert (await db.read(partial(read_all, limit=limit)))[0] == [name for name, _ in made]
    monkeypatch.setattr(feed, "SPAN", 5)
    found, after, pages = await db.read(lambda unit: read_all(unit, kind=CREATED, limit=4))
    assert found == [name for name, kind in made if kind == CREATED]
    assert pages == 12, "no page looks at more than its span"
    mine, *_ = await db.read(lambda unit: read_all(unit, payout_id="xfr-1"))
    assert mine == [name for number, (name, _) in enumerate(made) if number % 3 == 1]

    assert (await db.read(lambda unit: feed.page(unit, after=after))).items == []
    later = await db.write(lambda unit: raised(unit, "xfr-9", at=START + SECOND))
    (item,) = (await db.read(lambda unit: feed.page(unit, after=after))).items
    assert item == {
        "id": later,
        "kind": PAID,
        "date": "2027-01-15T08:00:01.000Z",
        "subject": "xfr-9",
        "sequence": 1,
        "data": {"subject": "xfr-9"},
    }


async def test_of_a_payout_there_are_its_approvals_events_too(db: Database) -> None:
    columns = {"transfer_id": "xfr-1", "initiator_id": "us-1", "status": "Pending", "groups": []}

    def fill(unit: Unit) -> list[str]:
        required = {
            each.name: columns.get(each.name, "" if isinstance(each.type, sa.String | sa.Text) else 0)
            for each in approval.columns
            if not each.nullable or each.name in columns
        }
        unit.execute(sa.insert(approval), {**required, "id": "ap-1"})
        return [raised(unit, "xfr-1"), raised(unit, "ap-1"), raised(unit, "xfr-2")]

    first, second, _ = await db.write(fill)
    assert (await db.read(lambda unit: read_all(unit, payout_id="xfr-1")))[0] == [first, second]


async def test_a_cursor_of_events_that_a_restore_took_away_is_refused(db: Database) -> None:
    await db.write(lambda unit: [raised(unit, "xfr-1") for _ in range(3)])
    old = (await db.read(feed.page)).cursor
    await db.write(lambda unit: unit.execute(sa.delete(event).where(event.c.seq == 3)))
    with pytest.raises(PreconditionFailed, match="restored"):
        await db.read(lambda unit: feed.page(unit, after=old))
    await db.write(
        lambda unit: unit.execute(
            sa.insert(event),
            {"seq": 3, "id": "evt-other", "kind": PAID, "subject": "xfr-2", "subject_seq": 1, "data": {}, "at": START},
        )
    )
    with pytest.raises(PreconditionFailed, match="restored"):
        await db.read(lambda unit: feed.page(unit, after=old))


@pytest.mark.parametrize("cursor", ["x", "!!", "MS4", "é", "9" * 500, "MS8", "L2V2dA", "LTEvZXZ0LTE"])
async def test_other_cursors_are_refused(db: Database, cursor: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await db.read(lambda unit: feed.page(unit, after=cursor))
    assert caught.value.field == "after"
    with pytest.raises(InvalidInput) as caught:
        await db.read(lambda unit: feed.chosen(unit, since=0, after=cursor, limit=1))
    assert caught.value.field == "paginationToken"


# Replays


def planned(unit: Unit) -> list[tuple[str, int, int]]:
    query = sa.select(delivery.c.event_id, delivery.c.attempt, delivery.c.due_at).where(delivery.c.state == "pending")
    return [(row.event_id, row.attempt, row.due_at) for row in unit.execute(query.order_by(delivery.c.event_id))]


async def test_a_replay_sends_once_however_often_it_is_asked_for(db: Database) -> None:
    now = START + DAY

    def run(unit: Unit) -> None:
        target = hook(unit, PAID)
        ids = sorted(raised(unit, f"xfr-{number}") for number in range(4))
        other = raised(unit, "wa-1", kind=CREATED)
        _, rows = deliveries.due(unit, target.id, now=now, limit=9)
        by_event = {row.event_id: row for row in rows}
        # The first was taken, the second failed and is planned, the third was given up, the fourth is due.
        deliveries.mark_delivered(unit, [(by_event[ids[0]].id, START, "200")])
        for name, schedule in ((ids[1], [3 * 86_400]), (ids[2], [])):
            failed = [deliveries.Failure(by_event[name], START, "500", "no")]
            assert deliveries.mark_failed(unit, failed, schedule_s=schedule, entropy=ENTROPY) == failed
        assert deliveries.parked_events(unit, target.id, limit=9) == [(ids[2], PAID)]
        events = [(name, PAID) for name in ids] + [(other, CREATED)]
        for _ in range(3):
            assert deliveries.replay(unit, target, events, now=now, entropy=ENTROPY) == 4
        assert planned(unit) == [(ids[0], 2, now), (ids[1], 2, now), (ids[2], 2, now), (ids[3], 1, START)]
        assert deliveries.parked_events(unit, target.id, limit=9) == []
        late = hook(unit)  # made after all of it happened
        assert deliveries.replay(unit, late, events, now=now, entropy=ENTROPY) == 5
        assert len(deliveries.due(unit, late.id, now=now, limit=9)[1]) == 5
        webhooks.update(unit, target.id, status="Disabled", now=now)
        with pytest.raises(PreconditionFailed, match="disabled"):
            deliveries.replay(unit, webhooks.get(unit, target.id), events, now=now, entropy=ENTROPY)

    await db.write(run)


async def test_what_is_chosen_by_time_comes_in_pages_that_join_up(db: Database) -> None:
    chance = random.Random(5)
    instants = [START + chance.randrange(10) * MINUTE for _ in range(40)]
    made = await db.write(lambda unit: [raised(unit, "xfr-1", at=at) for at in instants])
    since, until = START + 2 * MINUTE, START + 7 * MINUTE
    wanted = [
        name
        for _, _, name in sorted((at, place, made[place]) for place, at in enumerate(instants) if since <= at < until)
    ]
    found: list[str] = []
    after, pages = "", 0
    while True:
        lot, more = await db.read(partial(feed.chosen, since=since, until=until, after=after, limit=4))
        found += [name for name, _ in lot]
        pages += 1
        if more is None:
            break
        after = more
    assert found == wanted
    assert pages == -(-len(wanted) // 4)
    assert await db.read(lambda unit: feed.chosen(unit, event_id=made[0], limit=1)) == ([(made[0], PAID)], None)


# Endpoints that fail


async def test_an_endpoint_that_only_fails_is_switched_off_and_the_others_hear_of_it(db: Database) -> None:
    def run(unit: Unit) -> None:
        bad, good, poor = hook(unit), hook(unit, "webhook.disabled"), hook(unit)
        for number, working in enumerate(((), (), (good.id,), (poor.id,))):
            failing = {bad.id, good.id, poor.id} - set(working)
            webhooks.note_outcomes(unit, working=working, failing=failing, since=START + number * DAY)
        assert webhooks.get(unit, bad.id).failing_since == START
        assert webhooks.get(unit, good.id).failing_since == START + 3 * DAY
        assert webhooks.get(unit, poor.id).failing_since is None
        everyone, now = [bad.id, good.id, poor.id], START + 5 * DAY
        assert webhooks.disable_failing(unit, everyone, since=START - 1, now=now, entropy=ENTROPY) == []
        assert webhooks.disable_failing(unit, everyone, since=START, now=now, entropy=ENTROPY) == [bad.id]
        assert webhooks.disable_failing(unit, everyone, since=START, now=now, entropy=ENTROPY) == []
        shown = webhooks.get(unit, bad.id).document()
        assert shown["status"] == "Disabled"
        assert shown["disabledReason"] == "every attempt has failed since 2027-01-15T08:00:00.000Z"
        (row,) = deliveries.due(unit, good.id, now=now, limit=9)[1]
        assert (row.kind, row.subject) == ("webhook.disabled", bad.id)
        assert "secret" not in row.data and bad.secret not in row.data
        assert deliveries.due(unit, bad.id, now=now, limit=9) == (None, [])
        assert [each.id for each in webhooks.switched_off(unit)] == [bad.id]
        again = webhooks.update(unit, bad.id, status="Enabled", now=now)
        assert webhooks.switched_off(unit) == []
        assert (again.status, again.failing_since, again.disabled_reason) == ("Enabled", None, None)

    await db.write(run)


async def test_an_old_secret_signs_until_its_time_is_over(db: Database) -> None:
    def run(unit: Unit) -> None:
        first = hook(unit)
        assert first.secrets(START) == (first.secret,)
        second = webhooks.rotate_secret(unit, first.id, overlap_minutes=10, now=START, entropy=ENTROPY)
        assert second.secret != first.secret
        assert second.secrets(START + 10 * MINUTE - 1) == (second.secret, first.secret)
        assert second.secrets(START + 10 * MINUTE) == (second.secret,)
        third = webhooks.rotate_secret(unit, first.id, overlap_minutes=1, now=START, entropy=ENTROPY)
        assert third.secrets(START) == (third.secret, second.secret), "one old secret, not all"
        fourth = webhooks.rotate_secret(unit, first.id, overlap_minutes=0, now=START, entropy=ENTROPY)
        assert fourth.secrets(START) == (fourth.secret,)
        assert first.secret not in repr(second)

    await db.write(run)
