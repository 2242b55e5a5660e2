"""Recurring payouts over HTTP and from a terminal, as their page says."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from outlay.core.seams import DAY, HOUR
from outlay.engine.recurring import Recurring
from tests import tools
from tests.cli.commands import outlay, profile_of
from tests.door import NETWORK, RECIPIENT, Door, Who, check_refusal, open_door

PAGE = tools.ROOT / "docs/how-to/recurring-payouts.md"
DATE = 1_767_312_000_000_000  # 2026-01-02T00:00:00Z, the day the clock stands on


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    with open_door(tmp_path) as opened:
        yield opened


def body(wallet: str, **changes: Any) -> dict[str, Any]:
    """Return a mandate: a dollar each day at noon in UTC."""
    given = {
        "name": "rent",
        "kind": "Recurring",
        "network": NETWORK,
        "asset": "native",
        "amount": "1000",
        "recipient": RECIPIENT,
        "walletId": wallet,
        "calendar": {"every": "day", "at": "12:00"},
        "timeZone": "UTC",
        "from": "2026-01-02",
        "missed": {"catchUpMinutes": 60},
        **changes,
    }
    return {name: each for name, each in given.items() if each is not None}


def follow(door: Door) -> None:
    """Let the engine look."""
    gate = door.gate

    async def look() -> None:
        step = Recurring(gate.db, door.clock, gate.entropy, gate.config, gate.price_of).step
        while await step():
            pass

    asyncio.run(look())


def test_a_schedule_is_created_followed_and_archived_from_a_terminal(door: Door, tmp_path: Path) -> None:
    wallet, profile = door.wallet()["id"], profile_of(door, door.admin, tmp_path / "profile")
    wanted = (
        *("--name", "rent", "--wallet", wallet, "--recipient", RECIPIENT, "--asset", "native", "--base-units", "1000"),
        *("--every", "day", "--at", "12:00", "--time-zone", "Asia/Tokyo", "--from", "2026-01-02", "--catch-up", "60"),
    )
    refused = outlay(profile, "schedules", "create", *wanted)
    assert (refused.code, "--yes" in refused.err) == (2, True)
    assert "each day at 12:00 Asia/Tokyo" in refused.err
    made = outlay(profile, "schedules", "create", *wanted, "--yes", "--json").document
    assert re.fullmatch(r"sc-[a-z0-9-]{28}", made["id"])
    assert made["calendar"] == {"every": "day", "at": "12:00", "adjust": "none", "leaveOut": []}
    shown = outlay(profile, "schedules", "show", made["id"]).ok()
    assert "2026-01-03T12:00:00+09:00" in shown
    assert "2026-01-03 03:00:00 UTC" in shown
    door.clock.instant = DATE + 27 * HOUR
    door.log_in(door.admin)
    follow(door)
    door.clock.instant += DAY + 2 * HOUR
    door.log_in(door.admin)
    follow(door)
    profile = profile_of(door, door.log_in(door.admin), tmp_path / "again")
    listed = outlay(profile, "schedules", "runs", made["id"], "--json").document
    assert [(each["date"], each["status"]) for each in listed["items"]] == [
        ("2026-01-04", "Missed"),
        ("2026-01-03", "Made"),
    ]
    assert len(listed["next"]) == 5
    assert "could not be asked for in time" in outlay(profile, "schedules", "runs", made["id"]).ok()
    paid = outlay(profile, "payouts", "list", "--initiator", made["id"], "--json").document["items"]
    assert [each["externalId"] for each in paid] == [f"recurring/{made['id']}/20260103"]
    assert "its run of 2026-01-03" in outlay(profile, "explain", paid[0]["id"]).ok()
    assert made["id"] in outlay(profile, "schedules", "list").ok()
    assert "archived" in outlay(profile, "schedules", "archive", made["id"], "--yes").ok()
    assert made["id"] not in outlay(profile, "schedules", "list").ok()
    assert outlay(profile, "schedules", "list", "--archived", "--json").document["items"][0]["status"] == "Archived"
    assert outlay(profile, "schedules", "runs", made["id"], "--json").document["next"] == []


def test_what_is_wrong_is_said_before_anybody_is_asked(door: Door, tmp_path: Path) -> None:
    wallet, profile = door.wallet()["id"], profile_of(door, door.admin, tmp_path / "profile")
    wanted = (
        *("--name", "rent", "--wallet", wallet, "--recipient", RECIPIENT, "--asset", "native", "--base-units", "1000"),
        *("--every", "week", "--at", "12:00", "--time-zone", "UTC", "--from", "2026-01-02", "--yes"),
    )
    for more, said in (((), "calendar.days"), (("--days", "Mo"), "is one of Monday"), (("--day", "3"), "calendar.da")):
        ran = outlay(profile, "schedules", "create", *wanted, *more)
        assert (ran.code != 0, said in ran.err) == (True, True), ran.err


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"timeZone": "Europe/Nowhere"}, "timeZone"),
        ({"walletId": "wa-00000-00000-0000000000000000"}, "walletId"),
        ({"walletId": None, "poolId": "pool-00000-00000-0000000000000000"}, "poolId"),
        ({"network": "Nowhere"}, "network"),
        ({"asset": "0x" + "77" * 20}, "asset"),
        ({"until": "2026-01-01"}, "until"),
        ({"calendar": {"every": "day", "at": "12:00", "leaveOut": ["2026-01-02"]}, "until": "2026-01-02"}, "calendar"),
        ({"treasury": {"walletId": "wa-00000-00000-0000000000000000"}}, "treasury"),
        ({"kind": "Sometimes"}, "kind"),
    ],
)
def test_a_mandate_about_what_there_is_not_is_refused(door: Door, changes: dict[str, Any], field: str) -> None:
    answer = door.refused(door.admin, "POST", "/v1/mandates", body(door.wallet()["id"], **changes))
    check_refusal(answer)
    assert (answer.status, answer.field) == (400, field), answer.raw


def test_a_recipient_that_pays_itself_is_refused(door: Door) -> None:
    wallet = door.wallet()
    answer = door.refused(door.admin, "POST", "/v1/mandates", body(wallet["id"], recipient=wallet["address"]))
    assert (answer.status, answer.field) == (400, "recipient")


def test_only_mandates_give_ids_of_runs(door: Door) -> None:
    wallet = door.wallet()["id"]
    asked = {"walletId": wallet, "asset": "native", "recipient": RECIPIENT, "amount": "5", "externalId": "recurring/x"}
    answer = door.refused(door.admin, "POST", "/v1/payouts", asked)
    assert (answer.status, answer.field, "recurring payouts" in answer.message) == (400, "externalId", True)


def test_lists_tell_one_kind_from_the_other(door: Door) -> None:
    wallet = door.wallet()["id"]
    made = door.write(door.admin, "POST", "/v1/mandates", body(wallet)).ok()["id"]
    listed = {
        kind: [each["id"] for each in door.get(f"/v1/mandates{kind}", door.admin).ok()["items"]]
        for kind in ("", "?kind=Recurring", "?kind=Refill")
    }
    assert listed == {"": [made], "?kind=Recurring": [made], "?kind=Refill": []}
    nobody = door.get("/v1/mandates/md-00000-00000-0000000000000000/runs", door.admin)
    assert nobody.status == 404
    follow(door)
    door.clock.instant = DATE + 9 * DAY + 12 * HOUR
    who = door.log_in(door.admin)
    follow(door)
    first = door.get(f"/v1/mandates/{made}/runs?limit=4", who).ok()
    again = door.get(f"/v1/mandates/{made}/runs?limit=9&paginationToken={first['nextPageToken']}", who).ok()
    dates = [each["date"] for each in (*first["items"], *again["items"])]
    assert dates == [f"2026-01-{day:02d}" for day in range(11, 1, -1)]
    assert [each["status"] for each in first["items"]] == ["Made", "Missed", "Missed", "Missed"]
    missed = door.get(f"/v1/mandates/{made}/runs?status=Missed&limit=500", who).ok()["items"]
    assert len(missed) == 9


@pytest.mark.parametrize("kind", ["GasTopUp", "recurring", "x"])
def test_a_list_of_a_kind_that_there_is_not_is_refused(door: Door, kind: str) -> None:
    answer = door.get(f"/v1/mandates?kind={kind}", door.admin)
    check_refusal(answer)
    assert (answer.status, answer.field) == (400, "kind")


def test_the_page_is_right(door: Door) -> None:
    found = re.search(r"```python runnable\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    wallet, client = door.wallet()["id"], _Client(door, door.admin)
    code = found[1].replace('wallet, landlord = "wa-...", "0x..."  # who pays, and whom', "")
    names: dict[str, Any] = {"client": client, "token": "native", "wallet": wallet, "landlord": RECIPIENT}
    exec(compile(code, str(PAGE), "exec"), names)
    coming = door.get(f"/v1/mandates/{names['rent']['id']}", door.admin).ok()["next"]
    assert coming[0]["local"] == "2029-01-31T09:00:00+01:00"
    assert len(coming) == 5


class _Client:
    """Writes as the Python client does."""

    def __init__(self, door: Door, who: Who) -> None:
        self._door, self._who = door, who

    def write(self, method: str, path: str, payload: Any) -> Any:
        """Sign and send."""
        return self._door.write(self._who, method, path, payload).ok()
