"""How much of the time the one writer's lock of a product's database is held: looked at from outside, often."""

import contextlib
import threading
from pathlib import Path

import psycopg

EVERY_S = 0.01
_WRITE_LOCK = ["120", "120"]
"""First and last byte, of the -shm file beside a SQLite database in WAL mode: whoever writes holds a lock on it."""


class LockSampler:
    """Looks while the block runs; ``share`` tells then."""

    def __init__(self, where: Path | str) -> None:
        """Look at the SQLite file or PostgreSQL database ``where``."""
        self._where = where
        self._held = self._looks = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lock sampler")

    @property
    def share(self) -> float:
        """The share of looks that found the lock held, 0 to 1."""
        return self._held / self._looks if self._looks else 0.0

    def __enter__(self) -> "LockSampler":
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        with contextlib.ExitStack() as stack:
            if isinstance(self._where, Path):
                inode = Path(f"{self._where}-shm").stat().st_ino
                while not self._ending.wait(EVERY_S):
                    self._count(_is_locked(inode))
                return
            line = stack.enter_context(psycopg.connect(self._where, autocommit=True))
            while not self._ending.wait(EVERY_S):
                row = line.execute(_HELD).fetchone()
                self._count(row is not None and bool(row[0]))

    def _count(self, held: bool) -> None:
        self._looks += 1
        self._held += held


_HELD = (
    "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
)


def _is_locked(inode: int) -> bool:
    """Tell whether anybody holds the write lock of a -shm file, from the kernel's list of locks."""
    # 1: POSIX ADVISORY WRITE 4242 fe:00:1234 120 120; one who waits has an arrow after the number.
    listed = (line.split() for line in Path("/proc/locks").read_text().splitlines())
    return any(
        fields[1::2][:2] == ["POSIX", "WRITE"]
        and fields[5].rpartition(":")[2] == str(inode)
        and fields[6:8] == _WRITE_LOCK
        for fields in listed
    )
