"""Events in the database: numbered within their subject, told to exactly those who subscribed, in order."""

import random

import pytest
import sqlalchemy as sa

from outlay.core.errors import InvariantBroken
from outlay.core.seams import Entropy
from outlay.store import deliveries, webhooks
from outlay.store.database import Unit
from outlay.store.schema import delivery, event
from outlay.store.webhooks import Raised


class Numbers(Entropy):
    """Random bytes that are the same in every run."""

    def __init__(self) -> None:
        self._source = random.Random(7)

    def token(self, size: int) -> bytes:
        return self._source.randbytes(size)


ENTROPY = Numbers()


def raised(kind: str, subject: str, number: int) -> Raised:
    return Raised(kind=kind, subject=subject, data={"number": number})


def stored(unit: Unit) -> list[tuple[str, int, int]]:
    rows = unit.execute(sa.select(event).order_by(event.c.seq))
    return [(row.subject, row.subject_seq, row.data["number"]) for row in rows]


def test_events_of_one_subject_are_numbered_within_a_batch_and_after_what_was_there(unit: Unit) -> None:
    webhooks.emit(unit, kind="wallet.created", subject="b", data={"number": 0}, now=1, entropy=ENTROPY)
    batch = [raised("wallet.created", subject, n) for n, subject in enumerate("abacab", start=1)]
    named = webhooks.emit_many(unit, batch, now=2, entropy=ENTROPY)
    expected = [("b", 1, 0), ("a", 1, 1), ("b", 2, 2), ("a", 2, 3), ("c", 1, 4), ("a", 3, 5), ("b", 3, 6)]
    assert stored(unit) == expected
    ids = list(unit.execute(sa.select(event.c.id).order_by(event.c.seq)).scalars())
    assert ids[1:] == named
    assert webhooks.emit_many(unit, [], now=3, entropy=ENTROPY) == []


def test_each_event_is_queued_for_its_subscribers(unit: Unit) -> None:
    def hook(*kinds: str, status: str = "Enabled") -> str:
        made = webhooks.create(unit, url="https://a", events=kinds, status=status, now=1, entropy=ENTROPY)
        return made.id

    every, wallets, off = hook("*"), hook("wallet.created"), hook("*", status="Disabled")
    batch = [raised("wallet.created", "a", 1), raised("wallet.transfer.confirmed", "b", 2)]
    first, second = webhooks.emit_many(unit, batch, now=5, entropy=ENTROPY)
    queued = {(row.webhook_id, row.event_id, row.kind) for row in unit.execute(sa.select(delivery))}
    assert queued == {
        (every, first, "wallet.created"),
        (wallets, first, "wallet.created"),
        (every, second, "wallet.transfer.confirmed"),
    }
    assert {row.due_at for row in unit.execute(sa.select(delivery))} == {5}
    assert deliveries.due(unit, off, now=9, limit=9) == (None, [])


def test_an_unknown_kind_among_many_records_none(unit: Unit) -> None:
    with pytest.raises(InvariantBroken, match="not an event we offer"):
        webhooks.emit_many(unit, [raised("wallet.created", "a", 1), raised("no.such", "a", 2)], now=1, entropy=ENTROPY)
    assert stored(unit) == []
