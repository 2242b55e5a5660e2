"""``python -m bench``: measure everything once, print it, write ``bench/results/latest.json``."""

import argparse
import json
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from bench import admission, confirmed
from bench.machine import facts, load_average
from bench.rows import Row, render

RESULTS = Path(__file__).resolve().parent / "results" / "latest.json"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure beside references on this machine.")
    parser.add_argument("--quick", action="store_true", help="one short round; its figures say little")
    parser.add_argument("--rounds", type=int, help="rounds of every case (3)")
    parser.add_argument("--seconds", type=float, help="length of one admission stretch (3)")
    parser.add_argument("--payouts", type=int, help="payouts a round, end to end (600)")
    parser.add_argument("--only", choices=("admission", "confirmed"), help="measure only this")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the result is written")
    given = parser.parse_args()
    usual = (1, 1.0, 100) if given.quick else (3, 3.0, 600)
    given.rounds, given.seconds, given.payouts = (
        chosen or default for chosen, default in zip((given.rounds, given.seconds, given.payouts), usual, strict=True)
    )
    return given


def main() -> int:
    """Measure; return 1 if anything was invalid."""
    given = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers and folders are cleaned up
    began = time.monotonic()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="outlay-bench-") as name:
        folder = Path(name)
        machine = facts(folder)
        if given.only != "confirmed":
            rows += admission.measure(folder, rounds=given.rounds, seconds=given.seconds)
        if given.only != "admission":
            public = min(given.payouts, 32 if given.quick else 96)
            rows += confirmed.measure(folder, rounds=given.rounds, count=given.payouts, public_count=public)
    machine["load_average_after"] = load_average()
    document = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python -m bench", *sys.argv[1:]]),
        "rounds": given.rounds,
        "machine": machine,
        "rows": [row.document() for row in rows],
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(document, indent=2) + "\n")
    print(render(rows))
    print("\nmachine: " + ", ".join(f"{key} {value}" for key, value in machine.items()))
    print(f"{time.monotonic() - began:.0f} s; written to {given.out}")
    return 0 if all(row.valid for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
