"""Which wallets have something in flight is found by index, also once the planner has counted the finished ones."""

from typing import Any

import sqlalchemy as sa

from outlay.store import lanes
from outlay.store.database import Unit
from outlay.store.schema import transaction


def test_wallets_in_flight_are_found_among_many_that_are_done(unit: Unit) -> None:
    done = {"state": "final", "fee_cap": 0, "created_at": 1}
    rows = [{"id": f"tx-{at}", "wallet_id": f"wa-{at % 4}", "nonce": at, **done} for at in range(2000)]
    rows[1] |= {"state": "sent"}
    rows[5] |= {"state": "bound"}
    rows[6] |= {"state": "mined"}
    unit.execute(sa.insert(transaction), rows)
    unit.exec_driver_sql("ANALYZE")
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    sa.event.listen(unit, "before_cursor_execute", note)
    assert sorted(lanes.wallets_in_flight(unit)) == ["wa-1", "wa-2"]
    sa.event.remove(unit, "before_cursor_execute", note)
    ((statement, parameters),) = asked
    if unit.dialect.name == "sqlite":
        plan = [row[3] for row in unit.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
        assert not any(line.startswith("SCAN") for line in plan), plan
