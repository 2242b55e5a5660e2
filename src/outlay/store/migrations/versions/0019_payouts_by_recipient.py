"""Payouts by recipient: what approvers are told of an address, and the filter of lists."""

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None
phase = "pre"


def upgrade() -> None:
    """Apply."""
    op.create_index("transfer_by_recipient", "transfer", ["recipient", "requested_at", "id"])


def downgrade() -> None:
    """Undo."""
    op.drop_index("transfer_by_recipient", "transfer")
