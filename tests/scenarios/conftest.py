"""Fixtures of the scenarios."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios.stage import Stage


@pytest.fixture
def open_stage(tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    """Open stages that are checked and closed after the test; arguments as ``Stage``."""
    with ExitStack() as closing:

        def open_one(**settings: Any) -> Stage:
            folder = tmp_path / f"stage-{len(list(tmp_path.iterdir()))}"
            folder.mkdir()
            opened = Stage(folder, **settings)
            closing.callback(opened.close)
            return opened

        yield open_one


@pytest.fixture
def stage(open_stage: Callable[..., Stage]) -> Stage:
    """Open a network of one node; three blocks make a block final."""
    return open_stage()
