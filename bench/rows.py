"""Rows of a result: a figure, what it stands beside from the same run, and whether either may be believed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

DIGITS = 4
"""Significant digits that are written; the spread between rounds is far larger."""

Goal = Literal["ratio at least", "ratio at most", "value at least", "value at most"]


@dataclass(frozen=True, slots=True)
class Target:
    """What a row has to reach."""

    goal: Goal
    bound: float

    def is_met(self, value: float, ratio: float | None) -> bool | None:
        """Tell whether figures reach it; None: there is no ratio to look at."""
        figure = value if self.goal.startswith("value") else ratio
        if figure is None:
            return None
        return figure >= self.bound if self.goal.endswith("least") else figure <= self.bound

    def __str__(self) -> str:
        """Return it as it stands in a table, e.g. ``>= 0.5``."""
        of = " (value)" if self.goal.startswith("value") else ""
        return f"{'>=' if self.goal.endswith('least') else '<='} {self.bound:g}{of}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure, measured in several rounds, its reference measured in between."""

    key: str  #: names the row for programs, e.g. ``admission.single``
    name: str
    unit: str
    rounds: Sequence[float]  #: one figure a round
    reference: str = ""  #: what the figure stands beside; empty: beside its target only
    reference_rounds: Sequence[float] = ()
    database: str = ""  #: ``sqlite`` or ``postgresql``; empty: no database takes part
    target: Target | None = None  #: None: none was set
    faults: Sequence[str] = ()  #: why no figure of this row may be used; empty: it is valid
    details: Mapping[str, Any] = field(default_factory=dict)  #: circumstances and side figures

    @property
    def valid(self) -> bool:
        """Tell whether everything checked was right and every round gave a figure."""
        return not self.faults and bool(self.rounds) and (bool(self.reference_rounds) or not self.reference)

    @property
    def value(self) -> float | None:
        """The median of the rounds; None when the row is invalid: wrong is not slow."""
        return _median(self.rounds) if self.valid else None

    @property
    def reference_value(self) -> float | None:
        """The median of the reference's rounds; None when the row is invalid or stands alone."""
        return _median(self.reference_rounds) if self.valid and self.reference_rounds else None

    @property
    def ratio(self) -> float | None:
        """``value`` by ``reference_value``."""
        value, reference = self.value, self.reference_value
        return short(value / reference) if value is not None and reference else None

    @property
    def met(self) -> bool | None:
        """Tell whether the target is reached; None without a target or a valid figure."""
        value = self.value
        return None if self.target is None or value is None else self.target.is_met(value, self.ratio)

    def document(self) -> dict[str, Any]:
        """Return the row as it is written to ``latest.json``."""
        return {
            "key": self.key,
            "name": self.name,
            "database": self.database or None,
            "value": self.value,
            "unit": self.unit,
            "reference": self.reference or None,
            "reference_value": self.reference_value,
            "ratio": self.ratio,
            "target": None if self.target is None else self.target.bound,
            "goal": None if self.target is None else self.target.goal,
            "met": self.met,
            "valid": self.valid,
            "faults": list(self.faults),
            "rounds": [short(each) for each in self.rounds],
            "reference_rounds": [short(each) for each in self.reference_rounds],
            "details": dict(self.details),
        }

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> "Row":
        """Return the row that a document was written from."""
        target = None if document["target"] is None else Target(document["goal"], document["target"])
        return cls(
            key=document["key"],
            name=document["name"],
            unit=document["unit"],
            rounds=document["rounds"],
            reference=document["reference"] or "",
            reference_rounds=document["reference_rounds"],
            database=document["database"] or "",
            target=target,
            faults=document["faults"],
            details=document["details"],
        )


def short(number: float) -> float:
    """Return ``number`` with as many digits as are written."""
    return float(f"{number:.{DIGITS}g}")


def _median(figures: Sequence[float]) -> float:
    return short(median(figures))


def percentiles(times_s: Sequence[float]) -> dict[str, float]:
    """Return p50, p95 and p99 of times, milliseconds; nothing for fewer than two."""
    ordered = sorted(times_s)
    if len(ordered) < 2:
        return {}
    last = len(ordered) - 1
    return {f"p{part}_ms": round(ordered[round(last * part / 100)] * 1e3, 2) for part in (50, 95, 99)}


def render(rows: Sequence[Row]) -> str:
    """Return the rows as a table, with each row's details below it."""
    heads = ("what", "database", "unit", "median", "min - max", "reference", "min - max", "ratio", "target")
    body = [
        (
            row.name,
            row.database,
            row.unit,
            _figure(row.value),
            _spread(row.rounds),
            _figure(row.reference_value),
            _spread(row.reference_rounds),
            _figure(row.ratio) if row.valid else "INVALID",
            "none" if row.target is None else f"{row.target} {_said(row)}",
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in (heads, *body)) for column in range(len(heads))]
    numbers = {3, 4, 5, 6, 7}
    lines = []
    for line in (heads, tuple("-" * width for width in widths), *body):
        cells = (
            cell.rjust(width) if at in numbers else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        lines.append("  ".join(cells).rstrip())
    for row in rows:
        where = f" on {row.database}" if row.database else ""
        lines += ["", f"{row.name}{where}{f', beside {row.reference}' if row.reference else ''}:"]
        lines += [f"  INVALID: {fault}" for fault in row.faults]
        lines += [f"  {name.replace('_', ' ')}: {_text(value)}" for name, value in row.details.items()]
    return "\n".join(lines)


def _said(row: Row) -> str:
    return {True: "met", False: "missed", None: "not shown"}[row.met]


def _figure(number: float | None) -> str:
    return "-" if number is None else f"{number:,.{0 if number >= 1000 else 1 if number >= 10 else 3}f}"


def _spread(figures: Sequence[float]) -> str:
    return f"{_figure(min(figures))} - {_figure(max(figures))}" if figures else "-"


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_text(each) for each in value)
    return _figure(value) if isinstance(value, float) else str(value)
