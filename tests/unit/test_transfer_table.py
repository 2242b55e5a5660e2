"""The life of a transfer, checked against the design's table and for what must never be possible."""

import pytest

from outlay.core.errors import IllegalTransition, InvariantBroken
from outlay.core.transfer import (
    ENDS,
    IN_FLIGHT,
    TRANSITIONS,
    UNSIGNED,
    Event,
    State,
    next_state,
    wire_status,
)

# state      event              next
TABLE = """
requested    allowed            ready
requested    held               held
requested    blocked            rejected
held         held               held
held         blocked            rejected
held         allowed            ready
held         denied             rejected
held         withdrawn          canceled
held         timed_out          expired
ready        assigned           assigned
ready        held               held
ready        blocked            rejected
ready        never_executable   failed
ready        withdrawn          canceled
ready        timed_out          expired
assigned     signed             signed
assigned     released           ready
assigned     withdrawn          canceled
signed       sent               broadcast
broadcast    mined              mined
broadcast    voided             canceled
broadcast    superseded         failed
mined        paid               confirmed
mined        reverted           failed
mined        reorged            broadcast
mined        accepted           confirmed
mined        dismissed          failed
"""
EXPECTED = {(State(a), Event(b)): State(c) for a, b, c in (line.split() for line in TABLE.split("\n") if line)}
PAIRS = [(state, event) for state in State for event in Event]


def after(*starts: State) -> set[State]:
    """Return every state that some sequence of events leads to from ``starts``."""
    seen: set[State] = set()
    waiting = list(starts)
    while waiting:
        found = set(TRANSITIONS[waiting.pop()].values()) - seen
        seen |= found
        waiting += found
    return seen


@pytest.mark.parametrize(("state", "event"), PAIRS)
def test_every_state_and_event(state: State, event: Event) -> None:
    expected = EXPECTED.get((state, event))
    if expected is not None:
        assert next_state(state, event) == expected
        return
    with pytest.raises(IllegalTransition, match="transfer xfr-1 is") as stop:
        next_state(state, event, transfer_id="xfr-1")
    assert isinstance(stop.value, InvariantBroken)


def test_what_may_be_on_the_network_never_gets_a_second_transaction() -> None:
    """No path leads from a signature back to where a nonce is bound: the heart of paying once."""
    assert not after(State.SIGNED, State.BROADCAST, State.MINED) & UNSIGNED


def test_after_a_signature_nobody_can_reject_or_expire_it() -> None:
    assert after(State.SIGNED) & ENDS == {State.CONFIRMED, State.FAILED, State.CANCELED}


def test_canceling_after_a_signature_takes_a_final_void() -> None:
    ways = {(s, e) for (s, e), target in EXPECTED.items() if target == State.CANCELED and s not in UNSIGNED}

    assert ways == {(State.BROADCAST, Event.VOIDED)}


def test_payment_is_only_ever_seen_in_a_block() -> None:
    ways = {pair for pair, target in EXPECTED.items() if target == State.CONFIRMED}

    assert ways == {(State.MINED, Event.PAID), (State.MINED, Event.ACCEPTED)}


def test_ends_end() -> None:
    assert {State.CONFIRMED, State.FAILED, State.REJECTED, State.CANCELED, State.EXPIRED} == ENDS
    assert all(not after(end) for end in ENDS)


def test_every_state_is_reached_and_none_is_a_trap() -> None:
    assert after(State.REQUESTED) | {State.REQUESTED} == set(State)
    for state in set(State) - ENDS:
        assert State.CONFIRMED in after(state)


def test_every_event_happens_somewhere() -> None:
    assert {event for _, event in EXPECTED} == set(Event)


def test_the_named_groups_of_states() -> None:
    assert set(State) == UNSIGNED | IN_FLIGHT | ENDS
    assert {State.ASSIGNED} == UNSIGNED & IN_FLIGHT
    assert not (UNSIGNED | IN_FLIGHT) & ENDS


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (State.REQUESTED, "Pending"),
        (State.HELD, "Pending"),
        (State.READY, "Executing"),
        (State.ASSIGNED, "Executing"),
        (State.SIGNED, "Executing"),
        (State.BROADCAST, "Broadcasted"),
        (State.MINED, "Broadcasted"),
        (State.CONFIRMED, "Confirmed"),
        (State.FAILED, "Failed"),
    ],
)
def test_words_on_the_wire(state: State, word: str) -> None:
    assert wire_status(state) == word


@pytest.mark.parametrize("end", [State.REJECTED, State.CANCELED, State.EXPIRED])
@pytest.mark.parametrize(
    ("ended_from", "word"),
    [
        (State.REQUESTED, "Rejected"),
        (State.HELD, "Rejected"),
        (State.READY, "Failed"),
        (State.ASSIGNED, "Failed"),
        (State.BROADCAST, "Failed"),
        (None, "Rejected"),
    ],
)
def test_the_word_for_an_unpaid_end_says_whether_it_was_ever_allowed(
    end: State, ended_from: State | None, word: str
) -> None:
    assert wire_status(end, ended_from=ended_from) == word
