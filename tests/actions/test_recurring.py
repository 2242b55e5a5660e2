"""Recurring payouts in one organization: which dates are asked for, under whose policies, and what is told of them."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from outlay.actions import mandates, recurring
from outlay.actions.capacity import admit_waiting
from outlay.actions.recurring import zone_named
from outlay.core.errors import HeadMoved, InvalidInput
from outlay.core.recurring import parse_recurring
from outlay.core.seams import DAY, HOUR, MINUTE
from tests import mandated, recurrences
from tests.actions.council import Council
from tests.actions.documents import ALWAYS, BLOCK, cap
from tests.actions.world import BOB, DOLLAR, SETTINGS, Actor, World
from tests.mandated import REFILLS
from tests.recurrences import LANDLORD, document, follow

BEGINS = "2027-01-20 08:00"


@pytest.fixture
def council(tmp_path: Path) -> Iterator[Council]:
    opened = Council(tmp_path)
    yield opened
    opened.close()


def make(world: World, **changes: Any) -> str:
    """Create a mandate on the 20th of January, from a wallet that has enough."""
    recurrences.at(world, BEGINS)
    wallet = changes.pop("wallet", None) or world.wallet()
    return recurrences.create(world, document(wallet, **{"from": "2027-01-20", **changes}))


def told(world: World, mandate_id: str) -> list[dict[str, Any]]:
    """Return what was told of missed runs, in order."""
    text = sa.text("SELECT data FROM event WHERE kind = 'mandate.run.missed' AND subject = :id ORDER BY seq")
    with world.unit() as unit:
        return [json.loads(row.data)["run"] for row in unit.execute(text, {"id": mandate_id})]


CALENDARS: list[tuple[str, dict[str, Any]]] = [
    ("Europe/Berlin", {"every": "week", "days": ["Sunday", "Monday", "Thursday"], "at": "02:30"}),
    ("Australia/Lord_Howe", {"every": "month", "day": 31, "at": "23:59", "adjust": "next"}),
]
EVERY_DAY = {"every": "day", "at": "02:00", "adjust": "previous", "leaveOut": ["2027-03-01", "2027-03-29"]}
LONG = [pytest.param(zone, EVERY_DAY, marks=pytest.mark.long) for zone in ("America/New_York", "Europe/Berlin")]


@pytest.mark.parametrize(("zone", "calendar"), [*CALENDARS, *LONG])
def test_every_date_is_settled_once_whenever_the_server_looks(
    world: World, request: pytest.FixtureRequest, calendar: dict[str, Any], zone: str
) -> None:
    """Looks come at random instants, with pauses from minutes to weeks, over a spring and a fall."""
    seed = int(request.config.getoption("--hypothesis-seed"))
    dice = random.Random(f"{seed} {calendar} {zone}")
    catch_up = dice.choice([1, 120, 1440])
    made = make(world, calendar=calendar, timeZone=zone, missed={"catchUpMinutes": catch_up})
    since = world.clock.now()
    looks = []
    while world.clock.now() < since + 300 * DAY:
        pause = dice.choice([7 * MINUTE, HOUR, 11 * HOUR, DAY, 3 * DAY, 17 * DAY])
        recurrences.go_to(world, world.clock.now() + dice.randrange(1, pause))
        follow(world)
        looks.append(world.clock.now())
        with world.unit() as unit:
            unit.execute(sa.text("UPDATE transfer SET state = 'confirmed' WHERE state = 'ready'"))
    given = document("wa-aaaaa-aaaaa-aaaaaaaaaaaaaaaa", calendar=calendar, timeZone=zone, **{"from": "2027-01-20"})
    mandate, expected = parse_recurring(given, id=made), []
    for on in mandate.dates(mandate.first, mandate.first.replace(year=2028)):
        due = mandate.calendar.instant(on, zone_named(zone))
        first = next((each for each in looks if each >= due), None)
        if due > since and first is not None:
            expected.append((on.isoformat(), "Made" if first <= due + catch_up * MINUTE else "Missed"))
    assert [(date, status) for date, status, _ in recurrences.runs(world, made)] == expected
    paid = [row.external_id for row in recurrences.payouts(world, made)]
    wanted = [f"recurring/{made}/{date.replace('-', '')}" for date, status in expected if status == "Made"]
    assert sorted(paid) == wanted
    assert [each["date"] for each in told(world, made)] == [date for date, status in expected if status == "Missed"]
    assert expected


def test_what_was_due_before_people_allowed_it_is_not_part_of_it(world: World) -> None:
    made = make(world, **{"from": "2027-01-01"})
    recurrences.at(world, "2027-01-20 09:00")
    follow(world)
    assert recurrences.runs(world, made) == [("2027-01-20", "Made", "ready")]
    assert told(world, made) == []


def test_a_time_of_the_same_day_that_had_passed_is_not_paid(world: World) -> None:
    wallet = world.wallet()
    recurrences.at(world, "2027-01-20 09:00")
    given = document(wallet, **{"from": "2027-01-20", "missed": {"catchUpMinutes": 720}})
    made = recurrences.create(world, given)
    recurrences.at(world, "2027-01-20 15:00")
    assert recurrences.shown(world, made)["next"][0]["date"] == "2027-01-21"
    follow(world)
    assert recurrences.runs(world, made) == []
    recurrences.at(world, "2027-01-21 09:00")
    follow(world)
    assert recurrences.runs(world, made) == [("2027-01-21", "Made", "ready")]


def test_a_mandate_in_the_place_of_another_does_not_pay_its_date_again(world: World) -> None:
    wallet = world.wallet()
    catch_up = {"catchUpMinutes": 720}
    first = make(world, wallet=wallet, missed=catch_up)
    recurrences.at(world, "2027-01-20 09:01")
    follow(world)
    with world.unit() as unit:
        unit.execute(sa.text("UPDATE transfer SET state = 'confirmed' WHERE state = 'ready'"))
    recurrences.at(world, "2027-01-20 15:00")
    recurrences.archive(world, first)
    changed = document(wallet, amount=str(8 * DOLLAR), missed=catch_up, **{"from": "2027-01-20"})
    second = recurrences.create(world, changed)
    follow(world)
    assert recurrences.runs(world, first) == [("2027-01-20", "Made", "confirmed")]
    assert recurrences.runs(world, second) == []


def without_zone(patch: pytest.MonkeyPatch, missing: str) -> None:
    """Let this machine's tables lack a time zone."""

    def elsewhere(name: str) -> ZoneInfo:
        if name == missing:
            raise InvalidInput("is no time zone that this server knows", field="timeZone")
        return zone_named(name)

    patch.setattr(recurring, "zone_named", elsewhere)


@pytest.mark.parametrize("back", [True, False])
def test_a_time_zone_that_this_machine_lacks_keeps_one_mandate_waiting(
    world: World, monkeypatch: pytest.MonkeyPatch, back: bool
) -> None:
    paris, berlin = make(world, timeZone="Europe/Paris"), make(world)
    follow(world)
    with capture_logs() as said, monkeypatch.context() as patch:
        without_zone(patch, "Europe/Paris")
        recurrences.at(world, "2027-01-20 09:00")
        assert follow(world) == 2
        assert recurrences.runs(world, berlin) == [("2027-01-20", "Made", "ready")]
        (waits,) = recurrences.shown(world, paris)["items"]
        assert (waits["date"], waits["status"]) == ("2027-01-20", "Due")
        assert waits["dateDue"] == "2027-01-20T08:00:00.000Z"
        assert "no time zone" in waits["reason"]
        with world.unit() as unit:
            assert mandates.standing(unit, world.config, paris, now=world.clock.now())["next"] == []
        if not back:
            recurrences.at(world, "2027-01-20 11:01")
            follow(world)
            assert recurrences.runs(world, paris) == [("2027-01-20", "Missed", None)]
    assert {"event": "time_zone_unknown", "mandate_id": paris, "zone": "Europe/Paris", "log_level": "error"} in said
    world.clock.step(micros=MINUTE)
    follow(world)
    expected = ("2027-01-20", "Made", "ready") if back else ("2027-01-20", "Missed", None)
    assert recurrences.runs(world, paris) == [expected]
    assert len(told(world, paris)) == (0 if back else 1)
    recurrences.at(world, "2027-01-21 09:00")
    follow(world)
    assert recurrences.runs(world, paris) == [expected, ("2027-01-21", "Made", "ready")]


def test_a_mandate_whose_time_zone_was_never_known_here_begins_when_it_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(world, timeZone="Europe/Paris", **{"from": "2027-01-01"})
    with monkeypatch.context() as patch:
        without_zone(patch, "Europe/Paris")
        recurrences.at(world, "2027-01-20 09:00")
        assert follow(world) == 1
        assert follow(world) == 0
        assert recurrences.runs(world, made) == []
    world.clock.step(micros=MINUTE)
    follow(world)
    assert recurrences.runs(world, made) == [("2027-01-20", "Made", "ready")]


@pytest.mark.parametrize("name", ["localtime", "Factory", "posix/Europe/Berlin", "right/Europe/Berlin", "Europe"])
def test_only_time_zones_that_are_the_same_everywhere_are_taken(world: World, name: str) -> None:
    with pytest.raises(InvalidInput, match="no time zone that this server knows") as refused:
        make(world, timeZone=name)
    assert refused.value.field == "timeZone"


def test_a_cap_counts_runs_beside_what_people_ask_for(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    made = make(world, wallet=wallet)
    world.policy(cap(10), BLOCK)
    world.policy(ALWAYS, BLOCK, kind=REFILLS)
    assert world.pay(bot, wallet, 3, to=BOB)["status"] == "Executing"
    recurrences.at(world, "2027-01-20 09:00")
    follow(world)
    assert recurrences.runs(world, made) == [("2027-01-20", "Made", "ready")]
    assert world.pay(bot, wallet, 1, to=BOB)["status"] == "Rejected"
    recurrences.at(world, "2027-01-21 08:50")
    follow(world)
    recurrences.at(world, "2027-01-21 09:00")
    follow(world)
    *_, second = recurrences.payouts(world, made)
    assert (second.state, "10" in str(second.reason)) == ("rejected", True)  # nothing was signed: all still counts
    (judged,) = [each for each in world.evaluations(second.id) if each.triggered]
    assert (judged.context["sum"], judged.context["count"]) == ("10", 2)


def test_a_run_waits_for_room_like_any_payout(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    made = make(world, wallet=wallet)
    world.policy(cap(10), {"kind": "Block", "wait": 600})
    blocking = world.pay(bot, wallet, 5, to=BOB)
    recurrences.at(world, "2027-01-20 09:00")
    follow(world)
    (waiting,) = recurrences.payouts(world, made)
    assert (waiting.state, waiting.waiting_reason) == ("held", "cap")
    world.withdraw(bot, blocking["id"])
    with world.work() as work:
        assert admit_waiting(work, after=0)[0] == 1
    assert recurrences.payouts(world, made)[0].state == "ready"


def test_a_value_that_nobody_knows_triggers_every_rule_about_values(world: World) -> None:
    made = make(world)
    world.policy(cap(1000), BLOCK)
    world.prices.clear()
    recurrences.at(world, "2027-01-20 09:00")
    follow(world)
    assert [row.state for row in recurrences.payouts(world, made)] == ["rejected"]


def test_a_default_that_blocks_is_for_runs_too(tmp_path: Path) -> None:
    world = World(tmp_path, settings=SETTINGS.replace('default = "allow"', 'default = "block"'))
    made = make(world)
    recurrences.at(world, "2027-01-20 09:00")
    follow(world)
    assert [row.state for row in recurrences.payouts(world, made)] == ["rejected"]
    world.close()


def test_nothing_is_asked_for_while_the_settings_are_not_the_signed_ones(world: World) -> None:
    made = make(world)
    with world.unit() as unit:
        unit.execute(sa.text("UPDATE organization SET money_settings = 'other'"))
    recurrences.at(world, "2027-01-20 09:00")
    assert follow(world) == 0
    assert recurrences.payouts(world, made) == []


def test_a_mandate_waits_for_people_where_policies_are_guarded(council: Council) -> None:
    given = document(council.paying, **{"from": "2027-01-01"})
    asked = council.call(
        council.admin, "POST", "/v1/mandates", given, "Mandates:Create", lambda act: mandates.create(act, given)
    )
    assert (asked["kind"], asked["operationKind"], asked["loosens"]) == ("Mandate", "Create", True)
    assert follow(council) == 0
    council.agree(asked)
    council.wait(24 * 3600)
    made = asked["entityId"]
    history = council.replayed()
    written = {**given["calendar"], "adjust": "none", "leaveOut": []}
    assert history.mandates[made].mandate.document() == {**given, "memo": "", "calendar": written}
    today = recurrences.local_date(council)
    follow(council)
    assert [date for date, _, _ in recurrences.runs(council, made)] in ([], [today])
    recurrences.archive(council, made)
    assert council.replayed().mandates[made].until is not None


def test_a_mandate_is_signed_over_the_records_of_now(world: World) -> None:
    wallet = world.wallet()
    given = document(wallet)
    call = world.sign(world.admin, "POST", "/v1/mandates", given)
    world.tag(wallet, "europe")
    with pytest.raises(HeadMoved):
        world.send(
            world.admin,
            call,
            "POST",
            "/v1/mandates",
            given,
            "Mandates:Create",
            lambda act: mandates.create(act, given),
        )


def test_callers_choose_no_ids_of_runs(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    made = make(world, wallet=wallet)
    with pytest.raises(InvalidInput, match="begins the ids of recurring payouts") as refused:
        world.pay(bot, wallet, 1, to=BOB, external_id=f"recurring/{made}/20270120")
    assert refused.value.field == "externalId"


def test_a_payout_from_before_that_has_the_id_of_a_run_is_not_paid_again(world: World, bot: Actor) -> None:
    """Whoever has the id, there is one payout of it."""
    wallet = world.wallet()
    made = make(world, wallet=wallet)
    taken = world.pay(bot, wallet, 1, to=BOB, external_id="once")["id"]
    with world.unit() as unit:
        unit.execute(
            sa.text("UPDATE transfer SET external_id = :name WHERE id = :id"),
            {"name": f"recurring/{made}/20270120", "id": taken},
        )
    recurrences.at(world, "2027-01-20 09:00")
    follow(world)
    assert recurrences.payouts(world, made) == []
    (run,) = recurrences.shown(world, made)["items"]
    assert (run["status"], run["payoutId"]) == ("Made", taken)


def test_mandates_of_runs_fill_no_wallet_and_pay_for_no_other(world: World) -> None:
    """Both kinds stand side by side; a run to a wallet of ours is no refill of it."""
    paying, hot = world.wallet(), world.wallet(dollars=0)
    filling = mandated.create(world, mandated.document(**mandated.between(paying, hot)))
    made = make(world, wallet=paying, recipient=recurrences.address(world, hot))
    recurrences.at(world, "2027-01-20 09:00")
    follow(world)
    assert mandated.fill(world) == 1
    (run,), (refill,) = recurrences.payouts(world, made), mandated.refills(world, filling)
    assert (run.amount, refill.amount) == (7 * DOLLAR, 500 * DOLLAR)
    assert [each["walletId"] for each in mandated.balances(world, filling)] == [hot]
    assert run.recipient == refill.recipient != LANDLORD
