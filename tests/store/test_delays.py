"""Late payouts in the database: walked page by page, marked once, and looked for by indexes only."""

import re
from typing import Any

import sqlalchemy as sa

from outlay.core.transfer import Event
from outlay.store import batches, delays, transfers
from outlay.store.database import Unit
from outlay.store.schema import lane
from tests.store.test_transfers import add, advance

PAGE: dict[str, Any] = {"since": None, "until": None, "limit": None, "token": None}


def ready(unit: Unit, number: int, *, at: int) -> Any:
    return advance(unit, add(unit, number), Event.ALLOWED, now=at, ready_at=at)


def test_a_stage_is_walked_oldest_first_with_when_each_came_into_it(unit: Unit) -> None:
    for number, at in ((3, 30), (1, 10), (2, 10), (4, 40)):
        ready(unit, number, at=at)
    advance(unit, transfers.get(unit, "xfr-4"), Event.HELD, now=50)
    advance(unit, transfers.get(unit, "xfr-4"), Event.ALLOWED, now=60)

    first = delays.staying(unit, "ready", ready_before=100, limit=2)
    assert [(row.id, row.since) for row in first] == [("xfr-1", 10), ("xfr-2", 10)]
    after = (first[-1].ready_at, first[-1].id)
    rest = delays.staying(unit, "ready", ready_before=100, after=after, limit=10)
    assert [(row.id, row.since) for row in rest] == [("xfr-3", 30), ("xfr-4", 60)]
    assert [row.id for row in delays.staying(unit, "ready", ready_before=10, limit=9)] == ["xfr-1", "xfr-2"]
    assert delays.staying(unit, "signed", ready_before=100, limit=9) == []


def test_a_payout_is_marked_once_and_not_if_it_moved_on(unit: Unit) -> None:
    row = ready(unit, 1, at=10)
    assert not delays.mark(unit, row.id, version=row.version - 1, now=99)
    assert delays.mark(unit, row.id, version=row.version, now=100)
    assert not delays.mark(unit, row.id, version=row.version, now=101)
    late, _ = batches.payout_page(unit, {}, delayed=True, **PAGE)
    assert [(each.id, each.delayed_at) for each in late] == [("xfr-1", 100)]
    assert batches.payout_page(unit, {}, delayed=False, **PAGE)[0] == []


def test_a_lane_is_told_to_be_stuck_until_it_moves(unit: Unit) -> None:
    unit.execute(sa.insert(lane), {"wallet_id": "wa-1", "next_nonce": 2, "settled_nonce": 0, "fence": 1})
    assert delays.stuck(unit) == {}
    delays.stick(unit, "wa-1", 0)
    assert delays.stuck(unit) == {"wa-1": 0}
    delays.stick(unit, "wa-1", None)
    assert delays.stuck(unit) == {}


def test_nothing_is_looked_for_by_going_over_all_payouts(unit: Unit) -> None:
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("SELECT"):
            asked.append((statement, parameters))

    sa.event.listen(unit, "before_cursor_execute", note)
    delays.staying(unit, "ready", ready_before=100, after=(1, "xfr-1"), limit=10)
    batches.payout_page(unit, {}, delayed=True, **PAGE)
    sa.event.remove(unit, "before_cursor_execute", note)
    assert len(asked) == 2
    if unit.dialect.name == "sqlite":
        plans = [[row[3] for row in unit.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", given)] for text, given in asked]
        walk, page = ("\n".join(plan) for plan in plans)
        assert re.search(r"SEARCH transfer USING INDEX transfer_by_state \(state=\? AND ready_at", walk), walk
        assert "SEARCH transition USING INDEX" in walk and "transfer_delayed" in page, (walk, page)
        return
    unit.exec_driver_sql("SET LOCAL enable_seqscan = off")
    for text, given in asked:
        plan = "\n".join(row[0] for row in unit.exec_driver_sql(f"EXPLAIN {text}", given))
        assert "Seq Scan" not in plan and "Index" in plan, plan
