"""The same promises whether the signer is in this process or behind its socket: on a real organization's payouts."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from outlay.signer import Scope, Signed, SignerRefused, Why
from outlay.signer.client import SignerClient
from outlay.signer.local import LocalSigner
from tests.actions.world import Actor
from tests.signer.bank import Bank, bumped
from tests.signer_process.stub import Served


class Blocking:
    """An asynchronous signer, asked from a test that is not: each method runs in a loop of its own thread."""

    def __init__(self, make: Callable[[], Any]) -> None:
        """Make the signer inside the loop."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._signer = self.run(_call(make))

    def run(self, task: Any) -> Any:
        """Wait for a coroutine."""
        future: Future[Any] = asyncio.run_coroutine_threadsafe(task, self._loop)
        return future.result(60)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._signer, name)
        return lambda *args, **kwargs: self.run(method(*args, **kwargs))

    def end(self) -> None:
        """Stop the loop."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


async def _call(make: Callable[[], Any]) -> Any:
    return make()


@pytest.fixture(params=["local", "socket"])
def bank(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bank]:
    """Return a bank whose signer is asked directly, or over the socket."""
    made = Bank(tmp_path / "bank")
    local = LocalSigner(made.keys, made.journal, settings=made.settings, clock=made.world.clock)
    path = tmp_path / "signer.sock"
    signer = Blocking(lambda: local if request.param == "local" else SignerClient(path))
    served = Served(local, path)
    if request.param == "socket":
        signer.run(served.__aenter__())
    made.core = signer  # type: ignore[assignment]  # the same methods
    yield made
    if request.param == "socket":
        signer.close()
        signer.run(served.__aexit__())
    signer.end()
    made.close()


@pytest.fixture
def bot(bank: Bank) -> Actor:
    """Return who asks for payouts."""
    return bank.world.service_account("payouts bot")


@pytest.fixture
def wallet(bank: Bank) -> str:
    """Return a wallet."""
    return bank.wallet()


def pay(bank: Bank, bot: Actor, wallet: str, units: int = 77) -> str:
    """Ask for a payout and return its id."""
    return str(bank.world.pay(bot, wallet, units)["id"])


def test_a_batch_is_signed_and_asked_again_gives_the_same_bytes(bank: Bank, bot: Actor, wallet: str) -> None:
    transfers = [pay(bank, bot, wallet, units) for units in (5, 6, 7)]
    bank.push()
    requests = [bank.request(transfer, nonce=nonce) for nonce, transfer in enumerate(transfers)]

    first = bank.core.sign(requests)

    assert all(isinstance(each, Signed) for each in first)
    assert bank.core.sign(requests) == first
    assert bank.core.status().sequence == 3


def test_a_refusal_ends_its_wallet_and_says_why(bank: Bank, bot: Actor, wallet: str) -> None:
    other = bank.wallet()
    transfers = [pay(bank, bot, wallet), pay(bank, bot, wallet, 78), pay(bank, bot, other)]
    bank.push()
    requests = [bank.request(transfers[0], nonce=0, gas_limit=20_999)]
    requests += [bank.request(transfers[1], nonce=1), bank.request(transfers[2], nonce=0)]

    answers = bank.core.sign(requests)

    assert [each.why if isinstance(each, SignerRefused) else "signed" for each in answers] == [
        Why.INVALID,
        Why.AFTER_REFUSAL,
        "signed",
    ]


def test_records_that_were_not_sent_are_asked_for(bank: Bank, bot: Actor, wallet: str) -> None:
    transfer = pay(bank, bot, wallet)

    (answer,) = bank.core.sign([bank.request(transfer)])
    assert isinstance(answer, SignerRefused)
    assert answer.why == Why.BEHIND

    bank.sign(transfer)
    status = bank.core.status()
    assert len(bank.core.records(after=-1, limit=1000)) == status.record_seq + 1


def test_a_slot_comes_back_with_all_that_was_signed_for_it(bank: Bank, bot: Actor, wallet: str) -> None:
    transfer = pay(bank, bot, wallet)
    bank.push()
    request = bank.request(transfer, nonce=0)
    first, second = bank.core.sign([request]) + bank.core.sign([bumped(request)])

    (slot,) = bank.core.slots()

    assert (slot.wallet_id, slot.nonce, slot.transfer_id) == (wallet, 0, transfer)
    assert slot.demand == request.demand
    assert [Signed(raw=each.raw, hash=each.hash, sequence=each.sequence) for each in slot.attempts] == [first, second]
    assert bank.core.slots(after=1) == []
    # Whatever was signed since, also for a slot from before.
    assert bank.core.touched() == [slot, slot]
    assert bank.core.touched(limit=1) == bank.core.touched(after=1) == [slot]
    assert bank.core.touched(after=2) == []
    assert (slot.next_after(0), slot.next_after(1)) == (1, 2)


def test_a_freeze_lasts_and_is_told(bank: Bank, bot: Actor, wallet: str) -> None:
    transfer = pay(bank, bot, wallet)

    made = bank.core.freeze(Scope.WALLET, wallet, "drill")

    assert bank.core.freeze(Scope.WALLET, wallet, "again") == made
    assert bank.core.status().freezes == (made,)
    bank.refuse(transfer, Why.FROZEN)


def test_a_fence_is_raised_and_a_lower_one_refused(bank: Bank, bot: Actor, wallet: str) -> None:
    signed, unsigned = pay(bank, bot, wallet), pay(bank, bot, wallet, 78)
    bank.sign(signed)

    assert bank.core.journaled(wallet, 9, [signed, unsigned]) == {signed}
    with pytest.raises(SignerRefused) as caught:
        bank.core.journaled(wallet, 8, [])
    assert caught.value.why == Why.FENCED
    bank.refuse(unsigned, Why.FENCED)


def test_a_key_is_made_once(bank: Bank, wallet: str) -> None:
    assert bank.core.create_key(wallet) == bank.core.create_key(wallet)
    with pytest.raises(SignerRefused):
        bank.core.create_key("")
