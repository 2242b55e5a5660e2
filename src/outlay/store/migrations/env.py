"""How alembic runs here: online, one connection, batch mode because SQLite cannot alter much.

All that is missing is done in one transaction, so a migration that fails or is killed leaves the tables as they were.
"""

from typing import Any

import sqlalchemy as sa
from alembic import context

from outlay.store.postgresql import LOCK_MAX_MS, WRITER_LOCK
from outlay.store.schema import metadata, schema_floor

# Whoever waits for a table of PostgreSQL makes all others wait behind it: rather give up, with nothing done.
_LOCK = f"SET LOCAL lock_timeout = {LOCK_MAX_MS}; SELECT pg_advisory_xact_lock({WRITER_LOCK})"
_BEGIN = {"sqlite": "BEGIN IMMEDIATE", "postgresql": f"BEGIN; {_LOCK}"}


def _raise_floor(ctx: Any, step: Any, heads: Any, run_args: Any) -> None:
    """Note what a program has to know from now on. The table is younger than the first revisions."""
    del heads, run_args
    if (
        step.is_upgrade
        and step.up_revision.module.phase == "post"
        and sa.inspect(ctx.connection).has_table("schema_floor")
    ):
        ctx.connection.execute(sa.update(schema_floor).values(revision=step.up_revision_id))


engine = sa.create_engine(context.config.get_main_option("sqlalchemy.url") or "", isolation_level="AUTOCOMMIT")
with engine.connect() as connection:
    # The driver would commit before each change of a table; so its own transactions are off.
    connection.exec_driver_sql(_BEGIN[connection.dialect.name])
    context.configure(
        connection=connection,
        target_metadata=metadata,
        render_as_batch=True,
        user_module_prefix="",
        on_version_apply=_raise_floor,
    )
    try:
        context.run_migrations()
        connection.exec_driver_sql("COMMIT")
    except BaseException:
        connection.exec_driver_sql("ROLLBACK")
        raise
engine.dispose()
