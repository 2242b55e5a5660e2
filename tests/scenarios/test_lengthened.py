"""A history that the bench lengthened is one the product could have written: it adds up, and goes on."""

import sqlalchemy as sa

from bench import history
from outlay.core.asset import NATIVE
from outlay.core.velocity import EMPTY, entry_of
from outlay.store import ledger
from outlay.store.database import Unit
from outlay.store.schema import counter_entry, transfer, velocity_counter
from tests.actions.documents import at_most, cap
from tests.scenarios.stage import Stage

PAID, STORED = 5, 42


def _confirmed(stage: Stage) -> None:
    paid = [stage.pay(native=True) for _ in range(PAID)]
    stage.run()
    stage.mine(4)
    assert [stage.state(each) for each in paid] == ["confirmed"] * PAID


def _check_totals(unit: Unit) -> int:
    """Compare every running total with a sum over what was signed before; return how many were compared."""
    compared = 0
    for counter in unit.execute(sa.select(velocity_counter)).all():
        mine = sa.and_(counter_entry.c.policy_id == counter.policy_id, counter_entry.c.scope_key == counter.scope_key)
        total, last = EMPTY, 0
        for row in unit.execute(sa.select(counter_entry).where(mine).order_by(counter_entry.c.signed_at)):
            total = total.plus(entry_of(row.value))
            assert row.signed_at > last
            last = row.signed_at
            assert (row.total_value, row.total_count, row.total_unknown) == (total.value, total.count, total.unknown)
            compared += 1
        assert (counter.signed_value, counter.signed_count) == (total.value, total.count)
    return compared


def test_a_lengthened_history_adds_up_and_the_engine_goes_on(stage: Stage) -> None:
    block = {"kind": "Block"}
    policies = [
        stage.world.policy(cap(10**6, minutes=1440), block),
        stage.world.policy(at_most(10**6, scope="wallet"), block),
    ]
    _confirmed(stage)
    # The copies are in no block, so what this stage compares at its end would not match.
    stage.was_taken_back = True
    before = stage.held(NATIVE)
    stored = history.lengthen(stage.world.db, STORED)
    assert stored == STORED // PAID * PAID
    assert (
        stage.unit(lambda unit: unit.execute(sa.select(sa.func.count()).select_from(transfer)).scalar_one()) == stored
    )
    stage.unit(ledger.check)
    assert stage.held(NATIVE) == before
    assert stage.unit(_check_totals) == stored * len(policies)
    assert history.size_mb(stage.world.db) > 0
    _confirmed(stage)
    stage.unit(ledger.check)
    assert stage.unit(_check_totals) == (stored + PAID) * len(policies)
    assert stage.held(NATIVE)["spendable"] == stage.balance(stage.address(), native=True)
