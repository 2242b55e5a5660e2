"""Workers that race, die and come back: the rows are the only queue, and a nonce is given once."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest

from outlay.chains.fake import Mood, Way
from outlay.core import faultpoint
from outlay.engine.recover import Recover, Recovered
from outlay.signer import Signer
from outlay.store import lanes, stops
from tests.scenarios.stage import SEND, Stage

OpenStage = Callable[..., Stage]
STEPS = (
    "bind.after_commit",
    "signer.before_journal",
    "signer.after_journal",
    "store.before_commit",
    "store.after_commit",
    "send.after_send",
    "mark_sent.after_commit",
    "confirm.after_receipt",
    "confirm.before_commit",
    "confirm.after_commit",
)


class Killed(BaseException):
    """Nothing catches it: the worker is gone."""


@contextmanager
def killed_at(label: str) -> Iterator[None]:
    """Let whoever passes the point die there, once."""

    def hook(passed: str) -> None:
        if passed == label:
            faultpoint.install(None)
            raise Killed(label)

    faultpoint.install(hook)
    try:
        yield
    finally:
        faultpoint.install(None)


def test_two_workers_on_one_wallet_give_each_payout_one_nonce(stage: Stage) -> None:
    """Elsewhere a recovery read the nonce, then wrote it: one payout got two and was sent twice."""
    workers = [stage.worker]
    stage.start()
    workers.append(stage.worker)

    async def both(order: int) -> None:
        await asyncio.gather(*(worker.step() for worker in workers[::order]))

    asked, holders = [], set()
    for number in range(8):
        asked.append(stage.pay())
        stage.wait(31)  # leases run out and change hands
        for _ in range(3):
            stage.do(both(-1 if number % 2 else 1))
        holders.add(stage.holder())
    assert len(holders) == 2
    assert {stage.state(each) for each in asked} == {"broadcast"}
    slots = [stage.attempts(each) for each in asked]
    assert sorted(each[0].nonce for each in slots) == list(range(8))
    stage.mine(4)
    assert [stage.got(each) for each in asked] == [7] * 8


def test_a_worker_that_wakes_after_its_lease_writes_nothing(stage: Stage) -> None:
    sleeper = stage.worker
    stage.sent()
    stage.wait(40)
    stage.start()
    later = stage.sent()
    with stage.mood(Mood(way=Way.REQUEST_LOST)):
        stage.do(asyncio.wait_for(sleeper.step(), 1000))
    stage.mine(4)
    assert (stage.state(later), stage.got(later), stage.frozen()) == ("confirmed", 7, None)


@pytest.mark.parametrize("label", STEPS)
def test_a_worker_that_dies_anywhere_is_taken_over_from_the_rows(stage: Stage, label: str) -> None:
    paid = stage.pay()
    stage.network.automine = True
    with killed_at(label), pytest.raises(Killed):
        for _ in range(4):
            stage.run(1)
            stage.network.mine()
    stage.wait(40)  # its lease runs out
    stage.start()
    stage.run(2)
    stage.mine(4)
    assert (stage.state(paid), stage.got(paid)) == ("confirmed", 7)
    assert [each.nonce for each in stage.attempts(paid)] == [0]


def test_a_payout_that_was_noted_as_sent_and_was_not_is_sent(stage: Stage) -> None:
    """Elsewhere "sent" was written before the broadcast, and nothing ever looked at it again."""
    stage.node.plan = lambda methods: Mood(way=Way.NO_CONNECTION) if SEND in methods else Mood()
    paid = stage.sent()
    stage.node.plan = None
    stage.wait(40)
    stage.start()
    stage.run(2)
    stage.mine(3)
    assert (stage.state(paid), stage.got(paid)) == ("confirmed", 7)


def test_an_old_nonce_from_a_node_moves_no_lane_back(stage: Stage) -> None:
    paid = [stage.sent() for _ in range(3)]
    stage.mine(4)
    with stage.mood(Mood(lies={"eth_getTransactionCount": lambda _params, _honest: "0x0"})):
        stage.wait(60)
        stage.start()
        again = stage.sent()
    assert stage.attempts(again)[0].nonce == 3
    stage.mine(4)
    assert [stage.got(each) for each in (*paid, again)] == [7] * 4


def test_one_request_posted_again_and_again_is_one_payment(stage: Stage) -> None:
    """Elsewhere a page and a processor both paid, one payout up to ten times."""
    recipient = "0x" + "ab" * 20
    made = []
    for _ in range(10):
        made.append(stage.world.pay(stage.bot, stage.wallet, 0, to=recipient, units=7, external_id="the-same")["id"])
        stage.run(1)
        stage.network.mine()
    stage.run()
    assert len(set(made)) == 1
    assert (stage.state(made[0]), stage.balance(recipient)) == ("confirmed", 7)


def test_after_foreign_use_of_the_key_nothing_is_raised_or_sent(stage: Stage) -> None:
    """Elsewhere a dead transaction was bumped for ever after another program had used its nonce."""
    paid = stage.sent()
    stage.network.drop()
    stage.node.offer(stage.network.read(stage.foreign(0, to="0x" + "dd" * 20)))
    stage.mine(4, leave={stage.attempts(paid)[0].hash})
    assert stage.state(paid) == "broadcast", "nothing is concluded at once: nodes may disagree for a while"
    stage.run(40, every_s=30)
    assert "somebody else used this wallet's key" in str(stage.frozen())
    count = len(stage.attempts(paid))
    for _ in range(5):
        stage.mine()
        stage.wait(60)
    assert len(stage.attempts(paid)) == count
    assert stage.got(paid) == 0


# Another process takes the housekeeping over


class Counting:
    """The signer, and how many slots of its journal it told of."""

    def __init__(self, signer: Any) -> None:
        self._signer, self.told = signer, 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._signer, name)

        async def tell(**arguments: Any) -> Any:
            found = await real(**arguments)
            self.told += len(found)
            return found

        return tell if name in ("slots", "touched") else real


def take_over(stage: Stage) -> tuple[Recovered, int]:
    """Recover as who takes the housekeeping over does; tell also how many slots were read of the journal."""
    signer = Counting(stage.worker._signer)
    recover = Recover(stage.worker._db, cast(Signer, signer), stage.config, stage.clock, stage.world.entropy)
    return stage.do(recover.run()), signer.told


def lane_of(stage: Stage) -> Any:
    return stage.unit(lambda unit: lanes.find(unit, stage.wallet))


def test_a_take_over_reads_what_is_new_however_long_the_journal_is(stage: Stage) -> None:
    """Fees were raised for a payout, and the worker died before it stored that: all else is known."""
    for _ in range(12):
        stage.pay()
        stage.run()
        stage.mine(5)
    late = stage.sent()
    stage.speed_up(late)
    stage.wait(5)
    with killed_at("store.before_commit"), contextlib.suppress(Killed):
        stage.do(stage.worker.step())
    status = stage.signer.status()
    assert stage.unit(stops.mark)[1] == status.sequence - 1 == 13
    recovered, told = take_over(stage)
    # The one slot is told twice: to see whether a crash or an older copy leaves it so, and to take it up.
    assert (recovered.slots, told) == (1, 2)
    assert take_over(stage) == (Recovered(records=0, slots=0), 0)


def test_a_worker_that_lives_keeps_its_lane_when_another_takes_over(stage: Stage) -> None:
    """What is under way is its own work, unless the journal holds a slot that nobody here knows."""
    stage.sent()
    with killed_at("store.before_commit"), contextlib.suppress(Killed):
        stage.pay()
        stage.do(stage.worker.step())
    before = lane_of(stage)
    take_over(stage)
    assert (lane_of(stage).fence, lane_of(stage).holder) == (before.fence, before.holder)
    with killed_at("store.before_commit"), contextlib.suppress(Killed):
        stage.pay()
        stage.do(stage.worker.step())
    stage.wait(31)  # nobody holds it any more
    take_over(stage)
    assert lane_of(stage).fence > before.fence
    assert lane_of(stage).holder is None
