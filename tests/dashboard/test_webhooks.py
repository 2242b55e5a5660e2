"""Pages of webhooks: who is told of what, what was taken and what not, and who may send it again."""

from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from urllib.parse import urlencode

import pytest

from outlay.core.event import RETRY_SCHEDULE_S
from outlay.store import deliveries, webhooks
from tests.dashboard.test_shell import ask
from tests.door import Door, Who, open_door_now

PAGES = "/dashboard/webhooks"
HOSTILE = '"><img src=x onerror=alert(1)><script>alert(2)</script>'
KIND = "wallet.created"


@dataclass(frozen=True)
class Scene:
    door: Door
    reader: Who  #: may read webhooks, not what they were told
    webhook: str

    def raw(self, path: str, who: Who | None = None) -> tuple[int, str]:
        answer, text = ask(self.door, path, token=(who or self.door.admin).token)
        return answer.status, text

    def page(self, path: str, who: Who | None = None) -> tuple[int, str]:
        status, text = self.raw(path, who)
        return status, unescape(text)


def deliver(door: Door, webhook_id: str, *, fails: bool) -> str:
    """Have one attempt made that is due; return its id."""

    def run(unit: object) -> str:
        now = door.clock.now()
        _, due = deliveries.due(unit, webhook_id, now=now, limit=1)  # type: ignore[arg-type]
        attempt = due[0]
        if not fails:
            deliveries.mark_delivered(unit, [(attempt.id, now, "200")])  # type: ignore[arg-type]
        else:
            schedule_s = () if attempt.attempt > 1 else RETRY_SCHEDULE_S[:1]
            failures = [deliveries.Failure(attempt, now, "0", f"no answer {HOSTILE}")]
            deliveries.mark_failed(unit, failures, schedule_s=schedule_s, entropy=door.gate.entropy)  # type: ignore[arg-type]
        return attempt.id

    return str(door.run_write(run))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with open_door_now(tmp_path_factory.mktemp("door")) as door:
        assert "Nobody is told yet" in ask(door, PAGES)[1]
        reader = door.person("reader@example.com", ["Webhooks:Read"])
        body = {"url": "https://pay.example.com/told", "events": ["*"], "description": HOSTILE}
        made = door.write(door.admin, "POST", "/webhooks", body).ok()
        scene = Scene(door, reader, made["id"])
        assert made["secret"] not in scene.raw(PAGES)[1]
        assert "Nothing was sent yet" in scene.page(f"{PAGES}/{made['id']}")[1]
        door.wallet()
        door.wallet()
        yield scene


def test_attempts_tell_what_came_of_them_and_what_comes_next(scene: Scene) -> None:
    taken = deliver(scene.door, scene.webhook, fails=False)
    failed = deliver(scene.door, scene.webhook, fails=True)
    here = f"{PAGES}/{scene.webhook}"
    status, text = scene.page(here)
    assert status == 200
    assert taken in text and failed in text and "nothing: it is done" in text and ">again <time" in text
    assert "no answer" in text and f"POST /v1/webhooks/{scene.webhook}/replay" in text
    shown = scene.page(f"{here}?failed=true")[1]
    assert failed in shown and taken not in shown
    shown = scene.page(f"{here}?failed=false&kind={KIND}")[1]
    assert taken in shown and failed not in shown
    assert "Nothing matches." in scene.page(f"{here}?kind=wallet.frozen")[1]
    assert scene.page(f"{here}?failed=perhaps")[0] == 400


def test_what_was_given_up_says_so_and_what_was_told_can_be_read(scene: Scene) -> None:
    door, here = scene.door, f"{PAGES}/{scene.webhook}"
    door.wallet()
    failed = deliver(door, scene.webhook, fails=True)
    door.execute("UPDATE delivery SET next_attempt_at = NULL WHERE id = ?", failed)
    assert "given up: send it again by hand" in scene.page(here)[1]
    status, text = scene.page(f"{here}/attempts/{failed}")
    assert status == 200 and "none: given up" in text and '"deliveryFailed": true' in text
    assert scene.page(f"{here}/attempts/whe-x")[0] == 404


def test_pages_of_attempts_follow_each_other(scene: Scene) -> None:
    door, here = scene.door, f"{PAGES}/{scene.webhook}"
    for _ in range(3):
        door.wallet()
        deliver(door, scene.webhook, fails=False)
    first = scene.page(f"{here}?limit=2&failed=false")[1]
    assert first.count("<tr>") == 3 and "Next page" in first
    found, token = door.run_write(
        lambda unit: deliveries.list_events(unit, scene.webhook, delivery_failed=False, limit=2)
    )
    second = scene.page(f"{here}?{urlencode({'failed': 'false', 'limit': '2', 'paginationToken': token})}")[1]
    assert not any(each.id in second for each in found) and "First page" in second


def test_what_one_may_not_do_is_not_offered(scene: Scene) -> None:
    status, text = scene.page(f"{PAGES}/{scene.webhook}", scene.reader)
    assert status == 200 and "the permission Webhooks:Events:Read is needed" in text.replace("<code>", "").replace(
        "</code>", ""
    )
    assert "data-sign=" not in text and "data-does=" not in text
    assert "<form" not in scene.page(PAGES, scene.reader)[1]
    attempt = deliver_one(scene)
    assert scene.page(f"{PAGES}/{scene.webhook}/attempts/{attempt}", scene.reader)[0] == 403
    nobody = scene.door.person("nobody@example.com")
    assert scene.page(PAGES, nobody)[0] == 403 and scene.page(f"{PAGES}/{scene.webhook}", nobody)[0] == 403


def deliver_one(scene: Scene) -> str:
    scene.door.wallet()
    return deliver(scene.door, scene.webhook, fails=False)


def test_addresses_descriptions_and_errors_are_shown_as_text(scene: Scene) -> None:
    for path in (PAGES, f"{PAGES}/{scene.webhook}"):
        status, text = scene.raw(path)
        assert status == 200
        assert "<img" not in text and "<script>" not in text and "&lt;script&gt;alert(2)" in text


def test_why_it_was_switched_off_is_told_and_how_to_go_on(scene: Scene) -> None:
    door = scene.door
    made = door.write(door.admin, "POST", "/webhooks", {"url": "https://b.example.com", "events": [KIND]}).ok()
    now = door.clock.now()
    door.run_write(lambda unit: webhooks.note_outcomes(unit, working=[], failing=[made["id"]], since=now))
    assert ">failing</span> since" in scene.page(PAGES)[1]
    door.run_write(
        lambda unit: webhooks.disable_failing(unit, [made["id"]], since=now, now=now, entropy=door.gate.entropy)
    )
    for path in (PAGES, f"{PAGES}/{made['id']}"):
        assert "Switched off by itself: every attempt has failed since" in scene.page(path)[1]
    text = scene.page(f"{PAGES}/{made['id']}")[1]
    assert 'data-body=\'{"status":"Enabled"}\'' in text and "Enable the webhook first." in text
