"""What lies between engine and signer: types, refusals, errors, limits, turns, and lost connections."""

import asyncio
import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from outlay.core.errors import InvalidInput, InvariantBroken, OutlayError, SignerUnavailable
from outlay.evidence.canonical import canonical
from outlay.signer import Scope, Signed, Signer, SignerRefused, SignRequest, Why, process
from outlay.signer.client import SignerClient
from outlay.signer.process import CONNECTIONS_MAX
from outlay.signer.wire import FRAME_MAX, METHODS, frame, pack, parameters, unpack
from tests.signer_process.stub import Served, StubSigner, request, slot


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the signer listens."""
    return tmp_path / "signer.sock"


@pytest.fixture
def signer() -> StubSigner:
    """Who is behind the socket."""
    return StubSigner()


@pytest.fixture
async def client(signer: StubSigner, path: Path) -> AsyncIterator[SignerClient]:
    """Return a client of the running server."""
    async with Served(signer, path):
        made = SignerClient(path)
        yield made
        await made.close()


async def exchange(path: Path, content: bytes) -> Any:
    """Send one frame as it is and return what the answer says."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(len(content).to_bytes(4, "big") + content)
    answer = await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
    writer.close()
    return json.loads(answer)


# Every method carries its types


async def test_every_method_gives_the_same_over_the_socket(client: SignerClient, signer: StubSigner) -> None:
    asked = [request(nonce=0, note="é ☃"), request(nonce=1)]

    assert await client.create_key("wa-1") == await signer.create_key("wa-1")
    assert await client.accept_records(['{"a":1}', '"']) == await signer.status()
    assert await client.sign(asked) == [
        Signed(raw=b"wa-1 0", hash="0x" + "00" * 32, sequence=2**60),
        Signed(raw=b"wa-1 1", hash="0x" + "00" * 32, sequence=2**60),
    ]
    assert await client.journaled("wa-1", 7, ["a", "b", "c"]) == frozenset("ac")
    assert await client.freeze(Scope.WALLET, "wa-1", "stolen") == await signer.freeze(Scope.WALLET, "wa-1", "stolen")
    assert await client.records(after=-1, limit=5) == ['{"a":1}', '"']
    signer.kept = [slot(1, note="x")]
    assert await client.slots() == signer.kept
    assert await client.status() == await signer.status()
    assert [pack(each) for each in signer.batches[0]] == [pack(each) for each in asked]


async def test_a_refusal_says_why(signer: StubSigner, client: SignerClient) -> None:
    signer.refuse = lambda each: SignerRefused("stopped", field="wallet_id", why=Why.FROZEN)

    (answer,) = await client.sign([request()])

    assert isinstance(answer, SignerRefused)
    assert (answer.message, answer.field, answer.why) == ("stopped", "wallet_id", Why.FROZEN)


@pytest.mark.parametrize(
    ("problem", "kind"),
    [
        (SignerRefused("no", field="fence", why=Why.FENCED), SignerRefused),
        (SignerUnavailable("the journal cannot be written"), SignerUnavailable),
        (InvariantBroken("the journal is of other keys"), InvariantBroken),
        (InvalidInput("no", field="amount"), InvalidInput),
        (RuntimeError("a bug"), SignerUnavailable),
    ],
)
async def test_errors_cross_as_what_they_are(
    client: SignerClient, signer: StubSigner, problem: Exception, kind: type[OutlayError]
) -> None:
    signer.problem = problem

    with pytest.raises(kind) as caught:
        await client.create_key("wa-1")
    signer.problem = None

    assert type(caught.value) is kind
    if isinstance(problem, SignerRefused) and isinstance(caught.value, SignerRefused):
        assert caught.value.why == problem.why
    assert (await client.create_key("wa-1")).key_id == "key-wa-1", "the connection goes on"


# What is refused


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"method":"status","params":{},"params":{},"v":1}',
        b'{"method":"status","params":{},"v":2}',
        b'{"method":"status","params":{}}',
        b'{"method":"status","params":{},"v":1,"more":1}',
        b'{"method":"status","params":{"more":"1"},"v":1}',
        b'{"method":"status","params":[],"v":1}',
        b'{"method":"close","params":{},"v":1}',
        b'{"method":"__init__","params":{},"v":1}',
        b'{"method":["status"],"params":{},"v":1}',
        b'{"method":"create_key","params":{"wallet_id":1},"v":1}',
        b'{"method":"journaled","params":{"fence":1,"transfer_ids":[],"wallet_id":"a"},"v":1}',
        b'{"method":"journaled","params":{"fence":"1.0","transfer_ids":[],"wallet_id":"a"},"v":1}',
        b'{"method":"freeze","params":{"reason":"","scope":"world","subject":""},"v":1}',
        b'{"method":"sign","params":{"requests":{}},"v":1}',
        b'{"method":"sign","params":{"requests":[{}]},"v":1}',
        b'{"method":"records","params":{"after":"-01","limit":"1"},"v":1}',
    ],
)
async def test_what_is_not_a_message_is_refused(
    signer: StubSigner, client: SignerClient, path: Path, content: bytes
) -> None:
    answer = await exchange(path, content)

    assert answer["error"]["code"] in ("invalid_input", "signer_refused")
    assert signer.batches == []


async def test_unknown_and_missing_members_of_a_request_are_refused(client: SignerClient, path: Path) -> None:
    good = pack(request())
    wrong = [{**good, "raw": "00"}, {name: good[name] for name in good if name != "fence"}, {**good, "legacy": "0"}]
    wrong.append({**good, "demand": {**good["demand"], "approved": True}})

    for each in wrong:
        answer = await exchange(path, canonical({"method": "sign", "params": {"requests": [each]}, "v": 1}))
        assert answer["error"]["code"] == "invalid_input", each


def test_the_socket_offers_the_protocol_and_nothing_else() -> None:
    assert set(METHODS) == {name for name in dir(Signer) if not name.startswith("_")}
    assert parameters("journaled").keys() == {"wallet_id", "fence", "transfer_ids"}


@pytest.mark.parametrize("number", [0, -1, 2**53, 2**255, -(2**63)])
def test_integers_of_any_size_keep_their_value(number: int) -> None:
    assert unpack(int, pack(number), "number") == number


async def test_a_frame_over_the_limit_ends_the_connection(client: SignerClient, path: Path) -> None:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write((FRAME_MAX + 1).to_bytes(4, "big"))

    assert await reader.read() == b""
    writer.close()
    assert (await client.status()).seeded, "others are served on"


class SomebodyElse:
    """Stands in for what the kernel tells of a peer."""

    size = 12

    def unpack(self, _: bytes) -> tuple[int, int, int]:
        """Say process 1 of another user."""
        return 1, 4242, 4242


async def test_whoever_fills_all_places_does_not_keep_out_a_freeze(client: SignerClient, path: Path) -> None:
    held = [await asyncio.open_unix_connection(str(path)) for _ in range(CONNECTIONS_MAX)]
    try:
        other = SignerClient(path)
        made = await asyncio.wait_for(other.freeze(Scope.ALL, "", "somebody holds every connection"), 5)
        assert made.scope is Scope.ALL
        await other.close()
    finally:
        for _, writer in held:
            writer.close()


async def test_others_than_its_users_are_turned_away(
    signer: StubSigner, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_CREDENTIALS", SomebodyElse())

    async with Served(signer, path):
        with pytest.raises(SignerUnavailable):
            await SignerClient(path).status()
    async with Served(signer, path, allow_uids=(4242,)):
        assert (await SignerClient(path).status()).seeded


async def test_the_kernel_says_who_connects(client: SignerClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4242)  # too late for a server that has started as this user

    assert (await client.status()).seeded


async def test_only_its_own_user_may_open_the_socket(signer: StubSigner, path: Path) -> None:
    async with Served(signer, path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists(), "it goes with its signer"


async def test_a_socket_may_lie_deep(signer: StubSigner, tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["deployments"] * 12)
    deep.mkdir(parents=True)
    assert len(os.fsencode(deep)) > 108

    async with Served(signer, deep / "signer.sock"):
        assert (await SignerClient(deep / "signer.sock").status()).seeded


async def test_a_socket_left_by_a_dead_signer_is_replaced(signer: StubSigner, path: Path) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()

    async with Served(signer, path):
        assert (await SignerClient(path).status()).seeded


# Large batches


def large(count: int, wallets: Callable[[int], str]) -> list[SignRequest]:
    """Return requests of which four fill a message."""
    return [request(wallets(number), number, note="x" * (FRAME_MAX // 5)) for number in range(count)]


async def test_a_batch_over_the_limit_goes_in_several_messages_in_order(
    signer: StubSigner, client: SignerClient
) -> None:
    answers = await client.sign(large(9, lambda _: "wa-1"))

    assert [each.raw for each in answers if isinstance(each, Signed)] == [f"wa-1 {n}".encode() for n in range(9)]
    assert [len(batch) for batch in signer.batches] == [4, 4, 1]


async def test_after_a_refusal_nothing_of_that_wallet_is_sent_in_later_messages(
    signer: StubSigner, client: SignerClient
) -> None:
    signer.refuse = lambda each: SignerRefused("no", why=Why.CAP) if each.nonce == 2 else None

    answers = await client.sign(large(9, lambda number: f"wa-{number % 2}"))

    told = [each.why if isinstance(each, SignerRefused) else "signed" for each in answers]
    skipped = Why.AFTER_REFUSAL
    assert told == ["signed", "signed", "cap", "signed", skipped, "signed", skipped, "signed", skipped]
    assert {each.nonce for batch in signer.batches[1:] for each in batch} == {5, 7}


async def test_a_request_larger_than_a_message_is_refused_alone(signer: StubSigner, client: SignerClient) -> None:
    asked = [request(nonce=0), request(nonce=1, note="x" * FRAME_MAX), request(nonce=2), request("wa-2", 0)]

    answers = await client.sign(asked)

    assert [each.why if isinstance(each, SignerRefused) else "signed" for each in answers] == [
        "signed",
        Why.INVALID,
        Why.AFTER_REFUSAL,
        "signed",
    ]


async def test_records_over_the_limit_go_and_come_in_several_messages(signer: StubSigner, client: SignerClient) -> None:
    documents = [f'{{"n":{number},"text":"{"x" * (FRAME_MAX // 4)}"}}' for number in range(7)]

    assert (await client.accept_records(documents)).record_seq == 6
    assert signer.documents == documents
    assert await client.records(after=0, limit=5) == documents[1:6]
    assert await client.records(after=-1, limit=100) == documents


async def test_slots_over_the_limit_come_in_several_messages(signer: StubSigner, client: SignerClient) -> None:
    signer.kept = [slot(number, note="x" * (FRAME_MAX // 4)) for number in range(1, 12)]

    assert await client.slots(after=2, limit=100) == signer.kept[2:]
    assert await client.slots(after=2, limit=3) == signer.kept[2:5]
    assert await client.touched(after=2, limit=100) == signer.kept[2:]
    assert await client.touched(after=2, limit=3) == signer.kept[2:5]


# Turns


async def test_one_request_at_a_time_reaches_the_core(signer: StubSigner, client: SignerClient, path: Path) -> None:
    signer.delay_s = 0.002
    clients = [SignerClient(path) for _ in range(5)]

    await asyncio.gather(*(each.sign([request(f"wa-{number}")]) for number, each in enumerate(clients)))

    assert (len(signer.batches), signer.most_at_once) == (5, 1)


async def test_a_freeze_passes_everything_that_waits(signer: StubSigner, path: Path) -> None:
    signer.delay_s = 0.02
    async with Served(signer, path, batch_max=2):
        clients = [SignerClient(path) for _ in range(6)]
        signing = [asyncio.create_task(each.sign([request(nonce=n) for n in range(6)])) for each in clients]
        while not signer.batches:
            await asyncio.sleep(0)

        await SignerClient(path).freeze(Scope.ALL, "", "stop")

        assert signer.frozen_after is not None
        assert signer.frozen_after <= 2, "it came after what was being signed, before everything else"
        assert all(len(answers) == 6 for answers in await asyncio.gather(*signing))
        assert max(len(batch) for batch in signer.batches) == 2


async def test_after_a_refusal_nothing_of_that_wallet_follows_in_the_next_part(signer: StubSigner, path: Path) -> None:
    signer.refuse = lambda each: SignerRefused("no", why=Why.FROZEN) if each.nonce == 1 else None
    async with Served(signer, path, batch_max=2):
        answers = await SignerClient(path).sign([request(nonce=n) for n in range(4)] + [request("wa-2", 7)])

    assert [each.why if isinstance(each, SignerRefused) else "signed" for each in answers] == [
        "signed",
        Why.FROZEN,
        Why.AFTER_REFUSAL,
        Why.AFTER_REFUSAL,
        "signed",
    ]


# Lost connections


async def test_no_signer_means_ask_again(path: Path) -> None:
    with pytest.raises(SignerUnavailable, match="ask again"):
        await SignerClient(path).sign([request()])


async def test_a_signer_that_dies_before_it_answers_means_ask_again(path: Path) -> None:
    async def dies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(frame({"result": [], "v": 1})[:6])
        writer.close()

    async with await asyncio.start_unix_server(dies, str(path)):
        with pytest.raises(SignerUnavailable, match="ask again"):
            await SignerClient(path).sign([request()])


async def test_the_client_finds_a_restarted_signer(signer: StubSigner, path: Path) -> None:
    client = SignerClient(path)
    async with Served(signer, path):
        await client.status()
    with pytest.raises(SignerUnavailable):
        await client.status()
    async with Served(signer, path):
        assert (await client.status()).seeded


async def test_an_answer_that_nobody_waited_for_answers_nothing_else(signer: StubSigner, client: SignerClient) -> None:
    """A caller is cancelled in the middle: its late answer must not be taken for the next one's."""
    signer.delay_s = 0.05
    cancelled = asyncio.create_task(client.sign([request("wa-1", 1)]))
    while not signer.batches:
        await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)

    (answer,) = await client.sign([request("wa-2", 2)])

    assert isinstance(answer, Signed)
    assert answer.raw == b"wa-2 2"


async def test_an_answer_to_another_batch_is_not_believed(path: Path) -> None:
    async def lies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(frame({"result": [], "v": 1}))

    async with await asyncio.start_unix_server(lies, str(path)):
        with pytest.raises(SignerUnavailable):
            await SignerClient(path).sign([request()])
