"""The bench measures nothing wrong: its rows, its checks, its limits and its page, each on something small."""

import asyncio
import hmac
import json
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from bench import __main__ as command
from bench import chart, policies, report, scenarios, signing, stages, turns, units, velocity
from bench.lock import LockSampler
from bench.node import check_payments
from bench.paying import Payer, accepted, payouts
from bench.provider import Provider
from bench.receiver import SIGNATURE, Counts, Endpoint
from bench.rows import Goal, Row, Target, percentiles, render
from bench.stages import Told
from bench.stand import Stand
from bench.wire import Connection, Refused, drive
from outlay.codec.evm import tx_hash
from outlay.core.errors import InvalidInput, OutlayError
from outlay.core.velocity import Window
from outlay.evidence.attestation import new_key_pair
from outlay.evidence.canonical import canonical
from outlay.evidence.http_signature import Message, check_content_digest, read_headers
from outlay.evidence.keys import load_private_key
from outlay.evidence.merkle import digest_of, leaf
from outlay.signer.keys import SigningKey
from outlay.store import velocity as stored_velocity
from outlay.store.database import Database
from outlay.store.migrate import upgrade
from tests import postgres


def row(**changes: object) -> Row:
    values: dict[str, object] = {
        "key": "admission.single",
        "name": "admission",
        "unit": "payouts/s",
        "rounds": [90.0, 110.0, 100.0],
        "reference": "one insert",
        "reference_rounds": [400.0, 200.0, 300.0],
        **changes,
    }
    return Row(**values)  # type: ignore[arg-type]


# Rows


def test_a_row_is_written_with_medians_and_their_ratio_and_read_back() -> None:
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
    aimed = row(target=Target("ratio at least", 0.3), database="sqlite", details={"x": 1}).document()
    assert Row.read(json.loads(json.dumps(aimed))).document() == aimed


@pytest.mark.parametrize(
    ("goal", "bound", "met"),
    [
        ("ratio at least", 0.33, True),
        ("ratio at least", 0.34, False),
        ("ratio at most", 0.34, True),
        ("ratio at most", 0.33, False),
        ("value at least", 100, True),
        ("value at least", 101, False),
        ("value at most", 100, True),
        ("value at most", 99, False),
    ],
)
def test_a_target_is_a_bound_of_the_ratio_or_of_the_value(goal: Goal, bound: float, met: bool) -> None:
    assert row(target=Target(goal, bound)).document()["met"] is met


@pytest.mark.parametrize("changes", [{"faults": ["2 payouts are on the chain twice"]}, {"rounds": []}])
def test_an_invalid_run_is_invalid_and_not_slow(changes: dict[str, object]) -> None:
    wrong = row(target=Target("ratio at least", 0.1), **changes)
    document = wrong.document()
    assert [document[name] for name in ("value", "reference_value", "ratio", "met", "valid")] == [None] * 4 + [False]
    assert "INVALID" in render([wrong])
    assert "INVALID" not in render([row()])


def test_a_row_whose_reference_gave_nothing_is_invalid_and_one_without_a_reference_is_not() -> None:
    assert not row(reference_rounds=[]).valid
    alone = row(reference="", reference_rounds=[], target=Target("value at most", 100))
    assert alone.valid and alone.ratio is None and alone.met


def test_percentiles_are_of_the_times_given() -> None:
    assert percentiles([number / 1000 for number in range(101)]) == {"p50_ms": 50.0, "p95_ms": 95.0, "p99_ms": 99.0}


# Scenarios


def test_every_scenario_is_measured_and_complete_at_every_size() -> None:
    for size in scenarios.SIZES:
        assert set(scenarios.load(size)) == set(command.MEASURES)
    assert scenarios.load("usual")["confirmed"].target("celery") == Target("ratio at least", 12)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("[a]\nx = {quick = 1, usual = 2}", "a.x"),
        ("[a]\ntargets.y = {ratio_at_least = 1, ratio_at_most = 2}", "a.targets.y"),
        ("[a]\ntargets.y = {faster_than = 1}", "a.targets.y"),
        ("[a]\ntargets.y = 3", "a.targets.y"),
    ],
)
def test_a_malformed_scenario_is_named(tmp_path: Path, text: str, field: str) -> None:
    path = tmp_path / "scenarios.toml"
    path.write_text(text)
    with pytest.raises(InvalidInput) as caught:
        scenarios.load("quick", path)
    assert caught.value.field == field


def test_values_are_changed_by_name_and_have_their_types() -> None:
    chosen = scenarios.load("quick")
    scenarios.change(chosen, ["soak.payouts=7", "growth.sizes=[10,20]"])
    assert chosen["soak"].number("payouts") == 7 and chosen["growth"].numbers("sizes") == (10, 20)
    for wrong in ("soak.payout=7", "soak=7", "nothing.x=1", "soak.payouts=x"):
        with pytest.raises(InvalidInput):
            scenarios.change(chosen, [wrong])
    chosen["soak"].values["payouts"] = True
    with pytest.raises(InvalidInput):
        chosen["soak"].number("payouts")


def test_a_scenario_that_breaks_is_an_invalid_row_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaks(*_: object) -> list[Row]:
        raise RuntimeError("the node is gone")

    monkeypatch.setattr(command, "MEASURES", {"signing": breaks, "policies": lambda *_: [row()]})
    chosen, stand = scenarios.load("quick"), Stand(tmp_path, ("sqlite",))
    broken, kept = (command._measured(name, chosen[name], stand, kept=True) for name in ("signing", "policies"))
    assert not broken[0].valid and "the node is gone" in broken[0].faults[0]
    assert kept[0].valid and "the node is gone" in capsys.readouterr().err
    # Measured again is only what failed.
    monkeypatch.setattr(command, "MEASURES", {"signing": lambda *_: [row(name="now")], "policies": breaks})
    again = [command._measured(name, chosen[name], stand, kept=True)[0].name for name in ("signing", "policies")]
    assert again == ["now", "admission"]


# What it counts by


def test_cases_take_turns_and_are_counted() -> None:
    calls: list[str] = []

    def case(name: str) -> turns.Repeat:
        def repeat(count: int) -> None:
            calls.append(name)
            for _ in range(count):
                time.sleep(0.001)

        return repeat

    found = turns.rates({"a": case("a"), "b": case("b")}, rounds=3, seconds=0.02)
    assert calls[-6:] == ["a", "b"] * 3
    assert all(100 < rate < 1_001 for figures in found.values() for rate in figures), found


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


def test_requests_are_signed_over_exactly_what_is_sent() -> None:
    private, public = new_key_pair()
    payer = Payer(
        url="http://127.0.0.1:1",
        token="",
        credential_id="cr-1",
        key=load_private_key(private),
        public_key=public,
        wallet_id="wa-1",
        address="0x1",
    )
    wanted = [each for each, _ in zip(payouts("run"), range(5), strict=False)]
    for request in (payer.single(wanted[0]), payer.batch(wanted)):
        headers = dict(line.split(": ", 1) for line in request.headers.decode().splitlines())
        parameters, signature = read_headers(headers["signature-input"], headers["signature"])
        check_content_digest(headers["content-digest"], request.body)
        Message(
            method="POST",
            target_uri=payer.url + request.path,
            content_digest=headers["content-digest"],
            batch_digest=headers.get("outlay-batch-digest"),
            parameters=parameters,
            signature=signature,
        ).verify(public)
    items = json.loads(request.body)["items"]
    assert headers["outlay-batch-digest"] == digest_of([leaf(canonical(item)) for item in items])
    assert len({(item["recipient"], item["amount"]) for item in items}) == 5


def test_a_refused_row_of_a_batch_is_no_accepted_payout() -> None:
    assert accepted({"id": "xfr-1"}) == ["xfr-1"]
    assert accepted({"items": [{"payout": {"id": "xfr-1"}}, {"payout": {"id": "xfr-2"}}]}) == ["xfr-1", "xfr-2"]
    with pytest.raises(Refused):
        accepted({"items": [{"payout": {"id": "xfr-1"}}, {"error": {"code": "conflict"}}]})


# Validity


@pytest.mark.parametrize(
    ("mined", "faults"),
    [
        ([("0xb1", 7, "0x1"), ("0xb2", 8, "0x2")], 0),
        ([("0xb1", 7, "0x1"), ("0xb2", 8, "0x2"), ("0xb2", 8, "0x3")], 2),
        ([("0xb1", 7, "0x1")], 2),
        ([("0xb1", 7, "0x1"), ("0xb1", 8, "0x2")], 2),
        ([("0xb1", 7, "0x1"), ("0xb2", 8, "0x9")], 1),
    ],
    ids=["exact", "paid twice", "one missing", "another recipient", "another transaction"],
)
def test_the_chain_must_hold_each_payout_once_and_nothing_else(mined: list[tuple[str, int, str]], faults: int) -> None:
    found = [("0xa1", to, value, tx) for to, value, tx in mined]
    assert len(check_payments(found, [("0xb1", 7), ("0xb2", 8)], {"0x1", "0x2"})) == faults


def told(number: int, **changes: Any) -> Told:
    values = {
        "id": f"xfr-{number}",
        "external_id": f"run-{number}",
        "wallet_id": "wa-1",
        "state": "confirmed",
        "recipient": "0xb1",
        "amount": number,
        "tx_hash": f"0x{number}",
        "fee": 1,
        "requested_at": 1_000_000 * number,
        "ready_at": 1_000_000 * number,
        "signed_at": 1_000_000 * number + 10_000,
        "broadcast_at": 1_000_000 * number + 20_000,
        "confirmed_at": 1_000_000 * number + 520_000,
        **changes,
    }
    return Told(**values)


@pytest.mark.parametrize(
    ("rows", "faults"),
    [
        ([told(1), told(2)], 0),
        ([told(1)], 1),
        ([told(1), told(2), told(3)], 1),
        ([told(1), told(2, amount=9)], 1),
        ([told(1), told(2, state="broadcast")], 1),
        ([told(1), told(2, tx_hash="0x1")], 1),
    ],
    ids=["exact", "one lost", "one too many", "another amount", "not confirmed", "one transaction for two"],
)
def test_rows_must_be_what_was_asked_for(rows: Sequence[Told], faults: int) -> None:
    assert len(stages.check_rows(rows, {"run-1": ("0xb1", 1), "run-2": ("0xb1", 2)})) == faults


def test_stages_are_measured_from_end_to_end() -> None:
    found = stages.measure([told(number) for number in range(1, 12)], [(0, 30_000), (0, 50_000)])
    assert found["confirm"]["p50_ms"] == 500.0 and found["sign"]["p99_ms"] == 10.0
    # Eleven within ten and a half seconds.
    assert found["confirm"]["per_s"] == 1.0
    assert "per_s" not in stages.stage_figures([(5, 5), (5, 5)])


# Limits and fillings


def test_the_raw_units_lose_and_double_nothing(tmp_path: Path) -> None:
    found = units.sqlite_units(tmp_path, (1, 10), rounds=1, seconds=0.02)
    assert set(found) == {1, 10} and all(figures[0] > 0 for figures in found.values())
    with pytest.raises(AssertionError):
        units._check((3, units.AMOUNT * 2))


def test_units_on_one_row_lose_nothing_row_by_row_and_through_the_committer() -> None:
    """Each adds up what it stored, and fails if the wallet's total is another."""
    url = postgres.database_url(empty=True)
    (one,) = units.row_by_row(url, 4, rounds=1, seconds=0.1)
    (other,) = units.committed(url, 16, rounds=1, seconds=0.1)
    assert one > 0 and other > 0


def test_a_filled_counter_says_what_a_naive_sum_says(tmp_path: Path) -> None:
    path = tmp_path / "counter.db"
    upgrade(path)
    velocity.fill(path, 300)
    database = Database(path)
    try:
        with database.engine.begin() as unit:
            shown = stored_velocity.window(unit, velocity.POLICY, velocity.KEY, now=velocity.NOW)
    finally:
        database.close()
    assert shown == velocity.naive(300)
    assert Window() != shown and 0 < shown.count < 300


def test_the_ten_policies_are_met_with_every_answer_and_cedar_is_given_them_all() -> None:
    answers = {policies.judge(facts, window) for facts, window in policies.requests()}
    assert answers == {"allow", "hold", "block"}
    assert len(policies.POLICIES) == 10 and policies.cedar_text().count("forbid") == 10


def test_the_lock_is_seen_while_it_is_held(tmp_path: Path) -> None:
    path = tmp_path / "locked.db"
    line = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    line.execute("PRAGMA journal_mode=WAL")
    line.execute("CREATE TABLE t(x)")
    with LockSampler(path) as idle:
        time.sleep(0.1)
    assert idle.share == 0
    line.execute("BEGIN IMMEDIATE")
    with LockSampler(path) as held:
        threading.Event().wait(0.1)
    line.execute("COMMIT")
    line.close()
    assert held.share > 0.9


# What stands around the product


async def test_the_receiver_takes_what_is_rightly_signed_and_tells_one_payout_from_another() -> None:
    counts = Counts()
    server = await asyncio.get_running_loop().create_server(lambda: Endpoint(counts), "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    def signed(body: bytes, secret: bytes) -> bytes:
        return f"{SIGNATURE.decode()}: sha256={hmac.new(secret, body, 'sha256').hexdigest()}\r\n".encode()

    ours = b'{"data":{"transferRequest":{"id":"xfr-1"}}}'
    async with aiohttp.ClientSession() as session:
        await (await session.put(url, data=b"secret")).read()
        for body, secret in ((ours, b"secret"), (ours, b"secret"), (b'{"id":7}', b"secret"), (ours, b"other")):
            name, _, value = signed(body, secret).decode().strip().partition(": ")
            await (await session.post(url, data=body, headers={name: value})).read()
        told = json.loads(await (await session.get(url)).read())
    server.close()
    assert told == {"received": 3, "different": 2, "wrong": 1}


async def test_the_provider_refuses_beyond_its_rate_and_swallows_one_sender() -> None:
    key, other = SigningKey(b"\x01" * 32), SigningKey(b"\x02" * 32)
    passed: list[str] = []

    async def node(request: web.Request) -> web.Response:
        calls = await request.json()
        passed.extend(call["params"][0] for call in calls)
        return web.json_response([{"jsonrpc": "2.0", "id": call["id"], "result": "passed"} for call in calls])

    behind = web.Application()
    behind.router.add_post("/", node)
    async with TestServer(behind) as chain:
        provider = Provider(str(chain.make_url("/")))
        before = web.Application()
        before.add_routes([web.put("/", provider.set), web.get("/", provider.show), web.post("/", provider.call)])
        async with TestClient(TestServer(before)) as client:
            await client.put("/", json={"per_second": None, "swallow": key.address})
            raws = [raw(each) for each in (key, other)]
            batch = [
                {"jsonrpc": "2.0", "id": number, "method": "eth_sendRawTransaction", "params": [each]}
                for number, each in enumerate(raws)
            ]
            answers = await (await client.post("/", json=batch)).json()
            assert passed == [raws[1]] and answers[1]["result"] == "passed"
            assert answers[0]["result"] == tx_hash(bytes.fromhex(raws[0][2:]))
            await client.put("/", json={"per_second": 2, "swallow": None})
            statuses = [(await client.post("/", json=batch)).status for _ in range(4)]
            counted = await (await client.get("/")).json()
            await provider.close()
    assert statuses == [200, 200, 429, 429]
    assert (counted["answered"], counted["refused"], counted["calls"]) == (2, 2, 4)


def raw(key: SigningKey) -> str:
    unsigned = signing.transfer(0)
    return "0x" + unsigned.encode(key.sign(unsigned.signing_hash())).hex()


# The page and the chart


def _document() -> dict[str, Any]:
    rows = [
        row(key="confirmed.blast", database="sqlite", target=Target("ratio at least", 0.3), details=_details()),
        row(key="confirmed.celery", database="sqlite", target=Target("ratio at least", 12)),
        row(key="policies.time", reference="", reference_rounds=[], target=Target("value at most", 50)),
        row(key="pool.stuck", faults=["wrong"], target=Target("ratio at least", 0.875)),
    ]
    return {
        "at": "2030-01-31T12:00:00+00:00",
        "command": "python -m bench",
        "machine": {
            "cores": 2,
            "processor": "X & Y",
            "memory_gb": 8,
            "fsync_us": 200.0,
            "load_average": [0.1, 0.1, 0.1],
            "load_average_after": [2.0, 1.0, 0.5],
        },
        "rows": [each.document() for each in rows],
    }


def _details() -> dict[str, Any]:
    return {
        "stages": {"confirm": {"p50_ms": 1.0, "p95_ms": 2.0, "p99_ms": 3.0, "per_s": 4.0}},
        "processor time of one, ms": {"server": 2.0, "signer": 0.5},
        "writer's lock held for one, ms": 4.0,
    }


def test_the_page_is_filled_from_the_results() -> None:
    document = _document()
    page = "".join(f"<!-- begin bench {name}: x -->\nold\n<!-- end bench {name} -->\n" for name in report.BLOCKS)
    filled = report.fill(page, document)
    assert "old" not in filled and report.fill(filled, document) == filled
    assert "| sqlite | the one writer's lock **(first)** | 4 | 250 |" in filled
    assert "| sqlite | server: one core | 2 | 500 |" in filled
    assert "**invalid**" in filled and "| sqlite | confirm | 1 | 2 | 3 | 4 |" in filled


def test_a_million_a_day_is_reckoned_by_seconds() -> None:
    assert report.share(86.4, 1) == pytest.approx(100)
    assert report.share(8.64, 10) == pytest.approx(100)


def test_the_chart_shows_what_was_met_missed_and_invalid() -> None:
    drawn = chart.draw(_document())
    assert drawn.count('class="theirs"') == 2 and "X &amp; Y" in drawn
    assert "invalid" in drawn and "(≥ 12)" in drawn
    bars = {label: (length, kind) for label, length, kind, _ in chart.targets(_document()["rows"])}
    length, kind = bars["admission, beside Celery, SQLite"]
    assert kind == "missed" and length == pytest.approx(0.3333 / 12 / 2)
    assert chart.reached("value at most", 50, 100) == 0.5 and chart.reached("ratio at least", 2, 4) == 2


def test_page_and_chart_are_those_of_the_results_in_the_repository() -> None:
    document = json.loads(report.RESULTS.read_text())
    assert report.fill(report.PAGE.read_text(), document) == report.PAGE.read_text(), "run python -m bench.report"
    assert chart.draw(document) == chart.CHART.read_text(), "run python -m bench.chart"


def test_an_unknown_size_is_refused() -> None:
    with pytest.raises(OutlayError):
        scenarios.load("huge")
