"""Locks between processes: files that the system unlocks when their holder ends, however it ends."""

import fcntl
import os
import time
from hashlib import sha256
from pathlib import Path

_PAUSE_S = 0.02


def take(path: Path, *, shared: bool = False, patience_s: float = 0.0) -> int | None:
    """Lock a file and return its descriptor, or None if somebody else still holds it after ``patience_s`` seconds.

    Closing the descriptor unlocks. Exclusive, unless it is ``shared``.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                return None
        time.sleep(_PAUSE_S)


def share(descriptor: int) -> None:
    """Turn an exclusive lock into a shared one."""
    fcntl.flock(descriptor, fcntl.LOCK_SH)


def name(descriptor: int) -> str:
    """Return what names the locked file, here and as long as it exists: 16 hex digits."""
    status = os.fstat(descriptor)
    return sha256(f"{os.uname().nodename}/{status.st_dev}/{status.st_ino}".encode()).hexdigest()[:16]


def is_free(path: Path) -> bool:
    """Tell whether nobody holds a lock at this moment; it is not taken, and the file is not made."""
    if not path.exists():
        return True
    descriptor = take(path)
    if descriptor is None:
        return False
    os.close(descriptor)
    return True
