"""The server is killed at every labelled point, and at random moments: nobody is paid twice, nothing is lost.

A client keeps posting meanwhile, as a payout program does: it repeats what it got no answer to, with the same
``externalId`` and a fresh signature.
"""

import os
import random
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from outlay.core.faultpoint import LABELS
from outlay.system import CRASH_VARIABLE, SIGNER_LABELS
from tests.fault.stand import IN_FLIGHT, Original, make_payouts
from tests.world import until

PAYOUTS = 6
PASSES = PAYOUTS // IN_FLIGHT
"""How often each point is passed at least."""

NOT_OURS = {"deliver.before_mark": 2}
"""Passings before the first payout's: the two events of the wallet being funded."""

PARALLEL = 2
ROUNDS = 3


@pytest.fixture(scope="module")
def seed(request: pytest.FixtureRequest) -> str:
    """Return the run's seed; pytest prints at its end how to repeat it."""
    return str(request.config.getoption("--hypothesis-seed"))


def crash_at(original: Original, label: str, passing: int, folder: Path) -> None:
    """Kill the server at one passing of one point while payouts are posted, restart it, and check the end."""
    with original.copy(folder) as stand:
        point = f"{label}:{passing + NOT_OURS.get(label, 0)}"
        stand.world.start({CRASH_VARIABLE: point})
        stand.fund()
        posting = stand.post(make_payouts(f"{label}-{passing}", PAYOUTS, original.token))
        if label.startswith(SIGNER_LABELS):
            # Only the signer dies, and the server starts another.
            died = f'"code": {-signal.SIGKILL}, "event": "signer_ended"'
            until(lambda: died in stand.world.log, f"a crash at {point}", timeout_s=60)
        else:
            assert stand.world.wait_for_death(timeout_s=60) == -signal.SIGKILL, "the point was not reached"
            stand.world.start()
        posting.result()
        stand.come_to_rest()
        stand.check()


@pytest.fixture(scope="module")
def crashes(
    request: pytest.FixtureRequest, original: Original, seed: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, "Future[None]"]]:
    """Start the selected crashes, a few at a time: most of their time is the start of a server."""
    wanted = [label for label in LABELS if any(item.name.endswith(f"[{label}]") for item in request.session.items)]
    folder = tmp_path_factory.mktemp("crashes")
    with ThreadPoolExecutor(PARALLEL) as pool:
        yield {
            label: pool.submit(crash_at, original, label, passing_of(label, seed), folder / label) for label in wanted
        }
        pool.shutdown(cancel_futures=True)


def passing_of(label: str, seed: str) -> int:
    """Return at which passing of ``label`` this run kills."""
    return random.Random(f"{seed} {label}").randint(1, PASSES)


@pytest.mark.parametrize("label", LABELS)
def test_a_crash_at_any_point_pays_everybody_exactly_once(
    crashes: dict[str, "Future[None]"], seed: str, label: str
) -> None:
    print(f"killed at passing {passing_of(label, seed)} of {label}")
    crashes[label].result()


@pytest.mark.long
@pytest.mark.parametrize("label", LABELS)
def test_a_crash_at_any_passing_of_any_point(original: Original, label: str, tmp_path: Path) -> None:
    for number in range(int(os.environ.get("OUTLAY_SEEDS", "1"))):
        crash_at(original, label, number % PASSES + 1, tmp_path / str(number))


def test_kills_at_any_moment_pay_everybody_exactly_once(original: Original, seed: str, tmp_path: Path) -> None:
    kill_at_random(original, seed, ROUNDS, tmp_path / "copy")


@pytest.mark.long
def test_many_kills_at_any_moment(original: Original, seed: str, tmp_path: Path) -> None:
    for number in range(int(os.environ.get("OUTLAY_SEEDS", "1"))):
        kill_at_random(original, f"{seed}-{number}", 2 * ROUNDS, tmp_path / str(number))


def kill_at_random(original: Original, seed: str, rounds: int, folder: Path) -> None:
    """Kill the server from outside again and again while payouts are posted, then check the end.

    Some kills hit a server that is still starting, as a supervisor's restarts may.
    """
    chance = random.Random(seed)
    print(f"seed {seed}")
    with original.copy(folder) as stand:
        stand.world.start()
        stand.fund()
        posts = []
        for number in range(rounds):
            posts.append(stand.post(make_payouts(f"round-{number}", PAYOUTS, original.token)))
            wait([posts[-1]], timeout=chance.uniform(0.0, 0.4))
            stand.world.kill()
            stand.world.start(wait=chance.random() < 0.7 or number == rounds - 1)
        for post in posts:
            post.result()
        stand.come_to_rest()
        stand.check()
