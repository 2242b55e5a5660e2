"""Passkeys, codes for another device, and recovery."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None
phase = "pre"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "credential_code",
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("record", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("user_id"),
        sa.UniqueConstraint("code"),
    )
    op.add_column("credential", sa.Column("withdrawn_at", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """Undo. Codes that are open cannot be taken up any more, and keys that a recovery withdrew are merely deleted."""
    with op.batch_alter_table("credential") as batch:
        batch.drop_column("withdrawn_at")
    op.drop_table("credential_code")
