"""Webhooks: an old secret beside the new one, endpoints that fail, events by time."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None
phase = "pre"


def upgrade() -> None:
    """Apply."""
    op.add_column("webhook", sa.Column("old_secret", sa.Text(), nullable=True))
    op.add_column("webhook", sa.Column("old_secret_until", sa.BigInteger(), nullable=True))
    op.add_column("webhook", sa.Column("failing_since", sa.BigInteger(), nullable=True))
    op.add_column("webhook", sa.Column("disabled_reason", sa.Text(), nullable=True))
    op.create_index("event_by_time", "event", ["at", "seq"])
    parked = sa.text("state = 'failed' AND next_attempt_at IS NULL")
    op.create_index(
        "delivery_parked",
        "delivery",
        ["webhook_id", "state", "next_attempt_at", "event_id"],
        sqlite_where=parked,
        postgresql_where=parked,
    )


def downgrade() -> None:
    """Undo. An old secret stops signing."""
    op.drop_index("delivery_parked", "delivery")
    op.drop_index("event_by_time", "event")
    with op.batch_alter_table("webhook") as batch:
        for name in ("disabled_reason", "failing_since", "old_secret_until", "old_secret"):
            batch.drop_column(name)
