"""Traces: the spans of a payout, made of what units did, with the library's exporter in memory."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from outlay.config import parse
from outlay.core.errors import InvalidInput
from outlay.core.transfer import Event, State
from outlay.observe.tracing import Tracer, ids_of, read_traceparent
from outlay.store.tally import DELIVERED, REQUESTED, Attempted, Moved
from tests.door import PAYER, open_door, transfer

PAYOUT = "xfr-abcde-fghij-klmnopqrstuv1234"
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
AT = 1_767_323_045_000_000


class Recorded:
    """A tracer, and what it has exported."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracer = Tracer("http://127.0.0.1:9/v1/traces", version="1", role="serve", exporter=self.exporter)

    def spans(self) -> dict[str, ReadableSpan]:
        """Return the spans by name."""
        self.tracer.flush()
        return {span.name: span for span in self.exporter.get_finished_spans()}


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    """Record the spans of a test."""
    made = Recorded()
    yield made
    made.tracer.close()


def moved(event: str, state: State, began: int | None, at: int) -> Moved:
    """Return a note, its instants in milliseconds from the begin."""
    return Moved(PAYOUT, event, state, None if began is None else AT + began * 1000, AT + at * 1000)


LIFE = (
    moved(REQUESTED, State.REQUESTED, 0, 0),
    moved(Event.ALLOWED, State.READY, 0, 0),
    moved(Event.ASSIGNED, State.ASSIGNED, 0, 50),
    moved(Event.SIGNED, State.SIGNED, 0, 80),
    moved(Event.SENT, State.BROADCAST, 80, 90),
    moved(Event.MINED, State.MINED, 90, 1200),
    moved(Event.PAID, State.CONFIRMED, 90, 2000),
)


def test_a_life_is_one_trace(recorded: Recorded) -> None:
    recorded.tracer.trace_notes(LIFE)
    recorded.tracer.trace_notes([Attempted(PAYOUT, DELIVERED, AT + 2_000_000, AT + 2_030_000)])
    spans = recorded.spans()
    trace, root = ids_of(PAYOUT)

    assert list(spans) == ["admit", "decide", "bind", "sign", "broadcast", "mine", "confirm", "notify"]
    assert {span.context.trace_id for span in spans.values() if span.context} == {trace}
    assert spans["admit"].context is not None
    assert spans["admit"].context.span_id == root
    assert spans["admit"].parent is None
    assert {span.parent.span_id for name, span in spans.items() if name != "admit" and span.parent} == {root}
    times = {name: ((span.start_time or 0) // 10**6 - AT // 1000, (span.end_time or 0) // 10**6 - AT // 1000)
             for name, span in spans.items()}  # fmt: skip
    assert times == {
        "admit": (0, 0),
        "decide": (0, 0),
        "bind": (0, 50),
        "sign": (50, 80),
        "broadcast": (80, 90),
        "mine": (90, 1200),
        "confirm": (90, 2000),
        "notify": (2000, 2030),
    }


def test_two_processes_add_to_the_same_trace(recorded: Recorded) -> None:
    """The ids follow from the payout, so a worker needs nothing of the API that admitted it."""
    other = Recorded()
    recorded.tracer.trace_notes(LIFE[:2])
    other.tracer.trace_notes(LIFE[2:])
    one, two = recorded.spans(), other.spans()
    other.tracer.close()

    assert one["admit"].context is not None
    assert two["confirm"].parent is not None
    assert two["confirm"].parent.trace_id == one["admit"].context.trace_id
    assert two["confirm"].parent.span_id == one["admit"].context.span_id


def test_two_payouts_are_two_traces() -> None:
    assert ids_of("xfr-1") != ids_of("xfr-2")
    assert ids_of("xfr-1") == ids_of("xfr-1")


def test_events_about_something_else_make_no_span(recorded: Recorded) -> None:
    recorded.tracer.trace_notes([Attempted("wa-abcde-fghij-klmnopqrstuv1234", DELIVERED, AT, AT)])

    assert recorded.spans() == {}


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (PARENT, (int(TRACE, 16), int(SPAN, 16), 1)),
        (f"01-{TRACE}-{SPAN}-01-what-may-come", (int(TRACE, 16), int(SPAN, 16), 1)),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        (f"00-{TRACE}-{SPAN}", None),
        (f"00-{TRACE}-{SPAN}-01\n", None),
        ("", None),
        (None, None),
        ("x" * 100_000, None),
    ],
)
def test_traceparent_is_read_exactly(text: str | None, read: tuple[int, int, int] | None) -> None:
    assert read_traceparent(text) == read


def test_the_callers_trace_is_linked(recorded: Recorded) -> None:
    recorded.tracer.trace_request(PAYOUT, PARENT, AT, AT + 5000)
    span = recorded.spans()["request"]

    assert [(link.context.trace_id, link.context.span_id) for link in span.links] == [(int(TRACE, 16), int(SPAN, 16))]
    assert span.attributes == {"outlay.payout": PAYOUT}


def test_the_gate_tells_of_each_request_with_the_callers_trace(tmp_path: Path) -> None:
    told: list[tuple[str, str | None, float]] = []
    with open_door(tmp_path) as door:
        object.__setattr__(door.gate, "on_admitted", lambda *each: told.append(each))
        payer = door.service_account("payouts bot", PAYER)
        path = f"/wallets/{door.wallet()['id']}/transfers"
        body = transfer(externalId="traced")
        action = door.sign(payer, "POST", path, body)
        made = door.call("POST", path, body, token=payer.token, action=action, traceparent=PARENT).ok()
        assert door.write(payer, "POST", path, {**body, "amount": "x"}).status == 400

    assert [(payout, trace) for payout, trace, _ in told] == [(made["id"], PARENT)]
    assert told[0][2] > 0


def test_without_the_extra_it_says_how_to_get_it() -> None:
    code = (
        "import sys; sys.modules['opentelemetry.sdk.trace'] = None\n"
        "from outlay.observe.tracing import Tracer\n"
        "try: Tracer('http://127.0.0.1:9', version='1', role='api')\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert "InvalidInput" in ran.stdout
    assert "pip install 'outlay[server,otel]'" in ran.stdout


@pytest.mark.parametrize("url", ["collector:4318", "grpc://collector:4317", "http://"])
def test_an_endpoint_that_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match=r"OTLP|http"):
        parse(f'[tracing]\nendpoint = "{url}"')
