"""The one door for writes: a signed call, verified, carried out and spent in one unit; requests of payouts together.

The challenge's nonce is spent together with the effect, and an action's own refusal leaves nothing but the spent nonce
behind. A change that people have to agree to first becomes a change request instead.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from outlay.actions import changes
from outlay.actions.act import Act, SignedCall, verify
from outlay.actions.admit import Order, admit_many
from outlay.actions.govern import NeedsApproval
from outlay.actions.signed_message import SignedMessage
from outlay.actions.work import Work, open_work
from outlay.config import Config
from outlay.core.errors import OutlayError, Refused
from outlay.core.seams import DAY, Entropy, Instant
from outlay.store import evidence, organizations
from outlay.store.database import Unit, savepoint
from outlay.store.identities import Identities


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
    call: SignedCall | SignedMessage,
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
    if refusal is not None:
        act.result_id = None
    else:
        act.log_call(method, path, is_waiting=is_waiting)
    evidence.spend(unit, **_spent(act))
    return Outcome(result, refusal, is_waiting)


@dataclass(frozen=True, slots=True, kw_only=True)
class PayoutCall:
    """A signed call that asks for one payout."""

    claims: dict[str, Any]
    call: SignedCall | SignedMessage
    method: str
    path: str
    payload: Any
    operations: Collection[str]
    order: Callable[[Act], Order]  #: what it asks for, once it was verified; may refuse


def perform_payouts(
    unit: Unit, calls: Sequence[PayoutCall], *, now: Instant, entropy: Entropy, config: Config
) -> list[Outcome | Exception]:
    """Verify signed calls for payouts, admit them in their order and spend them, in one unit.

    Each is answered as ``perform`` would, had they come one after the other.

    Returns:
        for each call its outcome, or the error for which nothing was done and its challenge is not spent.
    """
    work = open_work(unit, now=now, entropy=entropy, config=config)
    answers: dict[int, Outcome | Exception] = {}
    waiting = dict(enumerate(calls))
    while waiting:
        # A second use of one challenge is judged by what became of the first.
        names: dict[str, int] = {}
        for place, each in waiting.items():
            names.setdefault(each.call.nonce, place)
        part = {place: waiting.pop(place) for place in names.values()}
        answers |= _perform_part(work, part)
    return [answers[place] for place in range(len(calls))]


def _perform_part(work: Work, calls: dict[int, PayoutCall]) -> dict[int, Outcome | Exception]:
    answers: dict[int, Outcome | Exception] = {}
    org, known = organizations.lock_shared(work.unit), Identities(work.unit)
    known.expect(
        tokens={str(each.claims.get("jti")) for each in calls.values() if each.claims},
        keys={each.call.credential_uuid for each in calls.values()},
        nonces={each.call.nonce for each in calls.values()},
    )
    acts: dict[int, Act] = {}
    orders: dict[int, Order] = {}
    for place, each in calls.items():
        try:
            acts[place] = verify(
                work.unit,
                now=work.now,
                entropy=work.entropy,
                config=work.config,
                claims=each.claims,
                call=each.call,
                method=each.method,
                path=each.path,
                payload=each.payload,
                operations=each.operations,
                org=org,
                known=known,
            )
        except OutlayError as error:
            answers[place] = error
            continue
        try:
            orders[place] = each.order(acts[place])
        except Refused as refused:
            answers[place] = Outcome(refusal=refused)
    for place, said in zip(orders, admit_many(work, list(orders.values())), strict=True):
        if isinstance(said, OutlayError):
            answers[place] = Outcome(refusal=said) if isinstance(said, Refused) else said
        elif isinstance(said[0], Refused):
            answers[place] = Outcome(refusal=said[0])
        else:
            acts[place].result_id = said[0]["id"]
            answers[place] = Outcome(said[0])
    evidence.spend_many(work.unit, [_spent(act) for place, act in acts.items() if isinstance(answers[place], Outcome)])
    return answers


def _spent(act: Act) -> dict[str, Any]:
    """Return what is kept of a challenge that was used."""
    return {
        "nonce": act.call.nonce,
        "result_id": act.result_id,
        "keep_until": act.call.preimage.expires + DAY,
    }
