"""The same tests on both databases."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from outlay.store.database import Database, Unit
from outlay.store.schema import metadata
from tests import postgres


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path | str]:
    """Return where a database with every table and nothing in it is."""
    if request.param == "sqlite":
        path = tmp_path / "outlay.db"
        opened = Database(path)
        metadata.create_all(opened.engine)
        opened.close()
        yield path
        return
    with postgres.reused() as url:
        yield url


@pytest.fixture
def unit(where: Path | str) -> Iterator[Unit]:
    """Return a unit that is never kept."""
    db = Database(where)
    with db.engine.connect() as connection:
        yield connection
    db.close()
