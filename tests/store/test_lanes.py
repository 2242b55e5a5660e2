"""Lanes: a nonce belongs to one transaction for ever, and only the holder of the lease moves it."""

import pytest
import sqlalchemy as sa

from outlay.core.errors import InvariantBroken, OutlayError
from outlay.store import lanes
from outlay.store.database import Unit

HOUR = 3_600_000_000


def lease(unit: Unit, holder: str = "one", *, now: int = 0, until: int = HOUR) -> int | None:
    return lanes.lease(unit, "wa-1", holder=holder, first_nonce=7, now=now, until=until)


def bind(unit: Unit, number: int, *, fence: int = 1, **changes: object) -> int:
    values = {
        "id": f"tx-{number}",
        "transfer_id": f"xfr-{number}",
        "gas_limit": 21000,
        "fee_cap": 10**6,
        "max_fee_per_gas": 10,
        "max_priority_fee_per_gas": 1,
        "created_at": 1,
        **changes,
    }
    return lanes.bind(unit, wallet_id="wa-1", fence=fence, **values)


def test_a_new_lane_starts_at_the_chains_nonce(unit: Unit) -> None:
    assert lease(unit) == 1
    assert [bind(unit, number) for number in range(3)] == [7, 8, 9]


def test_a_lane_is_held_by_one_worker_until_its_lease_ends(unit: Unit) -> None:
    assert lease(unit, "one") == 1
    assert lease(unit, "two", now=HOUR - 1) is None
    assert lease(unit, "one", now=1, until=2 * HOUR) == 1, "renewing keeps the fence"
    assert lease(unit, "two", now=HOUR) is None
    assert lease(unit, "two", now=2 * HOUR, until=3 * HOUR) == 2
    assert lease(unit, "one", now=2 * HOUR) is None


def test_who_lost_the_lane_moves_nothing_any_more(unit: Unit) -> None:
    assert lease(unit, "one") == 1
    bind(unit, 0)
    assert lease(unit, "two", now=HOUR, until=2 * HOUR) == 2
    with pytest.raises(OutlayError):
        lanes.hold(unit, "wa-1", fence=1)
    with pytest.raises(OutlayError):
        bind(unit, 1, fence=1)
    with pytest.raises(OutlayError):
        lanes.settle(unit, wallet_id="wa-1", nonce=7, block=1, fence=1)
    lanes.hold(unit, "wa-1", fence=2)
    assert bind(unit, 1, fence=2) == 8


def test_a_nonce_is_bound_once(unit: Unit) -> None:
    lease(unit)
    bind(unit, 0)
    unit.execute(sa.text("UPDATE lane SET next_nonce = 7"))  # as if it had been restored from a backup
    with pytest.raises(sa.exc.IntegrityError, match="wallet_id"):
        bind(unit, 1)


def test_without_a_lane_nothing_is_bound(unit: Unit) -> None:
    with pytest.raises(InvariantBroken, match="no lane"):
        bind(unit, 0)


def test_nonces_settle_in_order_and_once(unit: Unit) -> None:
    lease(unit)
    bind(unit, 0)
    bind(unit, 1)
    for wrong in (8, 6):
        with pytest.raises(InvariantBroken, match="next to settle"):
            lanes.settle(unit, wallet_id="wa-1", nonce=wrong, block=1, fence=1)
    lanes.settle(unit, wallet_id="wa-1", nonce=7, block=100, fence=1)
    with pytest.raises(InvariantBroken):
        lanes.settle(unit, wallet_id="wa-1", nonce=7, block=100, fence=1)
    lane = lanes.find(unit, "wa-1")
    assert lane is not None
    assert (lane.settled_nonce, lane.settled_block, lane.next_nonce) == (8, 100, 9)


def test_a_transaction_moves_from_the_state_it_was_read_in(unit: Unit) -> None:
    lease(unit)
    bind(unit, 0)
    read = lanes.find_transaction(unit, "tx-0")
    assert read is not None and read.state == "bound"
    lanes.change(unit, read, "signed", raw="00", hash="0x01")
    with pytest.raises(InvariantBroken, match="changed underneath"):
        lanes.change(unit, read, "signed", raw="ff", hash="0x02")
    kept = lanes.find_transaction(unit, "tx-0")
    assert kept is not None and (kept.state, kept.raw) == ("signed", "00")


def test_transactions_come_by_state_lowest_nonce_first(unit: Unit) -> None:
    lease(unit)
    for number in (2, 0, 1):
        bind(unit, number)
    second = lanes.find_transaction(unit, "tx-0")
    assert second is not None
    lanes.change(unit, second, "final")
    assert [row.id for row in lanes.transactions(unit, "wa-1", "bound", "final")] == ["tx-2", "tx-0", "tx-1"]
    assert [row.nonce for row in lanes.transactions(unit, "wa-1", *lanes.UNSETTLED)] == [7, 9]
    assert lanes.wallets_in_flight(unit) == ["wa-1"]
    assert lanes.transactions(unit, "wa-2", "bound") == []
