"""Runs many seeds in processes side by side, or one seed to look at: ``python -m tests.sim.run --seeds 10000``."""

import argparse
import concurrent.futures
import gc
import itertools
import multiprocessing
import os
import secrets
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import structlog

from tests.sim.cells import missed, reachable
from tests.sim.database import Disk
from tests.sim.organization import organization
from tests.sim.world import Simulation, simulate

CHUNK = 10
"""Seeds given to a process at a time."""
TAIL = 40
"""Lines of a failed run's trace that are shown."""


@dataclass
class Report:
    """What a number of seeds showed."""

    seeds: int = 0
    payouts: int = 0
    strikes: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    cells: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: dict[int, list[str]] = field(default_factory=dict)
    cpu_s: float = 0.0

    def add(self, other: "Report") -> None:
        self.seeds += other.seeds
        self.payouts += other.payouts
        self.strikes += other.strikes
        self.ends += other.ends
        self.cells += other.cells
        self.failures |= other.failures
        self.cpu_s += other.cpu_s

    def lines(self) -> Iterator[str]:
        """Say it."""
        yield f"{self.seeds} seeds, {self.payouts} payouts, {sum(self.strikes.values())} faults, {self.cpu_s:.0f} CPU s"
        yield "ends: " + ", ".join(f"{name} {count}" for name, count in sorted(self.ends.items()))
        yield f"cells: {len(self.cells.keys() & reachable())} of {len(reachable())} reachable ones reached"
        for seed, what in sorted(self.failures.items()):
            yield f"seed {seed}: {'; '.join(what[:3])}"
            yield f"  repeat with: make sim SEED={seed}"
        for miss in missed(self.cells, self.seeds):
            yield f"void: {miss}"

    @property
    def good(self) -> bool:
        return not self.failures and not missed(self.cells, self.seeds)


def be_silent() -> None:
    """Let the product log nothing: it has much to say about faults."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(50), logger_factory=structlog.ReturnLoggerFactory()
    )


def run_seeds(seeds: range) -> Report:
    """Run some seeds in this process."""
    be_silent()
    gc.disable()  # by hand, between seeds
    report, disk = Report(), Disk()
    for seed in seeds:
        begin = time.process_time()
        sim = simulate(seed, disk=disk)
        report.add(_report(sim, time.process_time() - begin))
        gc.collect()
    return report


def _report(sim: Simulation, cpu_s: float) -> Report:
    ends = Counter(row[0] for row in sim.disk.connection.execute("SELECT state FROM transfer"))
    return Report(
        seeds=1,
        payouts=len(sim.requests),
        strikes=Counter(sim.faults.struck),
        ends=ends,
        cells=sim.cells,
        failures={sim.seed: sim.failures} if sim.failures else {},
        cpu_s=cpu_s,
    )


def run_all(first: int, count: int, *, jobs: int = 2, tell: Callable[[Report], None] | None = None) -> Report:
    """Run ``count`` seeds from ``first`` on, ``jobs`` at a time, and add up what they showed."""
    organization()  # founded before the processes part
    gc.collect()
    gc.freeze()
    whole = Report()
    chunks = [range(at, min(at + CHUNK, first + count)) for at in range(first, first + count, CHUNK)]
    context = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context) as pool:
        for number, part in zip(itertools.count(1), pool.map(run_seeds, chunks), strict=False):
            whole.add(part)
            if tell is not None and number % 20 == 0:
                tell(whole)
    return whole


def show(seed: int, *, trace: bool) -> bool:
    """Run one seed and print its steps; tell whether all was well."""
    be_silent()
    sim = simulate(seed, keep_trace=True)
    lines = sim.lines or []
    sys.stdout.write("\n".join(lines if trace else lines[-TAIL:]) + "\n")
    verdict = "; ".join(sim.failures) or "all well"
    sys.stdout.write(f"seed {seed}: {verdict} (trace {sim.trace_hash[:16]})\n")
    return not sim.failures


def main() -> int:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(description="Simulate payouts under faults.")
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--first", type=int, help="the first one; by chance unless given")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 2, help="processes side by side")
    parser.add_argument("--seed", type=int, help="one seed, to look at")
    parser.add_argument("--trace", action="store_true", help="with --seed: print every step")
    asked = parser.parse_args()
    if asked.seed is not None:
        return 0 if show(asked.seed, trace=asked.trace) else 1
    first = secrets.randbelow(2**31) if asked.first is None else asked.first
    begin = time.monotonic()

    def tell(part: Report) -> None:
        sys.stderr.write(f"{part.seeds} seeds, {len(part.failures)} failed, {time.monotonic() - begin:.0f} s\n")

    report = run_all(first, asked.seeds, jobs=asked.jobs, tell=tell)
    sys.stdout.write(f"from seed {first}\n" + "\n".join(report.lines()) + "\n")
    return 0 if report.good else 1


if __name__ == "__main__":
    raise SystemExit(main())
