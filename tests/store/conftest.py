"""One connection to a fresh file with every table."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from outlay.store.database import Database, Unit
from outlay.store.schema import metadata


@pytest.fixture
def unit(tmp_path: Path) -> Iterator[Unit]:
    """Return a unit that is never kept."""
    db = Database(tmp_path / "outlay.db")
    metadata.create_all(db.engine)
    with db.engine.connect() as connection:
        yield connection
    db.close()
