"""A full queue: refused means nothing was stored or spent, accepted means it ends; both under load."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from outlay.store.database import Unit
from tests.door import PAYER, Answer, Door, Who, open_door, transfer

PLACES = 5
EXTRA = f"\n[api]\nqueue_max = {PLACES}\n"


@contextmanager
def stopped_writer(door: Door) -> Iterator[None]:
    """Keep the database's writer busy for as long as the block takes."""
    begun, go_on = threading.Event(), threading.Event()

    def hold(_unit: Unit) -> None:
        begun.set()
        assert go_on.wait(60)

    holder = threading.Thread(target=door.run_write, args=(hold,))
    holder.start()
    try:
        assert begun.wait(20)
        yield
    finally:
        go_on.set()
        holder.join()


def prepared(door: Door, payer: Who, count: int) -> list[tuple[str, Any, str]]:
    """Return signed requests: path, body and user-action token."""
    path = f"/wallets/{door.wallet()['id']}/transfers"
    bodies = [transfer(externalId=f"load-{number}") for number in range(count)]
    return [(path, body, door.sign(payer, "POST", path, body)) for body in bodies]


def check_sent_away(answer: Answer) -> None:
    assert (answer.status, answer.code) == (429, "too_many_requests")
    assert int(answer.headers["retry-after"]) >= 1


def test_beyond_the_queue_nothing_is_stored_or_spent_and_what_has_a_place_ends(tmp_path: Path) -> None:
    with open_door(tmp_path, extra=EXTRA) as door, ThreadPoolExecutor(20) as pool:
        payer = door.service_account("payouts bot", PAYER)
        requests = prepared(door, payer, 20)

        def post(request: tuple[str, Any, str]) -> Answer:
            path, body, action = request
            return door.call("POST", path, body, token=payer.token, action=action)

        spent = len(door.rows("SELECT nonce FROM spent_nonce"))
        with stopped_writer(door):
            waiting = [pool.submit(post, request) for request in requests]
            deadline = time.monotonic() + 30
            while sum(each.done() for each in waiting) < len(requests) - PLACES:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert door.gate.places.taken == PLACES
            assert door.rows("SELECT id FROM transfer") == []
        answers = [each.result() for each in waiting]
        sent_away = [at for at, answer in enumerate(answers) if answer.status != 200]
        assert len(sent_away) == len(requests) - PLACES
        for at in sent_away:
            check_sent_away(answers[at])
        accepted = {json.dumps(answer.ok()["id"]) for answer in answers if answer.status == 200}
        assert len(door.rows("SELECT id FROM transfer")) == len(accepted) == PLACES
        assert len(door.rows("SELECT nonce FROM spent_nonce")) == spent + PLACES
        assert door.gate.places.taken == 0
        for at in sent_away:  # the same signed call, once there is a place
            assert post(requests[at]).ok()["status"] == "Executing"
        assert len(door.rows("SELECT id FROM transfer")) == len(requests)


def test_a_refusal_gives_its_place_back(tmp_path: Path) -> None:
    with open_door(tmp_path, extra="\n[api]\nqueue_max = 1\n") as door:
        payer = door.service_account("payouts bot", PAYER)
        path = f"/wallets/{door.wallet()['id']}/transfers"
        for _ in range(3):
            assert door.call("POST", path, transfer(), token=payer.token, action="none").status == 403
            assert door.write(payer, "POST", path, transfer(to="0x" + "0" * 40)).status == 400
        assert door.write(payer, "POST", path, transfer()).ok()["status"] == "Executing"
