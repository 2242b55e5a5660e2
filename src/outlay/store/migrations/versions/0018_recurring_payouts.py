"""Recurring payouts: runs that are due, made or missed."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None
phase = "pre"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "schedule",
        sa.Column("mandate_id", sa.String(length=64), nullable=False),
        sa.Column("next_on", sa.String(length=10), nullable=True),
        sa.Column("next_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("mandate_id"),
    )
    op.create_table(
        "mandate_run",
        sa.Column("mandate_id", sa.String(length=64), nullable=False),
        sa.Column("on_date", sa.String(length=10), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(length=8), nullable=False),
        sa.Column("transfer_id", sa.String(length=64), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("retry_at", sa.BigInteger(), nullable=True),
        sa.Column("settled_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("mandate_id", "on_date"),
    )
    op.create_index("mandate_run_by_status", "mandate_run", ["status", "retry_at"])
    op.create_index("mandate_run_by_due", "mandate_run", ["mandate_id", "due_at"])


def downgrade() -> None:
    """Undo. Mandates of recurring payouts are then read by nobody who knows them: archive them first."""
    op.drop_table("mandate_run")
    op.drop_table("schedule")
