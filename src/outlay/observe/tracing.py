"""Traces: one a payout, from the API call to the receipt, made of the instants that its row keeps.

The trace's id follows from the payout's id, so nothing is stored and every process adds its spans to the same trace.
Spans are made after the commit of what they tell of. They hold ids, states and times: no secret, no recipient.
"""

import hashlib
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from outlay.core import ids
from outlay.core.errors import InvalidInput
from outlay.core.seams import Instant
from outlay.core.transfer import Event
from outlay.store.tally import REQUESTED, Moved, Note

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_DOMAIN: Final = "outlay.trace.v1\n"
_NS: Final = 1000  # an instant's microseconds in nanoseconds
_REMEMBERED: Final = 10_000

_SPANS: Final[Mapping[str, str]] = {
    REQUESTED: "admit",
    Event.ALLOWED: "decide",
    Event.BLOCKED: "decide",
    Event.DENIED: "decide",
    Event.HELD: "hold",
    Event.ASSIGNED: "bind",
    Event.SIGNED: "sign",
    Event.SENT: "broadcast",
    Event.MINED: "mine",
    Event.PAID: "confirm",
    Event.REVERTED: "confirm",
    Event.VOIDED: "confirm",
}
"""Event -> the span that it ends; others are spans of their own name without a length."""

MISSING: Final = "tracing.endpoint needs the extra otel: pip install 'outlay[server,otel]'"


def read_traceparent(text: str | None) -> tuple[int, int, int] | None:
    """Return trace id, span id and flags of a W3C ``traceparent`` header; None: there is none, or it is malformed."""
    found = _TRACEPARENT.fullmatch(text or "")
    if found is None:
        return None
    trace, span, flags = (int(each, 16) for each in found.groups())
    return (trace, span, flags) if trace and span else None


def ids_of(payout_id: str) -> tuple[int, int]:
    """Return the ids of a payout's trace and of the span that is its root."""
    digest = hashlib.sha256((_DOMAIN + payout_id).encode()).digest()
    return int.from_bytes(digest[:16]) or 1, int.from_bytes(digest[16:24]) or 1


class Tracer:
    """Makes the spans of this process, on the event loop, and hands them to an exporter in the background."""

    def __init__(self, endpoint: str, *, version: str, role: str, exporter: "SpanExporter | None" = None) -> None:
        """Prepare the exporter: OTLP over HTTP to ``endpoint``, unless one is given.

        Raises:
            InvalidInput: the extra is not installed.
        """
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
            from opentelemetry.sdk.trace.sampling import ALWAYS_ON
        except ImportError:
            raise InvalidInput(MISSING, field="tracing.endpoint") from None

        class Ids(IdGenerator):  # type: ignore[misc, unused-ignore]
            """Random ids, but for the root of a payout's trace."""

            given: tuple[int, int] | None = None
            _random = RandomIdGenerator()

            def generate_trace_id(self) -> int:
                """Return the trace id that is to be used next."""
                return self.given[0] if self.given else self._random.generate_trace_id()

            def generate_span_id(self) -> int:
                """Return the span id that is to be used next."""
                return self.given[1] if self.given else self._random.generate_span_id()

        self._ids = Ids()
        resource = Resource({"service.name": "outlay", "service.version": version, "outlay.role": role})
        self._provider = TracerProvider(
            resource=resource, id_generator=self._ids, sampler=ALWAYS_ON, shutdown_on_exit=False
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter or OTLPSpanExporter(endpoint=endpoint, timeout=5))
        )
        self._tracer = self._provider.get_tracer("outlay", version)
        self._bound: OrderedDict[str, Instant] = OrderedDict()  # when payouts got their nonces

    def trace_notes(self, notes: Sequence[Note]) -> None:
        """Make the spans of what units did that were kept."""
        for each in notes:
            if isinstance(each, Moved):
                self._moved(each)
            else:
                if ids.is_id(each.subject, ids.TRANSFER):
                    self._span(each.subject, "notify", each.began, each.at, {"outlay.outcome": each.outcome})

    def trace_request(self, payout_id: str, traceparent: str | None, began: Instant, at: Instant) -> None:
        """Make the span of a call that asked for a payout, linked to the caller's own trace."""
        self._span(payout_id, "request", began, at, {}, caller=read_traceparent(traceparent))

    def flush(self, within_ms: int = 5000) -> None:
        """Hand over what is ready."""
        self._provider.force_flush(within_ms)

    def close(self) -> None:
        """Hand over what is left, and end."""
        self._provider.shutdown()

    def _moved(self, moved: Moved) -> None:
        name = _SPANS.get(moved.event, str(moved.event))
        began = moved.at if moved.began is None else moved.began
        if moved.event == Event.ASSIGNED:
            self._bound[moved.transfer_id] = moved.at
            while len(self._bound) > _REMEMBERED:
                self._bound.popitem(last=False)
        elif moved.event == Event.SIGNED:
            began = self._bound.pop(moved.transfer_id, began)
        self._span(moved.transfer_id, name, began, moved.at, {"outlay.state": str(moved.state)})

    def _span(
        self,
        payout_id: str,
        name: str,
        began: Instant,
        at: Instant,
        attributes: dict[str, str],
        *,
        caller: tuple[int, int, int] | None = None,
    ) -> None:
        from opentelemetry.context import Context
        from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

        trace, root = ids_of(payout_id)
        links = []
        if caller is not None:
            links.append(Link(SpanContext(caller[0], caller[1], is_remote=True, trace_flags=TraceFlags(caller[2]))))
        options: dict[str, Any] = {
            "start_time": min(began, at) * _NS,
            "attributes": {"outlay.payout": payout_id, **attributes},
            "links": links,
        }
        if name == _SPANS[REQUESTED]:
            self._ids.given = (trace, root)
            try:
                span = self._tracer.start_span(name, Context(), **options)
            finally:
                self._ids.given = None
        else:
            parent = SpanContext(trace, root, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
            span = self._tracer.start_span(name, set_span_in_context(NonRecordingSpan(parent), Context()), **options)
        span.end(at * _NS)
