"""Rows of the bench: their shape, and that a wrong run has no figure."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator

import pytest

from bench.confirmed import _check_chain
from bench.rows import Row, render
from bench.wire import Connection, drive


def row(**changes: object) -> Row:
    values: dict[str, object] = {
        "name": "admission",
        "unit": "payouts/s",
        "rounds": [90.0, 110.0, 100.0],
        "reference": "one insert",
        "reference_rounds": [400.0, 200.0, 300.0],
        **changes,
    }
    return Row(**values)  # type: ignore[arg-type]


def test_a_row_is_written_with_medians_and_their_ratio() -> None:
    document = json.loads(json.dumps(row().document()))
    assert {name: document[name] for name in ("name", "value", "unit", "reference", "reference_value")} == {
        "name": "admission",
        "value": 100.0,
        "unit": "payouts/s",
        "reference": "one insert",
        "reference_value": 300.0,
    }
    assert document["ratio"] == 0.3333
    assert document["target"] is None and document["met"] is None
    assert document["valid"] and document["rounds"] == [90.0, 110.0, 100.0]


@pytest.mark.parametrize(("target", "met"), [(0.3, True), (0.34, False)])
def test_a_target_is_a_smallest_ratio(target: float, met: bool) -> None:
    assert row(target=target).document()["met"] is met


@pytest.mark.parametrize("changes", [{"faults": ["2 payouts are on the chain twice"]}, {"rounds": []}])
def test_an_invalid_run_is_invalid_and_not_slow(changes: dict[str, object]) -> None:
    wrong = row(target=0.1, **changes)
    document = wrong.document()
    assert [document[name] for name in ("value", "reference_value", "ratio", "met", "valid")] == [None] * 4 + [False]
    assert "INVALID" in render([wrong])
    assert "INVALID" not in render([row()])


async def test_the_client_counts_answers_and_keeps_refusals() -> None:
    answers = iter([b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK", b"HTTP/1.1 409 Conflict"])

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for head in answers:
            await reader.readuntil(b"\r\n\r\n{}")
            # In two pieces, as networks do.
            writer.write(head + b"\r\nContent-Length: 9\r\n\r\n" + b'{"n"')
            await writer.drain()
            writer.write(b":123}")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    seen: list[object] = []

    def jobs() -> Iterator[Callable[[Connection], Awaitable[None]]]:
        for _ in range(5):

            async def job(line: Connection) -> None:
                seen.append(await line.request("POST", "/x", b"", b"{}"))

            yield job

    tally = await drive(f"http://127.0.0.1:{port}", jobs(), connections=1)
    server.close()
    assert seen == [{"n": 123}, {"n": 123}]
    assert tally.done == 2 and len(tally.faults) == 1 and "409" in tally.faults[0]
    assert tally.rate > 0


@pytest.mark.parametrize(
    ("mined", "faults"),
    [
        ([("0xb1", 7, "0x1"), ("0xb2", 8, "0x2")], 0),
        ([("0xb1", 7, "0x1"), ("0xb2", 8, "0x2"), ("0xb2", 8, "0x3")], 2),
        ([("0xb1", 7, "0x1")], 1),
        ([("0xb1", 7, "0x1"), ("0xb1", 8, "0x2")], 1),
        ([("0xb1", 7, "0x1"), ("0xb2", 8, "0x9")], 1),
    ],
    ids=["exact", "paid twice", "one missing", "another recipient", "another transaction"],
)
def test_the_chain_must_hold_each_payout_once_and_nothing_else(mined: list[tuple[str, int, str]], faults: int) -> None:
    class Chain:
        def rpc(self, method: str, *params: object) -> object:
            if method == "eth_blockNumber":
                return "0x5"
            sent = [{"from": "0xA1", "to": to, "value": hex(value), "hash": hash} for to, value, hash in mined]
            other = {"from": "0xff", "to": "0xb1", "value": "0x7", "hash": "0xff"}
            return {"transactions": [*sent, other] if params == ("0x5", True) else []}

    wanted = [("0xb1", 7, b""), ("0xb2", 8, b"")]
    assert len(_check_chain(Chain(), "0xa1", 4, wanted, {"0x1", "0x2"})) == faults  # type: ignore[arg-type]
