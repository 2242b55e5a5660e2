"""Batches of payouts."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None
phase = "pre"

_OF_A_BATCH = sa.text("batch_id IS NOT NULL")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "batch",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("initiator_id", sa.String(length=64), nullable=False),
        sa.Column("credential_id", sa.String(length=64), nullable=False),
        sa.Column("items", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("initiator_id", "digest"),
    )
    op.add_column("transfer", sa.Column("batch_id", sa.String(length=64), nullable=True))
    op.create_index(
        "transfer_by_batch", "transfer", ["batch_id"], sqlite_where=_OF_A_BATCH, postgresql_where=_OF_A_BATCH
    )
    op.create_index("transfer_by_request", "transfer", ["requested_at", "id"])


def downgrade() -> None:
    """Undo. Payouts stay; which were asked for together is forgotten."""
    op.drop_index("transfer_by_request", "transfer")
    op.drop_index("transfer_by_batch", "transfer")
    with op.batch_alter_table("transfer") as table:
        table.drop_column("batch_id")
    op.drop_table("batch")
