"""The queue by itself: what it keeps, what it says again, how it ends."""

import json
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from outlay.client import ApiError, Pace, PayoutQueue, Retry
from outlay.client.queue import Refused
from outlay.core.errors import InvalidInput, OutcomeUnknown
from tests.world import until

SOON = Retry(first_s=0.001, longest_s=0.002)


class Server:
    """Pays each id once, and answers as told first."""

    def __init__(self, *answers: Exception) -> None:
        """Keep what it answers before it answers well."""
        self.answers, self.calls, self.paid = list(answers), list[str](), dict[str, Any]()

    def send(self, external_id: str, item: dict[str, Any]) -> Any:
        """Pay."""
        self.calls.append(external_id)
        if self.answers:
            raise self.answers.pop(0)
        self.paid.setdefault(external_id, item)
        return {"id": f"xfr-{external_id}"}


def refusal() -> ApiError:
    return ApiError(400, {"error": {"message": "no such asset", "code": "invalid_input"}})


def test_what_is_put_is_sent_until_it_is_answered() -> None:
    server = Server(OutcomeUnknown("?"), TimeoutError(), ApiError(503, {}), ApiError(429, {}, retry_after_s=0))
    with PayoutQueue(server.send, retry=SOON, workers=1) as queue:
        ticket = queue.put({"amount": "1"}, external_id="a")
        assert ticket.result(5) == {"id": "xfr-a"}
    assert server.calls == ["a"] * 5
    assert server.paid == {"a": {"amount": "1"}}


def test_the_same_id_is_the_same_payout_and_another_item_is_refused() -> None:
    server = Server()
    with PayoutQueue(server.send, workers=1) as queue:
        assert queue.put({"amount": "1"}, external_id="a") is queue.put({"amount": "1"}, external_id="a")
        with pytest.raises(InvalidInput):
            queue.put({"amount": "2"}, external_id="a")
    assert server.calls == ["a"]
    with pytest.raises(InvalidInput):
        queue.put({"amount": "1"})


def test_ids_are_made_up_before_anything_is_sent() -> None:
    server = Server(OutcomeUnknown("?"))
    with PayoutQueue(server.send, retry=SOON, workers=1) as queue:
        queue.put({"amount": "1"}).result(5)
    assert len(set(server.calls)) == 1
    assert len(server.calls) == 2


def test_a_refusal_ends_it_for_good_in_every_life(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    with PayoutQueue(Server(refusal()).send, path=path, workers=1) as queue:
        refused = queue.put({"amount": "1"}, external_id="a")
    with pytest.raises(ApiError, match="no such asset"):
        refused.result(0)
    server = Server()
    with PayoutQueue(server.send, path=path, workers=1) as queue:
        assert queue.tickets() == {}
        with pytest.raises(Refused, match="no such asset") as caught:
            queue.put({"amount": "1"}, external_id="a").result(0)
    assert (caught.value.status, caught.value.code) == (400, "invalid_input")
    assert server.calls == []


def test_an_answer_is_remembered_and_not_asked_for_again(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    with PayoutQueue(Server().send, path=path) as queue:
        queue.put({"amount": "1"}, external_id="a")
    server = Server()
    with PayoutQueue(server.send, path=path) as queue:
        assert queue.put({"amount": "1"}, external_id="a").result(0) == {"id": "xfr-a"}
        with pytest.raises(InvalidInput):
            queue.put({"amount": "2"}, external_id="a")
    assert server.calls == []


def test_closing_at_once_leaves_what_waits_to_the_next_life(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    away = Server(*[OutcomeUnknown("?")] * 10_000)
    queue = PayoutQueue(away.send, path=path, retry=Retry(first_s=60, longest_s=60, chance=lambda: 1.0), workers=2)
    tickets = {name: queue.put({"amount": name}, external_id=name) for name in "abcd"}
    until(lambda: len(away.calls) >= 2, "nothing was sent")
    began = time.monotonic()
    queue.close(wait_s=0)
    assert time.monotonic() - began < 5, "closing does not wait for a back-off"
    for name, ticket in tickets.items():
        with pytest.raises(OutcomeUnknown) as caught:
            ticket.result(0)
        assert caught.value.details["externalIds"] == [name]
    server = Server()
    with PayoutQueue(server.send, path=path) as queue:
        assert queue.wait(5)
        assert queue.tickets() == {}, "the file knows them now"
        for name in "abcd":
            assert queue.put({"amount": name}, external_id=name).result(0)["id"] == f"xfr-{name}"
    assert sorted(server.calls) == list("abcd")


def test_a_refusal_after_an_attempt_that_nobody_answered_is_no_refusal(tmp_path: Path) -> None:
    """The first call was carried out and its answer lost; by the second the token has run out."""
    path, server = tmp_path / "queue.db", Server()

    def send(external_id: str, item: dict[str, Any]) -> Any:
        server.send(external_id, item)
        raise TimeoutError if len(server.calls) == 1 else ApiError(401, {"error": {"message": "token expired"}})

    with PayoutQueue(send, path=path, retry=SOON, workers=1) as queue:
        ticket = queue.put({"amount": "1"}, external_id="a")
        with pytest.raises(OutcomeUnknown, match="token expired"):
            ticket.result(5)
    with PayoutQueue(server.send, path=path, retry=SOON, workers=1) as queue:
        assert queue.wait(5)
        assert queue.put({"amount": "1"}, external_id="a").result(0) == {"id": "xfr-a"}
    assert list(server.paid) == ["a"]


def test_what_an_earlier_life_may_have_sent_is_not_refused_either(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    queue = PayoutQueue(Server(*[OutcomeUnknown("?")] * 10_000).send, path=path, retry=SOON, workers=1)
    queue.put({"amount": "1"}, external_id="a")
    queue.close(wait_s=0)
    with PayoutQueue(Server(refusal()).send, path=path, workers=1) as queue:
        assert queue.wait(5)
    rows = sqlite3.connect(path).execute("SELECT external_id, state FROM payout").fetchall()
    assert rows == [("a", "waiting")]


def test_a_ticket_cannot_be_cancelled_and_nobody_behind_it_is_held_up() -> None:
    gate = threading.Event()

    def send(external_id: str, item: dict[str, Any]) -> Any:
        gate.wait(5)
        return {"id": external_id}

    with PayoutQueue(send, workers=1) as queue:
        first, second = queue.put({}, external_id="a"), queue.put({}, external_id="b")
        assert not first.cancel()
        gate.set()
        assert (first.result(5), second.result(5)) == ({"id": "a"}, {"id": "b"})


def test_an_answer_that_cannot_be_kept_is_unknown_and_the_worker_lives(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    with PayoutQueue(Server().send, path=path, workers=1) as queue:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute(
            "CREATE TRIGGER full BEFORE UPDATE ON payout WHEN new.external_id = 'a' BEGIN "
            "SELECT RAISE(ABORT, 'disk is full'); END"
        )
        other.close()
        with pytest.raises(OutcomeUnknown, match="disk is full"):
            queue.put({}, external_id="a").result(5)
        assert queue.put({}, external_id="b").result(5) == {"id": "xfr-b"}


def test_more_requests_than_the_pace_allows_are_refused_at_once() -> None:
    with pytest.raises(InvalidInput):
        PayoutQueue(Server().send, pace=Pace(2, 60), requests=3)


def test_without_a_file_what_was_not_answered_is_unknown_at_the_end() -> None:
    queue = PayoutQueue(Server(*[OutcomeUnknown("?")] * 10_000).send, retry=SOON)
    ticket = queue.put({"amount": "1"}, external_id="a")
    assert not queue.wait(0.05)
    queue.close(wait_s=0)
    with pytest.raises(OutcomeUnknown):
        ticket.result(0)


def test_an_error_inside_the_block_does_not_wait() -> None:
    with pytest.raises(RuntimeError), PayoutQueue(Server(*[OutcomeUnknown("?")] * 10_000).send, retry=SOON) as queue:
        queue.put({"amount": "1"})
        raise RuntimeError("the program goes on elsewhere")


KILLED = """
import os, sys
from pathlib import Path
from outlay.client import PayoutQueue

def send(external_id, item):
    if external_id == "c":
        os._exit(9)
    with open(sys.argv[2], "a") as told:
        told.write(external_id + "\\n")
    return {"id": external_id}

queue = PayoutQueue(send, path=Path(sys.argv[1]), workers=1)
for name in "abcde":
    queue.put({"amount": name}, external_id=name)
queue.close()
"""


def test_a_program_that_is_killed_loses_nothing(tmp_path: Path) -> None:
    path, told = tmp_path / "queue.db", tmp_path / "told"
    ended = subprocess.run([sys.executable, "-c", KILLED, str(path), str(told)], check=False)
    assert ended.returncode == 9
    before = told.read_text().split() if told.exists() else []
    kept = dict(sqlite3.connect(path).execute("SELECT external_id, state FROM payout").fetchall())
    assert set(before) <= set(kept), "what was sent had been kept first"
    server = Server()
    with PayoutQueue(server.send, path=path) as queue:
        for name in "abcde":
            queue.put({"amount": name}, external_id=name)
    answered = {name for name, state in kept.items() if state == "answered"}
    assert sorted(server.calls) == sorted(set("abcde") - answered)


def test_many_may_put_at_once() -> None:
    server, tickets = Server(), list[Any]()
    with PayoutQueue(server.send, workers=8) as queue:

        def put(number: int) -> None:
            tickets.extend(queue.put({"amount": str(each)}, external_id=f"{each}") for each in range(50))

        threads = [threading.Thread(target=put, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(tickets) == 400
    assert len(server.calls) == len(server.paid) == 50
    assert json.dumps(sorted(server.paid)) == json.dumps(sorted(str(each) for each in range(50)))
