"""Events about what people asked for in the place of a transfer that was sent: the contract's transactions."""

from collections.abc import Sequence

from outlay.actions import present
from outlay.actions.work import Work
from outlay.store import lanes, transfers, webhooks

_END = {"Confirmed": "wallet.transaction.confirmed", "Failed": "wallet.transaction.failed"}


def tell_replacements(work: Work, slot_ids: Sequence[str], kind: str | None, *, only: Sequence[str] = ()) -> None:
    """Tell of what people asked for in slots of transfers; what the engine adds by itself is nobody's request.

    Args:
        work: the unit.
        slot_ids: whose.
        kind: of the events; None: they have ended, and each says how.
        only: the attempts it is about; all, unless given.
    """
    asked = [each for each in lanes.asked(work.unit, slot_ids) if not only or each.id in only]
    if not asked:
        return
    known = lanes.attempts_of(work.unit, sorted({each.transaction_id for each in asked}))
    paid = transfers.find_many(work.unit, sorted({each.transfer_id for each in asked}))
    raised = []
    for each in asked:
        document = present.transaction(work.unit, paid[each.transfer_id], known[each.transaction_id], each)
        told = kind or _END.get(document["status"])
        if told is not None:
            raised.append(webhooks.Raised(kind=told, subject=each.id, data={"transactionRequest": document}))
    webhooks.emit_many(work.unit, raised, now=work.now, entropy=work.entropy)
