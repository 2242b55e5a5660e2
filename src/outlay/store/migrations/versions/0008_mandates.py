"""Mandates, refills and proposals."""

import sqlalchemy as sa
from alembic import op

from outlay.store.schema import U256

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None
phase = "pre"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "mandate",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("archived_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "mandate_low",
        sa.Column("mandate_id", sa.String(length=64), nullable=False),
        sa.Column("wallet_id", sa.String(length=64), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("mandate_id", "wallet_id"),
    )
    op.create_table(
        "refill_proposal",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("mandate_id", sa.String(length=64), nullable=False),
        sa.Column("wallet_id", sa.String(length=64), nullable=False),
        sa.Column("network", sa.String(length=64), nullable=False),
        sa.Column("asset", sa.String(length=128), nullable=False),
        sa.Column("amount", U256(precision=78, scale=0), nullable=False),
        sa.Column("seen", U256(precision=78, scale=0), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("closed_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_refill_proposal_mandate_id"), "refill_proposal", ["mandate_id"])
    op.create_index("refill_proposal_by_wallet", "refill_proposal", ["wallet_id", "asset", "status"])
    op.add_column("transfer", sa.Column("mandate_id", sa.String(length=64), nullable=True))
    refills = sa.text("mandate_id IS NOT NULL")
    op.create_index(
        "transfer_by_mandate",
        "transfer",
        ["mandate_id", "requested_at"],
        sqlite_where=refills,
        postgresql_where=refills,
    )


def downgrade() -> None:
    """Undo. Refills that are under way go on as payouts whose initiator nobody knows: end them first."""
    op.drop_index("transfer_by_mandate", "transfer")
    with op.batch_alter_table("transfer") as batch:
        batch.drop_column("mandate_id")
    op.drop_table("refill_proposal")
    op.drop_table("mandate_low")
    op.drop_table("mandate")
