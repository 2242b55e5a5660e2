"""The figures in ``docs/operate/scale.md``: ``python -m bench.report`` fills the blocks between its markers.

They come from ``bench/results/latest.json``, so the page says what the last run measured; a test compares them.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGE = ROOT / "bench/results/latest.json", ROOT / "docs/operate/scale.md"
DAY_S = 86_400
STAGES = ("accept", "decide", "sign", "broadcast", "confirm", "notify")
_BLOCK = re.compile(r"(<!-- begin bench (\w+): [^>]*-->\n).*?(<!-- end bench \2 -->)", re.DOTALL)

Document = Mapping[str, Any]


def table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    rows = [heads, ["---"] * len(heads), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def figure(number: float | None) -> str:
    """Return a number as it stands in a table."""
    if number is None:
        return "-"
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def results(document: Document) -> str:
    """Every row: its figure, what it stands beside, and its target."""
    lines = []
    for row in document["rows"]:
        sign = "≥" if str(row["goal"]).endswith("least") else "≤"
        of = "value" if str(row["goal"]).startswith("value") else "ratio"
        wanted = "-" if row["target"] is None else f"{of} {sign} {row['target']:g}"
        said = {True: "met", False: "missed", None: "-"}[row["met"]] if row["valid"] else "**invalid**"
        spread = f"{figure(min(row['rounds']))} - {figure(max(row['rounds']))}" if row["rounds"] else "-"
        lines.append(
            [
                row["name"],
                row["database"] or "",
                f"{figure(row['value'])} {row['unit']}",
                spread,
                f"{row['reference']}: {figure(row['reference_value'])}" if row["reference"] else "-",
                figure(row["ratio"]),
                wanted,
                said,
            ]
        )
    return table(["what", "database", "median", "min - max", "beside", "ratio", "target", ""], lines)


def stages(document: Document) -> str:
    """The stages of confirmed payouts: p50, p95, p99 and throughput."""
    lines = []
    for row in _of(document, "confirmed.blast"):
        for stage in STAGES:
            found = row["details"].get("stages", {}).get(stage, {})
            if found:
                times = [figure(found.get(f"p{part}_ms")) for part in (50, 95, 99)]
                lines.append([row["database"], stage, *times, figure(found.get("per_s"))])
    return table(["database", "stage", "p50 ms", "p95 ms", "p99 ms", "payouts/s"], lines)


def model(document: Document) -> str:
    """What one payout costs of each thing that can run out, and how many a second that allows."""
    lines = []
    for row in _of(document, "confirmed.blast"):
        costs = costs_of(row["details"])
        narrowest = max(costs, key=lambda name: costs[name], default="")
        for name, cost in costs.items():
            mark = " **(first)**" if name == narrowest else ""
            lines.append([row["database"], name + mark, figure(cost), figure(1e3 / cost if cost else None)])
    return table(["database", "what runs out", "ms for one payout", "most payouts/s"], lines)


def costs_of(details: Mapping[str, Any]) -> dict[str, float]:
    """Return milliseconds of each serial resource that one payout takes."""
    parts = details.get("processor time of one, ms", {})
    costs = {
        f"{name}: one core" if name != "database" else "database: all cores": float(ms) for name, ms in parts.items()
    }
    held = details.get("writer's lock held for one, ms")
    return {**costs, **({} if held is None else {"the one writer's lock": float(held)})}


def million(document: Document) -> str:
    """What a million payouts a day need, with payouts arriving evenly and at ten times the mean."""
    lines = []
    for row in _of(document, "confirmed.blast"):
        costs = costs_of(row["details"])
        lines += [
            [row["database"], name, *(f"{share(cost, peak):.0f} %" for peak in (1, 10))] for name, cost in costs.items()
        ]
    return table(["database", "what", "used at 11.6/s", "used at 116/s"], lines)


def share(cost_ms: float, peak: float, a_day: int = 1_000_000) -> float:
    """Return how much of one resource a number of payouts a day uses at a peak, in percent."""
    return cost_ms / 1e3 * a_day / DAY_S * peak * 100


def sizes(document: Document) -> str:
    """Disk for a million payouts, and memory of each process over the soak."""
    lines = []
    for row in _of(document, "growth.cost"):
        disk = row["details"].get("disk a million payouts, MB")
        lines.append([row["database"], "disk for a million payouts", f"{figure(disk)} MB"])
    for row in _of(document, "soak.memory"):
        journal = row["details"].get("signer's journal a million payouts, MB")
        lines.append([row["database"], "the signer's journal for a million payouts", f"{figure(journal)} MB"])
        samples = row["details"].get("samples, MB", [])
        for part in (name for name in (samples[-1] if samples else {}) if name not in ("seconds", "payouts", "node")):
            most = max(sample.get(part, 0.0) for sample in samples)
            lines.append(
                [row["database"], f"memory of {part}, {row['name'].partition(',  ')[0]}", f"{figure(most)} MB at most"]
            )
    return table(["database", "what", "size"], lines)


def machine(document: Document) -> str:
    """Where and when it was measured."""
    said = document["machine"]
    versions = ", ".join(f"{name} {said[name]}" for name in ("python", "sqlite", "postgresql", "anvil") if name in said)
    return (
        f"Measured {document['at'][:10]} by `{document['command']}`: {said['cores']} cores of {said['processor']},"
        f" {said['memory_gb']} GB, load {said['load_average'][0]} before, {said['load_average_after'][0]} after,"
        f" {figure(said['fsync_us'])} µs to sync 4 KiB; {versions}.\n"
    )


def _of(document: Document, key: str) -> list[Mapping[str, Any]]:
    return [row for row in document["rows"] if row.get("key") == key and row["valid"]]


BLOCKS: Mapping[str, Callable[[Document], str]] = {
    "machine": machine,
    "results": results,
    "stages": stages,
    "model": model,
    "million": million,
    "sizes": sizes,
}


def fill(text: str, document: Document) -> str:
    """Return the page with every block written anew."""
    return _BLOCK.sub(lambda found: f"{found[1]}{BLOCKS[found[2]](document)}{found[3]}", text)


def main() -> None:
    """Write the page."""
    PAGE.write_text(fill(PAGE.read_text(), json.loads(RESULTS.read_text())))


if __name__ == "__main__":
    main()
