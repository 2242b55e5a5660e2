"""Upgrades in two phases: what a program bears, what it refuses, and what it says then."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from outlay.core.errors import Unavailable
from outlay.store import migrate, postgresql
from outlay.store.migrate import Phase, require_fitting, upgrade
from tests import postgres

REVISION = '''\
"""Of a version to come."""

from alembic import op

revision = "{revision}"
down_revision = "{before}"
branch_labels = None
depends_on = None
phase = "{phase}"


def upgrade() -> None:
    """Apply."""
    op.execute("{statement}")
'''
ADDS = "ALTER TABLE transfer ADD COLUMN colour TEXT"
CLEANS_UP = "DROP TABLE lease"
CHAIN = migrate._chain(Path("nowhere"))
NEWEST = CHAIN[-1][0]
NEEDED = max(name for name, phase in CHAIN if phase is Phase.PRE)
"""The newest revision that this program knows, and the newest it needs."""


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """An empty database."""
    return tmp_path / "outlay.db" if request.param == "sqlite" else postgres.database_url(empty=True)


@pytest.fixture
def next_version(tmp_path: Path) -> Path:
    """The migrations of a version that adds something, and cleans up after it."""
    folder = tmp_path / "migrations"
    shutil.copytree(migrate.MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for revision, before, phase, statement in (
        ("9001", NEWEST, "pre", ADDS),
        ("9002", "9001", "post", CLEANS_UP),
    ):
        text = REVISION.format(revision=revision, before=before, phase=phase, statement=statement)
        (folder / "versions" / f"{revision}_to_come.py").write_text(text)
    return folder


@contextlib.contextmanager
def knowing(folder: Path) -> Iterator[None]:
    """Be a program with other migrations."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrate, "MIGRATIONS", folder)
        yield


def scalar(where: Path | str, statement: str) -> object:
    url = postgresql.parse_url(where) if isinstance(where, str) else f"sqlite:///{where}"
    engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
    with engine.connect() as unit:
        return unit.exec_driver_sql(statement).scalar()


def revision(where: Path | str) -> object:
    return scalar(where, "SELECT version_num FROM alembic_version")


def floor(where: Path | str) -> object:
    return scalar(where, "SELECT revision FROM schema_floor")


def test_every_revision_says_what_it_does_and_they_count_up() -> None:
    names = [name for name, _ in CHAIN]
    assert names == sorted(names)
    assert all(len(name) == 4 and name.isdigit() for name in names), "they are compared as text"


def test_a_new_database_is_made_whole_in_either_way(where: Path | str) -> None:
    assert upgrade(where, Phase.PRE) == NEEDED == revision(where)
    require_fitting(where)
    assert upgrade(where, Phase.PRE) == NEEDED
    assert upgrade(where, Phase.POST) == NEWEST == revision(where)
    require_fitting(where)
    assert upgrade(where) == NEWEST


def test_a_database_goes_up_phase_by_phase(where: Path | str, next_version: Path) -> None:
    before = upgrade(where)
    with knowing(next_version):
        assert upgrade(where, Phase.PRE) == "9001" == revision(where)
        require_fitting(where)
        assert scalar(where, "SELECT count(*) FROM lease") == 0, "what the version before needs is there still"
        assert upgrade(where, Phase.PRE) == "9001"
        assert floor(where) == max((name for name, phase in CHAIN if phase is Phase.POST), default=before)
        assert upgrade(where, Phase.POST) == "9002" == revision(where) == floor(where)
        require_fitting(where)
        assert upgrade(where) == "9002"


def test_no_version_may_be_left_out_while_processes_run(where: Path | str, next_version: Path) -> None:
    """The version after the next adds more: on the way to it lies what the next one takes away."""
    text = REVISION.format(revision="9003", before="9002", phase="pre", statement=ADDS.replace("colour", "size"))
    (next_version / "versions" / "9003_after_that.py").write_text(text)
    upgrade(where)
    with knowing(next_version), pytest.raises(Unavailable, match="revision 9002 of the version before takes away"):
        upgrade(where, Phase.PRE)
    assert revision(where) == NEWEST
    (next_version / "versions" / "9003_after_that.py").unlink()
    with knowing(next_version):
        upgrade(where, Phase.PRE)
        (next_version / "versions" / "9003_after_that.py").write_text(text)
        with pytest.raises(Unavailable, match="outlay migrate --phase post"):
            upgrade(where, Phase.PRE)
        assert revision(where) == "9001"
        (next_version / "versions" / "9003_after_that.py").unlink()
        upgrade(where, Phase.POST)
        (next_version / "versions" / "9003_after_that.py").write_text(text)
        assert upgrade(where, Phase.PRE) == "9003" == revision(where)


def test_a_version_may_be_left_out_while_nothing_runs(where: Path | str, next_version: Path) -> None:
    text = REVISION.format(revision="9003", before="9002", phase="pre", statement=ADDS.replace("colour", "size"))
    (next_version / "versions" / "9003_after_that.py").write_text(text)
    upgrade(where)
    with knowing(next_version):
        assert upgrade(where) == "9003" == revision(where)


def test_cleaning_up_before_adding_is_refused(where: Path | str, next_version: Path) -> None:
    upgrade(where)
    with knowing(next_version), pytest.raises(Unavailable, match="outlay migrate --phase pre"):
        upgrade(where, Phase.POST)
    assert revision(where) == NEWEST


def test_a_program_bears_what_a_newer_one_added_and_refuses_what_it_took_away(
    where: Path | str, next_version: Path
) -> None:
    upgrade(where)
    with knowing(next_version):
        with pytest.raises(Unavailable, match=f"revision {NEWEST}, this version needs 9001: run `outlay migrate"):
            require_fitting(where)
        assert upgrade(where, Phase.PRE) == "9001"
        require_fitting(where)
    require_fitting(where)
    assert upgrade(where) == "9001", "starting the older program again changes nothing"
    with knowing(next_version):
        upgrade(where, Phase.POST)
    for touch in (require_fitting, upgrade):
        with pytest.raises(Unavailable, match="upgraded to revision 9002, for a newer version"):
            touch(where)
    assert revision(where) == "9002"
    assert floor(where) == "9002"


def test_a_database_without_tables_is_not_worked_on(where: Path | str) -> None:
    with pytest.raises(Unavailable, match="outlay init"):
        require_fitting(where)


def test_a_database_that_does_not_answer_is_said_so_without_its_password() -> None:
    with pytest.raises(Unavailable, match="does not answer") as caught:
        require_fitting("postgresql://outlay:hidden@127.0.0.1:1/outlay")
    assert "hidden" not in caught.value.message


def test_a_migration_gives_up_rather_than_stand_in_everybodys_way(
    next_version: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long reader on PostgreSQL: nothing is done, and it can be run again."""
    where = postgres.database_url()
    monkeypatch.setattr(postgresql, "LOCK_MAX_MS", 200)
    reader = sa.create_engine(postgresql.parse_url(where), poolclass=sa.pool.NullPool)
    with reader.connect() as unit:
        unit.exec_driver_sql("SELECT count(*) FROM transfer")
        with knowing(next_version), pytest.raises(sa.exc.OperationalError, match="lock timeout"):
            upgrade(where, Phase.PRE)
    assert revision(where) == NEWEST
    with knowing(next_version):
        assert upgrade(where, Phase.PRE) == "9001"
