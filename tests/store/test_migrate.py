"""Migrations lead to exactly the tables the program knows."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from outlay.core.errors import Unavailable
from outlay.store.migrate import settings, upgrade
from outlay.store.postgresql import parse_url
from outlay.store.schema import metadata
from tests import postgres


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "100% out lay.db"


def engine_of(path: Path) -> sa.Engine:
    return sa.create_engine(f"sqlite:///{path}")


def content(path: Path) -> list[tuple[str, str]]:
    """Return the name and statement of everything in a file."""
    with engine_of(path).connect() as unit:
        rows = unit.exec_driver_sql("SELECT name, sql FROM sqlite_master ORDER BY name").all()
    return [(row[0], row[1]) for row in rows]


def revision(path: Path) -> str:
    with engine_of(path).connect() as unit:
        found: str = unit.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one()
    return found


def checks(engine: sa.Engine) -> dict[tuple[str, str | None], str]:
    inspector = sa.inspect(engine)
    return {
        (table, each["name"]): each["sqltext"]
        for table in inspector.get_table_names()
        for each in inspector.get_check_constraints(table)
    }


def test_upgrading_an_empty_file_gives_the_tables_of_the_program(path: Path) -> None:
    upgrade(path)
    with engine_of(path).connect() as unit:
        assert compare_metadata(MigrationContext.configure(unit), metadata) == []


def test_upgrading_an_empty_database_of_postgresql_gives_the_tables_of_the_program() -> None:
    url = postgres.database_url()
    engine = sa.create_engine(parse_url(url))
    expected = sa.create_engine("sqlite://")
    metadata.create_all(expected)
    with engine.connect() as unit:
        found = compare_metadata(MigrationContext.configure(unit), metadata)
        numbers = sa.inspect(unit).get_columns("event")[0], sa.inspect(unit).get_columns("posting")[0]
    assert found == []
    assert {name for _, name in checks(engine)} == {name for _, name in checks(expected)}
    assert [(each["name"], str(each["type"]), each["autoincrement"]) for each in numbers] == [
        ("seq", "BIGINT", True),
        ("id", "BIGINT", True),
    ]
    engine.dispose()
    command.downgrade(settings(url), "0001")
    command.upgrade(settings(url), "head")
    postgres.drop(url)


def test_the_checks_are_those_of_the_program(path: Path) -> None:
    """Alembic does not compare them."""
    upgrade(path)
    expected = sa.create_engine("sqlite://")
    metadata.create_all(expected)
    assert checks(engine_of(path)) == checks(expected)
    assert ("account", "never_negative") in checks(expected)


def test_upgrading_twice_changes_nothing(path: Path) -> None:
    upgrade(path)
    with engine_of(path).begin() as unit:
        unit.exec_driver_sql("INSERT INTO group_mark (writer, token, at) VALUES ('w', 'kept', 1)")
    before = content(path)
    upgrade(path)
    assert content(path) == before
    with engine_of(path).connect() as unit:
        assert unit.exec_driver_sql("SELECT token FROM group_mark").scalar_one() == "kept"


def test_a_file_of_a_newer_version_is_refused(path: Path) -> None:
    upgrade(path)
    with engine_of(path).begin() as unit:
        unit.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        unit.exec_driver_sql("UPDATE schema_floor SET revision = '9998'")
    with pytest.raises(Unavailable, match="9999"):
        upgrade(path)
    assert revision(path) == "9999"


def test_a_migration_that_fails_leaves_nothing_behind(path: Path) -> None:
    with engine_of(path).begin() as unit:
        unit.exec_driver_sql("CREATE TABLE webhook (in_the_way TEXT)")
    before = content(path)
    with pytest.raises(sa.exc.OperationalError, match="webhook"):
        upgrade(path)
    assert [name for name, _ in content(path) if name != "alembic_version"] == [name for name, _ in before]


def test_there_is_one_newest_revision(path: Path) -> None:
    script = ScriptDirectory.from_config(settings(path))
    (head,) = script.get_heads()
    upgrade(path)
    assert revision(path) == head
