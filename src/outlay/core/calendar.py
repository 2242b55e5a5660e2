"""Calendars: on which dates something recurs, and at which instant each of them is in a time zone.

Dates are arithmetic, the same everywhere and for ever; so whoever checks a run needs no data about time zones. Only the
instant of a run does: it takes the zone as an argument.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any

from outlay.core.errors import InvalidInput
from outlay.core.fields import members, whole
from outlay.core.seams import SECOND, Instant

DAY, WEEK, MONTH = "day", "week", "month"
"""How often."""

NONE, NEXT, PREVIOUS = "none", "next", "previous"
"""Where a run goes whose date is a weekend or left out: it stays (or is left out), or moves to such a weekday."""

LAST = "last"
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
LEAVE_OUT_MAX = 100
FIRST_DATE, LAST_DATE = date(2000, 1, 1), date(2199, 12, 31)

_ONE, _AROUND = timedelta(days=1), timedelta(days=400)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WINDOWS = 12
"""Stretches of ``_AROUND`` that are searched for a next date: more than ``LEAVE_OUT_MAX`` months."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """On which dates, and at what time of day."""

    every: str  #: day, week or month
    hour: int
    minute: int
    weekdays: tuple[int, ...] = ()  #: of a week, Monday is 0
    day: int = 0  #: of a month, 1 to 31; of a shorter month the last; 0 is the last of each
    adjust: str = NONE
    leave_out: frozenset[date] = frozenset()

    @property
    def shift(self) -> timedelta:
        """How far a date can be moved at most: of every seven days passed over, five have to be left out."""
        return timedelta(days=0 if self.adjust == NONE else 4 + len(self.leave_out) * 7 // 5)

    def dates(self, first: date, last: date) -> list[date]:
        """Return the dates from ``first`` to ``last``, both included, each once and in order."""
        since = max(first, FIRST_DATE) - (self.shift if self.adjust == NEXT else timedelta())
        until = min(last, LAST_DATE) + (self.shift if self.adjust == PREVIOUS else timedelta())
        found = {self._adjusted(each) for each in self._plain(since, until)}
        return sorted(each for each in found if each is not None and first <= each <= last)

    def next_date(self, first: date) -> date | None:
        """Return the first date that is not before ``first``, or None."""
        for _ in range(_WINDOWS):
            found = self.dates(first, first + _AROUND)
            if found:
                return found[0]
            first += _AROUND + _ONE
        return None

    def _plain(self, first: date, last: date) -> Iterator[date]:
        """Yield the dates before any is moved."""
        each = first
        while each <= last:
            if self.every == MONTH:
                following = (each.replace(day=1) + timedelta(days=32)).replace(day=1)
                days = (following - _ONE).day
                this = each.replace(day=min(self.day or 31, days))
                if first <= this <= last:
                    yield this
                each = following
            else:
                if self.every == DAY or each.weekday() in self.weekdays:
                    yield each
                each += _ONE

    def _adjusted(self, each: date) -> date | None:
        """Return where a run goes; None: it is left out."""
        if self.adjust == NONE:
            return None if each in self.leave_out else each
        step = _ONE if self.adjust == NEXT else -_ONE
        while each.weekday() > 4 or each in self.leave_out:  # Friday
            each += step
        return each

    def instant(self, on: date, zone: tzinfo) -> Instant:
        """Return when the run of a date is due, microseconds UTC.

        A time of day that a date has not (clocks are put forward) is the first instant after; one that it has twice is
        the first of the two.
        """
        local = datetime(on.year, on.month, on.day, self.hour, self.minute, tzinfo=zone)
        late = local.astimezone(UTC)
        if late.astimezone(zone).replace(tzinfo=None) == local.replace(tzinfo=None):
            return _micros(late)
        # By the old rule it is after the step of the clocks, by the new one before: the step lies between.
        early = local.replace(fold=1).astimezone(UTC)
        low, high = _micros(early) // SECOND, _micros(late) // SECOND
        before = _offset(low, zone)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if _offset(middle, zone) == before else (low, middle)
        return high * SECOND

    def document(self) -> dict[str, Any]:
        """Return the calendar as it is kept, signed over and answered."""
        days = {"days": [WEEKDAYS[each] for each in self.weekdays]} if self.every == WEEK else {}
        return {
            "every": self.every,
            "at": f"{self.hour:02d}:{self.minute:02d}",
            **days,
            **({"day": self.day or LAST} if self.every == MONTH else {}),
            "adjust": self.adjust,
            "leaveOut": [each.isoformat() for each in sorted(self.leave_out)],
        }


def _micros(at: datetime) -> Instant:
    return (at - _EPOCH) // timedelta(microseconds=1)


def _offset(second: int, zone: tzinfo) -> timedelta | None:
    return (_EPOCH + timedelta(seconds=second)).astimezone(zone).utcoffset()


def local_time(at: Instant, zone: tzinfo) -> datetime:
    """Return an instant as a zone's clocks show it."""
    return (_EPOCH + timedelta(microseconds=at)).astimezone(zone)


# Reading


def parse_calendar(document: object, *, field: str = "calendar") -> Calendar:
    """Return the calendar that a document describes.

    Raises:
        InvalidInput: names the member.
    """
    given = members(document, field, ("every", "at", "days", "day", "adjust", "leaveOut"))
    every, adjust = given.get("every"), given.get("adjust", NONE)
    if every not in (DAY, WEEK, MONTH):
        raise InvalidInput(f"use {DAY}, {WEEK} or {MONTH}", field=f"{field}.every")
    if adjust not in (NONE, NEXT, PREVIOUS):
        raise InvalidInput(f"use {NONE}, {NEXT} or {PREVIOUS}", field=f"{field}.adjust")
    for name, only in (("days", WEEK), ("day", MONTH)):
        if (name in given) != (every == only):
            raise InvalidInput(f"goes with {only} and with nothing else", field=f"{field}.{name}")
    hour, minute = _time(given.get("at"), f"{field}.at")
    day = given.get("day")
    return Calendar(
        every=every,
        hour=hour,
        minute=minute,
        weekdays=_weekdays(given["days"], f"{field}.days") if every == WEEK else (),
        day=0 if day in (None, LAST) else whole(day, f"{field}.day", 31),
        adjust=adjust,
        leave_out=_leave_out(given.get("leaveOut", []), f"{field}.leaveOut"),
    )


def parse_date(value: object, field: str) -> date:
    """Return a date of ``YYYY-MM-DD``.

    Raises:
        InvalidInput: it is none, or not from 2000 to 2199.
    """
    try:
        found = date.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        found = None
    if found is None or found.isoformat() != value or not FIRST_DATE <= found <= LAST_DATE:
        raise InvalidInput(f"is a date from {FIRST_DATE} to {LAST_DATE}, e.g. 2030-01-31", field=field)
    return found


def _time(value: object, field: str) -> tuple[int, int]:
    if isinstance(value, str) and len(value) == len("09:00") and value[2] == ":" and value.isascii():
        hour, minute = value[:2], value[3:]
        if hour.isdigit() and minute.isdigit() and int(hour) < 24 and int(minute) < 60:
            return int(hour), int(minute)
    raise InvalidInput("is a time of day from 00:00 to 23:59", field=field)


def _weekdays(value: object, field: str) -> tuple[int, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise InvalidInput("lists weekdays", field=field)
    known: Mapping[object, int] = {name: number for number, name in enumerate(WEEKDAYS)}
    for at, each in enumerate(value):
        if not isinstance(each, str) or each not in known:
            raise InvalidInput("is one of " + ", ".join(WEEKDAYS), field=f"{field}[{at}]")
    if len(set(value)) != len(value):
        raise InvalidInput("lists a day twice", field=field)
    return tuple(sorted(known[each] for each in value))


def _leave_out(value: object, field: str) -> frozenset[date]:
    if not isinstance(value, list) or len(value) > LEAVE_OUT_MAX:
        raise InvalidInput(f"lists at most {LEAVE_OUT_MAX} dates", field=field)
    found = [parse_date(each, f"{field}[{at}]") for at, each in enumerate(value)]
    if len(set(found)) != len(found):
        raise InvalidInput("lists a date twice", field=field)
    return frozenset(found)
