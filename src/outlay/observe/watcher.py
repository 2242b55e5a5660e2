"""Everything that tells of one process, put together."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import structlog

from outlay import __version__
from outlay.chains import Head
from outlay.chains.rpc import JsonRpc
from outlay.config import Config
from outlay.core.seams import SECOND, Clock
from outlay.core.transfer import State
from outlay.engine.loop import Loops
from outlay.observe.gauges import DatabaseGauges, ProcessGauges
from outlay.observe.health import Health
from outlay.observe.listener import Listener
from outlay.observe.meter import Meter
from outlay.observe.tracing import Tracer
from outlay.signer.client import SignerClient
from outlay.store.database import Database
from outlay.store.glance import Glance
from outlay.store.tally import Moved, Note

log = structlog.get_logger()

_TOLD: Final = frozenset({State.FAILED, State.REJECTED, State.CANCELED, State.EXPIRED})
"""Ends that are worth a line of the log each; the good ones are counted."""


class Watcher:
    """The counters, gauges, traces, health and listener of one process."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        config: Config,
        *,
        role: str,
        has_engine: bool,
        data: Path,
        socket: Path,
        is_open: Callable[[], bool],
        price_ages: Callable[[], Mapping[str, float]],
        log_counts: Mapping[tuple[str, str], int],
    ) -> None:
        """Keep the parts; nothing listens yet.

        Args:
            db: is watched from now on.
            clock: the time of day.
            config: of the deployment.
            role: what this process does, for traces.
            has_engine: whether gauges of the database are told: those who move payouts tell them.
            data: the data directory, whose disk is looked at.
            socket: where the signer listens.
            is_open: whether writes are let in.
            price_ages: seconds since each live price was told.
            log_counts: lines of the log so far, by event and level.

        Raises:
            InvalidInput: traces are asked for and cannot be made here.
        """
        self.meter = Meter(__version__)
        self.loops = Loops(self.meter.count_step_failure, started=self.meter.expect_step)
        self.compared: dict[tuple[str, str], tuple[int, int]] = {}  #: see ``gauges.Compared``
        self.health = Health(db, clock, config, SignerClient(socket), self.loops, is_open)
        self._clock, self._rpcs = clock, dict[str, JsonRpc]()
        self._tracer = (
            Tracer(config.tracing.endpoint, version=__version__, role=role) if config.tracing.endpoint else None
        )
        self._glance = Glance(db.where)
        self._listener = Listener(self.meter.registry, self.health, host=config.metrics.host, port=config.metrics.port)
        database = None
        if has_engine:
            database = DatabaseGauges(
                self._glance, clock, config, lambda: dict(self.compared), is_served=isinstance(db.where, str)
            )
            self.meter.registry.register(database)
        self.meter.registry.register(
            ProcessGauges(db, data, database, self._standing, self._listener.health, price_ages, log_counts)
        )
        db.on_kept = self._kept

    def watch_rpc(self, network: str, endpoints: int) -> Callable[[int, str, float], None]:
        """Return what is told of each request to a network's endpoints."""
        self.meter.expect_endpoints(network, endpoints)
        return lambda number, outcome, seconds: self.meter.count_rpc(network, number, outcome, seconds)

    def add_rpc(self, network: str, rpc: JsonRpc) -> None:
        """Show how a network's endpoints stand."""
        self._rpcs[network] = rpc

    def count_admission(self, payout_id: str, traceparent: str | None, seconds: float) -> None:
        """Count a request of a payout that was answered, and trace it."""
        self.meter.count_admission(seconds)
        if self._tracer is not None:
            now = self._clock.now()
            self._tracer.trace_request(payout_id, traceparent, now - int(seconds * SECOND), now)

    async def start(self) -> None:
        """Listen, if a port is configured."""
        await self._listener.start()

    async def stop(self) -> None:
        """Tell what is left, and end."""
        await self._listener.stop()
        await self.health.close()
        if self._tracer is not None:
            await asyncio.to_thread(self._tracer.close)
        self._glance.close()

    def _kept(self, notes: Sequence[Note]) -> None:
        self.meter.count_notes(notes)
        if self._tracer is not None:
            self._tracer.trace_notes(notes)
        for each in notes:
            if isinstance(each, Moved) and each.state in _TOLD:
                log.info("payout_ended", payout=each.transfer_id, state=str(each.state), event_of_it=str(each.event))

    def _standing(self) -> Mapping[str, Sequence[tuple[int, bool, Head | None]]]:
        now = time.monotonic()  # what the event loop's clock reads
        return {network: rpc.standing(now) for network, rpc in list(self._rpcs.items())}
