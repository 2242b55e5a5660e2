"""Fixtures every test may use, and the one place where randomness is seeded."""

import secrets
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# So that `tests.tools` is found however pytest is started.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests import postgres, tools

RECURSION_LIMIT = 1000
"""Python's default."""

hypothesis.settings.register_profile(
    "outlay", max_examples=tools.examples(100), deadline=None, print_blob=True, derandomize=False
)
hypothesis.settings.load_profile("outlay")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Choose the seed of every property test, unless ``--hypothesis-seed`` gives one."""
    if config.getoption("--hypothesis-seed", None) is None:
        config.option.hypothesis_seed = str(secrets.randbelow(2**32))


ONLY_SQLITE = {
    "tests/sim/": "the simulator keeps its database in memory and forks it",
    "tests/recovery/": "copies of the database file are restored under a running deployment",
    "tests/attacks/test_secrets.py::test_a_copy_of_the_database": "the bytes of the file are searched",
    "tests/signer/test_database_is_the_enemy.py": "the enemy of the signer writes SQL as SQLite spells it",
    "tests/docs/": "the pages copy and restore the database file",
    "tests/mutants/": "each broken rule names tests that run on SQLite",
    "tests/monitoring/test_live.py::test_the_commands": "doctor finds fault with a server that does not fsync",
}
"""What cannot run on PostgreSQL, and why; the rules they prove hold there because its writers take turns as SQLite's
do, and what is PostgreSQL's own has tests of its own (tests/store/test_postgresql.py, tests/fleet)."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what ``ONLY_SQLITE`` lists when the suites run on PostgreSQL."""
    if not postgres.is_chosen():
        return
    left_out = [each for each in items if each.nodeid.startswith(tuple(ONLY_SQLITE))]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [each for each in items if each not in left_out]


def pytest_collection_finish() -> None:
    """Give the interpreter back its own recursion limit.

    Importing ``eth_account`` lifts it to 100,000 for the whole process (in ``py_ecc``). Then text nested as deep
    crashes the interpreter, where in production, which never imports it, the same text is merely refused.
    """
    sys.setrecursionlimit(RECURSION_LIMIT)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the seed, so that any run can be repeated."""
    terminalreporter.write_line(f"repeat with --hypothesis-seed={config.getoption('--hypothesis-seed')}")


@pytest.fixture(scope="session")
def anvil(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tools.StartAnvil]:
    """Start local chains, each fresh and on a port of its own; all end with the session."""
    folder = tmp_path_factory.mktemp("anvil")
    running: list[tools.Anvil] = []

    def start(*, chain_id: int = 31337, block_time: float | None = None, options: Sequence[str] = ()) -> tools.Anvil:
        node = tools.start_anvil(folder, chain_id=chain_id, block_time=block_time, options=options)
        running.append(node)
        return node

    yield start
    for node in running:
        node.stop()


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[tools.Anvil]:
    """Run a fresh local chain for one test; it mines a block for each transaction at once."""
    node = tools.start_anvil(tmp_path)
    yield node
    node.stop()


@pytest.fixture(scope="session")
def contracts() -> dict[str, Any]:
    """Return the compiled test contracts: name -> {"abi", "bytecode"}."""
    return tools.read_contracts()
