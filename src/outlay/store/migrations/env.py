"""How alembic runs here: online, one connection, batch mode because SQLite cannot alter much.

All that is missing is done in one transaction, so a migration that fails or is killed leaves the file as it was.
"""

import sqlalchemy as sa
from alembic import context

from outlay.store.schema import metadata

engine = sa.create_engine(context.config.get_main_option("sqlalchemy.url") or "", isolation_level="AUTOCOMMIT")
with engine.connect() as connection:
    # The driver would commit before each change of a table; so its own transactions are off.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True, user_module_prefix="")
    try:
        context.run_migrations()
        connection.exec_driver_sql("COMMIT")
    except BaseException:
        connection.exec_driver_sql("ROLLBACK")
        raise
engine.dispose()
