"""The chart in README: ``python -m bench.chart`` draws ``docs/bench.svg`` from ``bench/results/latest.json``."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from bench.rows import Goal

ROOT = Path(__file__).resolve().parents[1]
RESULTS, CHART = ROOT / "bench/results/latest.json", ROOT / "docs/bench.svg"
WIDTH, LABEL, NUMBER, BAR, GAP = 980, 470, 130, 16, 8
STYLE = """\
text { font: 13px system-ui, sans-serif; fill: #24292f; }
.head { font-weight: 600; font-size: 15px; }
.small { font-size: 11px; fill: #57606a; }
.ours { fill: #1f6feb; } .theirs { fill: #8c959f; } .missed { fill: #bf8700; }
.line { stroke: #57606a; stroke-dasharray: 3 3; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; } .small { fill: #9198a1; } .ours { fill: #58a6ff; } .theirs { fill: #6e7681; }
  .missed { fill: #d29922; } .line { stroke: #9198a1; }
}"""
CLIP = 2.0
"""Bars beside targets end at twice the target: what is beyond says its number only."""

BESIDE = {
    "policies.cedar": "beside Cedar",
    "admission.single": "beside the reference",
    "admission.verify": "beside one verification",
    "confirmed.blast": "beside the node alone",
    "confirmed.celery": "beside Celery",
}
"""What tells rows of one name apart, in few words."""

Bar = tuple[str, float, str, str]
"""Label, length between 0 and 1, class, number."""


def throughput(rows: Sequence[Mapping[str, Any]]) -> list[Bar]:
    """Return confirmed payouts a second: ours, the rivals', and the limit."""
    found: list[tuple[str, float, str]] = []
    theirs: dict[str, tuple[str, float]] = {}
    for row in rows:
        if not row["valid"] or row["reference_value"] is None:
            continue
        if row["key"] == "confirmed.blast":
            found.append((f"Outlay on {_database(row)}", row["value"], "ours"))
            theirs["blast"] = ("the node alone: pre-signed, one connection", row["reference_value"])
        elif row["key"] in ("confirmed.celery", "confirmed.web3"):
            theirs[row["key"]] = (row["reference"], row["reference_value"])
    found += [(label, value, "theirs") for label, value in theirs.values()]
    most = max((value for _, value, _ in found), default=1.0)
    return [
        (label, value / most, kind, f"{value:,.0f}/s")
        for label, value, kind in sorted(found, key=lambda each: -each[1])
    ]


def targets(rows: Sequence[Mapping[str, Any]]) -> list[Bar]:
    """Return every row that has a target: how far it came, 1 being the target."""
    bars: list[Bar] = []
    for row in rows:
        if row["target"] is None:
            continue
        name = ", ".join(filter(None, (row["name"], BESIDE.get(row["key"]), _database(row))))
        figure = row["value"] if str(row["goal"]).startswith("value") else row["ratio"]
        if not row["valid"] or figure is None:
            bars.append((name, 0.0, "missed", "invalid"))
            continue
        came = reached(row["goal"], row["target"], figure)
        sign = "≥" if str(row["goal"]).endswith("least") else "≤"
        number = f"{figure:,.3g} ({sign} {row['target']:g})"
        bars.append((name, min(came, CLIP) / CLIP, "ours" if row["met"] else "missed", number))
    return bars


def reached(goal: Goal, target: float, figure: float) -> float:
    """Return how far a figure came: 1 is the target, more is better."""
    if goal.endswith("least"):
        return figure / target if target else 0.0
    return target / figure if figure else CLIP


def _database(row: Mapping[str, Any]) -> str:
    return {"sqlite": "SQLite", "postgresql": "PostgreSQL"}.get(row["database"] or "", "")


def draw(document: Mapping[str, Any]) -> str:
    """Return the chart as SVG."""
    rows = document["rows"]
    parts: list[str] = []
    y = _panel(parts, 24, "Confirmed payouts a second, one transaction each, blocks of one second", throughput(rows))
    y = _panel(
        parts, y + 22, "Targets: the dashed line is the target, beyond it is better", targets(rows), line=1 / CLIP
    )
    machine = document["machine"]
    said = (
        f"{document['at'][:10]}, {machine['cores']} cores of {machine['processor']}, load"
        f" {machine['load_average'][0]}; {document['command'].partition(' --set ')[0]}; zero duplicates, losses and"
        " breaches asserted"
    )
    parts.append(f'<text class="small" x="8" y="{y + 20}">{escape(said)}</text>')
    height = y + 34
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="benchmark">\n'
        f"<style>\n{STYLE}\n</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _panel(parts: list[str], y: int, title: str, bars: Sequence[Bar], *, line: float | None = None) -> int:
    """Add a panel; return where it ends."""
    room = WIDTH - LABEL - NUMBER - 24
    parts.append(f'<text class="head" x="8" y="{y}">{escape(title)}</text>')
    top = y + 12
    y = top
    for label, length, kind, number in bars:
        width = max(1.0, room * length)
        middle = y + BAR - 4
        parts += [
            f'<text x="{LABEL}" y="{middle}" text-anchor="end">{escape(label)}</text>',
            f'<rect class="{kind}" x="{LABEL + 8}" y="{y}" width="{width:.1f}" height="{BAR}" rx="2"/>',
            f'<text x="{LABEL + 14 + width:.1f}" y="{middle}">{escape(number)}</text>',
        ]
        y += BAR + GAP
    if line is not None and bars:
        x = LABEL + 8 + room * line
        parts.append(f'<line class="line" x1="{x:.1f}" y1="{top - 4}" x2="{x:.1f}" y2="{y}"/>')
    return y


def main() -> None:
    """Draw the chart."""
    CHART.write_text(draw(json.loads(RESULTS.read_text())))


if __name__ == "__main__":
    main()
