"""Payouts that are late, and lanes that are stuck."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None
phase = "pre"

_DELAYED = sa.text("delayed_at IS NOT NULL")


def upgrade() -> None:
    """Apply."""
    op.add_column("transfer", sa.Column("delayed_at", sa.BigInteger(), nullable=True))
    op.add_column("lane", sa.Column("stuck_nonce", sa.BigInteger(), nullable=True))
    late = ["requested_at", "id"]
    op.create_index("transfer_delayed", "transfer", late, sqlite_where=_DELAYED, postgresql_where=_DELAYED)


def downgrade() -> None:
    """Undo."""
    op.drop_index("transfer_delayed", table_name="transfer")
    with op.batch_alter_table("lane") as batch:
        batch.drop_column("stuck_nonce")
    with op.batch_alter_table("transfer") as batch:
        batch.drop_column("delayed_at")
