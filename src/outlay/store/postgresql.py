"""What is particular to PostgreSQL: how connections are made, how a transaction begins, what a server must promise.

One writer at a time, over all processes: a write transaction begins by taking one lock for its life. So a unit means
the same here as on SQLite, and a backend that is still at work on a lost connection can be waited out.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event

from outlay.core.errors import InvalidInput, Unavailable
from outlay.store.schema import organization

PREFIXES: Final = ("postgresql://", "postgres://")

WRITER_LOCK: Final = 0x4F75746C6179
"""Key of the advisory lock of the one writer."""

CHANNEL: Final = "outlay"
"""Where each group that was kept is announced."""

IDLE_MAX_MS: Final = 5_000
"""A writer that says nothing for so long within a transaction loses its session, and the lock with it."""

LOCK_MAX_MS: Final = 15_000
"""How long a group waits for its turn: longer than a frozen writer can keep the lock."""

STATEMENT_MAX_MS: Final = 30_000

_LIMITS = (
    f"SET LOCAL idle_in_transaction_session_timeout = {IDLE_MAX_MS}; "
    f"SET LOCAL lock_timeout = {LOCK_MAX_MS}; SET LOCAL statement_timeout = {STATEMENT_MAX_MS}"
)
# One message, so one round trip. Both levels are said: a server may be set to others.
_BEGIN_WRITE = (
    f"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; {_LIMITS}; SELECT pg_advisory_xact_lock({WRITER_LOCK})"
)
_BEGIN_READ = (
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; "
    f"SET LOCAL idle_in_transaction_session_timeout = {STATEMENT_MAX_MS}; "
    f"SET LOCAL statement_timeout = {STATEMENT_MAX_MS}"
)

CONNECT: Final[dict[str, Any]] = {
    "autocommit": True,  # transactions begin and end where the engine says so
    "prepare_threshold": None,  # a pooler gives each transaction another session
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "application_name": "outlay",
}


def is_url(where: object) -> bool:
    """Tell whether ``where`` names a PostgreSQL database."""
    return isinstance(where, str) and where.startswith(PREFIXES)


def parse_url(text: str) -> sa.URL:
    """Return ``postgresql://user@host:port/database`` with the driver used here.

    Raises:
        InvalidInput: not such a URL.
    """
    try:
        url = sa.make_url(text)
    except sa.exc.ArgumentError:
        url = None
    if url is None or not is_url(text) or not url.database:
        raise InvalidInput("must be postgresql://user@host:port/database", field="database.url")
    return url.set(drivername="postgresql+psycopg")


def make_engine(url: sa.URL, *, writer: bool, size: int = 1) -> sa.Engine:
    """Return an engine whose transactions are a writer's, under the lock, or a reader's, on one snapshot."""
    engine = sa.create_engine(url, connect_args=CONNECT, pool_size=size, max_overflow=0, hide_parameters=True)
    begin = _BEGIN_WRITE if writer else _BEGIN_READ

    @event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def has_tables(text: str) -> bool:
    """Tell whether the database that a URL names has tables of ours.

    Raises:
        Unavailable: it does not answer.
    """
    with _asking(text) as connection:
        return sa.inspect(connection).has_table(organization.name)


def check_new(text: str) -> None:
    """Refuse a database that a new deployment cannot be made in.

    Raises:
        InvalidInput: it holds one already. Unavailable: it does not answer, or does not keep what it commits.
    """
    check_server(text)
    with _asking(text) as connection:
        inspector = sa.inspect(connection)
        if inspector.has_table(organization.name) and connection.execute(sa.select(organization.c.id)).first():
            raise InvalidInput("the database holds a deployment already", field="database.url")


def check_server(text: str) -> None:
    """Refuse a server on which our promises would not hold.

    Raises:
        Unavailable: it does not answer, answers before a commit is on the disk, or sorts text by a language's rules.
    """
    with _asking(text) as connection:
        found = describe(connection)
    if found.synchronous_commit == "off":
        raise Unavailable("PostgreSQL has synchronous_commit = off: it could forget a payout that was signed")
    if found.sorts_otherwise:
        raise Unavailable(
            "the database sorts text by the rules of a language: make it with LOCALE 'C' TEMPLATE template0"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What a server says of itself."""

    version: str  #: e.g. 15.18
    synchronous_commit: str
    fsync: str
    sorts_otherwise: bool  #: than byte by byte, which the order of pages and of locks relies on


_SAMPLE = ["a", "B", "_", "-0", "0-", "0a", "-", "~"]


def describe(connection: sa.Connection) -> Description:
    """Ask a server for what our promises rest on."""
    settings = (sa.func.current_setting(name) for name in ("server_version", "synchronous_commit", "fsync"))
    values = connection.execute(sa.select(*settings)).one()
    sample = sa.select(sa.func.unnest(sa.literal(_SAMPLE, sa.ARRAY(sa.Text))).label("text")).subquery()
    ordered = list(connection.execute(sa.select(sample.c.text).order_by(sample.c.text)).scalars())
    return Description(
        version=values[0].split()[0],
        synchronous_commit=values[1],
        fsync=values[2],
        sorts_otherwise=ordered != sorted(_SAMPLE),
    )


@contextmanager
def _asking(text: str) -> Iterator[sa.Connection]:
    engine = make_engine(parse_url(text), writer=False)
    try:
        with engine.connect() as connection, connection.begin():
            yield connection
    except sa.exc.OperationalError as error:
        raise Unavailable(f"PostgreSQL does not answer: {str(error.orig).strip()}") from error
    finally:
        engine.dispose()


def server_clock(connection: sa.Connection) -> int:
    """Return the server's time of now, microseconds UTC."""
    seconds = sa.extract("epoch", sa.func.clock_timestamp())
    return int(connection.execute(sa.select(seconds)).scalar_one() * 1_000_000)
