"""``python -m bench``: measure what ``scenarios.toml`` lists, print it, write ``bench/results/latest.json``."""

import argparse
import json
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import (
    admission,
    chart,
    confirmed,
    deliveries,
    growth,
    paths,
    policies,
    report,
    rivals,
    scenarios,
    signing,
    soak,
    velocity,
)
from bench.machine import facts, load_average
from bench.rows import Row, render
from bench.scenarios import DATABASES, Scenario
from bench.stand import Stand, standing
from outlay.core.errors import OutlayError

ROOT = Path(__file__).resolve().parents[1]
PART = ROOT / "build/bench.json"
"""Where a part of the measurements is written: it takes no place of a whole run."""
MEASURES: Mapping[str, Callable[[Scenario, Stand], list[Row]]] = {
    "signing": lambda scenario, _stand: signing.measure(scenario),
    "policies": lambda scenario, _stand: policies.measure(scenario),
    "velocity": velocity.measure,
    "admission": admission.measure,
    "confirmed": confirmed.measure,
    "growth": growth.measure,
    "pool": paths.measure_pool,
    "provider": paths.measure_provider,
    "deliveries": deliveries.measure,
    "soak": soak.measure,
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure beside limits and rivals.")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", dest="size", action="store_const", const="quick", help="one short round each")
    size.add_argument("--long", dest="size", action="store_const", const="long", help="up to 1,000,000 payouts: hours")
    parser.add_argument("--only", nargs="+", choices=tuple(MEASURES), help="measure only these")
    parser.add_argument("--database", nargs="+", choices=DATABASES, default=list(DATABASES), help="on these only")
    parser.add_argument("--set", nargs="+", default=[], metavar="SCENARIO.KEY=JSON", help="another value of the file")
    parser.add_argument("--folder", type=Path, help="keep everything here; what is done already is not done again")
    parser.add_argument("--out", type=Path, help="where the result is written (bench/results/latest.json, if whole)")
    parser.set_defaults(size="usual")
    return parser.parse_args()


def main() -> int:
    """Measure; return 1 if anything was invalid."""
    given = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers and folders are cleaned up
    chosen = scenarios.load(given.size)
    began = time.monotonic()
    rows: list[Row] = []
    times: dict[str, float] = {}
    try:
        scenarios.change(chosen, given.set)
        with standing(tuple(given.database), given.folder) as stand:
            machine = {**facts(stand.folder), **rivals.versions("web3", "celery", "fastapi", "cedarpy")}
            machine["postgresql"] = stand.version
            for name in given.only or MEASURES:
                at = time.monotonic()
                rows += _measured(name, chosen[name], stand, kept=given.folder is not None)
                times[name] = round(time.monotonic() - at, 1)
                print(f"{name}: {times[name]:.0f} s", file=sys.stderr, flush=True)
    except OutlayError as error:
        print(f"{error.field + ': ' if error.field else ''}{error.message}", file=sys.stderr)
        return 2
    machine["load_average_after"] = load_average()
    document = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": _command(given),
        "size": given.size,
        "seconds": times,
        "machine": machine,
        "rows": [row.document() for row in rows],
    }
    is_whole = given.only is None and tuple(given.database) == DATABASES
    out = given.out or (report.RESULTS if is_whole else PART)
    _write(out, document)
    if out == report.RESULTS:
        report.main()
        chart.main()
    print(render(rows))
    print("\nmachine: " + ", ".join(f"{key} {value}" for key, value in machine.items()))
    print(f"{time.monotonic() - began:.0f} s; written to {out}")
    return 0 if all(row.valid for row in rows) else 1


def _command(given: argparse.Namespace) -> str:
    """Return what to run to measure the same; where files are kept is nobody's business."""
    words = ["python -m bench", *([] if given.size == "usual" else [f"--{given.size}"])]
    for option, values in (("--only", given.only), ("--set", given.set)):
        words += [option, *values] if values else []
    if tuple(given.database) != DATABASES:
        words += ["--database", *given.database]
    return " ".join(words)


def _measured(name: str, scenario: Scenario, stand: Stand, *, kept: bool) -> list[Row]:
    """Return a scenario's rows: measured now, or kept from a run that was interrupted later."""
    path = stand.folder / "rows" / f"{name}.json"
    if kept and path.is_file():
        return [Row.read(document) for document in json.loads(path.read_text())]
    try:
        rows = MEASURES[name](scenario, stand)
    except Exception as error:
        # One scenario that breaks takes no other's figures along; its own row says so, and the command ends with 1.
        traceback.print_exc()
        return [Row(key=name, name=name, unit="", rounds=[], faults=[f"{type(error).__name__}: {error}"])]
    if kept:
        _write(path, [row.document() for row in rows])
    return rows


def _write(path: Path, document: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
