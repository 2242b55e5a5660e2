"""The home page: what waits for me, what flows, what is wrong."""

import asyncio
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from litestar import Controller, Response, get
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from outlay.actions import overview
from outlay.actions.act import Caller
from outlay.actions.present_approvals import files_waiting
from outlay.core.policy import AmountVelocity
from outlay.core.policy_words import policy_words
from outlay.core.seams import DAY, HOUR, Instant
from outlay.evidence.demand import VOTE
from outlay.store import figures, volume, wallets
from outlay.store.approvals import MINE
from outlay.store.database import Unit
from outlay.store.figures import Cap, Figures
from outlay.store.volume import NOTHING, Hour
from outlay.web.body import StrictRequest
from outlay.web.dashboard.desk import ROOT, Desk
from outlay.web.dashboard.lists import loose

FRESH_S = 15.0
"""How long what takes longer to work out is shown again, to everybody."""

MINE_SHOWN = 10
CAPS = frozenset({"Policies:Read", "Policies:Evaluations:Read"})
"""What one must be permitted to see how much of each cap is used."""
"""Approvals that the page shows; the others are on a page of their own."""

SPANS: Mapping[str, int] = {"day": 24, "month": 720}
"""What the chart may show -> how many hours."""

_KEPT: Instant = 6 * HOUR
"""How long sums of hours that are over are kept: what turns out later not to have left is not in them then."""

_STAGES = (
    ("decide", "Waiting for people", ("held",)),
    ("sign", "Waiting to be signed", ("ready", "assigned")),
    ("broadcast", "Signed, about to be sent", ("signed",)),
    ("confirm", "Sent, not final yet", ("broadcast", "mined")),
)
"""Stage, what it is called, states in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar of the chart."""

    at: Instant
    sum: Hour | None  #: None: not added up yet
    part: float = 0.0  #: its height, 1.0 the highest


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slow:
    """What takes longer to work out."""

    caps: Sequence[Cap]
    hours: Mapping[tuple[str, str], int]
    bars: Sequence[Bar]


@dataclass(slots=True)
class Lately:
    """What was worked out a moment ago, for everybody who looks. Used in threads of the database."""

    _turn: threading.Lock = field(default_factory=threading.Lock)
    _known: dict[str, tuple[float, _Slow]] = field(default_factory=dict)
    _hours: dict[Instant, Hour] = field(default_factory=dict)
    _kept_since: Instant = 0

    def slow(self, unit: Unit, found: Figures, span: str, *, now: Instant, turn: float) -> _Slow:
        """Return it as of at most ``FRESH_S`` seconds ago.

        Args:
            unit: the database unit.
            found: the figures of this unit.
            span: what the chart shows, one of ``SPANS``.
            now: the instant.
            turn: seconds of the event loop's clock.
        """
        with self._turn:
            known = self._known.get(span)
            if known is None or turn >= known[0] + FRESH_S:
                known = (
                    turn,
                    _Slow(
                        caps=figures.caps(unit, now=now),
                        hours=overview.hours_left(unit, found, now=now),
                        bars=self._bars(unit, span, now),
                    ),
                )
                self._known[span] = known
            return known[1]

    def _bars(self, unit: Unit, span: str, now: Instant) -> list[Bar]:
        """Return the bars of the chart, the oldest first."""
        if now >= self._kept_since + _KEPT:
            self._hours.clear()
            self._kept_since = now
        this = now // HOUR * HOUR
        wanted = [this - back * HOUR for back in reversed(range(SPANS[span]))]
        sums = dict(self._hours)
        for first, last in _runs([at for at in wanted if at not in sums]):
            found, begins = volume.by_hour(unit, since=first, until=last + HOUR)
            sums.update({at: found.get(at, NOTHING) for at in range(max(first, begins), last + HOUR, HOUR)})
        self._hours = {at: each for at, each in sums.items() if at < this - HOUR}
        if span == "day":
            return _drawn([(at, sums.get(at)) for at in wanted])
        days: dict[Instant, list[Hour | None]] = {}
        for at in wanted:
            days.setdefault(at // DAY * DAY, []).append(sums.get(at))
        return _drawn([(at, None if None in each else _total(each)) for at, each in days.items()])


def _runs(hours: Sequence[Instant]) -> list[tuple[Instant, Instant]]:
    """Return first and last of each run of hours that follow one another."""
    runs: list[tuple[Instant, Instant]] = []
    for at in hours:
        if runs and runs[-1][1] + HOUR == at:
            runs[-1] = (runs[-1][0], at)
        else:
            runs.append((at, at))
    return runs


def _total(hours: Sequence[Hour | None]) -> Hour:
    known = [each for each in hours if each is not None]
    return Hour(
        sum(each.payouts for each in known), sum(each.value for each in known), sum(each.unknown for each in known)
    )


def _drawn(sums: Sequence[tuple[Instant, Hour | None]]) -> list[Bar]:
    most = max((each.value for _, each in sums if each is not None), default=0)
    return [
        Bar(at=at, sum=each, part=0.0 if each is None or not most else float(each.value / most)) for at, each in sums
    ]


AnyLately = NamedDependency[SkipValidation[Lately]]


class HomePages(Controller):
    """``/dashboard``."""

    path = ROOT

    @get()
    async def home(self, request: StrictRequest, desk: Desk, lately: AnyLately) -> Response[str]:
        """Show what matters now."""
        gate, turn = desk.gate, asyncio.get_running_loop().time()
        now, is_open = gate.clock.now(), gate.is_open()
        asked = request.query_params.get("span")
        span = asked if asked is not None and asked in SPANS else "day"

        def load(unit: Unit, caller: Caller) -> dict[str, Any]:
            found = figures.look(unit)
            slow = lately.slow(unit, found, span, now=now, turn=turn)
            mine = overview.waiting_for(unit, caller, gate.config, now=now)
            troubles = overview.troubles(
                unit, caller, gate.config, found, slow.hours, price_of=gate.price_of, is_open=is_open, now=now
            )
            return {
                "mine": [loose(each) for each in mine[:MINE_SHOWN]],
                "files": list(files_waiting(unit, caller, MINE, now)) if VOTE in caller.operations else [],
                "mine_all": len(mine),
                "mine_max": overview.MINE_MAX,
                "names": overview.names_for(unit, caller, [each["initiatorId"] for each in mine[:MINE_SHOWN]]),
                "stages": _stages(found),
                "troubles": troubles,
                "span": span,
                "bars": slow.bars,
                "total": _total([each.sum for each in slow.bars]),
                "is_whole": all(each.sum is not None for each in slow.bars),
                "caps": [_cap(each) for each in slow.caps] if caller.operations >= CAPS else [],
                "steps": _steps(unit, found, gate.config.networks) if "Wallets:Read" in caller.operations else None,
            }

        return await desk.page(request, "home.html", None, load, title="Home")


def _stages(found: Figures) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "count": sum(found.payouts[state] for state in states),
            "oldest": found.oldest[stage],
            "states": [(state, found.payouts[state]) for state in states if found.payouts[state]],
        }
        for stage, name, states in _STAGES
    ]


def _cap(cap: Cap) -> dict[str, Any]:
    rule = cap.rule
    return {
        "id": cap.policy.id,
        "name": cap.policy.name,
        "words": policy_words(cap.policy),
        "blocks": cap.policy.action.kind == "Block",
        "is_money": isinstance(rule, AmountVelocity),
        "counted": cap.counted,
        "limit": rule.limit,
        "unknown": cap.unknown,
        "minutes": rule.timeframe,
        "scope": rule.scope.value,
        "about": cap.key.partition(":")[2],
        "part": min(1.0, cap.used),
        "percent": cap.counted * 100 // rule.limit,
    }


def _steps(unit: Unit, found: Figures, networks: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what is to be done first where nothing was ever paid: the next thing, and what it is done with."""
    if figures.has_payouts(unit):
        return None
    first = next(iter(wallets.everything(unit)), None)
    holds = any(spendable for each in found.wallets for spendable, _ in each.held.values())
    return {
        "wallet": first,
        "network": first.network if first is not None else next(iter(networks), "NETWORK"),
        "is_funded": holds,
    }
