"""How alembic runs here: online, one connection, batch mode because SQLite cannot alter much."""

import sqlalchemy as sa
from alembic import context

from outlay.store.schema import metadata

engine = sa.create_engine(context.config.get_main_option("sqlalchemy.url") or "")
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True, user_module_prefix="")
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
