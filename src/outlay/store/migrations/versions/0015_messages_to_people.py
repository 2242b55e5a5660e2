"""Messages to people: what was told, and up to which event."""

import sqlalchemy as sa
from alembic import op

from outlay.store.schema import Serial

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None
phase = "pre"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "notify_cursor",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "notify_message",
        sa.Column("seq", Serial, nullable=False),
        sa.Column("channel", sa.String(length=8), nullable=False),
        sa.Column("place", sa.String(length=256), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("about", sa.String(length=64), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("envelope", sa.BigInteger(), nullable=True),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("seq"),
    )
    waiting = sa.text("state = 'waiting'")
    op.create_index(
        "notify_message_due",
        "notify_message",
        ["channel", "due_at"],
        sqlite_where=waiting,
        postgresql_where=waiting,
    )
    op.create_index("notify_message_about", "notify_message", ["about", "at"])
    op.create_index("notify_message_by_place", "notify_message", ["channel", "place", "ended_at"])


def downgrade() -> None:
    """Undo. What still waits is not told to anybody."""
    op.drop_table("notify_message")
    op.drop_table("notify_cursor")
