"""Every metric there is, as the documentation lists them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outlay.config import Config
from outlay.observe import gauges
from outlay.observe.health import CHECKS
from outlay.observe.meter import Meter
from outlay.store.figures import Figures

WHERE_ALL, WHERE_ENGINE = "all", "serve, worker"
"""Which processes tell a metric."""


@dataclass(frozen=True, slots=True)
class Described:
    """One metric."""

    name: str  #: as queries name it
    kind: str
    labels: Sequence[str]
    where: str
    meaning: str


class _NoDatabase:
    groups = units = waiting = 0


def describe() -> list[Described]:
    """Return all metrics: counted ones, those of the process, those of the database."""
    meter = Meter("")
    process = gauges.ProcessGauges(
        _NoDatabase(),  # type: ignore[arg-type]
        Path("/"),
        None,
        dict,
        lambda: (True, dict.fromkeys(CHECKS, True)),
        dict,
        {},
    )
    empty = Figures(
        oldest={},
        payouts={},
        delayed=0,
        wallets=(),
        stops={},
        approvals=0,
        approval_oldest=None,
        webhooks=(),
        audit_verified_at=1,
        audit_broken=False,
    )
    counted = [_described(each, WHERE_ALL) for each in meter.metrics]
    own = [_described(each, WHERE_ALL) for each in process.collect()]
    return [*counted, *own, *(_described(each, WHERE_ENGINE) for each in gauges.families(Config(), empty, {}))]


def table() -> str:
    """Return them as a table in Markdown."""
    return "".join(["| metric | type | labels | told by | meaning |\n", "| --- | --- | --- | --- | --- |\n", *_rows()])


def _rows() -> Iterator[str]:
    for each in sorted(describe(), key=lambda each: each.name):
        labels = " ".join(f"`{label}`" for label in each.labels)
        yield f"| `{each.name}` | {each.kind} | {labels} | {each.where} | {each.meaning} |\n"


def _described(metric: Any, where: str) -> Described:
    """Return what a metric object or a family says of itself; the library keeps labels and type to itself."""
    if hasattr(metric, "describe"):
        (family,) = metric.describe()
        labels = metric._labelnames
    else:
        family, labels = metric, metric._labelnames
    suffix = "_total" if family.type == "counter" else ""
    return Described(family.name + suffix, family.type, labels, where, family.documentation)
