"""The local signer: the core in a thread, one call at a time; no key shows anywhere."""

import asyncio
import logging
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from outlay.core import faultpoint
from outlay.core.errors import SignerUnavailable
from outlay.signer import Scope, Signed, SignerRefused, SignRequest
from outlay.signer.keys import MasterKey
from outlay.signer.local import LocalSigner
from tests.signer.bank import MASTER, Bank


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Bank]:
    """Return an organization with a signer."""
    made = Bank(tmp_path)
    yield made
    made.close()


@pytest.fixture
def signer(bank: Bank) -> LocalSigner:
    """Return the signer as the server has it."""
    made = LocalSigner(bank.keys, bank.journal, settings=bank.settings, clock=bank.world.clock)
    bank.core = made.core  # an open journal has one core
    return made


@pytest.fixture
def requests(bank: Bank) -> list[SignRequest]:
    """Return requests of eight payouts of one wallet, all at nonce 0."""
    bot, wallet = bank.world.service_account("payouts bot"), bank.wallet()
    made = [bank.request(bank.world.pay(bot, wallet, 5)["id"]) for _ in range(8)]
    bank.push()
    return made


@pytest.fixture
def hook() -> Iterator[Callable[[Callable[[str], None] | None], None]]:
    """Install a fault hook for one test."""
    yield faultpoint.install
    faultpoint.install(None)


async def test_every_method_reaches_the_core(bank: Bank, signer: LocalSigner, requests: list[SignRequest]) -> None:
    first = requests[0]
    key = await signer.create_key(first.wallet_id)
    assert key == bank.core.create_key(first.wallet_id)
    (answer,) = await signer.sign([first])
    assert isinstance(answer, Signed)
    assert await signer.journaled(first.wallet_id, 2, [str(first.transfer_id)]) == {first.transfer_id}
    assert [slot.nonce for slot in await signer.slots(after=0, limit=5)] == [0]
    assert await signer.records(after=0, limit=2) == bank.core.records(after=0, limit=2)
    texts = await signer.records(after=-1, limit=1000)
    assert (await signer.accept_records(texts)).record_seq == len(texts) - 1
    made = await signer.freeze(Scope.ALL, "", "a drill")
    assert (await signer.status()).freezes == (made,)


async def test_parallel_batches_give_a_slot_to_one_transfer(
    bank: Bank, signer: LocalSigner, requests: list[SignRequest]
) -> None:
    answers = [answer for (answer,) in await asyncio.gather(*(signer.sign([each]) for each in requests))]
    assert sum(isinstance(each, Signed) for each in answers) == 1
    assert {each.why for each in answers if isinstance(each, SignerRefused)} == {"conflict"}
    bank.journal.verify()


async def test_signing_does_not_block_the_loop(signer: LocalSigner, requests: list[SignRequest], hook: Any) -> None:
    loop_thread, threads, released = threading.current_thread(), [], threading.Event()

    def wait(label: str) -> None:
        threads.append(threading.current_thread())
        assert released.wait(10), label

    hook(wait)
    task = asyncio.ensure_future(signer.sign(requests[:1]))
    while not threads and not task.done():
        await asyncio.sleep(0.001)
    released.set()
    assert isinstance((await task)[0], Signed)
    assert threads
    assert loop_thread not in threads


async def test_no_private_key_reaches_text_logs_or_errors(
    bank: Bank, signer: LocalSigner, requests: list[SignRequest], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    answers = await signer.sign(requests)
    texts = [repr(signer), repr(bank.core), repr(bank.keys), repr(await signer.create_key("wa-new")), repr(answers)]
    for answer in answers:
        texts += traceback.format_exception(answer if isinstance(answer, Exception) else None)
    bank.journal._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(SignerUnavailable) as failed:
        await signer.sign(requests[1:])
    texts += [*traceback.format_exception(failed.value), caplog.text, repr(await signer.status())]
    texts += [file.read_bytes().hex() for file in bank.path.parent.glob("journal.db*")]
    shown = "\n".join(texts).lower()
    for index in range(2):
        secret: bytes = MasterKey(MASTER).wallet(index)._key.secret
        for spelling in (secret.hex(), str(int.from_bytes(secret, "big")), repr(secret).lower()):
            assert spelling not in shown
    assert MASTER.hex() not in shown
