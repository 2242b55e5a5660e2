"""A transfer: one instruction to pay one recipient, and its life.

Every change of state goes through ``next_state`` and is listed in ``TRANSITIONS``. READY cannot be reached
from BROADCAST except when the slot was finally consumed without this transfer's effect: a transfer that may
be on the network is never given a second transaction. That is how nobody is paid twice.
"""

from collections.abc import Mapping
from enum import StrEnum

from outlay.core.errors import IllegalTransition


class State(StrEnum):
    """Where a transfer stands."""

    REQUESTED = "requested"  #: recorded; policies not yet evaluated
    HELD = "held"  #: waiting for people, or for room under a cap
    READY = "ready"  #: allowed; waiting for a chain slot
    ASSIGNED = "assigned"  #: bound to a nonce, funds reserved; nothing signed is known here
    SIGNED = "signed"  #: the signed bytes are stored; not yet sent
    BROADCAST = "broadcast"  #: a send was attempted, whatever the answer
    MINED = "mined"  #: in a block that may still be reorganised away
    CONFIRMED = "confirmed"  #: end: paid, finally and exactly
    FAILED = "failed"  #: end: finally proven that nothing was paid
    REJECTED = "rejected"  #: end: refused by a policy or a person
    CANCELED = "canceled"  #: end: withdrawn before payment
    EXPIRED = "expired"  #: end: a deadline passed before anything was signed


class Event(StrEnum):
    """What happened to a transfer."""

    ALLOWED = "allowed"  #: no policy holds it, or every quorum is met
    HELD = "held"  #: a policy asks people, or lets it wait for room
    BLOCKED = "blocked"  #: a policy or the default refuses it
    DENIED = "denied"  #: a person said no, or the approval ran out
    WITHDRAWN = "withdrawn"  #: its initiator took it back
    TIMED_OUT = "timed_out"  #: it waited in READY beyond the limit
    NEVER_EXECUTABLE = "never_executable"  #: asset or network removed, recipient refused; never signed
    ASSIGNED = "assigned"  #: a nonce was bound
    RELEASED = "released"  #: the binding was undone: the signer's journal proves nothing was signed
    SIGNED = "signed"  #: bytes stored
    SENT = "sent"  #: a send was attempted
    MINED = "mined"  #: a receipt was seen
    REORGED = "reorged"  #: the block is gone
    PAID = "paid"  #: final, with the exact effect
    REVERTED = "reverted"  #: final, executed without effect
    VOIDED = "voided"  #: a void took the slot, finally
    SUPERSEDED = "superseded"  #: something else took the slot, finally, without this transfer's effect
    ACCEPTED = "accepted"  #: final, with another effect than was asked for; a person calls it paid
    DISMISSED = "dismissed"  #: the same, and a person calls it not paid


_S, _E = State, Event
TRANSITIONS: Mapping[State, Mapping[Event, State]] = {
    _S.REQUESTED: {_E.ALLOWED: _S.READY, _E.HELD: _S.HELD, _E.BLOCKED: _S.REJECTED},
    _S.HELD: {
        _E.ALLOWED: _S.READY,
        _E.HELD: _S.HELD,
        _E.BLOCKED: _S.REJECTED,
        _E.DENIED: _S.REJECTED,
        _E.WITHDRAWN: _S.CANCELED,
        _E.TIMED_OUT: _S.EXPIRED,
    },
    _S.READY: {
        _E.ASSIGNED: _S.ASSIGNED,
        _E.HELD: _S.HELD,
        _E.BLOCKED: _S.REJECTED,
        _E.NEVER_EXECUTABLE: _S.FAILED,
        _E.WITHDRAWN: _S.CANCELED,
        _E.TIMED_OUT: _S.EXPIRED,
    },
    _S.ASSIGNED: {_E.SIGNED: _S.SIGNED, _E.RELEASED: _S.READY, _E.WITHDRAWN: _S.CANCELED},
    _S.SIGNED: {_E.SENT: _S.BROADCAST},
    _S.BROADCAST: {
        _E.MINED: _S.MINED,
        _E.VOIDED: _S.CANCELED,
        _E.SUPERSEDED: _S.FAILED,
    },
    _S.MINED: {
        _E.PAID: _S.CONFIRMED,
        _E.REVERTED: _S.FAILED,
        _E.REORGED: _S.BROADCAST,
        _E.ACCEPTED: _S.CONFIRMED,
        _E.DISMISSED: _S.FAILED,
    },
    _S.CONFIRMED: {},
    _S.FAILED: {},
    _S.REJECTED: {},
    _S.CANCELED: {},
    _S.EXPIRED: {},
}

MISMATCH = "effect_mismatch"
"""Flag of a payout that is final with another effect than was asked for; it stays once a person has resolved it."""

RESTORED = "restored"
"""Flag of a payout that was waiting in a copy of the database that was restored: it may have been withdrawn since, so
it goes only once it is asked for again."""

UNATTENDED = (_S.READY, _S.ASSIGNED, _S.SIGNED, _S.BROADCAST, _S.MINED)
"""The states that nobody has to decide in, in their order."""

ENDS = frozenset(state for state, exits in TRANSITIONS.items() if not exits)
UNSIGNED = frozenset({_S.REQUESTED, _S.HELD, _S.READY, _S.ASSIGNED})
IN_FLIGHT = frozenset({_S.ASSIGNED, _S.SIGNED, _S.BROADCAST, _S.MINED})

_WIRE: Mapping[State, str] = {
    _S.REQUESTED: "Pending",
    _S.HELD: "Pending",
    _S.READY: "Executing",
    _S.ASSIGNED: "Executing",
    _S.SIGNED: "Executing",
    _S.BROADCAST: "Broadcasted",
    _S.MINED: "Broadcasted",
    _S.CONFIRMED: "Confirmed",
    _S.FAILED: "Failed",
    _S.REJECTED: "Rejected",
}


def next_state(state: State, event: Event, *, transfer_id: str = "") -> State:
    """Return the state after ``event``.

    Raises:
        IllegalTransition: the state does not accept the event.
    """
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise IllegalTransition(f"transfer {transfer_id} is {state}: it cannot be {event}") from None


def wire_status(state: State, *, ended_from: State | None = None) -> str:
    """Return the contract's status word.

    Args:
        state: where the transfer stands.
        ended_from: for an ended transfer, the state it ended from. From requested or held it reads
            ``Rejected``; from ready or later ``Failed``, and the reason says which.
    """
    if state in (State.CONFIRMED, State.FAILED) or state not in ENDS:
        return _WIRE[state]
    return "Rejected" if ended_from in (None, State.REQUESTED, State.HELD) else "Failed"
