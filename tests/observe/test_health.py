"""Health: what each part's failure makes of it, without a process. ``test_process`` breaks the parts for real."""

import asyncio
import io
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import structlog
from prometheus_client import CollectorRegistry

from outlay.cli import logs
from outlay.engine import loop
from outlay.engine.loop import Loops
from outlay.observe import listener
from outlay.observe.listener import Listener
from outlay.store.database import Database
from outlay.web.health import HEALTH
from tests.door import open_door


async def until(ready: Callable[[], bool]) -> None:
    """Let the event loop turn until it is so."""
    for _ in range(1000):
        if ready():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("in vain")


async def test_a_loop_whose_step_does_not_end_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "STUCK_S", 0.05)
    forever = asyncio.Event()

    async def hang() -> bool:
        return await forever.wait()

    async def turn() -> bool:
        return False

    loops = Loops()
    loops.start([("hangs", hang, 0.01), ("turns", turn, 0.01)])
    assert loops.stuck() == []
    await until(lambda: loops.stuck() == ["hangs"])
    forever.set()
    await until(lambda: loops.stuck() == [])
    await loops.stop()


async def test_a_loop_that_has_ended_is_stuck() -> None:
    async def end() -> bool:
        raise asyncio.CancelledError

    loops = Loops()
    loops.start([("ends", end, 0.01)])
    await until(lambda: loops.stuck() == ["ends"])
    await loops.stop()


async def test_steps_that_fail_are_told_by_name_and_the_loop_is_not_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "BACK_OFF_S", 0.001)
    failed: list[str] = []
    started: list[str] = []

    async def fail() -> bool:
        raise RuntimeError("a bug")

    loops = Loops(failed.append, started=started.append)
    loops.start([("fails", fail, 0.01)])
    await until(lambda: len(failed) > 2)
    assert set(failed) == {"fails"}
    assert started == ["fails"]
    assert loops.stuck() == []
    await loops.stop()


def test_a_writer_that_has_ended_is_not_alive(tmp_path: Path) -> None:
    db = Database(tmp_path / "outlay.db")
    assert db.is_alive
    db._queue.put(None)
    db._writer.join(5)
    assert not db.is_alive


class StubHealth:
    """Says what it was told to."""

    def __init__(self, live: bool, checks: Mapping[str, bool]) -> None:
        self.live, self.checks = live, checks

    def is_live(self) -> bool:
        """Return it."""
        return self.live

    async def look(self) -> Mapping[str, bool]:
        """Return it."""
        return self.checks


def answers(made: Listener, path: str) -> tuple[str, Any]:
    """Return status and body of a call, as the listener's threads answer it."""
    told: list[str] = []
    body = made._answer({"PATH_INFO": path}, lambda status, _headers: told.append(status))
    return told[0], json.loads(b"".join(body))


@pytest.mark.parametrize(
    ("live", "checks", "expected"),
    [
        (True, {"database": True, "signer": True}, ("200 OK", "200 OK")),
        (True, {"database": True, "signer": False}, ("200 OK", "503 Service Unavailable")),
        (False, {"database": True, "signer": True}, ("503 Service Unavailable", "200 OK")),
        (True, {}, ("200 OK", "503 Service Unavailable")),
    ],
)
async def test_the_listener_tells_what_is_so(live: bool, checks: Mapping[str, bool], expected: tuple[str, str]) -> None:
    made = Listener(CollectorRegistry(), StubHealth(live, checks), host="127.0.0.1", port=0)  # type: ignore[arg-type]
    await made.start()
    told = [await asyncio.to_thread(answers, made, path) for path in ("/health/live", "/health/ready")]
    await made.stop()

    assert (told[0][0], told[1][0]) == expected
    assert all(set(body) == {"status"} for _, body in told)


async def test_the_listener_tells_that_the_event_loop_does_not_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "TURN_MAX_S", 0.05)
    made = Listener(CollectorRegistry(), StubHealth(True, {"database": True}), host="127.0.0.1", port=0)  # type: ignore[arg-type]
    await made.start()
    asking = [asyncio.to_thread(answers, made, path) for path in ("/health/live", "/health/ready")]
    tasks = [asyncio.ensure_future(each) for each in asking]
    await asyncio.sleep(0)  # both ask from now on
    time.sleep(0.5)  # and nothing turns
    told = [await task for task in tasks]
    await made.stop()

    assert [status for status, _ in told] == ["503 Service Unavailable"] * 2


async def test_a_port_that_is_taken_holds_nothing_up_and_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "RETRY_S", 0.01)
    taken = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    made = Listener(CollectorRegistry(), StubHealth(True, {"database": True}), host="127.0.0.1", port=port)  # type: ignore[arg-type]
    await made.start()
    assert made._server is None
    taken.close()
    await taken.wait_closed()
    await until(lambda: made._server is not None)
    await made.stop()


def test_the_api_answers_for_its_process(tmp_path: Path) -> None:
    with open_door(tmp_path, extra='[limits]\nanonymous = "2/hour"\n') as door:

        async def not_ready() -> bool:
            return False

        assert (door.call("GET", "/health/live").ok(), door.call("GET", "/health/ready").ok()) == (
            {"status": "live"},
            {"status": "ready"},
        )
        object.__setattr__(door.gate, "is_open", lambda: False)
        assert door.call("GET", "/health/ready").status == 503
        object.__setattr__(door.gate, "is_open", lambda: True)
        ready: Callable[[], Awaitable[bool]] = not_ready
        object.__setattr__(door.gate, "is_ready", ready)
        object.__setattr__(door.gate, "is_live", lambda: False)
        for path in (f"{HEALTH}ready", f"{HEALTH}live"):
            answer = door.call("GET", path)
            assert (answer.status, answer.code) == (503, "unavailable")
            assert set(answer.details) == set()
        assert {door.call("GET", "/health/live").status for _ in range(5)} == {503}  # and never 429


# Logs


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Log as a server does, into what the test can read."""
    before, written = structlog.get_config(), io.StringIO()
    logs.set_up_logs()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(file=written))
    yield written
    structlog.configure(**before)


def test_lines_of_a_request_carry_the_id_of_its_answer(tmp_path: Path, log: io.StringIO) -> None:
    with open_door(tmp_path) as door:

        def crash() -> bool:
            raise RuntimeError("a bug")

        object.__setattr__(door.gate, "is_live", crash)
        answer = door.call("GET", "/health/live")
    (line,) = [json.loads(line) for line in log.getvalue().splitlines() if "request_crashed" in line]

    assert line["request"] == dict(answer.headers)["x-request-id"]
    assert line["request"].startswith("req-")


def test_lines_are_counted_by_event_and_level(log: io.StringIO) -> None:
    before = logs.COUNTS.get(("counted", "warning"), 0)
    structlog.get_logger().warning("counted", payout="xfr-1")
    structlog.get_logger().debug("counted")

    assert logs.COUNTS["counted", "warning"] == before + 1
    assert ("counted", "debug") not in logs.COUNTS
    assert json.loads(log.getvalue())["payout"] == "xfr-1"
