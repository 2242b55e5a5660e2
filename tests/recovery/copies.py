"""Copies of a database that is in use."""

import contextlib
import sqlite3
from pathlib import Path


def copy_database(source: Path, to: Path) -> None:
    """Copy a database as it is at this moment, what is only in its log included; ``to`` is replaced."""
    for suffix in ("", "-wal", "-shm"):
        to.with_name(to.name + suffix).unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(source)) as here, contextlib.closing(sqlite3.connect(to)) as there:
        here.backup(there)
