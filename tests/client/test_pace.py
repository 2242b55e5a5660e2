"""Within a rate limit, whatever the server counts by."""

import random
import threading
import time

import pytest

from outlay.client import Pace
from outlay.core.errors import InvalidInput


def test_a_request_counts_until_its_time_after_the_answer() -> None:
    now = [0.0]
    pace = Pace(2, 10, now=lambda: now[0])
    assert pace.take() == 0
    assert pace.take() == 0
    assert pace.take() > 0, "both are open: the server may count them now or later"
    now[0] = 5
    pace.end()
    now[0] = 7
    pace.end()
    assert pace.take() == pytest.approx(8), "the first ended at 5"
    now[0] = 14.99
    assert pace.take() > 0
    now[0] = 15
    assert pace.take() == 0
    assert pace.take() == pytest.approx(2)


def test_a_call_of_three_requests_takes_three() -> None:
    now = [0.0]
    pace = Pace(5, 1, now=lambda: now[0])
    assert pace.take(3) == 0
    assert pace.take(3) > 0
    assert pace.take(2) == 0


@pytest.mark.parametrize("asked", [0, 3])
def test_more_than_the_limit_is_refused(asked: int) -> None:
    with pytest.raises(InvalidInput):
        Pace(2, 1).take(asked)


@pytest.mark.parametrize(("count", "per_s"), [(0, 1), (1, 0)])
def test_no_limit_at_all_is_refused(count: int, per_s: float) -> None:
    with pytest.raises(InvalidInput):
        Pace(count, per_s)


def test_many_threads_never_exceed_it_wherever_in_a_call_the_server_counts() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    pace, counted, lock = Pace(20, 0.2), list[float](), threading.Lock()

    def caller(delays: list[tuple[float, float]]) -> None:
        for before, after in delays:
            with pace.taking():
                time.sleep(before)
                with lock:
                    counted.append(time.monotonic())
                time.sleep(after)

    delays = [[(chance.random() / 50, chance.random() / 50) for _ in range(10)] for _ in range(10)]
    threads = [threading.Thread(target=caller, args=(each,)) for each in delays]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counted.sort()
    assert len(counted) == 100
    for place in range(len(counted) - 20):
        assert counted[place + 20] - counted[place] > 0.2
