"""The one door for writes: a signed call, verified, carried out and spent in one unit.

The challenge's nonce is spent together with the effect, and an action's own refusal leaves nothing but the spent nonce
behind. A change that people have to agree to first becomes a change request instead.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from outlay.actions import changes
from outlay.actions.act import Act, SignedCall, verify
from outlay.actions.govern import NeedsApproval
from outlay.config import Config
from outlay.core.errors import Refused
from outlay.core.seams import DAY, Entropy, Instant
from outlay.store import evidence
from outlay.store.database import Unit, savepoint


@dataclass(frozen=True, slots=True)
class Outcome:
    """What ``perform`` kept: a result, or an action's own refusal (its nonce is spent)."""

    result: Any = None
    refusal: Refused | None = None
    is_waiting: bool = False  #: the result is a change request: nothing has changed yet


def perform(
    unit: Unit,
    *,
    now: Instant,
    entropy: Entropy,
    config: Config,
    claims: dict[str, Any],
    call: SignedCall,
    method: str,
    path: str,
    payload: Any,
    operations: Collection[str],
    action: Callable[[Act], Any],
) -> Outcome:
    """Verify a signed call and carry out its action, in one unit.

    Raises:
        NotAuthenticated, NotPermitted: nothing was done and the challenge is not spent.
    """
    act = verify(
        unit,
        now=now,
        entropy=entropy,
        config=config,
        claims=claims,
        call=call,
        method=method,
        path=path,
        payload=payload,
        operations=operations,
    )
    result, refusal, is_waiting = None, None, False
    try:
        try:
            with savepoint(unit):
                result = action(act)
                act.check_quorums()
        except NeedsApproval as held:
            with savepoint(unit):
                result, is_waiting = changes.request(act, held), True
    except Refused as error:
        refusal = error
    evidence.spend(
        unit,
        nonce=call.preimage.nonce,
        result_id=None if refusal else act.result_id,
        keep_until=call.preimage.expires + DAY,
    )
    return Outcome(result, refusal, is_waiting)
