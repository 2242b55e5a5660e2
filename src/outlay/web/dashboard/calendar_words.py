"""How calendars of recurring payouts are told."""

from collections.abc import Mapping
from typing import Any

from outlay.core.calendar import LAST, MONTH, NEXT, NONE, WEEK

_WHERE = {NEXT: "the next", "previous": "the previous"}


def calendar_words(calendar: Mapping[str, Any], zone: str) -> str:
    """Return when a calendar pays, as one phrase, e.g. ``on day 1 of each month at 09:00, Europe/Berlin``."""
    at = f"at {calendar['at']}, {zone}"
    if calendar["every"] == MONTH:
        day = calendar["day"]
        told = "on the last day of each month" if day == LAST else f"on day {day} of each month"
        if day != LAST and day > 28:  # of the shortest month
            told += ", or the last where it is shorter"
    elif calendar["every"] == WEEK:
        told = f"each week on {', '.join(calendar['days'])}"
    else:
        told = "each day"
    left = calendar.get("leaveOut") or ()
    if calendar.get("adjust", NONE) != NONE:
        moved = f"; a weekend{' or a day left out' if left else ''} moves to {_WHERE[calendar['adjust']]} weekday"
    else:
        moved = f"; {len(left)} date{'' if len(left) == 1 else 's'} left out" if left else ""
    return f"{told} {at}{moved}"
