"""What one payout costs does not depend on how many wait, also while PostgreSQL knows nothing of tables that grew."""

import sqlalchemy as sa

from outlay.store import velocity_binding
from outlay.store.database import Unit
from outlay.store.schema import counter_entry, velocity_counter, velocity_entry
from tests.store.test_backlog import works

OPEN = 3_000
OF = {"policy_id": "pol-1", "scope_key": "organization"}


def count_open(unit: Unit) -> None:
    """Store open entries of one counter, as many payouts of one policy would leave them."""
    totals = {"signed_value": 0, "signed_count": 0, "signed_unknown": 0}
    opened = {"open_value": OPEN, "open_count": OPEN, "open_unknown": 0}
    unit.execute(sa.insert(velocity_counter), [{**OF, **totals, **opened, "last_at": 0}])
    of_payout = {"wallet_id": "wa-1", "recipient": "0x1", "initiator_id": "us-1", "value": 1, "state": "open"}
    places = [{"transfer_id": f"xfr-{place}", "admitted": place} for place in range(1, OPEN + 1)]
    unit.execute(sa.insert(velocity_entry), [{**of_payout, **each} for each in places])
    unit.execute(sa.insert(counter_entry), [{**OF, **each, "value": 1, "state": "open"} for each in places])


def test_what_is_bound_is_found_from_the_payouts(unit: Unit) -> None:
    count_open(unit)
    (rows,) = works(unit, lambda: unit.execute(velocity_binding._BOUND, OF).all(), "counter_entry")
    print(f"work {rows} beside {OPEN} open entries")
    assert rows < 100
