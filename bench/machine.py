"""The machine: facts and versions without which no figure can be compared; processor time and memory of processes."""

import contextlib
import os
import platform
import sqlite3
import subprocess
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from outlay.cli.playground import find_anvil
from outlay.core.errors import OutlayError

PACKAGES = (
    "outlay",
    "litestar",
    "msgspec",
    "uvicorn",
    "uvloop",
    "httptools",
    "sqlalchemy",
    "cryptography",
    "coincurve",
    "aiohttp",
    "psycopg",
)
_SYNCS = 200
_PAGE = bytes(4096)


def facts(folder: Path) -> dict[str, Any]:
    """Return what the figures depend on.

    Args:
        folder: where the databases of this run are made: its disk is the one that is timed.
    """
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "load_average": load_average(),
        "fsync_us": fsync_us(folder),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        **{name: version(name) for name in PACKAGES},
        "anvil": _anvil(),
        "commit": _commit(),
    }


def load_average() -> list[float]:
    """Return the load averages of 1, 5 and 15 minutes."""
    return [round(each, 2) for each in os.getloadavg()]


def fsync_us(folder: Path) -> float:
    """Return the median time, in microseconds, to append 4 KiB to a file and have it on disk."""
    times = []
    path = folder / "fsync-probe"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        for _ in range(_SYNCS):
            began = time.perf_counter()
            os.write(descriptor, _PAGE)
            os.fdatasync(descriptor)
            times.append(time.perf_counter() - began)
    finally:
        os.close(descriptor)
        path.unlink()
    return round(median(times) * 1e6, 1)


def tree(pid: int) -> list[int]:
    """Return a process and all its descendants that run now."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parents.setdefault(int(_fields(int(entry.name))[1]), []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        found.append(waiting.pop())
        waiting += parents.get(found[-1], [])
    return found


def cpu_s(pids: Iterable[int]) -> float:
    """Return the processor time processes and the children they outlived have used, seconds.

    It hardly depends on what else the machine does.
    """
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += sum(int(field) for field in _fields(pid)[11:15])
    return total / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> float:
    """Return the memory of a process, MB; of pages that several share, its share. 0 once it is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return round(int(line.split()[1]) / 1024, 1)
    return 0.0


def _fields(pid: int) -> list[str]:
    """Return what follows the name in /proc/PID/stat: state, parent, ..."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _anvil() -> str:
    with contextlib.suppress(OutlayError):
        return _first_line([str(find_anvil()), "--version"])
    return "not installed"


def _commit() -> str:
    root = str(Path(__file__).resolve().parents[1])
    commit = _first_line(["git", "-C", root, "rev-parse", "--short=12", "HEAD"])
    # Results are written into the tree: they do not make it another program.
    changed = _first_line(["git", "-C", root, "status", "--porcelain", "--", "src", "bench/**.py", "bench/*.toml"])
    return f"{commit} with changes" if commit and changed else commit


def _first_line(command: list[str]) -> str:
    try:
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except OSError:
        return ""
    return ran.stdout.partition("\n")[0].strip()
