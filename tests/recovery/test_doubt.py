"""What was bound, or waited, in an older copy may have been withdrawn since: it is not paid before it is asked for."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from outlay.core.errors import SignerUnavailable
from outlay.engine.recover import Recover
from outlay.signer import Signed, SignerRefused, SignRequest
from outlay.store import recovery, transfers
from tests.actions.world import Actor
from tests.recovery.drill import Drill
from tests.recovery.test_restore import recipient

ORDER = recipient("order")


@pytest.fixture
def drill(tmp_path: Path) -> Iterator[Drill]:
    opened = Drill(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def bot(drill: Drill) -> Actor:
    return drill.service_account("payouts bot")


def copy_while_bound(drill: Drill, bot: Actor) -> str:
    """Copy the database while order-1 is bound and not signed; return its id."""
    assert drill.signer is not None
    drill.signer.is_gone = True
    made = drill.pay(bot, drill.paying, 6, to=ORDER, external_id="order-1")
    drill.run_rounds(1)
    assert drill.state_named("order-1") == "assigned"
    drill.copy()
    drill.signer.is_gone = False
    return str(made["id"])


def withdraw_bound(drill: Drill, bot: Actor, transfer_id: str) -> None:
    """Let order-1 go back to ready, because its identity is stopped, and be withdrawn."""
    assert drill.signer is not None
    frozen = drill.signer.core.freeze("identity", bot.user_id, "a drill")  # type: ignore[arg-type]
    drill.run_rounds(2)
    assert drill.state_named("order-1") == "ready"
    drill.withdraw(bot, transfer_id)
    drill.lift(frozen)
    drill.run_rounds(2)


def flag(drill: Drill, external_id: str) -> str | None:
    with drill.unit() as unit:
        row = transfers.find_by_external_id(unit, external_id)
    assert row is not None
    found: str | None = row.flag
    return found


def check_waits_until_asked(drill: Drill, bot: Actor, *, paid: int) -> None:
    """Order-1 is not paid although everything runs; once its program asks again, it is."""
    drill.run_rounds(20)
    assert (drill.state_named("order-1"), flag(drill, "order-1")) == ("ready", "restored")
    assert drill.received(ORDER) == paid * 10**6
    drill.pay(bot, drill.paying, 6, to=ORDER, external_id="order-1")
    drill.run_until(drill.all_confirmed)
    assert drill.received(ORDER) == (paid + 6) * 10**6
    assert flag(drill, "order-1") is None
    drill.run_rounds(8)
    drill.check_books()
    assert drill.frozen() == []


@pytest.mark.parametrize("after", [0, 1], ids=["its nonce was used", "and the next one"])
def test_what_was_bound_in_the_copy_and_withdrawn_since_is_not_paid(drill: Drill, bot: Actor, after: int) -> None:
    withdraw_bound(drill, bot, copy_while_bound(drill, bot))
    drill.pay(drill.second, drill.paying, 6, to=ORDER, external_id="order-1-again")
    if after:
        drill.pay(drill.second, drill.paying, 7, to=recipient("more"), external_id="more")
    del drill.paid["order-1"]
    drill.run_until(drill.all_confirmed)
    drill.put_back()
    drill.recover()
    check_waits_until_asked(drill, bot, paid=6)


@pytest.mark.parametrize("is_interrupted", [False, True])
def test_bindings_of_a_wallet_that_signed_nothing_since_are_taken_back(
    drill: Drill, bot: Actor, is_interrupted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = drill.wallet("payouts")
    drill.run_rounds(8)
    drill.pay(bot, drill.paying, 1, to=recipient("first"), external_id="first")
    drill.run_until(drill.all_confirmed)
    withdraw_bound(drill, bot, copy_while_bound(drill, bot))
    drill.pay(bot, other, 6, to=ORDER, external_id="order-1-again")
    del drill.paid["order-1"]
    drill.run_until(drill.all_confirmed)
    drill.put_back()
    if is_interrupted:

        async def die(_self: Recover, *_: object) -> None:
            raise KeyboardInterrupt

        for step in ("_take_back", "_readmit"):
            with monkeypatch.context() as killing:
                killing.setattr(Recover, step, die)
                with pytest.raises(KeyboardInterrupt):
                    drill.recover()
    drill.recover()
    with drill.unit() as unit:
        assert [row.nonce for row in recovery.slots(unit, drill.paying)] == [0]
    check_waits_until_asked(drill, bot, paid=6)


def test_what_was_bound_in_the_copy_and_signed_since_is_paid(drill: Drill, bot: Actor) -> None:
    copy_while_bound(drill, bot)
    drill.pay(bot, drill.paying, 7, to=recipient("later"), external_id="later")
    drill.run_until(drill.all_confirmed)
    drill.put_back()
    drill.recover()
    drill.run_until(drill.all_confirmed)
    assert drill.received(ORDER) == 6 * 10**6
    assert flag(drill, "order-1") is None


def test_records_of_later_are_enough_to_doubt_what_was_bound(drill: Drill, bot: Actor) -> None:
    """Nothing was signed since."""
    withdraw_bound(drill, bot, copy_while_bound(drill, bot))
    del drill.paid["order-1"]
    drill.put_back()
    assert drill.recover().records
    check_waits_until_asked(drill, bot, paid=0)


def test_a_copy_after_which_only_fees_were_raised_is_an_older_one(drill: Drill, bot: Actor) -> None:
    drill.pay(bot, drill.paying, 2, to=recipient("slow"), external_id="slow")
    drill.run_rounds(1, mine=False)
    assert drill.state_named("slow") == "broadcast"
    made = drill.pay(bot, drill.paying, 6, to=ORDER, external_id="order-1")
    drill.copy()
    drill.withdraw(bot, made["id"])
    del drill.paid["order-1"]
    drill.run_rounds(30, empty=True)
    assert drill.attempts() > 1
    drill.run_until(drill.all_confirmed)
    drill.put_back()
    drill.recover()
    check_waits_until_asked(drill, bot, paid=0)


@pytest.mark.parametrize("purpose", ["first", "bump"])
def test_what_a_crash_leaves_is_no_older_copy(
    drill: Drill, bot: Actor, purpose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal holds what was asked for; its answer was lost, so the tables hold the question only."""
    drill.pay(bot, drill.paying, 2, to=recipient("slow"), external_id="slow")
    if purpose == "bump":
        drill.run_rounds(1, mine=False)
    signer, before = drill.signer, drill.attempts()
    assert signer is not None

    async def sign(requests: Sequence[SignRequest]) -> list[Signed | SignerRefused]:
        signer.core.sign(requests)
        signer.is_gone = True
        raise SignerUnavailable("the signer does not answer")

    with monkeypatch.context() as losing:
        losing.setattr(signer, "sign", sign)
        drill.run_rounds(16, empty=True)
    signer.is_gone = False
    assert drill.attempts() > before
    drill.pay(bot, drill.paying, 6, to=ORDER, external_id="order-1")
    assert drill.recover().slots == 1
    assert (flag(drill, "slow"), flag(drill, "order-1")) == (None, None)
    drill.run_until(drill.all_confirmed)
    assert drill.received(ORDER) == 6 * 10**6
