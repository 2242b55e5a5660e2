"""The one marker that all writers shared goes; each has a row of ``group_mark`` of its own."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None
phase = "post"


def upgrade() -> None:
    """Apply."""
    op.drop_table("commit_marker")


def downgrade() -> None:
    """Undo."""
    op.create_table(
        "commit_marker",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("token", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.execute("INSERT INTO commit_marker (id, token) VALUES (1, '')")
