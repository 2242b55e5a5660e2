"""The order of sending: what has to be known, stored or asked before the next step, and what proves an end."""

from collections.abc import Callable
from typing import Any

import pytest

from outlay.actions import sending
from outlay.chains.fake import Manner, Mood, Way
from outlay.core import faultpoint
from outlay.core.errors import InvariantBroken, SignerRefused, SignerUnavailable
from outlay.core.fees import Offer
from outlay.engine import choosing
from outlay.signer import Scope, Signed, SignRequest, Why
from outlay.store import lanes, transfers, velocity
from tests.scenarios.stage import DOLLAR, RECEIPT, Stage

OpenStage = Callable[..., Stage]


# Stored, then sent


def test_nothing_is_sent_before_its_bytes_are_stored(stage: Stage) -> None:
    paid = stage.pay()
    seen: dict[str, int] = {}

    def look(label: str) -> None:
        seen.setdefault(label, len(list(stage.node.pool)))

    faultpoint.install(look)
    try:
        stage.run()
    finally:
        faultpoint.install(None)
    assert {label: seen[label] for label in ("store.before_commit", "store.after_commit", "send.after_send")} == {
        "store.before_commit": 0,
        "store.after_commit": 0,
        "send.after_send": 1,
    }
    assert stage.state(paid) == "broadcast"


def test_bytes_that_changed_in_the_database_are_not_sent(stage: Stage) -> None:
    paid = stage.sent()
    raw = stage.raw(paid)
    stage.network.drop()
    other = raw[:-1] + bytes([raw[-1] ^ 1])
    attempt_id = stage.attempts(paid)[0].id
    stage.unit(lambda unit: lanes.touch_attempt(unit, attempt_id, raw=other.hex()))
    stage.run(4)
    assert "are not those that were signed" in str(stage.frozen())
    assert list(stage.node.pool) == []


# What the signer says, and does not say


@pytest.mark.parametrize("has_signed", [True, False])
def test_without_an_answer_of_the_signer_nothing_is_released(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, has_signed: bool
) -> None:
    sign = stage.signer.sign

    def silent(requests: list[SignRequest]) -> Any:
        if has_signed:
            sign(requests)
        raise SignerUnavailable("no answer in time")

    paid = stage.pay()
    with monkeypatch.context() as patch:
        patch.setattr(stage.signer, "sign", silent)
        stage.run(3)
        assert stage.state(paid) == "assigned"
    stage.run(2)
    stage.mine(4)
    assert (stage.state(paid), stage.got(paid)) == ("confirmed", 7)
    assert "released" not in stage.history(paid)


def test_a_refused_payout_is_released_only_when_the_journal_does_not_hold_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer may be lost, and the request be refused when it is asked again: the journal is believed."""
    sign = stage.signer.sign
    answers: list[int] = []

    def contradict(requests: list[SignRequest]) -> list[Signed | SignerRefused]:
        answers.append(len(requests))
        signed = sign(requests)
        return signed if len(answers) > 1 else [SignerRefused("over a limit", why=Why.CAP) for _ in requests]

    paid = stage.pay()
    monkeypatch.setattr(stage.signer, "sign", contradict)
    stage.run(3)
    assert "released" not in stage.history(paid)
    stage.mine(4)
    assert (stage.state(paid), stage.got(paid)) == ("confirmed", 7)


def test_once_released_nobody_signs_for_the_worker_before(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch still on its way would be signed after its slot was given to somebody else."""
    paid = stage.pay()
    asked: list[SignRequest] = []

    def refuse(requests: list[SignRequest]) -> list[SignerRefused]:
        asked.extend(requests)
        return [SignerRefused("over a limit", why=Why.CAP) for _ in requests]

    with monkeypatch.context() as patch:
        patch.setattr(stage.signer, "sign", refuse)
        stage.run(1)
        assert (stage.state(paid), stage.row(paid).transaction_id) == ("ready", None)
    (answer,) = stage.signer.sign(asked[:1])
    assert isinstance(answer, SignerRefused) and answer.why == Why.FENCED


def test_a_slot_that_is_to_be_voided_takes_no_payment(stage: Stage) -> None:
    paid = stage.sent()
    stage.cancel(paid)
    stage.run()
    offer = Offer(gas_limit=21_000, max_fee_per_gas=10**12, max_priority_fee_per_gas=10**12)
    slot_id = stage.row(paid).transaction_id
    with stage.world.work() as work:
        slot = lanes.find_transaction(work.unit, slot_id)
        assert slot is not None
        with pytest.raises(InvariantBroken, match="pays nobody"):
            sending.add_attempt(work, slot, purpose=sending.PAYOUT, offer=offer, legacy=False)


# What proves an end


@pytest.mark.parametrize("native", [True, False])
def test_a_void_is_no_payment(stage: Stage, native: bool) -> None:
    paid = stage.sent(native=native)
    stage.cancel(paid)
    stage.run()
    stage.mine(4, leave={stage.attempts(paid)[0].hash})
    assert (stage.state(paid), stage.got(paid)) == ("canceled", 0)
    entry = stage.unit(lambda unit: velocity.find_entry(unit, paid))
    assert entry is not None and entry.state == "corrected", "what was not paid leaves its windows"


@pytest.mark.parametrize("manner", [Manner.FALSE, Manner.SILENT, Manner.FEE])
def test_a_token_that_says_something_else_confirms_nothing(stage: Stage, manner: Manner) -> None:
    paid = stage.sent(units=1000)
    stage.token.manner = manner
    stage.network.mine(4)
    stage.run()
    assert stage.state(paid) == "mined"
    assert stage.row(paid).flag == "effect_mismatch"
    assert "had another effect than asked" in str(stage.frozen())
    # What it really did is for a person to say: nothing about it can be compared.
    stage.recipients.pop(paid)


def test_a_receipt_of_another_block_ends_nothing(stage: Stage) -> None:
    paid = stage.sent()

    def elsewhere(_params: Any, honest: Any) -> Any:
        return honest and {**honest, "blockHash": "0x" + "77" * 32}

    with stage.mood(Mood(lies={RECEIPT: elsewhere})):
        stage.mine(6)
        assert stage.state(paid) == "mined"
    stage.run()
    assert stage.state(paid) == "confirmed"


def test_with_one_node_of_two_nothing_ends(open_stage: OpenStage) -> None:
    stage = open_stage(nodes=2)
    paid = stage.sent()
    with stage.mood(Mood(), Mood(way=Way.NO_CONNECTION)):
        stage.mine(6)
        assert stage.state(paid) == "broadcast"
    stage.wait(60)
    stage.run()
    assert (stage.state(paid), stage.got(paid)) == ("confirmed", 7)


def test_a_transaction_that_nobody_asked_for_stops_the_wallet(stage: Stage) -> None:
    paid = stage.sent()
    stage.mine(4)
    assert stage.state(paid) == "confirmed"
    stage.node.offer(stage.network.read(stage.foreign(1, to="0x" + "dd" * 20, value=0)))
    stage.mine(4)
    assert "somebody else used this wallet's key: 1 nonces are ours, 2 used" in str(stage.frozen())


def test_missing_money_stops_the_wallet(stage: Stage) -> None:
    with stage.mood(Mood(lies={"eth_getBalance": lambda _params, honest: hex(int(honest, 16) - 1)})):
        stage.mine(4)
    assert "the ledger" in str(stage.frozen())


# Whose turn it is


def test_what_one_identity_may_not_send_hides_nothing_of_another(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much of it there is, and however long it has been there."""
    monkeypatch.setattr(choosing, "LOOK_AHEAD", 4)
    stopped = [stage.pay() for _ in range(10)]
    stage.signer.freeze(Scope.IDENTITY, stage.bot.user_id, "a drill")
    stage.run(4)
    stage.bot = stage.world.service_account("another bot")
    late = stage.pay()
    stage.run(2)
    assert stage.state(late) == "broadcast"
    assert {stage.state(each) for each in stopped} == {"ready"}


def test_what_waits_for_one_recipient_does_not_hide_what_waits_for_money(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of a queue may wait for ever; those behind them are looked at in turn."""
    monkeypatch.setattr(choosing, "LOOK_AHEAD", 4)
    stuck = [stage.pay() for _ in range(9)]
    restored = [{"of_id": each, "flag": "restored"} for each in stuck]
    stage.unit(lambda unit: transfers.annotate_many(unit, restored))
    short = stage.pay(20_000 * DOLLAR)
    stage.run(4)
    assert stage.row(short).waiting_reason.startswith("the wallet needs 20000000000 base units of USDC")
    stage.network.give(stage.address(), 20_000 * DOLLAR, stage.token)
    stage.network.mine(3)
    stage.run(8)
    assert stage.state(short) == "broadcast"
    assert {stage.state(each) for each in stuck} == {"ready"}


def test_a_long_queue_of_one_initiator_delays_no_other(open_stage: OpenStage) -> None:
    stage = open_stage(in_flight=2)
    many = [stage.pay() for _ in range(12)]
    stage.bot = stage.world.service_account("another bot")
    stage.wait(60)
    single = stage.pay()
    stage.run()
    stage.mine(4)
    assert stage.state(single) in ("mined", "confirmed"), "it shares the lane with whoever was there before"
    assert sum(stage.state(each) == "ready" for each in many) >= 5
