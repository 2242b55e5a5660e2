"""Payouts that wait for room under a cap; indexes that keep the cost of a check from growing with the history."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None
phase = "pre"

_WAITS = sa.text("wait_place IS NOT NULL")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "waiting",
        sa.Column("policy_id", sa.String(length=64), nullable=False),
        sa.Column("scope_key", sa.String(length=160), nullable=False),
        sa.Column("place", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("transfer_id", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("policy_id", "scope_key", "place"),
    )
    op.create_index(op.f("ix_waiting_transfer_id"), "waiting", ["transfer_id"], unique=False)
    with op.batch_alter_table("transfer") as batch:
        batch.add_column(sa.Column("wait_place", sa.BigInteger(), nullable=True))
        batch.add_column(sa.Column("wait_until", sa.BigInteger(), nullable=True))
    op.create_index(
        "transfer_by_wait", "transfer", ["wait_place", "wait_until"], sqlite_where=_WAITS, postgresql_where=_WAITS
    )
    op.create_index("counter_correction_by_instant", "counter_correction", ["policy_id", "scope_key", "signed_at"])


def downgrade() -> None:
    """Undo; what waits for room stays held, without an approval that could let it go."""
    op.drop_index("counter_correction_by_instant", table_name="counter_correction")
    op.drop_index("transfer_by_wait", table_name="transfer")
    with op.batch_alter_table("transfer") as batch:
        batch.drop_column("wait_until")
        batch.drop_column("wait_place")
    op.drop_index(op.f("ix_waiting_transfer_id"), table_name="waiting")
    op.drop_table("waiting")
