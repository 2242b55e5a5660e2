"""Names whose servers are dead cost others nothing, however many they are."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from outlay.engine import lookup as module
from outlay.engine.egress import Egress
from outlay.engine.lookup import ANSWERING, LATE_MAX, SILENT, UNKNOWN, SystemLookup, addresses

PUBLIC = ["8.8.8.8"]
HEALTHY_MAX_S = 0.25
"""Longer than any lookup of a healthy name takes here on a busy machine, and far below what a dead one takes."""


class Names:
    """A resolver in which names that end in ``.dead`` are silent until it is released."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.running: list[str] = []
        self.most = 0
        self.recovered: set[str] = set()
        self._released = threading.Event()

    def __call__(self, host: str) -> list[str]:
        """Answer, or say nothing for long and then fail, as libc does."""
        self.asked.append(host)
        if not host.endswith(".dead") or host in self.recovered:
            return PUBLIC
        self.running.append(host)
        self.most = max(self.most, len(self.running))
        assert len(set(self.running)) == len(self.running), "one thread a name"
        self._released.wait(20)
        self.running.remove(host)
        raise OSError("no servers could be reached")

    def release(self) -> None:
        """Let all that are silent fail now, and later ones at once."""
        self._released.set()

    def silence(self) -> None:
        """Let them be silent again."""
        self._released.clear()


@pytest.fixture
def names() -> Iterator[Names]:
    made = Names()
    yield made
    made.release()


async def seconds(lookup: SystemLookup, host: str) -> float:
    start = time.monotonic()
    assert await lookup(host) == PUBLIC
    return time.monotonic() - start


async def attempt(lookup: SystemLookup, host: str, within_s: float = 0.05) -> None:
    """Ask as an attempt does, which gives up after a while."""
    with contextlib.suppress(OSError):
        async with asyncio.timeout(within_s):
            await lookup(host)


async def until(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not done():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_a_healthy_name_never_waits_behind_fifty_dead_ones(names: Names) -> None:
    lookup = SystemLookup(names)
    dead = [f"h{number}.dead" for number in range(50)]
    took = [await seconds(lookup, "known.example")]
    for _ in range(3):
        attempts = [asyncio.create_task(attempt(lookup, host)) for host in dead]
        await asyncio.sleep(0)
        took += [await seconds(lookup, "known.example") for _ in range(30)]
        took.append(await seconds(lookup, f"new{len(took)}.example"))
        await asyncio.gather(*attempts)
    lookup.close()
    assert max(took) < HEALTHY_MAX_S, sorted(took)[-3:]
    assert len(names.running) == 50 and len(names.asked) == 50 + len(took), "no dead name got a second thread"


async def test_five_hundred_dead_names_take_few_threads_and_no_place_of_a_known_one(names: Names) -> None:
    lookup = SystemLookup(names)
    await lookup("known.example")
    attempts = [asyncio.create_task(attempt(lookup, f"h{number}.dead", 1.2)) for number in range(500)]
    await asyncio.sleep(0)
    took = [await seconds(lookup, "known.example") for _ in range(30)]
    await asyncio.gather(*attempts)
    took += [await seconds(lookup, "known.example") for _ in range(30)]
    lookup.close()
    assert max(took) < HEALTHY_MAX_S, sorted(took)[-3:]
    assert names.most <= ANSWERING + UNKNOWN + SILENT + LATE_MAX


async def test_known_names_that_die_together_give_their_places_back(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LATE_S", 0.2)
    lookup = SystemLookup(names)
    dying = [f"h{number}.dead" for number in range(ANSWERING + 8)]
    names.recovered.update(dying)
    for host in [*dying, "known.example"]:
        await lookup(host)
    names.recovered.clear()
    attempts = [asyncio.create_task(attempt(lookup, host)) for host in dying]
    await asyncio.sleep(0)
    took = await seconds(lookup, "known.example")
    await asyncio.gather(*attempts)
    later = await seconds(lookup, "known.example")
    lookup.close()
    assert took < 2, "as long as the first of them were not late"
    assert later < HEALTHY_MAX_S


async def test_names_that_were_silent_share_a_few_places_and_are_left_alone_for_a_while(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LATE_S", 0.1)
    monkeypatch.setattr(module, "SILENT_S", 0.3)
    lookup = SystemLookup(names)
    dead = [f"h{number}.dead" for number in range(40)]
    await asyncio.gather(*(attempt(lookup, host, 0.15) for host in dead))
    names.release()
    await until(lambda: not names.running)
    names.silence()
    await until(lambda: not lookup._running)
    asked = len(names.asked)
    start = time.monotonic()
    for host in dead:
        with pytest.raises(OSError, match="a moment ago"):
            await lookup(host)
    assert len(names.asked) == asked and time.monotonic() - start < 0.25, "they fail at once, and nobody is asked"
    await asyncio.sleep(0.35)
    names.most = 0
    await asyncio.gather(*(attempt(lookup, host, 0.2) for host in dead))
    assert names.most == SILENT
    assert await seconds(lookup, "new.example") < HEALTHY_MAX_S
    # One that came back is known again as soon as its turn came, although nobody waited so long.
    names.recovered.update(dead)
    names.release()
    await until(lambda: not lookup._running)
    assert await seconds(lookup, dead[-1]) < HEALTHY_MAX_S
    lookup.close()


async def test_a_quick_answer_that_there_is_no_such_name_is_not_remembered() -> None:
    answers: list[OSError | None] = [OSError("no such name"), None]

    def resolve(host: str) -> list[str]:
        answer = answers.pop(0)
        if answer is not None:
            raise answer
        return PUBLIC

    lookup = SystemLookup(resolve)
    with pytest.raises(OSError, match="no such name"):
        await lookup("a.example")
    assert await lookup("a.example") == PUBLIC
    lookup.close()


async def test_calls_for_one_name_share_one_question_and_its_answer_is_not_kept() -> None:
    asked: list[str] = []

    def slow(host: str) -> list[str]:
        asked.append(host)
        time.sleep(0.1)
        return [f"8.8.8.{len(asked)}"]

    lookup = SystemLookup(slow)
    assert await asyncio.gather(*(lookup("a.example") for _ in range(50))) == [["8.8.8.1"]] * 50
    assert asked == ["a.example"]
    assert await lookup("a.example") == ["8.8.8.2"]
    lookup.close()
    assert asked == ["a.example"] * 2


async def test_a_name_that_answers_something_else_the_next_time_is_judged_again() -> None:
    answers = [["8.8.8.8"], ["169.254.169.254"]]
    lookup = SystemLookup(lambda host: answers.pop(0))
    client = Egress(lookup=lookup)
    await client.check_url("https://rebound.example/")
    answer = await client.post("https://rebound.example/", b"{}", {})
    await client.close()
    lookup.close()
    assert answer.error == "the endpoint's address is not one that endpoints may have"


async def test_who_waits_when_it_is_closed_is_told_and_nobody_else_is_asked_for(names: Names) -> None:
    lookup = SystemLookup(names)
    waiting = asyncio.create_task(lookup("a.dead"))
    await until(lambda: names.running)
    lookup.close()
    with pytest.raises(OSError, match="closed"):
        await waiting
    with pytest.raises(OSError, match="moment ago"):
        await lookup("a.example")
    names.release()
    await until(lambda: not names.running)


async def test_a_system_without_threads_is_a_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    lookup = SystemLookup(lambda host: PUBLIC)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for _ in range(UNKNOWN + 1):
            with pytest.raises(OSError, match="new thread"):
                await lookup("a.example")
    assert await lookup("a.example") == PUBLIC
    lookup.close()


def test_a_name_that_no_server_takes_does_not_resolve() -> None:
    with pytest.raises(OSError):
        addresses("a" * 64 + ".example")
