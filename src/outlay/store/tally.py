"""What units have done, told once it is kept: where counters and traces get what they know.

A unit notes what it did; the database runner forgets the notes of what is rolled back and hands on the others after
the commit. So nothing is counted that did not happen, and counting happens outside every unit.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from outlay.core.seams import Instant
from outlay.core.transfer import Event, State

KEY = "outlay.tally"
"""Where a connection keeps the notes of the group that is being written."""

REQUESTED = "requested"
"""Stands for the event of a transfer that is new."""

DELIVERED, FAILED, PARKED = "delivered", "failed", "parked"
"""What became of an attempt to tell an endpoint."""

_SINCE: Mapping[Event, str] = {
    Event.ALLOWED: "requested_at",
    Event.BLOCKED: "requested_at",
    Event.DENIED: "requested_at",
    Event.ASSIGNED: "ready_at",
    Event.SIGNED: "ready_at",
    Event.SENT: "signed_at",
    Event.MINED: "broadcast_at",
    Event.PAID: "broadcast_at",
    Event.REVERTED: "broadcast_at",
    Event.VOIDED: "broadcast_at",
}
"""Event -> the column with the instant at which the stage began that it ends."""


class Moved(NamedTuple):
    """A transfer came to another state."""

    transfer_id: str
    event: str  #: a ``core.transfer.Event``, or ``REQUESTED``
    state: State  #: it is in now
    began: Instant | None  #: of the stage that ended by it; None: unknown, or there is none
    at: Instant


class Attempted(NamedTuple):
    """An endpoint was told of an event, or was not."""

    subject: str  #: id of what the event is about
    outcome: str
    began: Instant  #: when the event happened
    at: Instant


Note = Moved | Attempted
Listener = Callable[[Sequence[Note]], None]
"""Is given what was kept, on the event loop, in the order of the commits."""


def listening(unit: sa.Connection) -> list[Note] | None:
    """Return the list that notes go to, or None where nobody asks for them."""
    found: list[Note] | None = unit.info.get(KEY)
    return found


def note_new(unit: sa.Connection, rows: Iterable[Mapping[str, Any]], changes: Iterable[Mapping[str, Any]]) -> None:
    """Note transfers that were added, and the entries of what has happened to them so far."""
    notes = listening(unit)
    if notes is None:
        return
    began: dict[str, Instant] = {}
    for row in rows:
        began[row["id"]] = at = row["requested_at"]
        notes.append(Moved(row["id"], REQUESTED, State.REQUESTED, at, at))
    for each in changes:
        subject = each["transfer_id"]
        notes.append(Moved(subject, each["event"], State(each["to_state"]), began.get(subject), each["at"]))


def note_changes(unit: sa.Connection, changes: Iterable[tuple[Any, Event, State]], *, now: Instant) -> None:
    """Note changes of transfers: the row before, what happened, and the state after."""
    notes = listening(unit)
    if notes is None:
        return
    for row, event, after in changes:
        column = _SINCE.get(event)
        began = None if column is None else getattr(row, column, None)
        notes.append(Moved(row.id, event, after, began, now))


def note_attempts(unit: sa.Connection, attempts: Iterable[Attempted]) -> None:
    """Note what became of deliveries."""
    notes = listening(unit)
    if notes is not None:
        notes.extend(attempts)
