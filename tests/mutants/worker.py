"""Runs pytest again and again, each time in a fork of a process that has imported everything but what is tested.

``python -m tests.mutants.worker SOURCE`` reads one line for each run, a JSON list of arguments, and answers with one:
``[exit code, output]``. ``outlay`` is imported from ``SOURCE``, anew each time.
"""

import gc
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

TIMEOUT_S = 120.0
"""What one run may take; every list of tests takes seconds."""
TIMED_OUT = -1
"""Stands for an exit code."""

_PLUGINS = ("-p", "pytest_asyncio.plugin", "-p", "_hypothesis_pytestplugin")
_TESTED = ("outlay", "tests", "__main__")
_LIST = """
import json, sys
import pytest, pytest_asyncio.plugin, _hypothesis_pytestplugin
import outlay.app, tests.actions.world, tests.conftest, tests.door, tests.scenarios.stage, tests.signer.bank
print(json.dumps(list(sys.modules)))
"""


def preload() -> None:
    """Import every library that the tests will want."""
    listed = subprocess.run([sys.executable, "-c", _LIST], capture_output=True, text=True, check=True)
    for name in json.loads(listed.stdout):
        if name.partition(".")[0] not in _TESTED and name not in sys.modules:
            try:
                importlib.import_module(name)
            except ImportError:
                continue  # an alias that some library put there by hand
    # Memory that no collection touches stays shared with the forks.
    gc.freeze()


def run(arguments: list[str]) -> tuple[int, str]:
    """Run pytest in a fork; return its exit code and what it wrote."""
    with tempfile.TemporaryFile() as output:
        child = os.fork()
        if child == 0:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            for name in [each for each in sys.modules if each.partition(".")[0] in ("outlay", "tests")]:
                del sys.modules[name]
            code: int = pytest.main([*_PLUGINS, *arguments])
            sys.stdout.flush()
            os._exit(code)
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                code = os.waitstatus_to_exitcode(status)
                break
            if time.monotonic() > deadline:
                os.kill(child, 9)
                os.waitpid(child, 0)
                code = TIMED_OUT
                break
            time.sleep(0.02)
        output.seek(0)
        return code, output.read().decode(errors="replace")


def main(source: str) -> None:
    """Serve until the input ends."""
    root = str(Path(__file__).resolve().parents[2])
    sys.path[:0] = [source, root]
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    sys.dont_write_bytecode = False  # whoever changes a file of the copy removes its bytecode
    preload()
    for line in sys.stdin:
        arguments: list[Any] = json.loads(line)
        print(json.dumps(run(arguments)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
