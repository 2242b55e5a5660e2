"""Pools of wallets."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None
phase = "pre"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "pool",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("network", sa.String(length=64), nullable=False),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("tag", sa.String(length=64), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    # Added one by one: a table of many payouts is not copied for it.
    op.add_column("wallet", sa.Column("drained_reason", sa.Text(), nullable=True))
    op.add_column("transfer", sa.Column("pool_id", sa.String(length=64), nullable=True))
    op.add_column("transfer", sa.Column("pool_seq", sa.BigInteger(), nullable=True))
    op.add_column("wallet_tag", sa.Column("since", sa.BigInteger(), nullable=True))
    op.add_column("transfer", sa.Column("route", sa.String(length=8), nullable=False, server_default="lane"))
    op.create_index("transfer_by_pool", "transfer", ["pool_id", "state", "route", "ready_at", "id"])


def downgrade() -> None:
    """Undo. What a pool still has to pay is then paid by the wallet it counts for."""
    op.drop_index("transfer_by_pool", "transfer")
    with op.batch_alter_table("transfer") as batch:
        batch.drop_column("route")
        batch.drop_column("pool_seq")
        batch.drop_column("pool_id")
    with op.batch_alter_table("wallet_tag") as batch:
        batch.drop_column("since")
    with op.batch_alter_table("wallet") as batch:
        batch.drop_column("drained_reason")
    op.drop_table("pool")
