"""Transfers in the database: a change applies to the row that was read, or not at all."""

from typing import Any

import pytest

from outlay.core.errors import InvariantBroken
from outlay.core.transfer import Event
from outlay.store import transfers
from outlay.store.database import Unit


def add(unit: Unit) -> Any:
    return transfers.add(
        unit,
        id="xfr-1",
        external_id="order-1",
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


def test_what_is_added_is_what_is_read_back(unit: Unit) -> None:
    row = add(unit)
    assert row == transfers.get(unit, "xfr-1") == transfers.find_by_external_id(unit, "order-1")
    assert (row.state, row.version, row.amount, row.intent) == ("requested", 1, 2**255, {"amount": "5"})


def test_a_change_returns_the_row_as_it_is_then_and_notes_the_transition(unit: Unit) -> None:
    ready = transfers.advance(unit, add(unit), Event.ALLOWED, now=2, ready_at=2, detail={"why": "allowed"})
    assert ready == transfers.get(unit, "xfr-1")
    assert (ready.state, ready.version, ready.ready_at) == ("ready", 2, 2)
    (noted,) = transfers.transitions(unit, "xfr-1")
    assert (noted.seq, noted.from_state, noted.to_state, noted.detail) == (1, "requested", "ready", {"why": "allowed"})
    assert transfers.wallets_with_ready(unit) == {"wa-1": True}


def test_a_change_of_a_row_that_was_read_too_early_is_refused(unit: Unit) -> None:
    read = add(unit)
    held = transfers.advance(unit, read, Event.HELD, now=2)
    with pytest.raises(InvariantBroken, match="changed underneath"):
        transfers.advance(unit, read, Event.ALLOWED, now=3)
    # In the same state, but not the same reading of it.
    transfers.advance(unit, transfers.advance(unit, held, Event.ALLOWED, now=4), Event.HELD, now=5)
    with pytest.raises(InvariantBroken, match="changed underneath"):
        transfers.advance(unit, held, Event.ALLOWED, now=6)
    assert transfers.get(unit, "xfr-1").version == 4
    assert [each.seq for each in transfers.transitions(unit, "xfr-1")] == [1, 2, 3]
