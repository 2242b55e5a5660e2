"""No call is offered that the official SDKs do not exercise, each of them all that it has.

The steps of both stories are tests of their own. What counts as exercised is what went over the wire in them and was
answered with success.
"""

from collections.abc import Mapping

import pytest

from docs import generate
from tests.e2e import node_story, python_story
from tests.e2e.exchanges import OFFERED, Exchange, Step, Told, unexercised
from tests.world import World

PYTHON, NODE = 0, 1
STORIES: Mapping[int, tuple[Step, ...]] = {PYTHON: python_story.STEPS, NODE: node_story.STEPS}


@pytest.fixture(scope="module")
def told() -> Told:
    """Keep what was sent, so that no step runs twice."""
    return Told()


def names_of(sdk: int) -> dict[tuple[str, str], str]:
    """Return what one SDK calls each operation there is, empty where it lacks it."""
    return {key: names[sdk] for key, names in generate.sdk_names().items()}


@pytest.mark.parametrize("step", STORIES[PYTHON], ids=lambda step: step.__name__)
def test_python(world: World, told: Told, step: Step) -> None:
    assert told.tell(step, world)


@pytest.mark.parametrize("step", STORIES[NODE], ids=lambda step: step.__name__)
def test_node(world: World, told: Told, step: Step) -> None:
    assert told.tell(step, world)


@pytest.mark.parametrize("sdk", [PYTHON, NODE], ids=["python", "node"])
def test_each_sdk_exercises_every_offered_call_it_has(world: World, told: Told, sdk: int) -> None:
    exchanges = [each for step in STORIES[sdk] for each in told.tell(step, world)]
    missing = unexercised(exchanges, names_of(sdk))
    assert not missing, "offered and never answered with success:\n" + "\n".join(missing)


def test_one_sdk_has_all_that_is_offered_and_the_other_most() -> None:
    assert len(unexercised([], names_of(PYTHON))) == len(OFFERED) > 60
    assert len(OFFERED) > len(unexercised([], names_of(NODE))) > 60


def test_only_an_answer_with_success_counts() -> None:
    names = names_of(PYTHON)
    for status, counts in ((200, True), (202, True), (302, False), (400, False), (404, False), (500, False)):
        exchange = Exchange("GET", "/wallets/wa-1/transfers", status)
        left = unexercised([exchange], names)
        assert ("GET /wallets/{walletId}/transfers: wallets.list_transfers" not in left) == counts, status
        assert len(left) == len(OFFERED) - counts
