"""Calendars against python-dateutil, and that no split of time loses or doubles a run."""

import importlib
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outlay.core.calendar import FIRST_DATE, LAST_DATE, WEEKDAYS, Calendar, parse_calendar
from outlay.core.errors import InvalidInput
from outlay.core.recurring import Recurring, parse_recurring, run_named
from tests.recurrences import document

rrule: Any = importlib.import_module("dateutil.rrule")  # without types
ONE = timedelta(days=1)
ZONES = (
    *("Europe/Berlin", "America/New_York", "America/Sao_Paulo", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kolkata"),
    *("Pacific/Kiritimati", "Pacific/Pago_Pago", "Africa/Casablanca", "Asia/Gaza", "UTC", "Europe/Dublin"),
)
DATES = st.dates(date(2005, 1, 1), date(2035, 12, 31))


@st.composite
def calendars(draw: st.DrawFn) -> dict[str, Any]:
    """Return the document of a calendar."""
    every = draw(st.sampled_from(["day", "week", "month"]))
    given: dict[str, Any] = {"every": every, "at": f"{draw(st.integers(0, 23)):02d}:{draw(st.integers(0, 59)):02d}"}
    if every == "week":
        given["days"] = draw(st.lists(st.sampled_from(WEEKDAYS), min_size=1, unique=True))
    if every == "month":
        given["day"] = draw(st.one_of(st.integers(1, 31), st.just("last")))
    start = draw(DATES)
    offsets = draw(st.lists(st.integers(0, 60), unique=True, max_size=25))
    given["adjust"] = draw(st.sampled_from(["none", "next", "previous"]))
    given["leaveOut"] = [(start + timedelta(days=each)).isoformat() for each in offsets]
    return given


def by_dateutil(given: dict[str, Any], first: date, last: date) -> list[date]:
    """Return the dates of a calendar as python-dateutil's rules and a walk from day to day say."""
    margin = timedelta(days=200)
    start, end = (datetime.combine(each, datetime.min.time()) for each in (first - margin, last + margin))
    options: dict[str, Any] = {"dtstart": start, "until": end}
    left_out = {date.fromisoformat(each) for each in given["leaveOut"]}
    if given["every"] == "day":
        rules = [rrule.rrule(rrule.DAILY, **options)]
    elif given["every"] == "week":
        rules = [rrule.rrule(rrule.WEEKLY, byweekday=[WEEKDAYS.index(each) for each in given["days"]], **options)]
    elif given["day"] == "last":
        rules = [rrule.rrule(rrule.MONTHLY, bymonthday=-1, **options)]
    else:
        days = range(28, given["day"] + 1) if given["day"] > 28 else [given["day"]]
        # Of the days up to the wanted one, the last that the month has.
        rules = [rrule.rrule(rrule.MONTHLY, bymonthday=list(days), bysetpos=-1, **options)]
    found = set()
    for each in (moment.date() for rule in rules for moment in rule):
        on = each
        if given["adjust"] != "none":
            step = ONE if given["adjust"] == "next" else -ONE
            while on.isoweekday() > 5 or on in left_out:
                on += step
        elif on in left_out:
            continue
        found.add(on)
    return sorted(each for each in found if first <= each <= last)


@settings(max_examples=150, deadline=None)
@given(calendars(), DATES, st.integers(0, 120))
def test_dates_are_those_of_dateutil(given: dict[str, Any], first: date, days: int) -> None:
    last = first + timedelta(days=days)
    calendar = parse_calendar(given)
    found = calendar.dates(first, last)
    assert found == by_dateutil(given, first, last)
    assert calendar.next_date(first) == (found[0] if found else calendar.next_date(last + ONE))
    assert parse_calendar(calendar.document()) == calendar


@settings(max_examples=100, deadline=None)
@given(calendars(), DATES, st.lists(st.integers(0, 400), min_size=1, max_size=5), st.integers(1, 30) | st.none())
def test_an_interval_that_is_split_anywhere_has_the_same_runs(
    given: dict[str, Any], first: date, cuts: list[int], runs_max: int | None
) -> None:
    """Whatever the server does in between: nothing is doubled, nothing is lost."""
    until = first + timedelta(days=300)
    mandate = recurring(given, first=first, until=until, runs_max=runs_max)
    whole = mandate.dates(first - 9 * ONE, until + 9 * ONE)
    parts, since = [], first - 9 * ONE
    for cut in sorted(first + timedelta(days=each) for each in cuts):
        parts += mandate.dates(since, cut)
        since = max(since, cut + ONE)
    parts += mandate.dates(since, until + 9 * ONE)
    assert parts == whole
    assert len(whole) <= (runs_max or 400)
    assert [each for each in whole if not mandate.is_date(each)] == []
    walked, on = [], mandate.next_date(first)
    while on is not None:
        walked.append(on)
        on = mandate.next_date(on + ONE)
    assert walked == whole


def recurring(given: dict[str, Any], *, first: date, until: date | None, runs_max: int | None = None) -> Recurring:
    """Return a mandate with a calendar."""
    changes = {"calendar": given, "from": first.isoformat(), "until": until and until.isoformat(), "runsMax": runs_max}
    wallet = "wa-aaaaa-aaaaa-aaaaaaaaaaaaaaaa"
    return parse_recurring(document(wallet, **changes), id="sc-aaaaa-aaaaa-aaaaaaaaaaaaaaaa")


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(ZONES), DATES, st.integers(0, 24 * 60 - 1))
def test_an_instant_is_what_the_clocks_of_the_zone_show(name: str, on: date, minutes: int) -> None:
    check_instant(name, on, *divmod(minutes, 60))


def steps_of(name: str) -> list[date]:
    """Return the dates from 2005 to 2035 on which a zone's clocks are put forward or back."""
    zone, found = ZoneInfo(name), []
    on = datetime(2005, 1, 1, tzinfo=UTC)
    while on.year < 2036:
        following = on + ONE
        if on.astimezone(zone).utcoffset() != following.astimezone(zone).utcoffset():
            found += [on.astimezone(zone).date(), following.astimezone(zone).date()]
        on = following
    return found


@pytest.mark.parametrize("name", ZONES)
def test_the_days_on_which_clocks_are_put_forward_or_back(name: str) -> None:
    for on in dict.fromkeys(steps_of(name)):
        for hour in range(24):
            for minute in (0, 15, 30, 59):
                check_instant(name, on, hour, minute)


def check_instant(name: str, on: date, hour: int, minute: int) -> None:
    """Compare with a search through the seconds of the clock itself: the first instant that shows the time or more."""
    zone = ZoneInfo(name)
    calendar = Calendar(every="day", hour=hour, minute=minute)
    found = calendar.instant(on, zone)
    assert found % 10**6 == 0
    wanted = datetime(on.year, on.month, on.day, hour, minute)
    at = datetime.fromtimestamp(found // 10**6, zone)
    shown = at.replace(tzinfo=None)
    if shown != wanted:
        # The clocks never show it: right before it they show less, from then on more.
        before = datetime.fromtimestamp(found // 10**6 - 1, zone).replace(tzinfo=None)
        assert before < wanted < shown, (name, wanted)
    else:
        # Nor did they show it earlier that day.
        assert at.fold == 0 or datetime.fromtimestamp(found // 10**6 - 3600, zone).replace(tzinfo=None) != wanted


def test_hours_that_there_are_not_and_hours_that_there_are_twice() -> None:
    berlin, howe, apia = ZoneInfo("Europe/Berlin"), ZoneInfo("Australia/Lord_Howe"), ZoneInfo("Pacific/Apia")
    half_past_two = Calendar(every="day", hour=2, minute=30)
    assert when(half_past_two, "2027-03-28", berlin) == "2027-03-28T01:00:00+00:00"  # 03:00, the first instant after
    assert when(half_past_two, "2027-10-31", berlin) == "2027-10-31T00:30:00+00:00"  # the first of two
    assert when(Calendar(every="day", hour=2, minute=15), "2026-10-04", howe) == "2026-10-03T15:30:00+00:00"
    assert when(half_past_two, "2011-12-30", apia) == "2011-12-30T10:00:00+00:00"  # a day that never was there


def when(calendar: Calendar, on: str, zone: ZoneInfo) -> str:
    """Return an instant in UTC."""
    return datetime.fromtimestamp(calendar.instant(date.fromisoformat(on), zone) // 10**6, UTC).isoformat()


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(ZONES), DATES, st.integers(0, 24 * 60 - 1), st.integers(1, 10080))
def test_the_signer_bounds_no_run_that_is_on_time(name: str, on: date, minutes: int, catch_up: int) -> None:
    hour, minute = divmod(minutes, 60)
    given = {"every": "day", "at": f"{hour:02d}:{minute:02d}"}
    mandate = recurring(given, first=on, until=None)
    earliest, latest = mandate.window(on)
    due = mandate.calendar.instant(on, ZoneInfo(name))
    assert earliest + 3600 * 10**6 <= due <= latest - 7 * 86400 * 10**6 - 120 * 60 * 10**6
    assert due <= mandate.latest_due(on)
    assert run_named(mandate.external_id(on)) == (mandate.id, on)
    assert len(mandate.external_id(on)) <= 50


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"calendar": {"every": "year", "at": "09:00"}}, "calendar.every"),
        ({"calendar": {"every": "day", "at": "24:00"}}, "calendar.at"),
        ({"calendar": {"every": "day", "at": "9:00"}}, "calendar.at"),
        ({"calendar": {"every": "day"}}, "calendar.at"),
        ({"calendar": {"every": "day", "at": "09:00", "days": ["Monday"]}}, "calendar.days"),
        ({"calendar": {"every": "week", "at": "09:00"}}, "calendar.days"),
        ({"calendar": {"every": "week", "at": "09:00", "days": ["Mo"]}}, "calendar.days[0]"),
        ({"calendar": {"every": "week", "at": "09:00", "days": ["Monday", "Monday"]}}, "calendar.days"),
        ({"calendar": {"every": "month", "at": "09:00", "day": 32}}, "calendar.day"),
        ({"calendar": {"every": "month", "at": "09:00", "day": True}}, "calendar.day"),
        ({"calendar": {"every": "day", "at": "09:00", "adjust": "nearest"}}, "calendar.adjust"),
        ({"calendar": {"every": "day", "at": "09:00", "leaveOut": ["25.12.2027"]}}, "calendar.leaveOut[0]"),
        ({"calendar": {"every": "day", "at": "09:00", "leaveOut": ["2027-12-25"] * 2}}, "calendar.leaveOut"),
        ({"calendar": None}, "calendar"),
        ({"timeZone": "../etc/passwd"}, "timeZone"),
        ({"timeZone": None}, "timeZone"),
        ({"from": "20270101"}, "from"),
        ({"from": None}, "from"),
        ({"until": "2026-12-31"}, "until"),
        ({"runsMax": 0}, "runsMax"),
        ({"missed": {}}, "missed"),
        ({"missed": {"catchUpMinutes": 0}}, "missed.catchUpMinutes"),
        ({"amount": "0"}, "amount"),
        ({"amount": 5}, "amount"),
        ({"recipient": "0x" + "00" * 20}, "recipient"),
        ({"recipient": None}, "recipient"),
        ({"walletId": None}, "walletId"),
        ({"poolId": "pool-aaaaa-aaaaa-aaaaaaaaaaaaaaaa"}, "walletId"),
        ({"memo": "a\nb"}, "memo"),
        ({"treasury": {}}, "treasury"),
    ],
)
def test_what_is_malformed_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_recurring(document("wa-aaaaa-aaaaa-aaaaaaaaaaaaaaaa", **changes), id="sc-aaaaa-aaaaa-aaaaaaaaaaaaaaaa")
    assert refused.value.field == field


def test_a_calendar_of_which_every_month_is_left_out_for_eight_years_goes_on_after_them() -> None:
    left_out = [date(2027 + each // 12, each % 12 + 1, 5).isoformat() for each in range(100)]
    calendar = parse_calendar({"every": "month", "at": "09:00", "day": 5, "leaveOut": left_out})
    assert calendar.next_date(date(2027, 1, 1)) == date(2035, 5, 5)
    assert calendar.next_date(LAST_DATE) is None
    assert calendar.dates(date(1999, 1, 1), FIRST_DATE) == []


@pytest.mark.parametrize("adjust", ["next", "previous"])
def test_a_date_is_moved_over_all_that_can_be_left_out(adjust: str) -> None:
    """A hundred weekdays in a row: twenty weeks."""
    weekdays = [day for day in (date(2027, 1, 4) + timedelta(days=each) for each in range(140)) if day.weekday() < 5]
    given = {"every": "month", "day": 4 if adjust == "next" else 21, "at": "09:00", "adjust": adjust}
    calendar = parse_calendar({**given, "leaveOut": [each.isoformat() for each in weekdays]})
    moved = date(2027, 5, 24) if adjust == "next" else date(2027, 1, 1)
    assert calendar.dates(moved, moved) == [moved]
    assert calendar.dates(date(2027, 1, 4), date(2027, 5, 21)) == []
