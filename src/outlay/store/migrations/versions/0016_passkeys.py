"""Passkeys, codes for another device, and recovery."""

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None
phase = "pre"


def upgrade() -> None:
    """Apply."""


def downgrade() -> None:
    """Undo."""
