"""The whole engine under faults, seed by seed. ``make sim SEEDS=10000`` runs more; ``make sim SEED=n`` shows one."""

import os
import secrets
import subprocess
import sys

import pytest

from tests import tools
from tests.sim.cells import STANDARD, STATES, UNREACHABLE, reachable
from tests.sim.faults import KINDS
from tests.sim.run import run_all

USUAL = STANDARD if os.environ.get("CI") else 60
LONG = 10_000
JOBS = 2


def first_seed(request: pytest.FixtureRequest) -> int:
    """Return where this run's seeds begin; pytest prints at its end how to repeat it."""
    return int(str(request.config.getoption("--hypothesis-seed"))) * 100_000


def run(first: int, count: int) -> None:
    """Run seeds and fail with what they showed."""
    report = run_all(first, count, jobs=JOBS)
    assert report.good, "\n".join(report.lines())


def test_nobody_is_paid_twice_and_nothing_is_lost(request: pytest.FixtureRequest) -> None:
    run(first_seed(request), USUAL)


@pytest.mark.long
def test_ten_thousand_seeds(request: pytest.FixtureRequest) -> None:
    run(first_seed(request) + USUAL, LONG)


def test_the_same_seed_makes_the_same_steps() -> None:
    """Also where Python orders sets differently, as it does in every process."""
    seed = str(secrets.randbelow(2**31))
    told = {shown(seed, hash_seed) for hash_seed in ("1", "2")}
    assert len(told) == 1, f"seed {seed} went in two ways"


def shown(seed: str, hash_seed: str) -> str:
    """Return every step of a seed, run in a process of its own."""
    command = [sys.executable, "-m", "tests.sim.run", "--seed", seed, "--trace"]
    done = subprocess.run(
        command, cwd=tools.ROOT, env={**os.environ, "PYTHONHASHSEED": hash_seed}, capture_output=True, check=False
    )
    assert done.stdout, done.stderr.decode()
    return done.stdout.decode()


def test_every_cell_is_reachable_or_says_why_not() -> None:
    assert reachable() | UNREACHABLE.keys() == {(kind, state) for kind in KINDS for state in STATES}
    assert all(UNREACHABLE.values())
