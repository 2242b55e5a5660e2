"""What a long outage left to be delivered costs the next look no more than a short one."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from outlay.store import deliveries, webhooks
from outlay.store.database import Unit
from outlay.store.schema import delivery
from outlay.system import SystemEntropy

KIND = "wallet.transfer.confirmed"
ENTROPY = SystemEntropy()
NOW = 1_800_000_000_000_000


def work_of(unit: Unit, statement: str, parameters: Any) -> int:
    """Return how much a statement makes the database do: steps of SQLite's machine, or rows that PostgreSQL handles."""
    if unit.dialect.name == "sqlite":
        steps = 0

        def count() -> int:
            nonlocal steps
            steps += 1
            return 0

        plain: Any = unit.connection.driver_connection
        plain.set_progress_handler(count, 10)
        unit.exec_driver_sql(statement, parameters).all()
        plain.set_progress_handler(None, 0)
        return steps
    (answer,) = unit.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters).scalars()
    plans, rows = [(json.loads(answer) if isinstance(answer, str) else answer)[0]["Plan"]], 0
    while plans:
        plan = plans.pop()
        rows += int((plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)) * plan["Actual Loops"])
        plans += plan.get("Plans", [])
    return rows


def works(unit: Unit, look: Callable[[], object], table: str = "delivery") -> list[int]:
    """Return the work of each query that ``look`` makes and that names a table."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    sa.event.listen(unit, "before_cursor_execute", note)
    look()
    sa.event.remove(unit, "before_cursor_execute", note)
    return [work_of(unit, *each) for each in asked if each[0].startswith("SELECT") and table in each[0]]


@pytest.mark.parametrize("is_analyzed", [False, True])
def test_the_next_deliveries_are_found_as_quickly_in_a_long_backlog(unit: Unit, is_analyzed: bool) -> None:
    made = [
        webhooks.create(unit, url=f"https://example.com/{n}", events=[KIND], now=NOW, entropy=ENTROPY) for n in range(9)
    ]

    def raise_many(count: int) -> None:
        raised = [webhooks.Raised(kind=KIND, subject=f"xfr-{number}", data={}) for number in range(count)]
        webhooks.emit_many(unit, raised, now=NOW, entropy=ENTROPY)
        if is_analyzed:
            unit.exec_driver_sql("ANALYZE")

    def look() -> None:
        """Ask who has something due, and for the next few of one endpoint."""
        assert made[0].id in deliveries.waiting(unit, now=NOW)
        assert len(deliveries.due(unit, made[0].id, now=NOW, limit=4)[1]) == 4

    raise_many(20)
    short = works(unit, look)
    assert len(short) == 2
    raise_many(1000)
    long = works(unit, look)
    print(f"work with 20 waiting {short}, with 1,020 {long}")
    assert all(after < 3 * before + 50 for before, after in zip(short, long, strict=True))


def test_what_was_given_up_is_found_as_quickly_among_many_that_came_through(unit: Unit) -> None:
    """However many attempts an endpoint had that were followed by others."""
    target = webhooks.create(unit, url="https://example.com/", events=[KIND], now=NOW, entropy=ENTROPY)

    def fail_many(count: int, *, is_parked: bool) -> None:
        raised = [webhooks.Raised(kind=KIND, subject=f"xfr-{number}", data={}) for number in range(count)]
        webhooks.emit_many(unit, raised, now=NOW, entropy=ENTROPY)
        ends = {"state": webhooks.FAILED, "next_attempt_at": None if is_parked else NOW}
        unit.execute(sa.update(delivery).where(delivery.c.state == webhooks.PENDING).values(ends))
        unit.exec_driver_sql("ANALYZE")

    def look() -> None:
        assert len(deliveries.parked_events(unit, target.id, limit=9)) == 5

    fail_many(5, is_parked=True)
    fail_many(50, is_parked=False)
    few = works(unit, look)
    assert len(few) == 1
    fail_many(5_000, is_parked=False)
    many = works(unit, look)
    print(f"work beside 50 others {few}, beside 5,050 {many}")
    assert many[0] < 3 * few[0] + 50


def test_those_of_one_instant_come_in_their_order(unit: Unit) -> None:
    target = webhooks.create(unit, url="https://example.com/", events=[KIND], now=NOW, entropy=ENTROPY)
    raised = [webhooks.Raised(kind=KIND, subject=f"xfr-{number}", data={}) for number in range(50)]
    webhooks.emit_many(unit, raised, now=NOW, entropy=ENTROPY)
    first = [each.subject for each in deliveries.due(unit, target.id, now=NOW, limit=10)[1]]
    assert first == [f"xfr-{number}" for number in range(10)]
