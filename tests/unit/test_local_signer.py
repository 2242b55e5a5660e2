"""The local signer: what it signs, what it refuses, and that the journal always comes first."""

import asyncio
import dataclasses
import logging
import sqlite3
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import encode as abi_encode
from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_utils.crypto import keccak
from hexbytes import HexBytes

from outlay.core import faultpoint
from outlay.core.errors import InvariantBroken, SignerRefused, SignerUnavailable
from outlay.core.ids import KEY, is_id
from outlay.core.intent import Intent
from outlay.evidence.canonical import digest
from outlay.signer import Signed, SignRequest
from outlay.signer.journal import Journal
from outlay.signer.keys import MasterKey, SigningKey
from outlay.signer.keystore import Keystore
from outlay.signer.local import LocalSigner

MASTER = bytes(range(64))
ROOT, NOW = "a" * 64, 1_700_000_000_000_000
RECIPIENT, TOKEN = "0x" + "0c" * 20, "0x" + "aa" * 20
PAYER = MasterKey(MASTER).wallet(0).address


class StoppedClock:
    """A clock that stands still."""

    def now(self) -> int:
        """Return the same instant for ever."""
        return NOW


class Bench:
    """A signer with its parts at hand; ``restart`` is what a new process would see."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "journal.sqlite"
        self.keystore = Keystore("ks", MASTER)
        self.journal = Journal.create(self.path, root=ROOT, keystore_id="ks")
        self.signer = self._signer()

    def _signer(self) -> LocalSigner:
        networks = {"EthereumSepolia": 31337, "Base": 8453}
        return LocalSigner(self.keystore, self.journal, networks=networks, clock=StoppedClock())

    def restart(self) -> None:
        """Forget everything but the files."""
        self.journal.close()
        self.journal = Journal.open(self.path, root=ROOT, keystore_id="ks")
        self.signer = self._signer()

    async def sign_one(self, request: SignRequest) -> Signed | SignerRefused:
        """Sign one request."""
        (answer,) = await self.signer.sign([request])
        return answer

    async def refusal(self, request: SignRequest) -> SignerRefused:
        """Sign one request and return the refusal."""
        answer = await self.sign_one(request)
        assert isinstance(answer, SignerRefused), answer
        return answer


@pytest.fixture
async def bench(tmp_path: Path) -> Bench:
    """Return a signer with the keys of two wallets."""
    bench = Bench(tmp_path)
    await bench.signer.create_key("wa-1")
    await bench.signer.create_key("wa-2")
    return bench


def intent(**changes: Any) -> dict[str, Any]:
    """Return a native payment of 5 base units with some members changed."""
    members: dict[str, Any] = {
        "org": "or-1",
        "external_id": "order 1",
        "initiator": "us-1",
        "wallet": "wa-1",
        "network": "EthereumSepolia",
        "chain_id": 31337,
        "asset": "native",
        "recipient": RECIPIENT,
        "amount": "5",
        "memo": "",
        "priority": "Standard",
    }
    names = {key: value for key, value in changes.items() if key in members}
    document = Intent(**{**members, **names}).document()
    return {**document, **{key: value for key, value in changes.items() if key not in members}}


def request(**changes: Any) -> SignRequest:
    """Return a good request with some members changed."""
    members: dict[str, Any] = {
        "intent": intent(),
        "transfer_id": "xfr-1",
        "wallet_id": "wa-1",
        "nonce": 0,
        "gas_limit": 21_000,
        "max_fee_per_gas": 100,
        "max_priority_fee_per_gas": 10,
        "fee_cap": 21_000 * 200,
        **changes,
    }
    return SignRequest(**members)


def read_back(answer: Signed | SignerRefused) -> dict[str, Any]:
    """Return the transaction as eth-account reads it."""
    assert isinstance(answer, Signed), answer
    fields: dict[str, Any] = TypedTransaction.from_bytes(HexBytes(answer.raw)).as_dict()
    return fields


async def test_a_native_payment_is_what_the_intent_says(bench: Bench) -> None:
    answer = await bench.sign_one(request(nonce=7))
    fields = read_back(answer)
    assert isinstance(answer, Signed)
    assert {name: fields[name] for name in ("chainId", "nonce", "value", "gas", "maxFeePerGas")} == {
        "chainId": 31337,
        "nonce": 7,
        "value": 5,
        "gas": 21_000,
        "maxFeePerGas": 100,
    }
    assert (fields["maxPriorityFeePerGas"], bytes(fields["data"]), list(fields["accessList"])) == (10, b"", [])
    assert "0x" + bytes(fields["to"]).hex() == RECIPIENT
    assert Account.recover_transaction(answer.raw).lower() == PAYER
    assert answer.hash == "0x" + keccak(answer.raw).hex()


async def test_a_token_payment_calls_transfer_on_the_token(bench: Bench) -> None:
    largest = 2**256 - 1
    fields = read_back(await bench.sign_one(request(intent=intent(asset=TOKEN, amount=str(largest)))))
    assert "0x" + bytes(fields["to"]).hex() == TOKEN
    assert fields["value"] == 0
    expected = keccak(text="transfer(address,uint256)")[:4]
    expected += abi_encode(["address", "uint256"], [RECIPIENT, largest])
    assert bytes(fields["data"]) == expected


async def test_the_same_request_gives_the_same_bytes_even_after_a_restart(bench: Bench) -> None:
    first = await bench.sign_one(request())
    assert await bench.sign_one(request()) == first
    bench.restart()
    assert await bench.sign_one(request()) == first
    assert len(bench.journal.entries()) == 1


async def test_the_journal_keeps_enough_to_build_the_transaction_again(bench: Bench) -> None:
    first = await bench.sign_one(request())
    (entry,) = bench.journal.entries()
    assert (entry.transfer_id, entry.external_id, entry.wallet_id, entry.nonce) == ("xfr-1", "order 1", "wa-1", 0)
    assert entry.intent_digest == digest(intent())
    assert entry.at == NOW
    again = request(
        intent=entry.fields["intent"],
        gas_limit=int(entry.fields["gasLimit"]),
        max_fee_per_gas=int(entry.fields["maxFeePerGas"]),
        max_priority_fee_per_gas=int(entry.fields["maxPriorityFeePerGas"]),
        fee_cap=int(entry.fields["feeCap"]),
    )
    assert await bench.sign_one(again) == first


async def test_a_fee_bump_keeps_nonce_and_payment(bench: Bench) -> None:
    first = read_back(await bench.sign_one(request()))
    second = read_back(await bench.sign_one(request(max_fee_per_gas=113, max_priority_fee_per_gas=12)))
    fees = ("maxFeePerGas", "maxPriorityFeePerGas", "v", "r", "s")
    assert {k: v for k, v in first.items() if k not in fees} == {k: v for k, v in second.items() if k not in fees}
    assert (second["maxFeePerGas"], second["maxPriorityFeePerGas"]) == (113, 12)
    assert len(bench.journal.entries()) == 2


CONTRADICTIONS = [
    request(intent=intent(amount="6")),
    request(intent=intent(recipient="0x" + "0d" * 20)),
    request(intent=intent(memo="other")),
    request(intent=intent(external_id="order 2")),
    request(intent=intent(initiator="us-2")),
    request(transfer_id="xfr-2", intent=intent(external_id="order 2")),
    request(transfer_id="xfr-2", intent=intent(external_id="order 2", amount="6")),
    request(nonce=1),
    request(transfer_id="xfr-2", nonce=1),
    request(transfer_id="xfr-2", nonce=1, intent=intent(amount="6")),
    request(transfer_id="xfr-2", wallet_id="wa-2", intent=intent(wallet="wa-2")),
    request(transfer_id="xfr-2", nonce=1, intent=intent(external_id="2", network="Base", chain_id=8453)),
    request(max_fee_per_gas=101),
    request(max_fee_per_gas=99, max_priority_fee_per_gas=9),
    request(fee_cap=21_000 * 200 + 1),
]


@pytest.mark.parametrize("second", CONTRADICTIONS)
async def test_a_request_that_contradicts_the_journal_is_refused(bench: Bench, second: SignRequest) -> None:
    first = await bench.sign_one(request())
    bench.restart()
    await bench.refusal(second)
    assert len(bench.journal.entries()) == 1
    assert await bench.sign_one(request()) == first


@pytest.mark.parametrize("second", CONTRADICTIONS)
async def test_a_contradiction_inside_one_batch_is_refused_alone(bench: Bench, second: SignRequest) -> None:
    third = request(transfer_id="xfr-9", nonce=9, intent=intent(external_id="order 9"))
    answers = await bench.signer.sign([request(), second, third])
    assert [type(answer) for answer in answers] == [Signed, SignerRefused, Signed]


MALFORMED: list[tuple[SignRequest, str]] = [
    (request(wallet_id="wa-9", intent=intent(wallet="wa-9")), "wallet_id"),
    (request(intent=intent(wallet="wa-2")), "wallet"),
    (request(intent=intent(chain_id=1)), "chainId"),
    (request(intent=intent(network="Base")), "chainId"),
    (request(intent=intent(network="Unknown")), "chainId"),
    (request(intent=intent(chainId=True)), "chainId"),
    (request(intent=intent(chainId="31337")), "chainId"),
    (request(intent=intent(v=2)), "v"),
    (request(intent=intent(v=True)), "v"),
    (request(intent=intent(extra="x")), "intent"),
    (request(intent={}), "intent"),
    (request(intent=intent(memo=None)), "memo"),
    (request(intent=intent(memo="\ud800")), ""),
    (request(intent=intent(externalId=5)), "externalId"),
    (request(intent=intent(externalId="")), "externalId"),
    (request(intent=intent(amount="0")), "amount"),
    (request(intent=intent(amount="05")), "amount"),
    (request(intent=intent(amount="-5")), "amount"),
    (request(intent=intent(amount="1e3")), "amount"),
    (request(intent=intent(amount="\u0665")), "amount"),
    (request(intent=intent(amount=str(2**256))), "amount"),
    (request(intent=intent(amount=5)), "amount"),
    (request(intent=intent(recipient=PAYER)), "recipient"),
    (request(intent=intent(recipient="0x" + "00" * 20)), "recipient"),
    (request(intent=intent(recipient="0x" + "0C" * 20)), "recipient"),
    (request(intent=intent(recipient="0c" * 20)), "recipient"),
    (request(intent=intent(asset=RECIPIENT)), "recipient"),
    (request(intent=intent(asset="0x" + "00" * 20)), "asset"),
    (request(intent=intent(asset="0x" + "AA" * 20)), "asset"),
    (request(intent=intent(asset="Native")), "asset"),
    (request(transfer_id=""), "transfer_id"),
    (request(transfer_id="xfr-\n"), "transfer_id"),
    (request(transfer_id="x" * 129), "transfer_id"),
    (request(nonce=-1), "nonce"),
    (request(nonce=True), "nonce"),
    (request(nonce=2**53), "nonce"),
    (request(gas_limit=20_999), "gas_limit"),
    (request(gas_limit=2**53), "gas_limit"),
    (request(max_fee_per_gas=0), "max_fee_per_gas"),
    (request(max_fee_per_gas=100.0), "max_fee_per_gas"),
    (request(max_priority_fee_per_gas=101), "max_priority_fee_per_gas"),
    (request(max_priority_fee_per_gas=-1), "max_priority_fee_per_gas"),
    (request(fee_cap=21_000 * 100 - 1), "fee_cap"),
    (request(fee_cap=0), "fee_cap"),
]


@pytest.mark.parametrize(("bad", "field"), MALFORMED)
async def test_a_malformed_request_is_refused_and_leaves_no_trace(bench: Bench, bad: SignRequest, field: str) -> None:
    refusal = await bench.refusal(bad)
    assert field in ("", refusal.field)
    assert bench.journal.entries() == []
    assert isinstance(await bench.sign_one(request()), Signed)


async def test_the_fee_may_reach_the_cap_exactly(bench: Bench) -> None:
    assert isinstance(await bench.sign_one(request(fee_cap=21_000 * 100)), Signed)


@pytest.fixture
def hook() -> Iterator[Callable[[Callable[[str], None] | None], None]]:
    """Install a fault hook for one test."""
    yield faultpoint.install
    faultpoint.install(None)


async def test_the_journal_is_committed_before_any_signature(
    bench: Bench, hook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    sign = SigningKey.sign

    def watched(key: SigningKey, digest: bytes) -> bytes:
        with sqlite3.connect(f"file:{bench.path}?mode=ro", uri=True) as other:
            row = other.execute("SELECT count(*) FROM entry WHERE signing_hash = ?", (digest.hex(),)).fetchone()
        events.append(f"signature with {row[0]} entry on disk")
        return sign(key, digest)

    monkeypatch.setattr(SigningKey, "sign", watched)
    hook(events.append)
    await bench.signer.sign([request(), request(transfer_id="xfr-2", nonce=1, intent=intent(external_id="2"))])
    assert events == [
        "signer.before_journal",
        "signer.after_journal",
        "signature with 1 entry on disk",
        "signature with 1 entry on disk",
    ]


class Crash(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize(("label", "entries"), [("signer.before_journal", 0), ("signer.after_journal", 1)])
async def test_after_a_crash_the_same_request_gives_the_same_bytes(
    bench: Bench, hook: Any, label: str, entries: int, tmp_path: Path
) -> None:
    def crash(passed: str) -> None:
        if passed == label:
            raise Crash

    hook(crash)
    with pytest.raises(Crash):
        await bench.sign_one(request())
    hook(None)
    bench.restart()
    assert len(bench.journal.entries()) == entries
    assert await bench.signer.journaled(["xfr-1", "xfr-2"]) == ({"xfr-1"} if entries else set())
    (tmp_path / "other").mkdir()
    undisturbed = Bench(tmp_path / "other")
    await undisturbed.signer.create_key("wa-1")
    assert await bench.sign_one(request()) == await undisturbed.sign_one(request())


async def test_a_journal_that_cannot_be_written_refuses_everything(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(key: SigningKey, digest: bytes) -> bytes:
        raise AssertionError("signed without a journal entry")

    monkeypatch.setattr(SigningKey, "sign", never)
    bench.journal._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(SignerUnavailable, match="journal cannot be written"):
        await bench.sign_one(request())
    with pytest.raises(SignerUnavailable):
        await bench.signer.create_key("wa-3")
    bench.journal.close()
    with pytest.raises(SignerUnavailable):
        await bench.sign_one(request())


async def test_parallel_batches_give_a_slot_to_one_transfer(bench: Bench) -> None:
    def batch(n: int) -> list[SignRequest]:
        mine = intent(external_id=f"order {n}", amount=str(n + 1))
        return [request(transfer_id=f"xfr-{n}", intent=mine, nonce=nonce) for nonce in (0, n + 1)]

    answers = await asyncio.gather(*(bench.signer.sign(batch(n)) for n in range(8)))
    winners = [n for n, (first, _) in enumerate(answers) if isinstance(first, Signed)]
    assert len(winners) == 1
    # The winner is bound to nonce 0; every other transfer goes to the nonce of its own.
    assert [isinstance(second, Signed) for _, second in answers] == [n not in winners for n in range(8)]
    bench.journal.verify()


async def test_signing_does_not_block_the_loop(bench: Bench, hook: Any) -> None:
    loop_thread, threads, released = threading.current_thread(), [], threading.Event()

    def wait(label: str) -> None:
        threads.append(threading.current_thread())
        assert released.wait(10), label

    hook(wait)
    task = asyncio.ensure_future(bench.sign_one(request()))
    while not threads:
        await asyncio.sleep(0.001)
    released.set()
    assert isinstance(await task, Signed)
    assert loop_thread not in threads


async def test_create_key_is_idempotent_and_derives_from_the_keystore(bench: Bench) -> None:
    first = await bench.signer.create_key("wa-1")
    bench.restart()
    assert await bench.signer.create_key("wa-1") == first
    second = await bench.signer.create_key("wa-2")
    third = await bench.signer.create_key("wa-3")
    wallets = [MasterKey(MASTER).wallet(n) for n in range(3)]
    assert [key.address for key in (first, second, third)] == [wallet.address for wallet in wallets]
    assert [key.public_key_hex for key in (first, second, third)] == [w.public_key.hex() for w in wallets]
    assert len({key.key_id for key in (first, second, third)}) == 3
    assert all(is_id(key.key_id, KEY) for key in (first, second, third))


@pytest.mark.parametrize("wallet_id", ["", "wa\n", "wä-1", "w" * 129])
async def test_a_wallet_id_has_limits(bench: Bench, wallet_id: str) -> None:
    with pytest.raises(SignerRefused):
        await bench.signer.create_key(wallet_id)


async def test_a_journal_that_names_another_address_stops_the_signer(bench: Bench) -> None:
    bench.journal._connection.execute(f"UPDATE key SET address = '{RECIPIENT}' WHERE wallet_id = 'wa-1'")
    with pytest.raises(InvariantBroken, match="not this keystore's"):
        await bench.sign_one(request())


def test_keystore_and_journal_must_belong_together(bench: Bench) -> None:
    with pytest.raises(InvariantBroken, match="another keystore"):
        LocalSigner(Keystore("other", MASTER), bench.journal, networks={}, clock=StoppedClock())


async def test_status_tells_the_position(bench: Bench) -> None:
    await bench.sign_one(request())
    status = await bench.signer.status()
    assert dataclasses.astuple(status) == (ROOT, "ks", 2, 1, bench.journal.entries()[0].hash)


async def test_a_signature_that_does_not_verify_never_leaves(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    other = SigningKey(b"\x09" * 32)
    key = SigningKey(b"\x08" * 32)
    key._key = other._key  # as a flipped bit in memory would have it
    with pytest.raises(InvariantBroken, match="does not verify"):
        key.sign(b"\x01" * 32)


async def test_no_private_key_reaches_text_logs_or_errors(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    texts = [repr(bench.signer), repr(bench.keystore), repr(await bench.signer.create_key("wa-1"))]
    for bad in (*CONTRADICTIONS, *(bad for bad, _ in MALFORMED)):
        answer = await bench.sign_one(bad)
        texts += [repr(answer), *traceback.format_exception(answer if isinstance(answer, Exception) else None)]
    bench.journal._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(SignerUnavailable) as failed:
        await bench.sign_one(request(nonce=50, transfer_id="xfr-50", intent=intent(external_id="50")))
    texts += [*traceback.format_exception(failed.value), caplog.text, bench.path.read_bytes().hex()]
    shown = "\n".join(texts).lower()
    for index in range(2):
        secret: bytes = bench.keystore.key(index)._key.secret
        for spelling in (secret.hex(), str(int.from_bytes(secret, "big")), repr(secret).lower()):
            assert spelling not in shown
    assert MASTER.hex() not in shown
