"""Freezes, fences and the clock: what keeps evidence that is good from being signed."""

import dataclasses
from typing import Any

import pytest

from outlay.actions.act import Act
from outlay.core.errors import SignerRefused
from outlay.core.seams import SECOND
from outlay.evidence.canonical import canonical
from outlay.signer import Freeze, Scope, Signed, SignRequest, Why
from tests.actions.world import NETWORK, Actor
from tests.signer.bank import Bank, bumped


@pytest.fixture
def payout(bank: Bank, bot: Actor, wallet: str) -> str:
    """Return a payout that may go."""
    made: str = bank.world.pay(bot, wallet, 5)["id"]
    bank.push()
    return made


def lift(bank: Bank, freeze: Freeze, **changes: str) -> None:
    """Let the admin sign that something may go on."""
    stated = {"scope": freeze.scope.value, "subject": freeze.subject, "reason": "looked at it", **changes}
    freeze_id = stated.pop("freezeId", freeze.id)

    def record(act: Act) -> None:
        act.record("stop.lifted", act.org.id, {"freezeId": freeze_id, **stated})

    path = f"/v1/freezes/{freeze_id}/lift"
    bank.world.call(bank.world.admin, "PUT", path, stated, "Outlay:Unfreeze", record)


def sign(bank: Bank, request: SignRequest) -> Signed | SignerRefused:
    """Ask for one."""
    (answer,) = bank.core.sign([request])
    return answer


def why(bank: Bank, request: SignRequest) -> Why | None:
    """Ask for one and return why it was refused."""
    answer = sign(bank, request)
    return Why(answer.why) if isinstance(answer, SignerRefused) else None


# --- freezes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", list(Scope))
def test_a_freeze_stops_new_signatures_until_it_is_lifted(
    bank: Bank, bot: Actor, wallet: str, payout: str, scope: Scope
) -> None:
    subject = {Scope.ALL: "", Scope.WALLET: wallet, Scope.NETWORK: NETWORK, Scope.IDENTITY: bot.user_id}[scope]
    signed, fresh = bank.request(payout), bank.request(bank.world.pay(bot, wallet, 6)["id"], nonce=1)
    first = sign(bank, signed)
    made = bank.core.freeze(scope, subject, "a drill")
    for _ in range(2):
        assert why(bank, fresh) == Why.FROZEN
        assert why(bank, bumped(signed)) == Why.FROZEN
        assert sign(bank, signed) == first
        assert bank.core.status().freezes == (made,)
        bank.restart()
    void = bank.void(wallet, 0)
    assert isinstance(void, Signed) == (scope is Scope.IDENTITY)  # a void pays nobody, least of all who was stopped
    lift(bank, made)
    bank.push()
    assert bank.core.status().freezes == ()
    assert why(bank, fresh) is None
    bank.restart()
    assert bank.core.status().freezes == ()


def test_a_freeze_of_something_else_stops_nothing(bank: Bank, payout: str) -> None:
    bank.core.freeze(Scope.WALLET, bank.wallet(), "a drill")
    bank.core.freeze(Scope.IDENTITY, bank.world.admin.user_id, "a drill")
    assert why(bank, bank.request(payout)) is None


@pytest.mark.parametrize(
    ("scope", "subject"), [(Scope.WALLET, "wa-other"), (Scope.NETWORK, "Base"), (Scope.IDENTITY, "us-other")]
)
def test_what_there_is_not_cannot_be_believed_to_be_stopped(bank: Bank, scope: Scope, subject: str) -> None:
    bank.push()
    with pytest.raises(SignerRefused, match="there is no") as refused:
        bank.core.freeze(scope, subject, "a slip of the pen")
    assert refused.value.field == "subject"
    assert bank.core.status().freezes == ()


def test_a_freeze_again_is_the_same_and_after_lifting_another(bank: Bank, wallet: str) -> None:
    first = bank.core.freeze(Scope.WALLET, wallet, "a drill")
    assert bank.core.freeze(Scope.WALLET, wallet, "for another reason") == first
    lift(bank, first)
    bank.push()
    second = bank.core.freeze(Scope.WALLET, wallet, "a drill")
    assert second.id != first.id
    texts = [canonical(each).decode() for each in bank.records()]
    bank.core.accept_records(texts)  # the record that lifted the first comes again
    assert bank.core.status().freezes == (second,)


@pytest.mark.parametrize(
    "change",
    [{"scope": "network"}, {"subject": "wa-other"}, {"freezeId": "frz-other"}],
    ids=lambda change: next(iter(change)),
)
def test_a_record_that_names_something_else_lifts_nothing(bank: Bank, wallet: str, change: dict[str, str]) -> None:
    """A server could show one freeze and have the lifting of another signed."""
    made = bank.core.freeze(Scope.WALLET, wallet, "a drill")
    lift(bank, made, **change)
    bank.push()
    assert bank.core.status().freezes == (made,)


def test_a_lift_of_a_freeze_that_is_yet_to_come_lifts_nothing(bank: Bank, wallet: str) -> None:
    """Ids cannot be told in advance, and if they could: only records that come after the freeze are looked at."""
    made = bank.core.freeze(Scope.ALL, "", "a drill")
    bank.journal._connection.execute("DELETE FROM freeze")
    lift(bank, made)
    bank.restart()
    bank.push()
    bank.journal._connection.execute("INSERT INTO freeze VALUES (?, 'all', '', 'a drill', ?)", (made.id, made.at))
    bank.restart()
    bank.core.accept_records([])
    assert bank.core.status().freezes == (made,)


@pytest.mark.parametrize(
    ("scope", "subject", "reason"),
    [
        (Scope.ALL, "wa-1", "x"),
        (Scope.WALLET, "", "x"),
        (Scope.WALLET, "w\n", "x"),
        (Scope.IDENTITY, "x" * 129, "x"),
        (Scope.ALL, "", "x" * 1001),
        (Scope.ALL, "", None),
    ],
)
def test_a_freeze_has_a_shape(bank: Bank, scope: Scope, subject: str, reason: Any) -> None:
    with pytest.raises(SignerRefused):
        bank.core.freeze(scope, subject, reason)
    assert bank.core.status().freezes == ()


def test_freezes_are_in_the_chain_of_entries(bank: Bank, wallet: str) -> None:
    made = bank.core.freeze(Scope.WALLET, wallet, "a drill")
    lift(bank, made)
    bank.push()
    with bank.journal.reading() as rows:
        entries = rows.entries()
    assert [(each.kind, each.body["freezeId"]) for each in entries] == [("freeze", made.id), ("lifted", made.id)]
    assert bank.journal.verify() == entries[-1].hash


# --- fences --------------------------------------------------------------------------------------------------------


def test_only_the_newest_leader_of_a_lane_is_followed(bank: Bank, bot: Actor, wallet: str, payout: str) -> None:
    first = bank.request(payout, fence=7)
    second = bank.request(bank.world.pay(bot, wallet, 6)["id"], nonce=1, fence=6)
    bank.push()
    answer = sign(bank, first)
    assert why(bank, second) == Why.FENCED
    assert why(bank, dataclasses.replace(bumped(first), fence=6)) == Why.FENCED
    assert sign(bank, dataclasses.replace(first, fence=0)) == answer
    bank.restart()
    assert why(bank, second) == Why.FENCED
    assert why(bank, dataclasses.replace(second, fence=7)) is None


def test_a_fence_that_only_refusals_brought_is_kept(bank: Bank, payout: str) -> None:
    refused = bank.request(payout, fence=9, transfer_id=payout, demand=None)
    assert why(bank, refused) == Why.INVALID
    bank.restart()
    assert why(bank, bank.request(payout, fence=8)) == Why.FENCED


def test_a_fence_is_of_one_wallet(bank: Bank, bot: Actor, payout: str) -> None:
    other = bank.wallet()
    theirs = bank.world.pay(bot, other, 5)["id"]
    bank.push()
    assert why(bank, bank.request(payout, fence=9)) is None
    assert why(bank, bank.request(theirs, fence=1)) is None


def test_what_the_journal_does_not_hold_stays_unsigned(bank: Bank, bot: Actor, wallet: str, payout: str) -> None:
    """A worker that took a lane over asks what was signed; the one before it signs nothing more."""
    late = bank.world.pay(bot, wallet, 6)["id"]
    bank.push()
    old = [bank.request(payout, fence=3), bank.request(late, nonce=1, fence=3)]
    assert isinstance(sign(bank, old[0]), Signed)
    assert bank.core.journaled(wallet, 4, [payout, late, "xfr-none"]) == {payout}
    bank.restart()
    assert why(bank, old[1]) == Why.FENCED
    assert bank.core.journaled(wallet, 4, [payout, late]) == {payout}
    with pytest.raises(SignerRefused) as refused:
        bank.core.journaled(wallet, 3, [payout])
    assert refused.value.why == Why.FENCED
    assert why(bank, dataclasses.replace(old[1], fence=4)) is None


def test_no_single_call_uses_up_the_fences_of_a_wallet(bank: Bank, wallet: str, payout: str) -> None:
    """A fence is kept for ever, whoever named it: one of 2^53 - 1 would leave no higher one to any worker."""
    assert why(bank, bank.request(payout, fence=2**32 + 8)) == Why.INVALID
    with pytest.raises(SignerRefused, match="no lane is led") as refused:
        bank.core.journaled(wallet, 2**53 - 1, [])
    assert refused.value.field == "fence"
    assert why(bank, bank.request(payout, fence=7)) is None
    assert bank.core.journaled(wallet, 2**32 + 7, [payout]) == {payout}
    with pytest.raises(SignerRefused, match="another worker"):
        bank.core.journaled(wallet, 7, [])


@pytest.mark.parametrize("fence", [-1, True, 2**53, "1"])
def test_a_fence_is_a_number(bank: Bank, wallet: str, fence: Any) -> None:
    with pytest.raises(SignerRefused):
        bank.core.journaled(wallet, fence, [])
    with pytest.raises(SignerRefused):
        bank.core.journaled("wa-none", 1, [])


# --- the clock -----------------------------------------------------------------------------------------------------


def test_a_clock_that_was_set_back_signs_nothing_new(bank: Bank, bot: Actor, wallet: str, payout: str) -> None:
    signed, fresh = bank.request(payout), bank.request(bank.world.pay(bot, wallet, 6)["id"], nonce=1)
    first = sign(bank, signed)
    bank.world.clock.step(micros=-6 * SECOND)
    answer = sign(bank, fresh)
    assert isinstance(answer, SignerRefused)
    assert (answer.why, answer.field) == (Why.INVALID, "clock")
    assert why(bank, bumped(signed)) == Why.INVALID
    assert sign(bank, signed) == first
    bank.core.freeze(Scope.ALL, "", "stopping always works")
    bank.world.clock.step(micros=SECOND)
    made = bank.core.status().freezes[0]
    lift(bank, made)
    bank.push()
    assert why(bank, fresh) is None


def test_entries_never_go_back_in_time(bank: Bank, bot: Actor, wallet: str, payout: str) -> None:
    sign(bank, bank.request(payout))
    bank.world.clock.step(micros=-4 * SECOND)
    fresh = bank.request(bank.world.pay(bot, wallet, 6)["id"], nonce=1)
    assert why(bank, fresh) is None
    with bank.journal.reading() as rows:
        times = [each.at for each in rows.entries()]
    assert times == sorted(times)


@pytest.mark.parametrize(("minutes", "refused"), [(0, False), (7 * 1440, False), (7 * 1440 + 1, True)])
def test_a_request_has_an_age(bank: Bank, payout: str, minutes: int, refused: bool) -> None:
    request = bank.request(payout)
    bank.world.clock.step(minutes=minutes)
    assert why(bank, request) == (Why.EVIDENCE if refused else None)


def test_an_old_request_is_still_bumped_and_voided(bank: Bank, wallet: str, payout: str) -> None:
    request = bank.request(payout)
    assert why(bank, request) is None
    bank.world.clock.step(minutes=30 * 1440)
    assert why(bank, bumped(request)) is None
    assert isinstance(bank.void(wallet, 0), Signed)


@pytest.mark.parametrize(("minutes", "refused"), [(-9, False), (-11, True)])
def test_a_request_from_the_future_is_refused(bank: Bank, payout: str, minutes: int, refused: bool) -> None:
    request = bank.request(payout)
    bank.world.clock.step(minutes=minutes)
    assert why(bank, request) == (Why.EVIDENCE if refused else None)
