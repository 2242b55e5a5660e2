"""Recurring payouts: a mandate to pay one recipient one amount on the dates of a calendar.

Who pays whom, how much, and on which dates is what people signed. Policies judge each run when it is due. A date has
one run at most, for ever: its ``externalId`` names the mandate and the date.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, timedelta
from typing import Any

from outlay.core import ids
from outlay.core.address import ZERO, parse_address
from outlay.core.asset import NATIVE
from outlay.core.calendar import LAST_DATE, Calendar, parse_calendar, parse_date
from outlay.core.errors import InvalidInput
from outlay.core.fields import amount, identifier, members, one_of, text, whole
from outlay.core.intent import MEMO_MAX
from outlay.core.mandate import GAS_TOP_UP, NAME_MAX, REFILL, Mandate, parse_mandate
from outlay.core.seams import DAY, HOUR, MINUTE, Instant

RECURRING = "Recurring"
"""The kind of mandate."""

RUNS_MAX, CATCH_UP_MAX = 100_000, 7 * 24 * 60

GOOD_FOR: Instant = 7 * DAY
"""How long after it may last be asked for a run may be signed: people have so long to agree to it."""

EXTERNAL_PREFIX = "recurring/"
"""What every ``externalId`` of a run begins with, and none that a caller chooses."""

_EARLY, _LATE = 15 * HOUR, 26 * HOUR
"""How far from a time of day in UTC that of any zone is: 14 and 12 hours, an hour for clocks, a day's step at most."""

_LAST_ZONE = 12 * HOUR
"""How long after a time of day in UTC it is that time in the last zone; clocks put forward make none later."""

_EXTERNAL_ID = re.compile(EXTERNAL_PREFIX + r"(?P<mandate>[a-z0-9-]+)/(?P<date>[0-9]{8})")
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+){0,2}")
_ZONE_MAX = 64
_MEMBERS = ("name", "kind", "network", "asset", "amount", "recipient", "memo", "walletId", "poolId", "calendar")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recurring:
    """One such mandate. It never changes: another one takes its place."""

    id: str
    name: str
    network: str
    asset: str  #: ``native`` or the contract
    amount: int  #: base units, of each run
    recipient: str  #: canonical address
    memo: str
    wallet_id: str | None  #: who pays; None: a wallet of the pool
    pool_id: str | None
    calendar: Calendar
    zone: str  #: IANA name of the time zone the time of day is in
    first: date  #: no run is before it
    last: date | None  #: nor after it
    runs_max: int | None  #: the calendar has no more dates than so many, those that were missed included
    catch_up: int  #: minutes after which a run that could not be asked for is missed

    def dates(self, since: date, until: date) -> list[date]:
        """Return the dates of its runs from ``since`` to ``until``, both included."""
        since, until = max(since, self.first), min(until, self.last or LAST_DATE)
        if since > until:
            return []
        found = self.calendar.dates(since, until)
        if self.runs_max is not None:
            before = len(self.calendar.dates(self.first, since - timedelta(days=1)))
            found = found[: max(0, self.runs_max - before)]
        return found

    def next_date(self, since: date) -> date | None:
        """Return the first date of a run that is not before ``since``, or None."""
        found = self.calendar.next_date(max(since, self.first))
        return None if found is None or found not in self.dates(found, found) else found

    def is_date(self, on: date) -> bool:
        """Tell whether it has a run of a date."""
        return on in self.dates(on, on)

    def external_id(self, on: date) -> str:
        """Return the ``externalId`` of the run of a date."""
        return f"{EXTERNAL_PREFIX}{self.id}/{on:%Y%m%d}"

    def window(self, on: date) -> tuple[Instant, Instant]:
        """Return between which instants the run of a date may be signed, whatever its zone's clocks do."""
        plain = self.calendar.instant(on, UTC)
        return plain - _EARLY, plain + _LATE + self.catch_up * MINUTE + GOOD_FOR

    def latest_due(self, on: date) -> Instant:
        """Return when the run of a date is due in every zone."""
        return self.calendar.instant(on, UTC) + _LAST_ZONE

    def document(self) -> dict[str, Any]:
        """Return the mandate as it is kept, signed over and answered."""
        payer = {"walletId": self.wallet_id} if self.pool_id is None else {"poolId": self.pool_id}
        return {
            "name": self.name,
            "kind": RECURRING,
            "network": self.network,
            "asset": self.asset,
            "amount": str(self.amount),
            "recipient": self.recipient,
            "memo": self.memo,
            **payer,
            "calendar": self.calendar.document(),
            "timeZone": self.zone,
            "from": self.first.isoformat(),
            **({} if self.last is None else {"until": self.last.isoformat()}),
            **({} if self.runs_max is None else {"runsMax": self.runs_max}),
            "missed": {"catchUpMinutes": self.catch_up},
        }


def is_recurring(mandate_id: str | None) -> bool:
    """Tell whether a mandate, or an initiator, is one of recurring payouts."""
    return mandate_id is not None and ids.is_id(mandate_id, ids.SCHEDULE)


def run_named(external_id: str | None) -> tuple[str, date] | None:
    """Return the mandate and the date whose run an ``externalId`` is, or None where it is none."""
    found = None if external_id is None else _EXTERNAL_ID.fullmatch(external_id)
    if found is None:
        return None
    day = found["date"]
    try:
        return found["mandate"], date(int(day[:4]), int(day[4:6]), int(day[6:]))
    except ValueError:
        return None


def prefix_of(document: object) -> str:
    """Return what the ids of mandates of a document's kind begin with."""
    is_one = isinstance(document, Mapping) and document.get("kind") == RECURRING
    return ids.SCHEDULE if is_one else ids.MANDATE


def parse_any(document: object, *, id: str) -> Mandate | Recurring:
    """Return the mandate of either sort that a request describes, or a record holds.

    Raises:
        InvalidInput: names the member.
    """
    kind = document.get("kind") if isinstance(document, Mapping) else None
    if kind == RECURRING:
        return parse_recurring(document, id=id)
    if kind not in (REFILL, GAS_TOP_UP):
        raise InvalidInput(f"use {REFILL}, {GAS_TOP_UP} or {RECURRING}", field="kind")
    return parse_mandate(document, id=id)


def parse_recurring(document: object, *, id: str) -> Recurring:
    """Return the mandate of recurring payouts that a request describes, or a record holds.

    Whether a time zone of that name is known is not looked at here.

    Args:
        document: as parsed JSON; members that are null are as if they were not there.
        id: of the mandate.

    Raises:
        InvalidInput: names the member, for example ``calendar.at``, and says what to do.
    """
    fields = members(document, "", (*_MEMBERS, "timeZone", "from", "until", "runsMax", "missed"))
    if fields.get("kind") != RECURRING:
        raise InvalidInput(f"use {RECURRING}", field="kind")
    payer = {name: fields[name] for name in ("walletId", "poolId") if name in fields}
    if len(payer) != 1:
        raise InvalidInput("give one of walletId, poolId", field="walletId")
    missed = one_of(fields.get("missed"), "missed", ("catchUpMinutes",))
    mandate = Recurring(
        id=id,
        name=text(fields.get("name"), "name", NAME_MAX),
        network=text(fields.get("network"), "network", 64),
        asset=_asset(fields.get("asset")),
        amount=amount(fields, "amount"),
        recipient=_address(fields.get("recipient"), "recipient"),
        memo=_memo(fields.get("memo", "")),
        wallet_id=identifier(payer["walletId"], "walletId", ids.WALLET) if "walletId" in payer else None,
        pool_id=identifier(payer["poolId"], "poolId", ids.POOL) if "poolId" in payer else None,
        calendar=parse_calendar(fields.get("calendar")),
        zone=_zone(fields.get("timeZone")),
        first=parse_date(fields.get("from"), "from"),
        last=parse_date(fields["until"], "until") if "until" in fields else None,
        runs_max=whole(fields["runsMax"], "runsMax", RUNS_MAX) if "runsMax" in fields else None,
        catch_up=whole(missed["catchUpMinutes"], "missed.catchUpMinutes", CATCH_UP_MAX),
    )
    if mandate.last is not None and mandate.last < mandate.first:
        raise InvalidInput("is before from", field="until")
    if mandate.recipient in (ZERO, mandate.asset):
        raise InvalidInput("is the zero address or the token: money sent there is lost", field="recipient")
    return mandate


def _asset(value: object) -> str:
    return NATIVE if value == NATIVE else _address(value, "asset")


def _address(value: object, field: str) -> str:
    if not isinstance(value, str):
        raise InvalidInput("is an address", field=field)
    return parse_address(value, field=field)


def _memo(value: object) -> str:
    if not isinstance(value, str) or len(value) > MEMO_MAX or not value.isprintable():
        raise InvalidInput(f"is at most {MEMO_MAX} printable characters", field="memo")
    return value


def _zone(value: object) -> str:
    if not isinstance(value, str) or len(value) > _ZONE_MAX or _ZONE.fullmatch(value) is None:
        raise InvalidInput("is the name of a time zone, e.g. Europe/Berlin or UTC", field="timeZone")
    return value
