"""Facts about the machine and the versions that were measured: without them no figure can be compared."""

import contextlib
import os
import platform
import sqlite3
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from outlay.cli.playground import find_anvil
from outlay.core.errors import OutlayError

PACKAGES = (
    "litestar",
    "msgspec",
    "uvicorn",
    "uvloop",
    "httptools",
    "sqlalchemy",
    "cryptography",
    "coincurve",
    "aiohttp",
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


def cpu_s(pid: int) -> float:
    """Return the processor time a process has used, seconds: it does not depend on what else the machine does."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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
    changed = _first_line(["git", "-C", root, "status", "--porcelain", "--", "src", "bench/*.py"])
    return f"{commit} with changes" if commit and changed else commit


def _first_line(command: list[str]) -> str:
    try:
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except OSError:
        return ""
    return ran.stdout.partition("\n")[0].strip()
