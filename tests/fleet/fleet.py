"""A whole fleet on PostgreSQL as real processes: several ``outlay api`` and ``outlay worker``, one ``outlay signer``.

All serve one deployment. Each reaches the database over a line of its own (``tests.fleet.wire``), so that each can
be cut off alone; to that end each has a configuration of its own, and shares the deployment's data and secrets. A
keeper starts again what has ended, as a service manager does.
"""

import contextlib
import multiprocessing
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

from outlay.app import Role
from outlay.cli import server, worker
from outlay.cli.playground import Deployment, LocalChain, configuration, free_port
from outlay.layout import Layout
from tests import postgres, tools
from tests.fault.stand import make_unlocking_cheap
from tests.fleet.wire import Wire
from tests.world import World, until

START_TIMEOUT_S = 60.0
BLOCK_S = 0.25
IN_FLIGHT = 4
NO_CHAIN = "http://127.0.0.1:9"
"""Where a fleet without workers has its node: nobody asks."""

_forking = multiprocessing.get_context("forkserver")
_forking.set_forkserver_preload(["__main__", "tests.fleet.fleet", "outlay.web.app"])


def _be(name: str, directory: Path, port: int, log: Path, variables: Mapping[str, str]) -> None:
    """Be a process of the fleet; runs in the forked process, where nearly everything is imported already."""
    os.environ.update(variables)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(output, stream.fileno())
    if name.startswith("api"):
        server.run(directory, port, Role.API)
    else:
        worker.run(directory)


class Member:
    """One process of the fleet, started again whenever it ends."""

    def __init__(self, name: str, directory: Path, port: int = 0, *, source: Path | None = None) -> None:
        """Describe it; the keeper starts it, from ``source`` if it shall be another program than this."""
        self.name, self.directory, self.port, self.source = name, directory, port, source
        self.log = directory / "log"
        self.wire: Wire | None = None
        self.frozen = False
        self.variables: dict[str, str] = {}  #: of its environment, from its next start on
        self.starts = 0
        self._process: Any = None
        self._rest_until = 0.0
        self._turn = threading.Lock()

    @property
    def url(self) -> str:
        """Base URL of an API."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """The process id, or None while it is down."""
        return self._process.pid if self._is_up() else None

    def said(self) -> str:
        """Return what it printed, over all its starts."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def keep(self) -> None:
        """Start it if it is down and its rest is over."""
        with self._turn:
            if not self._is_up() and time.monotonic() >= self._rest_until:
                self._rest_until = time.monotonic() + 0.5
                self._start()

    def kill(self, rest_s: float = 0.0) -> None:
        """End it as a power cut would, and leave it down for a while."""
        with self._turn:
            self._rest_until = time.monotonic() + rest_s
            if self._is_up():
                self._signal(signal.SIGKILL)
                self._wait()
            self.frozen = False

    def freeze(self) -> None:
        """Stop it in the middle of whatever it does."""
        self.frozen = True
        self._signal(signal.SIGSTOP)

    def has_stopped(self) -> bool:
        """Tell whether it stopped itself where its environment says; then it is frozen."""
        stat = Path(f"/proc/{self.pid}/stat")
        if self.pid is not None and stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "T":
            self.frozen = True
        return self.frozen

    def wake(self) -> None:
        """Let it go on, as if nothing had been."""
        self._signal(signal.SIGCONT)
        self.frozen = False

    def command(self) -> list[str]:
        """Return what starts it."""
        if self.name == "signer":
            return [sys.executable, "-m", "outlay.signing", "--dir", str(self.directory)]
        kind = self.name.partition("-")[0]
        command = [sys.executable, "-m", "outlay", kind, "--dir", str(self.directory)]
        return [*command, "--port", str(self.port)] if kind == "api" else command

    def stop(self) -> None:
        """Ask it to end, for good, and wait until it has."""
        with self._turn:
            self._rest_until = float("inf")
            self._signal(signal.SIGTERM)
            self._wait()

    def _start(self) -> None:
        self.starts += 1
        if self.name == "signer" or self.source is not None:
            environment = dict(os.environ)
            if self.source is not None:
                environment["PYTHONPATH"] = str(self.source)
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
                )
            return
        arguments = (self.name, self.directory, self.port, self.log, self.variables)
        self._process = _forking.Process(target=_be, args=arguments, daemon=True)
        self._process.start()

    def _is_up(self) -> bool:
        if self._process is None:
            return False
        if isinstance(self._process, subprocess.Popen):
            return self._process.poll() is None
        return bool(self._process.exitcode is None)

    def _signal(self, number: int) -> None:
        if self._is_up():
            os.kill(self._process.pid, number)

    def _wait(self) -> None:
        if isinstance(self._process, subprocess.Popen):
            self._process.wait(10)
        else:
            self._process.join(10)


class Fleet:
    """The processes, their database and their chain. Made by ``Fleet.open``."""

    def __init__(self, server: postgres.Server | None, where: str | Path, world: World) -> None:
        """Take over what ``open`` made; ``add`` makes the processes."""
        self.server, self.where, self.world = server, where, world
        self.members: list[Member] = []
        self._connection: psycopg.Connection[dict[str, Any]] | None = None
        self._reading = threading.Lock()
        self._ended = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True)

    @classmethod
    @contextlib.contextmanager
    def open(
        cls,
        folder: Path,
        *,
        apis: int,
        workers: int,
        chain: bool = True,
        sqlite: bool = False,
        settings: tuple[str, ...] = (),
        extra: str = "",
    ) -> Iterator["Fleet"]:
        """Start everything in an empty folder, and end it when the block ends.

        Args:
            folder: where the files go.
            apis: how many processes answer requests.
            workers: how many move payouts.
            chain: start a local chain; without one nothing can be sent.
            sqlite: on a SQLite file instead of PostgreSQL; no lines then, and no server.
            settings: of the database server, ``name=value``.
            extra: lines appended to the configuration.
        """
        with contextlib.ExitStack() as closing:
            database: postgres.Server | None = None
            where: str | Path = Layout(folder / "outlay").database
            if not sqlite:
                database = postgres.Server(settings=settings)
                closing.callback(database.remove)
                where = postgres.database_url(empty=True, base=database.url)
            node: Any = _NoChain()
            if chain:
                closing.enter_context(_anvil())
                node = LocalChain(folder, block_time_s=BLOCK_S)
                closing.callback(node.close)
            token = node.deploy(tools.read_contracts()["TestDollar"]["bytecode"])
            port = free_port()
            text = configuration(port=port, rpc_url=node.url, token=token, block_time_s=BLOCK_S, extra=extra)
            text = text.replace("finality = { blocks = 1 }", "finality = { blocks = 2 }")
            text = text.replace("[sending]", f"[sending]\nin_flight_max = {IN_FLIGHT}")
            text += "" if sqlite else f'\n[database]\nurl = "{where}"\n'
            deployment, made = Deployment.initialize(folder / "outlay", text, port, preset="none")
            make_unlocking_cheap(deployment.directory, made["rootFingerprint"])
            names = [*(f"api-{n}" for n in range(apis)), *(f"worker-{n}" for n in range(workers)), "signer"]
            fleet = cls(database, where, World(node, token, deployment, made))
            closing.callback(fleet.world._closing.close)
            closing.callback(fleet._end)
            for name in names:
                fleet.add(name, port=port if name == "api-0" else 0)
            fleet._keeper.start()
            until(fleet._answers, "the fleet to answer", timeout_s=START_TIMEOUT_S)
            yield fleet

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """Read from the database, past every process and every line; ``%s`` stands for each value."""
        if isinstance(self.where, Path):
            with contextlib.closing(sqlite3.connect(f"{self.where.as_uri()}?mode=ro", uri=True)) as file:
                file.row_factory = sqlite3.Row
                return [dict(row) for row in file.execute(query.replace("%s", "?"), values)]
        with self._reading:
            if self._connection is None or self._connection.closed:
                self._connection = psycopg.connect(self.where, row_factory=dict_row, autocommit=True)
            return self._connection.execute(query.encode(), values).fetchall()

    def add(self, name: str, *, port: int = 0, source: Path | None = None) -> Member:
        """Let one more process join; see ``Member``."""
        original = self.world.deployment.directory
        member = Member(name, original.parent / name, port or free_port(), source=source)
        line = None
        if self.server is not None:
            member.wire = Wire(self.server.port)
            line = (self.server.port, member.wire.port)
        _share(original, member.directory, line)
        self.members.append(member)
        return member

    def remove(self, member: Member) -> None:
        """Let a process end politely, for good."""
        self.members.remove(member)
        member.stop()
        if member.wire is not None:
            member.wire.close()

    def of(self, kind: str) -> list[Member]:
        """Return the members of one kind: ``api``, ``worker`` or ``signer``."""
        return [each for each in self.members if each.name.startswith(kind)]

    @property
    def layout(self) -> Layout:
        """The shared files."""
        return Layout(self.world.deployment.directory)

    def worker_of(self, wallet_id: str) -> Member | None:
        """Return the process that holds a wallet's lane, or None."""
        row = self.rows("SELECT holder, leased_until FROM lane WHERE wallet_id = %s", wallet_id)
        now = time.time_ns() // 1000
        if not row or row[0]["leased_until"] is None or row[0]["leased_until"] < now:
            return None
        found = re.search(r"(\d+)-[0-9a-f]+$", row[0]["holder"])
        assert found is not None, row[0]["holder"]
        return next((each for each in self.of("worker") if each.pid == int(found[1])), None)

    def crash_database(self, rest_s: float) -> None:
        """Kill the database server as a power cut would, and start it again after a while."""
        assert self.server is not None
        with self._reading:
            self.server.kill()
            self._connection = None
        time.sleep(rest_s)
        self.server.start()

    def heal(self) -> None:
        """Let everything work again that was made to fail."""
        for each in self.members:
            if each.wire is not None:
                each.wire.mend()
        until(self._is_up, "every process", timeout_s=START_TIMEOUT_S)
        until(self._answers, "the fleet to answer", timeout_s=START_TIMEOUT_S)

    def _is_up(self) -> bool:
        for each in self.members:
            if each.frozen:
                each.wake()
        return all(each.pid is not None for each in self.members)

    def _answers(self) -> bool:
        return all(Deployment(each.directory, each.port, each.log)._answers() for each in self.of("api"))

    def _keep(self) -> None:
        while not self._ended.wait(0.03):
            for each in list(self.members):
                each.keep()

    def _end(self) -> None:
        self._ended.set()
        self._keeper.join()
        if self._connection is not None:
            self._connection.close()
        for each in self.members:
            each.kill()
            if each.wire is not None:
                each.wire.close()


class _NoChain:
    """Stands for the node of a fleet that sends nothing."""

    url = NO_CHAIN

    def deploy(self, _bytecode: str) -> str:
        return "0x" + "c0" * 20


@contextlib.contextmanager
def _anvil() -> Iterator[None]:
    before = os.environ.get("OUTLAY_ANVIL")
    os.environ["OUTLAY_ANVIL"] = str(tools.anvil_binary())
    try:
        yield
    finally:
        if before is None:
            del os.environ["OUTLAY_ANVIL"]
        else:
            os.environ["OUTLAY_ANVIL"] = before


def _share(original: Path, directory: Path, line: tuple[int, int] | None) -> None:
    """Make a member's folder: the deployment's files, and a configuration that leads over the member's line.

    ``line`` are the ports of the server and of what stands before it.
    """
    directory.mkdir()
    for name in ("data", "secrets"):
        (directory / name).symlink_to(original / name)
    text = (original / "outlay.toml").read_text()
    if line is not None:
        server, wire = line
        assert text.count(f"127.0.0.1:{server}/") == 1
        text = text.replace(f"127.0.0.1:{server}/", f"127.0.0.1:{wire}/")
    (directory / "outlay.toml").write_text(text)
