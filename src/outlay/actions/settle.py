"""What the decisions about a transfer or a change come to, counted with the people and keys of now."""

from outlay.actions import changes
from outlay.actions.change import change, resolve_approval
from outlay.actions.judge import decided
from outlay.actions.work import Work
from outlay.core.transfer import Event, State
from outlay.store import approvals, transfers
from outlay.store.database import Row


def settle_open(work: Work, user_id: str) -> None:
    """Count again where a person has decided already: an identity that is switched on again counts again."""
    for approval in approvals.pending(work.unit):
        if any(each.user_id == user_id for each in approvals.decisions(work.unit, approval.id)):
            settle(work, approval, "Denied.")


def settle(work: Work, approval: Row, denied: str) -> None:
    """Let the transfer go, or reject it, once the decisions say so; the same of a change."""
    if approval.change_id is not None:
        changes.settle(work, approval, denied)
        return
    row = transfers.get(work.unit, approval.transfer_id)
    answer = decided(work.unit, approval, approval.groups)
    if answer == "Pending" or State(row.state) is not State.HELD:
        return
    resolve_approval(work, approval, answer)
    if answer == "Approved":
        change(work, row, Event.ALLOWED, resolved_at=work.now, ready_at=work.now, waiting_reason=None)
    else:
        change(work, row, Event.DENIED, resolved_at=work.now, reason=denied)
