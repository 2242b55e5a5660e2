"""Rows of a result: a figure, its reference from the same run, and whether either may be believed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

DIGITS = 4
"""Significant digits that are written; the spread between rounds is far larger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure, measured in several rounds, its reference measured in between."""

    name: str
    unit: str
    rounds: Sequence[float]  #: one figure a round
    reference: str  #: what the figure stands beside
    reference_rounds: Sequence[float]
    target: float | None = None  #: smallest ratio wanted; None: none was set
    faults: Sequence[str] = ()  #: why no figure of this row may be used; empty: it is valid
    details: Mapping[str, Any] = field(default_factory=dict)  #: circumstances and side figures

    @property
    def valid(self) -> bool:
        """Tell whether everything checked was right and every round gave a figure."""
        return not self.faults and bool(self.rounds) and bool(self.reference_rounds)

    @property
    def value(self) -> float | None:
        """The median of the rounds; None when the row is invalid: wrong is not slow."""
        return _median(self.rounds) if self.valid else None

    @property
    def reference_value(self) -> float | None:
        """The median of the reference's rounds; None when the row is invalid."""
        return _median(self.reference_rounds) if self.valid else None

    @property
    def ratio(self) -> float | None:
        """``value`` by ``reference_value``."""
        value, reference = self.value, self.reference_value
        return _short(value / reference) if value is not None and reference else None

    @property
    def met(self) -> bool | None:
        """Tell whether the ratio reaches the target; None without a target or a valid ratio."""
        return None if self.target is None or self.ratio is None else self.ratio >= self.target

    def document(self) -> dict[str, Any]:
        """Return the row as it is written to ``latest.json``."""
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "reference": self.reference,
            "reference_value": self.reference_value,
            "ratio": self.ratio,
            "target": self.target,
            "met": self.met,
            "valid": self.valid,
            "faults": list(self.faults),
            "rounds": [_short(each) for each in self.rounds],
            "reference_rounds": [_short(each) for each in self.reference_rounds],
            "details": dict(self.details),
        }


def _median(figures: Sequence[float]) -> float:
    return _short(median(figures))


def _short(number: float) -> float:
    return float(f"{number:.{DIGITS}g}")


def render(rows: Sequence[Row]) -> str:
    """Return the rows as a table, with each row's details below it."""
    heads = ("what", "unit", "median", "min - max", "reference", "min - max", "ratio", "target")
    body = [
        (
            row.name,
            row.unit,
            _figure(row.value),
            _spread(row.rounds),
            _figure(row.reference_value),
            _spread(row.reference_rounds),
            _figure(row.ratio) if row.valid else "INVALID",
            "none" if row.target is None else f"{row.target:g} {'met' if row.met else 'missed'}",
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in (heads, *body)) for column in range(len(heads))]
    numbers = {2, 3, 4, 5, 6}
    lines = []
    for line in (heads, tuple("-" * width for width in widths), *body):
        cells = (
            cell.rjust(width) if at in numbers else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        lines.append("  ".join(cells).rstrip())
    for row in rows:
        lines += ["", f"{row.name}, beside {row.reference}:"]
        lines += [f"  INVALID: {fault}" for fault in row.faults]
        lines += [f"  {name.replace('_', ' ')}: {_text(value)}" for name, value in row.details.items()]
    return "\n".join(lines)


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
