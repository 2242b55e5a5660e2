"""Recurring payouts come back with what was lost, and no date is paid a second time."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from outlay.core.seams import DAY
from tests import mandated, recurrences
from tests.actions.world import DOLLAR
from tests.recovery.drill import FINAL_AFTER, Drill
from tests.recurrences import LANDLORD, document

LOSSES: dict[str, Callable[[Drill], None]] = {"older": Drill.put_back, "none": Drill.lose_database}
PAID = 7 * DOLLAR


@pytest.fixture
def drill(tmp_path: Path) -> Iterator[Drill]:
    opened = Drill(tmp_path)
    yield opened
    opened.close()


def go_on(drill: Drill, rounds: int) -> None:
    for _ in range(rounds):
        recurrences.follow(drill)
        drill.run_rounds(1)


def make(drill: Drill, wallet: str | None = None) -> str:
    recurrences.at(drill, "2027-01-20 12:00")
    return recurrences.create(drill, document(wallet or drill.paying, **{"from": "2027-01-21"}))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("rounds", [1, 2, 8 * FINAL_AFTER], ids=["sent", "mined", "final"])
def test_a_date_that_was_signed_is_known_again_and_not_paid_twice(drill: Drill, loss: str, rounds: int) -> None:
    drill.run_rounds(2 * FINAL_AFTER)
    made = make(drill)
    drill.run_rounds(2)
    drill.copy()
    recurrences.at(drill, "2027-01-21 09:00")
    go_on(drill, rounds)
    (before,) = recurrences.payouts(drill, made)
    assert before.signed_at is not None
    LOSSES[loss](drill)
    found = drill.recover()
    assert found.slots > 0
    go_on(drill, 8 * FINAL_AFTER)
    (after,) = recurrences.payouts(drill, made)
    kept = ("id", "external_id", "intent_digest", "mandate_id", "initiator_id", "amount", "recipient", "value")
    assert [getattr(after, name) for name in kept] == [getattr(before, name) for name in kept]
    assert recurrences.runs(drill, made)[-1] == ("2027-01-21", "Made", "confirmed")
    assert drill.received(LANDLORD) == PAID
    recurrences.go_to(drill, drill.clock.now() + DAY)
    go_on(drill, 8 * FINAL_AFTER)
    assert drill.received(LANDLORD) == 2 * PAID
    drill.check_books()
    drill.check_slots()
    assert drill.frozen() == []


def test_what_waited_in_an_older_copy_is_taken_back_and_told_of(drill: Drill) -> None:
    """Nobody asks for it once more, and a person may have paid it otherwise since."""
    hot, bot = drill.wallet(dollars=100), drill.service_account("payouts bot")
    drill.run_rounds(2 * FINAL_AFTER)
    made = make(drill, hot)
    recurrences.at(drill, "2027-01-21 09:00")
    assert recurrences.follow(drill) == 1
    drill.copy()
    mandated.freeze(drill, hot)
    drill.pay(bot, drill.paying, 5, to="0x" + "ab" * 20, external_id="later")
    drill.run_rounds(4)
    assert [row.state for row in recurrences.payouts(drill, made)] == ["ready"]
    drill.put_back()
    drill.recover()
    go_on(drill, 8 * FINAL_AFTER)
    assert recurrences.runs(drill, made) == [("2027-01-21", "Missed", "canceled")]
    assert "older copy" in recurrences.shown(drill, made)["items"][0]["reason"]
    assert drill.received(LANDLORD) == 0
    drill.check_books()


@pytest.mark.parametrize("loss", LOSSES)
def test_a_run_of_a_pool_stays_with_the_wallet_that_signed_it(drill: Drill, loss: str) -> None:
    for _ in range(2):
        drill.wallet("payroll", dollars=100)
    pool = drill.pool("payroll")
    drill.run_rounds(2 * FINAL_AFTER)
    drill.copy()
    recurrences.at(drill, "2027-01-20 12:00")
    made = recurrences.create(drill, document(poolId=pool, **{"from": "2027-01-21"}))
    recurrences.at(drill, "2027-01-21 09:00")
    go_on(drill, 2)
    (before,) = recurrences.payouts(drill, made)
    assert (before.pool_id, before.signed_at is None) == (pool, False)
    LOSSES[loss](drill)
    drill.recover()
    go_on(drill, 8 * FINAL_AFTER)
    (after,) = recurrences.payouts(drill, made)
    kept = ("id", "external_id", "intent_digest", "pool_id", "wallet_id")
    assert [getattr(after, name) for name in kept] == [getattr(before, name) for name in kept]
    assert (after.state, drill.received(LANDLORD)) == ("confirmed", PAID)
    drill.check_books()
