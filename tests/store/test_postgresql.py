"""What only PostgreSQL does: connections that die, commits that nobody answered, many processes, a pooler between."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from outlay.core.errors import InvalidInput, OutcomeUnknown, Unavailable
from outlay.engine.listen import listen
from outlay.engine.loop import Loops
from outlay.store import postgresql, schema
from outlay.store.database import Database, Unit
from tests import postgres, tools

_extra = sa.MetaData()
item = sa.Table("item", _extra, sa.Column("name", sa.Text, primary_key=True), sa.Column("number", sa.BigInteger))


@pytest.fixture(scope="module")
def module_url() -> Iterator[str]:
    """Make a database with one more table."""
    url = postgres.database_url()
    engine = sa.create_engine(postgresql.parse_url(url))
    _extra.create_all(engine)
    engine.dispose()
    yield url
    postgres.drop(url)


@pytest.fixture
def url(module_url: str) -> str:
    """Return a database whose own table is empty."""
    postgres.change(module_url, "DELETE FROM item")
    return module_url


@pytest.fixture
async def db(url: str) -> AsyncIterator[Database]:
    opened = Database(url)
    yield opened
    opened.close()


class WrongClock:
    """A clock that is wrong by as much as it is told, in seconds."""

    def __init__(self) -> None:
        self.by_s = 0.0

    def now(self) -> int:
        return time.time_ns() // 1000 + int(self.by_s * 1_000_000)


def add(name: str) -> Callable[[Unit], str]:
    def run(unit: Unit) -> str:
        unit.execute(sa.insert(item).values(name=name, number=0))
        return name

    return run


def count(unit: Unit, start: str = "") -> int:
    return unit.execute(sa.select(sa.func.count()).where(item.c.name.startswith(start))).scalar_one()


def names(url: str) -> list[str]:
    return sorted(row[0] for row in postgres.look(url, "SELECT name FROM item"))


def cut_connections(url: str) -> None:
    """End every other session of the database."""
    mine = "datname = current_database() AND pid <> pg_backend_pid()"
    postgres.change(url, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {mine}")


class Wire:
    """A TCP proxy before the server that does something to the first COMMIT it sees once it is told to.

    Args:
        port: where the server listens.
    """

    def __init__(self, port: int) -> None:
        self.on_commit: Callable[[socket.socket, socket.socket, bytes], None] | None = None
        self._target = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # wakes who accepts
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            for source, target, watched in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pump, args=(source, target, watched), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, watched: bool) -> None:
        try:
            while data := source.recv(65536):
                act = self.on_commit
                if watched and act is not None and data.endswith(b"COMMIT\x00"):
                    self.on_commit = None
                    act(source, target, data)
                    return
                target.sendall(data)
        except OSError:
            pass
        finally:
            for each in (source, target):
                try:
                    each.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue


def before_it_arrives(client: socket.socket, server: socket.socket, _data: bytes) -> None:
    """Cut both ends: the server never hears of it."""


def before_the_answer(client: socket.socket, server: socket.socket, data: bytes) -> None:
    """Let the server commit; its answer is lost."""
    client.shutdown(socket.SHUT_RDWR)
    server.sendall(data)
    time.sleep(0.2)


def while_it_is_under_way(client: socket.socket, server: socket.socket, data: bytes) -> None:
    """Cut the client off at once; the server hears of it a second later, when the writer is asking already."""
    client.shutdown(socket.SHUT_RDWR)
    time.sleep(1)
    server.sendall(data)
    time.sleep(0.2)


@pytest.fixture
def wire(url: str) -> Iterator[Wire]:
    opened = Wire(sa.make_url(url).port or 5432)
    yield opened
    opened.close()


def through(url: str, port: int) -> str:
    return sa.make_url(url).set(port=port).render_as_string(hide_password=False)


@pytest.mark.parametrize("cut", [before_it_arrives, before_the_answer, while_it_is_under_way])
async def test_a_connection_that_is_cut_in_the_middle_of_a_commit_is_found_out_about(
    url: str, wire: Wire, cut: Callable[..., None]
) -> None:
    db, runs = Database(through(url, wire.port)), []
    try:
        await db.write(add("first"))

        def once(unit: Unit) -> str:
            runs.append(1)
            return add("a")(unit)

        wire.on_commit = cut
        answers = await asyncio.wait_for(asyncio.gather(db.write(once), db.write(add("b"))), 30)
    finally:
        db.close()
    assert list(answers) == ["a", "b"]
    assert names(url) == ["a", "b", "first"]
    assert len(runs) == (2 if cut is before_it_arrives else 1), "what was kept is not run again"


async def test_a_server_that_does_not_come_back_leaves_the_outcome_unknown(
    url: str, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outlay.store.database.ASK_MAX_S", 0.5)

    def for_good(client: socket.socket, server: socket.socket, data: bytes) -> None:
        wire.close()
        before_the_answer(client, server, data)

    db = Database(through(url, wire.port))
    try:
        await db.write(add("first"))
        wire.on_commit = for_good
        with pytest.raises(OutcomeUnknown):
            await asyncio.wait_for(db.write(add("a")), 30)
        with pytest.raises(Unavailable, match="nothing has happened"):
            await asyncio.wait_for(db.write(add("b")), 30)
    finally:
        db.close()
    assert names(url) == ["a", "first"]


async def test_connections_that_died_between_groups_are_replaced(db: Database, url: str) -> None:
    await db.write(add("a"))
    assert await db.read(lambda unit: unit.execute(sa.select(item.c.name)).scalar_one()) == "a"
    cut_connections(url)
    assert await db.write(add("b")) == "b"
    assert await db.read(lambda unit: len(unit.execute(sa.select(item.c.name)).all())) == 2


async def test_a_restart_of_the_server_fails_nothing_that_comes_after_it() -> None:
    server = postgres.Server()
    try:
        url = postgres.database_url(empty=True, base=server.url)
        engine = sa.create_engine(postgresql.parse_url(url))
        _extra.create_all(engine)
        schema.metadata.create_all(engine)
        engine.dispose()
        db = Database(url)
        assert await db.write(add("a")) == "a"
        assert await db.read(count) == 1
        server.stop(immediate=True)
        with pytest.raises(Unavailable, match="nothing has happened"):
            await db.write(add("b"))
        server.start()
        assert await db.read(count) == 1
        assert await db.write(add("b")) == "b"
        db.close()
    finally:
        server.remove()


async def test_two_processes_never_overwrite_each_other(url: str) -> None:
    """Each unit reads, then writes what it read plus one; no unit says FOR UPDATE."""
    postgres.change(url, "INSERT INTO item VALUES ('shared', 0)")

    def count_up(unit: Unit) -> None:
        number = unit.execute(sa.select(item.c.number)).scalar_one()
        time.sleep(0.002)
        unit.execute(sa.update(item).values(number=number + 1))

    opened = [Database(url) for _ in range(3)]
    try:

        async def work(db: Database) -> None:
            for _ in range(10):
                await db.write(count_up)

        await asyncio.gather(*map(work, opened))
    finally:
        for each in opened:
            each.close()
    assert postgres.look(url, "SELECT number FROM item")[0][0] == 30


async def test_a_writer_that_froze_loses_its_turn(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = postgresql._BEGIN_WRITE.replace(f"= {postgresql.IDLE_MAX_MS}", "= 300")
    assert begin != postgresql._BEGIN_WRITE
    monkeypatch.setattr(postgresql, "_BEGIN_WRITE", begin)
    frozen, other = Database(url), Database(url)
    thawed = threading.Event()

    def freeze(unit: Unit) -> str:
        add("frozen")(unit)
        assert thawed.wait(20)
        return add("woken")(unit)

    try:
        waiting = asyncio.ensure_future(frozen.write(freeze))
        await asyncio.sleep(0.1)
        assert await asyncio.wait_for(other.write(add("other")), 10) == "other"
        thawed.set()
        # Nothing of it was kept.
        with pytest.raises(Unavailable, match="nothing has happened"):
            await asyncio.wait_for(waiting, 20)
    finally:
        thawed.set()
        frozen.close()
        other.close()
    assert names(url) == ["other"]


def test_every_write_begins_with_the_one_lock(url: str) -> None:
    said: list[str] = []
    db = Database(url)
    sa.event.listen(db.engine, "before_cursor_execute", lambda *words: said.append(words[2]))
    asyncio.run(db.write(add("a")))
    db.close()
    assert "pg_advisory_xact_lock" in said[0] and said[0].startswith("BEGIN")
    assert "idle_in_transaction_session_timeout" in said[0]


@pytest.mark.parametrize("text", ["postgresql://", "mysql://a@b/c", "postgresql://user@host", "not a url"])
def test_only_a_database_of_postgresql_can_be_named(text: str) -> None:
    with pytest.raises(InvalidInput):
        Database(text)


def test_a_server_that_forgets_commits_is_refused(url: str) -> None:
    name = sa.make_url(url).database
    postgresql.check_server(url)
    postgres.change(url, f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    try:
        with pytest.raises(Unavailable, match="synchronous_commit"):
            postgresql.check_server(url)
    finally:
        postgres.change(url, f'ALTER DATABASE "{name}" RESET synchronous_commit')


def test_a_database_that_sorts_by_a_language_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "_SAMPLE", postgresql._SAMPLE[:-1])
    postgresql.check_server(url)
    # What no byte order is: the same words in another one.
    monkeypatch.setattr(postgresql, "sorted", lambda words: sorted(words, key=str.lower), raising=False)
    with pytest.raises(Unavailable, match="LOCALE 'C'"):
        postgresql.check_server(url)


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        postgresql.check_server(f"postgresql://nobody@127.0.0.1:{tools.free_port()}/nothing")


# A pooler between


@pytest.fixture
def pooled(url: str, tmp_path: Path) -> Iterator[str]:
    """Start pgbouncer in transaction mode before the server; it hands each transaction to any of two sessions."""
    binary = os.environ.get("OUTLAY_PGBOUNCER") or shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
    if binary is None:
        pytest.fail("pgbouncer is not installed: apt-get install pgbouncer, or set OUTLAY_PGBOUNCER to it")
    target, port = sa.make_url(url), tools.free_port()
    settings = tmp_path / "pgbouncer.ini"
    users = tmp_path / "users"
    users.write_text(f'"{target.username}" "{target.password or ""}"\n')
    settings.write_text(
        f"[databases]\n* = host={target.host} port={target.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {users}\npool_mode = transaction\n"
        "default_pool_size = 2\nmax_client_conn = 100\n"
    )
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(path.stat().st_mode | 0o055)
    user = ["-u", "nobody"] if os.getuid() == 0 else []
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([binary, *user, str(settings)], stdout=log, stderr=log)
    pool = through(url, port)
    deadline = time.monotonic() + 20
    while True:
        try:
            psycopg.connect(pool).close()
            break
        except psycopg.OperationalError:
            assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.05)
    yield pool
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.ci
async def test_it_works_behind_a_pooler(url: str, pooled: str) -> None:
    """Four processes share two sessions; each reads what it wrote, also in bulk and under savepoints."""
    opened = [Database(pooled) for _ in range(4)]

    def fail(unit: Unit) -> None:
        add("never")(unit)
        raise ValueError("no")

    def change_all(unit: Unit, rows: list[dict[str, Any]]) -> int:
        unit.execute(sa.insert(item), rows)
        change = sa.update(item).where(item.c.name == sa.bindparam("of_name")).values(number=sa.bindparam("to"))
        return unit.execute(change, [{"of_name": row["name"], "to": 7} for row in rows]).rowcount

    async def work(db: Database, number: int) -> None:
        for each in range(5):
            rows: list[dict[str, Any]] = [{"name": f"{number}.{each}.{n}", "number": n} for n in range(20)]
            many = db.write(partial(change_all, rows=rows))
            answers = await asyncio.gather(many, db.write(fail), return_exceptions=True)
            assert answers[0] == 20 and isinstance(answers[1], ValueError)
            assert await db.read(partial(count, start=f"{number}.{each}.")) == 20

    try:
        await asyncio.gather(*(work(db, number) for number, db in enumerate(opened)))
        cut_connections(url)
        # What the pooler gives away may be dead once; nothing of that is kept, and the next try goes through.
        for db in opened:
            for _ in range(5):
                try:
                    await db.write(lambda unit: unit.execute(sa.select(1)).scalar())
                    break
                except Unavailable:
                    continue
            else:
                raise AssertionError("the pooler does not recover")
    finally:
        for each in opened:
            each.close()
    assert len(names(url)) == 4 * 5 * 20


async def test_who_listens_hears_of_each_group_of_another_process(db: Database, url: str) -> None:
    """The listener's connection is made again when it is cut; what is not kept is not announced."""
    heard = asyncio.Event()

    async def hear() -> None:
        await asyncio.wait_for(heard.wait(), 10)
        heard.clear()

    listening = asyncio.create_task(listen(url, heard.set))
    try:
        await hear()  # the beginning
        await db.write(add("a"))
        await hear()  # a group
        cut_connections(url)
        await hear()  # the listener is back
        await db.write(add("b"))
        await hear()  # another group
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def test_a_loop_that_is_woken_does_not_wait_for_the_end_of_its_pause() -> None:
    looked, loops = asyncio.Queue[str](), Loops()

    def look(name: str) -> Callable[[], Awaitable[bool]]:
        async def step() -> bool:
            looked.put_nowait(name)
            return False

        return step

    loops.start([("slow", look("slow"), 3600.0)])
    loops.start([("woken", look("woken"), 3600.0)], are_woken=True)
    try:
        assert {await looked.get(), await looked.get()} == {"slow", "woken"}
        for _ in range(3):
            loops.wake()
            assert await asyncio.wait_for(looked.get(), 10) == "woken"
    finally:
        await loops.stop()


@pytest.mark.parametrize(("by_s", "said"), [(3600, "ahead of"), (12, "ahead of"), (-12, "behind"), (-86400, "behind")])
async def test_a_process_in_another_time_than_the_server_writes_nothing(
    db: Database, url: str, by_s: float, said: str
) -> None:
    """Windows and leases follow the clock of who writes: one that is far ahead would move them for all."""
    db.clock = clock = WrongClock()
    assert await db.write(add("in time")) == "in time"
    clock.by_s = by_s
    units = [db.write(add(f"wrong {n}")) for n in range(5)]
    for answer in await asyncio.gather(*units, return_exceptions=True):
        assert isinstance(answer, Unavailable) and not isinstance(answer, OutcomeUnknown)
        assert said in answer.message and "set the clock right" in answer.message
    clock.by_s = 9 if by_s > 0 else -9
    assert await db.write(add("near enough")) == "near enough"
    assert await db.read(lambda unit: list(unit.execute(sa.select(item.c.name).order_by(item.c.name)).scalars())) == [
        "in time",
        "near enough",
    ]
