"""The one place where a transfer changes state: the row, its audit entry, its velocity entry and its event."""

from collections.abc import Mapping
from typing import Any

from outlay.actions import present
from outlay.actions.work import Work
from outlay.core.transfer import ENDS, UNSIGNED, Event, State, next_state, wire_status
from outlay.store import approvals, transfers, velocity, webhooks
from outlay.store.database import Row, Unit

_EVENT_OF_STATUS = {"Rejected": "wallet.transfer.rejected", "Failed": "wallet.transfer.failed"}


def change(work: Work, row: Row, event: Event, *, detail: Mapping[str, Any] | None = None, **values: Any) -> Row:
    """Apply ``event`` to a transfer and return its new row.

    An end before any signature gives the velocity entry back; a final proof of no outflow corrects it.
    """
    before = State(row.state)
    state = next_state(before, event, transfer_id=row.id)
    if state in ENDS and state is not State.CONFIRMED:
        _return_velocity(work.unit, row.id, before)  # first: counters are locked before transfers
    after = transfers.advance(work.unit, row, event, now=work.now, detail=detail, **values)
    if state in ENDS:
        _close_approval(work, after)
    kind = _event_kind(event, before, state)
    if kind is not None:
        webhooks.emit(
            work.unit,
            kind=kind,
            subject=after.id,
            data={"transferRequest": present.transfer_now(work.unit, after, work.config)},
            now=work.now,
            entropy=work.entropy,
        )
    return after


def _return_velocity(unit: Unit, transfer_id: str, before: State) -> None:
    if velocity.find_entry(unit, transfer_id) is None:
        return
    if before in UNSIGNED:
        velocity.give_back(unit, transfer_id)
    else:
        velocity.correct(unit, transfer_id)


def _close_approval(work: Work, row: Row) -> None:
    """A transfer that ended otherwise leaves no vote open behind it."""
    if row.approval_id is None:
        return
    approval = approvals.find(work.unit, row.approval_id)
    if approval is not None and approval.status == "Pending":
        resolve_approval(work, approval, "Denied")


def resolve_approval(work: Work, approval: Row, status: str) -> None:
    """Close an approval as Approved, Denied or Expired, with its event."""
    approvals.update(work.unit, approval.id, status=status, updated_at=work.now, resolved_at=work.now)
    emit_approval(work, approval.id, "policy.approval.resolved")


def emit_approval(work: Work, approval_id: str, kind: str) -> None:
    """Tell subscribers about an approval as it stands."""
    row = approvals.find(work.unit, approval_id)
    assert row is not None
    webhooks.emit(
        work.unit,
        kind=kind,
        subject=approval_id,
        data={"approval": present.approval(work.unit, row, work.config)},
        now=work.now,
        entropy=work.entropy,
    )


def _event_kind(event: Event, before: State, after: State) -> str | None:
    if event is Event.SENT:
        return "wallet.transfer.broadcasted"
    if after is State.CONFIRMED:
        return "wallet.transfer.confirmed"
    if after in ENDS:
        return _EVENT_OF_STATUS[wire_status(after, ended_from=before)]
    return None
