"""The calls about events and webhooks of our own, over real HTTP: the feed, replays, secrets that change over."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from outlay.store import deliveries, webhooks
from outlay.system import SystemEntropy
from outlay.web.v1.events import WAITING_OF_ONE, EventController
from tests.door import Door, Who, check_refusal, open_door

ENTROPY = SystemEntropy()


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with open_door(tmp_path_factory.mktemp("door")) as opened:
        yield opened


@pytest.fixture(scope="module")
def reader(door: Door) -> Who:
    return door.service_account("reader", ["Webhooks:Events:Read"])


def hook(door: Door, *events: str) -> Any:
    body = {"url": "https://example.com/hook", "events": list(events) or ["*"]}
    return door.write(door.admin, "POST", "/webhooks", body).ok()


def refused(door: Door, path: str, body: Any) -> Any:
    answer = door.write(door.admin, "POST", path, body)
    check_refusal(answer)
    return answer


def planned(door: Door, webhook_id: str) -> list[str]:
    sql = "SELECT event_id FROM delivery WHERE webhook_id = ? AND state = 'pending' ORDER BY event_id"
    return [row[0] for row in door.rows(sql, webhook_id)]


def read_feed(door: Door, who: Who, query: str = "") -> tuple[list[Any], str]:
    items: list[Any] = []
    after = ""
    while True:
        page = door.get(f"/v1/events?limit=2&after={after}{query}", who).ok()
        assert len(page["items"]) <= 2
        items, after = items + page["items"], page["cursor"]
        if page["isLast"]:
            return items, after


def test_the_feed_tells_everything_in_order_to_who_may_read_it(door: Door, reader: Who) -> None:
    wallets = [door.wallet()["id"] for _ in range(3)]
    items, after = read_feed(door, reader)
    stored = door.rows("SELECT id, kind, subject, subject_seq FROM event ORDER BY seq")
    assert [(each["id"], each["kind"], each["subject"], each["sequence"]) for each in items] == stored
    assert [each["subject"] for each in items if each["kind"] == "wallet.created"][-3:] == wallets
    created, _ = read_feed(door, reader, "&kind=wallet.created")
    assert created == [each for each in items if each["kind"] == "wallet.created"]
    assert door.get(f"/v1/events?after={after}", reader).ok() == {"items": [], "cursor": after, "isLast": True}
    nobody = door.service_account("no reader", ["Webhooks:Read"])
    answer = door.get("/v1/events", nobody)
    assert (answer.status, answer.details) == (403, {"operation": "Webhooks:Events:Read"})
    for query, field in (("after=x", "after"), ("wait=31", "wait"), ("wait=-1", "wait"), ("kind=x", "kind")):
        answer = door.get(f"/v1/events?{query}", reader)
        check_refusal(answer)
        assert (answer.status, answer.field) == (400, field)


def test_a_call_that_waits_is_answered_when_something_happens(door: Door, reader: Who) -> None:
    _, after = read_feed(door, reader)
    started = time.monotonic()
    assert door.get(f"/v1/events?after={after}&wait=1", reader).ok()["items"] == []
    assert time.monotonic() - started >= 1
    timer = threading.Timer(0.3, door.wallet)
    timer.start()
    started = time.monotonic()
    (item,) = door.get(f"/v1/events?after={after}&wait=20", reader).ok()["items"]
    assert item["kind"] == "wallet.created"
    assert time.monotonic() - started < 10
    timer.join()


def test_nobody_takes_the_places_to_wait_of_all_others(door: Door, reader: Who) -> None:
    _, after = read_feed(door, reader)
    other = door.service_account("another reader", ["Webhooks:Events:Read"])
    path = f"/v1/events?after={after}&wait=3"
    started = time.monotonic()
    took: list[float] = []

    def wait() -> None:
        assert door.get(path, reader).ok()["items"] == []
        took.append(time.monotonic() - started)

    threads = [threading.Thread(target=wait) for _ in range(WAITING_OF_ONE)]
    for thread in threads:
        thread.start()
    while EventController.waiting[reader.user_id] < WAITING_OF_ONE:
        assert time.monotonic() - started < 3
        time.sleep(0.01)
    before = time.monotonic()
    assert door.get(path, reader).ok() == {"items": [], "cursor": after, "isLast": True}
    assert time.monotonic() - before < 0.9, "one too many is answered at once"
    before = time.monotonic()
    assert door.get(f"/v1/events?after={after}&wait=1", other).ok()["items"] == []
    assert time.monotonic() - before >= 1, "another caller has places of his own"
    for thread in threads:
        thread.join()
    assert len(took) == WAITING_OF_ONE and min(took) >= 3
    assert not EventController.waiting, "all places are free again, and nobody is remembered"


def test_what_was_given_up_is_looked_for_outside_the_unit_that_writes(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = hook(door, "wallet.created")
    for _ in range(3):
        door.wallet()

    def give_up(unit: Any) -> list[str]:
        rows = deliveries.due(unit, made["id"], now=2**60, limit=9)[1]
        failures = [deliveries.Failure(row, 1, "500", "no") for row in rows]
        deliveries.mark_failed(unit, failures, schedule_s=[], entropy=ENTROPY)
        return [row.event_id for row in rows]

    parked: list[str] = door.run_write(give_up)
    looks: list[Any] = []
    real = deliveries.parked_events

    def look(unit: Any, webhook_id: str, *, limit: int, among: Any = None) -> Any:
        looks.append(among)
        return real(unit, webhook_id, limit=limit, among=among)

    monkeypatch.setattr(deliveries, "parked_events", look)
    path = f"/v1/webhooks/{made['id']}/replay"
    assert door.write(door.admin, "POST", path, {"failed": True, "limit": 2}).ok() == {"count": 2}
    assert looks == [None, parked[:2]], "the unit looks at those few only that the read found"
    assert planned(door, made["id"]) == sorted(parked[:2])

    # What was sent again between the read and the unit is not sent once more.
    def late(unit: Any, webhook_id: str, *, limit: int, among: Any = None) -> Any:
        return (
            real(unit, webhook_id, limit=limit, among=among) if among is not None else [(each, "") for each in parked]
        )

    monkeypatch.setattr(deliveries, "parked_events", late)
    assert door.write(door.admin, "POST", path, {"failed": True}).ok() == {"count": 1}
    assert planned(door, made["id"]) == sorted(parked)

    nobody = door.service_account("replays nothing", ["Webhooks:Read"])
    looks.clear()
    monkeypatch.setattr(deliveries, "parked_events", look)
    assert door.write(nobody, "POST", path, {"failed": True}).status == 403
    assert looks == [], "nothing is looked for on behalf of somebody who may not"


def test_events_are_sent_again_by_id_time_payout_and_failure(door: Door, reader: Who) -> None:
    early = door.wallet()["id"]
    for _ in range(2):
        door.wallet()
    made = hook(door, "wallet.created")
    path = f"/v1/webhooks/{made['id']}/replay"
    items, _ = read_feed(door, reader, "&kind=wallet.created")
    missed = next(each for each in items if each["subject"] == early)
    assert planned(door, made["id"]) == []
    for _ in range(2):
        assert door.write(door.admin, "POST", path, {"eventId": missed["id"]}).ok() == {"count": 1}
        assert planned(door, made["id"]) == [missed["id"]]

    whole = hook(door, "wallet.created")
    again = f"/v1/webhooks/{whole['id']}/replay"
    body: dict[str, Any] = {"since": items[0]["date"], "until": "2100-01-01T00:00:00Z", "limit": 2}
    count = 0
    while True:
        answer = door.write(door.admin, "POST", again, body).ok()
        count += answer["count"]
        if "nextPageToken" not in answer:
            break
        body["paginationToken"] = answer["nextPageToken"]
    assert count == len(items)
    assert planned(door, whole["id"]) == sorted(each["id"] for each in items)

    def give_up(unit: Any) -> None:
        rows = deliveries.due(unit, whole["id"], now=2**60, limit=2)[1]
        failures = [deliveries.Failure(row, 1, "500", "no") for row in rows]
        deliveries.mark_failed(unit, failures, schedule_s=[], entropy=ENTROPY)

    door.run_write(give_up)
    assert len(planned(door, whole["id"])) == len(items) - 2
    assert door.write(door.admin, "POST", again, {"failed": True}).ok() == {"count": 2}
    assert door.write(door.admin, "POST", again, {"failed": True}).ok() == {"count": 0}
    assert len(planned(door, whole["id"])) == len(items)

    payout = "xfr-00000-00000-0000000000000000"
    door.run_write(
        lambda unit: webhooks.emit(
            unit, kind="wallet.transfer.requested", subject=payout, data={}, now=door.clock.now(), entropy=ENTROPY
        )
    )
    all_kinds = hook(door)
    answer = door.write(door.admin, "POST", f"/v1/webhooks/{all_kinds['id']}/replay", {"payoutId": payout})
    assert answer.ok() == {"count": 1}
    assert door.write(door.admin, "POST", path, {"payoutId": payout}).ok() == {"count": 0}, "it does not subscribe"


def test_a_replay_says_what_is_wrong(door: Door) -> None:
    made = hook(door)
    path = f"/v1/webhooks/{made['id']}/replay"
    nothing = {"eventId": "evt-00000-00000-0000000000000000"}
    bodies: list[dict[str, Any]] = [
        {},
        {"failed": False},
        {"until": "2030-01-01T00:00:00Z"},
        {**nothing, "failed": True},
        {"failed": True, "until": "2030-01-01T00:00:00Z"},
    ]
    for body in bodies:
        assert refused(door, path, body).status == 400, body
    for body, field in (
        ({"failed": True, "limit": 0}, "limit"),
        ({"failed": True, "limit": 1001}, "limit"),
        ({"since": "yesterday"}, "since"),
        ({"since": "2026-01-01T00:00:00Z", "until": "x"}, "until"),
        ({"since": "2026-01-01T00:00:00Z", "paginationToken": "x"}, "paginationToken"),
    ):
        answer = refused(door, path, body)
        assert (answer.status, answer.field) == (400, field)
    assert refused(door, path, nothing).status == 404
    door.write(door.admin, "PUT", f"/webhooks/{made['id']}", {"status": "Disabled"}).ok()
    assert refused(door, path, {"failed": True}).status == 412


def test_a_secret_is_shown_once_and_the_old_one_has_an_end(door: Door) -> None:
    made = hook(door)
    path = f"/v1/webhooks/{made['id']}/secret"
    answer = door.write(door.admin, "POST", path, {}).ok()
    assert answer["secret"] != made["secret"] and answer["secret"].startswith("whsec_")
    assert "oldSecretUntil" in answer
    shown = door.get(f"/webhooks/{made['id']}", door.admin)
    assert "ecret" not in shown.raw.decode()
    assert "oldSecretUntil" not in door.write(door.admin, "POST", path, {"overlapMinutes": 0}).ok()
    for minutes in (-1, 43_201, "1", True, 1.5):
        answer = refused(door, path, {"overlapMinutes": minutes})
        assert (answer.status, answer.field) == (400, "overlapMinutes")
    bot = door.service_account("secretless", ["Webhooks:Read"])
    refusal = door.write(bot, "POST", path, {})
    assert (refusal.status, refusal.details) == (403, {"operation": "Webhooks:Update"})
