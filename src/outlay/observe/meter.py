"""Counters and latencies of one process. They are counted after the commit, in memory, and start at 0 with it."""

from collections.abc import Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from outlay.core.seams import SECOND
from outlay.core.transfer import Event, State
from outlay.signer import Why
from outlay.store.tally import DELIVERED, FAILED, PARKED, Moved, Note

disable_created_metrics()  # type: ignore[no-untyped-call, unused-ignore]

STAGES: Final = ("accept", "decide", "sign", "broadcast", "confirm", "notify")
"""The stages of a payout whose times are measured, in their order."""

METHODS: Final = frozenset({"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"})
UNKNOWN_ROUTE: Final = "unmatched"
"""The route of calls that mean none."""

RPC_OUTCOMES: Final = ("answered", "throttled", "too_large", "failed", "abandoned")

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_STAGE_SECONDS: Final = (0.005, 0.02, 0.1, 0.5, 1, 2.5, 5, 15, 30, 60, 180, 600, 1800, 7200, 28800, 86400)
_STAGE_OF: Final = {
    Event.ALLOWED: "decide",
    Event.BLOCKED: "decide",
    Event.DENIED: "decide",
    Event.SIGNED: "sign",
    Event.SENT: "broadcast",
    Event.PAID: "confirm",
}
"""Event -> the stage that it ends."""


class Meter:
    """The counters of one process, in a registry of its own."""

    def __init__(self, version: str) -> None:
        """Make every series that is known beforehand, at 0: the first increase is seen too."""
        self.registry = registry = CollectorRegistry()
        payouts = Counter("outlay_payouts", "Payouts that came into a state", ["stage"], registry=registry)
        self._payouts = {state.value: payouts.labels(state.value) for state in State}
        seconds = Histogram(
            "outlay_stage_seconds",
            "Seconds a stage of a payout took",
            ["stage"],
            registry=registry,
            buckets=_STAGE_SECONDS,
        )
        self._seconds = {stage: seconds.labels(stage) for stage in STAGES}
        deliveries = Counter(
            "outlay_deliveries", "Attempts to tell an endpoint of an event", ["outcome"], registry=registry
        )
        self._deliveries = {outcome: deliveries.labels(outcome) for outcome in (DELIVERED, FAILED, PARKED)}
        self._calls = Counter(
            "outlay_http_requests", "Calls of the API that were answered", ["method", "route", "status"],
            registry=registry,
        )  # fmt: skip
        self._call_seconds = Histogram(
            "outlay_http_request_seconds",
            "Seconds from a call of the API to the begin of its answer",
            ["route"],
            registry=registry,
            buckets=_SECONDS,
        )
        self._refusals = Counter(
            "outlay_signer_refusals", "Requests that the signer refused", ["why"], registry=registry
        )
        for why in set(Why) - {Why.AFTER_REFUSAL}:
            self._refusals.labels(str(why))
        self._rpc = Counter(
            "outlay_rpc_requests",
            "Requests to an RPC endpoint, which is named by its place in rpc_urls, from 1",
            ["network", "endpoint", "outcome"],
            registry=registry,
        )
        self._rpc_seconds = Histogram(
            "outlay_rpc_seconds", "Seconds a request to an RPC endpoint took", ["network"], registry=registry,
            buckets=_SECONDS,
        )  # fmt: skip
        self._step_failures = Counter(
            "outlay_step_failures", "Steps of the engine that failed and are tried again", ["step"], registry=registry
        )
        build = Gauge("outlay_build_info", "1; the version that runs is its label", ["version"], registry=registry)
        build.labels(version).set(1)
        self.metrics = (
            *(payouts, seconds, deliveries, build, self._calls, self._call_seconds, self._refusals),
            *(self._rpc, self._rpc_seconds, self._step_failures),
        )

    def count_notes(self, notes: Sequence[Note]) -> None:
        """Count what units did that were kept."""
        moved: dict[str, int] = {}
        for each in notes:
            if isinstance(each, Moved):
                moved[each.state] = moved.get(each.state, 0) + 1
                stage = _STAGE_OF.get(each.event)  # type: ignore[call-overload]
                if stage is not None and each.began is not None:
                    self._seconds[stage].observe(max(0, each.at - each.began) / SECOND)
            else:
                self._deliveries[each.outcome].inc()
                if each.outcome == DELIVERED:
                    self._seconds["notify"].observe(max(0, each.at - each.began) / SECOND)
        for state, count in moved.items():
            self._payouts[state].inc(count)

    def count_admission(self, seconds: float) -> None:
        """Count the time from a request of a payout to its answer."""
        self._seconds["accept"].observe(seconds)

    def count_call(self, method: str, route: str | None, status: int, seconds: float) -> None:
        """Count a call of the API."""
        route = route or UNKNOWN_ROUTE
        self._calls.labels(method if method in METHODS else "other", route, str(status)).inc()
        self._call_seconds.labels(route).observe(seconds)

    def count_refusal(self, why: str) -> None:
        """Count a request that the signer refused."""
        self._refusals.labels(why).inc()

    def expect_step(self, step: str) -> None:
        """Have the series of a step, at 0."""
        self._step_failures.labels(step)

    def count_step_failure(self, step: str) -> None:
        """Count a step that failed."""
        self._step_failures.labels(step).inc()

    def expect_endpoints(self, network: str, count: int) -> None:
        """Have the series of a network's endpoints, at 0."""
        self._rpc_seconds.labels(network)
        for number in range(1, count + 1):
            for outcome in RPC_OUTCOMES:
                self._rpc.labels(network, str(number), outcome)

    def count_rpc(self, network: str, endpoint: int, outcome: str, seconds: float) -> None:
        """Count a request to an RPC endpoint."""
        self._rpc.labels(network, str(endpoint), outcome).inc()
        self._rpc_seconds.labels(network).observe(seconds)
