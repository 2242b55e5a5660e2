"""Gauges, read when they are asked for: from the database, the endpoints, the disk and the health of the process.

A scrape reads on a connection of its own, for a few seconds at most, and what was read is answered again for a while.
What cannot be read is absent, and counted; a zero is always a zero that was read.
"""

import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from outlay.actions import refill
from outlay.chains import Head
from outlay.config import Config
from outlay.core.asset import Asset
from outlay.core.errors import OutlayError
from outlay.core.seams import SECOND, Clock, Instant
from outlay.store import figures, mandates, postgresql
from outlay.store.database import Database, Unit
from outlay.store.figures import Figures, WalletFigures
from outlay.store.glance import Glance

log = structlog.get_logger()

FRESH_S: Final = 5.0
"""How long what was read from the database is answered again."""

SLOW_FRESH_S: Final = 60.0
"""The same for what takes longer to work out: caps used, and hours until a wallet is empty."""

READ_MAX_S: Final = 3.0

Standing = Callable[[], Mapping[str, Sequence[tuple[int, bool, Head | None]]]]
"""Tells of each network its endpoints: number, whether it works, newest block."""

Compared = Mapping[tuple[str, str], tuple[int, int]]
"""(wallet id, asset key) -> what the chain showed and what the ledger held, at one final height."""


@dataclass(frozen=True, slots=True)
class _Read:
    """What one look at the database found."""

    figures: Figures
    offset: float | None  #: seconds this clock is off the database server's; None: it is the same machine's


@dataclass(frozen=True, slots=True)
class Slow:
    """What takes longer to work out."""

    caps: Mapping[tuple[str, str], float]
    hours: Mapping[tuple[str, str], int]
    least: Mapping[tuple[str, str], int]  #: base units


class DatabaseGauges(Collector):
    """What the database says. Collected in the listener's threads."""

    def __init__(
        self, glance: Glance, clock: Clock, config: Config, compared: Callable[[], Compared], *, is_served: bool
    ) -> None:
        """Keep the parts; ``is_served`` tells that the database has a clock of its own."""
        self._glance, self._clock, self._config, self._compared = glance, clock, config, compared
        self._is_served = is_served
        self._turn = threading.Lock()
        self._read: tuple[float, _Read] | None = None
        self._slow: tuple[float, Slow] | None = None
        self._failed_at = float("-inf")
        self.errors = 0  #: looks that gave nothing
        self.offset: float | None = None  #: seconds this clock is behind the server's, as last seen

    def describe(self) -> Iterable[Metric]:
        """Name nothing beforehand: it would have to be read."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Read, unless that was done a moment ago."""
        with self._turn:
            families = self._families()
        yield from families

    def _families(self) -> list[Metric]:
        if time.monotonic() - self._failed_at < FRESH_S:
            return []
        try:
            read, slow = self._fresh()
        except OutlayError as error:
            log.warning("figures_unread", message=error.message)
            return self._failed()
        except Exception as error:
            # The last line: what the process knows of itself is told all the same.
            log.error("figures_unread", exc_info=error)
            return self._failed()
        self.offset = read.offset
        return families(self._config, read.figures, self._compared(), slow, self._clock.now())

    def _failed(self) -> list[Metric]:
        """Tell nothing, and ask nothing again for a while."""
        self.errors, self.offset, self._failed_at = self.errors + 1, None, time.monotonic()
        return []

    def _fresh(self) -> tuple[_Read, Slow]:
        now = time.monotonic()
        if self._read is None or now - self._read[0] >= FRESH_S:
            self._read = None
            self._read = (now, self._glance.read(self._look, within_s=READ_MAX_S))
        if self._slow is None or now - self._slow[0] >= SLOW_FRESH_S:
            self._slow = None
            self._slow = (now, self._glance.read(self._look_long, within_s=READ_MAX_S))
        return self._read[1], self._slow[1]

    def _look(self, unit: Unit) -> _Read:
        offset = None
        if self._is_served:
            offset = (postgresql.server_clock(unit) - self._clock.now()) / SECOND
        return _Read(figures.look(unit), offset)

    def _look_long(self, unit: Unit) -> Slow:
        now = self._clock.now()
        flow = refill.flow(unit, now=now)
        hours = {}
        for each in figures.look(unit).wallets:
            for asset, (spendable, _) in each.held.items():
                left = flow.hours(each.id, asset, spendable)
                if left is not None:
                    hours[each.id, asset] = left
        return Slow(
            caps=figures.caps_used(unit, now=now),
            hours=hours,
            least={
                (row.id, mandate.asset): mandate.levels_at(_highest_cap(self._config, mandate.network)).least
                for mandate, row in refill.filled(unit, mandates.active(unit))
            },
        )


def families(
    config: Config, found: Figures, compared: Compared, slow: Slow | None = None, now: Instant = 0
) -> list[Metric]:
    """Return what is told of a look at the database.

    Args:
        config: of the deployment.
        found: the look.
        compared: what chain and ledger said.
        slow: what takes longer to work out.
        now: of the look.
    """
    slow = slow or Slow({}, {}, {})
    return [
        *_payout_gauges(found, now),
        *_wallet_gauges(config, found, slow, compared),
        *_webhook_gauges(found, now),
        _cap_gauge(slow),
        *_audit_gauges(found, now),
    ]


class ProcessGauges(Collector):
    """What this process knows of itself."""

    def __init__(
        self,
        db: Database,
        data: Path,
        database: DatabaseGauges | None,
        standing: Standing,
        health: Callable[[], tuple[bool, Mapping[str, bool]] | None],
        price_ages: Callable[[], Mapping[str, float]],
        log_events: Mapping[tuple[str, str], int],
    ) -> None:
        """Keep the parts; ``health`` tells whether the process is live, and each check; None: it does not turn."""
        self._db, self._data, self._database, self._standing = db, data, database, standing
        self._health, self._price_ages, self._log_events = health, price_ages, log_events

    def describe(self) -> Iterable[Metric]:
        """Name nothing beforehand."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Ask the parts."""
        yield from self._health_gauges()
        yield from self._provider_gauges()
        errors = 0 if self._database is None else self._database.errors
        yield CounterMetricFamily(
            "outlay_scrape_errors", "Looks at the database that gave nothing; its gauges are absent then", value=errors
        )
        events = CounterMetricFamily("outlay_log_events", "Lines of the log", labels=["event", "level"])
        for (name, level), count in sorted(self._log_events.items()):
            events.add_metric([name, level], count)
        yield events
        yield CounterMetricFamily("outlay_db_groups", "Groups of units that were committed", value=self._db.groups)
        yield CounterMetricFamily("outlay_db_units", "Units that were kept", value=self._db.units)
        yield GaugeMetricFamily("outlay_db_waiting", "Units that wait for their turn", value=self._db.waiting)
        disk = GaugeMetricFamily("outlay_disk_free_ratio", "Free part of the disk, 0 to 1", labels=["path"])
        usage = shutil.disk_usage(self._data)
        disk.add_metric(["data"], usage.free / usage.total)
        yield disk
        prices = GaugeMetricFamily(
            "outlay_price_age_seconds", "Since a live price was told; 0: a fixed one without check", labels=["symbol"]
        )
        for symbol, age in self._price_ages().items():
            prices.add_metric([symbol], age)
        yield prices

    def _health_gauges(self) -> Iterator[Metric]:
        found = self._health()
        live, checks = (False, {}) if found is None else found
        yield GaugeMetricFamily("outlay_live", "1: the process turns", value=live)
        if checks:
            ready = GaugeMetricFamily(
                "outlay_ready", "1: this is as it has to be for work to be done", labels=["check"]
            )
            for name, is_so in checks.items():
                ready.add_metric([name], is_so)
            yield ready
            yield GaugeMetricFamily("outlay_signer_up", "1: the signer answers", value=checks["signer"])
            admits = all(checks[name] for name in ("open", "database", "settings", "audit"))
            yield GaugeMetricFamily("outlay_admitting", "1: payouts are admitted", value=admits)

    def _provider_gauges(self) -> Iterator[Metric]:
        up = GaugeMetricFamily(
            "outlay_provider_up", "1: the RPC endpoint has not failed lately", labels=["network", "endpoint"]
        )
        lag = GaugeMetricFamily(
            "outlay_provider_lag_blocks", "Blocks an endpoint is behind the highest", labels=["network", "endpoint"]
        )
        ahead = None
        for network, endpoints in self._standing().items():
            heads = [head for _, _, head in endpoints if head is not None]
            best = max((head.number for head in heads), default=0)
            for number, works, head in endpoints:
                up.add_metric([network, str(number)], works)
                if head is not None:
                    lag.add_metric([network, str(number)], best - head.number)
            newest = max((head.timestamp for head in heads), default=None)
            if newest is not None:
                ahead = max(ahead or 0.0, newest - time.time())
        yield up
        yield lag
        offset = GaugeMetricFamily(
            "outlay_clock_offset_seconds",
            "Seconds this clock is behind the database server's, or the newest block's; an old block counts as 0",
            labels=["against"],
        )
        if ahead is not None:
            offset.add_metric(["chain"], ahead)
        if self._database is not None and self._database.offset is not None:
            offset.add_metric(["database"], self._database.offset)
        yield offset


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def _labelled(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=labels)


def _age(now: Instant, since: Instant | None) -> float:
    return 0.0 if since is None else max(0, now - since) / SECOND


def _payout_gauges(found: Figures, now: Instant) -> Iterator[Metric]:
    webhooks = [each.oldest for each in found.webhooks if each.oldest is not None and each.is_enabled]
    oldest = _labelled(
        "outlay_oldest_waiting_seconds", "Age of what waits longest for the end of a stage; 0: nothing waits", "stage"
    )
    for stage, since in {**found.oldest, "notify": min(webhooks, default=None)}.items():
        oldest.add_metric([stage], _age(now, since))
    yield oldest
    payouts = _labelled("outlay_payouts", f"Payouts in a state that is no end, up to {figures.COUNT_MAX}", "state")
    for state, count in found.payouts.items():
        payouts.add_metric([state], count)
    yield payouts
    yield _gauge("outlay_payout_delayed", "Payouts that are in a stage for longer than they should", found.delayed)
    yield _gauge("outlay_approvals_pending", "Approvals that wait for people", found.approvals)
    yield _gauge("outlay_approval_oldest_seconds", "Age of the oldest of them", _age(now, found.approval_oldest))
    frozen = _labelled("outlay_frozen", "What is frozen, by kind", "kind")
    for kind, count in found.stops.items():
        frozen.add_metric([kind], count)
    yield frozen


def _wallet_gauges(config: Config, found: Figures, slow: Slow, compared: Compared) -> Iterator[Metric]:
    flying = _labelled("outlay_in_flight", "Transactions of a wallet that are not final", "wallet", "network")
    gap = _labelled("outlay_lane_gap", "Nonces of a wallet that no transaction of ours has", "wallet")
    frozen = _labelled("outlay_wallet_frozen", "1: the wallet is stopped", "wallet")
    reserved = _labelled("outlay_reserved_units", "Units set aside for payouts under way", "wallet", "asset")
    balance = _labelled(
        "outlay_balance_units", "Units a wallet holds; for drawing, not exact", "wallet", "network", "asset", "kind"
    )
    hours = _labelled(
        "outlay_hours_to_empty", "Whole hours until a wallet is empty at the pace of the last six", "wallet", "asset"
    )
    least = _labelled("outlay_refill_min_units", "Units below which a mandate fills a wallet", "wallet", "asset")
    differs = _labelled("outlay_reconciliation_difference_units", "Units chain and ledger differ by", "wallet", "asset")
    for each in found.wallets:
        if each.is_active:
            flying.add_metric([each.id, each.network], each.in_flight)
            gap.add_metric([each.id], each.gap)
            frozen.add_metric([each.id], each.is_frozen)
        for asset, name in _names(config, each):
            spendable, set_aside = each.held.get(asset.key, (0, 0))
            place = [each.id, each.network, name]
            reserved.add_metric([each.id, name], _units(set_aside, asset))
            balance.add_metric([*place, "ledger"], _units(spendable + set_aside, asset))
            balance.add_metric([*place, "spendable"], _units(spendable, asset))
            shown = compared.get((each.id, asset.key))
            if shown is not None:
                balance.add_metric([*place, "chain"], _units(shown[0], asset))
                differs.add_metric([each.id, name], _units(shown[0] - shown[1], asset))
            left = slow.hours.get((each.id, asset.key))
            if left is not None:
                hours.add_metric([each.id, name], left)
            floor = slow.least.get((each.id, asset.key))
            if floor is not None:
                least.add_metric([each.id, name], _units(floor, asset))
    yield from (flying, gap, frozen, reserved, balance, hours, least, differs)


def _names(config: Config, wallet: WalletFigures) -> list[tuple[Asset, str]]:
    """Return a wallet's assets and what each is called: its symbol, with the contract where two have the same."""
    assets = config.assets_of(wallet.network)
    symbols = [each.symbol for each in assets]
    return [(each, each.symbol if symbols.count(each.symbol) == 1 else f"{each.symbol} {each.key}") for each in assets]


def _units(amount: int, asset: Asset) -> float:
    return float(amount / 10**asset.decimals)


def _highest_cap(config: Config, network: str) -> int:
    return max((config.fee_cap(network, each.key) for each in config.assets_of(network)), default=0)


def _webhook_gauges(found: Figures, now: Instant) -> Iterator[Metric]:
    waiting = [each.oldest for each in found.webhooks if each.oldest is not None and each.is_enabled]
    yield _gauge(
        "outlay_webhook_oldest_undelivered_seconds",
        "Age of the oldest event that an enabled endpoint was not told",
        _age(now, min(waiting, default=None)),
    )
    parked = _labelled(
        "outlay_webhook_parked", f"Events that were given up, among the last {figures.PARKED_MAX} failures", "webhook"
    )
    disabled = _labelled("outlay_webhook_disabled", "1: the endpoint is told nothing", "webhook")
    for each in found.webhooks:
        parked.add_metric([each.id], each.parked)
        disabled.add_metric([each.id], not each.is_enabled)
    yield parked
    yield disabled


def _audit_gauges(found: Figures, now: Instant) -> Iterator[Metric]:
    yield _gauge("outlay_audit_broken", "1: the audit log is not what was written", found.audit_broken)
    if found.audit_verified_at:
        age = _age(now, found.audit_verified_at)
        yield _gauge("outlay_audit_verified_seconds", "Seconds since the audit log was last found whole", age)


def _cap_gauge(slow: Slow) -> Metric:
    caps = _labelled(
        "outlay_cap_used_ratio",
        "How full the fullest window of a velocity policy is, 1 at its limit",
        "policy",
        "scope",
    )
    for (policy, scope), used in slow.caps.items():
        caps.add_metric([policy, scope], used)
    return caps
