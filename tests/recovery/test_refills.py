"""Refills come back with what was lost, and are not sent a second time."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from outlay.core.seams import MINUTE
from tests import mandated
from tests.mandated import between, document
from tests.recovery.drill import FINAL_AFTER, Drill

LOSSES: dict[str, Callable[[Drill], None]] = {"older": Drill.put_back, "none": Drill.lose_database}
FILLED = 500 * 10**6


@pytest.fixture
def drill(tmp_path: Path) -> Iterator[Drill]:
    opened = Drill(tmp_path)
    yield opened
    opened.close()


def go_on(drill: Drill, rounds: int) -> None:
    for _ in range(rounds):
        mandated.fill(drill)
        drill.run_rounds(1)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("rounds", [1, 2, 8 * FINAL_AFTER], ids=["sent", "mined", "final"])
def test_a_refill_that_was_signed_is_known_again_and_no_other_goes(drill: Drill, loss: str, rounds: int) -> None:
    hot = drill.wallet(dollars=0)
    drill.run_rounds(2 * FINAL_AFTER)
    drill.copy()
    made = mandated.create(drill, document(**between(drill.paying, hot)))
    go_on(drill, rounds)
    (before,) = mandated.refills(drill, made)
    assert before.signed_at is not None
    LOSSES[loss](drill)
    found = drill.recover()
    assert (found.records, found.slots) > (0, 0)
    go_on(drill, 8 * FINAL_AFTER)
    (after,) = mandated.refills(drill, made)
    kept = ("id", "external_id", "intent_digest", "mandate_id", "initiator_id", "amount", "recipient", "value")
    assert [getattr(after, name) for name in kept] == [getattr(before, name) for name in kept]
    assert after.state == "confirmed"
    assert drill.received(mandated.address(drill, hot)) == FILLED
    drill.check_books()
    drill.check_slots()
    assert drill.frozen() == []


def test_a_refill_that_waited_in_an_older_copy_is_looked_at_again(drill: Drill) -> None:
    """Nobody will ask for it once more, and the wallet may have been filled since."""
    hot, bot = drill.wallet(dollars=0), drill.service_account("payouts bot")
    made = mandated.create(drill, document(**between(drill.paying, hot)))
    drill.run_rounds(2 * FINAL_AFTER)
    assert mandated.fill(drill) == 1
    drill.copy()
    mandated.freeze(drill, hot)
    drill.pay(bot, drill.paying, 5, to="0x" + "ab" * 20, external_id="later")
    drill.run_rounds(4)
    (waiting,) = mandated.refills(drill, made)
    assert (waiting.state, waiting.waiting_reason) == ("ready", "the wallet it fills is stopped: looked odd")
    drill.put_back()
    drill.recover()
    go_on(drill, 4)
    assert [row.state for row in mandated.refills(drill, made)] == ["canceled"]
    drill.clock.step(micros=16 * MINUTE)
    go_on(drill, 8 * FINAL_AFTER)
    assert [row.state for row in mandated.refills(drill, made)] == ["canceled", "confirmed"]
    assert drill.received(mandated.address(drill, hot)) == FILLED
    drill.check_books()
