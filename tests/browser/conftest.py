"""Each module of tests has a browser and a server of its own."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.browser.stage import chromium
from tests.world import World


# Not for the session: while it runs, so does its event loop, and tests that begin one of their own fail.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Run the browser."""
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Run a server with the policies of the preset "standard", and a local chain."""
    with World.open(tmp_path_factory.mktemp("world")) as opened:
        yield opened
