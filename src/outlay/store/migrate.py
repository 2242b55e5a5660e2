"""Bringing a database to the schema this program knows, in two phases, and telling whether a program fits a database.

Every revision declares its phase. ``pre`` only adds: processes of the version before go on working beside it.
``post`` cleans up what only they needed, and raises the floor, the newest revision that a program has to know. So a
program fits a database that is at its newest ``pre`` revision or later, also one it does not know, above its floor.
"""

import contextlib
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from outlay.core.errors import Unavailable
from outlay.store import postgresql
from outlay.store.schema import schema_floor

MIGRATIONS = Path(__file__).parent / "migrations"
_VERSION: Final = "alembic_version"


class Phase(StrEnum):
    """What a revision may do; see the module."""

    PRE = "pre"
    POST = "post"


def settings(where: Path | str) -> Config:
    """Return alembic's settings for one SQLite file, or for the PostgreSQL database that a URL names."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("sqlalchemy.url", _url(where).render_as_string(hide_password=False).replace("%", "%%"))
    return config


def upgrade(where: Path | str, phase: Phase | None = None) -> str:
    """Create or upgrade the tables of a database and return the revision it is at then.

    Args:
        where: a SQLite file, or the URL of a PostgreSQL database.
        phase: None: all there is, which only a database that no other process works on bears.

    Raises:
        Unavailable: the database is too new for this program, ``post`` is asked for before ``pre`` is done, or
            ``pre`` before ``post`` of a version between.
    """
    chain = _chain(where)
    names = [name for name, _ in chain]
    now, floor = _state(where)
    if now is not None and now not in names:
        _require_known(now, floor, names[-1])
        return now
    at = -1 if now is None else names.index(now)
    newest_pre = _newest_pre(chain)
    if phase is Phase.POST and at < newest_pre:
        raise Unavailable("the additions of this version are not in the database yet: run `outlay migrate --phase pre`")
    target = newest_pre if phase is Phase.PRE else len(names) - 1
    if phase is Phase.PRE and now is not None:
        _require_version_between(chain[at + 1 : target])
    if at >= target:
        return names[at]
    command.upgrade(settings(where), names[target])
    return names[target]


def require_fitting(where: Path | str) -> None:
    """Refuse a database that this program cannot work on.

    Raises:
        Unavailable: it is too old or too new; the message says what to do.
    """
    chain = _chain(where)
    names = [name for name, _ in chain]
    now, floor = _state(where)
    if now is None:
        raise Unavailable("the database has no tables: make the deployment with `outlay init`")
    needed = _newest_pre(chain)
    if now not in names:
        _require_known(now, floor, names[-1])
    elif names.index(now) < needed:
        raise Unavailable(
            f"the database is at revision {now}, this version needs {names[needed]}: run `outlay migrate --phase pre`"
            " first; processes of the version before bear it"
        )


def _require_version_between(passed: list[tuple[str, Phase]]) -> None:
    """Refuse to add what this version needs where that would also take away what processes may still need.

    Args:
        passed: what would be applied on the way, beside the newest.
    """
    cleaning = [name for name, phase in passed if phase is Phase.POST]
    if cleaning:
        raise Unavailable(
            f"revision {cleaning[-1]} of the version before takes away what older processes need: once none of them"
            " runs, `outlay migrate --phase post` with the version that has it, then this again; or stop every"
            " process and run `outlay migrate` without a phase"
        )


def _require_known(now: str, floor: str | None, newest: str) -> None:
    """Refuse a database of a newer version that has been cleaned up since; revisions count up, so they compare."""
    if floor is not None and floor > newest:
        raise Unavailable(
            f"the database was upgraded to revision {now}, for a newer version; this one knows {newest} and it takes"
            f" {floor}: update this program, or restore the backup that was made before the upgrade"
        )


def _chain(where: Path | str) -> list[tuple[str, Phase]]:
    """Return the revisions this program knows and what each may do, oldest first."""
    found = ScriptDirectory.from_config(settings(where)).walk_revisions()
    return [(each.revision, Phase(each.module.phase)) for each in found][::-1]


def _newest_pre(chain: list[tuple[str, Phase]]) -> int:
    return max(place for place, (_, phase) in enumerate(chain) if phase is Phase.PRE)


def _state(where: Path | str) -> tuple[str | None, str | None]:
    """Return the revision of a database and its floor; None where it has none."""
    if isinstance(where, Path) and not where.exists():
        return None, None
    with _connected(where) as connection:
        tables = sa.inspect(connection).get_table_names()
        if _VERSION not in tables:
            return None, None
        now = connection.exec_driver_sql(f"SELECT version_num FROM {_VERSION}").scalar()  # noqa: S608  a constant
        floor = connection.execute(sa.select(schema_floor.c.revision)).scalar() if schema_floor.name in tables else None
        return now, floor


@contextlib.contextmanager
def _connected(where: Path | str) -> Iterator[sa.Connection]:
    engine = sa.create_engine(_url(where), poolclass=sa.pool.NullPool)
    try:
        with engine.connect() as connection:
            yield connection
    except sa.exc.OperationalError as error:
        raise Unavailable(f"the database does not answer: {error.orig}") from error
    finally:
        engine.dispose()


def _url(where: Path | str) -> sa.URL:
    if isinstance(where, str):
        return postgresql.parse_url(where)
    return sa.URL.create("sqlite", database=str(where))
