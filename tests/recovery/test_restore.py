"""An older database, or none at all: everything the signer knows comes back, and nothing is paid twice."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from outlay.core.errors import InvariantBroken
from outlay.engine import recover
from outlay.store import schema
from tests.actions.world import USDC, Actor
from tests.recovery.drill import FINAL_AFTER, Drill

NUMBER = {"confirmed": 1, "mined": 2, "broadcast": 3, "signed": 4, "assigned": 5, "ready": 6, "held": 200}
"""Dollars of the payout that is in each state when the copy is made; above 100 people are asked."""


@pytest.fixture
def drill(tmp_path: Path) -> Iterator[Drill]:
    opened = Drill(tmp_path)
    yield opened
    opened.close()


def recipient(name: str) -> str:
    return "0x" + name.encode().hex().rjust(40, "a")[-40:]


def in_each_state(drill: Drill, bot: Actor) -> None:
    """Have one payout in each state."""

    def pay(state: str) -> None:
        drill.pay(bot, drill.paying, NUMBER[state], to=recipient(state), external_id=state)

    pay("confirmed")
    drill.run_until(drill.all_confirmed)
    pay("mined")
    drill.run_rounds(1)
    pay("broadcast")
    drill.run_rounds(1, mine=False)
    pay("signed")
    drill.chain.is_mute = True
    drill.run_rounds(1, mine=False)
    pay("assigned")
    assert drill.signer is not None
    drill.signer.is_gone = True
    drill.run_rounds(1, mine=False)
    pay("ready")
    pay("held")
    assert {name: drill.state_named(name) for name in NUMBER} == {name: name for name in NUMBER}


def go_on(drill: Drill, bot: Actor) -> None:
    """Let everything end that was under way, some by a dearer attempt, and more happen."""
    assert drill.signer is not None
    drill.signer.is_gone = drill.chain.is_mute = False
    drill.vote_on("held", drill.first)
    drill.run_rounds(20, empty=True)  # nothing is mined: fees are raised
    assert drill.attempts() > len(drill.paid)
    drill.pay(bot, drill.paying, 7, to=recipient("later"), external_id="later")
    late = drill.person("late@approvers.example")
    drill.pay(late, drill.wallet("payouts"), 8, to=recipient("elsewhere"), external_id="elsewhere")
    drill.run_until(drill.all_confirmed)


def everybody(drill: Drill, bot: Actor) -> dict[str, Actor]:
    """Return who asked, with bearer tokens that are good now."""
    bot = replace(bot, claims=drill.tokens.get(bot.user_id, bot.claims))
    late = next(name for name in drill.known if name.startswith("late"))
    drill.admin, drill.first = drill.log_in(drill.admin), drill.log_in(drill.first)
    return {bot.user_id: bot, drill.known[late].user_id: drill.log_in(drill.known[late])}


def check_paid_once(drill: Drill) -> None:
    for name, each in drill.paid.items():
        assert drill.received(recipient(name)) == each["dollars"] * 10**6, name
    drill.run_rounds(2 * FINAL_AFTER)
    drill.check_books()
    assert drill.frozen() == []


LOSSES: dict[str, Callable[[Drill], None]] = {"older": Drill.put_back, "none": Drill.lose_database}


@pytest.mark.parametrize("loss", LOSSES)
def test_every_request_posted_again_is_the_payout_that_was_made(drill: Drill, loss: str) -> None:
    bot = drill.service_account("payouts bot")
    in_each_state(drill, bot)
    drill.copy()
    go_on(drill, bot)
    before = {name: drill.id_of(name) for name in drill.paid}
    LOSSES[loss](drill)
    found = drill.recover()
    assert found.slots and found.records
    assert set(drill.tokens) == ({bot.user_id} if loss == "none" else set())
    assert drill.pay_all_again(everybody(drill, bot)) == before
    drill.run_until(drill.all_confirmed)
    check_paid_once(drill)
    drill.verify_proofs()
    again = drill.recover()
    assert (again.records, again.slots) == (0, 0)


@pytest.mark.parametrize(
    ("loss", "point"),
    [
        ("older", "recover.after_slots"),
        ("none", "recover.after_records"),
        pytest.param("older", "recover.after_records", marks=pytest.mark.long),
        pytest.param("none", "recover.after_slots", marks=pytest.mark.long),
    ],
)
def test_recovery_that_is_interrupted_goes_on(
    drill: Drill, loss: str, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bot = drill.service_account("payouts bot")
    in_each_state(drill, bot)
    drill.copy()
    go_on(drill, bot)
    before = {name: drill.id_of(name) for name in drill.paid}
    LOSSES[loss](drill)
    monkeypatch.setattr(recover, "PAGE", 2)

    class Killed(Exception):
        pass

    def die(name: str) -> None:
        if name == point:
            raise Killed

    with monkeypatch.context() as killing:
        killing.setattr(recover, "fault", die)
        with pytest.raises(Killed):
            drill.recover()
    drill.recover()
    assert drill.pay_all_again(everybody(drill, bot)) == before
    drill.run_until(drill.all_confirmed)
    check_paid_once(drill)


def test_what_was_supposed_for_a_wallet_that_is_nearly_empty_is_taken_back(drill: Drill) -> None:
    """Each payout reserves its whole fee cap: after a loss that is more than the wallet ever held at once."""
    assert drill.signer is not None
    wallet_id = drill.wallet("payouts", dollars=0)
    address = drill.signer.core.create_key(wallet_id).address
    drill.give(address, 11 * 10**15, 10 * 10**6)
    drill.run_rounds(2 * FINAL_AFTER)
    for name, dollars in (("six", 6), ("four", 4)):
        drill.pay(drill.first, wallet_id, dollars, to=recipient(name), external_id=name)
        drill.run_until(drill.all_confirmed)
    drill.lose_database()
    drill.recover()
    drill.first = drill.log_in(drill.first)
    drill.pay_all_again({drill.first.user_id: drill.first})
    drill.run_until(drill.all_confirmed)
    check_paid_once(drill)
    assert drill.held(wallet_id, USDC) == 0 < drill.held(wallet_id) < 11 * 10**15


def test_what_was_admitted_after_the_copy_and_never_signed_is_asked_for_again(drill: Drill) -> None:
    bot = drill.service_account("payouts bot")
    drill.copy()
    drill.pay(bot, drill.paying, 200, to=recipient("held"), external_id="held")
    drill.put_back()
    drill.recover()
    assert drill.state_named("held") == "none"
    drill.pay_all_again({bot.user_id: bot})
    drill.vote_on("held", drill.first)
    drill.run_until(drill.all_confirmed)
    check_paid_once(drill)


def test_a_released_nonce_that_was_used_again_after_the_copy(drill: Drill) -> None:
    """The copy has a binding that was undone unsigned; the journal holds the nonce for another payout."""
    bot = drill.service_account("payouts bot")
    assert drill.signer is not None
    drill.signer.is_gone = True
    drill.pay(bot, drill.paying, 1, to=recipient("first"), external_id="first")
    drill.run_rounds(1)
    assert drill.state_named("first") == "assigned"
    drill.copy()
    drill.signer.is_gone = False
    frozen = drill.signer.core.freeze("identity", bot.user_id, "a drill")  # type: ignore[arg-type]
    drill.pay(drill.second, drill.paying, 2, to=recipient("second"), external_id="second")
    drill.run_until(lambda: drill.state_named("second") == "confirmed")
    assert drill.state_named("first") == "ready"
    drill.put_back()
    drill.recover()
    drill.lift(frozen)
    drill.pay_all_again({bot.user_id: bot, drill.second.user_id: drill.second})
    drill.run_until(drill.all_confirmed)
    check_paid_once(drill)


def test_fences_of_an_older_copy_are_raised(drill: Drill) -> None:
    bot = drill.service_account("payouts bot")
    drill.pay(bot, drill.paying, 1, to=recipient("first"), external_id="first")
    drill.run_until(drill.all_confirmed)
    drill.copy()
    for _ in range(5):
        drill.clock.step(minutes=2)
        drill.recover()  # as a worker that starts: it leases with the next fence
        drill.pay(bot, drill.paying, 1, to=recipient("first"))
        drill.run_until(drill.all_confirmed)
    drill.put_back()
    drill.recover()
    drill.pay(bot, drill.paying, 2, to=recipient("second"), external_id="second")
    drill.run_until(lambda: drill.state_named("second") == "confirmed")


def test_a_database_that_went_another_way_is_not_served(drill: Drill) -> None:
    drill.copy()
    drill.person("one.way@approvers.example")
    drill.run_rounds(1)
    drill.put_back()
    drill.person("another.way@approvers.example")
    drill.person("and.further@approvers.example")
    with pytest.raises(InvariantBroken, match="another one here than at the signer"):
        drill.recover()


def test_a_database_in_which_a_payout_ended_that_was_signed_stops_the_wallet(drill: Drill) -> None:
    bot = drill.service_account("payouts bot")
    drill.pay(bot, drill.paying, 200, to=recipient("held"), external_id="held")
    drill.copy()
    drill.vote_on("held", drill.first)
    drill.run_until(drill.all_confirmed)
    drill.put_back()
    with drill.unit() as unit:
        unit.execute(sa.update(schema.transfer).values(state="rejected"))
    drill.recover()
    (reason,) = drill.frozen()
    assert "is rejected here" in reason


def test_what_was_withdrawn_after_the_copy_waits_until_it_is_asked_for_again(drill: Drill) -> None:
    bot = drill.service_account("payouts bot")
    to = recipient("order")
    assert drill.signer is not None
    drill.signer.is_gone = True
    made = drill.pay(bot, drill.paying, 6, to=to, external_id="order-1")
    drill.copy()
    drill.withdraw(bot, made["id"])
    drill.signer.is_gone = False
    drill.pay(bot, drill.paying, 6, to=to, external_id="order-1-again")
    drill.run_until(lambda: drill.state_named("order-1-again") == "confirmed")
    drill.put_back()
    drill.recover()
    drill.run_rounds(20)
    assert (drill.state_named("order-1"), drill.state_named("order-1-again")) == ("ready", "confirmed")
    assert drill.network.head.state.tokens[USDC, to] == 6 * 10**6
    drill.pay(bot, drill.paying, 6, to=to, external_id="order-1")
    drill.run_until(drill.all_confirmed)
    assert drill.network.head.state.tokens[USDC, to] == 12 * 10**6, "its program asked for it once more"
