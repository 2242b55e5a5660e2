"""Lanes: a nonce belongs to one transaction for ever, and only the holder of the lease moves it."""

import pytest
import sqlalchemy as sa

from outlay.core.errors import InvariantBroken, OutlayError
from outlay.core.fees import Offer
from outlay.store import lanes
from outlay.store.database import Unit

HOUR = 3_600_000_000


def lease(unit: Unit, holder: str = "one", *, now: int = 0, until: int = HOUR) -> int | None:
    return lanes.lease(unit, "wa-1", holder=holder, first_nonce=7, now=now, until=until)


def bind(unit: Unit, number: int, *, fence: int = 1, **changes: object) -> int:
    values = {
        "id": f"tx-{number}",
        "transfer_id": f"xfr-{number}",
        "fee_cap": 10**6,
        "created_at": 1,
        **changes,
    }
    return lanes.bind(unit, wallet_id="wa-1", fence=fence, slots=[values])


def test_a_new_lane_starts_at_the_chains_nonce(unit: Unit) -> None:
    assert lease(unit) == 1
    assert [bind(unit, number) for number in range(3)] == [7, 8, 9]


def test_many_slots_are_bound_in_their_order_and_none_of_them_twice(unit: Unit) -> None:
    assert lease(unit) == 1
    slots = [{"id": f"tx-{n}", "transfer_id": f"xfr-{n}", "fee_cap": n, "created_at": 1} for n in (4, 2, 9)]
    assert lanes.bind(unit, wallet_id="wa-1", fence=1, slots=slots) == 7
    found = [(row.nonce, row.id, row.fee_cap) for row in lanes.transactions(unit, "wa-1", "bound")]
    assert found == [(7, "tx-4", 4), (8, "tx-2", 2), (9, "tx-9", 9)]
    with pytest.raises(InvariantBroken):
        lanes.bind(unit, wallet_id="wa-1", fence=0, slots=slots)
    assert bind(unit, 0) == 10
    lanes.settle(unit, wallet_id="wa-1", nonce=7, count=3, block=1, fence=1)
    lane = lanes.find(unit, "wa-1")
    assert lane is not None and (lane.settled_nonce, lane.next_nonce) == (10, 11)


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


def test_a_nonce_that_was_read_too_early_is_not_bound(unit: Unit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads the lane, and then writes after somebody else did, must not take the same nonce."""
    lease(unit)
    read = lanes.find(unit, "wa-1")
    assert bind(unit, 0) == 7
    monkeypatch.setattr(lanes, "find", lambda unit, wallet_id: read)
    with pytest.raises(InvariantBroken):
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
    lanes.change(unit, read, "signed", void_reason="one")
    with pytest.raises(InvariantBroken, match="changed underneath"):
        lanes.change(unit, read, "signed", void_reason="two")
    kept = lanes.find_transaction(unit, "tx-0")
    assert kept is not None and (kept.state, kept.void_reason) == ("signed", "one")


def test_many_transactions_move_or_none_does(unit: Unit) -> None:
    lease(unit)
    for number in range(3):
        bind(unit, number)
    lanes.change_many(unit, [{"id": "tx-0"}, {"id": "tx-2"}], before="bound", after="signed")
    assert [row.id for row in lanes.transactions(unit, "wa-1", "signed")] == ["tx-0", "tx-2"]
    assert lanes.count_transactions(unit, "wa-1", *lanes.UNSETTLED) == 3
    with pytest.raises(InvariantBroken, match="changed underneath"):
        lanes.change_many(unit, [{"id": "tx-1"}, {"id": "tx-2"}], before="bound", after="signed")
    lanes.change_many(unit, [], before="bound", after="signed")


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


OFFER = Offer(gas_limit=21000, max_fee_per_gas=10, max_priority_fee_per_gas=1)


def attempt(unit: Unit, slot: int, number: int = 1, purpose: str = "payout") -> str:
    lanes.add_attempt(
        unit,
        id=f"att-{slot}-{number}",
        transaction_id=f"tx-{slot}",
        number=number,
        purpose=purpose,
        offer=OFFER,
        legacy=False,
        now=1,
    )
    return f"att-{slot}-{number}"


def test_signed_bytes_are_stored_once_and_never_replaced(unit: Unit) -> None:
    lease(unit)
    bind(unit, 0)
    name = attempt(unit, 0)
    bind(unit, 1)
    fresh = attempt(unit, 1)
    lanes.keep_signed(unit, [(name, b"one", "0x01")], now=5)
    with pytest.raises(InvariantBroken, match="never replaced"):
        lanes.keep_signed(unit, [(fresh, b"other", "0x03"), (name, b"two", "0x02")], now=6)
    lanes.drop_attempt(unit, name)
    lanes.drop_unsigned(unit, ["tx-0"])
    kept = lanes.find_attempts(unit, [name, "no such"])[name]
    assert (kept.raw, kept.hash, kept.signed_at) == (b"one".hex(), "0x01", 5)
    assert (kept.nonce, kept.transfer_id, kept.slot_state) == (7, "xfr-0", "bound")


def test_a_slot_has_one_attempt_of_each_number(unit: Unit) -> None:
    lease(unit)
    bind(unit, 0)
    attempt(unit, 0)
    with pytest.raises(sa.exc.IntegrityError):
        attempt(unit, 0)


def test_what_is_to_be_signed_comes_lowest_nonce_first(unit: Unit) -> None:
    lease(unit)
    for number in (1, 0):
        bind(unit, number)
        attempt(unit, number)
    lanes.keep_signed(unit, [("att-1-1", b"x", "0x01")], now=1)
    attempt(unit, 1, 2, "void")
    found = [(row.id, row.nonce, row.transfer_id, row.fee_cap) for row in lanes.unsigned(unit, "wa-1", limit=9)]
    assert found == [("att-1-2", 7, "xfr-1", 10**6), ("att-0-1", 8, "xfr-0", 10**6)]
    assert {key: [row.number for row in rows] for key, rows in lanes.attempts_of(unit, ["tx-1", "tx-0"]).items()} == {
        "tx-1": [1, 2],
        "tx-0": [1],
    }


def test_the_unsigned_end_of_a_lane_is_taken_back_and_its_nonces_are_given_again(unit: Unit) -> None:
    lease(unit)
    for number in range(3):
        bind(unit, number)
        attempt(unit, number)
    lanes.unbind(unit, wallet_id="wa-1", fence=1, nonce=8)
    assert [row.nonce for row in lanes.transactions(unit, "wa-1", "bound")] == [7]
    assert [row.id for row in lanes.unsigned(unit, "wa-1", limit=9)] == ["att-0-1"]
    assert bind(unit, 5) == 8


@pytest.mark.parametrize("state", ["signed", "bound"])
def test_what_was_signed_is_never_taken_back(unit: Unit, state: str) -> None:
    """Neither by the slot's word nor by the attempt's: each alone is enough."""
    lease(unit)
    bind(unit, 0)
    bind(unit, 1)
    attempt(unit, 0)
    attempt(unit, 1)
    slot = lanes.find_transaction(unit, "tx-1")
    assert slot is not None
    if state == "signed":
        lanes.change(unit, slot, "signed")
    else:
        lanes.keep_signed(unit, [("att-1-1", b"x", "0x01")], now=1)
    with pytest.raises(InvariantBroken, match="was signed"):
        lanes.unbind(unit, wallet_id="wa-1", fence=1, nonce=7)


def test_a_stale_worker_takes_nothing_back(unit: Unit) -> None:
    lease(unit)
    bind(unit, 0)
    attempt(unit, 0)
    with pytest.raises(InvariantBroken, match="another worker"):
        lanes.unbind(unit, wallet_id="wa-1", fence=0, nonce=7)


def test_a_gap_is_filled_at_its_nonce_only(unit: Unit) -> None:
    lease(unit)
    bind(unit, 0)
    unit.execute(sa.text("UPDATE lane SET next_nonce = 10"))
    for wrong in (6, 10):
        with pytest.raises(InvariantBroken, match="no gap"):
            lanes.fill(unit, wallet_id="wa-1", fence=1, nonce=wrong, id="tx-9", fee_cap=1, created_at=1)
    lanes.fill(unit, wallet_id="wa-1", fence=1, nonce=8, id="tx-9", fee_cap=1, created_at=1)
    assert [(row.nonce, row.transfer_id) for row in lanes.transactions(unit, "wa-1", "bound")] == [
        (7, "xfr-0"),
        (8, None),
    ]
    with pytest.raises(sa.exc.IntegrityError):
        lanes.fill(unit, wallet_id="wa-1", fence=1, nonce=7, id="tx-10", fee_cap=1, created_at=1)


def test_a_lane_begins_again_only_where_nothing_is_under_way(unit: Unit) -> None:
    lease(unit)
    lanes.adopt(unit, wallet_id="wa-1", fence=1, nonce=9)
    lane = lanes.find(unit, "wa-1")
    assert lane is not None and (lane.next_nonce, lane.settled_nonce) == (9, 9)
    assert bind(unit, 0) == 9
    for nonce in (12, 9):
        with pytest.raises(InvariantBroken, match="cannot begin again"):
            lanes.adopt(unit, wallet_id="wa-1", fence=1, nonce=nonce)
