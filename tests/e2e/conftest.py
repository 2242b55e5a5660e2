"""Fixtures of the tests that talk to a live server."""

from collections.abc import Iterator

import pytest

from tests.world import World


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Share one world among modules: no policies but those a test makes for wallets of its own.

    A module that needs another one (a preset, a restart) opens it under the same name.
    """
    with World.open(tmp_path_factory.mktemp("world"), preset="none") as opened:
        yield opened
