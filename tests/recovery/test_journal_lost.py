"""The signer's journal is lost: nothing is signed before people put a new one in place, and nothing is paid twice."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from outlay.core.seams import HOUR
from tests.recovery.copies import copy_database
from tests.recovery.drill import FINAL_AFTER, Drill
from tests.recovery.test_restore import recipient


@pytest.fixture
def drill(tmp_path: Path) -> Iterator[Drill]:
    opened = Drill(tmp_path)
    yield opened
    opened.close()


def wait_for_caps(drill: Drill) -> None:
    """Let a window of the signer's caps pass."""
    windows = [each.window_s for each in drill.config.signer.caps]
    drill.clock.at += max(windows, default=0) * 1_000_000


def test_people_agree_before_anything_is_signed_and_nothing_is_paid_twice(drill: Drill) -> None:
    bot = drill.service_account("payouts bot")
    drill.guard_all()
    drill.pay(bot, drill.paying, 1, to=recipient("done"), external_id="done")
    drill.run_until(drill.all_confirmed)
    drill.pay(bot, drill.paying, 2, to=recipient("under way"), external_id="under-way")
    drill.run_rounds(1, mine=False)
    assert drill.state_named("under-way") == "broadcast"
    drill.pay(bot, drill.paying, 3, to=recipient("waiting"), external_id="waiting")
    drill.lose_journal()
    drill.recover()
    drill.run_rounds(3 * FINAL_AFTER)
    # What was sent before is followed to its end; what waits is not signed.
    assert drill.state_named("under-way") == "confirmed"
    assert drill.state_named("waiting") in ("ready", "assigned")
    assert drill.attempts() == 0
    waiting = drill.reseed()
    drill.run_rounds(2)
    assert drill.attempts() == 0, "one person alone has put it in place"
    drill.agree(waiting)
    wait_for_caps(drill)
    drill.run_rounds(2 * FINAL_AFTER)
    # Asked for before the journal was lost: it may have been signed then. It is asked for again under another id.
    assert drill.state_named("waiting") == "ready" and drill.received(recipient("waiting")) == 0
    drill.pay(bot, drill.paying, 4, to=recipient("anew"), external_id="anew")
    drill.run_until(lambda: drill.state_named("anew") == "confirmed")
    for name, dollars in (("done", 1), ("under way", 2), ("anew", 4)):
        assert drill.received(recipient(name)) == dollars * 10**6
    found = drill.pay_all_again({bot.user_id: bot})
    assert found == {name: drill.id_of(name) for name in drill.paid}
    drill.run_rounds(2 * FINAL_AFTER)
    assert drill.received(recipient("done")) == 10**6
    drill.check_books()
    assert drill.frozen() == []


def test_journal_and_an_older_database(drill: Drill) -> None:
    """Both lost: what the chain has counted is never signed again, and what was paid there is not taken for ours."""
    bot = drill.service_account("payouts bot")
    drill.pay(bot, drill.paying, 1, to=recipient("before"), external_id="before")
    drill.run_until(drill.all_confirmed)
    drill.copy()
    drill.pay(bot, drill.paying, 2, to=recipient("after"), external_id="after")
    drill.run_until(drill.all_confirmed)
    drill.put_back()
    drill.lose_journal()
    drill.recover()
    drill.run_rounds(2 * FINAL_AFTER)
    (reason,) = drill.frozen()
    assert "somebody else used this wallet's key" in reason
    drill.reseed()
    drill.run_rounds(2 * FINAL_AFTER)
    assert drill.attempts() == 0 and drill.received(recipient("after")) == 2 * 10**6


def test_no_database_and_an_older_journal(drill: Drill) -> None:
    """What neither knows may be paid again if it is asked for again: so the wallet stops, whatever the chain shows."""
    bot = drill.service_account("payouts bot")
    drill.pay(bot, drill.paying, 1, to=recipient("before"), external_id="before")
    drill.run_until(drill.all_confirmed)
    copy_database(drill.folder / "journal.db", drill.folder / "older journal.db")
    drill.pay(bot, drill.paying, 2, to=recipient("after"), external_id="after")
    drill.run_until(drill.all_confirmed)
    drill.lose_database()
    drill.put_back_journal("older journal.db")
    drill.recover()
    drill.run_rounds(2 * FINAL_AFTER)
    (reason,) = drill.frozen()
    assert "1 nonces are ours, 2 used" in reason


@pytest.mark.parametrize("hours", [0, 3])
def test_a_new_journal_is_good_for_what_is_asked_afterwards(drill: Drill, hours: int) -> None:
    bot = drill.service_account("payouts bot")
    for number in range(3):
        drill.pay(bot, drill.paying, 1 + number, to=recipient(f"payout {number}"), external_id=f"payout-{number}")
    drill.run_until(drill.all_confirmed)
    drill.lose_journal()
    drill.recover()
    drill.reseed()
    drill.clock.at += hours * HOUR
    wait_for_caps(drill)
    drill.pay(bot, drill.paying, 9, to=recipient("next"), external_id="next")
    drill.run_until(drill.all_confirmed)
    drill.run_rounds(2 * FINAL_AFTER)
    drill.check_books()
    # From here on the new journal is as good as the old one: an older database comes back from it.
    drill.copy()
    drill.pay(bot, drill.paying, 10, to=recipient("last"), external_id="last")
    drill.run_until(drill.all_confirmed)
    before = drill.id_of("last")
    drill.put_back()
    drill.recover()
    assert drill.pay_all_again({bot.user_id: bot})["last"] == before
    drill.run_until(drill.all_confirmed)
    assert drill.received(recipient("last")) == 10 * 10**6
