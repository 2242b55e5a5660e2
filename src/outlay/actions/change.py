"""The one place where a transfer changes state: the row, its audit entry, its velocity entry and its event."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from outlay.actions import present
from outlay.actions.alarms import about_payout
from outlay.actions.work import Work
from outlay.core.transfer import ENDS, UNSIGNED, Event, State, wire_status
from outlay.store import approvals, transfers, velocity, waiting, wallets, webhooks
from outlay.store.database import Row, Unit
from outlay.store.transfers import Change

_EVENT_OF_STATUS = {"Rejected": "wallet.transfer.rejected", "Failed": "wallet.transfer.failed"}


def change(work: Work, row: Row, event: Event, *, detail: Mapping[str, Any] | None = None, **values: Any) -> Row:
    """Apply ``event`` to a transfer and return its new row.

    An end before any signature gives the velocity entry back; a final proof of no outflow corrects it.
    """
    return change_many(work, [Change(row=row, event=event, detail=detail, values=values)])[0]


def change_many(work: Work, changes: Sequence[Change]) -> list[Row]:
    """Do for many transfers at once what ``change`` does for one; return the new rows in the same order.

    No transfer may be named twice. Raises as ``transfers.advance`` does, and then nothing of the unit is to be kept.
    """
    changes = [_no_longer_waiting(each) for each in changes]
    waiting.forget(work.unit, [each.row.id for each in changes if each.row.wait_place is not None])
    for each in changes:
        if each.after in ENDS and each.after is not State.CONFIRMED:
            _return_velocity(work.unit, each)  # first: counters are locked before transfers
    rows = transfers.advance(work.unit, changes, now=work.now, actor=work.actor)
    told: list[tuple[str, Row]] = []
    for each, after in zip(changes, rows, strict=True):
        if each.after in ENDS:
            _close_approval(work, after)
        kind = _event_kind(each.event, State(each.row.state), each.after)
        if kind is not None:
            told.append((kind, after))
    documents = present.transfers_now(work.unit, [row for _, row in told], work.config)
    raised = [
        webhooks.Raised(kind=kind, subject=row.id, data={"transferRequest": document})
        for (kind, row), document in zip(told, documents, strict=True)
    ]
    raised += _moved(work, changes, rows)
    webhooks.emit_many(work.unit, raised, now=work.now, entropy=work.entropy)
    return rows


def _no_longer_waiting(change: Change) -> Change:
    """Return the change; whatever happens to a payout, after it it neither waits for room nor is late any more."""
    if change.row.delayed_at is not None:
        change = replace(change, values={"delayed_at": None, **change.values})
    if change.row.wait_place is None:
        return change
    return replace(change, values={"waiting_reason": None, "wait_place": None, "wait_until": None, **change.values})


def _moved(work: Work, changes: Sequence[Change], rows: Sequence[Row]) -> list[webhooks.Raised]:
    """Return what else is told: coins that left, finally, and blocks that are gone."""
    raised = [
        about_payout(work, "payout.reorged", row, **(each.detail or {}))
        for each, row in zip(changes, rows, strict=True)
        if each.event is Event.REORGED
    ]
    paid = [(row, each.detail) for each, row in zip(changes, rows, strict=True) if each.event is Event.PAID]
    if not paid:
        return raised
    payers = {row.id: row.address for row in wallets.find_many(work.unit, {row.wallet_id for row, _ in paid})}
    for row, proof in paid:
        assert proof is not None
        item = present.history_item(row, proof["height"], payers[row.wallet_id], work.config)
        # Of a subject of its own: the payout's own events are its states, one after the other.
        data, subject = {"blockchainEvent": {**item, "status": "Confirmed"}}, row.transaction_id
        raised.append(webhooks.Raised(kind="wallet.blockchainevent.detected", subject=subject, data=data))
    return raised


def _return_velocity(unit: Unit, change: Change) -> None:
    if change.event is Event.DISMISSED or velocity.find_entry(unit, change.row.id) is None:
        return  # what was dismissed did leave, or may have
    if State(change.row.state) in UNSIGNED:
        velocity.give_back(unit, change.row.id)
    else:
        velocity.correct(unit, change.row.id)


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
