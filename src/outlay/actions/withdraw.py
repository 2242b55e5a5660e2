"""Taking a transfer back before a nonce is bound to it."""

from typing import Any

from outlay.actions import present
from outlay.actions.act import Act
from outlay.actions.change import change
from outlay.core.errors import NotFound, NotPermitted, PreconditionFailed
from outlay.core.transfer import Event, State
from outlay.store import transfers


def withdraw(act: Act, wallet_id: str, transfer_id: str) -> dict[str, Any]:
    """End a held or ready transfer at its initiator's wish.

    Raises:
        NotFound: no such transfer of this wallet. NotPermitted: somebody else asked for it.
        PreconditionFailed: it is on its way or has ended.
    """
    row = transfers.find(act.unit, transfer_id)
    if row is None or row.wallet_id != wallet_id:
        raise NotFound("no such transfer")
    if row.initiator_id != act.caller.user_id:
        raise NotPermitted("only who asked for a transfer can take it back; approvers deny it")
    if State(row.state) not in (State.HELD, State.READY):
        raise PreconditionFailed(f"this transfer is {row.state}: only one that is held or ready can be taken back")
    act.result_id = transfer_id
    after = change(act.work, row, Event.WITHDRAWN, reason="Taken back by its initiator.")
    return present.transfer(after, act.config)
