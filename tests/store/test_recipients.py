"""What approvers are told of an address is answered by an index, however many payouts there are."""

from typing import Any

import sqlalchemy as sa

from outlay.store import recipients
from outlay.store.database import Unit


def test_history_and_lookalikes_of_a_recipient_are_found_by_index(unit: Unit) -> None:
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("SELECT"):  # the unit may begin with the first of them
            asked.append((statement, parameters))

    sa.event.listen(unit, "before_cursor_execute", note)
    recipients.paid_to(unit, network="N", asset="native", recipient="0x" + "1a" * 20)
    recipients.alike(unit, "0x" + "1a" * 20)
    sa.event.remove(unit, "before_cursor_execute", note)
    assert len(asked) == 2
    is_sqlite = unit.dialect.name == "sqlite"
    if not is_sqlite:
        unit.exec_driver_sql("SET LOCAL enable_seqscan = off")
    for statement, parameters in asked:
        rows = unit.exec_driver_sql(f"EXPLAIN {'QUERY PLAN ' if is_sqlite else ''}{statement}", parameters).all()
        plan = "\n".join(str(row[3 if is_sqlite else 0]) for row in rows)
        assert "transfer_by_recipient" in plan, plan
