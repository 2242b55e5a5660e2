"""Transfers in the database: a change applies to the row that was read, or not at all."""

from typing import Any

import pytest
import sqlalchemy as sa

from outlay.core.errors import IllegalTransition, InvariantBroken, NotFound
from outlay.core.transfer import Event
from outlay.store import transfers
from outlay.store.database import Unit
from outlay.store.schema import wallet
from outlay.store.transfers import Change


def add(unit: Unit, number: int = 1) -> Any:
    return transfers.add(
        unit,
        id=f"xfr-{number}",
        external_id=f"order-{number}",
        intent_digest="00",
        intent={"amount": "5"},
        wallet_id="wa-1",
        network="EthereumSepolia",
        kind="Native",
        asset="native",
        recipient="0x" + "11" * 20,
        amount=2**255,
        request_body={},
        initiator_id="us-1",
        token_id="to-1",
        policy_set="00",
        requested_at=1,
    )


def advance(unit: Unit, row: Any, event: Event, *, now: int, detail: Any = None, **values: Any) -> Any:
    return transfers.advance(unit, [Change(row=row, event=event, detail=detail, values=values)], now=now)[0]


def test_what_is_added_is_what_is_read_back(unit: Unit) -> None:
    row = add(unit)
    assert row == transfers.get(unit, "xfr-1") == transfers.find_by_external_id(unit, "order-1")
    assert (row.state, row.version, row.amount, row.intent) == ("requested", 1, 2**255, {"amount": "5"})


def test_a_change_returns_the_row_as_it_is_then_and_notes_the_transition(unit: Unit) -> None:
    ready = advance(unit, add(unit), Event.ALLOWED, now=2, ready_at=2, detail={"why": "allowed"})
    assert vars(ready) == dict(transfers.get(unit, "xfr-1")._mapping)
    assert (ready.state, ready.version, ready.ready_at) == ("ready", 2, 2)
    (noted,) = transfers.transitions(unit, "xfr-1")
    assert (noted.seq, noted.from_state, noted.to_state, noted.detail) == (1, "requested", "ready", {"why": "allowed"})


def test_a_change_of_a_row_that_was_read_too_early_is_refused(unit: Unit) -> None:
    read = add(unit)
    held = advance(unit, read, Event.HELD, now=2)
    with pytest.raises(InvariantBroken, match="changed underneath"):
        advance(unit, read, Event.ALLOWED, now=3)
    # In the same state, but not the same reading of it.
    advance(unit, advance(unit, held, Event.ALLOWED, now=4), Event.HELD, now=5)
    with pytest.raises(InvariantBroken, match="changed underneath"):
        advance(unit, held, Event.ALLOWED, now=6)
    assert transfers.get(unit, "xfr-1").version == 4
    assert [each.seq for each in transfers.transitions(unit, "xfr-1")] == [1, 2, 3]


def test_many_change_at_once_each_in_its_own_way(unit: Unit) -> None:
    rows = [add(unit, number) for number in range(1, 6)]
    changes = [
        Change(row=rows[4], event=Event.ALLOWED, values={"ready_at": 7}),
        Change(row=rows[0], event=Event.HELD, detail={"why": "people"}),
        Change(row=rows[2], event=Event.ALLOWED, values={"ready_at": 8}),
        Change(row=rows[1], event=Event.BLOCKED, values={"reason": "no"}),
    ]
    changed = transfers.advance(unit, changes, now=9)
    assert [(row.id, row.state, row.version, row.ready_at, row.reason, row.ended_from) for row in changed] == [
        ("xfr-5", "ready", 2, 7, None, None),
        ("xfr-1", "held", 2, None, None, None),
        ("xfr-3", "ready", 2, 8, None, None),
        ("xfr-2", "rejected", 2, None, "no", "requested"),
    ]
    assert transfers.get(unit, "xfr-4").state == "requested"
    noted = [
        (each.transfer_id, each.seq, each.event, each.at)
        for row in rows
        for each in transfers.transitions(unit, row.id)
    ]
    assert noted == [
        ("xfr-1", 1, "held", 9),
        ("xfr-2", 1, "blocked", 9),
        ("xfr-3", 1, "allowed", 9),
        ("xfr-5", 1, "allowed", 9),
    ]
    assert transfers.advance(unit, [], now=9) == []


def test_one_stale_row_among_many_is_noticed(unit: Unit) -> None:
    rows = [add(unit, number) for number in range(1, 5)]
    advance(unit, rows[2], Event.HELD, now=2)
    with pytest.raises(InvariantBroken, match="changed underneath"):
        transfers.advance(unit, [Change(row=row, event=Event.ALLOWED) for row in rows], now=3)
    with pytest.raises(InvariantBroken, match="names a row twice"):
        transfers.advance(unit, [Change(row=rows[3], event=Event.ALLOWED)] * 2, now=3)


def test_one_change_that_is_not_allowed_stops_all_before_anything_is_written(unit: Unit) -> None:
    rows = [add(unit, number) for number in range(1, 4)]
    with pytest.raises(IllegalTransition):
        transfers.advance(unit, [Change(row=rows[0], event=Event.HELD), Change(row=rows[1], event=Event.PAID)], now=2)
    assert [row.state for row in transfers.get_many(unit, ["xfr-1", "xfr-2", "xfr-3"])] == ["requested"] * 3


def test_many_are_read_in_the_order_asked_for_and_none_is_missing(unit: Unit) -> None:
    for number in range(1, 4):
        add(unit, number)
    assert [row.id for row in transfers.get_many(unit, ["xfr-3", "xfr-1"])] == ["xfr-3", "xfr-1"]
    assert transfers.get_many(unit, []) == []
    with pytest.raises(NotFound):
        transfers.get_many(unit, ["xfr-1", "xfr-4"])


def ready(unit: Unit, number: int, at: int, **values: Any) -> None:
    columns = {"initiator_id": "us-1", "asset": "native", "intent": {}, **values}
    row = transfers.add(
        unit,
        id=f"xfr-{number:02d}",
        external_id=f"order-{number}",
        intent_digest="00",
        wallet_id=columns.pop("wallet_id", "wa-1"),
        network="EthereumSepolia",
        kind="Native",
        recipient="0x" + "11" * 20,
        amount=1,
        request_body={},
        token_id="to-1",
        policy_set="00",
        requested_at=1,
        **columns,
    )
    advance(unit, row, Event.ALLOWED, now=at, ready_at=at)


def test_the_queues_of_a_wallet_are_found_one_after_the_other(unit: Unit) -> None:
    ready(unit, 1, 5, batch_id="bt-1")
    ready(unit, 2, 4)
    ready(unit, 3, 4, intent={"priority": "Slow"})
    ready(unit, 4, 3, asset="0x01", initiator_id="us-2")
    ready(unit, 5, 3, waiting_reason="it is early")
    ready(unit, 6, 3, route="queue")
    ready(unit, 7, 3, wallet_id="wa-2")
    found = transfers.queues(unit, "wa-1", waits=False, limit=9)
    assert [(each.asset, each.flow, each.level) for each in found] == [
        ("0x01", "us-2/", 1),
        ("native", "us-1/", 1),
        ("native", "us-1/", 2),
        ("native", "us-1/bt-1", 1),
    ]
    assert transfers.queues(unit, "wa-1", waits=False, limit=2) == found[:2]
    assert transfers.queues(unit, "wa-1", waits=False, after=found[1], limit=9) == found[2:]
    assert transfers.queues(unit, "wa-1", waits=True, limit=9) == [found[1]]


def test_a_queue_is_read_longest_ready_first_and_on_from_where_it_was_left(unit: Unit) -> None:
    for number, at in enumerate([7, 5, 5, 9, 6]):
        ready(unit, number, at)
    (queue,) = transfers.queues(unit, "wa-1", waits=False, limit=9)
    rows = transfers.queued(unit, "wa-1", queue, waits=False, limit=3)
    assert [row.id for row in rows] == ["xfr-01", "xfr-02", "xfr-04"]
    rest = transfers.queued(unit, "wa-1", queue, waits=False, after=(rows[-1].ready_at, rows[-1].id), limit=3)
    assert [row.id for row in rest] == ["xfr-00", "xfr-03"]
    assert transfers.queued(unit, "wa-1", queue, waits=True, limit=3) == []


def test_wallets_with_something_to_send_are_known_and_whether_it_waits(unit: Unit) -> None:
    for name in ("wa-1", "wa-2", "wa-3"):
        unit.execute(
            sa.insert(wallet).values(
                id=name, network="N", chain_id=1, address=name, key_id="k", public_key="", status="Active", created_at=1
            )
        )
    assert transfers.wallets_with_ready(unit) == {}
    ready(unit, 1, 5, wallet_id="wa-1", waiting_reason="it is early")
    ready(unit, 2, 5, wallet_id="wa-2", waiting_reason="it is early")
    ready(unit, 3, 5, wallet_id="wa-2")
    assert transfers.wallets_with_ready(unit) == {"wa-1": False, "wa-2": True}
