"""Random histories of a governed organization: the tables out of its records are the tables it had."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from outlay.actions import rebuild
from outlay.actions.rebuild import NOT_ON_RECORD, apply_records
from outlay.actions.work import Work
from outlay.evidence import record as records
from outlay.evidence.changes import CHANGES, PROVED
from outlay.evidence.history import verify_history
from outlay.evidence.requests import MADE, REQUESTS
from outlay.store import organizations, schema, schema_codes
from outlay.store.database import Database, Unit
from tests import tools
from tests.actions.seams import empty_database, forget_durability
from tests.actions.world import World
from tests.property.test_governance_histories import Life
from tests.recovery.copies import copy_database
from tests.unit.forged import live

SEEDS = range(tools.examples(1))
COMPARED = (
    schema.organization,
    schema.record,
    schema.user,
    schema.credential,
    schema_codes.credential_code,
    schema.permission,
    schema.assignment,
    schema.wallet,
    schema.wallet_tag,
    schema.pool,
    schema.policy,
    schema.approval,
    schema.decision,
    schema.change_request,
)


def rows(unit: Unit, table: sa.Table) -> list[dict[str, Any]]:
    """Return what a table holds, without what no record tells, in a fixed order."""
    kept = [column for column in table.columns if column.name not in NOT_ON_RECORD.get(table.name, ())]
    found = [dict(row._mapping) for row in unit.execute(sa.select(*kept))]
    return sorted(found, key=lambda row: json.dumps(row, sort_keys=True, default=str))


def tokens(unit: Unit) -> list[Mapping[str, Any]]:
    """Return the personal access tokens: what they are is on record, what they are opened with is not."""
    token = schema.token
    kept = [column for column in token.columns if column.name != "secret_hash"]
    query = sa.select(*kept).where(token.c.kind == "Pat").order_by(token.c.id)
    return [dict(row._mapping) for row in unit.execute(query)]


def signed_decisions(unit: Unit) -> list[str]:
    """Return what was signed for each decision."""
    evidence, decision = schema.evidence, schema.decision
    query = sa.select(evidence.c.document).join(decision, decision.c.evidence_id == evidence.c.id)
    return sorted(unit.execute(query).scalars())


def open_copy(path: Path) -> Database:
    database = Database(path)
    sa.event.listen(database.engine, "connect", forget_durability)
    return database


def catch_up(life: World, database: Database) -> None:
    """Apply to ``database`` the records of the organization that it does not have."""
    with life.unit() as unit:
        texts = organizations.record_texts(unit, after=-1, limit=10**6)
        documents = list(organizations.read_records(unit))
    verify_history(documents, life.root)
    with database.engine.begin() as unit:
        has = unit.execute(sa.select(sa.func.count()).select_from(schema.record)).scalar_one()
        work = Work(unit=unit, now=life.clock.now(), entropy=life.entropy, config=life.config)
        apply_records(work, texts[has:], documents[has:])


def compare(life: World, database: Database) -> None:
    with life.unit() as mine, database.engine.begin() as theirs:
        for table in COMPARED:
            assert rows(theirs, table) == rows(mine, table), table.name
        assert tokens(theirs) == tokens(mine)
        assert signed_decisions(theirs) == signed_decisions(mine)
        # Calls that were refused spent their challenges too; those are not on record, and worth nothing a day later.
        alive = schema.spent_nonce.c.keep_until >= life.clock.now()
        query = sa.select(schema.spent_nonce.c.nonce, schema.spent_nonce.c.keep_until).where(alive)
        assert {*theirs.execute(query)} <= {*mine.execute(query)}


@pytest.mark.parametrize("seed", SEEDS)
def test_the_tables_out_of_the_records_are_the_tables_there_were(seed: int, tmp_path: Path) -> None:
    life = Life(tmp_path, f"rebuilt {seed}")
    (tmp_path / "empty.db").write_bytes(empty_database())
    try:
        life.live()
        copy_database(life.db.path, tmp_path / "older.db")
        life.live()
        for name in ("empty.db", "older.db"):
            database = open_copy(tmp_path / name)
            try:
                catch_up(life, database)
                compare(life, database)
            finally:
                database.close()
    finally:
        life.close()


def test_every_kind_of_change_comes_back(tmp_path: Path) -> None:
    """The histories above hold what is governed; this one holds every kind that is signed by one person."""
    world = World(tmp_path, preset="standard")
    (tmp_path / "empty.db").write_bytes(empty_database())
    database = open_copy(tmp_path / "empty.db")
    try:
        live(world)
        catch_up(world, database)
        compare(world, database)
    finally:
        database.close()
        world.close()


def test_every_kind_of_record_has_its_rows() -> None:
    assert {*rebuild._WRITE, records.GENESIS} == {*CHANGES, *PROVED, *REQUESTS, *MADE}
