"""Pages of schedules: recurring payouts with each date, refills with their wallets, and a draft with its next dates."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from html import unescape
from typing import Any

import pytest

from outlay.core.address import checksum
from outlay.core.seams import DAY, HOUR
from outlay.store import recurring as runs
from outlay.web.dashboard.calendar_words import calendar_words
from tests.dashboard.test_shell import OURS, ask
from tests.door import NETWORK, RECIPIENT, TOKEN, Door, Who, open_door

PAGES = "/dashboard/schedules"
HOSTILE = '"><script>alert(1)</script>'
MIDNIGHT = 1_767_312_000_000_000  # of January 2, 2026, in UTC
MONTHLY = {"every": "month", "at": "09:00", "day": 31}


@dataclass(frozen=True)
class Scene:
    door: Door
    wallet: str
    rent: str
    refill: str
    reader: Who
    nobody: Who

    def page(self, path: str, who: Who | None = None) -> tuple[int, str]:
        answer, text = ask(self.door, path, token=(who or self.door.admin).token)
        return answer.status, text

    def check(self, body: Any, who: Who | None = None, **headers: str) -> tuple[int, Any]:
        sent = {"origin": OURS, "sec_fetch_site": "same-origin", **headers}
        token = (who or self.door.admin).token
        answer, text = ask(
            self.door, f"{PAGES}/check", method="POST", token=token, body=json.dumps(body).encode(), **sent
        )
        return answer.status, json.loads(text)


def rent(wallet: str, **changes: Any) -> dict[str, Any]:
    body = {
        "name": "rent",
        "kind": "Recurring",
        "network": NETWORK,
        "asset": TOKEN,
        "amount": "1250500000",
        "recipient": RECIPIENT,
        "memo": HOSTILE,
        "walletId": wallet,
        "calendar": MONTHLY,
        "timeZone": "Europe/Berlin",
        "from": "2026-01-01",
        "missed": {"catchUpMinutes": 90},
        **changes,
    }
    return {name: value for name, value in body.items() if value is not None}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with open_door(tmp_path_factory.mktemp("door"), begins=MIDNIGHT) as door:
        assert "make one" in ask(door, PAGES)[1]
        assert "There is no wallet that could pay" in ask(door, f"{PAGES}/new")[1]
        wallet, treasury = door.wallet()["id"], door.wallet()["id"]
        made = door.write(door.admin, "POST", "/v1/mandates", rent(wallet, name=HOSTILE)).ok()
        refill = {
            "name": "gas",
            "kind": "GasTopUp",
            "network": NETWORK,
            "treasury": {"walletId": treasury},
            "wallets": {"walletIds": [wallet]},
            "unit": "payouts",
            "min": "10",
            "target": "20",
            "max": "30",
            "perRefillMax": str(10**18),
            "window": {"amount": str(5 * 10**18), "count": 10, "minutes": 1440},
        }
        filled = door.write(door.admin, "POST", "/v1/mandates", refill).ok()
        reader = door.person("reader@example.com", ["Mandates:Read"])
        yield Scene(door, wallet, made["id"], filled["id"], reader, door.person("nobody@example.com"))


def test_each_is_listed_with_what_it_does_and_when_next(scene: Scene) -> None:
    status, text = scene.page(PAGES)
    assert status == 200
    assert (
        "1,250.5 USDC</strong> on day 31 of each month, or the last where it is shorter at 09:00, Europe/Berlin" in text
    )
    assert f'<code class="address">{checksum(RECIPIENT)}</code>' in text
    assert "Next on 2026-01-31" in text and "Keeps wallets able to pay fees" in text
    assert "gas" not in scene.page(f"{PAGES}?kind=recurring")[1].partition('id="schedules"')[2]
    assert "USDC" not in scene.page(f"{PAGES}?kind=refill")[1].partition('id="schedules"')[2]
    assert scene.page(f"{PAGES}?kind=odd")[0] == scene.page(f"{PAGES}?status=odd")[0] == 400


def test_one_tells_its_next_dates_in_its_own_time_and_in_utc(scene: Scene) -> None:
    status, text = scene.page(f"{PAGES}/{scene.rent}")
    assert status == 200
    assert "2026-03-31T09:00:00+02:00, Europe/Berlin" in text, "the clocks were put forward"
    assert 'datetime="2026-03-31T07:00:00.000Z"' in text
    assert "2026-02-28T09:00:00+01:00" in text
    assert "it is tried for 1 h 30 min after it was due" in text
    assert f"outlay freeze --dir DIR --identity {scene.rent} --reason" in text
    assert f'data-sign="POST /v1/mandates/{scene.rent}/archive"' in text
    assert "No date has come yet" in text


def test_what_became_of_each_date_is_told_with_the_reason(scene: Scene) -> None:
    made = scene.door.write(scene.door.admin, "POST", "/v1/mandates", rent(scene.wallet, name="past")).ok()["id"]
    kept = (("2026-01-31", runs.MISSED, "It could not be asked for in time."), ("2026-02-28", runs.DUE, HOSTILE))
    for on, state, reason in kept:
        values: dict[str, Any] = {"due_at": MIDNIGHT + 30 * DAY + 8 * HOUR, "status": state, "reason": reason}
        scene.door.run_write(partial(runs.keep, mandate_id=made, on=on, **values))
    text = scene.page(f"{PAGES}/{made}")[1]
    assert "It could not be asked for in time." in text and "Missed" in text and "2026-02-28" in text
    assert "<script>alert" not in text
    missed = scene.page(f"{PAGES}/{made}?status=Missed")[1].partition("What became of each date")[2]
    assert "2026-01-31" in missed and "2026-02-28" not in missed
    assert scene.page(f"{PAGES}/{made}?status=Odd")[0] == 400


def test_a_refill_tells_how_each_wallet_stands(scene: Scene) -> None:
    status, text = scene.page(f"{PAGES}/{scene.refill}")
    assert status == 200
    assert "below 10 payouts at the highest fee cap a wallet is filled up to 20 payouts" in " ".join(text.split())
    assert "0.5 ETH" in text and "the treasury cannot pay the fees of a refill" in text
    assert "5 ETH in 10 refills within 1 d" in text


@pytest.mark.parametrize("place", ["", "/{}"])
def test_what_people_wrote_is_text(scene: Scene, place: str) -> None:
    text = scene.page(PAGES + place.format(scene.rent))[1]
    assert "<script>alert" not in text and "&lt;script&gt;alert(1)" in text


def test_one_that_is_archived_offers_nothing_and_pays_nothing(scene: Scene) -> None:
    made = scene.door.write(scene.door.admin, "POST", "/v1/mandates", rent(scene.wallet, name="over")).ok()["id"]
    scene.door.write(scene.door.admin, "POST", f"/v1/mandates/{made}/archive").ok()
    text = scene.page(f"{PAGES}/{made}")[1]
    assert "Archived" in text and "data-sign=" not in text and "<h2>Next</h2>" not in text
    assert made not in scene.page(PAGES)[1] and made in scene.page(f"{PAGES}?status=Archived")[1]


def test_a_draft_is_told_with_its_next_dates_and_nothing_is_done(scene: Scene) -> None:
    before = scene.door.stored()
    calendar = {
        "every": "week",
        "at": "18:00",
        "days": ["Friday", "Monday"],
        "adjust": "next",
        "leaveOut": ["2026-01-05"],
    }
    status, told = scene.check(rent(scene.wallet, calendar=calendar, timeZone="UTC"))
    assert status == 200
    assert told["words"] == (
        "each week on Monday, Friday at 18:00, UTC; a weekend or a day left out moves to the next weekday"
    )
    assert [each["date"] for each in told["next"]] == [
        "2026-01-02",
        "2026-01-06",
        "2026-01-09",
        "2026-01-12",
        "2026-01-16",
    ]
    assert told["recipient"] == checksum(RECIPIENT) and told["document"]["amount"] == "1250500000"
    assert scene.door.stored() == before


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"recipient": "0x1"}, "recipient"),
        ({"amount": "0"}, "amount"),
        ({"walletId": "wa-xxxxx-xxxxx-xxxxxxxxxxxxxxxx"}, "walletId"),
        ({"timeZone": "Mars/Olympus"}, "timeZone"),
        ({"calendar": {**MONTHLY, "at": "25:00"}}, "calendar.at"),
        ({"recipient": TOKEN}, "recipient"),
        ({"asset": "0x" + "77" * 20}, "asset"),
    ],
)
def test_a_draft_is_refused_as_the_call_itself_would_be(scene: Scene, changes: dict[str, Any], field: str) -> None:
    body = rent(scene.wallet, **changes)
    status, told = scene.check(body)
    assert (status, told["error"]["details"]["field"]) == (400, field)
    refused = scene.door.write(scene.door.admin, "POST", "/v1/mandates", body)
    assert (refused.status, refused.field, refused.message) == (400, field, told["error"]["message"])


def test_who_may_only_read_is_offered_nothing_and_who_may_not_is_told_so(scene: Scene) -> None:
    for place in ("", f"/{scene.rent}", f"/{scene.refill}"):
        status, text = scene.page(PAGES + place, scene.reader)
        assert status == 200 and "data-sign=" not in text and f"{PAGES}/new" not in text
        assert scene.page(PAGES + place, scene.nobody)[0] == 403
    assert scene.page(f"{PAGES}/new", scene.reader)[0] == 403
    assert scene.check(rent(scene.wallet), scene.nobody)[0] == 403
    assert scene.check(rent(scene.wallet), origin="https://evil.example")[0] == 401
    assert scene.page(f"{PAGES}/md-xxxxx-xxxxx-xxxxxxxxxxxxxxxx")[0] == 404
    assert scene.page(f"{PAGES}/sc-xxxxx-xxxxx-xxxxxxxxxxxxxxxx")[0] == 404


def test_the_form_offers_what_there_is(scene: Scene) -> None:
    text = unescape(scene.page(f"{PAGES}/new")[1])
    assert f'value="{scene.wallet}"' in text and f'value="{NETWORK}/{TOKEN}"' in text and 'data-decimals="6"' in text


@pytest.mark.parametrize(
    ("calendar", "said"),
    [
        ({"every": "day", "at": "00:00", "adjust": "none", "leaveOut": []}, "each day at 00:00, UTC"),
        (
            {"every": "day", "at": "00:00", "adjust": "none", "leaveOut": ["2026-01-01"]},
            "each day at 00:00, UTC; 1 date left out",
        ),
        ({"every": "month", "at": "00:00", "day": "last", "adjust": "none", "leaveOut": []}, "on the last day of each"),
        (
            {"every": "month", "at": "00:00", "day": 1, "adjust": "previous", "leaveOut": []},
            "on day 1 of each month at 00:00, UTC; a weekend moves to the previous weekday",
        ),
    ],
)
def test_calendars_are_said(calendar: dict[str, Any], said: str) -> None:
    assert calendar_words(calendar, "UTC").startswith(said)
