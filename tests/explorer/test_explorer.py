"""Every interleaving of the lane model: the rules hold, and without any of them something breaks."""

import pytest

from tests.explorer.explore import ALL, Found, explore
from tests.explorer.model import (
    BROKEN,
    CANCELED,
    CONFIRMED,
    FAILED,
    FIRST,
    INITIAL,
    LEADS,
    OPEN,
    SENT,
    A,
    Model,
    Slot,
    State,
    Worker,
)

ALONE = INITIAL._replace(ends=(OPEN, CANCELED))
"""A is the only payout: enough for most of what can go wrong, and far fewer states."""

_SENT = frozenset({(0, A, FIRST)})
REVERTED = ALONE._replace(
    slots=(Slot(A, SENT, ((FIRST, True),)),),
    fence=1,
    signer_fence=1,
    workers=(Worker(), Worker(1, LEADS)),
    journal=_SENT,
    known=_SENT,
    chain=((A, FIRST, False),),
)
"""A was sent and has just reverted, in a block that is not final."""


def search(*broken: str, faults: int, start: State = ALONE, only: str | None = None) -> Found:
    """Explore with rules broken, and print what was found."""
    checks = {name: check for name, check in ALL.items() if only in (None, name)}
    found = explore(model_of(*broken), checks, faults_max=faults, start=start)
    print(", ".join(broken) or "all rules", "-", found, *found.trace, sep="\n    ")
    return found


def model_of(*broken: str) -> Model:
    """Return the model with rules broken, as small as it can be for them."""
    return Model(frozenset(broken), late=any(rule.endswith("_old_fence") for rule in broken))


def check_all_rules(found: Found, *, at_least: int) -> None:
    """Check that nothing was found, and that enough was looked at."""
    assert (found.violation, found.trace) == (None, ())
    assert found.states >= at_least
    every_end = {(a, b) for a in (OPEN, CONFIRMED, FAILED, CANCELED) for b in (OPEN, CONFIRMED)}
    assert found.ends == every_end  # B is never failed or canceled, whatever happens to A


def test_the_rules_hold_with_any_three_faults() -> None:
    check_all_rules(search(faults=3, start=INITIAL), at_least=70_000)


def test_the_rules_hold_though_requests_reach_the_signer_late() -> None:
    found = explore(Model(late=True), faults_max=3, start=ALONE)
    print(found)
    assert (found.violation, found.trace) == (None, ())
    assert found.states > 10_000


@pytest.mark.long
def test_the_rules_hold_with_any_number_of_faults() -> None:
    found = explore(Model(notes_mined=True), faults_max=100)
    print(found)
    check_all_rules(found, at_least=200_000)


@pytest.mark.long
def test_the_rules_hold_for_two_payouts_though_requests_reach_the_signer_late() -> None:
    found = explore(Model(late=True), faults_max=3)
    print(found)
    check_all_rules(found, at_least=500_000)


FREE, LEFT = "signed, but free to be bound again", "left the signer, but is not in its journal"
CAUGHT: dict[str, tuple[int, str]] = {
    # rule broken: faults it takes, and the promise that breaks first
    "read_write": (0, "failed or canceled, but paid"),
    "timeout_fails": (0, FREE),
    "missing_dead": (1, FREE),
    "too_low_again": (0, FREE),
    "bump_new_nonce": (0, "two slots for one payout"),
    "first_receipt": (0, "confirmed, but not finally paid"),
    "late_save": (0, "sent, but not stored"),
    "no_signer_fence": (1, FREE),
    "no_database_fence": (1, FREE),
    "blind_release": (1, FREE),
    "release_old_fence": (1, FREE),
    "recovery_old_fence": (2, FREE),
    "cancel_bound": (0, FREE),
    "void_not_final": (1, "failed or canceled, but paid"),
    "revert_retry": (0, FREE),
    "one_null": (1, "failed or canceled, but paid"),
    "no_recovery": (1, FREE),
    "early_answer": (1, LEFT),
}


@pytest.mark.parametrize("rule", CAUGHT)
def test_a_broken_rule_is_caught(rule: str) -> None:
    faults, promise = CAUGHT[rule]
    found = search(rule, faults=faults)
    assert found.violation == promise
    # It takes every one of these faults: with fewer, the other rules are enough.
    assert not faults or explore(model_of(rule), faults_max=faults - 1, start=ALONE).violation is None


TWICE: dict[tuple[str, ...], tuple[int, State]] = {
    # rules broken together: faults, and where to begin
    ("read_write", "second_slot"): (1, ALONE),
    ("timeout_fails", "second_slot"): (0, ALONE),
    ("missing_dead", "second_slot"): (1, ALONE),
    ("too_low_again", "second_slot"): (0, ALONE),
    ("bump_new_nonce", "second_slot"): (0, ALONE),
    ("revert_retry", "second_slot"): (1, REVERTED),
    ("no_recovery", "second_slot", "shared_slot"): (1, INITIAL),
}


@pytest.mark.parametrize("rules", TWICE, ids=" ".join)
def test_rules_broken_together_pay_twice(rules: tuple[str, ...]) -> None:
    faults, start = TWICE[rules]
    assert search(*rules, faults=faults, start=start, only="paid twice").violation == "paid twice"


@pytest.mark.parametrize("rule", sorted(BROKEN.keys() - CAUGHT.keys()))
def test_some_rules_stand_behind_others(rule: str) -> None:
    found = search(rule, faults=2)
    assert found.violation is None


@pytest.mark.parametrize(
    ("rules", "promise"),
    [
        (("after_void", "signer_after_void"), "a payout attempt after a void"),
        (("shared_slot", "no_signer_fence", "late_save"), "failed or canceled, but paid"),
    ],
)
def test_and_break_with_them(rules: tuple[str, ...], promise: str) -> None:
    assert search(*rules, faults=1, only=promise).violation == promise
